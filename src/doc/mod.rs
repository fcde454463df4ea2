//! Documents: JSON outside, Automerge inside. Pure: no disk, network, clock or randomness.

mod document;
mod edit;
mod limits;
mod refusal;
mod value;

pub use document::{Actor, Conflict, ConflictingValue, Damaged, Document, Rendering};
pub use edit::{Delta, Edit, Patch, Stamp};
pub use limits::Limits;
pub use refusal::{Refusal, RefusalKind};
pub use value::{Form, Value};
