//! Opening a store: its format, its node, its incarnations, and the counts that one scan rebuilds.

use super::{
    catalog::{Catalog, Presence},
    commit::Committer,
    engine::{Batch, Durability, Engine, Range},
    error::{Damaged, EngineError, OpenError},
    kept::KeptAnswers,
    key::{self, Family, SysKey},
    orphan::Waiting,
    quarantine::Ward,
    read::{Oversize, Store},
    row::Head,
    sys::{self, Incarnation},
    walk::walk,
};
use crate::ident::{DocumentId, IncarnationId, NodeId};
use bytes::Bytes;
use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    sync::{Arc, atomic::AtomicU64},
};

/// The first format there was.
const FIRST_FORMAT: u32 = 1;

/// A step from one format to the next. It may commit what can be done again: after a kill it is
/// begun anew, on whatever it had committed. What it adds to the batch is written together with the
/// new format's number.
type Step = fn(&dyn Engine, &mut Batch) -> Result<(), OpenError>;

/// The steps, the first of which leads away from [`FIRST_FORMAT`]. There is none yet.
const STEPS: &[Step] = &[];

/// What is new at every start. The store itself has no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fresh {
    /// The node's id, if this store has none yet, or is to have another one.
    pub node: NodeId,
    /// Whether this is another node from now on, on a copy of the data of one.
    pub renewed: bool,
    /// The id of this start, never used before.
    pub incarnation: IncarnationId,
}

impl Store {
    /// Opens what an engine holds, or begins a store if it holds nothing. Data of an older format is
    /// brought to the present one first. Appends an incarnation, synced, before anything can be read.
    ///
    /// Where the disk is full, what is there opens all the same, for reading: the committer refuses
    /// everything, and the incarnation is known to nobody else.
    ///
    /// # Errors
    /// An [`OpenError`]; the data is as before.
    pub fn open(
        engine: Arc<dyn Engine>,
        fresh: Fresh,
        durability: Durability,
    ) -> Result<(Arc<Self>, Committer), OpenError> {
        let mut batch = Batch::default();
        let node = match read_format(&*engine, STEPS)? {
            Some(found) => {
                step_up(&*engine, found, STEPS)?;
                if fresh.renewed {
                    put_node(fresh.node, &mut batch);
                    fresh.node
                } else {
                    read_node(&*engine)?
                }
            }
            None => {
                begin(fresh.node, &mut batch);
                fresh.node
            }
        };
        let catalog = read_collections(&*engine)?;
        let heads = count_heads(&*engine, &catalog)?;
        let last_seq = last_feed_seq(&*engine)?.max(heads.last_seq);
        let kept = KeptAnswers::read(&*engine)?;
        let waiting = Waiting::read(&*engine)?;
        let ward = Ward::read(&*engine, heads.quarantined)?;
        let mut incarnations = read_incarnations(&*engine)?;
        if incarnations.iter().any(|earlier| earlier.id == fresh.incarnation) {
            return Err(OpenError::IncarnationUsed(fresh.incarnation));
        }
        let start_seq = last_seq.checked_add(1);
        let start_seq = start_seq.ok_or_else(|| OpenError::Damaged("no seq is left".into()))?;
        let incarnation = Incarnation { id: fresh.incarnation, start_seq };
        let count = u32::try_from(incarnations.len()).unwrap_or(u32::MAX);
        put(&mut batch, &SysKey::Incarnation(count), |key| incarnation.encode(key));
        incarnations.push(incarnation);
        let is_new = node == fresh.node;
        let full = match engine.commit(batch, Durability::Sync) {
            Ok(()) => None,
            Err(error @ EngineError::Full(_)) if !is_new => Some(error),
            Err(error) => return Err(error.into()),
        };

        let store = Arc::new(Store {
            engine,
            catalog,
            last_seq: AtomicU64::new(last_seq),
            node,
            incarnation,
            incarnations,
            damaged_heads: heads.damaged,
            kept: Arc::new(kept),
            waiting,
            ward,
            oversize: Oversize::new(heads.oversize),
        });
        Ok((Arc::clone(&store), Committer::new(store, durability, full)))
    }

    /// Opens what an engine holds for being checked: nothing is written, and no incarnation begins.
    ///
    /// # Errors
    /// An [`OpenError`]; `Damaged` also where there is nothing.
    pub fn inspect(engine: Arc<dyn Engine>) -> Result<Arc<Self>, OpenError> {
        if read_format(&*engine, STEPS)?.is_none() {
            return Err(OpenError::Damaged("there is no store".into()));
        }
        let node = read_node(&*engine)?;
        let catalog = read_collections(&*engine)?;
        let incarnations = read_incarnations(&*engine)?;
        let last_seq = last_feed_seq(&*engine).unwrap_or(0);
        // A repaired store may know of no earlier start.
        let none = Incarnation { id: IncarnationId::from_bytes([0; 16]), start_seq: 1 };
        let incarnation = incarnations.last().copied().unwrap_or(none);
        Ok(Arc::new(Store {
            last_seq: AtomicU64::new(last_seq),
            engine,
            catalog,
            node,
            incarnation,
            incarnations,
            damaged_heads: 0,
            kept: Arc::default(),
            waiting: Waiting::default(),
            ward: Ward::default(),
            oversize: Oversize::default(),
        }))
    }
}

/// The format that there is after all these steps.
fn format_after(steps: &[Step]) -> u32 {
    FIRST_FORMAT.saturating_add(u32::try_from(steps.len()).unwrap_or(u32::MAX))
}

/// The format that this version writes.
pub(super) fn format() -> u32 {
    format_after(STEPS)
}

/// Brings a store of format `found` to the present one, step by step.
fn step_up(engine: &dyn Engine, found: u32, steps: &[Step]) -> Result<(), OpenError> {
    let done = usize::try_from(found.saturating_sub(FIRST_FORMAT)).unwrap_or(usize::MAX);
    for (step, format) in steps.iter().zip(FIRST_FORMAT + 1..).skip(done) {
        tracing::info!(format, "bringing the data to a newer format");
        let mut batch = Batch::default();
        step(engine, &mut batch)?;
        put(&mut batch, &SysKey::Format, |key| sys::encode_format(format, key));
        engine.commit(batch, Durability::Sync)?;
    }
    Ok(())
}

fn begin(node: NodeId, batch: &mut Batch) {
    put(batch, &SysKey::Format, |key| sys::encode_format(format(), key));
    put_node(node, batch);
}

/// Whose store it is.
pub(super) fn put_node(node: NodeId, batch: &mut Batch) {
    put(batch, &SysKey::Node, |key| sys::encode_node(node, key));
}

fn put(batch: &mut Batch, key: &SysKey, encode: impl FnOnce(&[u8]) -> Bytes) {
    let key = key::encode_sys(key);
    let value = encode(&key);
    batch.put(Family::Sys, key, value);
}

/// The format of what is there; `None` if nothing is.
fn read_format(engine: &dyn Engine, steps: &[Step]) -> Result<Option<u32>, OpenError> {
    let key = key::encode_sys(&SysKey::Format);
    let Some(value) = engine.get(Family::Sys, &key)? else {
        for family in Family::ALL {
            if engine.last_key(family)?.is_some() {
                let family = family.name();
                return Err(OpenError::Damaged(format!("{family} has rows, but no format is set")));
            }
        }
        return Ok(None);
    };
    let found = sys::decode_format(&key, &value).map_err(|why| damaged_sys(&key, why))?;
    let known = format_after(steps);
    if known < found {
        return Err(OpenError::NewerFormat { found, known });
    }
    if found < FIRST_FORMAT {
        return Err(OpenError::Damaged(format!("there never was a format {found}")));
    }
    Ok(Some(found))
}

fn read_node(engine: &dyn Engine) -> Result<NodeId, OpenError> {
    let key = key::encode_sys(&SysKey::Node);
    let value = engine.get(Family::Sys, &key)?;
    let value = value.ok_or_else(|| damaged_sys(&key, Damaged("there is none")))?;
    sys::decode_node(&key, &value).map_err(|why| damaged_sys(&key, why))
}

fn read_incarnations(engine: &dyn Engine) -> Result<Vec<Incarnation>, OpenError> {
    let mut incarnations = Vec::new();
    scan_sys(engine, &key::incarnation_range(), |key, value| {
        // A gap would let a cursor of the missing one pass for sound.
        let count = u32::try_from(incarnations.len()).unwrap_or(u32::MAX);
        if key::decode_sys(key) != Some(SysKey::Incarnation(count)) {
            return Err(Damaged("the one before is missing"));
        }
        incarnations.push(Incarnation::decode(key, value)?);
        Ok(())
    })?;
    Ok(incarnations)
}

fn read_collections(engine: &dyn Engine) -> Result<Catalog, OpenError> {
    let catalog = Catalog::default();
    scan_sys(engine, &key::collection_range(), |key, value| {
        let Some(SysKey::Collection(name)) = key::decode_sys(key) else {
            return Err(Damaged("it names no collection"));
        };
        let id = sys::decode_collection(key, value)?;
        catalog.add(&name, id).ok_or(Damaged("its id is that of another collection"))
    })?;
    Ok(catalog)
}

fn scan_sys(
    engine: &dyn Engine,
    range: &Range,
    mut read: impl FnMut(&[u8], &[u8]) -> Result<(), Damaged>,
) -> Result<(), OpenError> {
    let mut outcome = Ok(());
    engine.scan(Family::Sys, range, &mut |key, value| match read(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(why) => {
            outcome = Err(damaged_sys(key, why));
            ControlFlow::Break(())
        }
    })?;
    outcome
}

/// What the scan of all heads found.
#[derive(Default)]
struct Heads {
    last_seq: u64,
    damaged: u64,
    quarantined: BTreeSet<DocumentId>,
    oversize: BTreeSet<DocumentId>,
}

/// Counts the documents of every collection. One bad head is one bad document: it is counted apart,
/// and the rest is opened.
fn count_heads(engine: &dyn Engine, catalog: &Catalog) -> Result<Heads, OpenError> {
    let mut heads = Heads::default();
    let (mut gaps, mut failed) = (0, None);
    let mut row = |key: &[u8], value: &[u8]| {
        let counted = Head::decode(key, value).ok().and_then(|head| {
            heads.last_seq = heads.last_seq.max(head.seq);
            if head.quarantined {
                heads.quarantined.extend(key::decode_head(key));
                return catalog.name(head.collection).map(drop);
            }
            if head.oversize {
                heads.oversize.extend(key::decode_head(key));
            }
            let presence = if head.deleted { Presence::Deleted } else { Presence::Live };
            catalog.count(head.collection, Presence::Absent, presence)
        });
        heads.damaged += u64::from(counted.is_none());
        ControlFlow::Continue(())
    };
    walk(engine, Family::Head, &mut row, &mut |gap| match gap.why {
        EngineError::Corrupt(why) => {
            tracing::error!(why, "heads cannot be read: their documents are not counted");
            gaps += 1;
        }
        error => failed = Some(error),
    });
    heads.damaged += gaps;
    failed.map_or(Ok(heads), |error| Err(error.into()))
}

fn last_feed_seq(engine: &dyn Engine) -> Result<u64, OpenError> {
    let Some(key) = engine.last_key(Family::Feed)? else {
        return Ok(0);
    };
    key::decode_feed(&key).ok_or_else(|| OpenError::Damaged("the last feed key is none".into()))
}

fn damaged_sys(key: &[u8], why: Damaged) -> OpenError {
    OpenError::Damaged(format!("the row {} of sys: {why}", String::from_utf8_lossy(key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Crash, Fault, MemoryEngine};

    /// A made-up step, in two commits: it adds a row, then takes another as given.
    fn step(engine: &dyn Engine, last: &mut Batch) -> Result<(), OpenError> {
        if engine.get(Family::Kept, b"\x7fb")?.is_some() {
            return Err(OpenError::Damaged("the step was taken before".into()));
        }
        let mut first = Batch::default();
        first.put(Family::Kept, b"\x7fa".to_vec(), Bytes::from_static(b"1"));
        engine.commit(first, Durability::Sync)?;
        last.put(Family::Kept, b"\x7fb".to_vec(), Bytes::from_static(b"2"));
        Ok(())
    }

    fn other(_: &dyn Engine, last: &mut Batch) -> Result<(), OpenError> {
        last.remove(Family::Kept, b"\x7fa".to_vec());
        Ok(())
    }

    fn begun() -> MemoryEngine {
        let engine = MemoryEngine::new();
        let mut batch = Batch::default();
        begin(NodeId::from_bytes([1; 16]), &mut batch);
        engine.commit(batch, Durability::Sync).unwrap();
        engine
    }

    fn kept(engine: &MemoryEngine) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            keys.push(key[1..].to_vec());
            ControlFlow::Continue(())
        };
        engine.scan(Family::Kept, &Range::all(), &mut visit).unwrap();
        keys
    }

    #[test]
    fn steps_are_taken_once_and_in_order() {
        let (steps, engine): (&[Step], _) = (&[step, other], begun());
        assert_eq!(read_format(&engine, steps).unwrap(), Some(1));
        step_up(&engine, 1, steps).unwrap();
        assert_eq!(read_format(&engine, steps).unwrap(), Some(3));
        assert_eq!(kept(&engine), [b"b"]);
        step_up(&engine, 3, steps).unwrap();
        assert_eq!(kept(&engine), [b"b"], "what was done is not done again");
        let refused = read_format(&engine, &[step]);
        assert!(matches!(refused, Err(OpenError::NewerFormat { found: 3, known: 2 })));
    }

    #[test]
    fn a_step_that_was_cut_off_is_taken_again() {
        let steps: &[Step] = &[step, other];
        for commits in 0..3 {
            let engine = begun();
            engine.inject(Fault::SyncFails { after: commits });
            step_up(&engine, 1, steps).unwrap_err();
            for batches in 0..=1 {
                let after = engine.crash(Crash::Keep { batches });
                let found = read_format(&after, steps).unwrap().unwrap();
                step_up(&after, found, steps).unwrap();
                assert_eq!(kept(&after), [b"b"], "{commits} commits, {batches} kept");
                assert_eq!(read_format(&after, steps).unwrap(), Some(3));
            }
        }
    }
}
