//! From a row of a file to a line of a bulk write: where its key comes from.

use super::args::Field;
use crate::ident::Collection;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// Bytes of a hash that make a key.
const HASH_BYTES: usize = 8;

/// Makes lines of the rows of one file.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    pub(crate) collection: &'a Collection,
    /// Where keys stand, if somebody said so.
    pub(crate) field: Option<&'a Field>,
    /// The file as it was named.
    pub(crate) file: &'a str,
}

/// A row as `export` writes it; what else it says is this node's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: &'a RawValue,
    #[serde(rename = "version")]
    _version: Option<IgnoredAny>,
    #[serde(rename = "conflicts")]
    _conflicts: Option<IgnoredAny>,
    #[serde(rename = "document")]
    _document: Option<IgnoredAny>,
    #[serde(rename = "collection")]
    _collection: Option<IgnoredAny>,
}

impl Lines<'_> {
    /// Appends the line that writes the row on line `number` of the file; else says what is wrong.
    ///
    /// The row goes as it stands, once it is known to be one JSON value and nothing besides.
    pub(crate) fn append(&self, number: u64, row: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if let Some(field) = self.field {
            let key = key_at(row, &field.0)?;
            self.put(&key, row, out);
            return Ok(());
        }
        match serde_json::from_slice::<Exported<'_>>(row) {
            Ok(row) if row.value.get().starts_with('{') => {
                self.put(&row.key, row.value.get().as_bytes(), out);
            }
            Ok(_) | Err(_) => {
                serde_json::from_slice::<IgnoredAny>(row).map_err(|error| reason(&error))?;
                self.put(&self.derived(number, row), row, out);
            }
        }
        Ok(())
    }

    /// A key that comes out the same whenever the same file is read, and in its order.
    fn derived(&self, number: u64, row: &[u8]) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.file.as_bytes());
        // No file has a zero in its name.
        hasher.update(&[0]);
        hasher.update(row);
        let hash = hasher.finalize();
        let hash = hash.as_bytes()[..HASH_BYTES]
            .iter()
            .fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        format!("{number:010}-{hash:016x}")
    }

    fn put(&self, key: &str, value: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"op":"put","collection":""#);
        // The name of a collection holds nothing that JSON would write otherwise.
        out.extend_from_slice(self.collection.as_str().as_bytes());
        out.extend_from_slice(br#"","key":"#);
        // A string has a JSON form, and memory takes it.
        let _ = serde_json::to_writer(&mut *out, key);
        out.extend_from_slice(br#","value":"#);
        out.extend_from_slice(value);
        out.extend_from_slice(b"}\n");
    }
}

/// What the JSON parser says, without its line: ours is the file's.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(text) => format!("{text}, at byte {}", error.column()),
        None => text,
    }
}

/// The key that stands at a place in a row.
fn key_at(row: &[u8], path: &[String]) -> Result<String, String> {
    let mut json = serde_json::Deserializer::from_slice(row);
    let found = At(path).deserialize(&mut json).map_err(|error| reason(&error))?;
    json.end().map_err(|error| reason(&error))?;
    let place = || path.join("/");
    match found {
        None => Err(format!("there is no {:?} to take the key from", place())),
        Some(Found::Key(key)) => Ok(key),
        Some(Found::Other) => Err(format!("{:?} is no key: no string and no integer", place())),
    }
}

/// What stands at a place, and whether that is there.
struct At<'a>(&'a [String]);

enum Found {
    Key(String),
    Other,
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Found>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl At<'_> {
    /// A value without an inside.
    fn leaf<E>(&self, key: impl FnOnce() -> Option<String>) -> Result<Option<Found>, E> {
        let found = || key().map_or(Found::Other, Found::Key);
        Ok(self.0.is_empty().then(found))
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Found>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        self.leaf(|| Some(text.to_owned()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        self.leaf(|| Some(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        self.leaf(|| Some(number.to_string()))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        self.leaf(|| None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        self.leaf(|| None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        self.leaf(|| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = self.leaf(|| None)?;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match self.0.split_first() {
                Some((first, rest)) if *first == name => found = map.next_value_seed(At(rest))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let found = self.leaf(|| None)?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(field: Option<&str>, row: &str) -> Result<String, String> {
        let field = field.map(|field| field.parse().unwrap());
        let collection = "notes".parse().unwrap();
        let lines = Lines { collection: &collection, field: field.as_ref(), file: "a.json" };
        let mut out = Vec::new();
        lines.append(7, row.as_bytes(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn put(key: &str, value: &str) -> String {
        format!("{{\"op\":\"put\",\"collection\":\"notes\",\"key\":{key},\"value\":{value}}}\n")
    }

    #[test]
    fn a_key_is_named_exported_or_made() {
        let made = "\"0000000007-e05f915376473f04\"";
        for (field, row, expected) in [
            (Some("id"), r#"{"a":[1],"id":"x\"y"}"#, put(r#""x\"y""#, r#"{"a":[1],"id":"x\"y"}"#)),
            (Some("id"), r#"{"id":-7}"#, put("\"-7\"", r#"{"id":-7}"#)),
            (
                Some("id"),
                r#"{"id":18446744073709551615}"#,
                put("\"18446744073709551615\"", r#"{"id":18446744073709551615}"#),
            ),
            (Some("/a/b"), r#"{"a":{"b":"k"}}"#, put("\"k\"", r#"{"a":{"b":"k"}}"#)),
            (Some("/a~1b"), r#"{"a/b":"k"}"#, put("\"k\"", r#"{"a/b":"k"}"#)),
            (Some("\u{e9}"), r#"{"\u00e9":"k"}"#, put("\"k\"", r#"{"\u00e9":"k"}"#)),
            (Some("key"), r#"{"key":"k","value":{}}"#, put("\"k\"", r#"{"key":"k","value":{}}"#)),
            (None, r#"{"key":"k","value":{"a":1.0}}"#, put("\"k\"", r#"{"a":1.0}"#)),
            (
                None,
                r#"{"key":"k","version":["x"],"conflicts":0,"document":"d","value":{}}"#,
                put("\"k\"", "{}"),
            ),
            (None, r#"{"a":1}"#, put(made, r#"{"a":1}"#)),
        ] {
            assert_eq!(line(field, row).as_ref(), Ok(&expected), "{field:?} {row}");
        }
    }

    #[test]
    fn a_row_that_only_looks_exported_is_a_document() {
        for row in [
            r#"{"key":"k"}"#,
            r#"{"key":"k","value":"red"}"#,
            r#"{"key":1,"value":{}}"#,
            r#"{"key":"k","value":{},"more":1}"#,
        ] {
            let line = line(None, row).unwrap();
            assert!(
                line.contains("\"key\":\"0000000007-") && line.ends_with(&format!("{row}}}\n"))
            );
        }
    }

    #[test]
    fn a_made_key_differs_by_line_and_file_and_content() {
        let key = |file: &str, number, row: &str| {
            let collection = "notes".parse().unwrap();
            Lines { collection: &collection, field: None, file }.derived(number, row.as_bytes())
        };
        let keys = [key("a", 1, "{}"), key("b", 1, "{}"), key("a", 2, "{}"), key("a", 1, "{ }")];
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(one), "{one}");
            assert!(one.parse::<crate::ident::Key>().is_ok());
        }
        assert_eq!(keys[0], key("a", 1, "{}"));
    }

    #[test]
    fn what_is_no_row_is_refused_and_never_sent() {
        for (field, row, why) in [
            (None, "{\"a\":}", "expected value, at byte 6"),
            (None, r#"{"a":1},"op":"delete""#, "trailing characters, at byte 8"),
            (None, r#"{"key":"k","value":{}},"x":1"#, "trailing characters, at byte 23"),
            (None, "\u{1}", "expected value, at byte 1"),
            (Some("id"), r#"{"id":1},"op":"x""#, "trailing characters, at byte 9"),
            (Some("id"), r#"{"id":1"#, "EOF while parsing an object, at byte 7"),
            (Some("id"), r#"{"a":1}"#, "there is no \"id\" to take the key from"),
            (Some("/a/b"), r#"{"a":[1]}"#, "there is no \"a/b\" to take the key from"),
            (Some("id"), "7", "there is no \"id\" to take the key from"),
            (Some("id"), r#"{"id":1.5}"#, "\"id\" is no key: no string and no integer"),
            (Some("id"), r#"{"id":null}"#, "\"id\" is no key: no string and no integer"),
            (Some("id"), r#"{"id":{}}"#, "\"id\" is no key: no string and no integer"),
        ] {
            assert_eq!(line(field, row).unwrap_err(), why, "{row}");
        }
    }
}
