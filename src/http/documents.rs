//! One document: read it, write it, change a part of it, delete it.

use super::{
    Api,
    extract::Call,
    media::{self, PatchKind},
    once::IdempotencyKey,
    prefer::{self, Return},
    problem::{Code, Problem},
    reply::{self, Answer},
    version::{self, Validators, Verdict},
    wait::WAIT_MAX,
};
use crate::{
    doc::{self, Edit, Form, Patch},
    ident::{Collection, Name, Version},
    node::{self, Once, Precondition, Representation, Write},
};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use bytes::Bytes;
use std::time::Duration;

/// How many peers hold a write, where they are fewer than were asked for.
const REPLICATED: HeaderName = HeaderName::from_static("tombolo-replicated");

/// GET and HEAD: the document, now or as it was.
pub(crate) async fn get(call: Call, name: Name) -> Answer {
    let mut query = call.query()?;
    // The version that saw nothing is one, but no state of a document.
    let parse = |text: &str| text.parse().ok().filter(|version: &Version| !version.is_empty());
    let at = query.parsed("at", parse, "hashes of 64 lower-case hex digits, joined by `.`")?;
    query.end()?;
    let headers = &call.head.headers;
    let includes = version::parents(headers)?;
    let validators = Validators::parse(headers)?;
    let representation = media::representation(headers)?;

    let node = call.api.node();
    let reading = match (representation, at, includes) {
        (Representation::Json(Form::Plain), None, None) => {
            call.api.within(Code::NotReady, node.read(&name)).await?
        }
        (representation, at, includes) => {
            let work = node.read_as(&name, representation, at, includes);
            call.api.within(Code::NotReady, work).await?
        }
    };

    let mut etag = version::to_etag(&reading.version, representation);
    let mut response = match validators.judge(&reading.version, &etag) {
        Verdict::Send => reply::raw(StatusCode::OK, media::of(representation), reading.body.into()),
        Verdict::NotModified(held) => {
            etag = held;
            reply::empty(StatusCode::NOT_MODIFIED)
        }
        Verdict::Failed => {
            return Err(node::Error::PreconditionFailed(Some(reading.version)).into());
        }
    };
    let headers = response.headers_mut();
    reply::describe(headers, &name, &reading.version, reading.conflicts);
    headers.insert(header::ETAG, etag);
    Ok(response)
}

/// PUT: the whole value.
pub(crate) async fn put(mut call: Call, name: Name) -> Answer {
    let asked = Asked::parse(&call)?;
    let (edit, _) = whole(&mut call).await?;
    commit(&call.api, &name, asked, edit).await
}

/// POST to a collection: the whole value, under a key that nobody has used, or that a request which
/// is made again makes again.
pub(crate) async fn create(mut call: Call, collection: Collection) -> Answer {
    let mut asked = Asked::parse(&call)?;
    let idempotency = IdempotencyKey::of(&call.head.headers)?;
    let key = match &idempotency {
        None => call.api.node().fresh_key()?,
        Some(idempotency) => idempotency.document_key()?,
    };
    let name = Name::new(collection, key)?;
    let (edit, body) = whole(&mut call).await?;
    if let Some(idempotency) = idempotency {
        asked.once = Some(idempotency.request("POST", &name, &call.head.headers, &body));
        if asked.precondition == Precondition::None {
            // Where the first answer is kept no more, or another node's, this creation merges with
            // the one that it repeats, and drops nothing that came after that.
            asked.base.get_or_insert_default();
        }
    }
    let mut response = commit(&call.api, &name, asked, edit).await?;
    // A fresh key is a UUID: nothing in it has to be encoded.
    let location = format!("/v1/{}/{}", name.collection(), name.key());
    response.headers_mut().insert(header::LOCATION, reply::value(location));
    Ok(response)
}

/// PATCH: a part of it.
pub(crate) async fn patch(mut call: Call, name: Name) -> Answer {
    let mut asked = Asked::parse(&call)?;
    let idempotency = IdempotencyKey::of(&call.head.headers)?;
    let (kind, form) = media::patch(&call.head.headers)?;
    let body = call.body().await?;
    let limits = call.api.node().limits();
    let edit = match kind {
        PatchKind::Merge => Edit::MergePatch(doc::parse(&body, form, limits)?),
        PatchKind::Json => Edit::JsonPatch(Patch::parse(&body, form, limits)?),
    };
    let request = |key: IdempotencyKey| key.request("PATCH", &name, &call.head.headers, &body);
    asked.once = idempotency.map(request);
    commit(&call.api, &name, asked, edit).await
}

/// DELETE: a tombstone on what is deleted.
pub(crate) async fn delete(call: Call, name: Name) -> Answer {
    let asked = Asked::parse(&call)?;
    commit(&call.api, &name, asked, Edit::Delete).await
}

/// The body of a PUT or POST: what it asks for, and as it came.
async fn whole(call: &mut Call) -> Result<(Edit, Bytes), Problem> {
    let form = media::value(&call.head.headers)?;
    let body = call.body().await?;
    Ok((Edit::Put(doc::parse(&body, form, call.api.node().limits())?), body))
}

/// What the header fields of a write ask for.
pub(crate) struct Asked {
    base: Option<Version>,
    precondition: Precondition,
    pub(crate) message: Option<String>,
    want: Option<Representation>,
    /// How many peers shall hold it before it is answered, and how long it waits for that.
    replicate: Option<(usize, Duration)>,
    pub(crate) once: Option<Once>,
}

impl Asked {
    pub(crate) fn parse(call: &Call) -> Result<Self, Problem> {
        call.query()?.end()?;
        let headers = &call.head.headers;
        if headers.contains_key(header::CONTENT_RANGE) {
            let detail = "documents are written whole; PATCH changes a part";
            return Err(Problem::header(&header::CONTENT_RANGE, detail));
        }
        let (base, precondition) = version::basis(headers)?;
        let message = prefer::message(headers)?;
        let want = match prefer::wanted(headers) {
            Return::Summary => None,
            Return::Representation => Some(media::representation(headers)?),
        };
        let wait = prefer::wait(headers).unwrap_or_default().min(WAIT_MAX);
        let replicate = prefer::replicate(headers).map(|count| (count, wait));
        Ok(Self { base, precondition, message, want, replicate, once: None })
    }
}

/// Makes a write, and tells what it did.
pub(crate) async fn commit(api: &Api, name: &Name, asked: Asked, edit: Edit) -> Answer {
    let Asked { base, precondition, message, want, replicate, once } = asked;
    let write = Write { edit, base, precondition, message, want, once };
    let work = api.node().write(name, write);
    let written = api.within(Code::WriteStalled, work).await?;
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = reply::written(api, status, name, want, written)?;
    if let Some((count, wait)) = replicate {
        let held = api.node().replicated(name, count, wait).await?;
        let headers = response.headers_mut();
        if count <= held {
            let applied = reply::value(format!("replicate={count}"));
            headers.append(prefer::PREFERENCE_APPLIED, applied);
        } else {
            headers.insert(REPLICATED, HeaderValue::from(held));
            *response.status_mut() = StatusCode::ACCEPTED;
        }
    }
    Ok(response)
}
