//! The one door: groups, seqs, folds, faults.

use super::*;
use crate::store::{COLLECTIONS_MAX, Crash, EngineError, Fault, LogSize};

/// The feed as `seq key`.
fn feed(bench: &Bench) -> Vec<String> {
    let feed = bench.store.feed(0, usize::MAX).unwrap();
    assert_eq!(feed.damaged, [0; 0]);
    feed.entries.iter().map(|entry| format!("{} {}", entry.seq, entry.name.key())).collect()
}

#[test]
fn a_first_commit_makes_all_rows_of_a_document() {
    let (engine, mut bench) = Bench::new();
    assert_eq!(bench.put("notes/a", "{}"), 1);
    let mut commit = bench.edit("notes/b", "{}");
    commit.standing = bytes("standing");
    bench.write(vec![commit]);
    assert_eq!(bench.store.head(name("notes/b").id()).unwrap().unwrap().1.standing, "standing");
    let (found, head) = bench.store.head(name("notes/a").id()).unwrap().unwrap();
    assert_eq!(found, name("notes/a"));
    assert_eq!((head.seq, head.own_seq, head.version), (1, 1, version(1001)));
    assert_eq!((head.log_count, head.log_bytes), (1, 12));
    assert_eq!(bench.json("notes/a"), Some("{}".into()));
    assert_eq!(bench.chunks("notes/a"), ["change to {}"]);
    assert_eq!(feed(&bench), ["1 a", "2 b"]);
    assert_eq!(bench.counts(), ["notes: 2/0"]);
    assert_eq!(bench.store.last_seq(), 2);
    assert_sound(&*engine);
}

#[test]
fn the_feed_has_one_row_per_document_in_order_of_the_last_commit() {
    let (engine, mut bench) = Bench::new();
    for round in 0..50 {
        let group = ["notes/a", "notes/b", "other/a", "notes/c"];
        let mut commits: Vec<Commit> = Vec::new();
        for of in &group[..1 + round % group.len()] {
            commits.push(bench.edit(of, &round.to_string()));
        }
        bench.write(commits);
        assert_sound(&*engine);
    }
    bench.put("notes/b", "last");
    assert_eq!(feed(&bench), ["119 a", "120 c", "122 a", "124 b"]);
}

#[test]
fn commits_of_one_document_in_a_group_share_one_seq() {
    let (engine, mut bench) = Bench::new();
    bench.put("notes/a", "0");
    let group = vec![
        bench.edit("notes/a", "1"),
        bench.edit("notes/b", "2"),
        bench.edit("notes/a", "3"),
        bench.edit("notes/a", ""),
        bench.edit("notes/a", "4"),
    ];
    assert_eq!(bench.write(group), [2, 3, 2, 2, 2]);
    assert_eq!(bench.json("notes/a"), Some("4".into()));
    let chunks = rows(&*engine, Family::Chunk);
    let mut at: Vec<_> = chunks.iter().filter_map(|(key, _)| key::decode_chunk(key)).collect();
    at.retain(|(id, _)| *id == name("notes/a").id());
    let at: Vec<_> = at.iter().map(|(_, at)| (at.seq, at.n)).collect();
    assert_eq!(at, [(1, 0), (2, 0), (2, 1), (2, 2), (2, 3)]);
    assert_eq!(feed(&bench), ["2 a", "3 b"]);
    assert_eq!(bench.counts(), ["notes: 2/0"]);
    assert_sound(&*engine);
}

#[test]
fn a_delete_removes_the_view_and_keeps_the_document() {
    let (engine, mut bench) = Bench::new();
    bench.put("notes/a", "1");
    bench.put("notes/a", "");
    assert_eq!(bench.json("notes/a"), None);
    assert!(bench.store.head(name("notes/a").id()).unwrap().unwrap().1.deleted);
    assert_eq!(bench.counts(), ["notes: 0/1"]);
    assert_sound(&*engine);
    bench.put("notes/a", "2");
    assert_eq!(bench.counts(), ["notes: 1/0"]);
    assert_eq!(bench.chunks("notes/a"), ["change to 1", "change to ", "change to 2"]);
    bench.put("notes/b", "");
    assert_eq!(bench.counts(), ["notes: 1/1"], "a document may come here deleted");
    assert_sound(&*engine);
}

#[test]
fn a_fold_leaves_one_chunk_and_later_appends_follow_it() {
    let (engine, mut bench) = Bench::new();
    for round in 0..40 {
        bench.put("notes/a", &round.to_string());
        bench.put("notes/b", &round.to_string());
    }
    let mut group = vec![bench.edit("notes/a", "40"), bench.edit("notes/a", "41")];
    group[1].log = Log::Fold { snapshot: bytes("snapshot"), changes: 42 };
    group.push(bench.edit("notes/a", "42"));
    assert_eq!(bench.write(group), [81; 3]);
    assert_sound(&*engine);
    assert_eq!(bench.chunks("notes/a"), ["snapshot", "change to 42"]);
    assert_eq!(bench.chunks("notes/b").len(), 40);
    bench.put("notes/a", "43");
    assert_eq!(bench.chunks("notes/a"), ["snapshot", "change to 42", "change to 43"]);
    let size = LogSize { bytes: 24, changes: 2, snapshot_bytes: 8, snapshot_changes: 42 };
    let known = |track: &Track| track.lock().last.as_ref().map(|last| last.rows.clone());
    let before = bench.track("notes/a");
    bench.tracks.clear();
    for track in [before, bench.track("notes/a")] {
        assert_eq!(track.log_size(), size, "a track that was loaded again knows the same");
        let places = known(&track).unwrap();
        assert_eq!(
            places.iter().map(|at| (at.seq, at.n)).collect::<Vec<_>>(),
            [(81, 0), (81, 1), (82, 0)]
        );
    }
    bench.put("notes/a", "44");
    assert_eq!(bench.chunks("notes/a").len(), 4);
    assert_sound(&*engine);
}

#[test]
fn a_commit_that_moves_no_version_moves_nothing_in_the_feed() {
    let (engine, mut bench) = Bench::new();
    bench.put("notes/a", "1");
    bench.put("notes/b", "1");
    for snapshot in ["once", "again"] {
        let mut fold = bench.edit("notes/a", "1");
        fold.version = version(1001);
        fold.brings = Brings::default().and(Origin::Foreign);
        fold.log = Log::Fold { snapshot: bytes(snapshot), changes: 1 };
        assert_eq!(bench.write(vec![fold]), [1]);
        assert_eq!(bench.chunks("notes/a"), [snapshot]);
        assert_eq!(feed(&bench), ["1 a", "2 b"]);
        assert_sound(&*engine);
    }
    assert_eq!(bench.store.last_seq(), 2);
    for json in ["2", "3"] {
        let mut same = bench.edit("notes/a", json);
        same.version = version(7);
        bench.write(vec![same]);
        assert_sound(&*engine);
    }
    assert_eq!(bench.chunks("notes/a"), ["again", "change to 2", "change to 3"]);
    assert_eq!(feed(&bench), ["2 b", "4 a"], "no change goes unseen, whatever its version");
}

#[test]
fn a_view_may_be_made_later() {
    let (engine, mut bench) = Bench::new();
    let mut stale = bench.edit("notes/a", "1");
    stale.view = NewView::Stale;
    bench.write(vec![stale]);
    assert_sound(&*engine);
    assert_eq!(bench.store.view(&name("notes/a")).unwrap().unwrap().json, None);
    assert!(bench.store.head(name("notes/a").id()).unwrap().unwrap().1.view_stale);
    let mut made = bench.edit("notes/a", "1");
    made.version = version(1001);
    made.log = Log::Append(Vec::new());
    assert_eq!(bench.write(vec![made]), [1]);
    assert_eq!(bench.json("notes/a"), Some("1".into()));
    assert!(!bench.store.head(name("notes/a").id()).unwrap().unwrap().1.view_stale);
    assert_eq!(feed(&bench), ["1 a"]);
    assert_sound(&*engine);
}

#[test]
fn own_seq_is_that_of_the_last_change_of_this_nodes_own() {
    let (_, mut bench) = Bench::new();
    let mut foreign = bench.edit("notes/a", "1");
    foreign.brings = Brings::default().and(Origin::Foreign);
    bench.write(vec![foreign.clone()]);
    let entry = |bench: &Bench| bench.store.feed(0, 1).unwrap().entries[0].clone();
    assert_eq!((entry(&bench).own_seq, entry(&bench).origin), (0, Origin::Foreign));
    bench.put("notes/a", "2");
    assert_eq!((entry(&bench).own_seq, entry(&bench).origin), (2, Origin::Own));
    foreign.version = version(7);
    bench.write(vec![foreign.clone()]);
    assert_eq!((entry(&bench).seq, entry(&bench).own_seq), (3, 2));
    foreign.version = version(8);
    let own = bench.edit("notes/a", "3");
    bench.write(vec![own, foreign]);
    assert_eq!((entry(&bench).own_seq, entry(&bench).origin), (4, Origin::Foreign));
}

#[test]
fn the_collection_too_many_is_refused_alone() {
    let (engine, mut bench) = Bench::new();
    let all: Vec<String> = (0..=COLLECTIONS_MAX).map(|at| format!("c{at}/k")).collect();
    let group = all.iter().map(|of| bench.edit(of, "1")).collect();
    let receipts = bench.committer.write(group).unwrap();
    let refused: Vec<_> = (0..receipts.len()).filter(|at| receipts[*at].is_err()).collect();
    assert_eq!(refused, [COLLECTIONS_MAX]);
    assert_eq!(receipts[COLLECTIONS_MAX], Err(Refused::TooManyCollections));
    assert_eq!(bench.store.collections().len(), COLLECTIONS_MAX);
    let over = &all[COLLECTIONS_MAX];
    assert!(bench.store.head(name(over).id()).unwrap().is_none());
    assert_sound(&*engine);
    // What was prepared behind it rests on a change that is not stored.
    let group = vec![bench.edit(over, "2"), bench.edit("c0/other", "3"), bench.edit("new/k", "4")];
    let receipts = bench.committer.write(group).unwrap();
    assert_eq!(receipts[0], Err(Refused::Behind));
    assert_eq!(receipts[1], Ok(Receipt { seq: 10_001 }));
    assert_eq!(receipts[2], Err(Refused::TooManyCollections));
    assert_sound(&*engine);
}

#[test]
fn what_is_too_large_for_a_row_is_refused_alone() {
    let (engine, mut bench) = Bench::new();
    // Never touched, so never more than addresses.
    let large = Bytes::from(vec![0; 1 << 30]);
    let mut group: Vec<_> = (0..4).map(|at| bench.edit(&format!("notes/{at}"), "1")).collect();
    group[0].log = Log::Append(vec![(Origin::Own, Bytes::new()), (Origin::Own, large.clone())]);
    group[1].log = Log::Fold { snapshot: large.clone(), changes: 1 };
    group[2].view = NewView::Made(large.clone());
    group[3].standing = large;
    group.push(bench.edit("notes/4", "1"));
    let receipts = bench.committer.write(group).unwrap();
    assert_eq!(receipts[..4], [Err(Refused::TooLarge); 4]);
    assert_eq!(receipts[4], Ok(Receipt { seq: 1 }));
    assert_sound(&*engine);
}

#[test]
fn every_acknowledged_write_survives_a_power_cut() {
    let (engine, mut bench) = Bench::new();
    for round in 0..100 {
        bench.put(&format!("notes/{}", round % 7), &round.to_string());
        assert_eq!(engine.unsynced_batches(), 0);
    }
    let after = Bench::open(Arc::new(engine.crash(Crash::Keep { batches: 0 })), 2);
    assert_sound(&*after.engine);
    for last in 93..100 {
        assert_eq!(after.json(&format!("notes/{}", last % 7)), Some(last.to_string()));
    }
}

#[test]
fn a_sync_that_lies_loses_acknowledged_writes() {
    let (engine, mut bench) = Bench::new();
    bench.put("notes/a", "1");
    engine.inject(Fault::SyncLies);
    bench.put("notes/a", "2");
    let after = Bench::open(Arc::new(engine.crash(Crash::Keep { batches: 0 })), 2);
    assert_eq!(after.json("notes/a"), Some("1".into()), "the test above can fail");
}

#[test]
fn relaxed_writes_are_lost_up_to_the_last_sync() {
    let engine = Arc::new(MemoryEngine::new());
    let mut bench = Bench::open_as(Arc::<MemoryEngine>::clone(&engine), 1, Durability::Relaxed);
    bench.put("notes/a", "1");
    bench.committer.sync().unwrap();
    bench.put("notes/a", "2");
    bench.put("notes/a", "3");
    for (kept, json) in [(0, "1"), (1, "2"), (2, "3")] {
        let after = engine.crash(Crash::Keep { batches: kept });
        assert_sound(&after);
        assert_eq!(Bench::open(Arc::new(after), 2).json("notes/a"), Some(json.into()));
    }
    assert_eq!(Bench::open(Arc::new(engine.restart()), 2).json("notes/a"), Some("3".into()));
}

#[test]
fn a_failed_sync_poisons_the_committer_for_ever() {
    let (engine, mut bench) = Bench::new();
    bench.put("notes/a", "1");
    let before = (feed(&bench), bench.counts(), bench.track("notes/a").log_size());
    engine.inject(Fault::SyncFails { after: 0 });
    let Err(CommitError::Failed(EngineError::Io(why))) = bench.try_put("notes/a", "2") else {
        unreachable!()
    };
    engine.heal();
    let poisoned = CommitError::Poisoned(EngineError::Io(why));
    assert_eq!(bench.try_put("notes/b", "3"), Err(poisoned.clone()));
    assert_eq!(bench.committer.sync(), Err(poisoned.clone()));
    assert_eq!(bench.committer.write(Vec::new()), Err(poisoned));
    let after = (feed(&bench), bench.counts(), bench.track("notes/a").log_size());
    assert_eq!(after, before, "nobody is told of what is not durable");
    assert_eq!(bench.json("notes/a"), Some("1".into()));
    assert_eq!(bench.store.last_seq(), 1);
    // The batch that failed may be there after a power cut or not: all of it, or nothing.
    for (kept, json) in [(0, "1"), (1, "2")] {
        let mut after = Bench::open(Arc::new(engine.crash(Crash::Keep { batches: kept })), 2);
        assert_sound(&*after.engine);
        assert_eq!(after.json("notes/a"), Some(json.into()));
        after.put("notes/a", "4");
        assert_sound(&*after.engine);
    }
}

#[test]
fn a_full_disk_is_a_failed_commit() {
    let (engine, mut bench) = Bench::new();
    engine.inject(Fault::Full { after: 1 });
    bench.put("notes/a", "1");
    let full = bench.try_put("notes/a", "2");
    assert!(matches!(full, Err(CommitError::Failed(EngineError::Full(_)))));
    engine.heal();
    assert!(matches!(bench.try_put("notes/a", "3"), Err(CommitError::Poisoned(_))));
    assert_eq!(bench.json("notes/a"), Some("1".into()));
}

/// Two documents are written in one batch each time. After a crash both are of the same batch, and
/// so are all rows of each.
#[test]
fn a_batch_is_there_whole_or_not_at_all() {
    let engine = Arc::new(MemoryEngine::new());
    let mut bench = Bench::open_as(Arc::<MemoryEngine>::clone(&engine), 1, Durability::Relaxed);
    for round in 0..10 {
        let text = round.to_string();
        let mut group = vec![bench.edit("notes/a", &text), bench.edit("notes/b", &text)];
        if round == 5 {
            group[1].log = Log::Fold { snapshot: bytes("snapshot"), changes: 6 };
        }
        bench.write(group);
    }
    let json = |engine: &MemoryEngine| {
        let views = rows(engine, Family::View);
        views.iter().map(|(key, value)| View::decode(key, value).unwrap().json).collect::<Vec<_>>()
    };
    let is_whole = |engine: &MemoryEngine| {
        unsound(engine).is_none()
            && matches!(&json(engine)[..], [] | [_, _])
            && json(engine).windows(2).all(|pair| pair[0] == pair[1])
    };
    let same = |a: &MemoryEngine, b: &MemoryEngine| {
        Family::ALL.iter().all(|family| rows(a, *family) == rows(b, *family))
    };
    let mut torn = 0;
    for batches in 0..engine.unsynced_batches() {
        let before = engine.crash(Crash::Keep { batches });
        let after = engine.crash(Crash::Keep { batches: batches + 1 });
        assert!(is_whole(&before) && is_whole(&after));
        // The control: an engine that tears batches is found out wherever it tears them.
        for steps in 1.. {
            let between = engine.crash(Crash::Tear { batches, steps });
            if same(&between, &after) {
                break;
            }
            assert!(!is_whole(&between), "{batches} batches and {steps} steps");
            torn += 1;
        }
    }
    assert!(50 < torn, "{torn}");
}
