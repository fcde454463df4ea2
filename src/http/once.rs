//! `Idempotency-Key`: a request that is made again is answered as it was, and done once.
//!
//! Which request it is, follows from who asks, how, for which document, and the key; what it asks for,
//! from the fields and the body. Both are hashed: the answer is kept by the node, not the request.

use super::{
    prefer,
    problem::{Code, Problem},
    version,
};
use crate::{
    ident::{Key, Name},
    node::Once,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use sfv::{BareItem, Item, Parser};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest key.
const BYTES_MAX: usize = 255;
/// Nobody is told apart yet.
const TOKEN: &[u8] = b"";

/// What a client calls one request, however often it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdempotencyKey(Box<str>);

impl IdempotencyKey {
    /// From the header field: a string of RFC 9651, or the same text bare, as many clients send it.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let refused =
            || Problem::header(&IDEMPOTENCY_KEY, "one, of 1 to 255 visible ASCII letters");
        let mut lines = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(line) = lines.next() else { return Ok(None) };
        let text = line.to_str().ok().map(str::trim).filter(|_| lines.next().is_none());
        let text = text.ok_or_else(refused)?;
        let key = match text.strip_prefix('"') {
            None => Self::parse(text),
            Some(_) => match Parser::new(text).parse::<Item>() {
                Ok(Item { bare_item: BareItem::String(text), .. }) => Self::parse(text.as_str()),
                Ok(_) | Err(_) => None,
            },
        };
        key.map(Some).ok_or_else(refused)
    }

    /// From its letters.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        (visible && (1..=BYTES_MAX).contains(&text.len())).then(|| Self(text.into()))
    }

    /// The key of the document that a request without one makes: on every node the same. A UUID of
    /// version 8, so that no fresh key and no document id is like it.
    pub(crate) fn document_key(&self) -> Result<Key, Problem> {
        let hash = hash(b"tombolo/key/v1", &[TOKEN, self.0.as_bytes()]);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        let text = uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string();
        text.parse().map_err(|_| Problem::new(Code::Internal, "a UUID is no key"))
    }

    /// The request that does something to a document. `parts` is all that it asks for.
    pub(crate) fn once(&self, verb: &str, name: &Name, parts: &[&[u8]]) -> Once {
        let (collection, key) = (name.collection().as_str(), name.key().as_str());
        let who =
            [TOKEN, verb.as_bytes(), collection.as_bytes(), key.as_bytes(), self.0.as_bytes()];
        Once { name: hash(b"tombolo/once/v1", &who), asked: hash(b"tombolo/asked/v1", parts) }
    }

    /// The request of these fields and this body.
    pub(crate) fn request(
        &self,
        verb: &str,
        name: &Name,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Once {
        let fields = [
            header::CONTENT_TYPE,
            version::PARENTS,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            prefer::MESSAGE,
        ];
        let mut parts = vec![body];
        for field in &fields {
            parts.push(field.as_str().as_bytes());
            parts.extend(headers.get_all(field).iter().map(HeaderValue::as_bytes));
        }
        self.once(verb, name, &parts)
    }
}

/// A hash of parts, each of which is told apart from the next.
fn hash(purpose: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(purpose);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_string_or_bare_and_bounded() {
        let (fits, long) = ("k".repeat(255), "k".repeat(256));
        for (lines, expected) in [
            (&[][..], Ok(None)),
            (&["8e03978e-40d5"], Ok(Some("8e03978e-40d5"))),
            (&["\"8e03978e-40d5\""], Ok(Some("8e03978e-40d5"))),
            (&[" \"a\\\"b\" "], Ok(Some("a\"b"))),
            (&[&fits], Ok(Some(&*fits))),
            (&[&long], Err(())),
            (&[""], Err(())),
            (&["\"\""], Err(())),
            (&["\"a"], Err(())),
            (&["\"a b\""], Err(())),
            (&["a b"], Err(())),
            (&["é"], Err(())),
            (&["a", "a"], Err(())),
        ] {
            let headers =
                lines.iter().map(|line| (IDEMPOTENCY_KEY, line.parse().unwrap())).collect();
            let expected = expected.map(|key| key.and_then(IdempotencyKey::parse));
            assert_eq!(IdempotencyKey::of(&headers).map_err(drop), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_key_of_a_document_is_the_same_on_every_node() {
        let key = |text| IdempotencyKey::parse(text).unwrap().document_key().unwrap();
        assert_eq!(key("a").as_str(), "a91a5e6d-00f0-8286-9218-ae7beee1fc2c");
        assert_ne!(key("a"), key("b"));
    }

    #[test]
    fn every_part_tells_requests_apart() {
        let name = |key: &str| Name::new("notes".parse().unwrap(), key.parse().unwrap()).unwrap();
        let key = IdempotencyKey::parse("k").unwrap();
        let fields = |lines: &[(HeaderName, &str)]| -> HeaderMap {
            lines.iter().map(|(name, line)| (name.clone(), line.parse().unwrap())).collect()
        };
        let none = fields(&[]);
        let first = key.request("PATCH", &name("a"), &none, b"{}");
        assert_eq!(first, key.request("PATCH", &name("a"), &none, b"{}"));
        for other in [
            key.request("POST", &name("a"), &none, b"{}"),
            key.request("PATCH", &name("b"), &none, b"{}"),
            IdempotencyKey::parse("l").unwrap().request("PATCH", &name("a"), &none, b"{}"),
        ] {
            assert_ne!(other.name, first.name);
            assert_eq!(other.asked, first.asked);
        }
        for (headers, body) in [
            (none, b"[]"),
            (fields(&[(header::CONTENT_TYPE, "x")]), b"{}"),
            (fields(&[(version::PARENTS, "")]), b"{}"),
            (fields(&[(header::IF_MATCH, "*")]), b"{}"),
            (fields(&[(header::IF_NONE_MATCH, "*")]), b"{}"),
            (fields(&[(prefer::MESSAGE, "m")]), b"{}"),
        ] {
            let other = key.request("PATCH", &name("a"), &headers, body);
            assert_eq!(other.name, first.name);
            assert_ne!(other.asked, first.asked, "{headers:?}");
        }
    }
}
