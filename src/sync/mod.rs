//! How two nodes find out where they differ, and become equal. Pure: messages in, messages out.
//!
//! | file | holds |
//! |---|---|
//! | `field` | the arithmetic of cells |
//! | `key` | keyed hashes: fingerprints, positions |
//! | `sketch` | what a node holds, summed up, and a difference read of it |
//! | `estimate` | how large a difference is, about |
//! | `message`, `codec` | questions and answers, and their bytes |
//! | `round` | where two nodes differ: both sides of the exchange |
//! | `repair` | what makes differing documents equal |

mod codec;
mod estimate;
mod field;
mod key;
mod message;
mod repair;
mod round;
mod sketch;

pub use codec::{DecodeError, FORMAT};
pub use estimate::{estimate, probed};
pub use key::{SketchKey, position};
pub use message::{Ask, Difference, SetId, Told};
pub use repair::{
    Held, Holdings, POSITIONS_MAX, Parcel, RepairAsk, RepairTold, answer_repair, decode_parcels,
    encode_parcels, give_back,
};
pub use round::{Next, Round, RoundError, answer};
pub use sketch::{Cell, Peeled, Sketch, peel};
