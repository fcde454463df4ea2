//! JSON Patch (RFC 6902), with `increment` and `splice`, read and checked.

use super::refusal::Fault;
use super::{Form, Limits, Pointer, Refusal, RefusalKind, Value, json, typed};
use std::collections::BTreeMap;

/// Levels of a patch around the values in it: the list and the operation.
pub(super) const LEVELS_AROUND_VALUES: usize = 2;

/// A JSON Patch: operations, done in order, all or none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Patch(pub Vec<Operation>);

/// One step of a patch.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Sets a key, or inserts before a list element (`-`: after the last).
    Add {
        /// Where the value will be.
        path: Pointer,
        /// What to place there.
        value: Value,
    },
    /// Removes what is there.
    Remove {
        /// What has to exist.
        path: Pointer,
    },
    /// Puts another value in the place of one that exists.
    Replace {
        /// What has to exist.
        path: Pointer,
        /// What to place there.
        value: Value,
    },
    /// A removal at `from` and an addition at `path`; never into its own inside.
    Move {
        /// What has to exist.
        from: Pointer,
        /// Where it will be.
        path: Pointer,
    },
    /// An addition at `path` of what is at `from`.
    Copy {
        /// What has to exist.
        from: Pointer,
        /// Where its copy will be.
        path: Pointer,
    },
    /// Holds if the value there reads equal ([`Value::reads_equal`]).
    Test {
        /// Where to look.
        path: Pointer,
        /// What is expected.
        value: Value,
    },
    /// Adds to a counter, which is made where a key is missing.
    Increment {
        /// The counter, or the missing key.
        path: Pointer,
        /// May be negative.
        by: i64,
    },
    /// Takes out and puts in, in a text, a string or a list.
    Splice {
        /// What has to exist.
        path: Pointer,
        /// Unicode code points or elements before the place.
        at: usize,
        /// Unicode code points or elements that go.
        remove: usize,
        /// What comes there.
        insert: SpliceInsert,
    },
}

/// What a splice puts in.
#[derive(Debug, Clone, PartialEq)]
pub enum SpliceInsert {
    /// Into a text or a string.
    Text(String),
    /// Into a list.
    List(Vec<Value>),
}

impl Operation {
    /// About how many bytes of JSON the values in it have.
    pub(super) fn value_size(&self) -> usize {
        match self {
            Self::Add { value, .. } | Self::Replace { value, .. } | Self::Test { value, .. } => {
                value.size()
            }
            Self::Splice { insert: SpliceInsert::Text(text), .. } => text.len(),
            Self::Splice { insert: SpliceInsert::List(list), .. } => {
                list.iter().map(Value::size).sum()
            }
            Self::Remove { .. }
            | Self::Move { .. }
            | Self::Copy { .. }
            | Self::Increment { .. } => 0,
        }
    }

    /// Into how many places it puts something, at the most.
    pub(super) fn places(&self) -> usize {
        match self {
            Self::Add { value, .. } | Self::Replace { value, .. } => value.count(),
            Self::Splice { insert: SpliceInsert::List(list), .. } => {
                list.iter().map(Value::count).sum()
            }
            Self::Splice { .. } | Self::Remove { .. } | Self::Increment { .. } => 1,
            Self::Test { .. } => 0,
            // What is there already may be of any size.
            Self::Move { .. } | Self::Copy { .. } => usize::MAX,
        }
    }
}

impl Patch {
    /// A patch from the bytes of a JSON array of operations.
    ///
    /// # Errors
    /// As [`parse`](super::parse), and with a pointer into the patch:
    /// - `BadPatch`: anything that is no operation. Further members are ignored, as the RFC wants.
    /// - `TooLarge`: more operations than one change may have.
    pub fn parse(bytes: &[u8], form: Form, limits: &Limits) -> Result<Self, Refusal> {
        let text_depth_max = json::text_depth_max(form, limits.depth_max);
        let json = json::read(bytes, text_depth_max + LEVELS_AROUND_VALUES, limits)?;
        Self::from_json(json, form, limits)
    }

    /// A patch from JSON that was read as [`Form::Plain`], such as a member of a larger text;
    /// `form` tells how the values in it are meant.
    ///
    /// # Errors
    /// As [`Patch::parse`], but what the parser refuses.
    pub fn from_json(json: Value, form: Form, limits: &Limits) -> Result<Self, Refusal> {
        let Value::List(list) = json else {
            return Err(bad_patch("a patch is an array of operations").into());
        };
        if limits.change_operations_max < list.len() {
            let detail = format!("more than {} operations", limits.change_operations_max);
            return Err(Refusal::at(RefusalKind::TooLarge, "", detail));
        }
        let mut operations = Vec::with_capacity(list.len());
        for (index, json) in list.into_iter().enumerate() {
            let operation = operation(json, form, limits);
            operations.push(operation.map_err(|fault| fault.within(index.to_string()))?);
        }
        Ok(Self(operations))
    }

    /// This patch as JSON; typed, it is read back as an equal patch.
    pub fn to_json(&self, form: Form) -> Vec<u8> {
        Value::List(self.0.iter().map(Operation::to_value).collect()).to_json(form)
    }
}

impl Operation {
    fn to_value(&self) -> Value {
        let place = |path: &Pointer| Value::String(path.to_string());
        // A text of 2^63 code points does not fit into memory.
        let count = |count: usize| Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
        let (op, members) = match self {
            Self::Add { path, value } => {
                ("add", vec![("path", place(path)), ("value", value.clone())])
            }
            Self::Remove { path } => ("remove", vec![("path", place(path))]),
            Self::Replace { path, value } => {
                ("replace", vec![("path", place(path)), ("value", value.clone())])
            }
            Self::Move { from, path } => {
                ("move", vec![("from", place(from)), ("path", place(path))])
            }
            Self::Copy { from, path } => {
                ("copy", vec![("from", place(from)), ("path", place(path))])
            }
            Self::Test { path, value } => {
                ("test", vec![("path", place(path)), ("value", value.clone())])
            }
            Self::Increment { path, by } => {
                ("increment", vec![("path", place(path)), ("by", Value::Int(*by))])
            }
            Self::Splice { path, at, remove, insert } => {
                let insert = match insert {
                    SpliceInsert::Text(text) => Value::String(text.clone()),
                    SpliceInsert::List(list) => Value::List(list.clone()),
                };
                let (at, remove) = (("at", count(*at)), ("remove", count(*remove)));
                ("splice", vec![("path", place(path)), at, remove, ("insert", insert)])
            }
        };
        let op = [("op", Value::String(op.to_owned()))];
        let members = op.into_iter().chain(members);
        Value::Map(members.map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

fn operation(json: Value, form: Form, limits: &Limits) -> Result<Operation, Box<Fault>> {
    let Value::Map(map) = json else {
        return Err(bad_patch("an operation is an object"));
    };
    let mut members = Members { map, form, depth_max: limits.depth_max };
    let name = members.string("op")?;
    Ok(match name.as_str() {
        "add" => Operation::Add { path: members.pointer("path")?, value: members.value()? },
        "remove" => Operation::Remove { path: members.pointer("path")? },
        "replace" => Operation::Replace { path: members.pointer("path")?, value: members.value()? },
        "move" => {
            let (from, path) = (members.pointer("from")?, members.pointer("path")?);
            if from.is_above(&path) {
                return Err(bad_patch("nothing moves into its own inside").within("path"));
            }
            Operation::Move { from, path }
        }
        "copy" => {
            Operation::Copy { from: members.pointer("from")?, path: members.pointer("path")? }
        }
        "test" => Operation::Test { path: members.pointer("path")?, value: members.value()? },
        "increment" => {
            Operation::Increment { path: members.pointer("path")?, by: members.integer("by")? }
        }
        "splice" => Operation::Splice {
            path: members.pointer("path")?,
            at: members.count("at")?,
            remove: if members.map.contains_key("remove") { members.count("remove")? } else { 0 },
            insert: members.insert()?,
        },
        _ => return Err(bad_patch("unknown operation").within("op")),
    })
}

/// The members of one operation, each taken out once.
struct Members {
    map: BTreeMap<String, Value>,
    form: Form,
    depth_max: usize,
}

impl Members {
    fn take(&mut self, name: &str) -> Result<Value, Box<Fault>> {
        self.map.remove(name).ok_or_else(|| bad_patch(format!("`{name}` is missing")))
    }

    fn string(&mut self, name: &str) -> Result<String, Box<Fault>> {
        let Value::String(text) = self.take(name)? else {
            return Err(bad_patch(format!("`{name}` is a string")).within(name));
        };
        Ok(text)
    }

    fn pointer(&mut self, name: &str) -> Result<Pointer, Box<Fault>> {
        let pointer: Result<_, Refusal> = self.string(name)?.parse();
        pointer.map_err(|refusal| bad_patch(refusal.detail).within(name))
    }

    fn integer(&mut self, name: &str) -> Result<i64, Box<Fault>> {
        let Value::Int(number) = self.take(name)? else {
            return Err(bad_patch(format!("`{name}` is an integer within i64")).within(name));
        };
        Ok(number)
    }

    fn count(&mut self, name: &str) -> Result<usize, Box<Fault>> {
        let fault = || bad_patch(format!("`{name}` is an integer, not negative")).within(name);
        let Value::Int(number) = self.take(name)? else {
            return Err(fault());
        };
        usize::try_from(number).map_err(|_| fault())
    }

    fn value(&mut self) -> Result<Value, Box<Fault>> {
        let json = self.take("value")?;
        self.interpret(json).map_err(|fault| fault.within("value"))
    }

    fn insert(&mut self) -> Result<SpliceInsert, Box<Fault>> {
        let json = self.take("insert")?;
        if let Value::String(text) = json {
            return Ok(SpliceInsert::Text(text));
        }
        let interpreted = self.interpret(json);
        let Value::List(list) = interpreted.map_err(|fault| fault.within("insert"))? else {
            return Err(bad_patch("`insert` is a string or an array").within("insert"));
        };
        Ok(SpliceInsert::List(list))
    }

    fn interpret(&self, json: Value) -> Result<Value, Box<Fault>> {
        match self.form {
            Form::Plain => Ok(json),
            Form::Typed => typed::interpret(json, self.depth_max),
        }
    }
}

fn bad_patch(detail: impl Into<String>) -> Box<Fault> {
    Fault::new(RefusalKind::BadPatch, detail)
}

#[cfg(test)]
mod tests {
    use super::{Operation, Patch, SpliceInsert};
    use crate::doc::{Form, Limits, Refusal, RefusalKind, Value};

    fn parse(text: &str, form: Form) -> Result<Patch, Refusal> {
        Patch::parse(text.as_bytes(), form, &Limits::default())
    }

    #[test]
    fn each_operation_is_read() {
        let text = r#"[
            {"op":"add","path":"/a~1b","value":{"$counter":1}},
            {"op":"remove","path":""},
            {"op":"replace","path":"/a","value":null,"extra":{"ignored":true}},
            {"op":"move","from":"/a","path":"/ab"},
            {"op":"copy","from":"/a","path":"/a/b"},
            {"op":"test","path":"/a","value":[{"$text":"x"}]},
            {"op":"increment","path":"/n","by":-2},
            {"op":"splice","path":"/t","at":3,"remove":2,"insert":"abc"},
            {"op":"splice","path":"/l","at":0,"insert":[{"$counter":1}]}
        ]"#;
        let at = |path: &str| path.parse().unwrap();
        let expected = vec![
            Operation::Add { path: at("/a~1b"), value: Value::Counter(1) },
            Operation::Remove { path: at("") },
            Operation::Replace { path: at("/a"), value: Value::Null },
            Operation::Move { from: at("/a"), path: at("/ab") },
            Operation::Copy { from: at("/a"), path: at("/a/b") },
            Operation::Test {
                path: at("/a"),
                value: Value::List(vec![Value::Text("x".to_owned())]),
            },
            Operation::Increment { path: at("/n"), by: -2 },
            Operation::Splice {
                path: at("/t"),
                at: 3,
                remove: 2,
                insert: SpliceInsert::Text("abc".to_owned()),
            },
            Operation::Splice {
                path: at("/l"),
                at: 0,
                remove: 0,
                insert: SpliceInsert::List(vec![Value::Counter(1)]),
            },
        ];
        let patch = Patch(expected);
        assert_eq!(parse(text, Form::Typed).as_ref(), Ok(&patch));
        let printed = String::from_utf8(patch.to_json(Form::Typed)).unwrap();
        assert_eq!(parse(&printed, Form::Typed), Ok(patch));
    }

    #[test]
    fn what_is_no_operation_is_refused_where_it_stands() {
        let table = [
            (r#"{}"#, ""),
            (r#""a""#, ""),
            (r#"[[]]"#, "/0"),
            (r#"[{}]"#, "/0"),
            (r#"[{"op":1}]"#, "/0/op"),
            (r#"[{"op":"merge","path":""}]"#, "/0/op"),
            (r#"[{"op":"Add","path":"","value":1}]"#, "/0/op"),
            (r#"[{"op":"add","value":1}]"#, "/0"),
            (r#"[{"op":"add","path":null,"value":1}]"#, "/0/path"),
            (r#"[{"op":"add","path":"a","value":1}]"#, "/0/path"),
            (r#"[{"op":"add","path":"/~","value":1}]"#, "/0/path"),
            (r#"[{"op":"add","path":"/a"}]"#, "/0"),
            (r#"[{"op":"remove","path":"/a"},{"op":"replace","path":"/a"}]"#, "/1"),
            (r#"[{"op":"test","path":"/a"}]"#, "/0"),
            (r#"[{"op":"move","path":"/a"}]"#, "/0"),
            (r#"[{"op":"copy","from":"b","path":"/a"}]"#, "/0/from"),
            (r#"[{"op":"move","from":"/a","path":"/a/b"}]"#, "/0/path"),
            (r#"[{"op":"move","from":"","path":"/a"}]"#, "/0/path"),
            (r#"[{"op":"increment","path":"/a"}]"#, "/0"),
            (r#"[{"op":"increment","path":"/a","by":1.0}]"#, "/0/by"),
            (r#"[{"op":"increment","path":"/a","by":9223372036854775808}]"#, "/0/by"),
            (r#"[{"op":"splice","path":"/a","insert":""}]"#, "/0"),
            (r#"[{"op":"splice","path":"/a","at":-1,"insert":""}]"#, "/0/at"),
            (r#"[{"op":"splice","path":"/a","at":0,"remove":"1","insert":""}]"#, "/0/remove"),
            (r#"[{"op":"splice","path":"/a","at":0}]"#, "/0"),
            (r#"[{"op":"splice","path":"/a","at":0,"insert":1}]"#, "/0/insert"),
        ];
        for (text, pointer) in table {
            let refusal = parse(text, Form::Plain).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::BadPatch, "{text}");
            assert_eq!(refusal.pointer.as_deref(), Some(pointer), "{text}");
        }
    }

    #[test]
    fn a_patch_is_strict_json() {
        let twice = parse(r#"[{"op":"remove","path":"/a","path":"/b"}]"#, Form::Plain).unwrap_err();
        assert_eq!(twice.kind, RefusalKind::DuplicateKey);
        assert_eq!(parse("[", Form::Plain).unwrap_err().kind, RefusalKind::BadJson);
        let wrong = r#"[{"op":"add","path":"/a","value":[{"$ref":1}]}]"#;
        let refusal = parse(wrong, Form::Typed).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::WrongType);
        assert_eq!(refusal.pointer.as_deref(), Some("/0/value/0"));
    }

    #[test]
    fn values_nest_as_deep_in_a_patch_as_in_a_document() {
        for (form, open, close) in
            [(Form::Plain, "[", "]"), (Form::Typed, r#"{"$object":{"$":"#, "}}")]
        {
            let parsed = |depth: usize| {
                let value = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                parse(&format!(r#"[{{"op":"add","path":"","value":{value}}}]"#), form)
            };
            assert!(parsed(100).is_ok());
            assert_eq!(parsed(101).unwrap_err().kind, RefusalKind::TooDeep);
        }
    }

    #[test]
    fn operations_pass_at_the_limit_and_not_above() {
        let limits = Limits { change_operations_max: 2, ..Limits::default() };
        let parsed = |count: usize| {
            let operations = vec![r#"{"op":"remove","path":""}"#; count].join(",");
            Patch::parse(format!("[{operations}]").as_bytes(), Form::Plain, &limits)
        };
        assert!(parsed(1).is_ok() && parsed(2).is_ok());
        assert_eq!(parsed(3).unwrap_err().kind, RefusalKind::TooLarge);
    }
}
