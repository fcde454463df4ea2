//! How wide a document is: its longest list and its largest object.

use super::{
    Limits, Refusal, RefusalKind,
    pointer::Trail,
    view::{Leaf, Scope, Sink},
};
use automerge::{Change, ROOT, ReadDoc};

/// What is known of it: a measure, and how many operations have come since, each of which can have
/// made it wider by one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Width {
    measured: Option<Measured>,
    since: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    list: usize,
    object: usize,
}

impl Width {
    /// Takes note of changes that have become part of the document.
    pub(super) fn note(&mut self, changes: &[Change]) {
        self.since += changes.iter().map(Change::len).sum::<usize>();
    }

    /// Whether a document is surely within the limits after so many more operations.
    pub(super) fn is_within(&self, more: usize, limits: &Limits) -> bool {
        let most = self.since + more;
        self.measured.is_some_and(|Measured { list, object }| {
            list + most <= limits.list_length_max && object + most <= limits.object_keys_max
        })
    }

    /// Refuses a document that is wider than the limits. It is measured only if it can be.
    ///
    /// # Errors
    /// `TooLarge`.
    pub(super) fn check<R: ReadDoc>(
        &mut self,
        scope: Scope<'_, R>,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        if self.is_within(0, limits) {
            return Ok(());
        }
        let mut sink = Measuring::default();
        scope.walk_map(&[ROOT], &mut sink);
        *self = Self { measured: Some(sink.widest), since: 0 };
        if self.is_within(0, limits) {
            return Ok(());
        }
        let Limits { list_length_max, object_keys_max, .. } = limits;
        let detail = format!(
            "a list has at most {list_length_max} elements, an object {object_keys_max} keys"
        );
        Err(Refusal::at(RefusalKind::TooLarge, sink.place, detail))
    }
}

/// A sink that counts.
#[derive(Debug, Default)]
struct Measuring {
    trail: Trail,
    /// How much is in each container that is open.
    open: Vec<usize>,
    widest: Measured,
    /// Where the widest container is.
    place: String,
}

impl Measuring {
    fn begin(&mut self) {
        self.open.push(0);
        self.trail.enter();
    }

    fn next(&mut self, step: String) {
        self.trail.step(step);
        if let Some(count) = self.open.last_mut() {
            *count += 1;
        }
    }

    fn end(&mut self) -> usize {
        self.trail.leave();
        let count = self.open.pop().unwrap_or(0);
        if self.widest.list.max(self.widest.object) < count {
            self.place = self.trail.to_string();
        }
        count
    }
}

impl Sink for Measuring {
    fn leaf(&mut self, _leaf: Leaf<'_>) {}

    fn map_begin(&mut self) {
        self.begin();
    }

    fn key(&mut self, key: &str) {
        self.next(key.to_owned());
    }

    fn map_end(&mut self) {
        self.widest.object = self.end().max(self.widest.object);
    }

    fn list_begin(&mut self) {
        self.begin();
    }

    fn element(&mut self, index: usize) {
        self.next(index.to_string());
    }

    fn list_end(&mut self) {
        self.widest.list = self.end().max(self.widest.list);
    }
}
