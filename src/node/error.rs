//! Why a node did not do what was asked.

use crate::{
    doc::{Refusal, RefusalKind},
    ident::{Name, Version},
    store::{OpenError, ReadError, Refused},
};

/// Why a call on a node failed. Nothing was changed unless said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The edit was refused.
    #[error(transparent)]
    Refused(Refusal),
    /// No such document, and there never was.
    #[error("there is no such document")]
    NotFound,
    /// The document was deleted, at this version.
    #[error("the document was deleted")]
    Deleted(Version),
    /// This node does not hold the version asked for.
    #[error("this node has not seen that version")]
    VersionNotFound,
    /// The precondition did not hold; the document's version, if it exists.
    #[error("the document is not as the precondition expects")]
    PreconditionFailed(Option<Version>),
    /// A request under this `Idempotency-Key` was another.
    #[error("another request was made under this Idempotency-Key")]
    AnotherRequest,
    /// No writes until the node is started again; the reason. Whether the write that failed first
    /// is found then is not known.
    #[error("the node is read-only: {0}")]
    ReadOnly(String),
    /// There is no room on the disk; writes go on by themselves once there is. Whether a write that
    /// was under way is found then is not known.
    #[error("the disk is full: reads go on, and so do writes once there is room")]
    DiskFull,
    /// The engine takes no writes until flushes or compactions have caught up; try again.
    #[error("writes wait for the storage engine to catch up")]
    WritesStopped,
    /// Too much is waiting; try again.
    #[error("too many requests are waiting for this document")]
    Stalled,
    /// The stored document is damaged; it is not served.
    #[error("the stored document is damaged: {0}")]
    Damaged(String),
    /// The cursor is of another node, or of a start of this one whose end was lost.
    #[error("the cursor is not one that this node can go on from")]
    CursorGone,
    /// The node is going down.
    #[error("the node is stopping")]
    Stopping,
    /// There are as many collections as there may be.
    #[error("there are 10,000 collections already")]
    TooManyCollections,
    /// The id is that of the document of this name, in another collection.
    #[error("the document of this id is {:?} in the collection {}", .0.key().as_str(), .0.collection())]
    Elsewhere(Name),
    /// A defect, or a disk that cannot be read.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// Whether it is of the node and not of a document: the same may be tried again later.
    pub(super) fn is_of_node(&self) -> bool {
        matches!(
            self,
            Self::ReadOnly(_)
                | Self::DiskFull
                | Self::WritesStopped
                | Self::Stalled
                | Self::Stopping
        )
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal.kind {
            RefusalKind::VersionNotFound => Self::VersionNotFound,
            RefusalKind::Internal => Self::Internal(refusal.detail),
            _ => Self::Refused(refusal),
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(what) => Self::Damaged(what),
            ReadError::NameTaken(name) => Self::Elsewhere(name),
            ReadError::Engine(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooManyCollections => Self::TooManyCollections,
            Refused::TooLarge => Self::Refused(Refusal::at(
                RefusalKind::TooLarge,
                "",
                "the document is too large to be stored",
            )),
            Refused::Behind => Self::Internal("a write before this one was refused".to_owned()),
        }
    }
}

/// A node that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its data could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A thread could not be started.
    #[error("no thread could be started: {0}")]
    Thread(#[source] std::io::Error),
}
