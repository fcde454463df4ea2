//! A document as changes of Automerge: what a version has not seen, and changes made elsewhere.

use super::{
    extract::Call,
    media,
    problem::{Code, Problem},
    reply::{self, Answer, Hashes, Text},
    version,
};
use crate::{
    doc::Form,
    ident::{Hash, Name},
    node::{Representation, Taken},
};
use axum::http::{StatusCode, header};
use serde::Serialize;

/// GET `_changes`: the changes that `since` has not seen; without it, the whole document. Hashes that
/// are not known here count as nothing, so that whoever has more than this node may ask.
pub(crate) async fn list(call: Call, name: Name) -> Answer {
    let mut query = call.query()?;
    let parse = |text: &str| text.parse().ok();
    let since =
        query.parsed("since", parse, "hashes of 64 lower-case hex digits, joined by `.`")?;
    query.end()?;
    media::choose(&call.head.headers, &[media::AUTOMERGE])?;
    version::check_parents(&call.api, &call.head.headers, &name).await?;
    let work = call.api.node().changes_since(&name, since.unwrap_or_default());
    let reading = call.api.within(Code::NotReady, work).await?;
    let mut response = reply::raw(StatusCode::OK, media::AUTOMERGE, reading.body.into());
    reply::identify(response.headers_mut(), &name, &reading.version);
    Ok(response)
}

/// POST `_changes`: changes and saved documents, as Automerge writes them, one behind the other. All
/// of them are taken, or none.
pub(crate) async fn take(mut call: Call, name: Name) -> Answer {
    call.query()?.end()?;
    media::check_automerge(&call.head.headers)?;
    for name in [version::PARENTS, header::IF_MATCH, header::IF_NONE_MATCH] {
        if call.head.headers.contains_key(&name) {
            let detail = "changes say themselves what they rest on, and merge with what is there";
            return Err(Problem::header(&name, detail));
        }
    }
    let (body, _turn) = call.whole(call.api.options().changes_bytes_max).await?;
    if body.is_empty() {
        return Err(Problem::new(Code::BadChanges, "there is nothing in the body"));
    }
    let work = call.api.node().admit(&name, body);
    let taken = call.api.within(Code::WriteStalled, work).await?;
    let Taken { version, conflicts, taken, held, waiting, created, deleted } = taken;
    if version.is_empty() {
        return Err(Problem::new(Code::BadChanges, "there are no changes in it"));
    }
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let waiting = waiting.into_iter().map(|(change, missing)| Waits {
        change: Text(change),
        missing: missing.into_iter().map(Text).collect(),
    });
    let waiting = waiting.collect();
    let summary = Summary {
        collection: name.collection().as_str(),
        key: name.key().as_str(),
        document: name.id().to_url(),
        version: Hashes(&version),
        taken,
        held,
        waiting,
        deleted,
    };
    let mut response = reply::json(status, &summary)?;
    let headers = response.headers_mut();
    reply::describe(headers, &name, &version, conflicts);
    headers.insert(header::ETAG, version::to_etag(&version, Representation::Json(Form::Plain)));
    reply::state_durability(headers, &call.api);
    Ok(response)
}

#[derive(Serialize)]
struct Summary<'a> {
    collection: &'a str,
    key: &'a str,
    document: String,
    version: Hashes<'a>,
    /// Changes that are part of the document now and were not before.
    taken: usize,
    /// Changes that were part of it already.
    held: usize,
    /// Changes that will be once what they rest on has come.
    waiting: Vec<Waits>,
    deleted: bool,
}

#[derive(Serialize)]
struct Waits {
    change: Text<Hash>,
    missing: Vec<Text<Hash>>,
}
