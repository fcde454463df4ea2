//! Media types: what a body is (`Content-Type`), and what an answer may be (`Accept`).

use super::{
    coding::Coding,
    problem::{Code, Problem},
};
use crate::{doc::Form, node::Representation};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Plain JSON.
pub(crate) const JSON: &str = "application/json";
/// JSON that shows types.
pub(crate) const TYPED: &str = "application/vnd.tombolo.typed+json";
/// A saved Automerge document.
pub(crate) const AUTOMERGE: &str = "application/vnd.automerge";
/// One JSON value a line.
pub(crate) const NDJSON: &str = "application/x-ndjson";
/// Server-sent events.
pub(crate) const EVENTS: &str = "text/event-stream";
/// Any bytes.
pub(crate) const OCTETS: &str = "application/octet-stream";
/// Another name of lines of JSON.
const JSONL: &str = "application/jsonl";
const MERGE_PATCH: &str = "application/merge-patch+json";
/// RFC 6902.
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";

const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const PATCHES: &str = "application/merge-patch+json, application/json-patch+json";

/// A patch, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchKind {
    /// RFC 7396.
    Merge,
    /// RFC 6902, and more.
    Json,
}

/// The form of a body that is a whole value; no type at all means JSON.
pub(crate) fn value(headers: &HeaderMap) -> Result<Form, Problem> {
    let refused = || {
        let detail = format!("the body is {JSON} or {TYPED}");
        Problem::new(Code::UnsupportedMediaType, detail)
    };
    let Some(kind) = content_type(headers)? else { return Ok(Form::Plain) };
    let (essence, _) = split(kind);
    match essence {
        _ if essence.eq_ignore_ascii_case(JSON) => Ok(Form::Plain),
        _ if essence.eq_ignore_ascii_case(TYPED) => Ok(Form::Typed),
        _ => Err(refused()),
    }
}

/// The kind and form of a body that is a patch. The parameter `typed` makes it typed.
pub(crate) fn patch(headers: &HeaderMap) -> Result<(PatchKind, Form), Problem> {
    let refused = || {
        Problem::new(Code::UnsupportedMediaType, "a patch names its kind in Content-Type")
            .hint(ACCEPT_PATCH, PATCHES)
    };
    let kind = content_type(headers)?.ok_or_else(refused)?;
    let (essence, parameters) = split(kind);
    let kind = match essence {
        _ if essence.eq_ignore_ascii_case(MERGE_PATCH) => PatchKind::Merge,
        _ if essence.eq_ignore_ascii_case(JSON_PATCH) => PatchKind::Json,
        _ => return Err(refused()),
    };
    let typed = parameters.split(';').any(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, "true"));
        name.trim().eq_ignore_ascii_case("typed") && value.trim().trim_matches('"') == "true"
    });
    Ok((kind, if typed { Form::Typed } else { Form::Plain }))
}

/// Refuses a body that is not what Automerge writes; no type at all means that it is.
pub(crate) fn check_automerge(headers: &HeaderMap) -> Result<(), Problem> {
    let detail = format!("the body is {AUTOMERGE}: curl -H 'Content-Type: {AUTOMERGE}'");
    check(headers, &[AUTOMERGE, OCTETS], detail)
}

/// Refuses a body that is not JSON; no type at all means that it is.
pub(crate) fn check_json(headers: &HeaderMap) -> Result<(), Problem> {
    check(headers, &[JSON], format!("the body is {JSON}: curl --json '{{…}}'"))
}

/// Refuses a body that is not JSON, one value a line; no type at all means that it is.
pub(crate) fn check_lines(headers: &HeaderMap) -> Result<(), Problem> {
    let detail = format!("the body is {NDJSON} or {JSONL}: curl -H 'Content-Type: {NDJSON}'");
    check(headers, &[NDJSON, JSONL], detail)
}

/// Refuses a body that names a type, and none of these.
fn check(headers: &HeaderMap, taken: &[&str], detail: String) -> Result<(), Problem> {
    let is_taken = content_type(headers)?.is_none_or(|kind| {
        let (essence, _) = split(kind);
        taken.iter().any(|taken| essence.eq_ignore_ascii_case(taken))
    });
    if is_taken { Ok(()) } else { Err(Problem::new(Code::UnsupportedMediaType, detail)) }
}

/// The body's type, if it names one; a coding that we do not undo is refused.
fn content_type(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    Coding::of_body(headers)?;
    let unreadable = |_| Problem::new(Code::UnsupportedMediaType, "Content-Type is not readable");
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str).transpose();
    kind.map_err(unreadable)
}

/// A media type, and its parameters as one text.
fn split(kind: &str) -> (&str, &str) {
    let (essence, parameters) = kind.split_once(';').unwrap_or((kind, ""));
    (essence.trim(), parameters)
}

/// The representation that a client wants a document in.
pub(crate) fn representation(headers: &HeaderMap) -> Result<Representation, Problem> {
    const OFFERS: &[&str] = &[JSON, TYPED, AUTOMERGE];
    Ok(match choose(headers, OFFERS)? {
        TYPED => Representation::Json(Form::Typed),
        AUTOMERGE => Representation::Automerge,
        _ => Representation::Json(Form::Plain),
    })
}

/// The media type of a representation.
pub(crate) const fn of(representation: Representation) -> &'static str {
    match representation {
        Representation::Json(Form::Plain) => JSON,
        Representation::Json(Form::Typed) => TYPED,
        Representation::Automerge => AUTOMERGE,
    }
}

/// The offer that `Accept` likes best; the first of equals.
pub(crate) fn choose(
    headers: &HeaderMap,
    offers: &[&'static str],
) -> Result<&'static str, Problem> {
    let refused =
        || Problem::new(Code::NotAcceptable, format!("what can be sent: {}", offers.join(", ")));
    let first = offers.first().copied().ok_or_else(refused)?;
    let mut lines = headers.get_all(header::ACCEPT).iter().peekable();
    // What nearly every client sends needs no parsing.
    match lines.peek().map(|line| line.as_bytes()) {
        None | Some(b"*/*" | b"") => return Ok(first),
        Some(_) => {}
    }
    let ranges: Vec<Range<'_>> = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(Range::parse)
        .collect();
    let mut best = None;
    for offer in offers {
        let liking = ranges
            .iter()
            .filter_map(|range| range.precision(offer).map(|precision| (precision, range.quality)))
            .max_by_key(|(precision, _)| *precision)
            .map_or(0, |(_, quality)| quality);
        if best.map_or(0, |(most, _)| most) < liking {
            best = Some((liking, *offer));
        }
    }
    best.map(|(_, offer)| offer).ok_or_else(refused)
}

/// One media range of `Accept`.
#[derive(Debug, Clone, Copy)]
struct Range<'a> {
    essence: &'a str,
    /// Thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    /// A range; `None` for what is none, which says nothing.
    fn parse(text: &'a str) -> Option<Self> {
        let (essence, parameters) = split(text);
        // Older clients write the one star for both.
        let essence = if essence == "*" { "*/*" } else { essence };
        essence.split_once('/')?;
        let quality = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| quality(value.trim()))
        });
        Some(Self { essence, quality: quality.unwrap_or(1000) })
    }

    /// How precisely the range names a type; `None` if it does not.
    fn precision(&self, kind: &str) -> Option<u8> {
        if self.essence.eq_ignore_ascii_case(kind) {
            return Some(2);
        }
        let (family, member) = self.essence.split_once('/')?;
        let (kind_family, _) = kind.split_once('/')?;
        match (family, member) {
            ("*", "*") => Some(0),
            (_, "*") if family.eq_ignore_ascii_case(kind_family) => Some(1),
            _ => None,
        }
    }
}

/// A weight in thousandths; what is no weight counts as none. Clients are known to leave out the
/// zero before the point, and to write more than three digits.
pub(super) fn quality(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let valid = fraction.bytes().all(|byte| byte.is_ascii_digit());
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    let thousandths = digits.fold(0, |sum, byte| sum * 10 + u16::from(byte.wrapping_sub(b'0')));
    match whole {
        "1" if valid && fraction.bytes().all(|byte| byte == b'0') => 1000,
        "0" if valid => thousandths,
        "" if valid && !fraction.is_empty() => thousandths,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), line.parse().unwrap())).collect()
    }

    #[test]
    fn the_best_liked_representation_is_chosen() {
        for (accept, chosen) in [
            (&[][..], Some(JSON)),
            (&["*/*"], Some(JSON)),
            (&["application/json"], Some(JSON)),
            (&["Application/JSON; charset=utf-8"], Some(JSON)),
            (&["application/*"], Some(JSON)),
            (&[TYPED], Some(TYPED)),
            (&["application/vnd.automerge, */*;q=0.1"], Some(AUTOMERGE)),
            (&["application/json;q=0.5, application/vnd.automerge;q=0.6"], Some(AUTOMERGE)),
            (&["application/json;q=0.5", "application/vnd.automerge; Q=0.501"], Some(AUTOMERGE)),
            (&["application/json;q=0, */*"], Some(TYPED)),
            (&["*/*;q=0.1, application/json;q=0.01"], Some(TYPED)),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], Some(JSON)),
            (&["text/html"], None),
            (&["text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"], Some(JSON)),
            (&["application/json;q=1.0000"], Some(JSON)),
            (&[""], Some(JSON)),
            (&["*/*;q=0"], None),
            (&["*/*;q=."], None),
            (&["application/json;q=2"], None),
            (&["json"], None),
        ] {
            let found = representation(&headers(&header::ACCEPT, accept)).map(of);
            assert_eq!(found.ok(), chosen, "{accept:?}");
        }
    }

    #[test]
    fn a_body_without_a_type_is_json() {
        for (kind, form) in [
            (&[][..], Some(Form::Plain)),
            (&["application/json"], Some(Form::Plain)),
            (&["APPLICATION/json;charset=utf-8"], Some(Form::Plain)),
            (&["application/vnd.tombolo.typed+json"], Some(Form::Typed)),
            (&["text/plain"], None),
            (&["application/x-www-form-urlencoded"], None),
            (&[""], None),
        ] {
            assert_eq!(value(&headers(&header::CONTENT_TYPE, kind)).ok(), form, "{kind:?}");
        }
    }

    #[test]
    fn a_patch_names_its_kind() {
        use PatchKind::{Json, Merge};
        for (kind, expected) in [
            ("application/merge-patch+json", Some((Merge, Form::Plain))),
            ("application/merge-patch+json;typed", Some((Merge, Form::Typed))),
            ("application/json-patch+json; charset=utf-8; typed", Some((Json, Form::Typed))),
            ("application/json-patch+json; typed=true", Some((Json, Form::Typed))),
            ("application/json-patch+json; typed=false", Some((Json, Form::Plain))),
            ("application/json", None),
        ] {
            let found = patch(&headers(&header::CONTENT_TYPE, &[kind]));
            assert_eq!(found.ok(), expected, "{kind}");
        }
        let refused = patch(&HeaderMap::new()).unwrap_err().into_response();
        assert_eq!(refused.headers()["accept-patch"], PATCHES);
    }
}
