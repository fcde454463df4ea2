//! One document, loaded: edits and merges go in, JSON and changes come out.

use super::{
    Blame, Conflict, Delta, Edit, Form, Limits, NewStrings, Pointer, Refusal, RefusalKind, Stamp,
    Value, blame, conflict,
    first::{first_change, first_value},
    history::History,
    judge::OPERATION_END,
    life,
    place::operation_name,
    refusal::internal,
    standing::Standing,
    task::Task,
    verified::Verified,
    view::{JsonSink, Scope},
};
use crate::ident::{Hash, Version};
use automerge::{ActorId, Automerge, Change, ChangeHash, PatchLog, ROOT, ReadDoc};
use std::collections::{BTreeMap, BTreeSet};

/// Up to this size a new document is not loaded before somebody asks for more than what was put:
/// then that takes less than a millisecond.
const UNLOADED_BYTES_MAX: usize = 16 << 10;

/// The random bytes under which one incarnation of a node writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor(pub [u8; 16]);

/// Stored bytes that do not make the document that they should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damaged(pub String);

/// A document as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendering {
    /// Compact JSON; `None` where the document is deleted, or nobody has written it.
    pub json: Option<Vec<u8>>,
    /// How many places hold values beside the one that shows.
    pub conflicts: u32,
    /// Whether every place holds one value and nothing stands beside what shows: then no edit of
    /// this version makes a conflict.
    pub single: bool,
    /// The version that is shown.
    pub version: Version,
}

/// One document, loaded. What it shows is a pure function of its changes.
#[derive(Debug, Clone)]
pub struct Document {
    history: History,
    standing: Standing,
    actor: ActorId,
    /// What strings become that are new.
    strings: NewStrings,
    /// Whether every head is a tombstone: asked for many times in each write.
    deleted: bool,
    /// The size of its plain JSON as it was last told, or an estimate.
    json_bytes: usize,
    /// Its plain JSON, where its only change is a put: what was put, printed.
    filled: Option<Vec<u8>>,
    /// What the gate knows of it.
    verified: Verified,
}

impl Document {
    /// A document that nobody has written yet.
    pub fn new(actor: Actor) -> Self {
        Self {
            history: History::default(),
            standing: Standing::default(),
            actor: ActorId::from(actor.0),
            strings: NewStrings::default(),
            deleted: false,
            json_bytes: 0,
            filled: None,
            verified: Verified::default(),
        }
    }

    /// A document from its stored chunks, in stored order: a snapshot and changes, or changes
    /// alone. `standing` is what [`Document::standing`] gave when `version` was stored.
    ///
    /// # Errors
    /// [`Damaged`] if the chunks do not load, or not to `version`.
    pub fn load<'a>(
        chunks: impl IntoIterator<Item = &'a [u8]>,
        standing: &[u8],
        version: &Version,
        actor: Actor,
    ) -> Result<Self, Damaged> {
        let mut document = Self::read(chunks, actor)?;
        if document.version() != *version {
            return Err(Damaged(format!("loads to version {}", document.version())));
        }
        if !standing.is_empty() {
            document.standing = Standing::whole(document.history.automerge());
        }
        Ok(document)
    }

    /// A document from its stored chunks, of which nothing else is known any more.
    ///
    /// # Errors
    /// [`Damaged`] if the chunks do not load.
    pub fn recover<'a>(
        chunks: impl IntoIterator<Item = &'a [u8]>,
        actor: Actor,
    ) -> Result<Self, Damaged> {
        let mut document = Self::read(chunks, actor)?;
        document.standing = Standing::whole(document.history.automerge());
        Ok(document)
    }

    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, actor: Actor) -> Result<Self, Damaged> {
        let chunks: Vec<&[u8]> = chunks.into_iter().collect();
        let history =
            History::load(&chunks).map_err(|error| Damaged(format!("does not load: {error}")))?;
        let automerge = history.automerge();
        // A run of equal operations is stored as one: each is taken for a byte of JSON at least.
        let operations = usize::try_from(automerge.stats().num_ops).unwrap_or_default();
        Ok(Self {
            deleted: life::is_deleted(automerge, &automerge.get_heads()),
            history,
            standing: Standing::default(),
            actor: ActorId::from(actor.0),
            strings: NewStrings::default(),
            json_bytes: chunks.iter().map(|chunk| chunk.len()).sum::<usize>().max(operations),
            filled: None,
            verified: Verified::default(),
        })
    }

    /// Tells how large its plain JSON was when it was last rendered: what decides whether an edit
    /// comes near the largest document, and how much memory it is thought to hold.
    pub fn set_json_bytes(&mut self, bytes: usize) {
        self.json_bytes = bytes;
    }

    /// The size of its plain JSON: as it was last told, and what was written since; for a document
    /// that was just loaded a guess.
    pub fn json_bytes(&self) -> usize {
        self.json_bytes
    }

    /// Whether its plain JSON is at hand, so that rendering it walks nothing.
    pub fn is_filled(&self) -> bool {
        self.filled.is_some()
    }

    /// Goes on under another actor: one that no other copy of this document writes under.
    pub fn set_actor(&mut self, actor: Actor) {
        self.actor = ActorId::from(actor.0);
    }

    /// What becomes of strings that edits bring, from now on.
    pub fn set_new_strings(&mut self, strings: NewStrings) {
        self.strings = strings;
    }

    /// What has been seen.
    pub fn version(&self) -> Version {
        version_of(&self.history.heads())
    }

    /// Whether every head is a tombstone. `false` for a document that nobody has written.
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Its changes.
    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// All its changes, for what speaks Automerge's own protocols.
    pub(crate) fn automerge(&self) -> &Automerge {
        self.history.automerge()
    }

    /// Its changes, and what the gate knows of them.
    pub(super) fn history_and_verified(&mut self) -> (&History, &mut Verified) {
        (&self.history, &mut self.verified)
    }

    /// What the gate knows of it.
    pub(super) fn verified(&mut self) -> &mut Verified {
        &mut self.verified
    }

    /// What it shows now.
    pub(super) fn scope(&self) -> Scope<'_, Automerge> {
        Scope::new(self.history.automerge(), &self.standing)
    }

    /// Readies it for something to be put into so many places.
    pub(super) fn ready(&mut self, places: usize) {
        self.history.ready(places);
    }

    /// All its changes, for others to be added.
    pub(super) fn history_mut(&mut self) -> &mut History {
        self.filled = None;
        &mut self.history
    }

    /// Under whom it writes.
    pub(super) fn actor(&self) -> &ActorId {
        &self.actor
    }

    /// Whether there is nothing to read: never written, or deleted.
    pub fn is_absent(&self) -> bool {
        self.deleted || self.history.is_empty()
    }

    /// Whether every change that `version` names is here.
    pub fn holds(&self, version: &Version) -> bool {
        let known = |hash: &Hash| self.history.holds(&ChangeHash(hash.to_bytes()));
        version.hashes().iter().all(known)
    }

    /// Whether this change is here.
    pub fn holds_change(&self, hash: &Hash) -> bool {
        self.history.holds(&ChangeHash(hash.to_bytes()))
    }

    /// Makes an edit, at `base` or at the present.
    ///
    /// # Errors
    /// A [`Refusal`]; the document is as before.
    pub fn edit(
        &mut self,
        edit: &Edit,
        base: Option<&Version>,
        stamp: &Stamp,
        limits: &Limits,
    ) -> Result<Delta, Refusal> {
        let before = self.history.heads();
        let base = match base {
            None => before.clone(),
            Some(base) => self.base(base)?,
        };
        if self.fits(edit, limits) {
            let delta = self.edit_at(&base, edit, stamp, limits)?;
            self.json_bytes = match &self.filled {
                Some(json) => json.len(),
                None => self.json_bytes + delta.changes.iter().map(Vec::len).sum::<usize>(),
            };
            return Ok(delta);
        }
        // So near to the largest document the edit is tried on a copy first.
        let mut trial = self.clone();
        let delta = trial.edit_at(&base, edit, stamp, limits)?;
        let bytes = trial.render(Form::Plain, None)?.json.map_or(0, |json| json.len());
        if limits.document_bytes_max < bytes && self.json_bytes < bytes {
            let detail = format!("a document is at most {} bytes", limits.document_bytes_max);
            return Err(Refusal::at(RefusalKind::TooLarge, "", detail));
        }
        *self = trial;
        self.json_bytes = bytes;
        Ok(delta)
    }

    /// Whether a document after `edit` is surely within the limit on its size.
    fn fits(&self, edit: &Edit, limits: &Limits) -> bool {
        match edit {
            // A value is bounded by the text it was read from, and replaces what was there.
            Edit::Delete | Edit::Put(_) => true,
            Edit::MergePatch(_) | Edit::JsonPatch(_) => {
                self.json_bytes < limits.document_bytes_max / 4
            }
        }
    }

    fn edit_at(
        &mut self,
        base: &[ChangeHash],
        edit: &Edit,
        stamp: &Stamp,
        limits: &Limits,
    ) -> Result<Delta, Refusal> {
        let before = self.history.heads();
        self.filled = match edit {
            Edit::Put(value @ Value::Map(_)) if self.history.is_empty() => {
                Some(value.to_json(Form::Plain))
            }
            _ => None,
        };
        if let (Some(_), Edit::Put(value)) = (&self.filled, edit)
            && let Value::Map(map) = &*self.strings.fresh(value)
            && let Some(first) = self.first_change(map, edit, stamp, limits)
        {
            return Ok(self.begin(first));
        }
        let merged = base != before;
        let absent = self.is_absent();
        self.check_numbers(limits)?;
        self.ready(edit.places());
        self.history.automerge_mut().set_actor(self.actor.clone());
        if let Edit::Delete = edit {
            if merged && life::has_tombstone(self.history.automerge(), base) {
                // Deleted at this very version before: a retry.
                return Ok(self.delta(&before, &[], merged, absent));
            }
            life::mark(self.history.automerge_mut(), base, Some(life::DELETE), stamp.time_seconds)?;
        } else {
            let present = merged.then(|| self.history.automerge().clone());
            let standing = if merged {
                Standing::at_version(self.history.automerge(), base)
            } else {
                self.standing.clone()
            };
            let task = Task {
                edit,
                base,
                present: present.as_ref().map(|now| Scope::new(now, &self.standing)),
                absent,
                stamp,
                strings: self.strings,
                limits,
            };
            task.write(self.history.automerge_mut(), standing)?;
        }
        self.merge_heads(stamp)?;
        let delta = self.moved(&before, merged, absent);
        self.history.note_added(delta.changes.iter().map(Vec::len).sum());
        Ok(delta)
    }

    /// Refuses to write where the numbers of operations come to their end: others would not take it.
    fn check_numbers(&self, limits: &Limits) -> Result<(), Refusal> {
        let last = |head: &ChangeHash| self.history.last_operation(head).unwrap_or(0);
        let last = self.history.heads().iter().map(last).max().unwrap_or(0);
        if last + (limits.change_operations_max as u64) < OPERATION_END {
            return Ok(());
        }
        let detail = format!("its operations are numbered up to {last}: it takes no more edits");
        Err(Refusal::new(RefusalKind::TooLarge, detail))
    }

    /// The change that gives an untouched document its content, if that is to be had without
    /// loading the document.
    fn first_change(
        &self,
        map: &BTreeMap<String, Value>,
        edit: &Edit,
        stamp: &Stamp,
        limits: &Limits,
    ) -> Option<Change> {
        let told = stamp.message.as_deref().is_none_or(|message| !life::is_reserved(message));
        let wanted = told && edit.size() <= UNLOADED_BYTES_MAX;
        let change = wanted.then(|| first_change(map, &self.actor, stamp)).flatten();
        change.filter(|change| change.len() <= limits.change_operations_max)
    }

    /// Takes a change that a node of the cluster made, to an untouched document, if it is the one that a put
    /// of a small object makes: that is known without loading it. `None`: it is another one.
    pub(super) fn begin_with(&mut self, change: &Change, limits: &Limits) -> Option<Delta> {
        let told = change.message().is_none_or(|message| !life::is_reserved(message));
        let small = change.len().max(change.raw_bytes().len()) <= UNLOADED_BYTES_MAX;
        if !told || !small || !self.history.is_empty() {
            return None;
        }
        let value = first_value(change, limits.depth_max)?;
        let json = (value.size() <= UNLOADED_BYTES_MAX).then(|| value.to_json(Form::Plain))?;
        self.json_bytes = json.len();
        self.filled = Some(json);
        Some(self.begin(change.clone()))
    }

    fn begin(&mut self, first: Change) -> Delta {
        self.verified.note(std::slice::from_ref(&first));
        let changes = vec![first.raw_bytes().to_vec()];
        self.history = History::begin(first);
        let (before, after) = (Version::default(), self.version());
        Delta { changes, before, after, merged: false, created: true, deleted: false }
    }

    /// Takes note of what has come since `before`.
    pub(super) fn moved(&mut self, before: &[ChangeHash], merged: bool, absent: bool) -> Delta {
        let changes = self.history.automerge().get_changes(before);
        if !changes.is_empty() {
            self.verified.note(&changes);
            self.standing = self.standing.merged(self.history.automerge(), before, &changes);
            self.deleted = life::is_deleted(self.history.automerge(), &self.history.heads());
        }
        self.delta(before, &changes, merged, absent)
    }

    /// Makes one head of too many.
    fn merge_heads(&mut self, stamp: &Stamp) -> Result<(), Refusal> {
        let heads = self.history.heads();
        if life::HEADS_MAX < heads.len() {
            let deleted = life::is_deleted(self.history.automerge(), &heads);
            let message = if deleted { life::DELETE } else { life::MERGE };
            life::mark(self.history.automerge_mut(), &heads, Some(message), stamp.time_seconds)?;
        }
        Ok(())
    }

    fn delta(
        &self,
        before: &[ChangeHash],
        changes: &[Change],
        merged: bool,
        absent: bool,
    ) -> Delta {
        let deleted = self.deleted;
        Delta {
            changes: changes.iter().map(|change| change.raw_bytes().to_vec()).collect(),
            before: version_of(before),
            after: self.version(),
            merged,
            created: absent && !deleted && !changes.is_empty(),
            deleted,
        }
    }

    /// Takes changes that others made. Their bytes have passed the gate, or were stored here.
    /// Changes that are here already are skipped.
    ///
    /// # Errors
    /// [`Damaged`] if they do not parse or a dependency is missing; the document is as before.
    pub fn merge<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Delta, Damaged> {
        let damaged = |error: &dyn std::fmt::Display| Damaged(format!("does not merge: {error}"));
        let mut new = Vec::new();
        for bytes in changes {
            let change = Change::try_from(bytes).map_err(|error| damaged(&error))?;
            if !self.history.holds(&change.hash()) {
                new.push(change);
            }
        }
        let before = self.history.heads();
        let absent = self.is_absent();
        self.filled = None;
        if !new.is_empty() {
            let mut trial = self.history.clone();
            trial.apply(new).map_err(|error| damaged(&error))?;
            if !trial.automerge().get_missing_deps(&[]).is_empty() {
                return Err(Damaged("a change that it depends on is missing".to_owned()));
            }
            self.history = trial;
        }
        Ok(self.moved(&before, false, absent))
    }

    /// The document as JSON, now or at a version.
    ///
    /// # Errors
    /// `VersionNotFound`.
    pub fn render(&self, form: Form, at: Option<&Version>) -> Result<Rendering, Refusal> {
        let present = self.history.heads();
        let heads = match at {
            None => present.clone(),
            Some(version) => self.base(version)?,
        };
        let version = version_of(&heads);
        let deleted = if heads == present {
            self.deleted
        } else {
            life::is_deleted(self.history.automerge(), &heads)
        };
        if heads.is_empty() || deleted {
            let single = heads.is_empty();
            return Ok(Rendering { json: None, conflicts: 0, single, version });
        }
        let Printed { json, conflicts, single } =
            if let (Some(json), Form::Plain, true) = (&self.filled, form, heads == present) {
                Printed { json: json.clone(), conflicts: 0, single: true }
            } else if heads == present {
                print(self.scope(), form)
            } else {
                let standing = Standing::at_version(self.history.automerge(), &heads);
                // Only a transaction reads an old version at one cost for all of its objects.
                let mut past = self.history.automerge().clone();
                let tx = past.transaction_at(PatchLog::inactive(), &heads).map_err(internal)?;
                print(Scope::new(&tx, &standing), form)
            };
        Ok(Rendering { json: Some(json), conflicts, single, version })
    }

    /// The document's value, now; `None` if there is nothing to read.
    pub fn value(&self) -> Option<Value> {
        (!self.is_absent()).then(|| self.scope().map_value(&[ROOT]))
    }

    /// Every conflicted place, in the order of the view. None if there is nothing to read.
    pub fn conflicts(&self) -> Vec<Conflict> {
        if self.is_absent() {
            return Vec::new();
        }
        conflict::list(self.scope())
    }

    /// Which change set each value that shows at a place and below it, in the order of the view. None if
    /// there is nothing to read.
    pub fn blame(&self, within: &Pointer) -> Vec<Blame> {
        if self.is_absent() {
            return Vec::new();
        }
        blame::list(self.scope(), within)
    }

    /// The names of what stands without being visible, for [`Document::load`]; usually empty.
    pub fn standing(&self) -> Vec<u8> {
        let names: BTreeSet<String> =
            self.standing.all().map(|stander| operation_name(&stander.id)).collect();
        names.into_iter().collect::<Vec<_>>().join(" ").into_bytes()
    }

    /// How many changes there are.
    pub fn change_count(&self) -> usize {
        usize::try_from(self.history.len()).unwrap_or(usize::MAX)
    }

    /// An estimate of the memory that the document holds, in bytes, its own included.
    ///
    /// Fitted to what `tests/memory.rs` measures, and there within a factor of 2 for documents as
    /// people make them: 15 KB for an empty one, 190 bytes a change, and for content twice its
    /// JSON, less an eighth (0.6 times for numbers, 3.7 times for small objects). What is one
    /// element over and over is off by more: a list of empty objects holds up to 15 times as much.
    ///
    /// A document that was just put holds its JSON and its change, and nothing else.
    pub fn memory_bytes(&self) -> usize {
        let filled = self.filled.as_ref().map_or(0, Vec::len);
        if let Some(change) = self.history.unloaded_bytes() {
            let held = if change == 0 { 0 } else { 500 + filled + change };
            return size_of::<Self>() + held;
        }
        let content = 2 * self.json_bytes - self.json_bytes / 8;
        15_000 + filled + content + 190 * self.change_count()
    }

    /// The maximal ones of the changes that a version names.
    pub(super) fn base(&self, version: &Version) -> Result<Vec<ChangeHash>, Refusal> {
        if !self.holds(version) {
            let detail = "the document does not hold a change that the version names";
            return Err(Refusal::new(RefusalKind::VersionNotFound, detail));
        }
        let hashes: Vec<ChangeHash> =
            version.hashes().iter().map(|hash| ChangeHash(hash.to_bytes())).collect();
        Ok(life::maximal(self.history.automerge(), &hashes))
    }
}

/// A document that was walked.
struct Printed {
    json: Vec<u8>,
    conflicts: u32,
    single: bool,
}

fn print<R: ReadDoc>(scope: Scope<'_, R>, form: Form) -> Printed {
    let mut sink = JsonSink::default();
    scope.walk_map(&[ROOT], &mut sink);
    let single = !sink.several && scope.standing().is_empty();
    let json = match form {
        Form::Plain => sink.json,
        Form::Typed => scope.map_value(&[ROOT]).to_json(form),
    };
    Printed { json, conflicts: sink.conflicts, single }
}

/// The version whose heads these are.
pub(super) fn version_of(heads: &[ChangeHash]) -> Version {
    heads.iter().map(|head| Hash::from_bytes(head.0)).collect()
}
