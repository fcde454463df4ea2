//! A shard: the one owner of the loaded documents of its slice of ids, as a state machine.
//!
//! Events go in, effects come out; `worker.rs` performs them. [`Shard::flush`] ends a batch of
//! events: of all edits that a document got in it, one commit and one view are made.

use super::{
    Ambient, Error, Reading, Representation, Write, Written, cache::Cache, committer::Ticket,
    status::Status,
};
use crate::{
    doc::{Actor, Conflict, Delta, Document, Edit, Form, Limits, Rendering, Stamp},
    ident::{DocumentId, Name, Version},
    store::{Commit, Log, LogSize, NewView, Origin, Track},
};
use bytes::Bytes;
use std::{
    collections::{BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use tokio::sync::oneshot;

/// Fewest logged changes worth a fold, wherever the document is small.
const FOLD_CHANGES_MIN: u64 = 32;
/// Fewest logged changes at which bytes, or an eviction, call for a fold.
const FOLD_CHANGES_FEW: u64 = 8;
/// Logged bytes that call for a fold, where the snapshot is smaller.
const FOLD_BYTES_MIN: u64 = 4 << 10;
/// One logged change is carried for so many bytes of the snapshot.
const FOLD_BYTES_PER_CHANGE: u64 = 8 << 10;

/// Most documents looked at for eviction after one batch of events.
const EVICTED_MAX: usize = 256;

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What a caller wants of a document.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: Name,
    pub(super) task: Task,
}

#[derive(Debug)]
pub(super) enum Task {
    Write {
        write: Box<Write>,
        reply: Reply<Written>,
    },
    Read {
        what: Representation,
        at: Option<Version>,
        includes: Option<Version>,
        reply: Reply<Reading>,
    },
    Conflicts {
        reply: Reply<(Version, Vec<Conflict>)>,
    },
}

/// What a shard is told.
#[derive(Debug)]
pub(super) enum Event {
    Command(Command),
    /// A load that it asked for has ended.
    Loaded {
        name: Name,
        result: Result<Box<Loaded>, Error>,
    },
    /// A commit that it asked for has ended.
    Committed {
        id: DocumentId,
        load: u64,
        number: u64,
        result: Result<(), Error>,
    },
}

/// A document out of the store.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) document: Document,
    pub(super) track: Arc<Track>,
}

/// What a shard wants done, in order.
#[derive(Debug)]
pub(super) enum Effect {
    /// Load a document, to write under this actor.
    Load {
        name: Name,
        actor: Actor,
    },
    Commit(Ticket),
}

/// The bounds of one shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShardOptions {
    pub(super) documents_bytes: usize,
    /// Most commands that wait for one load.
    pub(super) waiting_max: usize,
    pub(super) limits: Limits,
}

/// A document that is here, or on its way.
#[derive(Debug)]
enum Slot {
    Loading(Vec<Task>),
    Resident(Box<Resident>),
}

#[derive(Debug)]
struct Resident {
    document: Document,
    track: Arc<Track>,
    log: LogSize,
    /// Which load this is; tells late answers of an earlier one apart.
    load: u64,
    /// Commits sent, and commits that ended.
    sent: u64,
    done: u64,
    /// Changes made since the last commit was sent.
    fresh: Vec<Bytes>,
    /// Answers, each with the commit on which it rests, in order.
    waiting: VecDeque<(u64, Answer)>,
}

/// An answer that is ready, but for the durability of what it rests on.
#[derive(Debug)]
enum Answer {
    Written(Written, Reply<Written>),
    Reading(Reading, Reply<Reading>),
    Conflicts((Version, Vec<Conflict>), Reply<(Version, Vec<Conflict>)>),
    RefusedWrite(Error, Reply<Written>),
    RefusedReading(Error, Reply<Reading>),
}

impl Answer {
    /// Sends it. A caller that no longer waits is no concern.
    fn send(self) {
        match self {
            Self::Written(written, reply) => drop(reply.send(Ok(written))),
            Self::Reading(reading, reply) => drop(reply.send(Ok(reading))),
            Self::Conflicts(conflicts, reply) => drop(reply.send(Ok(conflicts))),
            Self::RefusedWrite(error, reply) => drop(reply.send(Err(error))),
            Self::RefusedReading(error, reply) => drop(reply.send(Err(error))),
        }
    }

    fn fail(self, error: Error) {
        match self {
            Self::Written(_, reply) | Self::RefusedWrite(_, reply) => drop(reply.send(Err(error))),
            Self::Reading(_, reply) | Self::RefusedReading(_, reply) => {
                drop(reply.send(Err(error)));
            }
            Self::Conflicts(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

impl Task {
    fn fail(self, error: Error) {
        match self {
            Self::Write { reply, .. } => drop(reply.send(Err(error))),
            Self::Read { reply, .. } => drop(reply.send(Err(error))),
            Self::Conflicts { reply } => drop(reply.send(Err(error))),
        }
    }
}

/// One shard.
#[derive(Debug)]
pub(super) struct Shard {
    options: ShardOptions,
    ambient: Ambient,
    status: Arc<Status>,
    documents: Cache<Slot>,
    actor: Actor,
    loads: u64,
    /// Documents with changes that no commit carries yet.
    dirty: BTreeSet<DocumentId>,
    /// Commits that have not ended.
    in_flight: u64,
    loading: u64,
}

impl Shard {
    pub(super) fn new(options: ShardOptions, ambient: Ambient, status: Arc<Status>) -> Self {
        let actor = ambient.actor();
        Self {
            options,
            ambient,
            status,
            documents: Cache::new(options.documents_bytes),
            actor,
            loads: 0,
            dirty: BTreeSet::new(),
            in_flight: 0,
            loading: 0,
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.loading == 0 && self.dirty.is_empty()
    }

    /// Takes one event in.
    pub(super) fn handle(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Command(Command { name, task }) => self.command(&name, task, effects),
            Event::Loaded { name, result } => self.loaded(&name, result),
            Event::Committed { id, load, number, result } => {
                self.in_flight -= 1;
                self.committed(id, load, number, result);
            }
        }
    }

    /// Ends a batch of events: makes one commit of each document that was written, and makes room.
    pub(super) fn flush(&mut self, effects: &mut Vec<Effect>) {
        for id in std::mem::take(&mut self.dirty) {
            let Some(Slot::Resident(resident)) = self.documents.peek(id) else { continue };
            match resident.commit() {
                Ok(commit) => effects.push(self.ticket(id, commit)),
                Err(error) => self.discard(id, &error),
            }
        }
        self.make_room(effects);
    }

    fn command(&mut self, name: &Name, task: Task, effects: &mut Vec<Effect>) {
        let waiting_max = self.options.waiting_max;
        match self.documents.touch(name.id()) {
            None => {
                self.loading += 1;
                self.documents.insert(name.id(), Slot::Loading(vec![task]), 0);
                effects.push(Effect::Load { name: name.clone(), actor: self.actor });
            }
            Some(Slot::Loading(tasks)) if tasks.len() < waiting_max => tasks.push(task),
            Some(Slot::Loading(_)) => task.fail(Error::Stalled),
            Some(Slot::Resident(resident)) if resident.track.name() != name => {
                task.fail(Error::Internal("its id is that of another document".to_owned()));
            }
            Some(Slot::Resident(resident)) if waiting_max <= resident.waiting.len() => {
                task.fail(Error::Stalled);
            }
            Some(Slot::Resident(_)) => self.perform(name.id(), task),
        }
    }

    fn loaded(&mut self, name: &Name, result: Result<Box<Loaded>, Error>) {
        self.loading -= 1;
        let Some(Slot::Loading(tasks)) = self.documents.remove(name.id()) else { return };
        match result {
            Ok(loaded) => {
                let Loaded { document, track } = *loaded;
                self.loads += 1;
                let bytes = document.memory_bytes();
                let resident = Resident {
                    document,
                    log: track.log_size(),
                    track,
                    load: self.loads,
                    sent: 0,
                    done: 0,
                    fresh: Vec::new(),
                    waiting: VecDeque::new(),
                };
                self.documents.insert(name.id(), Slot::Resident(Box::new(resident)), bytes);
                for task in tasks {
                    self.perform(name.id(), task);
                }
            }
            Err(error) => {
                for task in tasks {
                    task.fail(error.clone());
                }
            }
        }
    }

    /// Does what is wanted of a document that is here.
    fn perform(&mut self, id: DocumentId, task: Task) {
        let Some(Slot::Resident(resident)) = self.documents.peek(id) else {
            return task.fail(Error::Internal("the document was dropped from memory".to_owned()));
        };
        let now = self.ambient.unix_seconds();
        let (limits, status) = (&self.options.limits, &self.status);
        // A defect in one document must not take the others down.
        let guarded =
            catch_unwind(AssertUnwindSafe(|| resident.perform(task, now, limits, status)));
        match guarded {
            Ok(()) => {
                if !resident.fresh.is_empty() {
                    self.dirty.insert(id);
                }
            }
            Err(_) => {
                tracing::error!(document = %id, "a defect: an edit or a read of it panicked");
                let error = Error::Internal("the request met a defect of the program".to_owned());
                self.discard(id, &error);
            }
        }
    }

    fn committed(&mut self, id: DocumentId, load: u64, number: u64, result: Result<(), Error>) {
        let Some(Slot::Resident(resident)) = self.documents.peek(id) else { return };
        if resident.load != load {
            return;
        }
        match result {
            Ok(()) => {
                resident.done = number;
                while resident.waiting.front().is_some_and(|(rests_on, _)| *rests_on <= number) {
                    if let Some((_, answer)) = resident.waiting.pop_front() {
                        answer.send();
                    }
                }
            }
            Err(error) => self.discard(id, &error),
        }
    }

    /// Drops a document whose state in memory is not what is or will be on disk.
    fn discard(&mut self, id: DocumentId, error: &Error) {
        self.dirty.remove(&id);
        if let Some(Slot::Resident(resident)) = self.documents.remove(id) {
            for (_, answer) in resident.waiting {
                answer.fail(error.clone());
            }
        }
        // What it wrote may come back from the disk, or not: no document goes on under its actor.
        self.actor = self.ambient.actor();
    }

    fn ticket(&mut self, id: DocumentId, commit: Prepared) -> Effect {
        self.in_flight += 1;
        self.documents.weigh(id, commit.memory_bytes);
        Effect::Commit(Ticket {
            id,
            load: commit.load,
            number: commit.number,
            commit: commit.commit,
        })
    }

    /// Evicts the least recently used documents until the rest fits; folds a long log first.
    fn make_room(&mut self, effects: &mut Vec<Effect>) {
        if !self.documents.is_over() {
            return;
        }
        // As many as one batch can have brought in; more than that goes with the next ones.
        let oldest: Vec<DocumentId> = self.documents.oldest().take(EVICTED_MAX).collect();
        for id in oldest {
            if !self.documents.is_over() {
                break;
            }
            let Some(Slot::Resident(resident)) = self.documents.peek(id) else { continue };
            if resident.done < resident.sent || !resident.fresh.is_empty() {
                continue;
            }
            let writable = self.status.check_writable().is_ok();
            let long = FOLD_CHANGES_FEW <= u64::from(resident.log.changes);
            let fold = if writable && long { resident.fold() } else { None };
            match fold {
                Some(fold) => effects.push(self.ticket(id, fold)),
                None => drop(self.documents.remove(id)),
            }
        }
    }

    /// Ends everything: what waits is answered that the node stops.
    pub(super) fn stop(&mut self) {
        let ids: Vec<DocumentId> = self.documents.ids().collect();
        for id in ids {
            match self.documents.remove(id) {
                Some(Slot::Loading(tasks)) => {
                    tasks.into_iter().for_each(|task| task.fail(Error::Stopping));
                }
                Some(Slot::Resident(resident)) => {
                    for (_, answer) in resident.waiting {
                        answer.fail(Error::Stopping);
                    }
                }
                None => {}
            }
        }
    }
}

/// A commit of a resident document, numbered.
struct Prepared {
    load: u64,
    number: u64,
    commit: Commit,
    memory_bytes: usize,
}

impl Resident {
    fn perform(&mut self, task: Task, now: i64, limits: &Limits, status: &Status) {
        let answer = match task {
            Task::Write { write, reply } => {
                let done = status.check_writable().and_then(|()| self.write(*write, now, limits));
                match done {
                    Ok(written) => Answer::Written(written, reply),
                    Err(error) => Answer::RefusedWrite(error, reply),
                }
            }
            Task::Read { what, at, includes, reply } => {
                match self.read(what, at.as_ref(), includes.as_ref()) {
                    Ok(reading) => Answer::Reading(reading, reply),
                    Err(error) => Answer::RefusedReading(error, reply),
                }
            }
            Task::Conflicts { reply } => match self.absence() {
                None => {
                    let conflicts = (self.document.version(), self.document.conflicts());
                    Answer::Conflicts(conflicts, reply)
                }
                Some(error) => return drop(reply.send(Err(error))),
            },
        };
        self.answer(answer);
    }

    /// Answers at once, or once everything is durable on which the answer rests.
    fn answer(&mut self, answer: Answer) {
        let rests_on = if self.fresh.is_empty() { self.sent } else { self.sent + 1 };
        if rests_on <= self.done {
            answer.send();
        } else {
            self.waiting.push_back((rests_on, answer));
        }
    }

    /// Why there is nothing to read, if there is nothing.
    fn absence(&self) -> Option<Error> {
        let version = self.document.version();
        if version.is_empty() {
            Some(Error::NotFound)
        } else if self.document.is_deleted() {
            Some(Error::Deleted(version))
        } else {
            None
        }
    }

    fn write(&mut self, write: Write, now: i64, limits: &Limits) -> Result<Written, Error> {
        let absence = self.absence();
        if let (Edit::Delete, Some(absence)) = (&write.edit, &absence) {
            return Err(absence.clone());
        }
        if write.base.as_ref().is_some_and(|base| !self.document.holds(base)) {
            return Err(Error::VersionNotFound);
        }
        let version = self.document.version();
        write.precondition.check(absence.is_none().then_some(&version))?;
        let stamp = Stamp { time_seconds: now, message: write.message };
        let delta = self.document.edit(&write.edit, write.base.as_ref(), &stamp, limits)?;
        let Delta { changes, after, merged, created, deleted, .. } = delta;
        let unchanged = changes.is_empty();
        self.fresh.extend(changes.into_iter().map(Bytes::from));
        let reading = match write.want {
            Some(what) if !deleted => Some(self.read(what, None, None)?),
            _ => None,
        };
        // The count is filled in when the view is made; what changes nothing asks for it.
        let conflicts =
            if unchanged { self.document.render(Form::Plain, None)?.conflicts } else { 0 };
        Ok(Written { version: after, conflicts, merged, unchanged, created, deleted, reading })
    }

    fn read(
        &self,
        what: Representation,
        at: Option<&Version>,
        includes: Option<&Version>,
    ) -> Result<Reading, Error> {
        let held = |version: &Version| self.document.holds(version);
        if !at.is_none_or(held) || !includes.is_none_or(held) {
            return Err(Error::VersionNotFound);
        }
        if let (None, Some(absence)) = (at, self.absence()) {
            return Err(absence);
        }
        let form = match what {
            Representation::Json(form) => form,
            Representation::Automerge => Form::Plain,
        };
        let Rendering { json, conflicts, version } = self.document.render(form, at)?;
        let body = match (what, json) {
            (_, None) if version.is_empty() => return Err(Error::NotFound),
            (_, None) => return Err(Error::Deleted(version)),
            (Representation::Automerge, Some(_)) => self.document.save_at(at)?,
            (Representation::Json(_), Some(json)) => json,
        };
        Ok(Reading { body: body.into(), version, conflicts })
    }

    /// The commit of all that was written since the last one.
    fn commit(&mut self) -> Result<Prepared, Error> {
        let Rendering { json, conflicts, version } = self.document.render(Form::Plain, None)?;
        self.document.set_json_bytes(json.as_ref().map_or(0, Vec::len));
        for (rests_on, answer) in &mut self.waiting {
            if let Answer::Written(written, _) = answer
                && self.sent < *rests_on
                && !written.unchanged
            {
                written.conflicts = conflicts;
            }
        }
        let changes = std::mem::take(&mut self.fresh);
        self.log.changes += u32::try_from(changes.len()).unwrap_or(u32::MAX);
        self.log.bytes += changes.iter().map(|change| change.len() as u64).sum::<u64>();
        let fold = if self.is_fold_due() { self.snapshot() } else { None };
        let view = json.map_or(NewView::Deleted, |json| NewView::Made(json.into()));
        let log = fold.unwrap_or(Log::Append(changes));
        Ok(self.prepared(log, version, conflicts, view))
    }

    /// A commit that only replaces the log by a snapshot; `None` if that cannot be had.
    fn fold(&mut self) -> Option<Prepared> {
        let Rendering { json, conflicts, version } =
            self.document.render(Form::Plain, None).ok()?;
        let view = json.map_or(NewView::Deleted, |json| NewView::Made(json.into()));
        let log = self.snapshot()?;
        Some(self.prepared(log, version, conflicts, view))
    }

    fn prepared(&mut self, log: Log, version: Version, conflicts: u32, view: NewView) -> Prepared {
        self.sent += 1;
        let commit = Commit {
            track: Arc::clone(&self.track),
            log,
            origin: Origin::Own,
            version,
            conflicts,
            view,
            standing: self.document.standing().into(),
        };
        let memory_bytes = self.document.memory_bytes();
        Prepared { load: self.load, number: self.sent, commit, memory_bytes }
    }

    fn is_fold_due(&self) -> bool {
        let LogSize { bytes, changes, snapshot_bytes, snapshot_changes } = self.log;
        let changes = u64::from(changes);
        let many = FOLD_CHANGES_MIN
            .max(u64::from(snapshot_changes) / 8)
            .max(snapshot_bytes / FOLD_BYTES_PER_CHANGE);
        many <= changes
            || (FOLD_CHANGES_FEW <= changes && FOLD_BYTES_MIN.max(snapshot_bytes) <= bytes)
    }

    /// A snapshot that was loaded back and found to be the document; `None` if it is not.
    fn snapshot(&mut self) -> Option<Log> {
        let snapshot = self.document.save();
        let (standing, version) = (self.document.standing(), self.document.version());
        let actor = Actor([0; 16]);
        if let Err(error) = Document::load([&snapshot[..]], &standing, &version, actor) {
            let id = self.track.name().id();
            tracing::error!(document = %id, %error, "a snapshot does not load: its log is kept");
            return None;
        }
        let changes = u32::try_from(self.document.change_count()).unwrap_or(u32::MAX);
        self.log = LogSize {
            bytes: 0,
            changes: 0,
            snapshot_bytes: snapshot.len() as u64,
            snapshot_changes: changes,
        };
        Some(Log::Fold { snapshot: snapshot.into(), changes })
    }
}
