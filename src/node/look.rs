//! What is read off a loaded document: one kind of task, whatever the answer is.

use super::{Error, task::Reply};
use crate::doc::Document;
use std::fmt;

/// A look at a document.
pub(super) trait Look: fmt::Debug + Send + Sync {
    /// How often it goes over the document and its history.
    fn passes(&self) -> usize;

    /// What it sees.
    fn take(self: Box<Self>, document: &Document) -> Box<dyn Seen>;

    /// Tells who asked that there is nothing to look at.
    fn fail(self: Box<Self>, error: Error);
}

/// What was seen, on its way to who asked. A caller that no longer waits is no concern.
pub(super) trait Seen: fmt::Debug + Send + Sync {
    /// Tells it.
    fn send(self: Box<Self>);

    /// Tells an error in its place: what it rests on did not become durable.
    fn fail(self: Box<Self>, error: Error);
}

/// A look by a function.
pub(super) fn look<T: Send + Sync + 'static>(
    passes: usize,
    at: impl FnOnce(&Document) -> Result<T, Error> + Send + Sync + 'static,
    reply: Reply<T>,
) -> Box<dyn Look> {
    Box::new(Asked { passes, at, reply })
}

struct Asked<F, T> {
    passes: usize,
    at: F,
    reply: Reply<T>,
}

impl<F, T> fmt::Debug for Asked<F, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Look").field("passes", &self.passes).finish_non_exhaustive()
    }
}

impl<F, T> Look for Asked<F, T>
where
    F: FnOnce(&Document) -> Result<T, Error> + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    fn passes(&self) -> usize {
        self.passes
    }

    fn take(self: Box<Self>, document: &Document) -> Box<dyn Seen> {
        Box::new(Answered { result: (self.at)(document), reply: self.reply })
    }

    fn fail(self: Box<Self>, error: Error) {
        drop(self.reply.send(Err(error)));
    }
}

struct Answered<T> {
    result: Result<T, Error>,
    reply: Reply<T>,
}

impl<T> fmt::Debug for Answered<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Seen").finish_non_exhaustive()
    }
}

impl<T: Send + Sync> Seen for Answered<T> {
    fn send(self: Box<Self>) {
        drop(self.reply.send(self.result));
    }

    fn fail(self: Box<Self>, error: Error) {
        drop(self.reply.send(Err(error)));
    }
}
