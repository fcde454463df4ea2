//! What callers want of a document, and the answers that wait until what they rest on is durable.

use super::{
    Error, Reading, Representation, Taken, Write, Written,
    look::{Look, Seen},
};
use crate::{
    doc::Limits,
    ident::{Name, Version},
    store::Source,
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
    /// What is read off the document and changes nothing.
    Look(Box<dyn Look>),
    /// Foreign bytes, for the gate and its limits. `from`: the peer that sent them. `left`: bytes that may
    /// wait, of all documents.
    Admit {
        from: Option<Source>,
        limits: Box<Limits>,
        bytes: Bytes,
        left: u64,
        reply: Reply<Taken>,
    },
}

impl Task {
    pub(super) fn fail(self, error: Error) {
        match self {
            Self::Write { reply, .. } => drop(reply.send(Err(error))),
            Self::Read { reply, .. } => drop(reply.send(Err(error))),
            Self::Look(look) => look.fail(error),
            Self::Admit { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// An answer that is ready, but for the durability of what it rests on.
#[derive(Debug)]
pub(super) enum Answer {
    Written(Written, Reply<Written>),
    Reading(Reading, Reply<Reading>),
    Seen(Box<dyn Seen>),
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
            Self::Seen(seen) => seen.send(),
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
            Self::Seen(seen) => seen.fail(error),
            Self::Taken(_, reply) => drop(reply.send(Err(error))),
        }
    }
}
