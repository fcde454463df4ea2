//! Versions in header fields: `Version`, `Parents`, `ETag`, `If-Match`, `If-None-Match`.

use super::{
    Api,
    coding::Coding,
    problem::{Code, Problem},
    reply,
};
use crate::{
    doc::Form,
    ident::{Hash, Name, Version},
    node::{Precondition, Representation},
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use sfv::{BareItem, Item, List, ListEntry, Parser};
use std::fmt::Write as _;

/// What an answer holds.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("version");
/// What a client has seen.
pub(crate) const PARENTS: HeaderName = HeaderName::from_static("parents");

/// Room for one hash with its quotes, a separator and a suffix.
const HASH_TEXT: usize = 72;

/// A version as a list of strings (RFC 9651).
pub(crate) fn to_list(version: &Version) -> HeaderValue {
    let mut text = String::with_capacity(HASH_TEXT * version.hashes().len());
    for (index, hash) in version.hashes().iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        // Writing to a String does not fail.
        let _ = write!(text, "{separator}\"{hash}\"");
    }
    reply::value(text)
}

/// The strong entity tag of a version in a representation.
pub(crate) fn to_etag(version: &Version, representation: Representation) -> HeaderValue {
    let suffix = match representation {
        Representation::Json(Form::Plain) => "",
        Representation::Json(Form::Typed) => ";t",
        Representation::Automerge => ";a",
    };
    let mut text = String::with_capacity(HASH_TEXT * version.hashes().len().max(1));
    let _ = write!(text, "\"{version}{suffix}\"");
    reply::value(text)
}

/// `Parents`: absent, or a version. A present but empty field is the version that saw nothing.
pub(crate) fn parents(headers: &HeaderMap) -> Result<Option<Version>, Problem> {
    if !headers.contains_key(&PARENTS) {
        return Ok(None);
    }
    let refused = || Problem::header(&PARENTS, "a list of strings, each 64 lower-case hex digits");
    let lines = lines(headers, &PARENTS);
    let list: List = Parser::new(&lines).parse().map_err(|_| refused())?;
    let hash = |entry: ListEntry| match entry {
        ListEntry::Item(Item { bare_item: BareItem::String(text), .. }) => {
            text.as_str().parse::<Hash>().map_err(|_| refused())
        }
        ListEntry::Item(_) | ListEntry::InnerList(_) => Err(refused()),
    };
    list.into_iter().map(hash).collect::<Result<_, _>>().map(Some)
}

/// Whether what is read of a document includes the version that `Parents` names, if it names one.
///
/// # Errors
/// `VersionNotFound`, `BadHeader`.
pub(crate) async fn check_parents(
    api: &Api,
    headers: &HeaderMap,
    name: &Name,
) -> Result<(), Problem> {
    let Some(version) = parents(headers)? else { return Ok(()) };
    api.within(Code::NotReady, api.node().check_includes(name, version)).await
}

/// The lines of a list field as one; empty lines add nothing.
fn lines(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    let mut joined = Vec::new();
    for line in headers.get_all(name) {
        let line = line.as_bytes().trim_ascii();
        if !joined.is_empty() && !line.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(line);
    }
    joined
}

/// `If-Match` or `If-None-Match`.
#[derive(Debug, PartialEq, Eq)]
enum Tags {
    /// `*`
    Any,
    /// Entity tags, weak or strong.
    List(Vec<Tag>),
}

#[derive(Debug, PartialEq, Eq)]
struct Tag {
    weak: bool,
    /// What stands between the quotes.
    opaque: Box<str>,
}

impl Tag {
    /// The tag of the same representation without a content coding.
    fn uncoded(&self) -> &str {
        Coding::ALL
            .iter()
            .find_map(|coding| self.opaque.strip_suffix(coding.tag_suffix()))
            .unwrap_or(&self.opaque)
    }

    /// The version that the tag names in any representation; `None` if it is no tag of ours.
    fn version(&self) -> Option<Version> {
        let tag = self.uncoded();
        let text = tag.strip_suffix(";t").or_else(|| tag.strip_suffix(";a"));
        text.unwrap_or(tag).parse().ok().filter(|version: &Version| !version.is_empty())
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Problem> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let refused = || Problem::header(name, "a list of quoted entity tags, or `*`");
    let lines = lines(headers, name);
    let text = std::str::from_utf8(&lines).map_err(|_| refused())?;
    if text == "*" {
        return Ok(Some(Tags::Any));
    }
    let mut tags = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            break;
        }
        let (tag, after) = tag(rest).ok_or_else(refused)?;
        tags.push(tag);
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return Err(refused());
        }
    }
    if tags.is_empty() { Err(refused()) } else { Ok(Some(Tags::List(tags))) }
}

/// The entity tag that a text begins with, and what follows it.
fn tag(text: &str) -> Option<(Tag, &str)> {
    let (weak, text) = text.strip_prefix("W/").map_or((false, text), |text| (true, text));
    let (opaque, rest) = text.strip_prefix('"')?.split_once('"')?;
    let valid = opaque.bytes().all(|byte| byte == b'!' || 0x23 <= byte && byte != 0x7f);
    valid.then(|| (Tag { weak, opaque: opaque.into() }, rest))
}

/// What a read that may be answered without a body holds already.
#[derive(Debug, Default)]
pub(crate) struct Validators {
    matches: Option<Tags>,
    none_matches: Option<Tags>,
}

/// What the validators make of a read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer it.
    Send,
    /// 304, with this tag: the client's own, since a cache mends only what it has under that.
    NotModified(HeaderValue),
    /// 412
    Failed,
}

impl Validators {
    /// From the fields of a GET or HEAD.
    pub(crate) fn parse(headers: &HeaderMap) -> Result<Self, Problem> {
        let matches = tags(headers, &header::IF_MATCH)?;
        Ok(Self { matches, none_matches: tags(headers, &header::IF_NONE_MATCH)? })
    }

    /// Compares with what would be sent: `If-Match` by version and strongly, `If-None-Match` by the
    /// tag and weakly, since a proxy that compresses weakens the tags it passes on. Content codings
    /// make no difference: whoever holds the state in one of them holds it.
    pub(crate) fn judge(&self, version: &Version, etag: &HeaderValue) -> Verdict {
        match &self.matches {
            None | Some(Tags::Any) => {}
            Some(Tags::List(tags)) => {
                let hit = |tag: &Tag| !tag.weak && tag.version().as_ref() == Some(version);
                if !tags.iter().any(hit) {
                    return Verdict::Failed;
                }
            }
        }
        match &self.none_matches {
            None => Verdict::Send,
            Some(Tags::Any) => Verdict::NotModified(etag.clone()),
            Some(Tags::List(tags)) => {
                let quoted = etag.as_bytes();
                let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
                let held = tags.iter().find(|tag| tag.uncoded().as_bytes() == inner);
                let strong = |tag: &Tag| reply::value(format!("\"{}\"", tag.opaque));
                held.map_or(Verdict::Send, |tag| Verdict::NotModified(strong(tag)))
            }
        }
    }
}

/// How a write stands to what its client has seen: the base, or a precondition, or neither.
pub(crate) fn basis(headers: &HeaderMap) -> Result<(Option<Version>, Precondition), Problem> {
    let base = parents(headers)?;
    let matches = tags(headers, &header::IF_MATCH)?;
    let none_matches = tags(headers, &header::IF_NONE_MATCH)?;
    match (base, matches, none_matches) {
        (base, None, None) => Ok((base, Precondition::None)),
        (None, Some(tags), None) => expected(tags).map(|expected| (None, expected)),
        (None, None, Some(Tags::Any)) => Ok((None, Precondition::Absent)),
        (None, None, Some(Tags::List(_))) => {
            Err(Problem::header(&header::IF_NONE_MATCH, "a write takes `*` alone"))
        }
        (Some(_), ..) => Err(Problem::new(
            Code::BadHeader,
            "Parents asks for a merge, If-Match and If-None-Match for a refusal: send one of them",
        )),
        (None, Some(_), Some(_)) => {
            Err(Problem::new(Code::BadHeader, "If-Match and If-None-Match: send one of them"))
        }
    }
}

fn expected(tags: Tags) -> Result<Precondition, Problem> {
    let Tags::List(tags) = tags else { return Ok(Precondition::Exists) };
    if tags.iter().any(|tag| tag.weak) {
        // RFC 9110 would answer 412, and the client would read and try for ever.
        let detail = "a weak entity tag never matches; send the tag as the node gave it";
        return Err(Problem::header(&header::IF_MATCH, detail));
    }
    // A strong tag that is no version of ours is well formed, and matches nothing.
    Ok(Precondition::VersionIn(tags.iter().filter_map(Tag::version).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(digit: &str) -> String {
        digit.repeat(64)
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn many(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn parents_are_a_list_of_strings_in_any_order_over_any_lines() {
        let (a, b) = (hash("a"), hash("b"));
        let both: Version = format!("{a}.{b}").parse().unwrap();
        let quoted = |hash: &str| format!("\"{hash}\"");
        for lines in [
            vec![format!("\"{b}\", \"{a}\"")],
            vec![format!("\"{b}\",\"{a}\"")],
            vec![quoted(&b), quoted(&a)],
            vec![String::new(), quoted(&b), String::new(), quoted(&a)],
        ] {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            assert_eq!(parents(&many("parents", &lines)).unwrap(), Some(both.clone()), "{lines:?}");
        }
        assert_eq!(to_list(&both), format!("\"{a}\", \"{b}\""));
    }

    #[test]
    fn an_empty_parents_saw_nothing_and_an_absent_one_says_nothing() {
        assert_eq!(parents(&many("parents", &[""])).unwrap(), Some(Version::empty()));
        assert_eq!(parents(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn parents_that_are_no_list_of_hashes_are_refused() {
        let a = hash("a");
        for line in [
            a.clone(),
            format!("\"{a}"),
            format!("(\"{a}\")"),
            format!("\"{a}\","),
            format!("\"{}\"", hash("A")),
            "\"ab\"".into(),
            "\"\"".into(),
            "1".into(),
            "*".into(),
        ] {
            let refused = parents(&many("parents", &[&line])).unwrap_err().into_response();
            assert_eq!(refused.status(), 400, "{line}");
        }
    }

    #[test]
    fn a_tag_names_its_representation() {
        let version: Version = format!("{}.{}", hash("1"), hash("2")).parse().unwrap();
        for (representation, suffix) in [
            (Representation::Json(Form::Plain), ""),
            (Representation::Json(Form::Typed), ";t"),
            (Representation::Automerge, ";a"),
        ] {
            assert_eq!(to_etag(&version, representation), format!("\"{version}{suffix}\""));
        }
    }

    #[test]
    fn preconditions_are_read_as_rfc_9110_writes_them() {
        let (a, b) = (hash("a"), hash("b"));
        let versions = |texts: &[&str]| {
            Precondition::VersionIn(texts.iter().map(|text| text.parse().unwrap()).collect())
        };
        for (name, value, expected) in [
            ("if-match", "*".into(), Some(Precondition::Exists)),
            ("if-none-match", "*".into(), Some(Precondition::Absent)),
            ("if-match", format!("\"{a}\""), Some(versions(&[&a]))),
            ("if-match", format!("\"{b}.{a};t\""), Some(versions(&[&format!("{a}.{b}")]))),
            ("if-match", format!("\"{a};a\" , ,\"{b}\""), Some(versions(&[&a, &b]))),
            ("if-match", "\"of-another-server\"".into(), Some(versions(&[]))),
            ("if-match", "\"no tag\"".into(), None),
            ("if-match", "\"\"".into(), Some(versions(&[]))),
            ("if-match", format!("W/\"{a}\""), None),
            ("if-match", a.clone(), None),
            ("if-match", format!("\"{a}"), None),
            ("if-match", format!("\"{a}\"\"{b}\""), None),
            ("if-match", format!("*, \"{a}\""), None),
            ("if-match", String::new(), None),
            ("if-none-match", format!("\"{a}\""), None),
        ] {
            let found = basis(&headers(&[(name, &value)]));
            assert_eq!(found.ok(), expected.map(|expected| (None, expected)), "{name}: {value}");
        }
    }

    #[test]
    fn a_merge_and_a_refusal_cannot_be_asked_for_at_once() {
        let quoted = format!("\"{}\"", hash("a"));
        for pair in [
            [("parents", quoted.as_str()), ("if-match", quoted.as_str())],
            [("parents", ""), ("if-none-match", "*")],
            [("if-match", "*"), ("if-none-match", "*")],
        ] {
            assert!(basis(&headers(&pair)).is_err(), "{pair:?}");
        }
    }

    #[test]
    fn a_read_is_compared_weakly_with_the_whole_tag() {
        let (a, b) = (hash("a"), hash("b"));
        let version: Version = a.parse().unwrap();
        let typed = to_etag(&version, Representation::Json(Form::Typed));
        let held = |suffix: &str| Verdict::NotModified(reply::value(format!("\"{a}{suffix}\"")));
        for (name, value, verdict) in [
            ("if-none-match", "*".into(), held(";t")),
            ("if-none-match", format!("\"{a};t\""), held(";t")),
            ("if-none-match", format!("\"{a};t;gz\""), held(";t;gz")),
            ("if-none-match", format!("\"{b}\", W/\"{a};t;zst\""), held(";t;zst")),
            ("if-none-match", format!("\"{b}\", W/\"{a};t\""), held(";t")),
            ("if-none-match", format!("\"{a}\""), Verdict::Send),
            ("if-none-match", format!("\"{a};gz\""), Verdict::Send),
            ("if-none-match", format!("\"{a};gz;t\""), Verdict::Send),
            ("if-match", format!("\"{a}\""), Verdict::Send),
            ("if-match", format!("\"{a};zst\""), Verdict::Send),
            ("if-match", format!("\"{a};a;gz\""), Verdict::Send),
            ("if-match", format!("\"{a};gz;gz\""), Verdict::Failed),
            ("if-match", "*".into(), Verdict::Send),
            ("if-match", format!("W/\"{a}\""), Verdict::Failed),
            ("if-match", format!("\"{b}\""), Verdict::Failed),
        ] {
            let validators = Validators::parse(&headers(&[(name, &value)])).unwrap();
            assert_eq!(validators.judge(&version, &typed), verdict, "{name}: {value}");
        }
    }
}
