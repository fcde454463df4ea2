//! Versions as users paste them: out of a URL, of a `Version` field, or of an `ETag`.

use crate::ident::{Version, VersionError};
use sfv::{BareItem, Item, List, ListEntry, Parser};

/// What an entity tag says after the version if it is not of the plain JSON.
const SUFFIXES: [&str; 2] = [";t", ";a"];

/// Why a text names no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a version is one or more times 64 lower-case hex digits joined by `.`, or a field `Version` \
     or `ETag` as a node gave it"
)]
pub(crate) struct NoVersion;

/// The version that a text names: `hash.hash`, `"hash", "hash"` or `"hash.hash"`, the last one
/// with or without the suffix of a representation. The empty text names the version that saw
/// nothing, which is what an empty `Parents` field says.
pub(crate) fn version(text: &str) -> Result<Version, NoVersion> {
    let text = text.trim();
    let named = if text.starts_with('"') { quoted(text) } else { joined(text) };
    named.ok_or(NoVersion)
}

/// Quoted strings: one tag, or a hash in each.
fn quoted(text: &str) -> Option<Version> {
    let list: List = Parser::new(text).parse().ok()?;
    let strings: Vec<&str> = list.iter().map(string).collect::<Option<_>>()?;
    match strings[..] {
        [""] => None,
        [tag] => joined(tag),
        _ => strings.into_iter().map(str::parse).collect::<Result<_, VersionError>>().ok(),
    }
}

fn string(entry: &ListEntry) -> Option<&str> {
    match entry {
        ListEntry::Item(Item { bare_item: BareItem::String(text), params })
            if params.is_empty() =>
        {
            Some(text.as_str())
        }
        ListEntry::Item(_) | ListEntry::InnerList(_) => None,
    }
}

/// Hashes joined by `.`, and what may follow them in a tag.
fn joined(text: &str) -> Option<Version> {
    let bare = SUFFIXES.iter().find_map(|suffix| text.strip_suffix(suffix));
    bare.filter(|bare| !bare.is_empty()).unwrap_or(text).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_version_names_it() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let both: Version = format!("{a}.{b}").parse().unwrap();
        for text in [
            format!("{a}.{b}"),
            format!("{b}.{a};a"),
            format!(" {a}.{b}\n"),
            format!("\"{a}\", \"{b}\""),
            format!("\"{b}\",\"{a}\""),
            format!("\"{a}.{b}\""),
            format!("\"{a}.{b};t\""),
            format!("\"{a}.{b};a\""),
        ] {
            assert_eq!(version(&text).as_ref(), Ok(&both), "{text}");
        }
        let one = a.parse().unwrap();
        assert_eq!(version(&format!("\"{a}\"")), Ok(one));
        assert_eq!(version(""), Ok(Version::empty()));
    }

    #[test]
    fn what_names_no_version_is_refused() {
        let a = "a".repeat(64);
        for text in [
            "x".to_owned(),
            ";t".to_owned(),
            "\"\"".to_owned(),
            "\";t\"".to_owned(),
            "*".to_owned(),
            a.to_uppercase(),
            format!("{a}, {a}"),
            format!("W/\"{a}\""),
            format!("\"{a}\";t"),
            format!("\"{a}\" \"{a}\""),
            format!("\"{a}\", \"{a}"),
            format!("\"{a}\", \"{a}.{a}\""),
            format!("\"{a};t\", \"{a}\""),
            format!("(\"{a}\")"),
            format!("\"{a};x\""),
        ] {
            assert_eq!(version(&text), Err(NoVersion), "{text}");
        }
    }
}
