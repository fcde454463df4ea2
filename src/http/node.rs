//! The node itself: who it is, whether it lives, whether it is ready.

use super::{
    extract::Call,
    media,
    problem::{Code, Problem},
    reply::{self, Answer, Text},
};
use crate::ident::{Collection, CollectionToken, IncarnationId, NodeId};
use axum::http::StatusCode;
use serde::{Serialize, Serializer};

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

/// GET `/v1/_status`: what the node holds and how it fares, for people and their programs.
pub(crate) async fn status(call: Call) -> Answer {
    call.query()?.end()?;
    media::choose(&call.head.headers, &[media::JSON])?;
    let node = call.api.node();
    let figures = node.figures().await;
    let engine = figures.engine.as_ref();
    let tokens = node.tokens().await;
    let status = Status {
        node: Text(node.id()),
        incarnation: Text(node.incarnation()),
        uptime_seconds: figures.uptime.as_secs(),
        durability: reply::durability(node.durability()),
        read_only: figures.read_only.as_deref(),
        stalled: engine.map(|(health, _)| health.stalled),
        documents: figures.documents,
        deleted: figures.deleted,
        damaged: figures.damaged,
        oversize: figures.oversize,
        quarantined: Quarantined {
            documents: figures.quarantined,
            changes: figures.quarantined_changes,
        },
        collections: figures.collections,
        collection_tokens: tokens.as_deref().map(Tokens),
        last_seq: figures.last_seq,
        disk_bytes: engine.map(|(_, usage)| usage.disk_bytes()),
        cache: Caches {
            documents: Cache {
                bytes: figures.loaded.bytes,
                bytes_max: figures.loaded.bytes_max,
                documents: Some(figures.loaded.documents),
            },
            blocks: engine.map(|(_, usage)| Cache {
                bytes: usage.cache_bytes,
                bytes_max: usage.cache_bytes_max,
                documents: None,
            }),
        },
    };
    reply::json(StatusCode::OK, &status)
}

/// The token of each collection, by its name.
struct Tokens<'a>(&'a [(Collection, CollectionToken)]);

impl Serialize for Tokens<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, token)| (name.as_str(), Text(token))))
    }
}

/// `null` stands for what the storage engine did not tell.
#[derive(Serialize)]
struct Status<'a> {
    node: Text<NodeId>,
    incarnation: Text<IncarnationId>,
    uptime_seconds: u64,
    durability: &'static str,
    /// Why no writes are taken; `null`: they are.
    read_only: Option<&'a str>,
    stalled: Option<bool>,
    documents: u64,
    deleted: u64,
    /// Documents whose heads were damaged at the start.
    damaged: u64,
    /// Documents that merges made larger than an edit may make them.
    oversize: u64,
    quarantined: Quarantined,
    collections: u64,
    /// Equal on two nodes of a cluster that hold the same of a collection; `null`: yet to be summed up.
    collection_tokens: Option<Tokens<'a>>,
    /// The last commit: the end of the feed.
    last_seq: u64,
    disk_bytes: Option<u64>,
    cache: Caches,
}

#[derive(Serialize)]
struct Quarantined {
    documents: u64,
    /// How often changes of others are kept there.
    changes: u64,
}

#[derive(Serialize)]
struct Caches {
    documents: Cache,
    blocks: Option<Cache>,
}

#[derive(Serialize)]
struct Cache {
    bytes: u64,
    bytes_max: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    documents: Option<u64>,
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
