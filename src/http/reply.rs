//! Answers: documents, what a write did, and JSON of every other kind.

use super::{Api, media, once, prefer, problem::Problem, version};
use crate::{
    doc::Form,
    ident::{Name, Version},
    node::{Durability, Reading, Representation, Written},
};
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;
use serde::{Serialize, Serializer};

const CONFLICTS: HeaderName = HeaderName::from_static("tombolo-conflicts");
const DOCUMENT: HeaderName = HeaderName::from_static("tombolo-document");
const DURABILITY: HeaderName = HeaderName::from_static("tombolo-durability");

/// Room for the fields of an answer that carries a document, so that the map is made once.
const FIELDS: usize = 12;

/// What every handler gives.
pub(crate) type Answer = Result<Response<Body>, Problem>;

/// A field value from text that we wrote ourselves; it holds nothing that a field may not.
pub(crate) fn value(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// An answer with room for its fields.
fn response(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = HeaderMap::with_capacity(FIELDS);
    response
}

/// JSON, as an answer.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    Ok(raw(status, media::JSON, to_json(body)?.into()))
}

/// A value of ours as JSON.
pub(crate) fn to_json(body: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(body).map_err(|error| Problem::defect(error.to_string()))
}

/// Appends an object of ours to JSON, and to that object a `value` that is JSON already: documents
/// go out as they are stored, without being parsed again.
pub(crate) fn append(
    out: &mut Vec<u8>,
    object: &impl Serialize,
    value: Option<&[u8]>,
) -> Result<(), Problem> {
    out.append(&mut to_json(object)?);
    if let Some(value) = value {
        out.pop();
        out.extend_from_slice(br#","value":"#);
        out.extend_from_slice(value);
        out.push(b'}');
    }
    Ok(())
}

/// A page as JSON: its items as a list under a name, and from where the next one goes on.
pub(crate) fn page<T>(
    name: &str,
    items: impl IntoIterator<Item = T>,
    mut append: impl FnMut(&mut Vec<u8>, T) -> Result<(), Problem>,
    next: &impl Serialize,
) -> Result<Vec<u8>, Problem> {
    let mut body = format!(r#"{{"{name}":["#).into_bytes();
    for (index, item) in items.into_iter().enumerate() {
        if 0 < index {
            body.push(b',');
        }
        append(&mut body, item)?;
    }
    body.extend_from_slice(br#"],"next":"#);
    body.append(&mut to_json(next)?);
    body.push(b'}');
    Ok(body)
}

/// Bytes of a media type, as an answer.
pub(crate) fn raw(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = response(status, body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// No body at all.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    response(status, Body::empty())
}

/// The fields that say which state of which document an answer is about.
pub(crate) fn describe(headers: &mut HeaderMap, name: &Name, version: &Version, conflicts: u32) {
    identify(headers, name, version);
    headers.insert(CONFLICTS, HeaderValue::from(conflicts));
}

/// The same of an answer that tells nothing of conflicts.
pub(crate) fn identify(headers: &mut HeaderMap, name: &Name, version: &Version) {
    headers.insert(version::VERSION, version::to_list(version));
    headers.insert(DOCUMENT, value(name.id().to_url()));
}

/// What a write did: its summary, or the document if that was asked for and there is one.
pub(crate) fn written(
    api: &Api,
    status: StatusCode,
    name: &Name,
    want: Option<Representation>,
    written: Written,
) -> Answer {
    let document = want.zip(written.reading);
    let representation = document.as_ref().map(|(representation, _)| *representation);
    let shown = representation.unwrap_or(Representation::Json(Form::Plain));
    let etag = version::to_etag(&written.version, shown);
    let mut response = match document {
        Some((representation, Reading { body, .. })) => {
            let mut response = raw(status, media::of(representation), body.into());
            let applied = HeaderValue::from_static("return=representation");
            response.headers_mut().insert(prefer::PREFERENCE_APPLIED, applied);
            response
        }
        None => {
            let summary = Summary {
                collection: name.collection().as_str(),
                key: name.key().as_str(),
                document: name.id().to_url(),
                version: Hashes(&written.version),
                merged: written.merged,
                unchanged: written.unchanged,
                deleted: written.deleted,
            };
            json(status, &summary)?
        }
    };
    let headers = response.headers_mut();
    if written.replayed {
        headers.insert(once::REPLAYED, HeaderValue::from_static("true"));
    }
    describe(headers, name, &written.version, written.conflicts);
    headers.insert(header::ETAG, etag);
    state_durability(headers, api);
    Ok(response)
}

/// The field that says when writes are answered.
pub(crate) fn state_durability(headers: &mut HeaderMap, api: &Api) {
    headers.insert(DURABILITY, HeaderValue::from_static(durability(api.node().durability())));
}

/// A durability, by its name.
pub(crate) const fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Sync => "sync",
        Durability::Relaxed => "relaxed",
    }
}

#[derive(Serialize)]
struct Summary<'a> {
    collection: &'a str,
    key: &'a str,
    document: String,
    version: Hashes<'a>,
    merged: bool,
    unchanged: bool,
    deleted: bool,
}

/// A version as JSON has it: a list of hashes.
pub(crate) struct Hashes<'a>(pub(crate) &'a Version);

impl Serialize for Hashes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.hashes().iter().map(Text))
    }
}

/// Anything that has a text form, as a JSON string.
pub(crate) struct Text<T>(pub(crate) T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
