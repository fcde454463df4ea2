//! Whether a node takes writes, for all of its parts.

use super::Error;
use std::sync::{OnceLock, atomic::AtomicBool, atomic::Ordering};

/// Shared by the handle, the shards and the committer. Goes one way: from well to not.
#[derive(Debug, Default)]
pub(super) struct Status {
    read_only: OnceLock<String>,
    stopping: AtomicBool,
}

impl Status {
    /// Whether a write may begin.
    pub(super) fn check_writable(&self) -> Result<(), Error> {
        self.check_running()?;
        match self.read_only.get() {
            Some(reason) => Err(Error::ReadOnly(reason.clone())),
            None => Ok(()),
        }
    }

    /// Why no writes are taken, if none are.
    pub(super) fn read_only(&self) -> Option<&str> {
        self.read_only.get().map(String::as_str)
    }

    pub(super) fn check_running(&self) -> Result<(), Error> {
        if self.stopping.load(Ordering::Acquire) { Err(Error::Stopping) } else { Ok(()) }
    }

    /// No writes from here on. The first reason stays.
    pub(super) fn set_read_only(&self, reason: &str) {
        if self.read_only.set(reason.to_owned()).is_ok() {
            tracing::error!(reason, "a commit failed: the node is read-only until it is restarted");
        }
    }

    pub(super) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}
