//! An engine in memory, with faults: what simulations and most tests run on.
//!
//! It keeps what readers see apart from what a power cut would leave. Nothing in it is left to
//! chance: faults are put in by the caller, and [`MemoryEngine::crash`] is told what the disk held.

use super::{
    engine::{
        Batch, Cached, Durability, Engine, Health, Op, Range, SCAN_STRETCH_ROWS, Usage, Visit,
    },
    error::EngineError,
    key::Family,
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Something that goes wrong. Counts are from now on: 0 is the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// One sync fails (EIO). Whether its batch reached the disk is for [`Crash`] to say; the engine
    /// refuses every later commit.
    SyncFails {
        /// How many syncs succeed before.
        after: u64,
    },
    /// The disk is full (ENOSPC), until [`MemoryEngine::heal`].
    Full {
        /// How many commits succeed before.
        after: u64,
    },
    /// One read fails (EIO).
    ReadFails {
        /// How many reads succeed before; a scan is one read.
        after: u64,
    },
    /// Every sync says that it synced, and does nothing. No engine may do so: it shows that a test
    /// would see a loss.
    SyncLies,
    /// Nothing is in memory: [`Engine::get_cached`] never knows.
    Cold,
    /// One row cannot be read; scans stop before it.
    Unreadable {
        /// Where.
        family: Family,
        /// Its key.
        key: Vec<u8>,
    },
    /// [`Engine::health`] says that writes wait for work in the background.
    Stalled,
    /// [`Engine::health`] says that so many bytes of a volume of 1 GiB are free.
    Free {
        /// How many.
        bytes: u64,
    },
}

/// What the disk holds of the batches that were not synced when the power went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The first `batches` of them. The next may have been half written: an engine finds that out
    /// by its checksum, and drops it whole.
    Keep {
        /// How many; all if there are fewer.
        batches: usize,
    },
    /// The first `batches` of them, and a part of the next. No engine may do so: it shows that a
    /// test would see a torn batch.
    Tear {
        /// How many are whole.
        batches: usize,
        /// How many steps of the next are there.
        steps: usize,
    },
}

type Rows = BTreeMap<Family, BTreeMap<Vec<u8>, Bytes>>;

#[derive(Debug, Default)]
struct State {
    visible: Rows,
    synced: Rows,
    /// In the order in which they were committed.
    unsynced: Vec<Batch>,
    /// Each with how often it still does not strike.
    faults: Vec<Fault>,
    /// Why nothing is committed any more.
    stopped: Option<EngineError>,
    checkpoints: BTreeMap<PathBuf, Rows>,
}

/// Rows in memory.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    state: Mutex<State>,
}

impl MemoryEngine {
    /// No rows, no faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a fault in.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Takes all faults out. What they broke stays broken.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// How many batches a power cut could lose now.
    pub fn unsynced_batches(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// The engine as it opens after power was lost now. This one stays as it is.
    #[must_use]
    pub fn crash(&self, crash: Crash) -> Self {
        let state = self.lock();
        let mut rows = state.synced.clone();
        let (batches, steps) = match crash {
            Crash::Keep { batches } => (batches, 0),
            Crash::Tear { batches, steps } => (batches, steps),
        };
        let whole = state.unsynced.iter().take(batches).flat_map(Batch::ops);
        let torn = state.unsynced.get(batches).map_or([].as_slice(), Batch::ops);
        apply(&mut rows, whole.chain(torn.iter().take(steps)));
        Self::holding(rows)
    }

    /// The engine as it opens after its process ended, however it ended, while the power stayed on.
    #[must_use]
    pub fn restart(&self) -> Self {
        self.crash(Crash::Keep { batches: usize::MAX })
    }

    /// The engine as it opens from a checkpoint that this one made.
    pub fn restore(&self, directory: &Path) -> Option<Self> {
        self.lock().checkpoints.get(directory).cloned().map(Self::holding)
    }

    fn holding(rows: Rows) -> Self {
        let state = State { visible: rows.clone(), synced: rows, ..State::default() };
        Self { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn readable(&self) -> Result<MutexGuard<'_, State>, EngineError> {
        let mut state = self.lock();
        if state.read_fails() { Err(io("read")) } else { Ok(state) }
    }
}

impl State {
    fn rows(&self, family: Family) -> Option<&BTreeMap<Vec<u8>, Bytes>> {
        self.visible.get(&family)
    }

    fn has(&self, fault: &Fault) -> bool {
        self.faults.contains(fault)
    }

    /// Whether a row cannot be read.
    fn is_unreadable(&self, at: Family, row: &[u8]) -> bool {
        self.faults.iter().any(|fault| match fault {
            Fault::Unreadable { family, key } => *family == at && key == row,
            _ => false,
        })
    }

    fn read_fails(&mut self) -> bool {
        self.strike(|fault| if let Fault::ReadFails { after } = fault { Some(after) } else { None })
    }

    fn sync_fails(&mut self) -> bool {
        self.strike(|fault| if let Fault::SyncFails { after } = fault { Some(after) } else { None })
    }

    /// Counts the first fault of a kind down; takes it out when it strikes.
    fn strike(&mut self, of_kind: impl Fn(&mut Fault) -> Option<&mut u64>) -> bool {
        for at in 0..self.faults.len() {
            match of_kind(&mut self.faults[at]) {
                None => {}
                Some(0) => {
                    self.faults.remove(at);
                    return true;
                }
                Some(after) => {
                    *after -= 1;
                    return false;
                }
            }
        }
        false
    }

    fn is_full(&mut self) -> bool {
        for fault in &mut self.faults {
            if let Fault::Full { after } = fault {
                let full = *after == 0;
                *after = after.saturating_sub(1);
                return full;
            }
        }
        false
    }

    fn sync(&mut self) -> Result<(), EngineError> {
        if self.sync_fails() {
            let error = io("sync");
            self.stopped = Some(error.clone());
            return Err(error);
        }
        if !self.has(&Fault::SyncLies) {
            apply(&mut self.synced, self.unsynced.iter().flat_map(Batch::ops));
            self.unsynced.clear();
        }
        Ok(())
    }
}

impl Engine for MemoryEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let state = self.readable()?;
        if state.is_unreadable(family, key) {
            return Err(unreadable());
        }
        Ok(state.rows(family).and_then(|rows| rows.get(key)).cloned())
    }

    fn get_cached(&self, family: Family, key: &[u8]) -> Result<Cached<Bytes>, EngineError> {
        if self.lock().has(&Fault::Cold) {
            return Ok(Cached::Unknown);
        }
        Ok(self.get(family, key)?.map_or(Cached::Missing, Cached::Found))
    }

    fn scan(
        &self,
        family: Family,
        range: &Range,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        let mut range = range.clone();
        let mut state = self.readable()?;
        loop {
            let bounds = (
                Bound::Included(range.start()),
                range.end().map_or(Bound::Unbounded, Bound::Excluded),
            );
            // A map panics at a range that ends before it starts.
            let rows = state.rows(family).filter(|_| !range.is_empty());
            let stretch: Vec<(Vec<u8>, Bytes)> = rows
                .into_iter()
                .flat_map(|rows| rows.range::<[u8], _>(bounds))
                .take(SCAN_STRETCH_ROWS)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            let unreadable_at =
                stretch.iter().position(|(key, _)| state.is_unreadable(family, key));
            // The visitor may use the engine.
            drop(state);
            for (at, (key, value)) in stretch.iter().enumerate() {
                if unreadable_at == Some(at) {
                    return Err(unreadable());
                }
                if visit(key, value) == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
            match stretch.last() {
                Some((last, _)) if stretch.len() == SCAN_STRETCH_ROWS => range = range.after(last),
                _ => return Ok(()),
            }
            state = self.lock();
        }
    }

    fn last_key(&self, family: Family) -> Result<Option<Vec<u8>>, EngineError> {
        let state = self.readable()?;
        Ok(state.rows(family).and_then(BTreeMap::last_key_value).map(|(key, _)| key.clone()))
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        let mut state = self.lock();
        if let Some(error) = &state.stopped {
            return Err(error.clone());
        }
        if state.is_full() {
            return Err(EngineError::Full("memory engine".into()));
        }
        state.unsynced.push(batch.clone());
        if durability == Durability::Sync {
            state.sync()?;
        }
        apply(&mut state.visible, batch.ops().iter());
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        let mut state = self.lock();
        match &state.stopped {
            Some(error) => Err(error.clone()),
            None => state.sync(),
        }
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), EngineError> {
        let mut state = self.lock();
        let rows = state.visible.clone();
        if state.checkpoints.contains_key(directory) {
            return Err(EngineError::Io(format!("{} exists", directory.display())));
        }
        state.checkpoints.insert(directory.to_path_buf(), rows);
        Ok(())
    }

    fn health(&self) -> Result<Health, EngineError> {
        let state = self.lock();
        let free = state.faults.iter().find_map(|fault| match fault {
            Fault::Free { bytes } => Some(*bytes),
            _ => None,
        });
        Ok(Health {
            stalled: state.has(&Fault::Stalled),
            background_errors: u64::from(state.stopped.is_some()),
            free_bytes: free,
            volume_bytes: free.map(|_| 1 << 30),
            unwritten_bytes: 0,
        })
    }

    fn usage(&self) -> Result<Usage, EngineError> {
        let state = self.lock();
        let rows = state.visible.values().flatten();
        let bytes: usize = rows.map(|(key, value)| key.len() + value.len()).sum();
        Ok(Usage { memtable_bytes: bytes as u64, ..Usage::default() })
    }
}

fn apply<'a>(rows: &mut Rows, ops: impl Iterator<Item = &'a Op>) {
    for op in ops {
        match op {
            Op::Put { family, key, value } => {
                rows.entry(*family).or_default().insert(key.clone(), value.clone());
            }
            Op::Remove { family, key } => {
                rows.entry(*family).or_default().remove(key);
            }
        }
    }
}

fn unreadable() -> EngineError {
    EngineError::Corrupt("injected fault: a row cannot be read".into())
}

fn io(what: &str) -> EngineError {
    EngineError::Io(format!("injected fault: the {what} failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(engine: &MemoryEngine, key: u8) -> Result<(), EngineError> {
        let mut batch = Batch::default();
        batch.put(Family::Kept, [key], Bytes::new());
        engine.commit(batch, Durability::Sync)
    }

    fn keys(engine: &MemoryEngine) -> Vec<u8> {
        (0..10).filter(|key| engine.get(Family::Kept, &[*key]) == Ok(Some(Bytes::new()))).collect()
    }

    #[test]
    fn after_a_failed_sync_nothing_is_committed_until_the_engine_is_opened_again() {
        let engine = MemoryEngine::new();
        engine.inject(Fault::SyncFails { after: 1 });
        assert_eq!(put(&engine, 1), Ok(()));
        assert_eq!(put(&engine, 2), Err(io("sync")));
        engine.heal();
        assert_eq!(put(&engine, 3), Err(io("sync")));
        assert_eq!(engine.sync(), Err(io("sync")));
        assert_eq!(keys(&engine), [1], "what is not durable is not seen");
        assert_eq!(keys(&engine.crash(Crash::Keep { batches: 0 })), [1]);
        assert_eq!(keys(&engine.crash(Crash::Keep { batches: 1 })), [1, 2]);
        assert_eq!(put(&engine.restart(), 3), Ok(()));
    }

    #[test]
    fn a_full_disk_is_full_until_it_is_healed() {
        let engine = MemoryEngine::new();
        engine.inject(Fault::Full { after: 1 });
        assert_eq!(put(&engine, 1), Ok(()));
        for _ in 0..2 {
            assert!(matches!(put(&engine, 2), Err(EngineError::Full(_))));
        }
        engine.heal();
        assert_eq!(put(&engine, 3), Ok(()));
        assert_eq!(keys(&engine.restart()), [1, 3]);
    }
}
