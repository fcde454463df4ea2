//! A shard, its loads, its commits and its jobs, one step at a time.

use crate::{
    doc::{Document, Edit, Form, Limits, parse},
    ident::{Collection, IncarnationId, Name, NodeId},
    node::{
        Ambient, Error, Reading, Representation, Taken, Write, Written,
        orphans::Nursery,
        shard::{Effect, Event, Job, Loaded, Shard, ShardOptions},
        task::{Command, Task},
    },
    store::{Committer, Durability, EngineError, Fresh, MemoryEngine, Store, Stored, Track},
};
use automerge::{
    ActorId, Automerge, Change, ObjType, ROOT, ReadDoc,
    transaction::{Transactable, Transaction},
};
use std::sync::Arc;
use tokio::sync::oneshot::{self, Receiver, error::TryRecvError};

/// A shard and what it wants done.
struct Bench {
    shard: Shard,
    store: Arc<Store>,
    committer: Committer,
    effects: Vec<Effect>,
}

const LARGE: usize = 200 << 10;

fn name(key: &str) -> Name {
    let collection: Collection = "notes".parse().unwrap();
    Name::new(collection, key.parse().unwrap()).unwrap()
}

fn edit(json: &str) -> Write {
    let value = parse(json.as_bytes(), Form::Plain, &Limits::default()).unwrap();
    let edit = if json.contains("whole") { Edit::Put(value) } else { Edit::MergePatch(value) };
    Write {
        edit,
        base: None,
        precondition: Default::default(),
        message: None,
        want: None,
        once: None,
    }
}

/// A whole document whose JSON has some `bytes`, in pieces.
fn large(bytes: usize) -> String {
    let parts: Vec<String> = (0..bytes / 100).map(|n| format!("{n:0>96}")).collect();
    serde_json::json!({ "whole": parts }).to_string()
}

impl Bench {
    fn new(documents_bytes: usize) -> Self {
        let fresh = Fresh {
            renewed: false,
            node: NodeId::from_bytes([1; 16]),
            incarnation: IncarnationId::from_bytes([2; 16]),
        };
        let engine = Arc::new(MemoryEngine::new());
        let (store, committer) = Store::open(engine, fresh, Durability::Sync).unwrap();
        let options = ShardOptions {
            documents_bytes,
            waiting_max: 3,
            limits: Limits::default(),
            texts: Arc::default(),
        };
        let (status, metrics) = (Arc::default(), Arc::default());
        let shard = Shard::new(options, Ambient::machine(), status, metrics, Arc::default());
        Self { shard, store, committer, effects: Vec::new() }
    }

    fn tell(&mut self, event: Event) {
        self.shard.handle(event, &mut self.effects);
        self.shard.flush(&mut self.effects);
    }

    fn write(&mut self, key: &str, json: &str) -> Receiver<Result<Written, Error>> {
        let (reply, answer) = oneshot::channel();
        let task = Task::Write { write: Box::new(edit(json)), reply };
        self.tell(Event::Command(Command { name: name(key), task }));
        answer
    }

    /// A client's changes.
    fn admit(&mut self, key: &str, changes: &[Change]) -> Receiver<Result<Taken, Error>> {
        let (reply, answer) = oneshot::channel();
        let bytes: Vec<u8> = changes.iter().flat_map(Change::raw_bytes).copied().collect();
        let limits = Box::new(Limits::default());
        let task = Task::Admit { from: None, limits, bytes: bytes.into(), left: u64::MAX, reply };
        self.tell(Event::Command(Command { name: name(key), task }));
        answer
    }

    fn read(&mut self, key: &str) -> Receiver<Result<Reading, Error>> {
        let (reply, answer) = oneshot::channel();
        let what = Representation::Json(Form::Plain);
        let task = Task::Read { what, at: None, includes: None, reply };
        self.tell(Event::Command(Command { name: name(key), task }));
        answer
    }

    /// Loads and commits until only jobs are left, which are given back.
    fn run(&mut self) -> Vec<Job> {
        let mut jobs = Vec::new();
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Load { name, actor } => {
                        let loaded = match self.store.document(&name).unwrap() {
                            None => Loaded {
                                document: Document::new(actor),
                                track: Arc::new(Track::absent(name.clone())),
                                orphans: Nursery::default(),
                            },
                            Some(Stored { head, chunks, track, orphans }) => {
                                let chunks = chunks.iter().map(|chunk| &chunk[..]);
                                let document =
                                    Document::load(chunks, &head.standing, &head.version, actor);
                                Loaded {
                                    document: document.unwrap(),
                                    track,
                                    orphans: Nursery::new(orphans),
                                }
                            }
                        };
                        self.tell(Event::Loaded { name, result: Ok(Box::new(loaded)) });
                    }
                    Effect::Commit(ticket) => {
                        let result = self.committer.write(vec![ticket.commit]).unwrap().remove(0);
                        self.tell(Event::Committed {
                            id: ticket.id,
                            load: ticket.load,
                            number: ticket.number,
                            result: result.map(drop).map_err(Error::from),
                        });
                    }
                    Effect::HandOut(job) => jobs.push(*job),
                    Effect::Apart(apart) => panic!("{apart:?}"),
                }
            }
        }
        jobs
    }

    /// Runs everything to its end, jobs too; how many jobs there were.
    fn finish(&mut self) -> usize {
        let mut count = 0;
        loop {
            let jobs = self.run();
            if jobs.is_empty() {
                assert!(self.shard.is_idle());
                return count;
            }
            for job in jobs {
                count += 1;
                self.tell(Event::Done(Box::new(job.run())));
            }
        }
    }

    fn stored(&self, key: &str) -> Option<String> {
        let view = self.store.view(&name(key)).unwrap().unwrap();
        view.json.map(|json| String::from_utf8(json.to_vec()).unwrap())
    }
}

fn done<T: std::fmt::Debug>(mut answer: Receiver<Result<T, Error>>) -> T {
    answer.try_recv().unwrap().unwrap()
}

fn waits<T: std::fmt::Debug>(answer: &mut Receiver<Result<T, Error>>) -> bool {
    matches!(answer.try_recv(), Err(TryRecvError::Empty))
}

#[test]
fn while_a_document_is_away_others_go_on_and_what_is_wanted_of_it_waits_in_order() {
    let mut bench = Bench::new(64 << 20);
    let first = bench.write("big", &large(LARGE));
    assert_eq!(bench.finish(), 1, "a large put is handed out");
    assert!(done(first).created);

    let mut put = bench.write("big", &large(LARGE + 200));
    let jobs = bench.run();
    assert_eq!(jobs.len(), 1);
    let mut patch = bench.write("big", r#"{"a":1}"#);
    let mut read = bench.read("big");
    let other = bench.write("small", r#"{"whole":1}"#);
    assert!(bench.run().is_empty());
    assert!(done(other).created, "another document is written meanwhile");
    assert!(waits(&mut put) && waits(&mut patch) && waits(&mut read));

    for job in jobs {
        bench.tell(Event::Done(Box::new(job.run())));
    }
    bench.finish();
    let (put, patch, read) = (done(put), done(patch), done(read));
    assert_ne!(put.version, patch.version);
    assert_eq!(read.version, patch.version, "the read came behind the patch");
    assert!(read.body.starts_with(br#"{"a":1,"#));
}

#[test]
fn what_waits_behind_heavy_work_is_done_behind_it() {
    let mut bench = Bench::new(64 << 20);
    let put = bench.write("big", &large(LARGE));
    let jobs = bench.run();
    let answers = [bench.write("big", &large(LARGE + 200)), bench.write("big", r#"{"b":2}"#)];
    for job in jobs {
        bench.tell(Event::Done(Box::new(job.run())));
    }
    assert_eq!(bench.finish(), 1, "both in one job");
    done(put);
    answers.into_iter().for_each(|answer| drop(done(answer)));
    let read = bench.read("big");
    bench.finish();
    assert!(done(read).body.starts_with(br#"{"b":2,"#));
}

#[test]
fn too_much_that_waits_for_a_document_that_is_away_is_refused() {
    let mut bench = Bench::new(64 << 20);
    let put = bench.write("big", &large(LARGE));
    let jobs = bench.run();
    let waiting: Vec<_> = (0..3).map(|_| bench.write("big", r#"{"a":1}"#)).collect();
    let refused = bench.write("big", r#"{"a":1}"#).try_recv().unwrap();
    assert_eq!(refused, Err(Error::Stalled));
    for job in jobs {
        bench.tell(Event::Done(Box::new(job.run())));
    }
    bench.finish();
    done(put);
    waiting.into_iter().for_each(|answer| drop(done(answer)));
}

#[test]
fn a_commit_that_fails_while_its_document_is_away_fails_everybody_who_rests_on_it() {
    let mut bench = Bench::new(64 << 20);
    let first = bench.write("big", &large(LARGE));
    bench.finish();
    done(first);
    // A small edit is on its way to the disk when a large one is handed out.
    let mut small = bench.write("big", r#"{"a":1}"#);
    let Some(Effect::Commit(ticket)) = bench.effects.pop() else { panic!("a commit") };
    let mut put = bench.write("big", &large(LARGE + 200));
    let mut jobs = bench.run();
    let result = Err(Error::ReadOnly("the disk failed".to_owned()));
    let (id, load, number) = (ticket.id, ticket.load, ticket.number);
    bench.tell(Event::Committed { id, load, number, result });
    assert!(waits(&mut small) && waits(&mut put));
    let late = bench.read("big");
    bench.tell(Event::Done(Box::new(jobs.remove(0).run())));
    let failed = Err(Error::ReadOnly("the disk failed".to_owned()));
    assert_eq!(small.try_recv().unwrap(), failed);
    assert_eq!(put.try_recv().unwrap().map(drop), failed.map(drop));
    // The doomed commit of the large edit: the store takes it or not, nobody hears of it.
    bench.effects.retain(|effect| !matches!(effect, Effect::Commit(_)));
    for job in bench.run() {
        bench.tell(Event::Done(Box::new(job.run())));
    }
    assert!(!String::from_utf8_lossy(&done(late).body).contains(r#""a":1"#), "read from the disk");
}

#[test]
fn the_view_of_a_large_document_is_made_for_its_next_reader() {
    let mut bench = Bench::new(64 << 20);
    let put = bench.write("big", &large(LARGE));
    bench.finish();
    done(put);
    assert!(bench.stored("big").is_some(), "a put leaves its JSON behind");
    let patch = bench.write("big", r#"{"a":1}"#);
    assert_eq!(bench.finish(), 0, "a small patch of a large document is light");
    assert_eq!(done(patch).conflicts, 0);
    assert_eq!(bench.stored("big"), None);
    let (one, two) = (bench.read("big"), bench.read("big"));
    assert_eq!(bench.finish(), 1, "one job for both readers");
    let (one, two) = (done(one), done(two));
    assert_eq!(one, two);
    assert_eq!(one.body.as_ptr(), two.body.as_ptr(), "walked once");
    assert_eq!(bench.stored("big").map(String::into_bytes), Some(one.body.to_vec()));
    assert_eq!(bench.shard.stale_count(), 0);
}

#[test]
fn the_view_of_a_large_document_is_made_once_nobody_has_written_it_for_a_second() {
    let mut bench = Bench::new(64 << 20);
    let answers = [bench.write("big", &large(LARGE)), bench.write("big", r#"{"a":1}"#)];
    bench.finish();
    answers.into_iter().for_each(|answer| drop(done(answer)));
    for n in 2..5 {
        bench.tell(Event::Tick);
        let patch = bench.write("big", &format!(r#"{{"a":{n}}}"#));
        assert_eq!(bench.finish(), 0);
        done(patch);
    }
    assert_eq!(bench.stored("big"), None);
    bench.tell(Event::Tick);
    bench.tell(Event::Tick);
    assert_eq!(bench.finish(), 1);
    assert!(bench.stored("big").unwrap().starts_with(r#"{"a":4,"#));
    assert_eq!(bench.shard.stale_count(), 0);
}

#[test]
fn the_view_of_a_text_is_not_made_for_each_letter() {
    let mut bench = Bench::new(64 << 20);
    let mut client = Automerge::new().with_actor(ActorId::from([1; 16]));
    let text = |tx: &Transaction<'_>| tx.get(ROOT, "t").unwrap().unwrap().1;
    let begin = change(&mut client, |tx| {
        let text = tx.put_object(ROOT, "t", ObjType::Text).unwrap();
        tx.splice_text(&text, 0, 0, &"a".repeat(20 << 10)).unwrap();
    });
    let mut types = |at, removed, letter| {
        change(&mut client, |tx| tx.splice_text(text(tx), at, removed, letter).unwrap())
    };
    let [x, y, gone, z] = [(5, 0, "x"), (5, 0, "y"), (4, 1, ""), (0, 0, "z")]
        .map(|(at, removed, letter)| types(at, removed, letter));

    for changes in [&begin, &x] {
        let taken = bench.admit("text", changes);
        bench.finish();
        assert_eq!((done(taken).taken, bench.stored("text").is_some()), (1, changes == &begin));
    }
    for changes in [&y, &gone] {
        let taken = bench.admit("text", changes);
        bench.finish();
        let taken = done(taken);
        assert_eq!((taken.taken, taken.conflicts, bench.stored("text")), (1, 0, None));
    }
    let read = bench.read("text");
    bench.finish();
    let shown = format!(r#"{{"t":"aaaayx{}"}}"#, "a".repeat((20 << 10) - 5));
    assert_eq!(String::from_utf8_lossy(&done(read).body), shown);
    assert_eq!(bench.stored("text"), Some(shown));

    // What is said beside another value is counted at once, also if it waited for a letter.
    let mut other = Automerge::new().with_actor(ActorId::from([2; 16]));
    other.apply_changes([begin, x, y, gone, z.clone()].concat()).unwrap();
    let mut sides = [client, other];
    let mut say = |key: &str| {
        sides.each_mut().map(|side| {
            let actor = side.get_actor().to_hex_string();
            change(side, |tx| tx.put(ROOT, key, actor).unwrap())
        })
    };
    let ([waits, waits_too], [first, second]) = (say("m"), say("n"));
    for (changes, taken, conflicts) in
        [(waits, 0, 0), (waits_too, 0, 0), (z, 3, 1), (first, 1, 1), (second, 1, 2)]
    {
        let admitted = bench.admit("text", &changes);
        bench.finish();
        let admitted = done(admitted);
        assert_eq!((admitted.taken, admitted.conflicts), (taken, conflicts));
        // A commit of what only waits brings no view, and the next reader's is kept.
        assert_eq!(bench.stored("text").is_some(), taken != 0);
        done(bench.read("text"));
        bench.finish();
        assert!(bench.stored("text").is_some());
    }
}

/// What an edit adds to a document.
fn change(side: &mut Automerge, edit: impl FnOnce(&mut Transaction<'_>)) -> Vec<Change> {
    let heads = side.get_heads();
    let mut tx = side.transaction();
    edit(&mut tx);
    tx.commit();
    side.get_changes(&heads)
}

#[test]
fn what_nobody_has_used_for_a_minute_leaves_memory() {
    let mut bench = Bench::new(64 << 20);
    assert!(!bench.shard.wants_ticks());
    for of in ["used", "idle"] {
        let put = bench.write(of, r#"{"a":1}"#);
        bench.finish();
        done(put);
    }
    for n in 0..60 {
        bench.tell(Event::Tick);
        let patch = bench.write("used", &format!(r#"{{"a":{n}}}"#));
        bench.finish();
        done(patch);
    }
    assert_eq!(bench.shard.document_count(), 2);
    bench.tell(Event::Tick);
    bench.finish();
    assert_eq!(bench.shard.document_count(), 1);
    for _ in 0..61 {
        assert!(bench.shard.wants_ticks());
        bench.tell(Event::Tick);
        bench.finish();
    }
    assert_eq!(bench.shard.document_count(), 0);
    assert!(!bench.shard.wants_ticks());
    let read = bench.read("used");
    bench.finish();
    assert_eq!(done(read).body, r#"{"a":59}"#);
}

#[test]
fn a_document_leaves_memory_folded_and_with_its_view_made() {
    for bytes in [1000, LARGE] {
        let mut bench = Bench::new(0);
        let put = bench.write("big", &large(bytes));
        bench.finish();
        done(put);
        for count in 0..9 {
            let patch = bench.write("big", &format!(r#"{{"a":{count}}}"#));
            bench.finish();
            done(patch);
        }
        assert!(bench.stored("big").unwrap().starts_with(r#"{"a":8,"#));
        let stored = bench.store.document(&name("big")).unwrap().unwrap();
        assert!(stored.head.snapshot_changes != 0);
        assert_eq!(bench.shard.document_count(), 0, "nothing is kept in memory");
    }
}

#[test]
fn a_read_only_node_still_evicts() {
    let mut bench = Bench::new(0);
    let answers = [bench.write("big", &large(LARGE)), bench.write("big", r#"{"a":1}"#)];
    let jobs = bench.run();
    bench.shard.status().fail(&EngineError::Io("the disk failed".into()));
    for job in jobs {
        bench.tell(Event::Done(Box::new(job.run())));
    }
    bench.finish();
    drop(answers);
    assert_eq!(bench.shard.document_count(), 0);
}
