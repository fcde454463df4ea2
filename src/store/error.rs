//! What can go wrong, and what the caller can do next.

use crate::ident::{IncarnationId, Name};
use std::path::PathBuf;

/// Bytes that are not what was once written there; the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damaged(pub &'static str);

/// An engine did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The disk is full.
    #[error("the disk is full: {0}")]
    Full(String),
    /// Stored bytes fail the engine's own checks.
    #[error("stored bytes are damaged: {0}")]
    Corrupt(String),
    /// Anything else.
    #[error("{0}")]
    Io(String),
}

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// Written by a newer Tombolo.
    #[error("the data has format {found}; this version of Tombolo knows formats up to {known}")]
    NewerFormat {
        /// What is there.
        found: u32,
        /// What this version knows.
        known: u32,
    },
    /// Without what every store has, or with what cannot be read. The text names the file or row.
    #[error("the data is damaged: {0}")]
    Damaged(String),
    /// The id of this start was used by an earlier one.
    #[error("incarnation {0} was used before")]
    IncarnationUsed(IncarnationId),
    /// The directory could not be made or locked.
    #[error("{}: {cause}", path.display())]
    Directory {
        /// The directory, or a file in it.
        path: PathBuf,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// The directory is in use for something else, and has no data.
    #[error("{} holds other files, and no data of Tombolo: name an empty directory", .0.display())]
    Foreign(PathBuf),
    /// The engine failed.
    #[error(transparent)]
    Engine(EngineError),
}

impl From<EngineError> for OpenError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Corrupt(what) => Self::Damaged(what),
            EngineError::Full(_) | EngineError::Io(_) => Self::Engine(error),
        }
    }
}

/// A row could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is there and is not what was written. The text says which and how.
    #[error("{0}")]
    Damaged(String),
    /// The document's id belongs to a document of another name.
    #[error("its id is that of the document {} in the collection {}", .0.key(), .0.collection())]
    NameTaken(Name),
    /// The engine failed.
    #[error(transparent)]
    Engine(EngineError),
}

impl From<EngineError> for ReadError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Corrupt(what) => Self::Damaged(what),
            EngineError::Full(_) | EngineError::Io(_) => Self::Engine(error),
        }
    }
}

/// A group of commits was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// This group failed. Whether it is found at the next start is not known.
    #[error("the write failed: {0}")]
    Failed(EngineError),
    /// An earlier group failed: nothing is written until the store is opened again.
    #[error("an earlier write failed: {0}")]
    Poisoned(EngineError),
}

impl CommitError {
    /// What the engine said.
    pub fn engine(&self) -> &EngineError {
        match self {
            Self::Failed(error) | Self::Poisoned(error) => error,
        }
    }
}

/// One commit was not made; the others of its group were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It would make one collection too many.
    #[error("there are 10,000 collections already")]
    TooManyCollections,
    /// A change, snapshot, view or standing set is too large to be a row.
    #[error("a row holds at most 1 GiB")]
    TooLarge,
    /// An earlier commit of the same loaded document was refused. Load it again.
    #[error("an earlier write of the document was refused")]
    Behind,
}
