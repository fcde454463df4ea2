//! The guard of the disk: looks whether there is room, and whether the engine keeps up.

use super::status::Status;
use crate::store::{Health, Store};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// How often it looks, whatever is written.
const INTERVAL: Duration = Duration::from_millis(250);
/// Most bytes that are kept free unless told otherwise.
const RESERVE_BYTES_MAX: u64 = 256 << 20;
/// The part of the volume that is kept free where that is less.
const RESERVE_PART: u64 = 20;

/// Looks at the disk for one node.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    pub(super) store: Arc<Store>,
    pub(super) status: Arc<Status>,
    /// Bytes to keep free; `None`: the least of 256 MiB and 5 % of the volume.
    pub(super) min_free_bytes: Option<u64>,
}

impl Guard {
    /// Looks until the node has ended.
    pub(super) async fn run(self, mut ended: watch::Receiver<bool>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut errors = 0;
        loop {
            tokio::select! {
                biased;
                _ = ended.wait_for(|ended| *ended) => return,
                _ = ticks.tick() => {}
            }
            let Some(health) = self.look() else { continue };
            if errors < health.background_errors {
                errors = health.background_errors;
                tracing::error!(errors, "flushes or compactions failed; RocksDB's LOG says why");
            }
        }
    }

    /// Looks once, and says so to all who ask the status.
    pub(super) fn look(&self) -> Option<Health> {
        let health = self.store.health().inspect_err(|error| {
            tracing::error!(%error, "the engine does not tell how it fares");
        });
        let health = health.ok()?;
        self.status.set_stalled(health.stalled);
        let (Some(free), Some(volume)) = (health.free_bytes, health.volume_bytes) else {
            return Some(health);
        };
        let reserve = self.min_free_bytes.unwrap_or((volume / RESERVE_PART).min(RESERVE_BYTES_MAX));
        // What is in memory has still to be written to tables, before its log can go.
        let room = free.saturating_sub(reserve.saturating_add(health.unwritten_bytes));
        // Writes do not begin again for a handful of bytes.
        let enough = if self.status.is_full() { reserve / 8 } else { 0 };
        let full = room <= enough;
        self.status.set_room(if full { 0 } else { room }, full);
        if !full && self.status.failed_for_room() {
            self.status.want_reopening();
        }
        Some(health)
    }
}
