//! Typed JSON: objects with one key that begins with `$` stand for types that JSON lacks.
//!
//! | JSON | value |
//! |---|---|
//! | `{"$counter":3}` | a counter, an integer within i64 |
//! | `{"$text":"…"}` | a collaborative text |
//! | `{"$timestamp":"…"}` | RFC 3339, no finer than a millisecond; or a number of milliseconds |
//! | `{"$bytes":"…"}` | standard base64 with padding |
//! | `{"$uint":3}` | an unsigned integer, written so where it would fit i64 too |
//! | `{"$float":"NaN"}` | also `Infinity` and `-Infinity` |
//! | `{"$object":{"$x":…}}` | the object `{"$x":…}`, whose only key begins with `$` |
//!
//! Nothing else may look so.

use super::refusal::Fault;
use super::{RefusalKind, Value, timestamp};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::collections::BTreeMap;

type Interpreted = Result<Value, Box<Fault>>;

/// The value that typed JSON, parsed as if it were plain, stands for.
pub(super) fn interpret(json: Value, depth_max: usize) -> Interpreted {
    interpret_at(json, 1, depth_max)
}

/// Whether typed JSON would take an object with these keys for a type.
pub(super) fn looks_typed<'a>(keys: impl IntoIterator<Item = &'a str>) -> bool {
    let mut keys = keys.into_iter();
    keys.next().is_some_and(|key| key.starts_with('$')) && keys.next().is_none()
}

fn interpret_at(json: Value, depth: usize, depth_max: usize) -> Interpreted {
    if let Value::List(list) = json {
        elements(list, depth, depth_max)
    } else if let Value::Map(map) = json {
        if looks_typed(map.keys().map(String::as_str)) {
            unwrap(map, depth, depth_max)
        } else {
            members(map, depth, depth_max)
        }
    } else {
        Ok(json)
    }
}

fn elements(list: Vec<Value>, depth: usize, depth_max: usize) -> Interpreted {
    check_depth(depth, depth_max)?;
    let element = |(index, json): (usize, Value)| {
        interpret_at(json, depth + 1, depth_max).map_err(|fault| fault.within(index.to_string()))
    };
    list.into_iter().enumerate().map(element).collect::<Result<_, _>>().map(Value::List)
}

fn members(map: BTreeMap<String, Value>, depth: usize, depth_max: usize) -> Interpreted {
    check_depth(depth, depth_max)?;
    let member = |(key, json): (String, Value)| match interpret_at(json, depth + 1, depth_max) {
        Ok(value) => Ok((key, value)),
        Err(fault) => Err(fault.within(key)),
    };
    map.into_iter().map(member).collect::<Result<_, _>>().map(Value::Map)
}

fn check_depth(depth: usize, depth_max: usize) -> Result<(), Box<Fault>> {
    if depth <= depth_max {
        return Ok(());
    }
    Err(Fault::new(RefusalKind::TooDeep, format!("nested deeper than {depth_max} levels")))
}

/// The value that a lone `$` key and what it holds stand for.
fn unwrap(mut map: BTreeMap<String, Value>, depth: usize, depth_max: usize) -> Interpreted {
    let Some((name, json)) = map.pop_first() else {
        return Ok(Value::Map(map));
    };
    let value = match (name.as_str(), json) {
        ("$counter", Value::Int(number)) => Some(Value::Counter(number)),
        ("$text", Value::String(text)) => Some(Value::Text(text)),
        ("$timestamp", Value::String(text)) => timestamp::parse(&text).map(Value::Timestamp),
        ("$timestamp", Value::Int(ms)) => Some(Value::Timestamp(ms)),
        ("$bytes", Value::String(text)) => STANDARD.decode(text).ok().map(Value::Bytes),
        ("$uint", Value::Int(number)) => number.try_into().ok().map(Value::Uint),
        ("$uint", Value::Uint(number)) => Some(Value::Uint(number)),
        ("$float", Value::String(text)) => non_finite(&text).map(Value::Float),
        ("$object", Value::Map(inner)) if looks_typed(inner.keys().map(String::as_str)) => {
            return members(inner, depth, depth_max).map_err(|fault| fault.within(name));
        }
        _ => None,
    };
    value.ok_or_else(|| Fault::new(RefusalKind::WrongType, expectation(&name)))
}

fn non_finite(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn expectation(name: &str) -> &'static str {
    match name {
        "$counter" => "`$counter` holds an integer within i64",
        "$text" => "`$text` holds a string",
        "$timestamp" => "`$timestamp` holds an RFC 3339 date and time in whole milliseconds",
        "$bytes" => "`$bytes` holds standard base64 with padding",
        "$uint" => "`$uint` holds an integer from 0 to 18446744073709551615",
        "$float" => "`$float` holds \"NaN\", \"Infinity\" or \"-Infinity\"",
        "$object" => "`$object` holds an object whose only key begins with `$`",
        _ => "an object whose only key begins with `$` is written as {\"$object\":{…}}",
    }
}

#[cfg(test)]
mod tests {
    use crate::doc::{Form, Limits, RefusalKind, Value, parse};

    fn typed(text: &str) -> Value {
        parse(text.as_bytes(), Form::Typed, &Limits::default()).unwrap()
    }

    #[test]
    fn types_are_read_and_printed_alike() {
        let table = [
            (r#"{"$counter":-3}"#, "-3"),
            (r#"{"$text":"a\"b"}"#, r#""a\"b""#),
            (r#"{"$timestamp":"2024-02-29T12:00:00.000Z"}"#, r#""2024-02-29T12:00:00.000Z""#),
            (r#"{"$timestamp":9223372036854775807}"#, "9223372036854775807"),
            (r#"{"$timestamp":-9223372036854775808}"#, "-9223372036854775808"),
            (r#"{"$bytes":"aGk="}"#, r#""aGk=""#),
            (r#"{"$bytes":""}"#, r#""""#),
            (r#"{"$uint":3}"#, "3"),
            ("9223372036854775808", "9223372036854775808"),
            (r#"{"$float":"NaN"}"#, "null"),
            (r#"{"$float":"Infinity"}"#, "null"),
            (r#"{"$float":"-Infinity"}"#, "null"),
            (r#"{"$object":{"$counter":1}}"#, r#"{"$counter":1}"#),
            (r#"{"$object":{"$":[{"$counter":1}]}}"#, r#"{"$":[1]}"#),
            (r#"{"$object":{"$object":{"$object":{"$x":{}}}}}"#, r#"{"$object":{"$x":{}}}"#),
            (r#"{"$counter":1,"a":2}"#, r#"{"$counter":1,"a":2}"#),
            (r#"[{"a":{"$counter":1}},1,1.0,"$"]"#, r#"[{"a":1},1,1.0,"$"]"#),
        ];
        for (text, plain) in table {
            let value = typed(text);
            assert_eq!(String::from_utf8(value.to_json(Form::Typed)).unwrap(), text);
            assert_eq!(String::from_utf8(value.to_json(Form::Plain)).unwrap(), plain);
        }
    }

    #[test]
    fn other_spellings_of_a_type_are_read() {
        assert_eq!(typed(r#"{"$uint":18446744073709551615}"#), Value::Uint(u64::MAX));
        assert_eq!(typed(r#"{"$timestamp":0}"#), Value::Timestamp(0));
        assert_eq!(typed(r#"{"$timestamp":"1970-01-01T01:00:00+01:00"}"#), Value::Timestamp(0));
    }

    #[test]
    fn what_looks_like_a_type_and_is_none_is_refused() {
        for text in [
            r#"{"$counter":1.0}"#,
            r#"{"$counter":"1"}"#,
            r#"{"$counter":9223372036854775808}"#,
            r#"{"$text":1}"#,
            r#"{"$text":{"$text":"a"}}"#,
            r#"{"$timestamp":"yesterday"}"#,
            r#"{"$timestamp":"1970-01-01T00:00:00.0001Z"}"#,
            r#"{"$timestamp":9223372036854775808}"#,
            r#"{"$bytes":"aGk"}"#,
            r#"{"$bytes":"aGl="}"#,
            r#"{"$bytes":"a-_="}"#,
            r#"{"$bytes":" aGk="}"#,
            r#"{"$uint":-1}"#,
            r#"{"$uint":1.0}"#,
            r#"{"$float":1.5}"#,
            r#"{"$float":"nan"}"#,
            r#"{"$object":{}}"#,
            r#"{"$object":{"a":1}}"#,
            r#"{"$object":{"$a":1,"b":1}}"#,
            r#"{"$object":1}"#,
            r#"{"$":1}"#,
            r#"{"$ref":"a"}"#,
        ] {
            let nested = format!(r#"{{"a":[{text}]}}"#);
            let refusal = parse(nested.as_bytes(), Form::Typed, &Limits::default()).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::WrongType, "{text}");
            assert_eq!(refusal.pointer.as_deref(), Some("/a/0"), "{text}");
            assert!(parse(nested.as_bytes(), Form::Plain, &Limits::default()).is_ok());
        }
    }

    #[test]
    fn a_pointer_leads_through_the_text_and_its_wrappers() {
        let text = br#"{"a":{"$object":{"$b":{"$c":1}}}}"#;
        let refusal = parse(text, Form::Typed, &Limits::default()).unwrap_err();
        assert_eq!(refusal.pointer.as_deref(), Some("/a/$object/$b"));
    }

    #[test]
    fn wrappers_do_not_count_as_depth() {
        let limits = Limits { depth_max: 3, ..Limits::default() };
        let at = |depth: usize, innermost: &str| {
            let text =
                format!("{}{innermost}{}", r#"{"$object":{"$":"#.repeat(depth), "}}".repeat(depth));
            parse(text.as_bytes(), Form::Typed, &limits).map(|value| value.depth())
        };
        assert_eq!(at(3, "1"), Ok(3));
        assert_eq!(at(3, r#"{"$counter":1}"#), Ok(3));
        assert_eq!(at(2, "[]"), Ok(3));
        for (depth, innermost) in [(4, "1"), (3, "[]"), (3, "{}"), (3, r#"{"$object":{"$":1}}"#)] {
            assert_eq!(at(depth, innermost).unwrap_err().kind, RefusalKind::TooDeep);
        }
    }
}
