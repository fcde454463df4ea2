//! A JSON value with the types that Automerge keeps beyond JSON's.

use std::collections::BTreeMap;

/// How JSON is written and read at the rim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// `application/json`: counters are numbers, texts strings, timestamps RFC 3339, bytes base64.
    #[default]
    Plain,
    /// `application/vnd.tombolo.typed+json`: types show as `{"$counter":3}` and the like.
    Typed,
}

/// A value as a user writes it and reads it. Maps are in byte order of their keys.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// An integer within i64.
    Int(i64),
    /// An integer above `i64::MAX` (or one typed `$uint`).
    Uint(u64),
    /// A number written with a fraction or an exponent. Finite in plain JSON.
    Float(f64),
    /// A scalar string: written and replaced as one.
    String(String),
    /// A collaborative text: edited letter by letter.
    Text(String),
    /// A number whose concurrent increments add up.
    Counter(i64),
    /// Milliseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64),
    /// Octets.
    Bytes(Vec<u8>),
    /// An array.
    List(Vec<Value>),
    /// An object.
    Map(BTreeMap<String, Value>),
}
