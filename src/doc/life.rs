//! The life of a document: tombstones, touches, merge changes, and what counts as deleted.
//!
//! Each is a change that puts and deletes one root key that is in use nowhere, so that it has
//! operations: Automerge decides by operations whether an actor may go on at an older base, and
//! an actor whose last change had none would take its next seq without descending from it.

use automerge::{
    Automerge, ChangeHash, ChangeMetadata, PatchLog, ROOT, ReadDoc,
    transaction::{CommitOptions, Transactable},
};
use std::collections::{HashMap, HashSet};

/// The message of a tombstone.
pub(super) const DELETE: &str = "tombolo:delete";
/// The message of a change that only makes one head of many.
pub(super) const MERGE: &str = "tombolo:merge";
/// What the messages of such changes begin with, and no others.
const RESERVED: &str = "tombolo:";
/// Most heads that are left after a write.
pub(super) const HEADS_MAX: usize = 8;

/// Whether a message is one that decides something.
pub(super) fn is_reserved(message: &str) -> bool {
    message.starts_with(RESERVED)
}

/// A change that changes nothing but the version, with `base` as its past.
pub(super) fn mark(
    document: &mut Automerge,
    base: &[ChangeHash],
    message: Option<&str>,
    time_seconds: i64,
) -> Result<ChangeHash, automerge::AutomergeError> {
    let key = unused_root_key(document, base);
    let mut options = CommitOptions::default().with_time(time_seconds);
    if let Some(message) = message {
        options.set_message(message);
    }
    let mut tx = document
        .transaction_at(PatchLog::inactive(), base)
        .map_err(|_| automerge::AutomergeError::Fail)?;
    tx.put(ROOT, &key, true)?;
    tx.delete(ROOT, &key)?;
    tx.commit_with(options).0.ok_or(automerge::AutomergeError::Fail)
}

fn unused_root_key(document: &Automerge, base: &[ChangeHash]) -> String {
    let used = |key: &String| {
        let now = document.get_all(ROOT, key).is_ok_and(|all| !all.is_empty());
        let then = document.get_all_at(ROOT, key, base).is_ok_and(|all| !all.is_empty());
        now || then
    };
    let names = std::iter::once("tombolo".to_owned());
    let mut names = names.chain((1u64..).map(|number| format!("tombolo{number}")));
    names.find(|key| !used(key)).unwrap_or_default()
}

/// Whether a document at `heads` is deleted: every head is a tombstone, or has no operations and
/// only tombstones before it. What nobody has written is not deleted.
pub(super) fn is_deleted(document: &Automerge, heads: &[ChangeHash]) -> bool {
    !heads.is_empty() && heads.iter().all(|head| is_tombstone(document, head))
}

/// Whether some tombstone deleted just what `base` has seen.
pub(super) fn has_tombstone(document: &Automerge, base: &[ChangeHash]) -> bool {
    document.get_changes_meta(base).iter().any(|meta| {
        let mut deps = meta.deps.clone();
        deps.sort_unstable();
        meta.message.as_deref() == Some(DELETE) && deps == base
    })
}

fn is_tombstone(document: &Automerge, head: &ChangeHash) -> bool {
    let mut open = vec![*head];
    let mut seen: HashSet<ChangeHash> = HashSet::new();
    while let Some(hash) = open.pop() {
        if !seen.insert(hash) {
            continue;
        }
        let Some(meta) = document.get_change_meta_by_hash(&hash) else { return false };
        if meta.message.as_deref() == Some(DELETE) {
            continue;
        }
        if has_operations(&meta) || meta.deps.is_empty() {
            return false;
        }
        open.extend(&meta.deps);
    }
    true
}

fn has_operations(meta: &ChangeMetadata<'_>) -> bool {
    meta.start_op <= meta.max_op
}

/// The maximal ones of some changes: those that none of the others has in its past.
pub(super) fn maximal(document: &Automerge, version: &[ChangeHash]) -> Vec<ChangeHash> {
    let mut heads = version.to_vec();
    heads.sort_unstable();
    heads.dedup();
    if heads.len() < 2 {
        return heads;
    }
    let deps: HashMap<ChangeHash, Vec<ChangeHash>> =
        document.get_changes_meta(&[]).into_iter().map(|meta| (meta.hash, meta.deps)).collect();
    let mut past: HashSet<ChangeHash> = HashSet::new();
    let mut open: Vec<ChangeHash> =
        heads.iter().filter_map(|head| deps.get(head)).flatten().copied().collect();
    while let Some(hash) = open.pop() {
        if past.insert(hash) {
            open.extend(deps.get(&hash).into_iter().flatten());
        }
    }
    heads.retain(|head| !past.contains(head));
    heads
}
