//! Documents: JSON outside, Automerge inside. Pure: no disk, network, clock or randomness.

mod document;
mod edit;
mod json;
mod limits;
mod pointer;
mod print;
mod refusal;
mod timestamp;
mod typed;
mod value;

pub use document::{Actor, Conflict, ConflictingValue, Damaged, Document, Rendering};
pub use edit::{Delta, Edit, Patch, Stamp};
pub use json::parse;
pub use limits::Limits;
pub use pointer::{Pointer, list_index};
pub use refusal::{Refusal, RefusalKind};
pub use value::{Form, Value};
