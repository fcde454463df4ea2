//! `Prefer` (RFC 7240) and what clients tell with a write for people.

use super::problem::Problem;
use axum::http::{HeaderMap, HeaderName};
use std::time::Duration;

/// What a client would rather have.
pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");
/// What it got of it.
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// What a client tells of a change.
pub(crate) const MESSAGE: HeaderName = HeaderName::from_static("tombolo-message");

/// Longest message of a change, in bytes of UTF-8.
const MESSAGE_BYTES_MAX: usize = 1024;
/// What messages of the system begin with.
const SYSTEM: &str = "tombolo:";

/// What a write is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Return {
    /// What the write did.
    Summary,
    /// The document: `return=representation`.
    Representation,
}

/// What `Prefer` says of the answer. Preferences that are not understood are passed over.
pub(crate) fn wanted(headers: &HeaderMap) -> Return {
    match preference(headers, "return") {
        Some("representation") => Return::Representation,
        _ => Return::Summary,
    }
}

/// How long `Prefer` lets the answer wait for what is not here yet; `None`: not at all.
pub(crate) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let seconds = preference(headers, "wait")?.parse().ok()?;
    Some(Duration::from_secs(seconds)).filter(|wait| !wait.is_zero())
}

/// By how many peers `Prefer` wants a write to be held before it is answered; `None`: by none.
pub(crate) fn replicate(headers: &HeaderMap) -> Option<usize> {
    preference(headers, "replicate")?.parse().ok().filter(|count| *count != 0)
}

/// The value of a preference, where it first stands.
fn preference<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(PREFER)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|preference| preference.split(';').next()?.split_once('='))
        .find(|(named, _)| named.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().trim_matches('"'))
}

/// `Tombolo-Message`, percent-decoded.
pub(crate) fn message(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let refused = |detail| Problem::header(&MESSAGE, detail);
    let mut lines = headers.get_all(MESSAGE).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(refused("at most one"));
    }
    let text = super::extract::percent_decode(line.as_bytes())
        .ok_or_else(|| refused("UTF-8, percent-encoded"))?;
    check_message(&text).map_err(refused)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Says why a text is no message of a change, if it is none.
pub(crate) fn check_message(text: &str) -> Result<(), &'static str> {
    if MESSAGE_BYTES_MAX < text.len() {
        return Err("at most 1,024 bytes");
    }
    if text.starts_with(SYSTEM) {
        return Err("messages that begin with `tombolo:` are the system's");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_representation_is_sent_only_if_asked_for() {
        for (prefer, wanted_return) in [
            ("return=representation", Return::Representation),
            ("wait=3, Return=\"representation\"; foo", Return::Representation),
            ("return=minimal", Return::Summary),
            ("return=minimal, return=representation", Return::Summary),
            ("respond-async", Return::Summary),
        ] {
            let headers = [(PREFER, prefer.parse().unwrap())].into_iter().collect();
            assert_eq!(wanted(&headers), wanted_return, "{prefer}");
        }
    }

    #[test]
    fn a_wait_is_a_number_of_seconds() {
        for (prefer, seconds) in [
            ("wait=3", Some(3)),
            ("return=minimal, Wait=\"10\"; x=1", Some(10)),
            ("wait=0", None),
            ("wait=-1", None),
            ("wait=1.5", None),
            ("wait", None),
            ("return=representation", None),
        ] {
            let headers = [(PREFER, prefer.parse().unwrap())].into_iter().collect();
            assert_eq!(wait(&headers).map(|wait| wait.as_secs()), seconds, "{prefer}");
        }
    }

    #[test]
    fn a_message_is_decoded_and_bounded() {
        let (fits, long) = ("%61".repeat(1024), "a".repeat(1025));
        for (line, expected) in [
            ("gr%C3%BC%C3%9Fe", Ok(Some("grüße"))),
            ("", Ok(None)),
            ("a+b", Ok(Some("a+b"))),
            ("tombolo", Ok(Some("tombolo"))),
            (&fits, Ok(Some(&*"a".repeat(1024)))),
            (&long, Err(())),
            ("tombolo:delete", Err(())),
            ("%74ombolo:delete", Err(())),
            ("%ff", Err(())),
            ("%4", Err(())),
        ] {
            let headers = [(MESSAGE, line.parse().unwrap())].into_iter().collect();
            let found = message(&headers).map_err(drop);
            assert_eq!(found.as_ref().map(Option::as_deref), expected.as_ref().copied(), "{line}");
        }
    }
}
