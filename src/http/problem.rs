//! Refusals: the one table from what went wrong to status and code, as problem documents (RFC 9457).

use super::version;
use crate::{
    doc::{Refusal, RefusalKind},
    ident::{NameError, PeerNameError, Version},
    node::{self, PeerError},
};
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, StatusCode, header},
};
use serde::Serialize;
use std::borrow::Cow;

/// What went wrong, as a client's program sees it; each code has one status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The body is not JSON that can be kept.
    BadJson,
    /// The body is not what its `Content-Encoding` says, or ends inside of it.
    BadCoding,
    /// An object of the body names one key twice.
    DuplicateKey,
    /// The body nests too deeply.
    TooDeep,
    /// The body is no JSON Patch.
    BadPatch,
    /// A line of a bulk write says not, or not clearly, what to do.
    BadLine,
    /// A header field cannot be understood, or fields contradict each other.
    BadHeader,
    /// A query parameter is unknown, repeated, or cannot be understood.
    BadQuery,
    /// A collection or key that can name nothing.
    BadKey,
    /// What is said of a peer is not understood, or its name is none.
    BadPeer,
    /// The request shows no right to be answered.
    Unauthenticated,
    /// The request is for another host, or a page of another origin made it.
    Forbidden,
    /// Another request was made under this `Idempotency-Key`.
    IdempotencyMismatch,
    /// Not a cursor.
    BadCursor,
    /// A cursor from which this node cannot go on.
    CursorGone,
    /// As many as may do it already.
    RateLimited,
    /// No such route.
    NotFound,
    /// No such document.
    DocumentNotFound,
    /// The document was deleted.
    DocumentDeleted,
    /// The route has no such verb.
    MethodNotAllowed,
    /// No representation is acceptable.
    NotAcceptable,
    /// The body did not come in time.
    Timeout,
    /// A `test` of a JSON Patch did not hold.
    PatchTestFailed,
    /// The peer is in the node's configuration, and is changed there.
    PeerConfigured,
    /// As many peers were added as may be.
    TooManyPeers,
    /// The document of this id is in another collection.
    DocumentElsewhere,
    /// `If-Match` or `If-None-Match` did not hold.
    PreconditionFailed,
    /// Larger than a limit.
    TooLarge,
    /// The body's media type or coding is not taken here.
    UnsupportedMediaType,
    /// A document is an object.
    RootMustBeObject,
    /// A pointer leads nowhere.
    BadPointer,
    /// A value is not of the type that the edit needs.
    WrongType,
    /// Foreign bytes that are no changes, or none that the document can take.
    BadChanges,
    /// Foreign bytes on which Automerge broke; they are kept aside.
    QuarantinedChanges,
    /// The request's head is larger than a limit.
    HeadersTooLarge,
    /// This node has not seen the version.
    VersionNotFound,
    /// A defect.
    Internal,
    /// Too many writes are waiting.
    WriteStalled,
    /// No writes until the node is started again.
    ReadOnly,
    /// The node cannot answer now.
    NotReady,
    /// The stored document is damaged.
    Quarantined,
    /// There is no room for writes.
    DiskFull,
}

/// What the table says of a code.
struct Meaning {
    name: &'static str,
    status: u16,
    title: &'static str,
    /// Seconds after which the same request may fare better; `None` where time alone mends nothing.
    retry_after: Option<u8>,
}

impl Code {
    /// Every code.
    pub const ALL: &[Self] = &[
        Self::BadJson,
        Self::BadCoding,
        Self::DuplicateKey,
        Self::TooDeep,
        Self::BadPatch,
        Self::BadLine,
        Self::BadHeader,
        Self::BadQuery,
        Self::BadKey,
        Self::BadPeer,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::IdempotencyMismatch,
        Self::BadCursor,
        Self::CursorGone,
        Self::RateLimited,
        Self::NotFound,
        Self::DocumentNotFound,
        Self::DocumentDeleted,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::Timeout,
        Self::PatchTestFailed,
        Self::PeerConfigured,
        Self::TooManyPeers,
        Self::DocumentElsewhere,
        Self::PreconditionFailed,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::RootMustBeObject,
        Self::BadPointer,
        Self::WrongType,
        Self::BadChanges,
        Self::QuarantinedChanges,
        Self::HeadersTooLarge,
        Self::VersionNotFound,
        Self::Internal,
        Self::WriteStalled,
        Self::ReadOnly,
        Self::NotReady,
        Self::Quarantined,
        Self::DiskFull,
    ];

    /// The one table.
    const fn meaning(self) -> Meaning {
        let (name, status, title, retry_after) = match self {
            Self::BadJson => ("bad_json", 400, "Not JSON that can be kept", None),
            Self::BadCoding => ("bad_coding", 400, "Not what its Content-Encoding says", None),
            Self::DuplicateKey => ("duplicate_key", 400, "A key stands twice in an object", None),
            Self::TooDeep => ("too_deep", 400, "Nested too deeply", None),
            Self::BadPatch => ("bad_patch", 400, "Not a JSON Patch", None),
            Self::BadLine => ("bad_line", 400, "Not a line of a bulk write", None),
            Self::BadHeader => ("bad_header", 400, "A header field is not understood", None),
            Self::BadQuery => ("bad_query", 400, "A query parameter is not understood", None),
            Self::BadKey => ("bad_key", 400, "Not the name of a document", None),
            Self::BadPeer => ("bad_peer", 400, "Not a peer", None),
            Self::Unauthenticated => ("unauthenticated", 401, "Not known here", None),
            Self::Forbidden => ("forbidden", 403, "Not from there, or not by that name", None),
            Self::IdempotencyMismatch => {
                ("idempotency_mismatch", 422, "The key was used for something else", None)
            }
            Self::BadCursor => ("bad_cursor", 400, "Not a cursor", None),
            Self::CursorGone => ("cursor_gone", 410, "Read the feed from the beginning", None),
            Self::RateLimited => ("rate_limited", 429, "Too many at once", Some(1)),
            Self::NotFound => ("not_found", 404, "No such route", None),
            Self::DocumentNotFound => ("document_not_found", 404, "No such document", None),
            Self::DocumentDeleted => ("document_deleted", 404, "The document was deleted", None),
            Self::MethodNotAllowed => ("method_not_allowed", 405, "No such verb here", None),
            Self::NotAcceptable => ("not_acceptable", 406, "No acceptable representation", None),
            Self::Timeout => ("timeout", 408, "The body did not come in time", None),
            Self::PatchTestFailed => ("patch_test_failed", 409, "A test did not hold", None),
            Self::PeerConfigured => ("peer_configured", 409, "The peer is configured", None),
            Self::TooManyPeers => ("too_many_peers", 409, "No more peers", None),
            Self::DocumentElsewhere => {
                ("document_elsewhere", 409, "The document has another name", None)
            }
            Self::PreconditionFailed => {
                ("precondition_failed", 412, "The document is not as expected", None)
            }
            Self::TooLarge => ("too_large", 413, "Larger than a limit", None),
            Self::UnsupportedMediaType => {
                ("unsupported_media_type", 415, "This kind of body is not taken here", None)
            }
            Self::RootMustBeObject => {
                ("root_must_be_object", 422, "A document is a JSON object", None)
            }
            Self::BadPointer => ("bad_pointer", 422, "A pointer leads nowhere", None),
            Self::WrongType => ("wrong_type", 422, "A value is of another type", None),
            Self::BadChanges => ("bad_changes", 422, "Changes that are not taken", None),
            Self::QuarantinedChanges => {
                ("quarantined_changes", 422, "Changes that broke something", None)
            }
            Self::HeadersTooLarge => {
                ("headers_too_large", 431, "The header fields are larger than a limit", None)
            }
            Self::VersionNotFound => {
                ("version_not_found", 432, "This node has not seen the version", Some(1))
            }
            Self::Internal => ("internal", 500, "A defect of the node", None),
            Self::WriteStalled => ("write_stalled", 503, "Too many writes are waiting", Some(1)),
            Self::ReadOnly => ("read_only", 503, "The node takes no writes", None),
            Self::NotReady => ("not_ready", 503, "The node is not ready", Some(1)),
            Self::Quarantined => ("quarantined", 503, "The stored document is damaged", None),
            Self::DiskFull => ("disk_full", 507, "There is no room for writes", Some(5)),
        };
        Meaning { name, status, title, retry_after }
    }

    /// The code as it is written.
    pub const fn name(self) -> &'static str {
        self.meaning().name
    }

    /// Its status.
    pub fn status(self) -> StatusCode {
        // Every status of the table is valid (held by a test).
        StatusCode::from_u16(self.meaning().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// A refusal on its way out.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    pointer: Option<String>,
    version: Option<Version>,
    /// A field that tells the client what would have been taken.
    hint: Option<Box<(HeaderName, &'static str)>>,
    /// What happened inside, for the log alone.
    cause: Option<String>,
}

impl Problem {
    /// A refusal, with a sentence for people.
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), pointer: None, version: None, hint: None, cause: None }
    }

    /// `bad_header`, naming the field.
    pub(crate) fn header(name: &HeaderName, detail: &str) -> Self {
        Self::new(Code::BadHeader, format!("{name}: {detail}"))
    }

    /// `bad_query`, naming the parameter.
    pub(crate) fn query(name: &str, detail: &str) -> Self {
        Self::new(Code::BadQuery, format!("`{name}`: {detail}"))
    }

    /// `bad_line`, naming the member.
    pub(crate) fn line(member: &str, detail: &str) -> Self {
        let problem = Self::new(Code::BadLine, format!("`{member}`: {detail}"));
        Self { pointer: Some(format!("/{member}")), ..problem }
    }

    /// `bad_peer`, naming the place in the body.
    pub(crate) fn peer(pointer: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { pointer: Some(pointer.to_owned()), ..Self::new(Code::BadPeer, detail) }
    }

    /// The same, found in the value of a member: pointers lead into what holds it.
    pub(crate) fn within(mut self, member: &str) -> Self {
        self.pointer = self.pointer.map(|pointer| format!("/{member}{pointer}"));
        self
    }

    /// `internal`. What happened is for the log; a client is told nothing of the inside.
    pub(crate) fn defect(cause: impl Into<String>) -> Self {
        let detail = "the node's log says more, under this answer's X-Request-Id";
        Self { cause: Some(cause.into()), ..Self::new(Code::Internal, detail) }
    }

    /// What went wrong.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// What the log has to say of it.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// Adds a field that tells the client what would have been taken.
    pub(crate) fn hint(mut self, name: HeaderName, value: &'static str) -> Self {
        self.hint = Some(Box::new((name, value)));
        self
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// The version at which the document is, where that is why.
    pub(crate) fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// The problem document.
    pub(crate) fn document(&self) -> Document<'_> {
        let meaning = self.code.meaning();
        let place = |pointer| [Place { pointer, detail: &self.detail }];
        Document {
            r#type: format!("urn:tombolo:error:{}", meaning.name),
            title: meaning.title,
            status: meaning.status,
            detail: &self.detail,
            code: meaning.name,
            errors: self.pointer.as_deref().map(place),
        }
    }

    /// The answer.
    pub(crate) fn into_response(self) -> Response<Body> {
        let meaning = self.code.meaning();
        let body = serde_json::to_vec(&self.document()).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(version) = &self.version {
            headers.insert(version::VERSION, version::to_list(version));
        }
        if let Some(seconds) = meaning.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(u16::from(seconds)));
        }
        if let Some(hint) = self.hint {
            let (name, value) = *hint;
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        Self::new(Code::BadKey, error.to_string())
    }
}

impl From<PeerNameError> for Problem {
    fn from(error: PeerNameError) -> Self {
        Self::new(Code::BadPeer, error.to_string())
    }
}

impl From<PeerError> for Problem {
    fn from(error: PeerError) -> Self {
        let text = error.to_string();
        match error {
            PeerError::Url(_) | PeerError::SameUrl(_) => Self::peer("/url", text),
            PeerError::Collection { index, .. } => {
                Self::peer(&format!("/collections/{index}"), text)
            }
            PeerError::NoCollection | PeerError::ManyCollections => {
                Self::peer("/collections", text)
            }
            PeerError::NeedsSecret(_) => Self::new(Code::Forbidden, text),
            PeerError::Configured => Self::new(Code::PeerConfigured, text),
            PeerError::TooMany => Self::new(Code::TooManyPeers, text),
            PeerError::Node(error) => error.into(),
        }
    }
}

impl From<RefusalKind> for Code {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::BadJson => Self::BadJson,
            RefusalKind::DuplicateKey => Self::DuplicateKey,
            RefusalKind::TooDeep => Self::TooDeep,
            RefusalKind::RootMustBeObject => Self::RootMustBeObject,
            RefusalKind::BadPatch => Self::BadPatch,
            RefusalKind::BadPointer => Self::BadPointer,
            RefusalKind::WrongType => Self::WrongType,
            RefusalKind::PatchTestFailed => Self::PatchTestFailed,
            RefusalKind::TooLarge | RefusalKind::Heavy => Self::TooLarge,
            RefusalKind::BadChanges => Self::BadChanges,
            RefusalKind::Broken => Self::QuarantinedChanges,
            RefusalKind::VersionNotFound => Self::VersionNotFound,
            RefusalKind::Internal => Self::Internal,
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        if refusal.kind == RefusalKind::Internal {
            return Self::defect(refusal.detail);
        }
        let mut problem = Self::new(refusal.kind.into(), refusal.detail);
        problem.pointer = refusal.pointer;
        problem
    }
}

impl From<node::Error> for Problem {
    fn from(error: node::Error) -> Self {
        let text = error.to_string();
        match error {
            node::Error::Refused(refusal) => refusal.into(),
            node::Error::Internal(cause) => Self::defect(cause),
            node::Error::NotFound => {
                Self::new(Code::DocumentNotFound, "nothing was ever written under this key")
            }
            node::Error::Deleted(version) => {
                let detail = "`at` reads what it was before, and a write brings it back";
                Self { version: Some(version), ..Self::new(Code::DocumentDeleted, detail) }
            }
            node::Error::VersionNotFound => {
                Self::new(Code::VersionNotFound, "not all changes that it names are here")
            }
            node::Error::PreconditionFailed(version) => {
                let detail = match version {
                    Some(_) => "it is at the version of this answer: read it again",
                    None => "it does not exist",
                };
                Self { version, ..Self::new(Code::PreconditionFailed, detail) }
            }
            node::Error::AnotherRequest => Self::new(Code::IdempotencyMismatch, text),
            node::Error::ReadOnly(_) => Self::new(Code::ReadOnly, text),
            node::Error::DiskFull => Self::new(Code::DiskFull, text),
            node::Error::Stalled | node::Error::WritesStopped => {
                Self::new(Code::WriteStalled, text)
            }
            node::Error::Damaged(what) => {
                Self { cause: Some(what.clone()), ..Self::new(Code::Quarantined, what) }
            }
            node::Error::CursorGone => Self::new(Code::CursorGone, text),
            node::Error::Stopping => Self::new(Code::NotReady, text),
            node::Error::Elsewhere(_) => Self::new(Code::DocumentElsewhere, text),
            node::Error::TooManyCollections => Self::new(Code::TooLarge, text),
        }
    }
}

/// A refusal as JSON (RFC 9457).
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<[Place<'a>; 1]>,
}

#[derive(Debug, Serialize)]
struct Place<'a> {
    pointer: &'a str,
    detail: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_table_has_valid_rows_with_names_of_their_own() {
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(code.status().as_u16(), code.meaning().status, "{code:?}");
        }
    }

    #[test]
    fn a_deleted_document_answers_its_version() {
        let version: Version = "ab".repeat(32).parse().unwrap();
        let response = Problem::from(node::Error::Deleted(version)).into_response();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["version"], format!("\"{}\"", "ab".repeat(32)));
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }

    #[test]
    fn time_helps_against_a_stall_and_not_against_a_broken_disk() {
        let retry = |error: node::Error| {
            Problem::from(error).into_response().headers().get(header::RETRY_AFTER).cloned()
        };
        assert!(retry(node::Error::Stalled).is_some());
        assert!(retry(node::Error::WritesStopped).is_some());
        assert!(retry(node::Error::DiskFull).is_some());
        assert!(retry(node::Error::VersionNotFound).is_some());
        assert!(retry(node::Error::ReadOnly("fsync failed".into())).is_none());
    }
}
