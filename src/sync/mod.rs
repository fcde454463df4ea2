//! How two nodes find out where they differ, and become equal. Pure: messages in, messages out.
//!
//! | file | holds |
//! |---|---|
//! | `field` | the arithmetic of cells |
//! | `key` | keyed hashes: fingerprints, positions |
//! | `sketch` | what a node holds, summed up, and a difference read of it |
//! | `estimate` | how large a difference is, about |
//! | `message`, `codec` | questions and answers, and their bytes |
//! | `round` | one exchange: both sides |

mod codec;
mod estimate;
mod field;
mod key;
mod message;
mod round;
mod sketch;

pub use codec::{DecodeError, FORMAT};
pub use estimate::{estimate, probed};
pub use key::{SketchKey, position};
pub use message::{Ask, Difference, SetId, Told};
pub use round::{Next, Round, RoundError, answer};
pub use sketch::{Cell, Peeled, Sketch, peel};
