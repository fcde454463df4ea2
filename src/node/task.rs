//! What callers want of a document, and the answers that wait until what they rest on is durable.

use super::{Error, Reading, Representation, Taken, Write, Written};
use crate::{
    doc::{Conflict, Deeds, Moment, Sender},
    ident::{Name, Version},
};
use bytes::Bytes;
use tokio::sync::oneshot;

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Something wanted of a document.
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
    /// The changes that a version has not seen.
    Changes {
        since: Version,
        reply: Reply<Reading>,
    },
    /// The JSON Patch from one version to another, or to the present.
    Diff {
        from: Version,
        to: Option<Version>,
        reply: Reply<Reading>,
    },
    /// What changes did, those before a moment.
    Deeds {
        before: Option<Moment>,
        limit: usize,
        reply: Reply<(Version, Deeds)>,
    },
    /// Foreign bytes, for the gate. `left`: bytes that may wait, of all documents.
    Admit {
        bytes: Bytes,
        sender: Sender,
        left: u64,
        reply: Reply<Taken>,
    },
}

impl Task {
    pub(super) fn fail(self, error: Error) {
        match self {
            Self::Write { reply, .. } => drop(reply.send(Err(error))),
            Self::Read { reply, .. } | Self::Changes { reply, .. } | Self::Diff { reply, .. } => {
                drop(reply.send(Err(error)));
            }
            Self::Admit { reply, .. } => drop(reply.send(Err(error))),
            Self::Conflicts { reply } => drop(reply.send(Err(error))),
            Self::Deeds { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// An answer that is ready, but for the durability of what it rests on.
#[derive(Debug)]
pub(super) enum Answer {
    Written(Written, Reply<Written>),
    Reading(Reading, Reply<Reading>),
    Conflicts((Version, Vec<Conflict>), Reply<(Version, Vec<Conflict>)>),
    Deeds((Version, Deeds), Reply<(Version, Deeds)>),
    Taken(Taken, Reply<Taken>),
    RefusedWrite(Error, Reply<Written>),
    RefusedReading(Error, Reply<Reading>),
}

impl Answer {
    /// Sends it. A caller that no longer waits is no concern.
    pub(super) fn send(self) {
        match self {
            Self::Written(written, reply) => drop(reply.send(Ok(written))),
            Self::Reading(reading, reply) => drop(reply.send(Ok(reading))),
            Self::Conflicts(conflicts, reply) => drop(reply.send(Ok(conflicts))),
            Self::Deeds(deeds, reply) => drop(reply.send(Ok(deeds))),
            Self::Taken(taken, reply) => drop(reply.send(Ok(taken))),
            Self::RefusedWrite(error, reply) => drop(reply.send(Err(error))),
            Self::RefusedReading(error, reply) => drop(reply.send(Err(error))),
        }
    }

    pub(super) fn fail(self, error: Error) {
        match self {
            Self::Written(_, reply) | Self::RefusedWrite(_, reply) => drop(reply.send(Err(error))),
            Self::Reading(_, reply) | Self::RefusedReading(_, reply) => {
                drop(reply.send(Err(error)));
            }
            Self::Conflicts(_, reply) => drop(reply.send(Err(error))),
            Self::Deeds(_, reply) => drop(reply.send(Err(error))),
            Self::Taken(_, reply) => drop(reply.send(Err(error))),
        }
    }
}
