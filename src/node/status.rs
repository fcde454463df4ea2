//! Whether a node takes writes, for all of its parts.

use super::Error;
use crate::store::EngineError;
use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::sync::watch;

/// Shared by the handle, the shards, the committer and the watch over the disk.
#[derive(Debug)]
pub(super) struct Status {
    /// A commit failed: no writes until the node is started again.
    failed: OnceLock<Failed>,
    stopping: AtomicBool,
    /// The engine has to catch up before it takes more.
    stalled: AtomicBool,
    /// Below the reserve of free disk.
    full: AtomicBool,
    /// Bytes that may be written before the disk has to be looked at again.
    room: AtomicU64,
    /// Whether the data should be opened anew, since the disk has room again.
    reopen: watch::Sender<bool>,
}

#[derive(Debug)]
struct Failed {
    reason: String,
    /// There was no room; what is written once there is some is as good as any.
    full: bool,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            failed: OnceLock::new(),
            stopping: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            full: AtomicBool::new(false),
            room: AtomicU64::new(u64::MAX),
            reopen: watch::Sender::new(false),
        }
    }
}

impl Status {
    /// Whether a write may begin.
    pub(super) fn check_writable(&self) -> Result<(), Error> {
        self.check_running()?;
        match self.failed.get() {
            Some(Failed { reason, full: false }) => return Err(Error::ReadOnly(reason.clone())),
            Some(Failed { full: true, .. }) => return Err(Error::DiskFull),
            None => {}
        }
        if self.full.load(Ordering::Relaxed) || self.room.load(Ordering::Relaxed) == 0 {
            return Err(Error::DiskFull);
        }
        if self.stalled.load(Ordering::Relaxed) { Err(Error::WritesStopped) } else { Ok(()) }
    }

    /// Why no writes are taken, until the node is started again or the disk has room, if none are.
    pub(super) fn read_only(&self) -> Option<String> {
        let failed = self.failed.get().map(|failed| failed.reason.clone());
        let full = self.full.load(Ordering::Relaxed) || self.room.load(Ordering::Relaxed) == 0;
        failed.or_else(|| full.then(|| Error::DiskFull.to_string()))
    }

    pub(super) fn check_running(&self) -> Result<(), Error> {
        if self.stopping.load(Ordering::Acquire) { Err(Error::Stopping) } else { Ok(()) }
    }

    /// A commit failed: no writes from here on. The first reason stays.
    pub(super) fn fail(&self, error: &EngineError) {
        let full = matches!(error, EngineError::Full(_));
        if self.failed.set(Failed { reason: error.to_string(), full }).is_err() {
            return;
        }
        if full {
            tracing::error!(%error, "there was no room for a commit: no writes until there is");
        } else {
            tracing::error!(%error, "a commit failed: the node is read-only until it is restarted");
        }
    }

    /// Whether a commit failed because there was no room.
    pub(super) fn failed_for_room(&self) -> bool {
        self.failed.get().is_some_and(|failed| failed.full)
    }

    pub(super) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(super) fn set_stalled(&self, stalled: bool) {
        if self.stalled.swap(stalled, Ordering::Relaxed) != stalled {
            tracing::warn!(stalled, "writes wait for flushes and compactions to catch up");
        }
    }

    /// Tells how many bytes may be written; `full`: none, however many there seem to be.
    pub(super) fn set_room(&self, bytes: u64, full: bool) {
        self.room.store(bytes, Ordering::Relaxed);
        if self.full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::warn!("below `storage.min_free_bytes`: no writes until there is room");
            } else {
                tracing::info!("there is room on the disk again: writes go on");
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Takes note of what was written. Whether the disk should be looked at: half of the room that
    /// there was is gone.
    pub(super) fn spend(&self, bytes: u64, looked: u64) -> bool {
        let left = self.room.load(Ordering::Relaxed).saturating_sub(bytes);
        self.room.store(left, Ordering::Relaxed);
        left <= looked / 2
    }

    /// The room that there is.
    pub(super) fn room(&self) -> u64 {
        self.room.load(Ordering::Relaxed)
    }

    pub(super) fn want_reopening(&self) {
        self.reopen.send_replace(true);
    }

    /// Told once the data should be opened anew.
    pub(super) fn reopening(&self) -> watch::Receiver<bool> {
        self.reopen.subscribe()
    }
}
