//! One loaded document: what is done with it, and the commits that make that durable.
//!
//! Everything here takes time in proportion to some number of bytes, which is told beforehand as a
//! *weight*: light work is done by the shard itself, heavy work by a helper thread to which the
//! whole document is handed over.

use super::{
    Ambient, Error, Reading, Representation, Taken, Write, Written,
    figures::{ShardMetrics, nanoseconds},
    orphans::Nursery,
    status::Status,
    task::{Answer, Task},
};
use crate::{
    doc::{Actor, Admitted, Delta, Document, Edit, Form, Limits, Rendering, Stamp},
    ident::Version,
    store::{
        Brings, Commit, KEPT_SECONDS, Kept, KeptAnswers, Log, LogSize, NewView, Origin, Source,
        Track,
    },
};
use bytes::Bytes;
use std::{collections::VecDeque, sync::Arc};
use tokio::time::Instant;

/// Fewest logged changes worth a fold, wherever the document is small.
const FOLD_CHANGES_MIN: u64 = 32;
/// Fewest logged changes at which bytes, or an eviction, call for a fold.
const FOLD_CHANGES_FEW: u64 = 8;
/// Logged bytes that call for a fold, where the snapshot is smaller.
const FOLD_BYTES_MIN: u64 = 4 << 10;
/// One logged change is carried for so many bytes of the snapshot.
const FOLD_BYTES_PER_CHANGE: u64 = 8 << 10;

/// Documents up to this size get their view with each commit; those of larger ones are made later.
///
/// A walk over a text costs as much as its whole history: 60 KB that were typed, half of all that a
/// letter costs, and 60 KB to be written for it.
const EAGER_VIEW_BYTES_MAX: usize = 16 << 10;
/// What is worth a helper thread: walking and printing so many bytes of JSON takes about 5 ms.
pub(super) const HEAVY: usize = 64 << 10;
/// What is held of a document beside its content, about: its name twice, its last commit, its places
/// in the queues of the cache.
const OWN_BYTES: usize = 1 << 10;
/// What one change of the history weighs where the whole of it is walked.
const CHANGE_WEIGHT: usize = 64;

/// A loaded document with all that is under way with it.
#[derive(Debug)]
pub(super) struct Resident {
    document: Document,
    track: Arc<Track>,
    log: LogSize,
    /// Which load this is; tells late answers of an earlier one apart.
    load: u64,
    /// Commits sent, and commits that ended.
    sent: u64,
    done: u64,
    /// Changes made or taken since the last commit was sent.
    fresh: Vec<(Origin, Bytes)>,
    /// The peers that sent some of them.
    from: Vec<Source>,
    /// Answers, each with the commit on which it rests, in order.
    waiting: VecDeque<(u64, Answer)>,
    /// How many places hold values beside the one that shows, where that is known.
    conflicts: Option<u32>,
    /// Whether every place is known to hold one value.
    single: bool,
    view: View,
    /// Answers to be kept that no commit carries yet.
    keep: Vec<Kept>,
    /// Those that commits carry which are under way.
    kept: VecDeque<(u64, Kept)>,
    /// Changes that wait for others.
    orphans: Nursery,
    /// A try to make it ready for leaving memory came to nothing, and nothing was written since.
    unsettling: bool,
    /// It does not load as it is saved, so that its log stays as it is until it is loaded again.
    unfoldable: bool,
    metrics: Arc<ShardMetrics>,
}

/// What a task needs beside its document.
#[derive(Debug)]
pub(super) struct Around<'a> {
    /// Seconds since 1970.
    pub(super) now: i64,
    pub(super) limits: &'a Limits,
    pub(super) status: &'a Status,
    pub(super) kept: &'a KeptAnswers,
    pub(super) ambient: &'a Ambient,
}

/// How the view stands to the document.
#[derive(Debug, Clone, PartialEq, Eq)]
enum View {
    /// The last commit carries it, or it is stored.
    Made,
    /// It was made for a reader, and no commit carries it yet.
    Wanted(Bytes),
    /// A commit that is under way carries it.
    Sent(Bytes, u64),
    /// Nobody has made it.
    Stale,
}

/// A commit of a resident document, numbered.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) load: u64,
    pub(super) number: u64,
    pub(super) commit: Commit,
}

impl Resident {
    /// The document as the store holds it.
    pub(super) fn new(
        document: Document,
        track: Arc<Track>,
        orphans: Nursery,
        load: u64,
        metrics: Arc<ShardMetrics>,
    ) -> Self {
        let written = track.seq() != 0;
        Self {
            document,
            log: track.log_size(),
            view: if track.is_view_stale() { View::Stale } else { View::Made },
            conflicts: if written { None } else { Some(0) },
            single: !written,
            track,
            load,
            sent: 0,
            done: 0,
            fresh: Vec::new(),
            from: Vec::new(),
            waiting: VecDeque::new(),
            keep: Vec::new(),
            kept: VecDeque::new(),
            orphans,
            unsettling: false,
            unfoldable: false,
            metrics,
        }
    }

    pub(super) fn metrics(&self) -> &ShardMetrics {
        &self.metrics
    }

    pub(super) fn track(&self) -> &Track {
        &self.track
    }

    pub(super) fn load(&self) -> u64 {
        self.load
    }

    /// Estimated bytes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        OWN_BYTES + self.document.memory_bytes() + self.orphans.bytes()
    }

    /// Whether something was done that no commit carries yet.
    pub(super) fn is_dirty(&self) -> bool {
        self.is_written() || matches!(self.view, View::Wanted(_))
    }

    /// Whether answers have to wait for a commit that is yet to be made.
    fn is_written(&self) -> bool {
        !self.fresh.is_empty() || !self.keep.is_empty() || self.orphans.is_dirty()
    }

    /// Whether all that was done is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.done == self.sent && !self.is_dirty()
    }

    pub(super) fn is_view_stale(&self) -> bool {
        self.view == View::Stale && !self.document.is_deleted()
    }

    /// How many answers wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes note that a commit is durable.
    pub(super) fn committed(&mut self, number: u64) {
        self.done = number;
        while self.kept.front().is_some_and(|(rests_on, _)| *rests_on <= number) {
            self.kept.pop_front();
        }
        while self.waiting.front().is_some_and(|(rests_on, _)| *rests_on <= number) {
            if let Some((_, answer)) = self.waiting.pop_front() {
                answer.send();
            }
        }
        if matches!(self.view, View::Sent(_, sent) if sent <= number) {
            self.view = View::Made;
        }
    }

    /// Ends it: whoever waits is told.
    pub(super) fn fail(self, error: &Error) {
        for (_, answer) in self.waiting {
            answer.fail(error.clone());
        }
    }

    /// What a task weighs.
    pub(super) fn weight(&self, task: &Task, limits: &Limits) -> usize {
        let json = self.document.json_bytes();
        let history = || CHANGE_WEIGHT * self.document.change_count();
        match task {
            Task::Write { write, .. } => {
                let Write { edit, base, want, .. } = write.as_ref();
                let late = base.as_ref().is_some_and(|base| *base != self.document.version());
                let tried = limits.document_bytes_max / 4 <= json;
                let whole = edit.reads_whole() || late || tried || want.is_some();
                edit.size() + if whole { json } else { 0 } + if late { history() } else { 0 }
            }
            Task::Read { what: Representation::Json(Form::Plain), at: None, .. }
                if matches!(self.view, View::Wanted(_) | View::Sent(..)) =>
            {
                0
            }
            Task::Read { what: Representation::Json(_), at: None, .. } => json,
            Task::Read { .. } => json + history(),
            Task::Look(look) => look.passes().saturating_mul(json + history()),
            // A copy of all is made, and it may be saved and loaded.
            Task::Admit { bytes, .. } => bytes.len() + json + history(),
        }
    }

    /// What the next commit weighs.
    pub(super) fn commit_weight(&self) -> usize {
        let view = if self.is_view_due() { self.document.json_bytes() } else { 0 };
        // A put of a new document leaves its JSON behind, so that nothing is walked.
        let view = if self.document.is_filled() { 0 } else { view };
        view + if self.is_fold_due() { self.fold_weight() } else { 0 }
    }

    /// What [`Resident::settle`] weighs.
    pub(super) fn settle_weight(&self) -> usize {
        let view = self.is_view_stale() && !self.unsettling;
        let view = if view { self.document.json_bytes() } else { 0 };
        view + if self.is_fold_worthwhile() { self.fold_weight() } else { 0 }
    }

    /// Does what is wanted.
    pub(super) fn perform(&mut self, task: Task, around: &Around<'_>) {
        let status = around.status;
        let answer = match task {
            Task::Write { write, reply } => {
                let done = status.check_writable().and_then(|()| self.write_once(*write, around));
                match done {
                    Ok(written) => Answer::Written(written, reply),
                    Err(error) => Answer::RefusedWrite(error, reply),
                }
            }
            Task::Read { what, at, includes, reply } => {
                match self.read(what, at.as_ref(), includes.as_ref()) {
                    Ok(reading) => {
                        let plain = what == Representation::Json(Form::Plain) && at.is_none();
                        if plain && self.view == View::Stale && status.check_writable().is_ok() {
                            self.conflicts = Some(reading.conflicts);
                            self.view = View::Wanted(reading.body.clone());
                        }
                        Answer::Reading(reading, reply)
                    }
                    Err(error) => Answer::RefusedReading(error, reply),
                }
            }
            Task::Look(look) => Answer::Seen(look.take(&self.document)),
            Task::Admit { from, limits, bytes, left, reply } => {
                let admit = |()| self.admit(&bytes, from, left, &limits, around);
                let done = status.check_writable().and_then(admit);
                match done {
                    Ok(taken) => Answer::Taken(taken, reply),
                    // Nothing of it rests on anything.
                    Err(error) => return drop(reply.send(Err(error))),
                }
            }
        };
        self.answer(answer);
    }

    /// Answers at once, or once everything is durable on which the answer rests.
    fn answer(&mut self, answer: Answer) {
        let rests_on = if self.is_written() { self.sent + 1 } else { self.sent };
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

    /// Makes a write, or answers as it was answered when it was made.
    fn write_once(&mut self, write: Write, around: &Around<'_>) -> Result<Written, Error> {
        let Some(once) = write.once else { return self.write(write, around.now, around.limits) };
        let now = u64::try_from(around.now).unwrap_or(0);
        let known = self.keep.iter().chain(self.kept.iter().map(|(_, kept)| kept));
        let known = known.rev().find(|kept| kept.name == once.name).cloned();
        match known.or_else(|| around.kept.find(&once.name, now)) {
            Some(kept) if kept.asked != once.asked => Err(Error::AnotherRequest),
            Some(kept) => {
                let mut written = Written::replayed(kept);
                if let Some(what) = write.want.filter(|_| !written.deleted) {
                    written.reading = Some(self.read(what, Some(&written.version), None)?);
                }
                Ok(written)
            }
            None => {
                let written = self.write(write, around.now, around.limits)?;
                self.keep.push(written.keep(&once, now.saturating_add(KEPT_SECONDS)));
                Ok(written)
            }
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
        if !unchanged {
            self.view = View::Stale;
            self.unsettling = false;
            self.single &= !merged;
            self.conflicts = self.single.then_some(0);
        }
        self.fresh.extend(changes.into_iter().map(|change| (Origin::Own, change.into())));
        let reading = match write.want {
            Some(what) if !deleted => Some(self.read(what, None, None)?),
            _ => None,
        };
        // What changes something is told the count when the next commit is made.
        let conflicts = if unchanged { self.count_conflicts()? } else { 0 };
        let (version, replayed) = (after, false);
        Ok(Written { version, conflicts, merged, unchanged, created, deleted, reading, replayed })
    }

    /// Takes what came through the gate.
    fn admit(
        &mut self,
        bytes: &[u8],
        from: Option<Source>,
        left: u64,
        limits: &Limits,
        around: &Around<'_>,
    ) -> Result<Taken, Error> {
        // What a peer brings came to this group of nodes elsewhere; all else came here.
        let origin = from.map_or(Origin::Own, |_| Origin::Foreign);
        let (admitted, freed) =
            self.orphans.admit(&mut self.document, bytes, from, left, limits)?;
        let Admitted { delta, held, waiting, cloned, letters } = admitted;
        if cloned != 0 {
            let id = self.track.name().id();
            tracing::warn!(document = %id, cloned, "a copy of this node writes under its actor");
            self.document.set_actor(around.ambient.actor());
        }
        let Delta { changes, after, created, deleted, .. } = delta;
        let taken = changes.len();
        if taken != 0 {
            self.view = View::Stale;
            self.unsettling = false;
            self.single &= letters;
            self.conflicts = self.single.then_some(0);
            for from in from.into_iter().chain(freed) {
                if !self.from.contains(&from) {
                    self.from.push(from);
                }
            }
        }
        self.fresh.extend(changes.into_iter().map(|change| (origin, change.into())));
        let waiting = waiting.into_iter().map(|change| (change.hash, change.missing)).collect();
        let deleted = deleted || after.is_empty();
        let conflicts = if taken == 0 { self.count_conflicts()? } else { 0 };
        Ok(Taken { version: after, conflicts, taken, held, waiting, created, deleted })
    }

    fn count_conflicts(&mut self) -> Result<u32, Error> {
        let count = match self.conflicts {
            Some(count) => count,
            None => {
                let rendering = self.document.render(Form::Plain, None)?;
                self.single = rendering.single;
                rendering.conflicts
            }
        };
        self.conflicts = Some(count);
        Ok(count)
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
        if let (Representation::Json(Form::Plain), None, Some(conflicts)) =
            (what, at, self.conflicts)
            && let View::Wanted(json) | View::Sent(json, _) = &self.view
        {
            let version = self.document.version();
            return Ok(Reading { body: json.clone(), version, conflicts });
        }
        let form = match what {
            Representation::Json(form) => form,
            Representation::Automerge => Form::Plain,
        };
        let Rendering { json, conflicts, version, .. } = self.document.render(form, at)?;
        let body = match (what, json) {
            (_, None) if version.is_empty() => return Err(Error::NotFound),
            (_, None) => return Err(Error::Deleted(version)),
            (Representation::Automerge, Some(_)) => self.document.save_at(at)?,
            (Representation::Json(_), Some(json)) => json,
        };
        Ok(Reading { body: body.into(), version, conflicts })
    }

    /// The commit of all that was done since the last one.
    pub(super) fn commit(&mut self) -> Result<Prepared, Error> {
        let (view, conflicts) = self.next_view()?;
        for (rests_on, answer) in &mut self.waiting {
            if let Answer::Written(written, _) = answer
                && self.sent < *rests_on
                && !written.unchanged
                && !written.replayed
            {
                written.conflicts = conflicts;
            }
            if let Answer::Taken(taken, _) = answer
                && self.sent < *rests_on
                && taken.taken != 0
            {
                taken.conflicts = conflicts;
            }
        }
        for kept in self.keep.iter_mut().filter(|kept| !kept.unchanged) {
            kept.conflicts = conflicts;
        }
        let changes = std::mem::take(&mut self.fresh);
        let mut brings = Brings { from: std::mem::take(&mut self.from), ..Brings::default() };
        for (origin, change) in &changes {
            brings = brings.and(*origin);
            if *origin == Origin::Own {
                brings.made.push(change.clone());
            }
        }
        self.log.changes += u32::try_from(changes.len()).unwrap_or(u32::MAX);
        self.log.bytes += changes.iter().map(|(_, change)| change.len() as u64).sum::<u64>();
        let fold = if self.is_fold_due() { self.snapshot() } else { None };
        Ok(self.prepared(fold.unwrap_or(Log::Append(changes)), brings, conflicts, view))
    }

    /// The commit after which the document may leave memory: makes a stale view, and folds a log
    /// that is worth it. `None` if there is nothing of that to do, or it cannot be had.
    pub(super) fn settle(&mut self) -> Option<Prepared> {
        if self.unsettling || !(self.is_fold_worthwhile() || self.is_view_stale()) {
            return None;
        }
        self.unsettling = true;
        let fold = if self.is_fold_worthwhile() { self.snapshot() } else { None };
        if fold.is_none() && !self.is_view_stale() {
            return None;
        }
        let (view, conflicts) = self.make_view().ok()?;
        self.unsettling = false;
        let log = fold.unwrap_or(Log::Append(Vec::new()));
        Some(self.prepared(log, Brings::default(), conflicts, view))
    }

    /// Whether the next commit makes the view.
    ///
    /// The view of a large document is left for later, if the count of conflicts, which goes with
    /// the commit, is known without it.
    fn is_view_due(&self) -> bool {
        !self.single
            || self.document.json_bytes() <= EAGER_VIEW_BYTES_MAX
            || self.document.is_filled()
    }

    fn next_view(&mut self) -> Result<(NewView, u32), Error> {
        match (&self.view, self.conflicts) {
            (View::Wanted(json), Some(conflicts)) => {
                let json = json.clone();
                self.view = View::Sent(json.clone(), self.sent + 1);
                Ok((NewView::Made(json), conflicts))
            }
            _ if self.document.is_deleted() || self.is_view_due() => self.make_view(),
            // Whatever the commit is for, also if only changes wait with it, what is stored goes.
            _ => {
                self.view = View::Stale;
                Ok((NewView::Stale, 0))
            }
        }
    }

    fn make_view(&mut self) -> Result<(NewView, u32), Error> {
        let Rendering { json, conflicts, single, .. } = self.document.render(Form::Plain, None)?;
        self.document.set_json_bytes(json.as_ref().map_or(0, Vec::len));
        (self.conflicts, self.single) = (Some(conflicts), single);
        self.view = View::Made;
        Ok((json.map_or(NewView::Deleted, |json| NewView::Made(json.into())), conflicts))
    }

    fn prepared(&mut self, log: Log, brings: Brings, conflicts: u32, view: NewView) -> Prepared {
        self.sent += 1;
        let kept = std::mem::take(&mut self.keep);
        self.kept.extend(kept.iter().map(|kept| (self.sent, kept.clone())));
        let commit = Commit {
            track: Arc::clone(&self.track),
            log,
            brings,
            version: self.document.version(),
            conflicts,
            view,
            standing: self.document.standing().into(),
            kept,
            orphans: self.orphans.take(),
            document_bytes_max: usize::MAX,
        };
        Prepared { load: self.load, number: self.sent, commit }
    }

    fn is_fold_due(&self) -> bool {
        let LogSize { bytes, changes, snapshot_bytes, snapshot_changes } = self.log;
        let changes = u64::from(changes);
        let many = FOLD_CHANGES_MIN
            .max(u64::from(snapshot_changes) / 8)
            .max(snapshot_bytes / FOLD_BYTES_PER_CHANGE);
        !self.unfoldable
            && (many <= changes
                || (FOLD_CHANGES_FEW <= changes && FOLD_BYTES_MIN.max(snapshot_bytes) <= bytes))
    }

    /// Whether a fold pays when the document leaves memory.
    fn is_fold_worthwhile(&self) -> bool {
        !self.unfoldable && FOLD_CHANGES_FEW <= u64::from(self.log.changes)
    }

    fn fold_weight(&self) -> usize {
        let bytes = usize::try_from(self.log.snapshot_bytes + self.log.bytes);
        bytes.unwrap_or(usize::MAX / 2) + CHANGE_WEIGHT * self.document.change_count()
    }

    /// A snapshot that was loaded back and found to be the document; `None` if it is not.
    fn snapshot(&mut self) -> Option<Log> {
        let began = Instant::now();
        let snapshot = self.document.save();
        let (standing, version) = (self.document.standing(), self.document.version());
        let actor = Actor([0; 16]);
        if let Err(error) = Document::load([&snapshot[..]], &standing, &version, actor) {
            let id = self.track.name().id();
            tracing::error!(document = %id, %error, "a snapshot does not load: its log is kept");
            self.unfoldable = true;
            return None;
        }
        self.metrics.fold_ns.observe(nanoseconds(began.elapsed()));
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
