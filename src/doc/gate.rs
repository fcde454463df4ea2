//! The gate: the one way in for change bytes that this node did not make.
//!
//! Automerge takes the word of whoever wrote its bytes. Crafted ones make it panic, end the process,
//! run for years, or are taken and make the document one that cannot be saved. So, in this order:
//!
//! 0. Changes that are here already are skipped.
//! 1. Frames are taken apart and their checksums checked here (`chunk.rs`).
//! 2. What is deflated is inflated here, up to a bound.
//! 3. Operations are counted before anything parses them (`census.rs`).
//! 4. Each change has to follow from what it rests on: see `judge.rs`.
//! 5. All is tried on a copy, guarded against panics, and compared with what Automerge gives back; what
//!    came from a stranger is also saved and loaded again, often enough to cost little beside the rest.
//! 6. What a stranger sends must not make a document larger than an edit here could.
//!
//! A change that only types into a text is written again instead of 5, see `letters.rs`, unless it comes near
//! any bound of 6.
//!
//! A member's change that begins a document is spared 4 to 6 if it is, to the byte, the one that is made here
//! of the value that it writes: see `first.rs`.
//!
//! Whoever fails any of these fails alone: the document is as before.

use super::{
    Delta, Document, Limits, Refusal, RefusalKind,
    census::{self, Census},
    chunk::{self, Chunk, Inflation, bad},
    history::{History, past},
    judge::Judge,
    letters::{Letters, Outcome},
    refusal::internal,
};
use crate::ident::Hash;
use automerge::{
    ActorId, Automerge, Change, ChangeHash, LoadOptions, OnPartialLoad, ReadDoc, legacy::OpType,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// What a stranger's bytes may come to, as a part of the document, before it is verified again.
const UNVERIFIED_PART: usize = 8;

/// Operations past which no more changes are applied at once: each takes some hundred bytes meanwhile.
const GROUP_OPERATIONS: usize = 250_000;

/// How deep what members send may nest, where their limit is greater than ours.
const MEMBER_DEPTH_MAX: usize = 500;

/// Most changes that a refusal names.
const NAMED_MAX: usize = 8;

/// Who sends changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sender {
    /// A node of the same cluster, which had them through a gate of its own.
    Member,
    /// Anybody else.
    Stranger,
}

/// What became of foreign bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted {
    /// What the changes that were taken did.
    pub delta: Delta,
    /// How many were here already.
    pub held: usize,
    /// Changes that rest on others that are not here. They are no part of the document.
    pub waiting: Vec<Waiting>,
    /// Changes that were taken and that were made under this document's own actor, which did not make
    /// them here: another copy of it writes under the same. It must not go on under it.
    pub cloned: usize,
    /// Whether all that was taken is letters that came and went in one text, at the version before. No value
    /// stands beside another since.
    pub letters: bool,
}

/// How much may wait for changes that are not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Most changes.
    pub changes: usize,
    /// Most bytes of them.
    pub bytes: usize,
}

/// A change that cannot be taken before others are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its name.
    pub hash: Hash,
    /// The change.
    pub bytes: Vec<u8>,
    /// What it rests on directly, and is not here.
    pub missing: Vec<Hash>,
}

/// Counts what a whole document holds.
///
/// # Errors
/// `Heavy`: more than is opened here unseen. `TooLarge`, `BadChanges`.
fn count(body: &[u8], inflation: &mut Inflation, limits: &Limits) -> Result<Census, Refusal> {
    let decoded = limits.decoded();
    let operations_max = limits.document_operations_max.max(decoded.document_operations_max);
    let bytes_max = limits.inflated_bytes_max.max(decoded.inflated_bytes_max);
    let census = census::of_document(body, operations_max, bytes_max, inflation)?;
    if limits.document_operations_max < census.operations
        || limits.inflated_bytes_max < census.expanded
    {
        let why = "a document of more operations or bytes than are opened unseen";
        return Err(Refusal::new(RefusalKind::Heavy, why));
    }
    Ok(census)
}

impl Document {
    /// Takes change bytes that were not made here: changes, and whole documents, one behind the other.
    /// Changes whose dependencies are missing are given back, as far as there is room for them to wait.
    ///
    /// All of it is taken, or nothing.
    ///
    /// # Errors
    /// `BadChanges`, `Broken`, `Heavy`, `TooLarge`, `TooDeep`; the document is as before.
    pub fn admit(
        &mut self,
        bytes: &[u8],
        sender: Sender,
        room: Room,
        limits: &Limits,
    ) -> Result<Admitted, Refusal> {
        let unpacked = guarded(|| self.unpack(bytes, sender, limits))?;
        if let Some(admitted) = self.admit_letters(&unpacked, sender, limits)? {
            return Ok(admitted);
        }
        let (trial, admitted) = guarded(|| {
            // Not in the trial: what is refused and sent again would cost that again.
            self.ready(unpacked.candidates.iter().map(Change::len).sum());
            let mut trial = self.clone();
            let admitted = trial.try_admit(unpacked, sender, limits)?;
            room.check(&admitted.waiting)?;
            Ok((trial, admitted))
        })?;
        *self = trial;
        Ok(admitted)
    }

    /// Takes a change that types into a text, where it is sure that nothing behind it could be refused;
    /// `None`: this is not one, and has to go the other way.
    fn admit_letters(
        &mut self,
        unpacked: &Unpacked,
        sender: Sender,
        limits: &Limits,
    ) -> Result<Option<Admitted>, Refusal> {
        let Unpacked { candidates, held, census, whole } = unpacked;
        let ([change], None, false) = (&candidates[..], whole, self.verified().strayed) else {
            return Ok(None);
        };
        let before = self.history().heads();
        let (bytes, json_bytes) = (change.raw_bytes().len(), self.json_bytes() + census.most());
        let verified = self.verified();
        let is_sure = sender == Sender::Member
            || json_bytes < limits.document_bytes_max / 4
                && verified.width.is_within(change.len(), limits)
                && verified.unverified_bytes + bytes < verified.saved_bytes / UNVERIFIED_PART;
        if !is_sure || change.deps() != before || self.is_absent() {
            return Ok(None);
        }
        let Some(letters) = Letters::of(change) else { return Ok(None) };
        self.sort(vec![change.clone()])?;
        let cloned = usize::from(ActorBytes::of(self.actor()).made(change.actor_id()));
        self.ready(change.len());
        match letters.write(self.history_mut().automerge_mut(), change) {
            Outcome::Written => {}
            Outcome::Unwritten => return Ok(None),
            Outcome::Astray => {
                *self.history_mut() = past(self.history().automerge(), &before)?;
                self.verified().strayed = true;
                return Ok(None);
            }
        }
        let delta = self.moved(&before, false, false);
        if sender == Sender::Stranger {
            self.set_json_bytes(json_bytes);
            self.verified().unverified_bytes += bytes;
        }
        Ok(Some(Admitted { delta, held: *held, waiting: Vec::new(), cloned, letters: true }))
    }

    fn try_admit(
        &mut self,
        unpacked: Unpacked,
        sender: Sender,
        limits: &Limits,
    ) -> Result<Admitted, Refusal> {
        let before = self.history().heads();
        let absent = self.is_absent();
        let Unpacked { candidates, held, census, whole } = unpacked;
        let own = ActorBytes::of(self.actor());
        if let (Sender::Member, [change], None) = (sender, &candidates[..], &whole)
            && let Some(delta) = self.begin_with(change, limits)
        {
            let cloned = usize::from(own.made(change.actor_id()));
            return Ok(Admitted { delta, held, waiting: Vec::new(), cloned, letters: false });
        }
        let Sorted { ready, waiting } = self.sort(candidates)?;
        let cloned = ready.iter().filter(|change| own.made(change.actor_id())).count();
        let taken_bytes: usize = ready.iter().map(|change| change.raw_bytes().len()).sum();
        // No document of so few operations is deep.
        let shallow = before.is_empty() && census.operations < limits.depth_max as u64;
        let made = if census.makes && !shallow { made_of(&ready) } else { Vec::new() };
        let sent = ready.clone();
        if !ready.is_empty() {
            self.take(ready, whole)?;
        }
        self.check_depths(&made, sender, limits)?;
        let delta = self.moved(&before, false, absent);
        check_given_back(&delta, &sent)?;
        match sender {
            Sender::Stranger if taken_bytes != 0 => {
                self.check_size(&census, limits)?;
                self.check_width(limits)?;
                self.verify_after(taken_bytes)?;
            }
            Sender::Stranger | Sender::Member => {}
        }
        Ok(Admitted { delta, held, waiting, cloned, letters: false })
    }

    /// Steps 0 to 3.
    fn unpack(&self, bytes: &[u8], sender: Sender, limits: &Limits) -> Result<Unpacked, Refusal> {
        let mut inflation = Inflation {
            bytes_left: limits.inflated_bytes_max,
            ratio_max: match sender {
                Sender::Member => None,
                Sender::Stranger => {
                    // What a document may hold compresses as well as it does.
                    Some((limits.inflation_ratio_max, limits.document_bytes_max as u64))
                }
            },
        };
        let history = self.history();
        let held = |hash: &Hash| history.holds(&ChangeHash(hash.to_bytes()));
        let chunks = chunk::chunks(bytes, &mut inflation, held)?;
        let mut unpacked = Unpacked { held: chunks.held, ..Unpacked::default() };
        let operations_max = limits.change_operations_max as u64;
        for chunk in chunks.new {
            match chunk {
                Chunk::Change { hash, body } => {
                    let census =
                        census::of_change(&body, operations_max, limits.inflated_bytes_max)?;
                    unpacked.add(census);
                    let bytes = chunk::encode_change(&hash, &body);
                    let change = Change::from_bytes(bytes)
                        .map_err(|error| bad(&format!("a change that does not parse: {error}")))?;
                    unpacked.candidates.push(change);
                }
                Chunk::Document { whole, body } => {
                    unpacked.add(count(body, &mut inflation, limits)?);
                    let document = load(whole)?;
                    if unpacked.candidates.is_empty() && history.is_empty() {
                        unpacked.candidates = document.get_changes(&[]);
                        unpacked.whole = Some(Box::new(document));
                    } else {
                        let new = history.automerge().get_changes_added(&document);
                        let all =
                            usize::try_from(document.stats().num_changes).unwrap_or(new.len());
                        unpacked.held += all.saturating_sub(new.len());
                        unpacked.candidates.extend(new);
                    }
                }
            }
        }
        Ok(unpacked)
    }

    /// Step 4: the order in which changes can be taken, and what cannot be yet.
    fn sort(&mut self, candidates: Vec<Change>) -> Result<Sorted, Refusal> {
        let (history, verified) = self.history_and_verified();
        let stored = verified.last(history);
        let mut judge = Judge::new(history, stored);
        let mut open: BTreeMap<ChangeHash, Change> = BTreeMap::new();
        let mut order = Vec::new();
        for change in candidates {
            let hash = change.hash();
            if open.insert(hash, change).is_none() {
                order.push(hash);
            }
        }
        let mut ready = Vec::new();
        // What comes in an order that respects dependencies is sorted in one pass.
        loop {
            let mut later = Vec::new();
            let count = ready.len();
            for hash in order {
                let Some(change) = open.get(&hash) else { continue };
                if change.deps().iter().all(|dep| judge.knows(dep)) {
                    judge.check(change)?;
                    ready.extend(open.remove(&hash));
                } else {
                    later.push(hash);
                }
            }
            order = later;
            if order.is_empty() || ready.len() == count {
                break;
            }
        }
        let waiting = order.iter().filter_map(|hash| open.get(hash)).map(|change| Waiting {
            hash: Hash::from_bytes(change.hash().0),
            bytes: change.raw_bytes().to_vec(),
            missing: judge.missing(change),
        });
        let waiting = waiting.collect();
        Ok(Sorted { ready, waiting })
    }

    /// Step 5, but for the copy and the guard, which are around all of this.
    fn take(
        &mut self,
        mut ready: Vec<Change>,
        whole: Option<Box<Automerge>>,
    ) -> Result<(), Refusal> {
        if let Some(whole) = whole {
            // To apply the changes of a large document takes many times its memory.
            ready.retain(|change| whole.get_change_meta_by_hash(&change.hash()).is_none());
            *self.history_mut() = History::from(*whole);
        }
        let mut ready = ready.into_iter().peekable();
        while ready.peek().is_some() {
            let (mut group, mut operations) = (Vec::new(), 0);
            while let Some(change) = ready.next_if(|_| operations < GROUP_OPERATIONS) {
                operations += change.len();
                group.push(change);
            }
            let applied = self.history_mut().apply(group);
            applied.map_err(|error| bad(&format!("changes that do not apply: {error}")))?;
        }
        Ok(())
    }

    /// Saves the document and loads it again, if strangers have added enough to it since that was
    /// done.
    fn verify_after(&mut self, bytes: usize) -> Result<(), Refusal> {
        let verified = self.verified();
        verified.unverified_bytes += bytes;
        if verified.unverified_bytes < verified.saved_bytes / UNVERIFIED_PART {
            return Ok(());
        }
        let saved = self.save();
        let loaded = load(&saved).ok();
        if loaded.is_none_or(|loaded| loaded.get_heads() != self.history().heads()) {
            return Err(broken("changes after which the document does not load as it was saved"));
        }
        let verified = self.verified();
        (verified.saved_bytes, verified.unverified_bytes) = (saved.len(), 0);
        Ok(())
    }

    /// Step 6, how large it is.
    fn check_size(&mut self, census: &Census, limits: &Limits) -> Result<(), Refusal> {
        let bytes = self.json_bytes().saturating_add(census.most());
        self.set_json_bytes(bytes);
        if bytes < limits.document_bytes_max / 4 {
            return Ok(());
        }
        let json = self.render(super::Form::Plain, None)?.json.map_or(0, |json| json.len());
        self.set_json_bytes(json);
        if limits.document_bytes_max < json {
            let detail = format!("a document is at most {} bytes", limits.document_bytes_max);
            return Err(Refusal::new(RefusalKind::TooLarge, detail));
        }
        Ok(())
    }

    /// Step 6, how wide it is.
    fn check_width(&mut self, limits: &Limits) -> Result<(), Refusal> {
        let mut width = self.verified().width;
        width.check(self.scope(), limits)?;
        self.verified().width = width;
        Ok(())
    }

    /// Step 6, how deep it is. Who reads a document goes as deep as it does, so members have a bound
    /// as well.
    fn check_depths(&self, made: &Made, sender: Sender, limits: &Limits) -> Result<(), Refusal> {
        let depth_max = match sender {
            Sender::Stranger => limits.depth_max,
            Sender::Member => limits.depth_max.max(MEMBER_DEPTH_MAX),
        };
        let mut depths: HashMap<&str, usize> = HashMap::new();
        for (name, holder) in made {
            let above = match depths.get(holder.as_str()) {
                Some(depth) => *depth,
                None => self.depth_of(holder, depth_max)?,
            };
            if depth_max <= above {
                let detail = format!("nested deeper than {depth_max} levels");
                return Err(Refusal::new(RefusalKind::TooDeep, detail));
            }
            depths.insert(name, above + 1);
        }
        Ok(())
    }

    /// At which depth a container is: the root is 1.
    fn depth_of(&self, name: &str, most: usize) -> Result<usize, Refusal> {
        if name == ROOT_NAME {
            return Ok(1);
        }
        let automerge = self.history().automerge();
        let object = automerge.import_obj(name).map_err(internal)?;
        let parents = automerge.parents(&object).map_err(internal)?;
        Ok(1 + parents.take(most + 1).count())
    }
}

impl Room {
    fn check(self, waiting: &[Waiting]) -> Result<(), Refusal> {
        let bytes: usize = waiting.iter().map(|change| change.bytes.len()).sum();
        if waiting.len() <= self.changes && bytes <= self.bytes {
            return Ok(());
        }
        let missing: BTreeSet<&Hash> = waiting.iter().flat_map(|change| &change.missing).collect();
        let named: Vec<String> = missing.iter().take(NAMED_MAX).map(ToString::to_string).collect();
        let more = if NAMED_MAX < missing.len() { ", and others" } else { "" };
        let (count, named) = (waiting.len(), named.join(", "));
        let detail = format!(
            "{count} changes rest on others that are not here: send those first: {named}{more}"
        );
        Err(bad(&detail))
    }
}

/// What came, apart.
#[derive(Default)]
struct Unpacked {
    candidates: Vec<Change>,
    held: usize,
    census: Census,
    /// The document that has the first of these changes, loaded.
    whole: Option<Box<Automerge>>,
}

impl Unpacked {
    fn add(&mut self, census: Census) {
        self.census.operations += census.operations;
        self.census.expanded = self.census.expanded.saturating_add(census.expanded);
        self.census.makes |= census.makes;
    }
}

/// Changes in an order in which they can be applied, and those that cannot be.
struct Sorted {
    ready: Vec<Change>,
    waiting: Vec<Waiting>,
}

/// Does what Automerge may panic at.
fn guarded<T>(work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(broken("changes on which Automerge panics")))
}

/// What only Automerge could have told, and told too late.
fn broken(why: &str) -> Refusal {
    Refusal::new(RefusalKind::Broken, why)
}

/// The name of the root, as operations have it.
const ROOT_NAME: &str = "_root";

/// Containers, each with the one that holds it, in the order in which they were made.
type Made = Vec<(String, String)>;

/// The containers that changes make.
fn made_of(changes: &[Change]) -> Made {
    let mut made = Vec::new();
    for change in changes {
        let change = change.decode();
        let actor = change.actor_id.to_hex_string();
        for (counter, op) in (u64::from(change.start_op)..).zip(&change.operations) {
            if matches!(op.action, OpType::Make(_)) {
                made.push((format!("{counter}@{actor}"), op.obj.to_string()));
            }
        }
    }
    made
}

/// Automerge writes a change anew from its operations, and leaves out what makes no sense to it.
fn check_given_back(delta: &Delta, sent: &[Change]) -> Result<(), Refusal> {
    let sent: BTreeSet<&[u8]> = sent.iter().map(Change::raw_bytes).collect();
    let same = |one: &Vec<u8>| sent.contains(&one[..]);
    if delta.changes.len() == sent.len() && delta.changes.iter().all(same) {
        Ok(())
    } else {
        Err(bad("changes that Automerge gives back as others"))
    }
}

/// Loads a document's bytes, whole.
fn load(bytes: &[u8]) -> Result<Automerge, Refusal> {
    let options = LoadOptions::new().on_partial_load(OnPartialLoad::Error);
    Automerge::load_with_options(bytes, options)
        .map_err(|error| bad(&format!("a document that does not load: {error}")))
}

/// The bytes by which an actor's changes are known: Automerge derives longer ones from them, which
/// end in them.
struct ActorBytes(Vec<u8>);

impl ActorBytes {
    fn of(actor: &ActorId) -> Self {
        Self(actor.to_bytes().to_vec())
    }

    fn made(&self, actor: &ActorId) -> bool {
        actor.to_bytes().ends_with(&self.0)
    }
}
