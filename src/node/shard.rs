//! A shard: the one owner of the loaded documents of its slice of ids, as a state machine.
//!
//! Events go in, effects come out; `worker.rs` performs them. [`Shard::flush`] ends a batch of
//! events: of all edits that a document got in it, one commit and one view are made.
//!
//! Heavy work is handed out as a [`Job`] together with the document, which is *away* until the job
//! comes back; what is wanted of it meanwhile waits, and all other documents go on.

use super::{
    Ambient, Error,
    cache::Cache,
    committer::Ticket,
    figures::ShardMetrics,
    orphans::Nursery,
    resident::{Around, HEAVY, Prepared, Resident},
    status::Status,
    task::{Command, Reply, Task},
};
use crate::{
    doc::{Actor, Document, Limits, NewStrings},
    ident::{Collection, Cursor, DocumentId, Name, NodeId, PeerName, QuarantineId},
    store::{Aside, Commit, KeptAnswers, NewView, PeerRow, Track},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// Most documents looked at for eviction after one batch of events.
const EVICTED_MAX: usize = 256;
/// Most stale views that one tick has made.
const VIEWS_PER_TICK_MAX: usize = 16;

/// Ticks after which a document leaves memory that nobody has used since.
const IDLE_TICKS: usize = 60;

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
    /// A job that it handed out is done.
    Done(Box<Done>),
    /// A second has passed. Sent only while documents are in memory.
    Tick,
    /// For the committer, past all documents.
    Apart(Box<Apart>),
}

/// What is written and is no edit of a loaded document.
#[derive(Debug)]
pub(super) enum Apart {
    /// Put something into quarantine.
    SetAside {
        name: Name,
        aside: Aside,
        why: String,
        time_seconds: i64,
        reply: Option<Reply<bool>>,
    },
    /// Take a document out of quarantine.
    Release { commit: Box<Commit>, reply: Reply<()> },
    /// Forget something in quarantine.
    Forget { id: QuarantineId, reply: Reply<bool> },
    /// Keep how far another node's feed was taken in.
    Cursor { of: NodeId, cursor: Cursor, reply: Reply<()> },
    /// Keep a peer, or none of that name.
    Peer { name: PeerName, row: Option<PeerRow>, reply: Reply<()> },
}

/// A document out of the store.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) document: Document,
    pub(super) track: Arc<Track>,
    pub(super) orphans: Nursery,
}

/// What a shard wants done, in order.
#[derive(Debug)]
pub(super) enum Effect {
    /// Load a document, to write under this actor.
    Load {
        name: Name,
        actor: Actor,
    },
    Commit(Box<Ticket>),
    Apart(Box<Apart>),
    /// Do it on another thread, and tell when it is done.
    HandOut(Box<Job>),
}

/// Work on a document that its shard does not do itself.
#[derive(Debug)]
pub(super) struct Job {
    name: Name,
    resident: Box<Resident>,
    work: Work,
    now: i64,
    limits: Limits,
    status: Arc<Status>,
    kept: Arc<KeptAnswers>,
    ambient: Ambient,
}

#[derive(Debug)]
enum Work {
    /// Perform tasks, if any, and prepare a commit of all that was done.
    Tasks(Vec<Task>),
    /// Prepare the commit after which the document may leave memory.
    Settle,
}

/// A job that is done.
#[derive(Debug)]
pub(super) struct Done {
    name: Name,
    resident: Box<Resident>,
    outcome: Result<Option<Prepared>, Error>,
}

impl Job {
    /// Does it. A panic on the way is an outcome.
    pub(super) fn run(self) -> Done {
        let Self { name, mut resident, work, now, limits, status, kept, ambient } = self;
        let around =
            Around { now, limits: &limits, status: &status, kept: &kept, ambient: &ambient };
        let document = &mut resident;
        let guarded = catch_unwind(AssertUnwindSafe(|| match work {
            Work::Tasks(tasks) => {
                for task in tasks {
                    document.perform(task, &around);
                }
                if document.is_dirty() { document.commit().map(Some) } else { Ok(None) }
            }
            Work::Settle => Ok(document.settle()),
        }));
        Done { outcome: guarded.unwrap_or_else(|_| Err(defect(&resident))), name, resident }
    }
}

/// A defect in one document must not take the others down.
fn defect(resident: &Resident) -> Error {
    resident.metrics().panics.increment();
    tracing::error!(document = %resident.track().name().id(), "a defect: an edit or a read of it panicked");
    Error::Internal("the request met a defect of the program".to_owned())
}

/// The bounds of one shard.
#[derive(Debug, Clone)]
pub(super) struct ShardOptions {
    pub(super) documents_bytes: usize,
    /// Most commands that wait for one document.
    pub(super) waiting_max: usize,
    pub(super) limits: Limits,
    /// Collections whose new strings are texts.
    pub(super) texts: Arc<BTreeSet<Collection>>,
}

/// A document that is here, on its way, or away.
#[derive(Debug)]
enum Slot {
    Loading(Vec<Task>),
    Resident(Box<Resident>),
    Away(Away),
}

/// What came for a document while it is away.
#[derive(Debug)]
struct Away {
    load: u64,
    /// Commits that ended, in order.
    ended: Vec<(u64, Result<(), Error>)>,
    tasks: Vec<Task>,
}

/// One shard.
#[derive(Debug)]
pub(super) struct Shard {
    options: ShardOptions,
    ambient: Ambient,
    status: Arc<Status>,
    metrics: Arc<ShardMetrics>,
    kept: Arc<KeptAnswers>,
    documents: Cache<Slot>,
    actor: Actor,
    loads: u64,
    /// Documents with something done that no commit carries yet.
    dirty: BTreeSet<DocumentId>,
    /// Documents without a view, and the tick of their last commit.
    stale: BTreeMap<DocumentId, u64>,
    ticks: u64,
    /// How much had been used at each of the last ticks.
    past: VecDeque<u64>,
    /// Commits that have not ended.
    in_flight: u64,
    loading: u64,
    away: u64,
}

impl Shard {
    pub(super) fn new(
        options: ShardOptions,
        ambient: Ambient,
        status: Arc<Status>,
        metrics: Arc<ShardMetrics>,
        kept: Arc<KeptAnswers>,
    ) -> Self {
        let actor = ambient.actor();
        Self {
            documents: Cache::new(options.documents_bytes),
            options,
            ambient,
            status,
            metrics,
            kept,
            actor,
            loads: 0,
            dirty: BTreeSet::new(),
            stale: BTreeMap::new(),
            ticks: 0,
            past: VecDeque::new(),
            in_flight: 0,
            loading: 0,
            away: 0,
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.loading == 0 && self.away == 0 && self.dirty.is_empty()
    }

    /// Whether it wants to be told of time that passes.
    pub(super) fn wants_ticks(&self) -> bool {
        self.documents.len() != 0
    }

    /// How many documents have no view.
    #[cfg(test)]
    pub(super) fn stale_count(&self) -> usize {
        self.stale.len()
    }

    /// How many documents are in memory, or on their way to it.
    #[cfg(test)]
    pub(super) fn document_count(&self) -> usize {
        self.documents.ids().count()
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// Takes one event in.
    pub(super) fn handle(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Command(Command { name, task }) => self.command(&name, task, effects),
            Event::Loaded { name, result } => self.loaded(&name, result, effects),
            Event::Committed { id, load, number, result } => {
                self.in_flight -= 1;
                self.committed(id, load, number, result);
            }
            Event::Done(done) => self.done(*done, effects),
            Event::Tick => self.tick(effects),
            Event::Apart(apart) => effects.push(Effect::Apart(apart)),
        }
    }

    /// Ends a batch of events: makes one commit of each document that was written, and makes room.
    pub(super) fn flush(&mut self, effects: &mut Vec<Effect>) {
        for id in std::mem::take(&mut self.dirty) {
            let Some(Slot::Resident(resident)) = self.documents.peek(id) else { continue };
            if HEAVY < resident.commit_weight() {
                self.hand_out(id, Work::Tasks(Vec::new()), effects);
                continue;
            }
            match resident.commit() {
                Ok(commit) => effects.push(self.ticket(id, commit)),
                Err(error) => self.discard(id, &error),
            }
        }
        self.make_room(effects);
        self.metrics.documents.set(self.documents.len() as u64);
        self.metrics.bytes.set(self.documents.bytes() as u64);
    }

    fn command(&mut self, name: &Name, task: Task, effects: &mut Vec<Effect>) {
        let waiting_max = self.options.waiting_max;
        let found = self.documents.touch(name.id());
        let counter = if found.is_some() { &self.metrics.hits } else { &self.metrics.misses };
        counter.increment();
        match found {
            None => {
                self.loading += 1;
                self.documents.insert(name.id(), Slot::Loading(vec![task]), 0);
                effects.push(Effect::Load { name: name.clone(), actor: self.actor });
            }
            Some(Slot::Loading(tasks) | Slot::Away(Away { tasks, .. })) => {
                if tasks.len() < waiting_max {
                    tasks.push(task);
                } else {
                    task.fail(Error::Stalled);
                }
            }
            Some(Slot::Resident(resident)) if resident.track().name() != name => {
                task.fail(Error::Elsewhere(resident.track().name().clone()));
            }
            Some(Slot::Resident(resident)) if waiting_max <= resident.waiting() => {
                task.fail(Error::Stalled);
            }
            Some(Slot::Resident(_)) => self.perform(name.id(), task, effects),
        }
    }

    fn loaded(
        &mut self,
        name: &Name,
        result: Result<Box<Loaded>, Error>,
        effects: &mut Vec<Effect>,
    ) {
        self.loading -= 1;
        let id = name.id();
        match result {
            Ok(loaded) => {
                let Loaded { mut document, track, orphans } = *loaded;
                if self.options.texts.contains(name.collection()) {
                    document.set_new_strings(NewStrings::Texts);
                }
                self.loads += 1;
                let metrics = Arc::clone(&self.metrics);
                let resident =
                    Box::new(Resident::new(document, track, orphans, self.loads, metrics));
                let bytes = resident.memory_bytes();
                let Some(slot) = self.documents.peek(id) else { return };
                let before = std::mem::replace(slot, Slot::Resident(resident));
                self.documents.weigh(id, bytes);
                if let Slot::Loading(tasks) = before {
                    self.perform_all(name, tasks, effects);
                }
            }
            Err(error) => {
                if let Error::Damaged(why) = &error {
                    effects.push(Effect::Apart(Box::new(Apart::SetAside {
                        name: name.clone(),
                        aside: Aside::Document,
                        why: why.clone(),
                        time_seconds: self.ambient.unix_seconds(),
                        reply: None,
                    })));
                }
                let Some(Slot::Loading(tasks)) = self.documents.remove(id) else { return };
                for task in tasks {
                    task.fail(error.clone());
                }
            }
        }
    }

    /// Does what waited for a document, in order.
    fn perform_all(&mut self, name: &Name, tasks: Vec<Task>, effects: &mut Vec<Effect>) {
        let limits = self.options.limits;
        let mut tasks = tasks.into_iter();
        while let Some(task) = tasks.next() {
            match self.documents.peek(name.id()) {
                Some(Slot::Resident(resident)) if HEAVY < resident.weight(&task, &limits) => {
                    // What is behind it goes along, into the same commit.
                    let tasks = std::iter::once(task).chain(tasks.by_ref()).collect();
                    self.hand_out(name.id(), Work::Tasks(tasks), effects);
                }
                Some(Slot::Resident(_)) => self.perform(name.id(), task, effects),
                Some(Slot::Loading(_) | Slot::Away(_)) | None => self.command(name, task, effects),
            }
        }
    }

    /// Does what is wanted of a document that is here.
    fn perform(&mut self, id: DocumentId, task: Task, effects: &mut Vec<Effect>) {
        let Some(Slot::Resident(resident)) = self.documents.peek(id) else {
            return task.fail(Error::Internal("the document was dropped from memory".to_owned()));
        };
        let (limits, status) = (&self.options.limits, &self.status);
        if HEAVY < resident.weight(&task, limits) {
            return self.hand_out(id, Work::Tasks(vec![task]), effects);
        }
        let now = self.ambient.unix_seconds();
        let around = Around { now, limits, status, kept: &self.kept, ambient: &self.ambient };
        let guarded = catch_unwind(AssertUnwindSafe(|| resident.perform(task, &around)));
        match guarded {
            Ok(()) => {
                if resident.is_dirty() {
                    self.dirty.insert(id);
                } else {
                    // A read may have been the first to load what was put before.
                    let bytes = resident.memory_bytes();
                    self.documents.weigh(id, bytes);
                }
            }
            Err(_) => {
                let error = defect(resident);
                self.discard(id, &error);
            }
        }
    }

    /// Hands a document out, together with what is to be done.
    fn hand_out(&mut self, id: DocumentId, work: Work, effects: &mut Vec<Effect>) {
        let Some(slot) = self.documents.peek(id) else { return };
        let Slot::Resident(resident) = slot else { return };
        let away = Away { load: resident.load(), ended: Vec::new(), tasks: Vec::new() };
        let Slot::Resident(resident) = std::mem::replace(slot, Slot::Away(away)) else { return };
        self.away += 1;
        // What it has done already goes along.
        self.dirty.remove(&id);
        effects.push(Effect::HandOut(Box::new(Job {
            name: resident.track().name().clone(),
            resident,
            work,
            now: self.ambient.unix_seconds(),
            limits: self.options.limits,
            status: Arc::clone(&self.status),
            kept: Arc::clone(&self.kept),
            ambient: self.ambient.clone(),
        })));
    }

    /// Takes a document back.
    fn done(&mut self, done: Done, effects: &mut Vec<Effect>) {
        let Done { name, resident, outcome } = done;
        let id = name.id();
        self.away -= 1;
        let (load, bytes) = (resident.load(), resident.memory_bytes());
        let Some(slot) = self.documents.peek(id) else { return };
        let Slot::Away(away) = std::mem::replace(slot, Slot::Resident(resident)) else { return };
        self.documents.weigh(id, bytes);
        match outcome {
            Ok(Some(commit)) => effects.push(self.ticket(id, commit)),
            Ok(None) => {}
            Err(error) => self.discard(id, &error),
        }
        for (number, result) in away.ended {
            self.committed(id, load, number, result);
        }
        self.perform_all(&name, away.tasks, effects);
    }

    fn committed(&mut self, id: DocumentId, load: u64, number: u64, result: Result<(), Error>) {
        match self.documents.peek(id) {
            Some(Slot::Resident(resident)) if resident.load() == load => match result {
                Ok(()) => resident.committed(number),
                Err(error) => self.discard(id, &error),
            },
            Some(Slot::Away(away)) if away.load == load => away.ended.push((number, result)),
            Some(Slot::Resident(_) | Slot::Away(_) | Slot::Loading(_)) | None => {}
        }
    }

    /// Drops a document whose state in memory is not what is or will be on disk.
    fn discard(&mut self, id: DocumentId, error: &Error) {
        self.dirty.remove(&id);
        self.stale.remove(&id);
        if let Some(Slot::Resident(resident)) = self.documents.remove(id) {
            resident.fail(error);
        }
        // What it wrote may come back from the disk, or not: no document goes on under its actor.
        self.actor = self.ambient.actor();
    }

    fn ticket(&mut self, id: DocumentId, prepared: Prepared) -> Effect {
        self.in_flight += 1;
        if let Some(Slot::Resident(resident)) = self.documents.peek(id) {
            let bytes = resident.memory_bytes();
            self.documents.weigh(id, bytes);
        }
        let Prepared { load, number, mut commit } = prepared;
        commit.document_bytes_max = self.options.limits.document_bytes_max;
        if commit.view == NewView::Stale {
            self.stale.insert(id, self.ticks);
        } else {
            self.stale.remove(&id);
        }
        Effect::Commit(Box::new(Ticket { id, load, number, commit }))
    }

    /// Has the views made of documents that nobody has written for a second, and evicts those that nobody
    /// has used for long.
    fn tick(&mut self, effects: &mut Vec<Effect>) {
        self.ticks += 1;
        let quiet = self.stale.iter().filter(|(_, last)| **last + 1 < self.ticks);
        let quiet: Vec<DocumentId> = quiet.map(|(id, _)| *id).take(VIEWS_PER_TICK_MAX).collect();
        for id in quiet {
            match self.documents.peek(id) {
                Some(Slot::Resident(resident)) if resident.is_view_stale() => {
                    if self.status.check_writable().is_ok() {
                        self.hand_out(id, Work::Settle, effects);
                    }
                }
                Some(Slot::Away(_)) => {}
                // Whoever reads it next makes its view.
                Some(Slot::Resident(_) | Slot::Loading(_)) | None => {
                    self.stale.remove(&id);
                }
            }
        }
        self.past.push_back(self.documents.clock());
        if IDLE_TICKS < self.past.len()
            && let Some(then) = self.past.pop_front()
        {
            for id in self.documents.unused_since(then, EVICTED_MAX) {
                self.release(id, effects);
            }
        }
    }

    /// Evicts documents until the rest fits.
    fn make_room(&mut self, effects: &mut Vec<Effect>) {
        if !self.documents.is_over() {
            return;
        }
        // As many as one batch can have brought in; more than that goes with the next ones.
        for id in self.documents.oldest(EVICTED_MAX) {
            if !self.documents.is_over() {
                break;
            }
            self.release(id, effects);
        }
    }

    /// Evicts a document of which nothing is under way; makes a stale view and folds a long log first.
    fn release(&mut self, id: DocumentId, effects: &mut Vec<Effect>) {
        let writable = self.status.check_writable().is_ok();
        let Some(Slot::Resident(resident)) = self.documents.peek(id) else { return };
        if !resident.is_settled() {
            return;
        }
        if writable && HEAVY < resident.settle_weight() {
            self.hand_out(id, Work::Settle, effects);
            return;
        }
        match if writable { resident.settle() } else { None } {
            Some(commit) => effects.push(self.ticket(id, commit)),
            None => {
                self.stale.remove(&id);
                self.documents.evict(id);
                self.metrics.evictions.increment();
            }
        }
    }

    /// Ends everything: what waits is answered that the node stops.
    pub(super) fn stop(&mut self) {
        let ids: Vec<DocumentId> = self.documents.ids().collect();
        for id in ids {
            match self.documents.remove(id) {
                Some(Slot::Loading(tasks) | Slot::Away(Away { tasks, .. })) => {
                    tasks.into_iter().for_each(|task| task.fail(Error::Stopping));
                }
                Some(Slot::Resident(resident)) => resident.fail(&Error::Stopping),
                None => {}
            }
        }
    }
}
