//! The strict JSON parser: what two readers could understand differently is refused.
//!
//! Tokens are jiter's; serde_json cannot tell 2^64 from a float, nor that a key stands twice.

use super::refusal::Fault;
use super::{Form, Limits, Pointer, Refusal, RefusalKind, Value, typed};
use jiter::{Jiter, JiterError, Peek};
use std::collections::{BTreeMap, btree_map::Entry};

type Parsed<T> = Result<T, Box<Fault>>;

/// Reads one JSON text (RFC 8259), whatever its root.
///
/// `1` is an integer, `1.0`, `1e0` and `-0` are floats, integers above `i64::MAX` are
/// [`Value::Uint`]. [`Form::Typed`] takes types as [`Value::to_json`] writes them.
///
/// # Errors
/// With the place of the fault as a pointer into the text, and where there is one its byte offset:
/// - `BadJson`: not JSON or not UTF-8, a byte order mark, bytes after the value, a lone surrogate,
///   an integer outside i64 and u64, a number that no finite f64 is near to, or one with more than
///   4,300 digits before its point.
/// - `DuplicateKey`: an object names one key twice, compared after unescaping.
/// - `TooDeep`, `TooLarge`: over `limits`. The root is depth 1; the wrappers of typed JSON do not
///   count.
/// - `WrongType`: in typed JSON, an object that looks like a type and is none.
pub fn parse(bytes: &[u8], form: Form, limits: &Limits) -> Result<Value, Refusal> {
    let json = read(bytes, text_depth_max(form, limits.depth_max), limits)?;
    Ok(match form {
        Form::Plain => json,
        Form::Typed => typed::interpret(json, limits.depth_max)?,
    })
}

/// Reads one JSON text of which members are values or patches, such as a line of a bulk write, as it
/// stands: each of them is given to [`interpret`] or [`Patch::from_json`](super::Patch::from_json).
///
/// # Errors
/// As [`parse`], but that the values in it may still nest too deeply, and that no types are read.
pub fn parse_envelope(bytes: &[u8], limits: &Limits) -> Result<Value, Refusal> {
    let around = 1 + super::patch::LEVELS_AROUND_VALUES;
    Ok(read(bytes, text_depth_max(Form::Typed, limits.depth_max).saturating_add(around), limits)?)
}

/// The value that a member of [`parse_envelope`]'s stands for.
///
/// # Errors
/// `TooDeep` and `WrongType` as [`parse`]; pointers lead into the value.
pub fn interpret(json: Value, form: Form, limits: &Limits) -> Result<Value, Refusal> {
    match form {
        Form::Plain => {
            limits.check_depth(0, &Pointer::default(), &json)?;
            Ok(json)
        }
        Form::Typed => Ok(typed::interpret(json, limits.depth_max)?),
    }
}

/// How deep the text of a value may nest: in typed JSON each level may be wrapped once, and the
/// innermost scalar once more.
pub(super) fn text_depth_max(form: Form, depth_max: usize) -> usize {
    match form {
        Form::Plain => depth_max,
        Form::Typed => depth_max.saturating_mul(2).saturating_add(1),
    }
}

/// Reads JSON text as it stands, types not interpreted, at most `depth_max` deep.
pub(super) fn read(bytes: &[u8], depth_max: usize, limits: &Limits) -> Parsed<Value> {
    let mut reader = Reader { tokens: Jiter::new(bytes), depth_max, limits };
    let first = reader.tokens.peek().map_err(bad_json)?;
    let value = reader.value(first, 1)?;
    reader.tokens.finish().map_err(bad_json)?;
    Ok(value)
}

struct Reader<'a> {
    tokens: Jiter<'a>,
    depth_max: usize,
    limits: &'a Limits,
}

impl Reader<'_> {
    /// Reads the value that begins with `first`; were it a container, it would be at `depth`.
    fn value(&mut self, first: Peek, depth: usize) -> Parsed<Value> {
        match first {
            Peek::String => self.tokens.known_str().map(|text| Value::String(text.to_owned())),
            Peek::Object => return self.map(depth),
            Peek::Array => return self.list(depth),
            Peek::True | Peek::False => self.tokens.known_bool(first).map(Value::Bool),
            Peek::Null => self.tokens.known_null().map(|()| Value::Null),
            _ if first.is_num() => return self.number(first),
            _ => return Err(self.fault(RefusalKind::BadJson, "expected a value")),
        }
        .map_err(bad_json)
    }

    fn map(&mut self, depth: usize) -> Parsed<Value> {
        self.check_depth(depth)?;
        let mut map = BTreeMap::new();
        let mut next = self.tokens.known_object().map_err(bad_json)?.map(str::to_owned);
        while let Some(key) = next {
            if map.len() == self.limits.object_keys_max {
                let detail = format!("more than {} keys in one object", map.len());
                return Err(self.fault(RefusalKind::TooLarge, &detail));
            }
            match map.entry(key) {
                Entry::Vacant(place) => {
                    let value = self.member(depth).map_err(|fault| fault.within(place.key()))?;
                    place.insert(value);
                }
                Entry::Occupied(place) => {
                    let fault = self.fault(RefusalKind::DuplicateKey, "this key stands twice");
                    return Err(fault.within(place.key()));
                }
            }
            next = self.tokens.next_key().map_err(bad_json)?.map(str::to_owned);
        }
        Ok(Value::Map(map))
    }

    fn member(&mut self, depth: usize) -> Parsed<Value> {
        let first = self.tokens.peek().map_err(bad_json)?;
        self.value(first, depth + 1)
    }

    fn list(&mut self, depth: usize) -> Parsed<Value> {
        self.check_depth(depth)?;
        let mut list = Vec::new();
        let mut next = self.tokens.known_array().map_err(bad_json)?;
        while let Some(first) = next {
            if list.len() == self.limits.list_length_max {
                let detail = format!("more than {} elements in one list", list.len());
                return Err(self.fault(RefusalKind::TooLarge, &detail));
            }
            let element = self.value(first, depth + 1);
            list.push(element.map_err(|fault| fault.within(list.len().to_string()))?);
            next = self.tokens.array_step().map_err(bad_json)?;
        }
        Ok(Value::List(list))
    }

    fn number(&mut self, first: Peek) -> Parsed<Value> {
        let offset = self.tokens.current_index();
        let digits = self.tokens.known_number_bytes(first).map_err(bad_json)?;
        number(digits).ok_or_else(|| {
            fault_at(RefusalKind::BadJson, offset, "a number outside i64, u64 and the finite f64")
        })
    }

    fn check_depth(&self, depth: usize) -> Parsed<()> {
        if depth <= self.depth_max {
            return Ok(());
        }
        let detail = format!("nested deeper than {} levels", self.limits.depth_max);
        Err(self.fault(RefusalKind::TooDeep, &detail))
    }

    fn fault(&self, kind: RefusalKind, detail: &str) -> Box<Fault> {
        fault_at(kind, self.tokens.current_index(), detail)
    }
}

/// The value of a number that is well-formed JSON; `None` if no type holds it.
fn number(digits: &[u8]) -> Option<Value> {
    let text = str::from_utf8(digits).ok()?;
    let integer = !digits.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    if !integer || text == "-0" {
        return text.parse().ok().filter(|float: &f64| float.is_finite()).map(Value::Float);
    }
    text.parse().map(Value::Int).or_else(|_| text.parse().map(Value::Uint)).ok()
}

fn fault_at(kind: RefusalKind, offset: usize, detail: &str) -> Box<Fault> {
    Fault::new(kind, format!("{detail}, at byte {offset}"))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err calls")]
fn bad_json(error: JiterError) -> Box<Fault> {
    fault_at(RefusalKind::BadJson, error.index, &error.error_type.to_string())
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::doc::{Form, Limits, RefusalKind, Value};

    fn plain(text: &str) -> Value {
        parse(text.as_bytes(), Form::Plain, &Limits::default()).unwrap()
    }

    fn refused(bytes: &[u8], limits: &Limits) -> (RefusalKind, String) {
        let refusal = parse(bytes, Form::Plain, limits).unwrap_err();
        (refusal.kind, refusal.pointer.unwrap())
    }

    #[test]
    fn numbers_keep_their_kind_and_their_value() {
        let table = [
            ("0", Value::Int(0)),
            ("-9223372036854775808", Value::Int(i64::MIN)),
            ("9223372036854775807", Value::Int(i64::MAX)),
            ("9223372036854775808", Value::Uint(1 << 63)),
            ("18446744073709551615", Value::Uint(u64::MAX)),
            ("1.0", Value::Float(1.0)),
            ("1e2", Value::Float(100.0)),
            ("0.1", Value::Float(0.1)),
            ("1e300", Value::Float(1e300)),
            ("5e-324", Value::Float(5e-324)),
            ("1e-400", Value::Float(0.0)),
            ("1.7976931348623157e308", Value::Float(f64::MAX)),
        ];
        for (text, value) in table {
            assert_eq!(plain(text), value, "{text}");
        }
        // `==` holds 0.0 and -0.0 equal; the printed form does not.
        assert_eq!(plain("-0").to_json(Form::Plain), b"-0.0");
    }

    #[test]
    fn text_that_readers_could_understand_differently_is_bad_json() {
        let table: &[&[u8]] = &[
            b"",
            b" ",
            b"{",
            b"[1,]",
            b"{\"a\":1,}",
            b"{} {}",
            b"01",
            b"+1",
            b"1.",
            b".5",
            b"NaN",
            b"Infinity",
            b"nul",
            b"'a'",
            b"// no\n1",
            b"\"\t\"",
            b"\"\\x\"",
            b"\"\\ud800\"",
            b"\"\\udc00\"",
            b"\"\\ud800\\ud800\"",
            b"\"\\ud800x\"",
            b"\"\xff\"",
            b"\"\xed\xa0\x80\"",
            b"\xef\xbb\xbf{}",
            b"18446744073709551616",
            b"-9223372036854775809",
            b"100000000000000000000000",
            b"1e309",
            b"-1e309",
        ];
        for text in table {
            let (kind, _) = refused(text, &Limits::default());
            assert_eq!(kind, RefusalKind::BadJson, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_refusal_names_the_place_and_the_byte() {
        let text = br#"{"a":[1,{"b/c":1e999}]}"#;
        let refusal = parse(text, Form::Plain, &Limits::default()).unwrap_err();
        assert_eq!(refusal.pointer.as_deref(), Some("/a/1/b~1c"));
        assert!(refusal.detail.ends_with("at byte 15"), "{refusal}");
    }

    #[test]
    fn keys_that_are_equal_after_unescaping_stand_twice() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"b":0,"a":1,"c":0,"a":1}"#] {
            let expected = (RefusalKind::DuplicateKey, "/a".to_owned());
            assert_eq!(refused(text.as_bytes(), &Limits::default()), expected);
        }
        let nested = (RefusalKind::DuplicateKey, "/x/0/".to_owned());
        assert_eq!(refused(br#"{"x":[{"":1,"":2}]}"#, &Limits::default()), nested);
    }

    #[test]
    fn depth_passes_at_the_limit_and_not_above() {
        let limits = Limits::default();
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for depth in [limits.depth_max - 1, limits.depth_max] {
            assert_eq!(plain(&nested(depth)).depth(), depth);
        }
        let (kind, pointer) = refused(nested(limits.depth_max + 1).as_bytes(), &limits);
        assert_eq!((kind, pointer), (RefusalKind::TooDeep, "/0".repeat(limits.depth_max)));
        // Far above, nothing is read further than the limit.
        let (kind, _) = refused("[".repeat(1_000_000).as_bytes(), &limits);
        assert_eq!(kind, RefusalKind::TooDeep);
    }

    #[test]
    fn lengths_pass_at_the_limit_and_not_above() {
        let limits = Limits { object_keys_max: 2, list_length_max: 2, ..Limits::default() };
        for text in ["[]", "[1]", "[1,2]", "{}", r#"{"a":1}"#, r#"{"a":1,"b":2}"#] {
            assert!(parse(text.as_bytes(), Form::Plain, &limits).is_ok());
        }
        let expected = (RefusalKind::TooLarge, "/x".to_owned());
        assert_eq!(refused(br#"{"x":[1,2,3]}"#, &limits), expected);
        assert_eq!(refused(br#"{"x":{"a":1,"b":2,"c":3}}"#, &limits), expected);
    }
}
