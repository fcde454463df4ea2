//! The peers: how each fares, and which there are.

use super::{
    extract::Call,
    media,
    problem::{Code, Problem},
    reply::{self, Answer, Text},
};
use crate::{
    doc::{self, Value},
    ident::{Collection, NodeId, PeerName},
    node::{Direction, PeerMessages, PeerOptions, PeerPut, PeerState, PeerStatus},
};
use axum::http::{StatusCode, header};
use serde::Serialize;
use std::collections::BTreeMap;

const DIRECTIONS: [Direction; 3] = [Direction::Both, Direction::Push, Direction::Pull];
/// Most differences that are listed of a peer; all are counted.
const UNSETTLED_SHOWN_MAX: usize = 100;

/// GET `/v1/_peers`.
pub(crate) async fn list(call: Call) -> Answer {
    call.query()?.end()?;
    media::choose(&call.head.headers, &[media::JSON])?;
    let peers = call.api.node().peer_statuses();
    let peers = peers.iter().map(Shape::of).collect();
    reply::json(StatusCode::OK, &Peers { peers })
}

/// GET `/v1/_peers/{peer}`.
pub(crate) async fn show(call: Call, name: PeerName) -> Answer {
    call.query()?.end()?;
    media::choose(&call.head.headers, &[media::JSON])?;
    shown(&call, &name, StatusCode::OK)
}

fn shown(call: &Call, name: &PeerName, status: StatusCode) -> Answer {
    let peer = call.api.node().peer_status(name).ok_or_else(|| absent(name))?;
    reply::json(status, &Shape::of(&peer))
}

/// A peer has no version, and is put or removed under no condition.
fn check_conditions(call: &Call) -> Result<(), Problem> {
    for name in [header::IF_MATCH, header::IF_NONE_MATCH] {
        if call.head.headers.contains_key(&name) {
            let detail = format!("a peer has no version: {name} is not taken here");
            return Err(Problem::new(Code::BadHeader, detail));
        }
    }
    Ok(())
}

/// PUT `/v1/_peers/{peer}`: a peer is as the body says from now on, and after a restart.
pub(crate) async fn put(mut call: Call, name: PeerName) -> Answer {
    call.query()?.end()?;
    check_conditions(&call)?;
    media::choose(&call.head.headers, &[media::JSON])?;
    media::check_json(&call.head.headers)?;
    let body = doc::parse_envelope(&call.body().await?, call.api.node().limits())?;
    let options = wanted(name.clone(), body)?;
    let put = call.api.within(Code::WriteStalled, call.api.node().put_peer(options)).await?;
    let status = match put {
        PeerPut::Added => StatusCode::CREATED,
        PeerPut::Changed | PeerPut::Same => StatusCode::OK,
    };
    let mut response = shown(&call, &name, status)?;
    reply::state_durability(response.headers_mut(), &call.api);
    Ok(response)
}

/// DELETE `/v1/_peers/{peer}`: it is a peer no more. What it has stays there, and what came of it here.
pub(crate) async fn remove(call: Call, name: PeerName) -> Answer {
    call.query()?.end()?;
    check_conditions(&call)?;
    let removing = call.api.node().remove_peer(name.clone());
    if !call.api.within(Code::WriteStalled, removing).await? {
        return Err(absent(&name));
    }
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    reply::state_durability(response.headers_mut(), &call.api);
    Ok(response)
}

fn absent(name: &PeerName) -> Problem {
    Problem::new(Code::NotFound, format!("there is no peer called {name}"))
}

/// What a body says of a peer.
fn wanted(name: PeerName, body: Value) -> Result<PeerOptions, Problem> {
    let Value::Map(mut members) = body else {
        let detail = "an object says of a peer its `url`, and maybe `collections` and `direction`";
        return Err(Problem::peer("", detail));
    };
    let url = text(&mut members, "url")?.ok_or_else(|| Problem::peer("/url", "is missing"))?;
    let collections = match members.remove("collections") {
        None => vec!["*".to_owned()],
        Some(Value::List(names)) => {
            names.into_iter().enumerate().map(collection).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(Problem::peer("/collections", "a list of names, or of `*` for all")),
    };
    let direction = match text(&mut members, "direction")? {
        None => Direction::Both,
        Some(text) => {
            let known = DIRECTIONS.into_iter().find(|direction| said(*direction) == text);
            let refused = || Problem::peer("/direction", "`both`, `push` (from here) or `pull`");
            known.ok_or_else(refused)?
        }
    };
    if let Some(member) = members.keys().next() {
        let detail = format!("{member:?} is no member: there are url, collections and direction");
        return Err(Problem::new(Code::BadPeer, detail));
    }
    Ok(PeerOptions::parse(name, &url, &collections, direction)?)
}

/// A member that is a text.
fn text(members: &mut BTreeMap<String, Value>, member: &str) -> Result<Option<String>, Problem> {
    match members.remove(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::peer(&format!("/{member}"), "a string")),
    }
}

fn collection((index, name): (usize, Value)) -> Result<String, Problem> {
    match name {
        Value::String(name) => Ok(name),
        _ => Err(Problem::peer(&format!("/collections/{index}"), "a string")),
    }
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
    /// Whether it is in the configuration; else it was added while the node ran.
    configured: bool,
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
    /// The same, by what was asked.
    messages: BTreeMap<&'static str, Kind>,
    in_sync: Option<bool>,
    rounds: u64,
    repaired: u64,
    audits: u64,
    unsettled: Vec<Unsettled>,
    /// How many there are in all.
    unsettled_count: usize,
}

#[derive(Serialize)]
struct Kind {
    requests: u64,
    bytes_sent: u64,
    bytes_received: u64,
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
        let unsettled =
            peer.unsettled.iter().take(UNSETTLED_SHOWN_MAX).map(|(position, reason)| {
                let position = format!("{position:016x}");
                Unsettled { position, reason }
            });
        let messages = peer.messages.iter().map(|(what, of)| {
            let PeerMessages { requests, bytes_sent, bytes_received } = *of;
            (*what, Kind { requests, bytes_sent, bytes_received })
        });
        Self {
            name: peer.options.name.as_str(),
            url: peer.options.url.to_string(),
            configured: peer.configured,
            node: peer.node.map(Text),
            state: match peer.state {
                PeerState::Connecting => "connecting",
                PeerState::Up => "up",
                PeerState::Down => "down",
            },
            direction: said(peer.options.direction),
            collections,
            last_contact: peer.contact_unix_ms.map(|unix_ms| unix_ms / 1000),
            last_error: peer.error.as_ref().map(|(code, detail)| Failure { code, detail }),
            next_try_seconds: peer.next_try.map(|next| next.as_secs_f64()),
            lag_documents: peer.lag_documents,
            lag_seconds: peer.lag.as_secs(),
            requests: peer.requests,
            bytes_sent: peer.bytes_sent,
            bytes_received: peer.bytes_received,
            messages: messages.collect(),
            in_sync: peer.in_sync,
            rounds: peer.rounds,
            repaired: peer.repaired,
            audits: peer.audits,
            unsettled: unsettled.collect(),
            unsettled_count: peer.unsettled.len(),
        }
    }
}

/// A direction, by its name.
fn said(direction: Direction) -> &'static str {
    match direction {
        Direction::Both => "both",
        Direction::Push => "push",
        Direction::Pull => "pull",
    }
}
