//! Opening a store: its format, its node, its incarnations, and the counts that one scan rebuilds.

use super::{
    catalog::{Catalog, Presence},
    commit::Committer,
    engine::{Batch, Durability, Engine, Range},
    error::{Damaged, OpenError},
    kept::KeptAnswers,
    key::{self, Family, SysKey},
    read::Store,
    row::{self, Head, Incarnation},
};
use crate::ident::{IncarnationId, NodeId};
use bytes::Bytes;
use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::AtomicU64},
};

/// The format that this version writes. A step from an older one is a function of its own; there is
/// none yet.
const FORMAT: u32 = 1;

/// What is new at every start. The store itself has no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fresh {
    /// The node's id, if this store has none yet; otherwise not used.
    pub node: NodeId,
    /// The id of this start, never used before.
    pub incarnation: IncarnationId,
}

impl Store {
    /// Opens what an engine holds, or begins a store if it holds nothing. Appends an incarnation,
    /// synced, before anything can be read.
    ///
    /// # Errors
    /// An [`OpenError`]; the data is as before.
    pub fn open(
        engine: Arc<dyn Engine>,
        fresh: Fresh,
        durability: Durability,
    ) -> Result<(Arc<Self>, Committer), OpenError> {
        let mut batch = Batch::default();
        let node = match read_format(&*engine)? {
            Some(_) => read_node(&*engine)?,
            None => {
                begin(fresh.node, &mut batch);
                fresh.node
            }
        };
        let catalog = read_collections(&*engine)?;
        let heads = count_heads(&*engine, &catalog)?;
        let last_seq = last_feed_seq(&*engine)?.max(heads.last_seq);
        let kept = KeptAnswers::read(&*engine)?;
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
        engine.commit(batch, Durability::Sync)?;

        let store = Arc::new(Store {
            engine,
            catalog,
            last_seq: AtomicU64::new(last_seq),
            node,
            incarnation,
            incarnations,
            damaged_heads: heads.damaged,
            kept: Arc::new(kept),
        });
        Ok((Arc::clone(&store), Committer::new(store, durability)))
    }
}

fn begin(node: NodeId, batch: &mut Batch) {
    put(batch, &SysKey::Format, |key| row::encode_format(FORMAT, key));
    put(batch, &SysKey::Node, |key| row::encode_node(node, key));
}

fn put(batch: &mut Batch, key: &SysKey, encode: impl FnOnce(&[u8]) -> Bytes) {
    let key = key::encode_sys(key);
    let value = encode(&key);
    batch.put(Family::Sys, key, value);
}

/// The format of what is there; `None` if nothing is.
fn read_format(engine: &dyn Engine) -> Result<Option<u32>, OpenError> {
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
    let found = row::decode_format(&key, &value).map_err(|why| damaged_sys(&key, why))?;
    if FORMAT < found {
        return Err(OpenError::NewerFormat { found, known: FORMAT });
    }
    Ok(Some(found))
}

fn read_node(engine: &dyn Engine) -> Result<NodeId, OpenError> {
    let key = key::encode_sys(&SysKey::Node);
    let value = engine.get(Family::Sys, &key)?;
    let value = value.ok_or_else(|| damaged_sys(&key, Damaged("there is none")))?;
    row::decode_node(&key, &value).map_err(|why| damaged_sys(&key, why))
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
        let id = row::decode_collection(key, value)?;
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
struct Heads {
    last_seq: u64,
    damaged: u64,
}

/// Counts the documents of every collection. One bad head is one bad document: it is counted apart,
/// and the rest is opened.
fn count_heads(engine: &dyn Engine, catalog: &Catalog) -> Result<Heads, OpenError> {
    let mut heads = Heads { last_seq: 0, damaged: 0 };
    engine.scan(Family::Head, &Range::all(), &mut |key, value| {
        let counted = Head::decode(key, value).ok().and_then(|head| {
            heads.last_seq = heads.last_seq.max(head.seq);
            let presence = if head.deleted { Presence::Deleted } else { Presence::Live };
            catalog.count(head.collection, Presence::Absent, presence)
        });
        heads.damaged += u64::from(counted.is_none());
        ControlFlow::Continue(())
    })?;
    Ok(heads)
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
