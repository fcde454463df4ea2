//! The standing rule: no edit is hidden by a delete that had not seen it.
//!
//! A container C (map, list, text, or a counter, whose edits are its increments) that is not
//! visible *stands* if some operation X in its subtree is in the past of no deleter of C and
//! concurrent with at least one. Deleters of C are the changes with an operation (not an
//! increment) whose `pred` is C, and the changes whose message is `tombolo:gone` and names C.
//! What a deleter has seen is decided by the change graph alone, so what stands is a pure function
//! of the changes.
//!
//! [`Standing::whole`] computes it from a whole history; [`Standing::merged`] from what came new,
//! decoding only changes that are concurrent with it. Both give the same set.
//!
//! The history falls into *stretches* at changes that are ordered with all others. Edits and
//! deleters in different stretches are ordered, so only the last stretch that deletes C can make
//! C stand, and ancestry is needed inside one stretch only.

use super::{
    Value,
    ancestry::{Ancestry, ancestors},
    place::{self, Content, Entry},
};
use automerge::{
    ActorId, Automerge, Change, ChangeHash, ObjId, ROOT, ReadDoc, ScalarValue,
    legacy::{ElementId, Key, ObjectId, OpId, OpType},
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The message of a change that settles what stands; followed by the names of the containers.
pub(super) const GONE: &str = "tombolo:gone";
/// Most containers that one change names.
pub(super) const GONE_NAMES_MAX: usize = 20;

/// Where a standing container would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standpoint {
    /// At a key of its holder.
    Key(String),
    /// At a list element. `siblings`: the operations that put other values at that element.
    Element { element: ObjId, siblings: Vec<ObjId> },
}

/// A container that stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stander {
    pub(super) id: ObjId,
    pub(super) holder: ObjId,
    /// A counter with the sum of all its increments, or the kind of object.
    pub(super) content: Content,
    pub(super) place: Standpoint,
}

impl Stander {
    pub(super) fn entry(&self) -> Entry {
        Entry {
            content: self.content.clone(),
            id: self.id.clone(),
            holder: self.holder.clone(),
            stands: true,
        }
    }
}

/// All containers that stand in one version of a document; usually none.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Standing {
    by_holder: BTreeMap<ObjId, Vec<Stander>>,
}

impl Standing {
    /// Whether nothing stands.
    pub(super) fn is_empty(&self) -> bool {
        self.by_holder.is_empty()
    }

    /// What stands at places of `holder`, least operation first.
    pub(super) fn at(&self, holder: &ObjId) -> &[Stander] {
        if self.by_holder.is_empty() {
            return &[];
        }
        self.by_holder.get(holder).map_or(&[], Vec::as_slice)
    }

    /// Everything that stands, by its holder.
    pub(super) fn all(&self) -> impl Iterator<Item = &Stander> {
        self.by_holder.values().flatten()
    }

    /// Whether this container stands.
    pub(super) fn holds(&self, id: &ObjId) -> bool {
        self.all().any(|stander| stander.id == *id)
    }

    /// Forgets one that was settled.
    pub(super) fn remove(&mut self, id: &ObjId) {
        self.by_holder.retain(|_, standers| {
            standers.retain(|stander| stander.id != *id);
            !standers.is_empty()
        });
    }

    fn from_standers(standers: impl IntoIterator<Item = Stander>) -> Self {
        let mut by_holder: BTreeMap<ObjId, Vec<Stander>> = BTreeMap::new();
        for stander in standers {
            by_holder.entry(stander.holder.clone()).or_default().push(stander);
        }
        for standers in by_holder.values_mut() {
            standers.sort_by(|a, b| place::order(&a.id, &b.id));
        }
        Self { by_holder }
    }

    /// What stands in the document, from its whole history.
    pub(super) fn whole(document: &Automerge) -> Self {
        let metas = document.get_changes_meta(&[]);
        let line = metas.windows(2).all(|pair| pair[1].deps == [pair[0].hash]);
        if line { Self::default() } else { Self::scan(document, &document.get_changes(&[])) }
    }

    /// Whether something stood at some version of the document: only then it has to be asked of each.
    pub(super) fn ever(document: &Automerge) -> bool {
        let metas = document.get_changes_meta(&[]);
        let line = metas.windows(2).all(|pair| pair[1].deps == [pair[0].hash]);
        !line && History::read(document, &document.get_changes(&[])).was_unseen()
    }

    /// What stood at an older version: the same, from the changes in its past.
    pub(super) fn at_version(document: &Automerge, version: &[ChangeHash]) -> Self {
        let past = ancestors(document, version);
        let metas = document.get_changes_meta(&[]);
        let mut seen = metas.iter().filter(|meta| past.contains(&meta.hash));
        let mut last: Option<ChangeHash> = None;
        let line = seen.all(|meta| {
            let follows = last.is_none_or(|last| meta.deps == [last]);
            last = Some(meta.hash);
            follows
        });
        if line {
            return Self::default();
        }
        let changes: Vec<Change> = document
            .get_changes(&[])
            .into_iter()
            .filter(|change| past.contains(&change.hash()))
            .collect();
        Self::scan(document, &changes)
    }

    /// What stands after `new` changes came to a document in which `self` stood at `before`.
    pub(super) fn merged(
        &self,
        document: &Automerge,
        before: &[ChangeHash],
        new: &[Change],
    ) -> Self {
        if is_line(before, new) {
            return self.continued(document, new);
        }
        if !self.is_empty() {
            return Self::whole(document);
        }
        let concurrent = concurrent(document, new);
        if History::read(document, &concurrent).may_stand(document) {
            Self::whole(document)
        } else {
            Self::default()
        }
    }

    /// After changes that have seen all: they can settle, and put siblings, and nothing else.
    fn continued(&self, document: &Automerge, new: &[Change]) -> Self {
        if self.is_empty() {
            return Self::default();
        }
        let mut standers: Vec<Stander> = self.all().cloned().collect();
        for change in new {
            for gone in gone_names(change) {
                standers.retain(|stander| !is_named(&stander.id, &gone));
            }
            let change = change.decode();
            for (index, op) in change.operations.iter().enumerate() {
                let Key::Seq(ElementId::Id(at)) = &op.key else { continue };
                let sets = !op.insert && !matches!(op.action, OpType::Delete);
                for stander in standers.iter_mut().filter(|_| sets) {
                    if let Standpoint::Element { element, siblings } = &mut stander.place
                        && is_named(element, at)
                    {
                        let counter = u64::from(change.start_op) + index as u64;
                        let id = OpId(counter, change.actor_id.clone());
                        siblings.extend(object_id(document, &id));
                    }
                }
            }
        }
        Self::from_standers(standers)
    }

    /// The whole scan, over changes in an order that respects their dependencies and that holds
    /// the past of each.
    fn scan(document: &Automerge, changes: &[Change]) -> Self {
        let history = History::read(document, changes);
        let standing = history.standing();
        Self::from_standers(standing.iter().filter_map(|id| history.stander(document, id)))
    }
}

/// Whether each new change follows the one before, the first one all that was there.
fn is_line(before: &[ChangeHash], new: &[Change]) -> bool {
    let mut last: Vec<ChangeHash> = before.to_vec();
    last.sort_unstable();
    new.iter().all(|change| {
        let mut deps = change.deps().to_vec();
        deps.sort_unstable();
        let follows = deps == last;
        last = vec![change.hash()];
        follows
    })
}

/// The changes that are not in the past of all dependencies that the new ones have outside of
/// themselves: whatever may be concurrent with a new one, closed under "between two of them".
fn concurrent(document: &Automerge, new: &[Change]) -> Vec<Change> {
    let own: HashSet<ChangeHash> = new.iter().map(Change::hash).collect();
    let outer: BTreeSet<ChangeHash> =
        new.iter().flat_map(Change::deps).filter(|dep| !own.contains(dep)).copied().collect();
    let rootless = new.iter().any(|change| change.deps().is_empty());
    if rootless || outer.is_empty() {
        return document.get_changes(&[]);
    }
    let outer: Vec<ChangeHash> = outer.into_iter().collect();
    if let [one] = outer[..] {
        return document.get_changes(&[one]);
    }
    let mut unseen: HashSet<ChangeHash> = HashSet::new();
    for dep in &outer {
        unseen.extend(document.get_changes_meta(&[*dep]).iter().map(|meta| meta.hash));
    }
    document.get_changes(&[]).into_iter().filter(|c| unseen.contains(&c.hash())).collect()
}

/// The containers that changes have settled since `base` that had seen all of it. Settling one
/// of them again at this base would be another change and no other outcome.
pub(super) fn settled_since(document: &Automerge, base: &[ChangeHash]) -> HashSet<String> {
    let mut settled = HashSet::new();
    for meta in document.get_changes_meta(base) {
        let names: Vec<&str> = names_in(meta.message.as_deref()).collect();
        if !names.is_empty() {
            let past = ancestors(document, &meta.deps);
            if base.iter().all(|head| past.contains(head)) {
                settled.extend(names.into_iter().map(str::to_owned));
            }
        }
    }
    settled
}

/// The words after `tombolo:gone`, if that is what a message says.
fn names_in(message: Option<&str>) -> impl Iterator<Item = &str> {
    let names = message.and_then(|message| message.strip_prefix(GONE)).unwrap_or_default();
    names.split_ascii_whitespace().take(GONE_NAMES_MAX)
}

/// The containers that a `tombolo:gone` change names; what is not a name is skipped.
fn gone_names(change: &Change) -> Vec<OpId> {
    let operation = |name: &str| {
        let (counter, actor) = name.split_once('@')?;
        Some(OpId(counter.parse().ok()?, ActorId::try_from(actor).ok()?))
    };
    names_in(change.message()).filter_map(operation).collect()
}

fn is_named(id: &ObjId, op: &OpId) -> bool {
    matches!(id, ObjId::Id(counter, actor, _) if *counter == op.0 && *actor == op.1)
}

fn object_id(document: &Automerge, op: &OpId) -> Option<ObjId> {
    document.import_obj(&format!("{}@{}", op.0, op.1.to_hex_string())).ok()
}

fn operation(id: &ObjId) -> Option<OpId> {
    match id {
        ObjId::Root => None,
        ObjId::Id(counter, actor, _) => Some(OpId(*counter, actor.clone())),
    }
}

/// How a container was made.
struct Made {
    holder: Option<OpId>,
    content: Content,
    key: Option<String>,
    element: Option<OpId>,
}

/// What changes say about containers, decoded once.
struct History {
    past: Ancestry,
    /// Container → changes with an operation in it (on a counter: its increments).
    edits: BTreeMap<OpId, BTreeSet<usize>>,
    /// Operation → changes that replace or delete it.
    deletes: HashMap<OpId, Vec<usize>>,
    /// Container → changes that say it is settled.
    gone: HashMap<OpId, Vec<usize>>,
    made: HashMap<OpId, Made>,
    /// List element → operations that put a value there.
    sets: HashMap<OpId, Vec<OpId>>,
    /// Counter → sum of its increments.
    increments: HashMap<OpId, i64>,
}

impl History {
    fn read(document: &Automerge, changes: &[Change]) -> Self {
        let mut history = Self {
            past: Ancestry::of(changes),
            edits: BTreeMap::new(),
            deletes: HashMap::new(),
            gone: HashMap::new(),
            made: HashMap::new(),
            sets: HashMap::new(),
            increments: HashMap::new(),
        };
        for (index, change) in changes.iter().enumerate() {
            for name in gone_names(change) {
                history.gone.entry(name).or_default().push(index);
            }
            let change = change.decode();
            for (offset, op) in change.operations.iter().enumerate() {
                let counter = u64::from(change.start_op) + offset as u64;
                history.take(document, index, OpId(counter, change.actor_id.clone()), op);
            }
        }
        history
    }

    fn is_object(&self, document: &Automerge, id: &OpId) -> bool {
        match self.made.get(id) {
            Some(made) => !matches!(made.content, Content::Scalar(_)),
            None => {
                object_id(document, id).is_some_and(|object| document.object_type(object).is_ok())
            }
        }
    }

    fn take(&mut self, document: &Automerge, change: usize, id: OpId, op: &automerge::legacy::Op) {
        if let OpType::Increment(by) = &op.action {
            for target in op.pred.iter() {
                if self.is_object(document, target) {
                    // An increment at a conflicted place takes all but the counters away.
                    self.deletes.entry(target.clone()).or_default().push(change);
                } else {
                    self.edits.entry(target.clone()).or_default().insert(change);
                    let sum = self.increments.entry(target.clone()).or_default();
                    *sum = sum.wrapping_add(*by);
                }
            }
        } else {
            for replaced in op.pred.iter() {
                self.deletes.entry(replaced.clone()).or_default().push(change);
            }
        }
        let holder = match &op.obj {
            ObjectId::Root => None,
            ObjectId::Id(holder) => Some(holder.clone()),
        };
        if let Some(holder) = &holder {
            self.edits.entry(holder.clone()).or_default().insert(change);
        }
        let (key, element) = match &op.key {
            Key::Map(key) => (Some(key.to_string()), None),
            Key::Seq(_) if op.insert => (None, Some(id.clone())),
            Key::Seq(ElementId::Id(element)) => (None, Some(element.clone())),
            Key::Seq(ElementId::Head) => (None, None),
        };
        let content = match &op.action {
            OpType::Make(kind) => Some(Content::object(*kind)),
            OpType::Put(ScalarValue::Counter(counter)) => {
                Some(Content::Scalar(Value::Counter(i64::from(counter))))
            }
            OpType::Put(_) => None,
            OpType::Delete | OpType::Increment(_) | OpType::MarkBegin(_) | OpType::MarkEnd(_) => {
                return;
            }
        };
        if let Some(element) = &element {
            self.sets.entry(element.clone()).or_default().push(id.clone());
        }
        if let Some(content) = content {
            self.made.insert(id, Made { holder, content, key, element });
        }
    }

    /// The containers that stand, where these changes are a whole history.
    fn standing(&self) -> BTreeSet<OpId> {
        let mut standing = BTreeSet::new();
        for (edited, edits) in &self.edits {
            let mut link = Some(edited);
            while let Some(id) = link {
                let Some(made) = self.made.get(id) else { break };
                // Only what an operation deleted is invisible; a `gone` alone deletes nothing.
                if self.deletes.contains_key(id) && self.is_unseen(id, edits) {
                    standing.insert(id.clone());
                }
                link = made.holder.as_ref();
            }
        }
        standing
    }

    /// Whether one of `edits` is in the past of no deleter of `container` and concurrent with one.
    fn is_unseen(&self, container: &OpId, edits: &BTreeSet<usize>) -> bool {
        let all = |map: &HashMap<OpId, Vec<usize>>| map.get(container).cloned().unwrap_or_default();
        let mut deleters = all(&self.deletes);
        deleters.extend(all(&self.gone));
        let Some(stretch) = deleters.iter().map(|d| self.past.stretch(*d)).max() else {
            return false;
        };
        deleters.retain(|deleter| self.past.stretch(*deleter) == stretch);
        edits.iter().filter(|edit| self.past.stretch(**edit) == stretch).any(|edit| {
            let seen = |deleter: &usize| self.past.holds(*deleter, *edit);
            let after = |deleter: &usize| self.past.holds(*edit, *deleter);
            !deleters.iter().any(seen) && !deleters.iter().all(after)
        })
    }

    /// Whether an edit in a container was concurrent with a deleter of it, where these changes are a
    /// whole history. Without one nothing stood at any version.
    fn was_unseen(&self) -> bool {
        let concurrent = |edit: usize, deleter: usize| {
            self.past.stretch(edit) == self.past.stretch(deleter)
                && !self.past.holds(edit, deleter)
                && !self.past.holds(deleter, edit)
        };
        self.edits.iter().any(|(edited, edits)| {
            let mut link = Some(edited);
            while let Some(id) = link {
                let deleters =
                    [&self.deletes, &self.gone].into_iter().filter_map(|map| map.get(id));
                let mut deleters = deleters.flatten();
                if deleters.any(|deleter| edits.iter().any(|edit| concurrent(*edit, *deleter))) {
                    return true;
                }
                link = self.made.get(id).and_then(|made| made.holder.as_ref());
            }
            false
        })
    }

    /// Whether anything may stand, where these changes are the concurrent part of a history in
    /// which nothing stood before. Says yes too often rather than too rarely.
    fn may_stand(&self, document: &Automerge) -> bool {
        let deleted = |id: &OpId| self.deletes.contains_key(id) || self.gone.contains_key(id);
        self.edits.iter().any(|(edited, edits)| {
            if deleted(edited) && self.is_unseen(edited, edits) {
                return true;
            }
            let Some(object) = object_id(document, edited) else { return false };
            // A counter is no object and has no parents; what holds it is edited beside it.
            let Ok(parents) = document.parents(&object) else { return false };
            parents
                .map(|parent| parent.obj)
                .filter_map(|holder| operation(&holder))
                .any(|holder| deleted(&holder) && self.is_unseen(&holder, edits))
        })
    }

    fn stander(&self, document: &Automerge, id: &OpId) -> Option<Stander> {
        let made = self.made.get(id)?;
        let holder = match &made.holder {
            None => ROOT,
            Some(holder) => object_id(document, holder)?,
        };
        let place = match (&made.key, &made.element) {
            (Some(key), _) => Standpoint::Key(key.clone()),
            (None, Some(element)) => Standpoint::Element {
                element: object_id(document, element)?,
                siblings: self
                    .sets
                    .get(element)
                    .into_iter()
                    .flatten()
                    .filter(|set| *set != id)
                    .filter_map(|set| object_id(document, set))
                    .collect(),
            },
            (None, None) => return None,
        };
        let content = match &made.content {
            Content::Scalar(Value::Counter(start)) => {
                let added = self.increments.get(id).copied().unwrap_or(0);
                Content::Scalar(Value::Counter(start.wrapping_add(added)))
            }
            other => other.clone(),
        };
        Some(Stander { id: object_id(document, id)?, holder, content, place })
    }
}
