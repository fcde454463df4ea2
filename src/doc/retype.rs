//! The type of a value where plain JSON cannot say it.

use super::{
    Value,
    place::{Shown, Slot},
    timestamp,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::borrow::Cow;

/// What a string becomes that is written where no string stands. One that stands keeps its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NewStrings {
    /// A value, written and replaced as one.
    #[default]
    Values,
    /// A text, edited letter by letter.
    Texts,
}

impl NewStrings {
    /// A value that is written where none stands.
    pub(super) fn fresh(self, new: &Value) -> Cow<'_, Value> {
        match self {
            Self::Values => Cow::Borrowed(new),
            Self::Texts => Cow::Owned(texts(new)),
        }
    }

    /// `new` in the type of what shows at `old`, where plain JSON fits it: an integer over a counter,
    /// a string over a string or text, RFC 3339 over a timestamp, base64 over bytes.
    pub(super) fn retype<'v>(self, old: Option<&Slot>, new: &'v Value) -> Cow<'v, Value> {
        let typed = match (old.map(Slot::shown), new) {
            (Some(Shown::Scalar(Value::Counter(_))), Value::Int(number)) => {
                Some(Value::Counter(*number))
            }
            (Some(Shown::Text(_)), Value::String(text)) => Some(Value::Text(text.clone())),
            (Some(Shown::Scalar(Value::String(_))), Value::String(_)) => {
                return Cow::Borrowed(new);
            }
            (Some(Shown::Scalar(Value::Timestamp(_))), Value::String(text)) => {
                timestamp::parse(text).map(Value::Timestamp)
            }
            (Some(Shown::Scalar(Value::Bytes(_))), Value::String(text)) => {
                STANDARD.decode(text).ok().map(Value::Bytes)
            }
            _ => None,
        };
        typed.map_or_else(|| self.fresh(new), Cow::Owned)
    }
}

/// A value whose strings are texts.
fn texts(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::Text(text.clone()),
        Value::List(list) => Value::List(list.iter().map(texts).collect()),
        Value::Map(map) => {
            Value::Map(map.iter().map(|(key, value)| (key.clone(), texts(value))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use crate::doc::{Actor, Document, Edit, Form, Limits, NewStrings, Patch, Stamp, Value, parse};
    use std::collections::BTreeMap;

    fn document(strings: NewStrings) -> Document {
        let mut document = Document::new(Actor([1; 16]));
        document.set_new_strings(strings);
        document
    }

    fn edit(document: &mut Document, edit: &Edit) {
        document.edit(edit, None, &Stamp::default(), &Limits::default()).unwrap();
    }

    fn value(json: &str) -> Value {
        parse(json.as_bytes(), Form::Plain, &Limits::default()).unwrap()
    }

    fn typed(document: &Document) -> Value {
        parse(show(document, Form::Typed).as_bytes(), Form::Typed, &Limits::default()).unwrap()
    }

    fn holds_strings(value: &Value) -> bool {
        match value {
            Value::String(_) => true,
            Value::List(list) => list.iter().any(holds_strings),
            Value::Map(map) => map.values().any(holds_strings),
            _ => false,
        }
    }

    fn show(document: &Document, form: Form) -> String {
        String::from_utf8(document.render(form, None).unwrap().json.unwrap()).unwrap()
    }

    #[test]
    fn new_strings_are_texts_and_those_that_stand_keep_their_type() {
        let put = |json: &str| Edit::Put(value(json));
        let merge = |json: &str| Edit::MergePatch(value(json));
        let patch = |json: &str| {
            let patch = Patch::parse(json.as_bytes(), Form::Plain, &Limits::default());
            Edit::JsonPatch(patch.unwrap())
        };
        let old = r#"{"s":"old","l":["old"],"n":1}"#;
        for (edits, expected) in [
            (vec![put(r#"{"s":"new","n":1}"#)], r#"{"n":1,"s":"new"}"#),
            (vec![put(r#"{"t":"new"}"#)], r#"{"t":{"$text":"new"}}"#),
            (vec![put(r#"{"n":"new"}"#)], r#"{"n":{"$text":"new"}}"#),
            (vec![put(r#"{"s":{"a":["new"]}}"#)], r#"{"s":{"a":[{"$text":"new"}]}}"#),
            (vec![put(r#"{"l":["old","new"]}"#)], r#"{"l":["old",{"$text":"new"}]}"#),
            (vec![Edit::Delete, put(r#"{"s":"new"}"#)], r#"{"s":{"$text":"new"}}"#),
            (
                vec![merge(r#"{"s":"new","t":{"u":"new"}}"#)],
                r#"{"l":["old"],"n":1,"s":"new","t":{"u":{"$text":"new"}}}"#,
            ),
            (
                vec![patch(
                    r#"[{"op":"add","path":"/s","value":"new"},{"op":"add","path":"/t","value":"new"},
                        {"op":"add","path":"/l/0","value":"new"},{"op":"replace","path":"/n","value":"new"}]"#,
                )],
                r#"{"l":[{"$text":"new"},"old"],"n":{"$text":"new"},"s":"new","t":{"$text":"new"}}"#,
            ),
            (
                vec![patch(
                    r#"[{"op":"move","from":"/s","path":"/m"},{"op":"copy","from":"/l","path":"/c"},
                        {"op":"splice","path":"/l","at":1,"remove":0,"insert":["new"]}]"#,
                )],
                r#"{"c":["old"],"l":["old",{"$text":"new"}],"m":"old","n":1}"#,
            ),
        ] {
            let mut changed = document(NewStrings::Values);
            edit(&mut changed, &put(old));
            changed.set_new_strings(NewStrings::Texts);
            edits.iter().for_each(|next| edit(&mut changed, next));
            assert_eq!(show(&changed, Form::Typed), expected, "{edits:?}");
        }
        let mut begun = document(NewStrings::Texts);
        edit(&mut begun, &put(old));
        let whole = r#"{"l":[{"$text":"old"}],"n":1,"s":{"$text":"old"}}"#;
        assert_eq!(show(&begun, Form::Typed), whole);
    }

    fn random_value(random: &mut fastrand::Rng, depth: usize) -> Value {
        match random.usize(..if depth == 0 { 3 } else { 5 }) {
            0 => Value::Int(random.i64(..3)),
            1 | 2 => Value::String(["", "a", "ab", "abc", "é"][random.usize(..5)].to_owned()),
            3 => Value::List(
                (0..random.usize(..4)).map(|_| random_value(random, depth - 1)).collect(),
            ),
            _ => Value::Map(random_map(random, depth - 1)),
        }
    }

    fn random_map(random: &mut fastrand::Rng, depth: usize) -> BTreeMap<String, Value> {
        let key = |random: &mut fastrand::Rng| ["a", "b", "c"][random.usize(..3)].to_owned();
        (0..random.usize(..4)).map(|_| (key(random), random_value(random, depth))).collect()
    }

    #[test]
    fn plain_json_is_the_same_whatever_strings_become() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..500 {
            let (mut values, mut texts) =
                (document(NewStrings::Values), document(NewStrings::Texts));
            for _ in 0..5 {
                let map = Value::Map(random_map(&mut random, 3));
                let next = if random.bool() { Edit::Put(map) } else { Edit::MergePatch(map) };
                edit(&mut values, &next);
                edit(&mut texts, &next);
                assert_eq!(show(&values, Form::Plain), show(&texts, Form::Plain));
                assert!(!holds_strings(&typed(&texts)), "a string is no text");
            }
        }
    }
}
