//! The node itself: who it is, whether it lives, whether it is ready.

use super::{
    extract::Call,
    media,
    problem::{Code, Problem},
    reply::{self, Answer, Text},
};
use crate::ident::{IncarnationId, NodeId};
use axum::http::StatusCode;
use serde::Serialize;

/// GET `/v1`.
pub(crate) async fn about(call: Call) -> Answer {
    call.query()?.end()?;
    media::choose(&call.head.headers, &[media::JSON])?;
    let node = call.api.node();
    let about = About {
        name: "tombolo",
        version: env!("CARGO_PKG_VERSION"),
        node: Text(node.id()),
        incarnation: Text(node.incarnation()),
    };
    reply::json(StatusCode::OK, &about)
}

/// GET `/livez`: the process answers.
pub(crate) async fn live(call: Call) -> Answer {
    call.query()?.end()?;
    reply::json(StatusCode::OK, &Health { status: "ok" })
}

/// GET `/readyz`: the node takes reads and writes; else 503, with what is wrong.
pub(crate) async fn ready(call: Call) -> Answer {
    call.query()?.end()?;
    call.api.node().ready().map_err(|wrong| Problem::new(Code::NotReady, wrong))?;
    reply::json(StatusCode::OK, &Health { status: "ok" })
}

#[derive(Serialize)]
struct About {
    name: &'static str,
    version: &'static str,
    node: Text<NodeId>,
    incarnation: Text<IncarnationId>,
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}
