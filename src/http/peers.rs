//! The peers that are configured, and how each fares.

use super::{
    extract::Call,
    media,
    reply::{self, Answer, Text},
};
use crate::{
    ident::{Collection, NodeId},
    node::{Direction, PeerState, PeerStatus},
};
use axum::http::StatusCode;
use serde::Serialize;

/// GET `/v1/_peers`.
pub(crate) async fn list(call: Call) -> Answer {
    call.query()?.end()?;
    media::choose(&call.head.headers, &[media::JSON])?;
    let peers = call.api.node().peer_statuses();
    let peers = peers.iter().map(Shape::of).collect();
    reply::json(StatusCode::OK, &Peers { peers })
}

#[derive(Serialize)]
struct Peers<'a> {
    peers: Vec<Shape<'a>>,
}

/// A peer; what is not known is `null`.
#[derive(Serialize)]
struct Shape<'a> {
    name: &'a str,
    url: String,
    node: Option<Text<NodeId>>,
    state: &'static str,
    direction: &'static str,
    collections: Vec<&'a str>,
    /// When it last answered, in seconds since 1970.
    last_contact: Option<u64>,
    last_error: Option<Failure<'a>>,
    /// Seconds until it is tried again.
    next_try_seconds: Option<f64>,
    lag_documents: u64,
    lag_seconds: u64,
    requests: u64,
    bytes_sent: u64,
    bytes_received: u64,
    in_sync: Option<bool>,
    rounds: u64,
    repaired: u64,
    audits: u64,
    unsettled: Vec<Unsettled>,
}

#[derive(Serialize)]
struct Failure<'a> {
    code: &'static str,
    detail: &'a str,
}

#[derive(Serialize)]
struct Unsettled {
    position: String,
    reason: &'static str,
}

impl<'a> Shape<'a> {
    fn of(peer: &'a PeerStatus) -> Self {
        let collections = match &peer.options.collections {
            None => vec!["*"],
            Some(some) => some.iter().map(Collection::as_str).collect(),
        };
        let unsettled = peer.unsettled.iter().map(|(position, reason)| {
            let position = format!("{position:016x}");
            Unsettled { position, reason }
        });
        Self {
            name: &peer.options.name,
            url: peer.options.url.to_string(),
            node: peer.node.map(Text),
            state: match peer.state {
                PeerState::Connecting => "connecting",
                PeerState::Up => "up",
                PeerState::Down => "down",
            },
            direction: match peer.options.direction {
                Direction::Both => "both",
                Direction::Push => "push",
                Direction::Pull => "pull",
            },
            collections,
            last_contact: peer.contact_unix_ms.map(|unix_ms| unix_ms / 1000),
            last_error: peer.error.as_ref().map(|(code, detail)| Failure { code, detail }),
            next_try_seconds: peer.next_try.map(|next| next.as_secs_f64()),
            lag_documents: peer.lag_documents,
            lag_seconds: peer.lag.as_secs(),
            requests: peer.requests,
            bytes_sent: peer.bytes_sent,
            bytes_received: peer.bytes_received,
            in_sync: peer.in_sync,
            rounds: peer.rounds,
            repaired: peer.repaired,
            audits: peer.audits,
            unsettled: unsettled.collect(),
        }
    }
}
