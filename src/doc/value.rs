//! A JSON value with the types that Automerge keeps beyond JSON's.

use super::timestamp;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher},
    iter::once,
    ops::Range,
};

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

impl Value {
    /// Whether this is an object or a list.
    pub fn is_container(&self) -> bool {
        matches!(self, Self::Map(_) | Self::List(_))
    }

    /// About how many bytes of JSON this has, and never fewer than there are values in it.
    pub fn size(&self) -> usize {
        const SCALAR_BYTES: usize = 8;
        match self {
            Self::String(text) | Self::Text(text) => SCALAR_BYTES + text.len(),
            Self::Bytes(bytes) => SCALAR_BYTES + bytes.len(),
            Self::List(list) => SCALAR_BYTES + list.iter().map(Self::size).sum::<usize>(),
            Self::Map(map) => {
                let member = |(key, value): (&String, &Self)| key.len() + value.size();
                SCALAR_BYTES + map.iter().map(member).sum::<usize>()
            }
            _ => SCALAR_BYTES,
        }
    }

    /// How many values this is, with those in it.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::List(list) => 1 + list.iter().map(Self::count).sum::<usize>(),
            Self::Map(map) => 1 + map.values().map(Self::count).sum::<usize>(),
            _ => 1,
        }
    }

    /// How deep this nests: a scalar 0, an empty container 1.
    pub fn depth(&self) -> usize {
        if let Self::List(list) = self {
            1 + list.iter().map(Self::depth).max().unwrap_or(0)
        } else if let Self::Map(map) = self {
            1 + map.values().map(Self::depth).max().unwrap_or(0)
        } else {
            0
        }
    }

    /// Whether both have the same content.
    ///
    /// Types that read alike in plain JSON and have equal content are the same: text and string,
    /// counter and integer, timestamp and its text, bytes and their base64. `1` and `1.0` differ,
    /// and so do `0.0` and `-0.0`, and `null` and the floats that plain JSON shows as `null`;
    /// a NaN is the same as itself.
    pub fn same_content(&self, other: &Self) -> bool {
        self.alike(other, Self::same_scalar)
    }

    /// Whether this value holds what `new` says: they have the same content, and plain JSON that was
    /// read and is written back says `null` of a NaN or an infinity that stays.
    pub fn holds(&self, new: &Self) -> bool {
        self.alike(new, Self::holds_scalar)
    }

    /// Whether writing `new` over this value is no change: it holds what `new` says, in the types that
    /// `new` names. Plain JSON names none.
    pub fn is_unchanged_by(&self, new: &Self) -> bool {
        self.alike(new, |now, new| now.holds_scalar(new) && now.is_as_named_by(new))
    }

    /// Whether both read as equal JSON: as [`Value::same_content`], but numbers are equal if their
    /// numeric values are, `1` and `1.0` too. So `test` compares (RFC 6902, section 4.6).
    pub fn reads_equal(&self, other: &Self) -> bool {
        let reads_equal = |one: &Self, two: &Self| {
            let readings = one.reading().zip(two.reading());
            one.same_scalar(two) || readings.is_some_and(|(one, two)| read_equal(&one, &two))
        };
        self.alike(other, reads_equal)
    }

    /// Whether lists and maps are the same with scalars that are `same`.
    fn alike(&self, other: &Self, same: fn(&Self, &Self) -> bool) -> bool {
        match (self, other) {
            (Self::List(one), Self::List(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(a, b)| a.alike(b, same))
            }
            (Self::Map(one), Self::Map(two)) => {
                one.len() == two.len()
                    && one.iter().zip(two).all(|(a, b)| a.0 == b.0 && a.1.alike(b.1, same))
            }
            _ => !self.is_container() && !other.is_container() && same(self, other),
        }
    }

    fn same_scalar(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bytes(one), Self::Bytes(two)) => one == two,
            (Self::Timestamp(one), Self::Timestamp(two)) => one == two,
            _ => self.reading() == other.reading(),
        }
    }

    fn holds_scalar(&self, new: &Self) -> bool {
        let null = || *new == Self::Null && self.reading().is_some_and(|now| now.prints_as_null());
        self.same_scalar(new) || null()
    }

    /// Whether this scalar is of the type of a new one that plain JSON could not have said.
    fn is_as_named_by(&self, new: &Self) -> bool {
        match new {
            Self::Text(_) => matches!(self, Self::Text(_)),
            Self::Counter(_) => matches!(self, Self::Counter(_)),
            Self::Timestamp(_) => matches!(self, Self::Timestamp(_)),
            Self::Bytes(_) => matches!(self, Self::Bytes(_)),
            Self::Uint(number) if i64::try_from(*number).is_ok() => matches!(self, Self::Uint(_)),
            _ => true,
        }
    }

    /// A number that is the same for values of which one holds what the other says.
    pub(super) fn content_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash_content(&mut hasher);
        hasher.finish()
    }

    fn hash_content(&self, hasher: &mut impl Hasher) {
        match self {
            Self::List(list) => {
                (1u8, list.len()).hash(hasher);
                list.iter().for_each(|value| value.hash_content(hasher));
            }
            Self::Map(map) => {
                (2u8, map.len()).hash(hasher);
                for (key, value) in map {
                    key.hash(hasher);
                    value.hash_content(hasher);
                }
            }
            scalar => match scalar.reading() {
                None | Some(Reading::Null) => 3u8.hash(hasher),
                Some(reading) if reading.prints_as_null() => 3u8.hash(hasher),
                Some(Reading::Bool(truth)) => (4u8, truth).hash(hasher),
                Some(Reading::Integer(integer)) => (5u8, integer).hash(hasher),
                Some(Reading::Float(bits)) => (6u8, bits).hash(hasher),
                Some(Reading::String(text)) => (7u8, text).hash(hasher),
            },
        }
    }

    /// What a scalar reads as in plain JSON; `None` for a container.
    fn reading(&self) -> Option<Reading<'_>> {
        Some(match self {
            Self::Null => Reading::Null,
            Self::Bool(truth) => Reading::Bool(*truth),
            Self::Int(number) | Self::Counter(number) => Reading::Integer(i128::from(*number)),
            Self::Uint(number) => Reading::Integer(i128::from(*number)),
            Self::Float(number) if number.is_nan() => Reading::Float(f64::NAN.to_bits()),
            Self::Float(number) => Reading::Float(number.to_bits()),
            Self::String(text) | Self::Text(text) => Reading::String(Cow::Borrowed(text)),
            Self::Timestamp(ms) => match timestamp::print(*ms) {
                Some(text) => Reading::String(Cow::Owned(text)),
                None => Reading::Integer(i128::from(*ms)),
            },
            Self::Bytes(bytes) => Reading::String(Cow::Owned(STANDARD.encode(bytes))),
            Self::List(_) | Self::Map(_) => return None,
        })
    }
}

/// What plain JSON tells of a scalar.
#[derive(PartialEq)]
enum Reading<'a> {
    Null,
    Bool(bool),
    Integer(i128),
    /// The bits, so that `-0.0` differs from `0.0`.
    Float(u64),
    String(Cow<'a, str>),
}

impl Reading<'_> {
    /// Whether plain JSON has no number for it.
    fn prints_as_null(&self) -> bool {
        matches!(self, Self::Float(bits) if !f64::from_bits(*bits).is_finite())
    }
}

fn read_equal(one: &Reading<'_>, two: &Reading<'_>) -> bool {
    match (one, two) {
        (Reading::Float(a), Reading::Float(b)) => {
            a == b || f64::from_bits(*a) == f64::from_bits(*b)
        }
        (Reading::Integer(integer), Reading::Float(float))
        | (Reading::Float(float), Reading::Integer(integer)) => {
            exact_integer(f64::from_bits(*float)) == Some(*integer)
        }
        _ => one == two,
    }
}

/// The integer that a float is, if it is one that could be within i64 or u64.
fn exact_integer(float: f64) -> Option<i128> {
    // 2^64
    const BOUND: f64 = 18_446_744_073_709_551_616.0;
    #[expect(clippy::cast_possible_truncation, reason = "it has no fraction and is within bounds")]
    let integer = float as i128;
    (float.fract() == 0.0 && float.abs() <= BOUND).then_some(integer)
}

/// The bytes of `text` that `count` Unicode code points from the one at `at` take; `None` past the
/// end.
pub(super) fn code_points(text: &str, at: usize, count: usize) -> Option<Range<usize>> {
    let boundary = |index: usize, from: usize| {
        let offsets = text[from..].char_indices().map(|(offset, _)| from + offset);
        offsets.chain(once(text.len())).nth(index)
    };
    let start = boundary(at, 0)?;
    Some(start..boundary(count, start)?)
}

#[cfg(test)]
mod tests {
    use super::Value;
    use std::collections::BTreeMap;

    #[test]
    fn types_that_read_alike_with_equal_content_are_the_same() {
        let string = |text: &str| Value::String(text.to_owned());
        let same = [
            (Value::Text("a".to_owned()), string("a")),
            (Value::Counter(3), Value::Int(3)),
            (Value::Uint(3), Value::Int(3)),
            (Value::Uint(3), Value::Counter(3)),
            (Value::Timestamp(0), string("1970-01-01T00:00:00.000Z")),
            (Value::Timestamp(i64::MAX), Value::Int(i64::MAX)),
            (Value::Bytes(b"hi".to_vec()), string("aGk=")),
            (Value::Float(f64::NAN), Value::Float(-f64::NAN)),
        ];
        let differing = [
            (Value::Int(1), Value::Float(1.0)),
            (Value::Float(0.0), Value::Float(-0.0)),
            (Value::Float(f64::NAN), Value::Null),
            (Value::Int(-1), Value::Uint(u64::MAX)),
            (Value::Null, Value::Bool(false)),
            (string("1"), Value::Int(1)),
            (Value::Timestamp(0), string("1970-01-01T00:00:00Z")),
            (Value::Bytes(b"hi".to_vec()), string("hi")),
            (Value::List(Vec::new()), Value::Map(BTreeMap::new())),
            (Value::List(Vec::new()), Value::Null),
        ];
        let list = |value: &Value| Value::List(vec![Value::Null, value.clone()]);
        let map = |value: &Value| Value::Map([("k".to_owned(), value.clone())].into());
        let other = |value: &Value| Value::Map([("l".to_owned(), value.clone())].into());
        for (pairs, expected) in [(&same[..], true), (&differing[..], false)] {
            for (one, two) in pairs {
                assert_eq!(one.same_content(two), expected, "{one:?} {two:?}");
                assert_eq!(two.same_content(one), expected, "{two:?} {one:?}");
                assert_eq!(list(one).same_content(&list(two)), expected);
                assert_eq!(map(one).same_content(&map(two)), expected);
                assert!(!map(one).same_content(&other(one)));
                assert!(one.same_content(one));
            }
        }
    }

    #[test]
    fn a_null_over_what_reads_as_null_is_no_change() {
        let list = |value: Value| Value::List(vec![value, Value::Int(1)]);
        for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(Value::Float(float).is_unchanged_by(&Value::Null));
            assert!(list(Value::Float(float)).is_unchanged_by(&list(Value::Null)));
            assert!(!Value::Null.is_unchanged_by(&Value::Float(float)));
        }
        assert!(!Value::Float(f64::NAN).is_unchanged_by(&Value::Float(f64::INFINITY)));
        assert!(!Value::Float(1.0).is_unchanged_by(&Value::Null));
        assert!(Value::Int(1).holds(&Value::Counter(1)));
        assert!(!Value::Int(1).is_unchanged_by(&Value::Counter(1)), "a type that is named");
        assert!(Value::Counter(1).is_unchanged_by(&Value::Int(1)), "none is");
        assert!(!Value::Int(1).is_unchanged_by(&Value::Uint(1)));
        assert!(Value::Uint(1).is_unchanged_by(&Value::Int(1)));
        let string = |text: &str| Value::String(text.to_owned());
        assert!(!list(string("a")).is_unchanged_by(&list(Value::Text("a".to_owned()))));
        assert!(list(Value::Text("a".to_owned())).is_unchanged_by(&list(string("a"))));
    }

    #[test]
    fn numbers_read_equal_if_they_are_numerically() {
        let equal = [
            (Value::Int(1), Value::Float(1.0)),
            (Value::Counter(1), Value::Float(1.0)),
            (Value::Float(0.0), Value::Float(-0.0)),
            (Value::Uint(1 << 63), Value::Float(9_223_372_036_854_775_808.0)),
            (Value::Float(f64::NAN), Value::Float(f64::NAN)),
        ];
        let differing = [
            (Value::Int(1), Value::Float(1.5)),
            (Value::Int((1 << 53) + 1), Value::Float(9_007_199_254_740_992.0)),
            (Value::Int(i64::MAX), Value::Float(9_223_372_036_854_775_808.0)),
            (Value::Int(0), Value::Float(f64::NAN)),
            (Value::Int(i64::MAX), Value::Float(f64::INFINITY)),
            (Value::Int(0), Value::Null),
        ];
        for (pairs, expected) in [(&equal[..], true), (&differing[..], false)] {
            for (one, two) in pairs {
                assert_eq!(one.reads_equal(two), expected, "{one:?} {two:?}");
                assert_eq!(two.reads_equal(one), expected, "{two:?} {one:?}");
            }
        }
    }
}
