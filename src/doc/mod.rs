//! Documents: JSON outside, Automerge inside. Pure: no disk, network, clock or randomness.

mod apply;
mod conflict;
mod document;
mod edit;
mod json;
mod life;
mod limits;
mod pairing;
mod patch;
mod patching;
mod place;
mod pointer;
mod print;
mod put;
mod put_list;
mod refusal;
mod retype;
mod standing;
mod task;
mod text;
mod timestamp;
mod typed;
mod value;
mod view;
mod write;

pub use apply::merge_patch;
pub use conflict::{Conflict, ConflictingValue};
pub use document::{Actor, Damaged, Document, Rendering};
pub use edit::{Delta, Edit, Stamp};
pub use json::{interpret, parse, parse_envelope};
pub use limits::Limits;
pub use patch::{Operation, Patch, SpliceInsert};
pub use pointer::{Pointer, list_index};
pub use refusal::{Refusal, RefusalKind};
pub use value::{Form, Value};
