//! The past of a document: what changed between versions, what each change did, who wrote what shows,
//! and the way back.

use super::{
    documents::{self, Asked},
    extract::Call,
    media,
    once::IdempotencyKey,
    paging,
    problem::{Code, Problem},
    reply::{self, Answer, Hashes, Text},
    version,
};
use crate::{
    doc::{self, Author, Blame, Deed, Edit, Form, Moment, Patch},
    ident::{Hash, Name, Version},
    node::Representation,
};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

/// What a version in a query or in `to` is.
const VERSION: &str = "hashes of 64 lower-case hex digits, joined by `.`";
/// Bytes of a mark: an operation's number and a hash.
const MARK: usize = 8 + 32;
/// Digits of a version that tell it to people.
const DIGITS: usize = 8;

/// GET `_diff`: the JSON Patch that makes of the document at `from` that at `to`, or now. What is not
/// there at a version counts as `null`.
pub(crate) async fn diff(call: Call, name: Name) -> Answer {
    let mut query = call.query()?;
    let from = query.parsed("from", |text| text.parse().ok(), VERSION)?;
    let to = query.parsed("to", |text| text.parse().ok(), VERSION)?;
    query.end()?;
    let from: Version = from.ok_or_else(|| Problem::query("from", VERSION))?;
    let kind = media::choose(&call.head.headers, &[media::JSON_PATCH, media::JSON])?;
    version::check_parents(&call.api, &call.head.headers, &name).await?;
    let work = call.api.node().diff(&name, from, to);
    let reading = call.api.within(Code::NotReady, work).await?;
    let mut response = reply::raw(StatusCode::OK, kind, reading.body.into());
    reply::identify(response.headers_mut(), &name, &reading.version);
    Ok(response)
}

/// GET `_history`: what each change did, the latest first, a page at a time.
pub(crate) async fn history(call: Call, name: Name) -> Answer {
    let mut query = call.query()?;
    let limit = paging::limit(&mut query)?.unwrap_or(paging::LIMIT_DEFAULT);
    let after = paging::after(&mut query, |mark| moment(&mark))?;
    query.end()?;
    media::choose(&call.head.headers, &[media::JSON])?;

    version::check_parents(&call.api, &call.head.headers, &name).await?;
    let work = call.api.node().deeds(&name, after, limit);
    let (version, page) = call.api.within(Code::NotReady, work).await?;
    let next = page.deeds.last().filter(|_| page.more).map(|deed| paging::encode(&mark(deed)));
    let body = reply::page("changes", page.deeds, append, &next)?;
    let mut response = reply::raw(StatusCode::OK, media::JSON, body.into());
    reply::identify(response.headers_mut(), &name, &version);
    Ok(response)
}

/// What the next page remembers of the last change of this one.
fn mark(deed: &Deed) -> Vec<u8> {
    let (operation, hash) = deed.moment;
    [&operation.to_be_bytes()[..], &hash.to_bytes()].concat()
}

fn moment(mark: &[u8]) -> Option<Moment> {
    let mark: &[u8; MARK] = mark.try_into().ok()?;
    let (operation, hash) = mark.split_first_chunk()?;
    Some((u64::from_be_bytes(*operation), Hash::from_bytes(hash.try_into().ok()?)))
}

fn append(body: &mut Vec<u8>, deed: Deed) -> Result<(), Problem> {
    let shape = Shape {
        hash: Text(deed.hash),
        actor: &deed.actor,
        seq: deed.seq,
        time: deed.time_seconds,
        message: deed.message.as_deref(),
        deps: Hashes(&deed.deps),
        operations_total: deed.operations_total,
    };
    body.append(&mut reply::to_json(&shape)?);
    body.pop();
    body.extend_from_slice(br#","operations":"#);
    body.append(&mut Patch(deed.operations).to_json(Form::Plain));
    body.push(b'}');
    Ok(())
}

#[derive(Serialize)]
struct Shape<'a> {
    hash: Text<Hash>,
    actor: &'a str,
    seq: u64,
    time: i64,
    message: Option<&'a str>,
    deps: Hashes<'a>,
    operations_total: usize,
}

/// GET `_blame`: which change set each value that shows, in the view's order, a page at a time.
pub(crate) async fn blame(call: Call, name: Name) -> Answer {
    let mut query = call.query()?;
    let within =
        query.parsed("path", |text| text.parse().ok(), "a JSON Pointer, such as `/a/0`")?;
    let limit = paging::limit(&mut query)?.unwrap_or(paging::LIMIT_DEFAULT);
    let after = paging::after_place(&mut query)?;
    query.end()?;
    media::choose(&call.head.headers, &[media::JSON])?;

    version::check_parents(&call.api, &call.head.headers, &name).await?;
    let work = call.api.node().blame(&name, within.unwrap_or_default());
    let (version, leaves) = call.api.within(Code::NotReady, work).await?;
    let (page, next) = paging::places(&leaves, after, limit, |leaf| &leaf.path);
    let append = |body: &mut Vec<u8>, leaf: &Blame| {
        let Author { change, actor, time_seconds, message } = &*leaf.author;
        let leaf = Leaf {
            path: &leaf.path,
            change: Text(*change),
            actor,
            time: *time_seconds,
            message: message.as_deref(),
        };
        body.append(&mut reply::to_json(&leaf)?);
        Ok(())
    };
    let body = reply::page("leaves", page, append, &next)?;
    let mut response = reply::raw(StatusCode::OK, media::JSON, body.into());
    reply::identify(response.headers_mut(), &name, &version);
    Ok(response)
}

#[derive(Serialize)]
struct Leaf<'a> {
    path: &'a str,
    change: Text<Hash>,
    actor: &'a str,
    time: i64,
    message: Option<&'a str>,
}

/// POST `_revert`: writes what the document was at a version, with its types, as a PUT would. What is
/// deleted now comes back; to a version that shows nothing there is no way back but DELETE.
pub(crate) async fn revert(mut call: Call, name: Name) -> Answer {
    let mut asked = Asked::parse(&call)?;
    media::value(&call.head.headers)?;
    let idempotency = IdempotencyKey::of(&call.head.headers)?;
    let body = call.body().await?;
    let to = target(&body)?;
    let request =
        |key: IdempotencyKey| key.request("POST _revert", &name, &call.head.headers, &body);
    asked.once = idempotency.map(request);
    let typed = Representation::Json(Form::Typed);
    // A version stays what it is, so that nothing can come between this and the write.
    let work = call.api.node().read_as(&name, typed, Some(to.clone()), None);
    let then = match call.api.within(Code::NotReady, work).await {
        Err(problem) if problem.code() == Code::DocumentDeleted => {
            let detail = "at that version it was deleted already; DELETE makes it so";
            return Err(Problem::new(Code::DocumentDeleted, detail));
        }
        then => then?,
    };
    let value = doc::parse(&then.body, Form::Typed, call.api.node().limits())?;
    asked.message.get_or_insert_with(|| message(&to));
    documents::commit(&call.api, &name, asked, Edit::Put(value)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    to: String,
}

fn target(body: &[u8]) -> Result<Version, Problem> {
    let refused = |why: &dyn std::fmt::Display| {
        Problem::new(Code::BadJson, format!("wanted is {{\"to\": \"<version>\"}}: {why}"))
    };
    let wanted: Wanted = serde_json::from_slice(body).map_err(|error| refused(&error))?;
    let version = wanted.to.parse().ok().filter(|version: &Version| !version.is_empty());
    version.ok_or_else(|| refused(&VERSION))
}

/// What people are told of a revert, if they are told nothing else.
fn message(to: &Version) -> String {
    let digits: String = to.to_string().chars().take(DIGITS).collect();
    format!("revert to {digits}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::{Operation, Pointer};

    fn deed() -> Deed {
        Deed {
            hash: Hash::from_bytes([0xab; 32]),
            actor: "0c".into(),
            seq: 3,
            time_seconds: 7,
            message: None,
            deps: "cd".repeat(32).parse().unwrap(),
            operations: vec![Operation::Remove { path: Pointer(vec!["a\"b".into()]) }],
            operations_total: 200,
            moment: (u64::MAX - 1, Hash::from_bytes([0xab; 32])),
        }
    }

    #[test]
    fn a_change_is_written_with_its_operations_spliced_in() {
        let mut body = Vec::new();
        append(&mut body, deed()).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "hash": "ab".repeat(32), "actor": "0c", "seq": 3, "time": 7, "message": null,
                "deps": ["cd".repeat(32)], "operations_total": 200,
                "operations": [{"op": "remove", "path": "/a\"b"}],
            })
        );
    }

    #[test]
    fn a_mark_tells_the_moment_and_garbage_tells_none() {
        assert_eq!(moment(&mark(&deed())), Some(deed().moment));
        assert_eq!(moment(&[0; MARK - 1]), None);
        assert_eq!(moment(&[0; MARK + 1]), None);
    }

    #[test]
    fn a_target_is_one_version_that_saw_something() {
        let hash = "ab".repeat(32);
        let version = target(format!(r#"{{"to":"{hash}"}}"#).as_bytes()).unwrap();
        assert_eq!(message(&version), "revert to abababab");
        let twice = format!(r#"{{"to":"{hash}","to":"{hash}"}}"#);
        let more = format!(r#"{{"to":"{hash}","x":1}}"#);
        for body in ["", "{}", r#"{"to":""}"#, r#"{"to":"ab"}"#, r#"{"to":1}"#, &twice, &more] {
            assert!(target(body.as_bytes()).is_err(), "{body}");
        }
    }
}
