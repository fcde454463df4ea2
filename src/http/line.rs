//! One line of a bulk write: what it asks for, read strictly.

use super::{
    Api,
    once::IdempotencyKey,
    prefer,
    problem::{Code, Problem},
};
use crate::{
    doc::{self, Edit, Form, Patch, Value},
    ident::{Collection, Hash, Key, Name, Version},
    node::{Precondition, Write},
};
use std::{collections::BTreeMap, str::FromStr};

/// The members that a line may have, for those who have written another.
const MEMBERS: &str = "op, collection, key, value, typed, parents, if_match, if_none_match, message and idempotency_key";

/// Reads a line: which document it is for, and what is to be done or why that is refused.
pub(crate) fn parse(api: &Api, line: &[u8]) -> Result<(Name, Result<Write, Problem>), Problem> {
    let mut members = Members(members(api, line)?);
    let once = members.idempotency()?;
    let keyless = !members.0.contains_key("key");
    let name = members.name(api, once.as_ref())?;
    let write = members.write(api).map(|mut write| {
        if let Some(once) = &once {
            // A line that asks the same in other words is another.
            write.once = Some(once.once("bulk", &name, &[line.trim_ascii()]));
            if keyless && write.precondition == Precondition::None {
                write.base.get_or_insert_default();
            }
        }
        write
    });
    Ok((name, write))
}

fn members(api: &Api, line: &[u8]) -> Result<BTreeMap<String, Value>, Problem> {
    match doc::parse_envelope(line, api.node().limits())? {
        Value::Map(members) => Ok(members),
        _ => Err(Problem::new(Code::BadLine, "a line is an object: what to do, and to what")),
    }
}

/// The members that no one has taken yet.
struct Members(BTreeMap<String, Value>);

impl Members {
    /// A member that is a text.
    fn text(&mut self, member: &str) -> Result<Option<String>, Problem> {
        match self.0.remove(member) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Problem::line(member, "a string")),
        }
    }

    fn parsed<T>(&mut self, member: &str) -> Result<Option<T>, Problem>
    where
        T: FromStr,
        Problem: From<T::Err>,
    {
        let text = self.text(member)?;
        Ok(text.map(|text| text.parse()).transpose()?)
    }

    fn idempotency(&mut self) -> Result<Option<IdempotencyKey>, Problem> {
        const MEMBER: &str = "idempotency_key";
        let refused = || Problem::line(MEMBER, "1 to 255 visible ASCII letters");
        let text = self.text(MEMBER)?;
        text.map(|text| IdempotencyKey::parse(&text).ok_or_else(refused)).transpose()
    }

    /// The document; one without a key gets a new one, the same each time that the line is sent.
    fn name(&mut self, api: &Api, once: Option<&IdempotencyKey>) -> Result<Name, Problem> {
        let collection: Option<Collection> = self.parsed("collection")?;
        let collection = collection.ok_or_else(|| Problem::line("collection", "is missing"))?;
        let key = match self.parsed::<Key>("key")? {
            Some(key) => key,
            None if self.makes_documents() => match once {
                None => api.node().fresh_key()?,
                Some(once) => once.document_key()?,
            },
            None => return Err(Problem::line("key", "is missing, and only `put` makes up one")),
        };
        Ok(Name::new(collection, key)?)
    }

    fn makes_documents(&self) -> bool {
        matches!(self.0.get("op"), Some(Value::String(op)) if op == "put")
    }

    fn write(&mut self, api: &Api) -> Result<Write, Problem> {
        let op = self.text("op")?.ok_or_else(|| Problem::line("op", "is missing"))?;
        let (base, precondition) = self.basis()?;
        let message = self.text("message")?;
        if let Some(message) = &message {
            prefer::check_message(message).map_err(|detail| Problem::line("message", detail))?;
        }
        let edit = self.edit(&op, api)?;
        if let Some(member) = self.0.keys().next() {
            let detail = format!("{member:?} is no member of `{op}`; the members are {MEMBERS}");
            return Err(Problem::new(Code::BadLine, detail));
        }
        let message = message.filter(|message| !message.is_empty());
        Ok(Write { edit, base, precondition, message, want: None, once: None })
    }

    fn edit(&mut self, op: &str, api: &Api) -> Result<Edit, Problem> {
        if op == "delete" {
            return Ok(Edit::Delete);
        }
        if op != "put" && op != "patch" {
            return Err(Problem::line("op", "`put`, `patch` or `delete`"));
        }
        let form = match self.0.remove("typed") {
            None | Some(Value::Bool(false)) => Form::Plain,
            Some(Value::Bool(true)) => Form::Typed,
            Some(_) => return Err(Problem::line("typed", "`true` or `false`")),
        };
        let value = self.0.remove("value").ok_or_else(|| Problem::line("value", "is missing"))?;
        let limits = api.node().limits();
        let refused = |refusal| Problem::from(refusal).within("value");
        match value {
            operations @ Value::List(_) if op == "patch" => {
                Patch::from_json(operations, form, limits).map(Edit::JsonPatch).map_err(refused)
            }
            value => {
                let value = doc::interpret(value, form, limits).map_err(refused)?;
                Ok(if op == "put" { Edit::Put(value) } else { Edit::MergePatch(value) })
            }
        }
    }

    /// How the line stands to what its client has seen, as header fields say it elsewhere.
    fn basis(&mut self) -> Result<(Option<Version>, Precondition), Problem> {
        let base = self.0.remove("parents").map(|hashes| version("parents", hashes)).transpose()?;
        let matches = match self.0.remove("if_match") {
            None => None,
            Some(Value::String(any)) if any == "*" => Some(Precondition::Exists),
            Some(hashes) => Some(Precondition::VersionIn(vec![version("if_match", hashes)?])),
        };
        let none_matches = match self.0.remove("if_none_match") {
            None => None,
            Some(Value::String(any)) if any == "*" => Some(Precondition::Absent),
            Some(_) => return Err(Problem::line("if_none_match", "`\"*\"` alone")),
        };
        match (base, matches, none_matches) {
            (base, None, None) => Ok((base, Precondition::None)),
            (None, Some(expected), None) | (None, None, Some(expected)) => Ok((None, expected)),
            _ => Err(Problem::new(
                Code::BadLine,
                "`parents` asks for a merge, `if_match` and `if_none_match` for a refusal: one of \
                 them",
            )),
        }
    }
}

/// A version: a list of hashes.
fn version(member: &str, value: Value) -> Result<Version, Problem> {
    let refused = || Problem::line(member, "a list of strings, each 64 lower-case hex digits");
    let Value::List(list) = value else { return Err(refused()) };
    let hash = |value: Value| match value {
        Value::String(text) => text.parse::<Hash>().map_err(|_| refused()),
        _ => Err(refused()),
    };
    list.into_iter().map(hash).collect()
}
