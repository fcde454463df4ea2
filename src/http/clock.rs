//! The one place where this room asks for the time: Tokio's, which a simulation can drive.

use tokio::time::Instant;

/// Now.
pub(super) fn now() -> Instant {
    Instant::now()
}
