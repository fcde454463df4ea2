//! Patches applied to plain values: the meaning against which edits of documents are tested.

use super::{Limits, Operation, Patch, Pointer, Refusal, RefusalKind, SpliceInsert, Value};
use super::{pointer::list_index, value};
use std::collections::BTreeMap;

/// `target` after a merge patch (RFC 7396).
pub fn merge_patch(target: &Value, patch: &Value) -> Value {
    let Value::Map(members) = patch else {
        return patch.clone();
    };
    let mut merged = if let Value::Map(map) = target { map.clone() } else { BTreeMap::new() };
    for (key, member) in members {
        if *member == Value::Null {
            merged.remove(key);
        } else {
            let before = merged.get(key).unwrap_or(&Value::Null);
            let after = merge_patch(before, member);
            merged.insert(key.clone(), after);
        }
    }
    Value::Map(merged)
}

impl Patch {
    /// `target` after all operations.
    ///
    /// # Errors
    /// At the first operation that cannot be done, with the place in the document:
    /// - `BadPointer`: a place that has to exist does not, or an index lies past the end.
    /// - `WrongType`: no counter to increment, nothing to splice, a sum outside i64.
    /// - `PatchTestFailed`: a `test` that does not hold, or finds nothing at its place.
    /// - `RootMustBeObject`: a removal of the root.
    /// - `TooDeep`, `TooLarge`: a result beyond `limits`, also of its copies taken together, which
    ///   could else double at each operation.
    pub fn apply(&self, target: &Value, limits: &Limits) -> Result<Value, Refusal> {
        let mut model = Model { root: target.clone(), copied: 0, limits };
        for operation in &self.0 {
            model.step(operation)?;
        }
        Ok(model.root)
    }
}

struct Model<'a> {
    root: Value,
    /// The weight of everything that `copy` has made.
    copied: usize,
    limits: &'a Limits,
}

impl Model<'_> {
    fn step(&mut self, operation: &Operation) -> Result<(), Refusal> {
        match operation {
            Operation::Add { path, value } => self.add(path, value.clone()),
            Operation::Remove { path } => self.remove(path).map(drop),
            Operation::Replace { path, value } => {
                self.limits.check_depth(path.0.len(), path, value)?;
                *self.at(path)? = value.clone();
                Ok(())
            }
            Operation::Move { from, path } if from == path => self.at(path).map(drop),
            Operation::Move { from, path } => {
                let value = self.remove(from)?;
                self.add(path, value)
            }
            Operation::Copy { from, path } => {
                let value = self.at(from)?.clone();
                self.copied = self.copied.saturating_add(weight(&value));
                if self.limits.document_bytes_max < self.copied {
                    return Err(refusal(RefusalKind::TooLarge, path, "the copies are too large"));
                }
                self.add(path, value)
            }
            Operation::Test { path, value } => {
                let holds = self.at(path).is_ok_and(|found| found.reads_equal(value));
                let failed =
                    || refusal(RefusalKind::PatchTestFailed, path, "here is not what it names");
                holds.then_some(()).ok_or_else(failed)
            }
            Operation::Increment { path, by } => self.increment(path, *by),
            Operation::Splice { path, at, remove, insert } => {
                self.splice(path, *at, *remove, insert)
            }
        }
    }

    fn at(&mut self, path: &Pointer) -> Result<&mut Value, Refusal> {
        descend(&mut self.root, &path.0).ok_or_else(|| nothing_at(path))
    }

    /// The container that holds a place, and the place's name in it; `None` for the root.
    fn parent<'a>(&mut self, path: &'a Pointer) -> Result<Option<(&mut Value, &'a str)>, Refusal> {
        let Some((name, tokens)) = path.0.split_last() else {
            return Ok(None);
        };
        let parent = descend(&mut self.root, tokens).ok_or_else(|| nothing_at(path))?;
        Ok(Some((parent, name)))
    }

    fn add(&mut self, path: &Pointer, value: Value) -> Result<(), Refusal> {
        self.limits.check_depth(path.0.len(), path, &value)?;
        let (keys_max, length_max) = (self.limits.object_keys_max, self.limits.list_length_max);
        let grown = match self.parent(path)? {
            None => {
                self.root = value;
                return Ok(());
            }
            Some((Value::Map(map), key)) => {
                map.insert(key.to_owned(), value);
                keys_max < map.len()
            }
            Some((Value::List(list), token)) => {
                let index = if token == "-" { Some(list.len()) } else { list_index(token) };
                let index = index.filter(|index| *index <= list.len());
                list.insert(index.ok_or_else(|| nothing_at(path))?, value);
                length_max < list.len()
            }
            Some(_) => return Err(nothing_at(path)),
        };
        if grown {
            Err(refusal(RefusalKind::TooLarge, path, "the container is full"))
        } else {
            Ok(())
        }
    }

    fn remove(&mut self, path: &Pointer) -> Result<Value, Refusal> {
        let removed = match self.parent(path)? {
            None => {
                let detail = "the root cannot be removed";
                return Err(refusal(RefusalKind::RootMustBeObject, path, detail));
            }
            Some((Value::Map(map), key)) => map.remove(key),
            Some((Value::List(list), token)) => list_index(token)
                .filter(|index| *index < list.len())
                .map(|index| list.remove(index)),
            Some(_) => None,
        };
        removed.ok_or_else(|| nothing_at(path))
    }

    fn increment(&mut self, path: &Pointer, by: i64) -> Result<(), Refusal> {
        if let Some((Value::Map(map), key)) = self.parent(path)? {
            map.entry(key.to_owned()).or_insert(Value::Counter(0));
        }
        let wrong = |detail| Err(refusal(RefusalKind::WrongType, path, detail));
        let Value::Counter(sum) = self.at(path)? else {
            return wrong("only a counter can be incremented");
        };
        let Some(after) = sum.checked_add(by) else {
            return wrong("the counter would leave i64");
        };
        *sum = after;
        Ok(())
    }

    fn splice(
        &mut self,
        path: &Pointer,
        at: usize,
        remove: usize,
        insert: &SpliceInsert,
    ) -> Result<(), Refusal> {
        if let SpliceInsert::List(elements) = insert {
            for element in elements {
                self.limits.check_depth(path.0.len() + 1, path, element)?;
            }
        }
        let length_max = self.limits.list_length_max;
        let place = self.at(path)?;
        let past_the_end = || refusal(RefusalKind::BadPointer, path, "past the end");
        match (place, insert) {
            (Value::Text(text) | Value::String(text), SpliceInsert::Text(insert)) => {
                let range = value::code_points(text, at, remove).ok_or_else(past_the_end)?;
                text.replace_range(range, insert);
            }
            (Value::List(list), SpliceInsert::List(insert)) => {
                let end = at.checked_add(remove).filter(|end| *end <= list.len());
                list.splice(at..end.ok_or_else(past_the_end)?, insert.iter().cloned());
                if length_max < list.len() {
                    return Err(refusal(RefusalKind::TooLarge, path, "the list is full"));
                }
            }
            _ => {
                let detail = "a string is spliced into a text or string, an array into a list";
                return Err(refusal(RefusalKind::WrongType, path, detail));
            }
        }
        Ok(())
    }
}

fn descend<'a>(root: &'a mut Value, tokens: &[String]) -> Option<&'a mut Value> {
    let mut place = root;
    for token in tokens {
        place = if let Value::Map(map) = place {
            map.get_mut(token)?
        } else if let Value::List(list) = place {
            list.get_mut(list_index(token)?)?
        } else {
            return None;
        };
    }
    Some(place)
}

/// Nodes and bytes of strings: what a copy costs.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) | Value::Text(text) => 1 + text.len(),
        Value::Bytes(bytes) => 1 + bytes.len(),
        Value::List(list) => 1 + list.iter().map(weight).sum::<usize>(),
        Value::Map(map) => 1 + map.iter().map(|(key, v)| key.len() + weight(v)).sum::<usize>(),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Float(_)
        | Value::Counter(_)
        | Value::Timestamp(_) => 1,
    }
}

fn nothing_at(path: &Pointer) -> Refusal {
    refusal(RefusalKind::BadPointer, path, "there is nothing at this place")
}

fn refusal(kind: RefusalKind, path: &Pointer, detail: &str) -> Refusal {
    Refusal::at(kind, path.to_string(), detail)
}

#[cfg(test)]
mod tests {
    use crate::doc::{Form, Limits, Patch, Refusal, RefusalKind, parse};

    /// Applies a typed patch to a typed document; the result as typed JSON.
    fn apply(document: &str, patch: &str, limits: &Limits) -> Result<String, Refusal> {
        let document = parse(document.as_bytes(), Form::Typed, &Limits::default()).unwrap();
        let patch = Patch::parse(patch.as_bytes(), Form::Typed, &Limits::default()).unwrap();
        let after = patch.apply(&document, limits)?;
        Ok(String::from_utf8(after.to_json(Form::Typed)).unwrap())
    }

    fn check(document: &str, patch: &str, expected: Result<&str, RefusalKind>) {
        let after = apply(document, patch, &Limits::default());
        let after = after.as_deref().map_err(|refusal| refusal.kind);
        assert_eq!(after, expected, "{document} {patch}");
    }

    #[test]
    fn an_increment_adds_to_a_counter_or_makes_one() {
        let by_two = r#"[{"op":"increment","path":"/n","by":2}]"#;
        check(r#"{"n":{"$counter":1}}"#, by_two, Ok(r#"{"n":{"$counter":3}}"#));
        check("{}", by_two, Ok(r#"{"n":{"$counter":2}}"#));
        check(r#"{"n":1}"#, by_two, Err(RefusalKind::WrongType));
        check(r#"{"n":{"$counter":9223372036854775806}}"#, by_two, Err(RefusalKind::WrongType));
        check("[]", by_two, Err(RefusalKind::BadPointer));
        let nested = r#"[{"op":"increment","path":"/a/b","by":1}]"#;
        check("{}", nested, Err(RefusalKind::BadPointer));
        let element = r#"[{"op":"increment","path":"/0","by":1}]"#;
        check(r#"[{"$counter":1}]"#, element, Ok(r#"[{"$counter":2}]"#));
        check("[]", element, Err(RefusalKind::BadPointer));
        check("{}", r#"[{"op":"increment","path":"","by":1}]"#, Err(RefusalKind::WrongType));
    }

    #[test]
    fn a_splice_counts_code_points_or_elements() {
        let splice = |at: usize, remove: usize, insert: &str| {
            format!(
                r#"[{{"op":"splice","path":"/t","at":{at},"remove":{remove},"insert":{insert}}}]"#
            )
        };
        let text = r#"{"t":{"$text":"aé😀"}}"#;
        check(text, &splice(1, 1, r#""x""#), Ok(r#"{"t":{"$text":"ax😀"}}"#));
        check(text, &splice(3, 0, r#""x""#), Ok(r#"{"t":{"$text":"aé😀x"}}"#));
        check(text, &splice(0, 3, r#""""#), Ok(r#"{"t":{"$text":""}}"#));
        check(r#"{"t":"aé😀"}"#, &splice(2, 1, r#""x""#), Ok(r#"{"t":"aéx"}"#));
        check(text, &splice(4, 0, r#""x""#), Err(RefusalKind::BadPointer));
        check(text, &splice(2, 2, r#""x""#), Err(RefusalKind::BadPointer));
        check(text, &splice(1, usize::MAX >> 1, r#""x""#), Err(RefusalKind::BadPointer));
        check(text, &splice(0, 0, "[]"), Err(RefusalKind::WrongType));
        check(r#"{"t":[1,2,3]}"#, &splice(1, 2, "[4]"), Ok(r#"{"t":[1,4]}"#));
        check(r#"{"t":[1,2,3]}"#, &splice(3, 0, "[4]"), Ok(r#"{"t":[1,2,3,4]}"#));
        check(r#"{"t":[1,2,3]}"#, &splice(3, 1, "[4]"), Err(RefusalKind::BadPointer));
        check(r#"{"t":[1,2,3]}"#, &splice(4, 0, "[4]"), Err(RefusalKind::BadPointer));
        check(r#"{"t":1}"#, &splice(0, 0, r#""x""#), Err(RefusalKind::WrongType));
        check("{}", &splice(0, 0, r#""x""#), Err(RefusalKind::BadPointer));
    }

    #[test]
    fn a_test_compares_what_is_read_and_a_missing_place_fails_it() {
        let test = |value: &str| format!(r#"[{{"op":"test","path":"/a","value":{value}}}]"#);
        for (found, expected) in [
            (r#"{"$counter":1}"#, "1"),
            ("1", "1.0"),
            (r#"{"$text":"x"}"#, r#""x""#),
            (r#"{"$bytes":"aGk="}"#, r#""aGk=""#),
            (r#"{"a":[{"$counter":2}],"b":1}"#, r#"{"b":1,"a":[2]}"#),
        ] {
            let document = format!(r#"{{"a":{found}}}"#);
            check(&document, &test(expected), Ok(&document));
        }
        check(r#"{"a":1}"#, &test("2"), Err(RefusalKind::PatchTestFailed));
        check(r#"{"a":1}"#, &test(r#""1""#), Err(RefusalKind::PatchTestFailed));
        check("{}", &test("null"), Err(RefusalKind::PatchTestFailed));
    }

    #[test]
    fn the_root_is_replaced_and_never_removed() {
        check("{}", r#"[{"op":"add","path":"","value":[1]}]"#, Ok("[1]"));
        check("{}", r#"[{"op":"replace","path":"","value":{"a":1}}]"#, Ok(r#"{"a":1}"#));
        check("{}", r#"[{"op":"remove","path":""}]"#, Err(RefusalKind::RootMustBeObject));
        check(r#"{"a":1}"#, r#"[{"op":"move","from":"","path":""}]"#, Ok(r#"{"a":1}"#));
        check(
            r#"{"a":[1]}"#,
            r#"[{"op":"copy","from":"","path":"/a/0"}]"#,
            Ok(r#"{"a":[{"a":[1]},1]}"#),
        );
    }

    #[test]
    fn copies_are_bounded_though_each_doubles_the_document() {
        let copy = r#"{"op":"copy","from":"","path":"/a"}"#;
        let copies = |count: usize| format!("[{}]", vec![copy; count].join(","));
        let limits = Limits { depth_max: 10, ..Limits::default() };
        assert!(apply("{}", &copies(9), &limits).is_ok());
        assert_eq!(apply("{}", &copies(10), &limits).unwrap_err().kind, RefusalKind::TooDeep);

        let copy = r#"{"op":"copy","from":"","path":"/-"}"#;
        let copies = format!("[{}]", vec![copy; 60].join(","));
        let limits = Limits { document_bytes_max: 1_000, ..Limits::default() };
        let refusal = apply("[1]", &copies, &limits).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::TooLarge);
    }

    #[test]
    fn results_are_bounded_like_parsed_json() {
        let limits =
            Limits { depth_max: 2, object_keys_max: 1, list_length_max: 1, ..Limits::default() };
        let kind = |document: &str, patch: &str| {
            apply(document, patch, &limits).map_err(|refusal| refusal.kind)
        };
        let add = |path: &str, value: &str| {
            format!(r#"[{{"op":"add","path":"{path}","value":{value}}}]"#)
        };
        assert_eq!(kind("{}", &add("/a", "[]")), Ok(r#"{"a":[]}"#.to_owned()));
        assert_eq!(kind("{}", &add("/a", "[[]]")), Err(RefusalKind::TooDeep));
        assert_eq!(kind(r#"{"a":[]}"#, &add("/a/0", "{}")), Err(RefusalKind::TooDeep));
        assert_eq!(kind(r#"{"a":[]}"#, &add("/a/0", "1")), Ok(r#"{"a":[1]}"#.to_owned()));
        assert_eq!(kind(r#"{"a":1}"#, &add("/b", "1")), Err(RefusalKind::TooLarge));
        assert_eq!(kind(r#"{"a":1}"#, &add("/a", "2")), Ok(r#"{"a":2}"#.to_owned()));
        assert_eq!(kind("[1]", &add("/-", "1")), Err(RefusalKind::TooLarge));
        let splice = r#"[{"op":"splice","path":"","at":0,"insert":[1]}]"#;
        assert_eq!(kind("[1]", splice), Err(RefusalKind::TooLarge));
        let splice = r#"[{"op":"splice","path":"","at":0,"insert":[[[]]]}]"#;
        assert_eq!(kind("[]", splice), Err(RefusalKind::TooDeep));
    }
}
