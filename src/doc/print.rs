//! Values as JSON text: compact, keys in byte order, numbers as serde_json prints them.
//!
//! The writers of scalars are for whoever walks a document without building a [`Value`].

use super::{Form, Value, timestamp, typed};
use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use serde::Serialize;
use std::io::Write as _;

impl Value {
    /// This value as JSON.
    ///
    /// [`Form::Plain`] shows counters as numbers, texts as strings, timestamps as RFC 3339 in UTC
    /// with three decimals (as their number of milliseconds outside the years 0000 to 9999), bytes
    /// as base64 and floats that are not finite as `null`. [`Form::Typed`] is read back as an
    /// equal value.
    pub fn to_json(&self, form: Form) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_json(form, &mut out);
        out
    }

    /// Appends what [`Value::to_json`] gives.
    pub fn write_json(&self, form: Form, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Int(number) => write_int(out, *number),
            Self::Uint(number) => write_uint(out, *number, form),
            Self::Float(number) => write_float(out, *number, form),
            Self::String(text) => write_string(out, text),
            Self::Text(text) => write_text(out, text, form),
            Self::Counter(number) => write_counter(out, *number, form),
            Self::Timestamp(ms) => write_timestamp(out, *ms, form),
            Self::Bytes(bytes) => write_bytes(out, bytes, form),
            Self::List(list) => {
                out.push(b'[');
                for (index, element) in list.iter().enumerate() {
                    if index != 0 {
                        out.push(b',');
                    }
                    element.write_json(form, out);
                }
                out.push(b']');
            }
            Self::Map(map) => {
                let braces = Braces::around(map.keys().map(String::as_str), form);
                braces.open(out);
                for (index, (key, value)) in map.iter().enumerate() {
                    if index != 0 {
                        out.push(b',');
                    }
                    write_key(out, key);
                    value.write_json(form, out);
                }
                braces.close(out);
            }
        }
    }
}

/// What stands around the members of an object: typed JSON wraps one that looks like a type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Braces {
    Bare,
    Wrapped,
}

impl Braces {
    pub(crate) fn around<'a>(keys: impl IntoIterator<Item = &'a str>, form: Form) -> Self {
        match form {
            Form::Typed if typed::looks_typed(keys) => Self::Wrapped,
            Form::Plain | Form::Typed => Self::Bare,
        }
    }

    pub(crate) fn open(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Self::Bare => b"{",
            Self::Wrapped => b"{\"$object\":{",
        });
    }

    pub(crate) fn close(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Self::Bare => b"}",
            Self::Wrapped => b"}}",
        });
    }
}

/// A key with its colon.
pub(crate) fn write_key(out: &mut Vec<u8>, key: &str) {
    write_string(out, key);
    out.push(b':');
}

/// A string in quotes, escaped.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    serialize(out, text);
}

/// A collaborative text.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str, form: Form) {
    wrap(out, "$text", form, |out| write_string(out, text));
}

/// An integer within i64.
pub(crate) fn write_int(out: &mut Vec<u8>, number: i64) {
    serialize(out, &number);
}

/// An unsigned integer; typed where it fits i64 too and would be read as one.
pub(crate) fn write_uint(out: &mut Vec<u8>, number: u64, form: Form) {
    match i64::try_from(number) {
        Ok(_) => wrap(out, "$uint", form, |out| serialize(out, &number)),
        Err(_) => serialize(out, &number),
    }
}

/// A float; `1.0` keeps its `.0`.
pub(crate) fn write_float(out: &mut Vec<u8>, number: f64, form: Form) {
    if number.is_finite() {
        return serialize(out, &number);
    }
    let name = match number {
        f64::INFINITY => "\"Infinity\"",
        f64::NEG_INFINITY => "\"-Infinity\"",
        _ => "\"NaN\"",
    };
    match form {
        Form::Plain => out.extend_from_slice(b"null"),
        Form::Typed => wrap(out, "$float", form, |out| out.extend_from_slice(name.as_bytes())),
    }
}

/// The sum of a counter.
pub(crate) fn write_counter(out: &mut Vec<u8>, number: i64, form: Form) {
    wrap(out, "$counter", form, |out| serialize(out, &number));
}

/// A timestamp in milliseconds since 1970.
pub(crate) fn write_timestamp(out: &mut Vec<u8>, ms: i64, form: Form) {
    wrap(out, "$timestamp", form, |out| match timestamp::print(ms) {
        Some(text) => write_string(out, &text),
        None => write_int(out, ms),
    });
}

/// Octets.
pub(crate) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8], form: Form) {
    wrap(out, "$bytes", form, |out| {
        let written = write!(out, "\"{}\"", Base64Display::new(bytes, &STANDARD));
        debug_assert!(written.is_ok(), "a Vec takes every byte");
    });
}

fn wrap(out: &mut Vec<u8>, name: &str, form: Form, content: impl FnOnce(&mut Vec<u8>)) {
    match form {
        Form::Plain => content(out),
        Form::Typed => {
            out.extend_from_slice(b"{\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            content(out);
            out.push(b'}');
        }
    }
}

fn serialize<T: Serialize + ?Sized>(out: &mut Vec<u8>, scalar: &T) {
    let written = serde_json::to_writer(out, scalar);
    debug_assert!(written.is_ok(), "a Vec takes every byte, and a scalar cannot fail");
}

#[cfg(test)]
mod tests {
    use crate::doc::{Form, Limits, Value, parse};

    #[test]
    fn output_is_compact_sorted_and_in_serde_jsons_numbers() {
        let text = br#" { "b" : [ 1 , 1.0 , 1e2, 1E+16, -0, 0.1 ] , "a" : "\u00e9\u0001\/" , "" : null } "#;
        let value = parse(text, Form::Plain, &Limits::default()).unwrap();
        let printed = String::from_utf8(value.to_json(Form::Plain)).unwrap();
        assert_eq!(printed, r#"{"":null,"a":"é\u0001/","b":[1,1.0,100.0,1e+16,-0.0,0.1]}"#);
    }

    #[test]
    fn an_object_is_wrapped_only_in_typed_json_and_only_if_it_looks_like_a_type() {
        let map = |keys: &[&str]| {
            Value::Map(keys.iter().map(|key| ((*key).to_owned(), Value::Null)).collect())
        };
        assert_eq!(map(&["$a"]).to_json(Form::Typed), br#"{"$object":{"$a":null}}"#);
        assert_eq!(map(&["$a"]).to_json(Form::Plain), br#"{"$a":null}"#);
        assert_eq!(map(&["$a", "b"]).to_json(Form::Typed), br#"{"$a":null,"b":null}"#);
        assert_eq!(map(&["a$"]).to_json(Form::Typed), br#"{"a$":null}"#);
        assert_eq!(map(&[]).to_json(Form::Typed), b"{}");
    }
}
