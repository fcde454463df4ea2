//! The changes that one edit makes.
//!
//! At an older base Automerge looks for each element of a list or text from its start on, since its
//! indexes know the present alone. An edit that would take long so is made in a copy that ends at
//! the base, for which the base is the present, and its change is numbered anew for the document.

use super::{
    Edit, Limits, NewStrings, Refusal, RefusalKind, Stamp, Value,
    history::past,
    life, patching,
    put::{Put, Unnamed, without_nulls},
    refusal::internal,
    standing::{GONE, GONE_NAMES_MAX, Standing, settled_since},
    view::Scope,
    write::{Steps, Writing},
};
use automerge::{
    Automerge, Change, ChangeHash, PatchLog, ROOT, ReadDoc,
    legacy::{ElementId, Key, ObjectId, OpId},
    transaction::{CommitOptions, Transactable, Transaction},
};
use std::collections::BTreeMap;

/// A write into a document at a base.
pub(super) struct Task<'t> {
    pub(super) edit: &'t Edit,
    pub(super) base: &'t [ChangeHash],
    /// The document now, where the base is older.
    pub(super) present: Option<Scope<'t, Automerge>>,
    /// Whether there is nothing to read now, so that the write has to bring it to life.
    pub(super) absent: bool,
    pub(super) stamp: &'t Stamp,
    pub(super) strings: NewStrings,
    pub(super) limits: &'t Limits,
}

impl Task<'_> {
    /// Writes the change that the edit makes, and those that settle what it replaced or removed.
    pub(super) fn write(
        &self,
        automerge: &mut Automerge,
        standing: Standing,
    ) -> Result<(), Refusal> {
        let Made { change, mut settled } = self.edit(automerge, standing)?;
        if !settled.is_empty()
            && let Some(present) = self.present
        {
            let already = settled_since(present.doc(), self.base);
            settled.retain(|name| !already.contains(name));
        }
        let mut heads = match change {
            Some(hash) => vec![hash],
            None if self.absent && settled.is_empty() => {
                let message = self.stamp.message.as_deref();
                vec![life::mark(automerge, self.base, message, self.stamp.time_seconds)?]
            }
            None => self.base.to_vec(),
        };
        for names in settled.chunks(GONE_NAMES_MAX) {
            let message = format!("{GONE} {}", names.join(" "));
            heads = vec![life::mark(automerge, &heads, Some(&message), self.stamp.time_seconds)?];
        }
        Ok(())
    }

    fn edit(&self, automerge: &mut Automerge, standing: Standing) -> Result<Made, Refusal> {
        let untouched = automerge.is_empty() && self.base.is_empty();
        let deleted = match self.present {
            None => self.absent,
            Some(_) => life::is_deleted(automerge, self.base),
        };
        let content = match (untouched, deleted) {
            (true, _) => Content::Untouched,
            (_, true) => Content::Deleted,
            _ => Content::Alive,
        };
        if self.present.is_none() {
            let tx = automerge.transaction();
            return self.run(tx, standing, content, None)?.ok_or_else(unbounded);
        }
        let steps = Steps::of(automerge.stats().num_ops, self.limits);
        let tx = automerge.transaction_at(PatchLog::inactive(), self.base).map_err(internal)?;
        match self.run(tx, standing.clone(), content, Some(steps))? {
            Some(made) => Ok(made),
            None => self.edit_copy(automerge, standing, content),
        }
    }

    /// Makes the change in a copy that ends at the base.
    fn edit_copy(
        &self,
        automerge: &mut Automerge,
        standing: Standing,
        content: Content,
    ) -> Result<Made, Refusal> {
        let like = next_change(automerge, self.base)?;
        let mut past = past(automerge, self.base)?;
        past.ready(usize::MAX);
        let copy = past.automerge_mut();
        copy.set_actor(like.actor_id().clone());
        let made = self.run(copy.transaction(), standing, content, None)?;
        let mut made = made.ok_or_else(unbounded)?;
        if let Some(hash) = &mut made.change {
            let change = copy.get_change_by_hash(hash);
            let change = change.ok_or_else(|| internal("a change that was made is gone"))?;
            let change = numbered(&change, &like);
            if change.seq() != like.seq() {
                return Err(internal("a copy does not end at its base"));
            }
            *hash = change.hash();
            automerge.apply_changes([change])?;
        }
        Ok(made)
    }

    /// Applies and commits the edit; `None` if it looked at more elements than it may.
    fn run(
        &self,
        mut tx: Transaction<'_>,
        standing: Standing,
        content: Content,
        steps: Option<Steps>,
    ) -> Result<Option<Made>, Refusal> {
        let standing_now = self.present.map(Scope::standing);
        let (strings, limits) = (self.strings, self.limits);
        let mut writing = Writing::new(&mut tx, strings, standing, standing_now, limits, steps);
        let applied = self.apply(&mut writing, content);
        if writing.is_exhausted() {
            return Ok(None);
        }
        applied?;
        writing.check_operations(0)?;
        let settled = writing.into_settled();
        let mut options = CommitOptions::default().with_time(self.stamp.time_seconds);
        if let Some(message) = &self.stamp.message {
            options.set_message(message.as_str());
        }
        Ok(Some(Made { change: tx.commit_with(options).0, settled }))
    }

    fn apply<T: Transactable>(
        &self,
        writing: &mut Writing<'_, T>,
        base: Content,
    ) -> Result<(), Refusal> {
        let root = [ROOT];
        let now = self.present.map(|_| &root[..]);
        match (self.edit, base) {
            (Edit::Put(value), Content::Untouched) => {
                writing.fill_root(map_of(&self.strings.fresh(value))?)
            }
            (Edit::Put(value), Content::Deleted) => {
                Put::new(writing, self.present).anew(map_of(value)?)
            }
            (Edit::Put(value), Content::Alive) => {
                Put::new(writing, self.present).map(&root, map_of(value)?, now, Unnamed::Go)
            }
            (Edit::MergePatch(patch), Content::Deleted) => {
                let value = without_nulls(patch);
                Put::new(writing, self.present).anew(map_of(&value)?)
            }
            (Edit::MergePatch(patch), Content::Untouched | Content::Alive) => {
                Put::new(writing, self.present).map(&root, map_of(patch)?, now, Unnamed::Stay)
            }
            (Edit::JsonPatch(patch), base) => {
                if base == Content::Deleted {
                    writing.clear()?;
                }
                patching::apply(writing, patch, self.limits)
            }
            (Edit::Delete, _) => Ok(()),
        }
    }
}

/// What an edit came to.
struct Made {
    /// Its change; `None` if it changes nothing.
    change: Option<ChangeHash>,
    /// The names of what it settled.
    settled: Vec<String>,
}

/// What a base holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Nothing: the whole document has no changes.
    Untouched,
    /// Nothing to read, though Automerge still shows what was deleted.
    Deleted,
    Alive,
}

/// A change as the document would make it at `base`: whose it is, and what its numbers are.
fn next_change(automerge: &Automerge, base: &[ChangeHash]) -> Result<Change, Refusal> {
    let mut trial = automerge.clone();
    let hash = life::mark(&mut trial, base, None, 0)?;
    trial.get_change_by_hash(&hash).ok_or_else(|| internal("a mark is no change"))
}

/// The same change with the dependencies of `like`, and with its operations counted as there,
/// which is not before its own count.
fn numbered(change: &Change, like: &Change) -> Change {
    let mut change = change.decode();
    let (first, actor) = (change.start_op.get(), change.actor_id.clone());
    let by = like.start_op().get() - first;
    let renumber = |id: &mut OpId| {
        if id.1 == actor && first <= id.0 {
            id.0 += by;
        }
    };
    for op in &mut change.operations {
        if let ObjectId::Id(id) = &mut op.obj {
            renumber(id);
        }
        if let Key::Seq(ElementId::Id(id)) = &mut op.key {
            renumber(id);
        }
        let renumbered = |id: &OpId| {
            let mut id = id.clone();
            renumber(&mut id);
            id
        };
        op.pred = op.pred.iter().map(renumbered).collect();
    }
    change.start_op = like.start_op();
    // In the copy it also names its actor's previous change, which the base includes.
    change.deps = like.deps().to_vec();
    change.hash = None;
    Change::from(change)
}

fn unbounded() -> Refusal {
    internal("an edit without a bound came to it")
}

fn map_of(value: &Value) -> Result<&BTreeMap<String, Value>, Refusal> {
    match value {
        Value::Map(map) => Ok(map),
        _ => {
            let detail = "a list or a plain value goes under a key of it";
            Err(Refusal::new(RefusalKind::RootMustBeObject, detail))
        }
    }
}
