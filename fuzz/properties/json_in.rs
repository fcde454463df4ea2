//! JSON text: the parser agrees with an independent strict reader, and what is printed reads back.

use super::generate;
use arbitrary::Unstructured;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::{collections::BTreeMap, fmt};
use tombolo::doc::{Form, Limits, Pointer, RefusalKind, Value, parse};

/// Tight bounds, so that small inputs meet them.
const TIGHT: Limits = Limits {
    depth_max: 3,
    object_keys_max: 3,
    list_length_max: 3,
    change_operations_max: 3,
    document_bytes_max: 1_000,
    seek_steps_max: 0,
    walked_elements_max: 1_000,
    inflated_bytes_max: 1_000,
    inflation_ratio_max: 1,
    document_operations_max: 3,
    decoded_operations_max: 3,
    decoded_bytes_max: 1_000,
};

/// Holds for `data` as text, and for a value made from `data`, printed and damaged.
pub fn property(data: &[u8]) {
    check_text(data);
    let mut bytes = Unstructured::new(data);
    let Ok(value) = generate::value(&mut bytes, 5) else { return };
    check_value(&value);
    for form in [Form::Plain, Form::Typed] {
        let mut text = value.to_json(form);
        if damage(&mut bytes, &mut text).is_ok() {
            check_text(&text);
        }
    }
    let few: Result<Vec<Value>, _> = (0..16).map(|_| generate::value(&mut bytes, 1)).collect();
    for (index, one) in few.iter().flatten().enumerate() {
        few.iter().flatten().skip(index).for_each(|two| check_same_content(one, two));
    }
}

/// Puts a few bytes that mean something in JSON, or any others, in the place of others.
fn damage(bytes: &mut Unstructured<'_>, text: &mut Vec<u8>) -> arbitrary::Result<()> {
    const PIECES: &[&str] = &[
        "",
        " ",
        "\"",
        "\\",
        ",",
        ":",
        "[",
        "]",
        "{",
        "}",
        "-",
        ".",
        "e",
        "0",
        "9",
        "99999999999",
        "\\ud800",
        "\\udc00",
        "\\u0061",
        "\"a\":",
        "null",
        "{\"$uint\":",
        "\u{feff}",
        "\u{1}",
    ];
    for _ in 0..bytes.int_in_range(0..=3)? {
        let start = bytes.int_in_range(0..=text.len())?;
        let end = (start + usize::from(bytes.int_in_range(0..=3u8)?)).min(text.len());
        let any = [bytes.arbitrary()?];
        let piece = if bytes.ratio(1, 4)? { &any[..] } else { bytes.choose(PIECES)?.as_bytes() };
        text.splice(start..end, piece.iter().copied());
    }
    Ok(())
}

fn check_text(text: &[u8]) {
    for limits in [Limits::default(), TIGHT] {
        let parsed = parse(text, Form::Plain, &limits);
        let expected = read_strictly(text, &limits);
        match (&parsed, &expected) {
            (Ok(value), Some(expected)) => {
                assert!(alike(value, expected), "{value:?} {expected:?}");
            }
            (Err(refusal), None) => {
                let pointer = refusal.pointer.as_ref().expect("a refused text has a place");
                pointer.parse::<Pointer>().expect("a pointer is well-formed");
            }
            _ => panic!("{} {parsed:?} {expected:?}", String::from_utf8_lossy(text)),
        }
        if let Ok(typed) = parse(text, Form::Typed, &limits) {
            assert!(typed.depth() <= limits.depth_max);
            check_value(&typed);
        }
    }
    if let Ok(value) = parse(text, Form::Plain, &Limits::default()) {
        check_value(&value);
    }
}

fn check_value(value: &Value) {
    let limits = Limits { depth_max: value.depth(), ..Limits::default() };
    let typed = value.to_json(Form::Typed);
    let back = parse(&typed, Form::Typed, &limits).expect("typed JSON reads back");
    assert!(alike(&back, value), "{back:?} {value:?}");
    assert!(back.same_content(value) && back.reads_equal(value));

    let plain = value.to_json(Form::Plain);
    let back = parse(&plain, Form::Plain, &limits).expect("plain JSON reads back");
    assert_eq!(back.to_json(Form::Plain), plain);
    if is_finite(value) {
        assert!(back.same_content(value) && value.same_content(&back), "{back:?} {value:?}");
    }
    if let Some(depth_max) = value.depth().checked_sub(1) {
        for (text, form) in [(typed, Form::Typed), (plain, Form::Plain)] {
            let refusal = parse(&text, form, &Limits { depth_max, ..limits }).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::TooDeep);
        }
    }
}

/// No change is what reads the same in plain JSON.
fn check_same_content(one: &Value, two: &Value) {
    if is_finite(one) && is_finite(two) {
        let read_same = one.to_json(Form::Plain) == two.to_json(Form::Plain);
        assert_eq!(one.same_content(two), read_same, "{one:?} {two:?}");
    }
    assert_eq!(one.same_content(two), two.same_content(one));
    assert!(!one.same_content(two) || one.reads_equal(two));
}

/// Equal in type and bits, also for NaN and -0.0.
fn alike(one: &Value, two: &Value) -> bool {
    format!("{one:?}") == format!("{two:?}")
}

fn is_finite(value: &Value) -> bool {
    if let Value::List(list) = value {
        list.iter().all(is_finite)
    } else if let Value::Map(map) = value {
        map.values().all(is_finite)
    } else {
        !matches!(value, Value::Float(number) if !number.is_finite())
    }
}

// ---- the other reader: serde_json, made strict ----

fn read_strictly(text: &[u8], limits: &Limits) -> Option<Value> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict { depth: 1, limits }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    numbers_fit(text).then_some(value)
}

/// Whether the numbers in well-formed JSON are ones that serde_json reads as they are: it takes
/// integers that are too large for floats. A point after more than 4,300 digits is refused too.
fn numbers_fit(text: &[u8]) -> bool {
    let mut outside = Vec::new();
    let (mut in_string, mut escaped) = (false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => (),
            _ => outside.push(*byte),
        }
    }
    let numbers =
        outside.split(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
    let digit = |number: &&[u8]| number.iter().any(u8::is_ascii_digit);
    numbers.filter(digit).all(|number| {
        let number = str::from_utf8(number).expect("digits are ASCII");
        if number.contains(['.', 'e', 'E']) {
            number.trim_start_matches('-').bytes().take_while(u8::is_ascii_digit).count() <= 4_300
        } else {
            number.parse::<i128>().is_ok_and(|number| {
                i128::from(i64::MIN) <= number && number <= i128::from(u64::MAX)
            })
        }
    })
}

struct Strict<'a> {
    depth: usize,
    limits: &'a Limits,
}

impl Strict<'_> {
    fn inside(&self) -> Self {
        Self { depth: self.depth + 1, limits: self.limits }
    }

    fn check_depth<E: de::Error>(&self) -> Result<(), E> {
        if self.limits.depth_max < self.depth { Err(E::custom("too deep")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Uint(number), Value::Int))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(self.inside())? {
            list.push(element);
        }
        if self.limits.list_length_max < list.len() {
            return Err(de::Error::custom("too long"));
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut map = BTreeMap::new();
        while let Some(key) = members.next_key::<String>()? {
            if map.insert(key, members.next_value_seed(self.inside())?).is_some() {
                return Err(de::Error::custom("twice"));
            }
        }
        if self.limits.object_keys_max < map.len() {
            return Err(de::Error::custom("too many"));
        }
        Ok(Value::Map(map))
    }
}
