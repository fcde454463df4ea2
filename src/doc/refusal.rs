//! Why an edit, or the bytes that should have been one, was refused.

use super::Pointer;

/// What was wrong; each kind is one error code of the HTTP interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// Not JSON, or JSON with numbers or strings that cannot be kept.
    BadJson,
    /// An object names one key twice.
    DuplicateKey,
    /// Nested deeper than the limit.
    TooDeep,
    /// The root is not an object.
    RootMustBeObject,
    /// Not a JSON Patch: an unknown operation, a missing member, a malformed pointer.
    BadPatch,
    /// A pointer leads nowhere.
    BadPointer,
    /// The value at a place is not of the type that the edit needs.
    WrongType,
    /// A `test` operation did not hold.
    PatchTestFailed,
    /// More keys, elements or operations than the limits allow.
    TooLarge,
    /// Foreign bytes that are no changes of Automerge, or none that this document can take.
    BadChanges,
    /// A foreign document that is to be opened elsewhere first: it has too many operations to be opened
    /// unseen.
    Heavy,
    /// Foreign bytes that passed every check, and on which Automerge broke all the same.
    Broken,
    /// A version names changes that this document does not hold.
    VersionNotFound,
    /// A defect of the program.
    Internal,
}

/// A refused edit. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// What was wrong.
    pub kind: RefusalKind,
    /// For people.
    pub detail: String,
    /// The place, as a JSON Pointer (RFC 6901), where there is one.
    pub pointer: Option<String>,
}

impl Refusal {
    /// A refusal of the whole.
    pub fn new(kind: RefusalKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), pointer: None }
    }

    /// A refusal at a place.
    pub fn at(kind: RefusalKind, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), pointer: Some(pointer.into()) }
    }
}

/// A refusal that only a defect of the program can bring about.
pub(super) fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalKind::Internal, error.to_string())
}

impl From<automerge::AutomergeError> for Refusal {
    fn from(error: automerge::AutomergeError) -> Self {
        Self::new(RefusalKind::Internal, error.to_string())
    }
}

/// A refusal on its way out of nested values: each level that it leaves adds its name.
#[derive(Debug)]
pub(super) struct Fault {
    kind: RefusalKind,
    detail: String,
    /// Innermost first.
    path: Vec<String>,
}

impl Fault {
    /// A fault of the value at hand. Boxed, because it is carried through every level's result.
    pub(super) fn new(kind: RefusalKind, detail: impl Into<String>) -> Box<Self> {
        Box::new(Self { kind, detail: detail.into(), path: Vec::new() })
    }

    /// The same fault, seen from the value that holds the faulty one under this key or index.
    pub(super) fn within(mut self: Box<Self>, token: impl Into<String>) -> Box<Self> {
        self.path.push(token.into());
        self
    }
}

impl From<Box<Fault>> for Refusal {
    fn from(fault: Box<Fault>) -> Self {
        let pointer = Pointer(fault.path.into_iter().rev().collect());
        Self::at(fault.kind, pointer.to_string(), fault.detail)
    }
}
