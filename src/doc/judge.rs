//! What a foreign change has to follow from: numbers of operations, and its actor's changes before it.

use super::{Refusal, chunk::bad, history::History};
use crate::ident::Hash;
use automerge::{ActorId, Change, ChangeHash};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// No operation has this number or a greater one: 2³¹. Automerge counts to 2³², and panics behind it.
pub(super) const OPERATION_END: u64 = 1 << 31;

/// What a change has to follow from.
pub(super) struct Judge<'a> {
    history: &'a History,
    /// The last change of each actor in the history.
    stored: &'a BTreeMap<ActorId, (u64, ChangeHash)>,
    /// And among those taken.
    last: HashMap<ActorId, (u64, ChangeHash)>,
    /// Changes that were found good, and are not in the history: their last operations and what
    /// they rest on.
    taken: HashMap<ChangeHash, (u64, Vec<ChangeHash>)>,
}

impl<'a> Judge<'a> {
    /// `stored`: the last change of each actor in the history.
    pub(super) fn new(
        history: &'a History,
        stored: &'a BTreeMap<ActorId, (u64, ChangeHash)>,
    ) -> Self {
        Self { history, stored, last: HashMap::new(), taken: HashMap::new() }
    }

    /// Whether a change is here, or among those that were found good.
    pub(super) fn knows(&self, hash: &ChangeHash) -> bool {
        self.taken.contains_key(hash) || self.history.holds(hash)
    }

    /// What a change rests on directly, and is not here.
    pub(super) fn missing(&self, change: &Change) -> Vec<Hash> {
        let missing: BTreeSet<Hash> = change
            .deps()
            .iter()
            .filter(|dep| !self.knows(dep))
            .map(|dep| Hash::from_bytes(dep.0))
            .collect();
        missing.into_iter().collect()
    }

    /// Checks a change whose dependencies are known, and takes note of it.
    ///
    /// # Errors
    /// `BadChanges`.
    pub(super) fn check(&mut self, change: &Change) -> Result<(), Refusal> {
        let refuse = |why: &str| {
            let name = Hash::from_bytes(change.hash().0);
            Err(bad(&format!("change {name}: {why}")))
        };
        let past = change.deps().iter().map(|dep| self.last_operation(dep)).max().unwrap_or(0);
        let start = change.start_op().get();
        if start <= past {
            return refuse("its operations are numbered as ones that it rests on");
        }
        if change.is_empty() && start != past + 1 {
            return refuse("it has no operations, and numbers them all the same");
        }
        let end = start.checked_add(change.len() as u64);
        if end.is_none_or(|end| OPERATION_END < end) {
            return refuse("its operations are numbered past the end");
        }
        let actor = change.actor_id();
        match (change.seq(), self.last.get(actor).or_else(|| self.stored.get(actor))) {
            (1, None) => {}
            (seq, Some((last, before))) if seq == last + 1 => {
                if !self.descends(change, before) {
                    return refuse("it does not rest on the one before it by the same actor");
                }
            }
            (seq, Some((last, _))) if (1..=*last).contains(&seq) => {
                return refuse("its actor has made another change in its place");
            }
            _ => return refuse("its actor's changes before it are not what it rests on"),
        }
        self.last.insert(actor.clone(), (change.seq(), change.hash()));
        self.taken.insert(change.hash(), (end.unwrap_or(0) - 1, change.deps().to_vec()));
        Ok(())
    }

    fn last_operation(&self, hash: &ChangeHash) -> u64 {
        match self.taken.get(hash) {
            Some((last, _)) => *last,
            None => self.history.last_operation(hash).unwrap_or(0),
        }
    }

    /// Whether `before` is in the past of a change.
    fn descends(&self, change: &Change, before: &ChangeHash) -> bool {
        if change.deps().contains(before) {
            return true;
        }
        // Numbers of operations grow from each change to what rests on it.
        let least = self.last_operation(before);
        let mut seen: BTreeSet<ChangeHash> = BTreeSet::new();
        let mut open = change.deps().to_vec();
        while let Some(hash) = open.pop() {
            if hash == *before {
                return true;
            }
            if self.last_operation(&hash) < least || !seen.insert(hash) {
                continue;
            }
            match self.taken.get(&hash) {
                Some((_, deps)) => open.extend(deps),
                None => open.extend(self.history.dependencies(&hash)),
            }
        }
        false
    }
}
