//! The guard of the disk: what it sees decides whether writes are taken.

use crate::{
    ident::{IncarnationId, NodeId},
    node::{Error, guard::Guard, status::Status},
    store::{Durability, EngineError, Fault, Fresh, MemoryEngine, Store},
};
use std::sync::Arc;

const MIB: u64 = 1 << 20;

fn guard(min_free_bytes: Option<u64>) -> (Arc<MemoryEngine>, Guard) {
    let engine = Arc::new(MemoryEngine::new());
    let fresh = Fresh {
        renewed: false,
        node: NodeId::from_bytes([1; 16]),
        incarnation: IncarnationId::from_bytes([1; 16]),
    };
    let opened = Store::open(Arc::<MemoryEngine>::clone(&engine), fresh, Durability::Sync);
    let (store, _) = opened.unwrap();
    (engine, Guard { store, status: Arc::new(Status::default()), min_free_bytes })
}

fn look(engine: &MemoryEngine, guard: &Guard, fault: Option<Fault>) -> Result<(), Error> {
    engine.heal();
    if let Some(fault) = fault {
        engine.inject(fault);
    }
    guard.look();
    guard.status.check_writable()
}

#[test]
fn writes_end_below_the_reserve_and_begin_again_well_above_it() {
    // 5 % of 1 GiB are 51.2 MiB.
    let default = [(100, true), (52, true), (51, false), (52, false), (58, true), (0, false)];
    let set = [(100, false), (200, false), (300, true), (250, true), (199, false), (230, true)];
    for (min_free_bytes, looks) in [(None, default), (Some(200 * MIB), set)] {
        let (engine, guard) = guard(min_free_bytes);
        for (free, writable) in looks {
            let seen = look(&engine, &guard, Some(Fault::Free { bytes: free * MIB }));
            let expected = if writable { Ok(()) } else { Err(Error::DiskFull) };
            assert_eq!(seen, expected, "{free} MiB free, reserve {min_free_bytes:?}");
        }
    }
}

#[test]
fn writes_end_at_once_while_the_engine_has_to_catch_up() {
    let (engine, guard) = guard(None);
    assert_eq!(look(&engine, &guard, Some(Fault::Stalled)), Err(Error::WritesStopped));
    assert_eq!(look(&engine, &guard, None), Ok(()));
}

#[test]
fn what_is_written_between_two_looks_counts() {
    let (engine, guard) = guard(Some(0));
    assert_eq!(look(&engine, &guard, Some(Fault::Free { bytes: 10 * MIB })), Ok(()));
    assert!(!guard.status.spend(4 * MIB, 10 * MIB));
    assert!(guard.status.spend(2 * MIB, 10 * MIB), "half of it is gone: look again");
    assert!(guard.status.spend(5 * MIB, 10 * MIB));
    assert_eq!(guard.status.check_writable(), Err(Error::DiskFull));
}

#[test]
fn a_commit_without_room_ends_writes_until_the_data_is_opened_anew() {
    let (engine, guard) = guard(None);
    let mut reopening = guard.status.reopening();
    guard.status.fail(&EngineError::Full("no room".into()));
    let free = |mib: u64| Some(Fault::Free { bytes: mib * MIB });
    assert_eq!(look(&engine, &guard, free(0)), Err(Error::DiskFull));
    assert!(!*reopening.borrow_and_update());
    assert_eq!(look(&engine, &guard, free(500)), Err(Error::DiskFull), "this opening is over");
    assert!(*reopening.borrow_and_update());
    // A disk that fails is another matter.
    let (engine, guard) = self::guard(None);
    guard.status.fail(&EngineError::Io("sync".into()));
    let refused = look(&engine, &guard, free(500));
    assert!(matches!(refused, Err(Error::ReadOnly(_))), "{refused:?}");
    assert!(!*guard.status.reopening().borrow_and_update());
}
