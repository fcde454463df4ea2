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
//! | `names` | which documents those are |
//! | `scope` | which collections two nodes share |
//! | `hello` | who is there, what it holds, and whom it tells |
//! | `feed` | what was written, on its way to another node |
//! | `overhear` | what clients of one node say to those of another |
//! | `refused` | why there is no answer |
//! | `seal` | that a message is of a member, and is not heard twice |

mod codec;
mod estimate;
mod feed;
mod field;
mod hello;
mod key;
mod message;
mod names;
mod overhear;
mod refused;
mod repair;
mod round;
mod scope;
mod seal;
mod sketch;

pub use codec::{DecodeError, FORMAT};
pub use estimate::{estimate, probed};
pub use feed::{Batch, Offer, Pull, Taken, Want};
pub use hello::{Beat, Hello, LINK_COLLECTIONS_MAX, LINKS_MAX, Link};
pub use key::{SketchKey, position};
pub use message::{Ask, Difference, Part, Salt, SetId, Slice, Told};
pub use names::{NamesAsk, NamesTold, answer_names};
pub use overhear::{Overhear, Overheard, SAID_MAX};
pub use refused::{Reason, Refused};
pub use repair::{
    Held, Holdings, Lacking, POSITIONS_MAX, Parcel, REPAIR_BYTES_MAX, RepairAsk, RepairTold,
    answer_repair, give_back,
};
pub use round::{Next, Round, RoundError, answer, between};
pub use scope::{COLLECTIONS_MAX, Scope};
pub use seal::{Envelope, MemberKey, REPLAYS_MAX, Replays};
pub use sketch::{Cell, Peeled, Sketch, peel};
