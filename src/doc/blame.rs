//! Blame: which change set each value that a document shows.

use super::{
    author::Author,
    place,
    pointer::{Pointer, Trail},
    view::{Leaf, Scope, Sink},
};
use automerge::{Automerge, ChangeHash, ObjId, ROOT, ReadDoc};
use std::{collections::HashMap, sync::Arc};

/// A value that shows, and who set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blame {
    /// JSON Pointer (RFC 6901).
    pub path: String,
    /// The change that set it. Of a text, the one that wrote the latest of the letters that show; of a
    /// counter, the one that began it; of an empty object or list, the one that made it.
    pub author: Arc<Author>,
}

/// Every value without parts that shows at a place and below it, in the order of the view. The root
/// is nobody's: an empty document has no such value.
pub(super) fn list(scope: Scope<'_, Automerge>, within: &Pointer) -> Vec<Blame> {
    let mut sink = Blaming {
        document: scope.doc(),
        within,
        trail: Trail::default(),
        made_by: None,
        open: Vec::new(),
        authors: HashMap::new(),
        found: Vec::new(),
    };
    scope.walk_map(&[ROOT], &mut sink);
    sink.found
}

/// A sink that asks for the operations behind what it is shown.
struct Blaming<'a> {
    document: &'a Automerge,
    within: &'a Pointer,
    trail: Trail,
    /// The operation behind what comes next; none behind the root.
    made_by: Option<ObjId>,
    /// The containers that are open: the operation behind each, as long as nothing is in it.
    open: Vec<Option<ObjId>>,
    authors: HashMap<ChangeHash, Arc<Author>>,
    found: Vec<Blame>,
}

impl Blaming<'_> {
    fn add(&mut self, operation: &ObjId) {
        if !self.trail.is_within(self.within) {
            return;
        }
        let document = self.document;
        let author = || Arc::new(Author::of(document, operation));
        let author = match document.hash_for_opid(operation) {
            Some(hash) => Arc::clone(self.authors.entry(hash).or_insert_with(author)),
            None => author(),
        };
        self.found.push(Blame { path: self.trail.to_string(), author });
    }

    fn begin(&mut self) {
        self.open.push(self.made_by.take());
        self.trail.enter();
    }

    fn next(&mut self, step: String) {
        if let Some(empty) = self.open.last_mut() {
            *empty = None;
        }
        self.trail.step(step);
    }

    fn end(&mut self) {
        self.trail.leave();
        if let Some(Some(made_by)) = self.open.pop() {
            self.add(&made_by);
        }
    }
}

impl Sink for Blaming<'_> {
    fn made_by(&mut self, id: impl FnOnce() -> ObjId) {
        self.made_by = Some(id());
    }

    fn leaf(&mut self, leaf: Leaf<'_>) {
        let Some(made_by) = self.made_by.take() else { return };
        let letter = match leaf {
            Leaf::Text(_) => latest(self.document, &made_by),
            _ => None,
        };
        self.add(letter.as_ref().unwrap_or(&made_by));
    }

    fn map_begin(&mut self) {
        self.begin();
    }

    fn key(&mut self, key: &str) {
        self.next(key.to_owned());
    }

    fn map_end(&mut self) {
        self.end();
    }

    fn list_begin(&mut self) {
        self.begin();
    }

    fn element(&mut self, index: usize) {
        self.next(index.to_string());
    }

    fn list_end(&mut self) {
        self.end();
    }
}

/// The greatest operation among the letters that a text shows.
fn latest(document: &Automerge, text: &ObjId) -> Option<ObjId> {
    document.list_range(text, ..).map(|letter| letter.id()).max_by(place::order)
}
