//! The bounds of one document and one edit.

use super::{Pointer, Refusal, RefusalKind, Value};

/// Bounds of what an edit may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Deepest nesting; the root is depth 1.
    pub depth_max: usize,
    /// Most keys of one object.
    pub object_keys_max: usize,
    /// Most elements of one list.
    pub list_length_max: usize,
    /// Most operations of one change.
    pub change_operations_max: usize,
    /// Largest document, in bytes of its plain JSON.
    pub document_bytes_max: usize,
    /// Most elements of lists and texts that an edit at an older base looks at in place, for each 65,536
    /// operations of the document that are begun; past them it is made in a copy of the document, with the
    /// same outcome.
    pub seek_steps_max: usize,
    /// Most deleted elements that the insertions of one edit walk over, at most: each may walk over
    /// all that the edit deleted before it.
    pub walked_elements_max: usize,
    /// Most bytes that foreign bytes may be once inflated.
    pub inflated_bytes_max: u64,
    /// Most bytes that one byte of a stranger's may inflate to, past what a document may have of JSON.
    pub inflation_ratio_max: u64,
    /// Most operations, and most changes, of a foreign document that comes whole.
    pub document_operations_max: u64,
    /// The same, of one that was opened elsewhere before, where nobody is hurt by it.
    pub decoded_operations_max: u64,
    /// Most bytes that such a one may be once inflated.
    pub decoded_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth_max: 100,
            object_keys_max: 100_000,
            list_length_max: 1_000_000,
            change_operations_max: 250_000,
            document_bytes_max: 16 << 20,
            // A fifth of a second. A copy takes a third.
            seek_steps_max: 1_000_000,
            // Some seconds.
            walked_elements_max: 300_000_000,
            inflated_bytes_max: 32 << 20,
            inflation_ratio_max: 200,
            document_operations_max: 1_000_000,
            decoded_operations_max: 20_000_000,
            decoded_bytes_max: 256 << 20,
        }
    }
}

impl Limits {
    /// The bounds for what was opened elsewhere before.
    #[must_use]
    pub fn decoded(self) -> Self {
        Self {
            document_operations_max: self.decoded_operations_max,
            inflated_bytes_max: self.decoded_bytes_max,
            ..self
        }
    }

    /// Refuses a value that would nest too deep at `path`. A container inside of `levels` others
    /// nests as deep as they and itself together; what is no container nests nowhere.
    pub(super) fn check_depth(
        &self,
        levels: usize,
        path: &Pointer,
        value: &Value,
    ) -> Result<(), Refusal> {
        let depth = value.depth();
        if depth == 0 || levels + depth <= self.depth_max {
            return Ok(());
        }
        let detail = format!("nested deeper than {} levels", self.depth_max);
        Err(Refusal::at(RefusalKind::TooDeep, path.to_string(), detail))
    }
}
