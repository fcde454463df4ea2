//! Documents: JSON outside, Automerge inside. Pure: no disk, network, clock or randomness.

mod apply;
mod document;
mod edit;
mod json;
mod limits;
mod patch;
mod pointer;
mod print;
mod refusal;
mod timestamp;
mod typed;
mod value;

pub use apply::merge_patch;
pub use document::{Actor, Conflict, ConflictingValue, Damaged, Document, Rendering};
pub use edit::{Delta, Edit, Stamp};
pub use json::parse;
pub use limits::Limits;
pub use patch::{Operation, Patch, SpliceInsert};
pub use pointer::{Pointer, list_index};
pub use refusal::{Refusal, RefusalKind};
pub use value::{Form, Value};
