//! Values and patches made from bytes: small alphabets, so that things meet.

use arbitrary::{Arbitrary as _, Result, Unstructured};
use tombolo::doc::{Operation, Patch, Pointer, SpliceInsert, Value};

const KEYS: &[&str] =
    &["a", "b", "c", "", "0", "1", "-", "~", "a/b", "é", "$", "$counter", "$object"];
const STRINGS: &[&str] =
    &["", "a", "b", "ab\n", "é😀", "aGk=", "1970-01-01T00:00:00.000Z", "\u{0}"];
const INTEGERS: &[i64] = &[0, 1, -1, 2, 1 << 53, (1 << 53) + 1, i64::MAX, i64::MIN];
const FLOATS: &[f64] = &[
    0.0,
    -0.0,
    1.0,
    0.1,
    1e16,
    1e300,
    5e-324,
    f64::MAX,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
];

/// Around 1970, around the years that RFC 3339 can write, and the ends of i64.
const TIMESTAMPS: &[i64] = &[
    0,
    -1,
    1_714_564_800_123,
    -62_167_219_200_000,
    -62_167_219_200_001,
    253_402_300_799_999,
    253_402_300_800_000,
    i64::MIN,
    i64::MAX,
];

/// A value of any type, at most `depth` deep.
///
/// # Errors
/// None in practice: bytes that have run out read as zeros, which end in small values.
pub fn value(bytes: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    let kinds = if depth == 0 { 10 } else { 13 };
    Ok(match bytes.int_in_range(0..=kinds)? {
        0 => Value::Null,
        1 => Value::Bool(bytes.arbitrary()?),
        2 | 3 => Value::Int(integer(bytes)?),
        4 => Value::Uint(*bytes.choose(&[0, 1, 3, 1 << 63, u64::MAX])?),
        5 => Value::Float(if bytes.ratio(1, 4)? {
            bytes.arbitrary()?
        } else {
            *bytes.choose(FLOATS)?
        }),
        6 => Value::String(string(bytes)?),
        7 => Value::Text(string(bytes)?),
        8 => Value::Counter(integer(bytes)?),
        9 => Value::Timestamp(*bytes.choose(TIMESTAMPS)?),
        10 => Value::Bytes(string(bytes)?.into_bytes()),
        11 => Value::List(list(bytes, depth - 1)?),
        _ => map(bytes, depth - 1)?,
    })
}

/// An object whose values are at most `depth` deep.
///
/// # Errors
/// None in practice.
pub fn map(bytes: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    let count = bytes.int_in_range(0..=4)?;
    let member = |_| Ok((key(bytes)?, value(bytes, depth)?));
    (0..count).map(member).collect::<Result<_>>().map(Value::Map)
}

fn list(bytes: &mut Unstructured<'_>, depth: usize) -> Result<Vec<Value>> {
    let count = bytes.int_in_range(0..=4)?;
    (0..count).map(|_| value(bytes, depth)).collect()
}

fn key(bytes: &mut Unstructured<'_>) -> Result<String> {
    if bytes.ratio(1, 8)? {
        String::arbitrary(bytes)
    } else {
        Ok((*bytes.choose(KEYS)?).to_owned())
    }
}

fn string(bytes: &mut Unstructured<'_>) -> Result<String> {
    if bytes.ratio(1, 4)? {
        String::arbitrary(bytes)
    } else {
        Ok((*bytes.choose(STRINGS)?).to_owned())
    }
}

fn integer(bytes: &mut Unstructured<'_>) -> Result<i64> {
    if bytes.ratio(1, 4)? { bytes.arbitrary() } else { Ok(*bytes.choose(INTEGERS)?) }
}

/// A patch whose pointers mostly lead somewhere in `document`.
///
/// # Errors
/// None in practice.
pub fn patch(bytes: &mut Unstructured<'_>, document: &Value) -> Result<Patch> {
    let count = bytes.int_in_range(0..=8)?;
    (0..count).map(|_| operation(bytes, document)).collect::<Result<_>>().map(Patch)
}

fn operation(bytes: &mut Unstructured<'_>, document: &Value) -> Result<Operation> {
    let path = pointer(bytes, document)?;
    Ok(match bytes.int_in_range(0..=7)? {
        0 => Operation::Add { path, value: value(bytes, 2)? },
        1 => Operation::Remove { path },
        2 => Operation::Replace { path, value: value(bytes, 2)? },
        3 => Operation::Move { from: pointer(bytes, document)?, path },
        4 => Operation::Copy { from: pointer(bytes, document)?, path },
        5 => Operation::Test { path, value: value(bytes, 1)? },
        6 => Operation::Increment { path, by: integer(bytes)? },
        _ => {
            let at = usize::from(bytes.int_in_range(0..=4u8)?);
            let remove = usize::from(bytes.int_in_range(0..=3u8)?);
            let text = bytes.ratio(1, 2)?;
            let insert = if text {
                SpliceInsert::Text(string(bytes)?)
            } else {
                SpliceInsert::List(list(bytes, 1)?)
            };
            Operation::Splice { path, at, remove, insert }
        }
    })
}

/// A walk down `document`, now and then past what is there.
fn pointer(bytes: &mut Unstructured<'_>, document: &Value) -> Result<Pointer> {
    let mut tokens = Vec::new();
    let mut place = Some(document);
    for _ in 0..bytes.int_in_range(0..=3)? {
        let token = match place {
            Some(Value::Map(map)) if !map.is_empty() && bytes.ratio(3, 4)? => {
                let keys: Vec<&String> = map.keys().collect();
                (*bytes.choose(&keys)?).clone()
            }
            Some(Value::List(list)) if bytes.ratio(3, 4)? => {
                bytes.int_in_range(0..=list.len())?.to_string()
            }
            _ => key(bytes)?,
        };
        place = match place {
            Some(Value::Map(map)) => map.get(&token),
            Some(Value::List(list)) => {
                token.parse::<usize>().ok().and_then(|index| list.get(index))
            }
            _ => None,
        };
        tokens.push(token);
    }
    Ok(Pointer(tokens))
}
