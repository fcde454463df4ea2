//! What is in quarantine: a list of it, its bytes, and the two ways out.

use super::{
    extract::Call,
    media, paging,
    problem::{Code, Problem},
    reply::{self, Answer, Hashes, Text},
};
use crate::{
    ident::{QuarantineId, Version},
    node::{Held, What},
};
use axum::http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// GET `/v1/_quarantine`: everything there, by its id, a page at a time.
pub(crate) async fn list(call: Call) -> Answer {
    let mut query = call.query()?;
    let limit = paging::limit(&mut query)?.unwrap_or(paging::LIMIT_DEFAULT);
    let after =
        paging::after(&mut query, |mark| mark.try_into().ok().map(QuarantineId::from_bytes))?;
    query.end()?;
    media::choose(&call.head.headers, &[media::JSON])?;
    let work = call.api.node().quarantine();
    let mut all = call.api.within(Code::NotReady, work).await?;
    all.retain(|held| after.is_none_or(|after| after < held.id));
    let (page, more) = all.split_at(limit.min(all.len()));
    let next = page.last().filter(|_| !more.is_empty());
    let next = next.map(|last| paging::encode(&last.id.to_bytes()));
    let append = |body: &mut Vec<u8>, held: &Held| {
        body.append(&mut reply::to_json(&Shape::of(held))?);
        Ok(())
    };
    let body = reply::page("quarantined", page, append, &next)?;
    Ok(reply::raw(StatusCode::OK, media::JSON, body.into()))
}

#[derive(Serialize)]
struct Shape<'a> {
    id: Text<QuarantineId>,
    kind: &'static str,
    collection: Option<&'a str>,
    key: Option<&'a str>,
    document: Option<String>,
    reason: &'a str,
    /// Seconds since 1970; `null`: nobody knows.
    time: Option<u64>,
    bytes: u64,
}

impl<'a> Shape<'a> {
    fn of(held: &'a Held) -> Self {
        let name = held.name.as_ref();
        Self {
            id: Text(held.id),
            kind: match held.what {
                What::Document => "document",
                What::Changes => "changes",
                What::Rows => "rows",
            },
            collection: name.map(|name| name.collection().as_str()),
            key: name.map(|name| name.key().as_str()),
            document: name.map(|name| name.id().to_url()),
            reason: &held.why,
            time: (held.time_seconds != 0).then_some(held.time_seconds),
            bytes: held.bytes,
        }
    }
}

/// GET `/v1/_quarantine/{id}`: the bytes that are kept, one piece behind the other.
pub(crate) async fn show(call: Call, id: QuarantineId) -> Answer {
    call.query()?.end()?;
    media::choose(&call.head.headers, &[media::OCTETS])?;
    let found = call.api.within(Code::NotReady, call.api.node().quarantined(id)).await?;
    let (_, bytes) = found.ok_or_else(|| absent(id))?;
    let mut response = reply::raw(StatusCode::OK, media::OCTETS, bytes.concat().into());
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// POST `/v1/_quarantine/{id}/_release`: a document with whatever of it is whole, or changes of others
/// through the gate once more.
pub(crate) async fn release(call: Call, id: QuarantineId) -> Answer {
    call.query()?.end()?;
    let done = call.api.within(Code::WriteStalled, call.api.node().release(id)).await?;
    let released = done.ok_or_else(|| absent(id))?;
    let version: &Version = &released.version;
    let summary = Released {
        collection: released.name.collection().as_str(),
        key: released.name.key().as_str(),
        document: released.name.id().to_url(),
        version: Hashes(version),
        lost: released.lost,
    };
    let mut response = reply::json(StatusCode::OK, &summary)?;
    reply::identify(response.headers_mut(), &released.name, version);
    reply::state_durability(response.headers_mut(), &call.api);
    Ok(response)
}

#[derive(Serialize)]
struct Released<'a> {
    collection: &'a str,
    key: &'a str,
    document: String,
    version: Hashes<'a>,
    /// Pieces of it that could not be read.
    lost: usize,
}

/// DELETE `/v1/_quarantine/{id}`: what is kept is gone. A document is then one that nobody has written.
pub(crate) async fn forget(call: Call, id: QuarantineId) -> Answer {
    call.query()?.end()?;
    if !call.api.within(Code::WriteStalled, call.api.node().forget(id)).await? {
        return Err(absent(id));
    }
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    reply::state_durability(response.headers_mut(), &call.api);
    Ok(response)
}

fn absent(id: QuarantineId) -> Problem {
    Problem::new(Code::NotFound, format!("there is no {id} in quarantine"))
}
