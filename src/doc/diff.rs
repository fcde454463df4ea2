//! The difference of two values, as a JSON Patch.

use super::{Operation, Patch, Pointer, Value, pairing};
use std::collections::BTreeMap;

/// Past this many operations a list is replaced whole, if that says less.
const LIST_OPERATIONS_MAX: usize = 64;
/// What an operation says beside its path and value, as bytes of JSON.
const OPERATION_BYTES: usize = 32;

/// The operations that make `new` of `old`, by `add`, `remove` and `replace` alone.
///
/// Exact for plain JSON: what reads alike there (a text and a string, a counter and an integer) is
/// no difference. `None` is the value of what is absent, and is written as `null` at the root.
pub(super) fn diff(old: Option<&Value>, new: Option<&Value>) -> Patch {
    let mut differ = Differ::default();
    match (old, new) {
        (Some(old), Some(new)) => differ.values(old, new),
        (None, None) => {}
        (_, new) => differ.replace(new.unwrap_or(&Value::Null)),
    }
    Patch(differ.operations)
}

#[derive(Debug, Default)]
struct Differ {
    path: Vec<String>,
    operations: Vec<Operation>,
}

impl Differ {
    fn here(&self) -> Pointer {
        Pointer(self.path.clone())
    }

    fn replace(&mut self, value: &Value) {
        self.operations.push(Operation::Replace { path: self.here(), value: value.clone() });
    }

    fn within(&mut self, token: String, work: impl FnOnce(&mut Self)) {
        self.path.push(token);
        work(self);
        self.path.pop();
    }

    fn add(&mut self, token: String, value: &Value) {
        self.within(token, |differ| {
            differ.operations.push(Operation::Add { path: differ.here(), value: value.clone() });
        });
    }

    fn remove(&mut self, token: String) {
        self.within(token, |differ| {
            differ.operations.push(Operation::Remove { path: differ.here() });
        });
    }

    fn values(&mut self, old: &Value, new: &Value) {
        match (old, new) {
            (Value::Map(old), Value::Map(new)) => self.maps(old, new),
            (Value::List(old), Value::List(new)) => self.lists(old, new),
            // Plain JSON says `null` of both a null and a number that is not finite.
            _ if old.holds(new) || new.holds(old) => {}
            _ => self.replace(new),
        }
    }

    fn maps(&mut self, old: &BTreeMap<String, Value>, new: &BTreeMap<String, Value>) {
        for key in old.keys().filter(|key| !new.contains_key(*key)) {
            self.remove(key.clone());
        }
        for (key, value) in new {
            match old.get(key) {
                Some(old) => self.within(key.clone(), |differ| differ.values(old, value)),
                None => self.add(key.clone(), value),
            }
        }
    }

    /// Goes from left to right, so that everything before an operation's index is new already.
    fn lists(&mut self, old: &[Value], new: &[Value]) {
        let first = self.operations.len();
        let (mut old_from, mut new_from) = (0, 0);
        let end = (old.len(), new.len());
        for (old_to, new_to) in pairing::pairs(old, new).into_iter().chain([end]) {
            self.gap(&old[old_from..old_to], &new[new_from..new_to], new_from);
            if let (Some(old), Some(new)) = (old.get(old_to), new.get(new_to)) {
                self.within(new_to.to_string(), |differ| differ.values(old, new));
            }
            (old_from, new_from) = (old_to + 1, new_to + 1);
        }
        if self.operations.len() - first <= LIST_OPERATIONS_MAX {
            return;
        }
        let said: usize = self.operations[first..].iter().map(operation_size).sum();
        if new.iter().map(Value::size).sum::<usize>() < said {
            self.operations.truncate(first);
            self.replace(&Value::List(new.to_vec()));
        }
    }

    /// Elements of which none became another: those that have a successor in place are replaced.
    fn gap(&mut self, old: &[Value], new: &[Value], index: usize) {
        let shared = old.len().min(new.len());
        for (offset, value) in new.iter().take(shared).enumerate() {
            self.within((index + offset).to_string(), |differ| differ.replace(value));
        }
        for _ in shared..old.len() {
            self.remove((index + shared).to_string());
        }
        for (offset, value) in new.iter().enumerate().skip(shared) {
            self.add((index + offset).to_string(), value);
        }
    }
}

/// About how many bytes of JSON an operation has.
pub(super) fn operation_size(operation: &Operation) -> usize {
    let path = match operation {
        Operation::Add { path, .. }
        | Operation::Remove { path }
        | Operation::Replace { path, .. } => path.0.iter().map(|token| 1 + token.len()).sum(),
        _ => 0,
    };
    OPERATION_BYTES + path + operation.value_size()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::{Form, Limits, parse};

    fn value(text: &str) -> Value {
        parse(text.as_bytes(), Form::Typed, &Limits::default()).unwrap()
    }

    fn patch(old: Option<&Value>, new: Option<&Value>) -> String {
        String::from_utf8(diff(old, new).to_json(Form::Plain)).unwrap()
    }

    #[test]
    fn a_difference_is_said_where_it_is() {
        for (old, new, expected) in [
            ("{}", "{}", "[]"),
            (
                r#"{"a":1,"b":2,"c":3}"#,
                r#"{"b":2,"c":4,"d":5}"#,
                r#"[{"op":"remove","path":"/a"},{"op":"replace","path":"/c","value":4},{"op":"add","path":"/d","value":5}]"#,
            ),
            (
                r#"{"a/b":{"~":[1,2,3]}}"#,
                r#"{"a/b":{"~":[1,3,4]}}"#,
                r#"[{"op":"remove","path":"/a~1b/~0/1"},{"op":"add","path":"/a~1b/~0/2","value":4}]"#,
            ),
            (
                r#"{"l":[{"id":1,"n":"a"},{"id":2,"n":"b"}]}"#,
                r#"{"l":[{"id":3},{"id":2,"n":"c"}]}"#,
                r#"[{"op":"replace","path":"/l/0","value":{"id":3}},{"op":"replace","path":"/l/1/n","value":"c"}]"#,
            ),
            (
                r#"{"l":[1,2,3]}"#,
                r#"{"l":[4]}"#,
                r#"[{"op":"replace","path":"/l/0","value":4},{"op":"remove","path":"/l/1"},{"op":"remove","path":"/l/1"}]"#,
            ),
            (r#"{"a":{"$counter":1},"b":{"$text":"x"}}"#, r#"{"a":1,"b":"x"}"#, "[]"),
            (r#"{"a":{"$float":"NaN"}}"#, r#"{"a":null}"#, "[]"),
            (r#"{"a":null}"#, r#"{"a":{"$float":"NaN"}}"#, "[]"),
            (
                r#"{"a":1,"b":[]}"#,
                r#"{"a":1.0,"b":{}}"#,
                r#"[{"op":"replace","path":"/a","value":1.0},{"op":"replace","path":"/b","value":{}}]"#,
            ),
        ] {
            assert_eq!(patch(Some(&value(old)), Some(&value(new))), expected, "{old} {new}");
        }
    }

    #[test]
    fn what_is_absent_reads_as_null_at_the_root() {
        let there = value(r#"{"a":1}"#);
        let came = r#"[{"op":"replace","path":"","value":{"a":1}}]"#;
        let went = r#"[{"op":"replace","path":"","value":null}]"#;
        assert_eq!(patch(None, Some(&there)), came);
        assert_eq!(patch(Some(&there), None), went);
        assert_eq!(patch(None, None), "[]");
    }

    #[test]
    fn a_list_that_changed_much_is_replaced_if_that_says_less() {
        let list = |count: i64| Value::List((0..count).map(Value::Int).collect());
        assert_eq!(diff(Some(&list(1000)), Some(&list(0))).0.len(), 1);
        assert_eq!(diff(Some(&list(1000)), Some(&list(950))).0.len(), 50);
        assert_eq!(diff(Some(&list(10_000)), Some(&list(9_900))).0.len(), 100);
    }
}
