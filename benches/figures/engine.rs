//! An engine in memory that tells of every sync: to count them, to slow them, to see what is written.

use bytes::Bytes;
use std::{fmt, path::Path};
use tombolo::store::{
    Batch, Cached, Durability, Engine, EngineError, Health, MemoryEngine, Range, Usage, Visit,
    key::Family,
};

/// What is called at a sync.
type AtSync = dyn Fn(Option<&Batch>) + Send + Sync;

/// Calls a function at each sync, with the batch that is synced if it is one.
pub(crate) struct Observed {
    rows: MemoryEngine,
    at_sync: Box<AtSync>,
}

impl Observed {
    pub(crate) fn new(at_sync: impl Fn(Option<&Batch>) + Send + Sync + 'static) -> Self {
        Self { rows: MemoryEngine::new(), at_sync: Box::new(at_sync) }
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Observed").finish_non_exhaustive()
    }
}

impl Engine for Observed {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.rows.get(family, key)
    }

    fn get_cached(&self, family: Family, key: &[u8]) -> Result<Cached<Bytes>, EngineError> {
        self.rows.get_cached(family, key)
    }

    fn scan(
        &self,
        family: Family,
        range: &Range,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        self.rows.scan(family, range, visit)
    }

    fn last_key(&self, family: Family) -> Result<Option<Vec<u8>>, EngineError> {
        self.rows.last_key(family)
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        if durability == Durability::Sync {
            (self.at_sync)(Some(&batch));
        }
        self.rows.commit(batch, durability)
    }

    fn sync(&self) -> Result<(), EngineError> {
        (self.at_sync)(None);
        self.rows.sync()
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), EngineError> {
        self.rows.checkpoint(directory)
    }

    fn health(&self) -> Result<Health, EngineError> {
        self.rows.health()
    }

    fn usage(&self) -> Result<Usage, EngineError> {
        self.rows.usage()
    }
}
