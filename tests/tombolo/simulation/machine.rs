//! One machine of a simulation: a disk, and a node that runs on it until it is switched off.

use super::{
    network::{Harbour, Network, PORT},
    oracle::{Field, Oracle},
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::time;
use tombolo::{
    doc::{Edit, Form, Limits, Patch, parse},
    http,
    ident::{Cursor, Name, Version},
    node::{
        Ambient, Direction, Error, Executor, Filter, Node, Options, PeerOptions, PeerStatus,
        Precondition, Secret, Since, Source, StartError, Write, Written,
    },
    peer::Client,
    store::{Crash, Durability, Engine, Fault, MemoryEngine},
};

/// Documents that only ever gain fields.
const KEPT: u64 = 6;
/// Documents that are overwritten and deleted.
const EDITED: u64 = 4;
/// How often a machine says what it holds, once nobody writes.
const LOOK: Duration = Duration::from_millis(500);
/// Longest pauses of a reader of the feed, in milliseconds: while it reads on, and while it is away.
const THERE: u64 = 500;
const AWAY: u64 = 15_000;
/// How long a machine that has lost something may not have told others.
const UNHEARD: Duration = Duration::from_secs(80);

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first machine makes the counter.
    Begin,
    /// Everybody, all the time.
    Write,
    /// Nobody.
    Rest,
}

/// What all machines of a simulation share.
#[derive(Debug)]
pub(super) struct Sea {
    pub(super) seed: u64,
    pub(super) phase: Mutex<Phase>,
    pub(super) oracle: Mutex<Oracle>,
    pub(super) durability: Durability,
    pub(super) machines: Mutex<Vec<Arc<Machine>>>,
}

impl Sea {
    pub(super) fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap()
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.lock().unwrap()
    }
}

/// What a machine held when it last looked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) documents: BTreeMap<Name, (Version, u32, Option<Bytes>)>,
    /// Whether the reader that has followed its feed, through all its starts, knows just these.
    pub(super) reader_agrees: bool,
    pub(super) peers: Vec<PeerStatus>,
    pub(super) changes_taken: u64,
    pub(super) changes_held: u64,
}

/// A reader of one machine's feed, through all its starts, and what it was told.
#[derive(Debug, Clone, Default)]
struct Reader {
    cursor: Option<Cursor>,
    /// Whether the machine may have lost what it was told since: then its cursor may be gone.
    behind_is_lost: bool,
    documents: BTreeMap<Name, Version>,
}

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) index: usize,
    pub(super) sea: Arc<Sea>,
    /// To whom it connects.
    pub(super) peers: Vec<usize>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    engine: Arc<MemoryEngine>,
    backups: Vec<(Duration, Arc<MemoryEngine>)>,
    starts: u64,
    node: Option<Node>,
    held: Option<Held>,
    reader: Reader,
    /// When it lost something last.
    lost: Option<Duration>,
    /// Its data is a copy of another machine's.
    copied: bool,
    /// It is told to be another node when it starts.
    renewed: bool,
    /// Since when its disk syncs nothing.
    broken: Option<Duration>,
    /// Changes that it has made, of those that were acknowledged.
    made: u64,
}

pub(super) fn host(index: usize) -> String {
    format!("n{index}")
}

pub(super) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// Clock and chance of one start of a machine.
#[derive(Debug)]
struct Dice {
    /// Before 1970 there is no time.
    began_ms: u64,
    random: Mutex<fastrand::Rng>,
}

impl Source for Dice {
    fn unix_ms(&self) -> u64 {
        self.began_ms + u64::try_from(now().as_millis()).unwrap()
    }

    fn chance(&self) -> [u8; 16] {
        self.random.lock().unwrap().u128(..).to_le_bytes()
    }
}

impl Machine {
    pub(super) fn new(index: usize, sea: Arc<Sea>, peers: Vec<usize>) -> Self {
        Self { index, sea, peers, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn tell(&self, what: &str) {
        self.sea.oracle().tell(now(), &format!("n{}: {what}", self.index));
    }

    /// What it held when it last looked, since it was last asked to forget that.
    pub(super) fn held(&self) -> Option<Held> {
        self.lock().held.clone()
    }

    pub(super) fn look_again(&self) {
        self.lock().held = None;
    }

    /// How many changes it has made that were acknowledged.
    pub(super) fn made(&self) -> u64 {
        self.lock().made
    }

    /// The power fails: what was not synced is gone.
    pub(super) fn lose_power(&self, at: Duration) {
        let mut state = self.lock();
        state.engine = Arc::new(state.engine.crash(Crash::Keep { batches: 0 }));
        if self.sea.durability == Durability::Relaxed {
            // A tail of the last interval between two syncs, and of what waited for it.
            state.lost = Some(at);
            state.reader.behind_is_lost = true;
            let synced = state.broken.unwrap_or(at).saturating_sub(Duration::from_secs(1));
            self.sea.oracle().goes_back(self.index, synced);
        }
        state.broken = None;
    }

    /// The process ends: the disk has all that it was given.
    pub(super) fn kill(&self) {
        let mut state = self.lock();
        state.engine = Arc::new(state.engine.restart());
        state.broken = None;
    }

    /// Makes a backup.
    pub(super) fn back_up(&self, at: Duration) {
        let mut state = self.lock();
        let copy = state.engine.crash(Crash::Keep { batches: 0 });
        let at = state.broken.unwrap_or(at);
        state.backups.push((at, Arc::new(copy)));
    }

    /// Its disk is lost, and a backup is put in its place. `false`: there is none.
    pub(super) fn restore(&self, pick: usize, at: Duration) -> bool {
        let mut state = self.lock();
        let Some(index) = pick.checked_rem(state.backups.len()) else { return false };
        let (made, copy) = &state.backups[index];
        let (made, copy) = (*made, Arc::new(copy.restart()));
        (state.engine, state.lost, state.broken) = (copy, Some(at), None);
        state.reader.behind_is_lost = true;
        // What was acknowledged and not yet synced when it was made is not in it.
        self.sea.oracle().goes_back(self.index, made.saturating_sub(Duration::from_secs(1)));
        true
    }

    /// Its disk is lost, and a copy of another one's is put in its place.
    pub(super) fn copy_of(&self, other: &Self, at: Duration) {
        let copy = other.lock().engine.crash(Crash::Keep { batches: 0 });
        let mut state = self.lock();
        (state.engine, state.lost, state.broken) = (Arc::new(copy), Some(at), None);
        (state.copied, state.backups) = (true, Vec::new());
        state.reader.behind_is_lost = true;
        self.sea.oracle().goes_back(self.index, Duration::ZERO);
    }

    /// Whoever runs a copy of another machine's data is another node from the next start on.
    pub(super) fn renew(&self) {
        let mut state = self.lock();
        state.renewed = std::mem::take(&mut state.copied);
    }

    /// The next sync fails, and the node takes no more writes until it is started again.
    pub(super) fn break_disk(&self, at: Duration) {
        let mut state = self.lock();
        state.broken.get_or_insert(at);
        state.engine.inject(Fault::SyncFails { after: 0 });
    }

    /// Runs a node, as long as the machine is on.
    pub(super) async fn run(self: Arc<Self>) -> turmoil::Result {
        let (starts, new_node) = {
            let mut state = self.lock();
            state.starts += 1;
            (state.starts, std::mem::take(&mut state.renewed))
        };
        self.tell(&format!("starts for the {starts}. time"));
        let seed = (self.sea.seed << 16) ^ ((self.index as u64) << 8) ^ starts;
        let mut random = fastrand::Rng::with_seed(seed);
        // Clocks are ten years ahead or behind.
        let began_ms = random.u64(1_400_000_000_000..2_100_000_000_000);
        let dice = Dice { began_ms, random: Mutex::new(random.fork()) };
        let options = Options {
            durability: self.sea.durability,
            secret: Secret(b"a secret of the simulation".to_vec()),
            shards: 1 + self.index % 2,
            helpers: 1,
            sketch_cells: 64,
            new_node,
            ambient: Ambient::from_source(Arc::new(dice)),
            executor: Executor::Caller,
            ..Options::default()
        };
        let node = self.start(options).await?;
        self.lock().node = Some(node.clone());
        let hosts = http::Hosts::Any;
        let api = http::Api::new(node.clone(), http::Options { hosts, ..http::Options::default() });
        let (traffic, bounds) = (api.traffic(), http::Connections::default());
        let listener = Harbour::open().await;
        let serving = http::serve(listener, api.into_service(), bounds, traffic, pending());
        let peers = self.peers.iter().map(|peer| PeerOptions {
            name: host(*peer).parse().unwrap(),
            url: format!("http://{}:{PORT}", host(*peer)).parse().unwrap(),
            collections: None,
            direction: Direction::Both,
        });
        let replicating = node.replicate(peers.collect(), Client::new(Network), pending());
        let writing = self.write(&node, &mut random);
        let following = self.follow(&node, fastrand::Rng::with_seed(!seed));
        tokio::join!(serving, replicating, writing, following, self.look(&node));
        Ok(())
    }

    /// Starts a node; if the disk fails meanwhile, again on one that works.
    async fn start(&self, options: Options) -> Result<Node, StartError> {
        loop {
            let engine = Arc::clone(&self.lock().engine);
            match Node::start(options.clone(), engine as Arc<dyn Engine>) {
                Err(StartError::Open(error)) if self.lock().broken.is_some() => {
                    self.tell(&format!("does not start: {error}"));
                    time::sleep(Duration::from_secs(1)).await;
                    self.kill();
                }
                done => return done,
            }
        }
    }

    /// Says again and again what it holds, as long as nobody writes.
    async fn look(&self, node: &Node) {
        loop {
            time::sleep(LOOK).await;
            if self.sea.phase() == Phase::Write {
                continue;
            }
            let _ = self.read_on(node, usize::MAX).await;
            if let Ok(mut held) = look(node).await {
                let mut state = self.lock();
                let documents = held.documents.iter().map(|(name, (version, ..))| (name, version));
                held.reader_agrees = documents.eq(&state.reader.documents);
                state.held = Some(held);
            }
        }
    }

    /// Reads on in the feed now and then, and mostly late after a start.
    async fn follow(&self, node: &Node, mut random: fastrand::Rng) {
        let mut pause = AWAY;
        loop {
            time::sleep(Duration::from_millis(random.u64(..pause))).await;
            let _ = self.read_on(node, random.usize(1..40)).await;
            pause = if random.bool() { THERE } else { AWAY };
        }
    }

    /// Reads on in the feed: so many rows at most. A reader whose cursor is gone begins anew.
    ///
    /// # Panics
    /// Its cursor is gone, and nothing was lost.
    async fn read_on(&self, node: &Node, limit: usize) -> Result<(), Error> {
        loop {
            let reader = self.lock().reader.clone();
            let since = reader.cursor.map_or(Since::Beginning, Since::Cursor);
            let stretch = match node.feed(since, &Filter::default(), limit, None).await {
                Err(Error::CursorGone) => {
                    assert!(
                        reader.behind_is_lost,
                        "n{}: a cursor is gone, and no rows",
                        self.index
                    );
                    self.tell("its reader begins anew");
                    self.lock().reader = Reader::default();
                    continue;
                }
                read => read?,
            };
            if !stretch.rows.is_empty() {
                self.tell(&format!("its reader reads {} rows", stretch.rows.len()));
            }
            let mut state = self.lock();
            // Unless it was read on meanwhile.
            if state.reader.cursor == reader.cursor {
                let rows = stretch.rows.into_iter().map(|row| (row.name, row.version));
                state.reader.documents.extend(rows);
                state.reader.cursor = Some(stretch.next);
                state.reader.behind_is_lost = false;
            }
            return Ok(());
        }
    }

    /// Writes as long as there is somebody to write.
    async fn write(self: &Arc<Self>, node: &Node, random: &mut fastrand::Rng) {
        let mut number = 0;
        loop {
            match self.sea.phase() {
                Phase::Begin if self.index == 0 && number == 0 => {
                    number += 1;
                    let json = br#"{"n":{"$counter":0}}"#;
                    let zero = parse(json, Form::Typed, &Limits::default()).unwrap();
                    edit(node, "kept/count", Edit::Put(zero)).await.unwrap();
                }
                Phase::Begin | Phase::Rest => {}
                Phase::Write => {
                    number += 1;
                    self.write_one(node, random, number).await;
                }
            }
            time::sleep(Duration::from_millis(random.u64(5..250))).await;
        }
    }

    async fn write_one(self: &Arc<Self>, node: &Node, random: &mut fastrand::Rng, number: u64) {
        let (index, starts) = (self.index, self.lock().starts);
        let own = format!("w{index}-{starts}-{number}");
        let (name, json) = match random.u8(0..20) {
            0..9 => {
                let name = format!("kept/d{}", random.u64(..KEPT));
                let edited = edit(node, &name, merge(&format!(r#"{{"{own}":{number}}}"#))).await;
                if self.told(&name, &edited) {
                    let field = Field { document: name.clone(), field: own };
                    self.sea.oracle().has_written(index, now(), field.clone());
                    if random.u8(..4) == 0 {
                        tokio::spawn(Arc::clone(self).check_held(node.clone(), field));
                    }
                }
                return;
            }
            9..12 => {
                self.sea.oracle().counts();
                let patch = br#"[{"op":"increment","path":"/n","by":1}]"#;
                let patch = Patch::parse(patch, Form::Plain, &Limits::default()).unwrap();
                let counted = edit(node, "kept/count", Edit::JsonPatch(patch)).await;
                if self.told("kept/count", &counted) {
                    self.sea.oracle().has_counted(index, now());
                }
                return;
            }
            12..14 => (format!("new/{own}"), None),
            14..18 => (format!("edited/d{}", random.u64(..EDITED)), Some(random.u8(..3))),
            _ => {
                let name = format!("edited/d{}", random.u64(..EDITED));
                let deleted = edit(node, &name, Edit::Delete).await;
                self.told(&name, &deleted);
                return;
            }
        };
        // Sometimes two machines write the same.
        let json = json.map_or("{}".to_owned(), |kind| {
            format!(r#"{{"a":{kind},"list":[{index},{number}],"in":{{"b{kind}":{number}}}}}"#)
        });
        let value = parse(json.as_bytes(), Form::Plain, &Limits::default()).unwrap();
        let put = edit(node, &name, Edit::Put(value)).await;
        self.told(&name, &put);
    }

    /// Takes note of what a write was told. `true`: it was acknowledged.
    fn told(&self, name: &str, told: &Result<Written, Error>) -> bool {
        match told {
            Ok(written) => {
                let unchanged = if written.unchanged { " as before" } else { "" };
                self.tell(&format!("{name} is {}{unchanged}", written.version));
                self.lock().made += u64::from(!written.unchanged);
            }
            Err(error) => self.tell(&format!("{name}: {error}")),
        }
        told.is_ok()
    }

    /// Asks how many others hold a field, and looks whether they do.
    async fn check_held(self: Arc<Self>, node: Node, field: Field) {
        let others = self.others();
        let wait = Duration::from_secs(3);
        let Ok(claimed) = node.replicated(&name(&field.document), others.len(), wait).await else {
            return;
        };
        let at = now();
        let holds = |other: &&Arc<Machine>| other.holds(&field);
        // One that has lost something holds less than it has told, until it has told that.
        let forgetful = others.iter().any(|other| other.lost_since(at.saturating_sub(UNHEARD)));
        let held = others.iter().filter(holds).count();
        self.tell(&format!("{claimed} hold {}, {held} do", field.field));
        assert!(
            forgetful || claimed <= held,
            "n{}: {claimed} of {held} hold {field:?}",
            self.index
        );
    }

    fn others(&self) -> Vec<Arc<Machine>> {
        let all = self.sea.machines.lock().unwrap().clone();
        all.into_iter().filter(|machine| machine.index != self.index).collect()
    }

    fn lost_since(&self, since: Duration) -> bool {
        self.lock().lost.is_some_and(|lost| since < lost)
    }

    /// Whether a field is on its disk.
    fn holds(&self, field: &Field) -> bool {
        let Some(node) = self.lock().node.clone() else { return false };
        let name = name(&field.document);
        // Nothing is waited for: a document that was written has its view beside it.
        let read = std::pin::pin!(node.read(&name));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(Ok(reading)) = read.poll(&mut context) else { return false };
        let value: serde_json::Value = serde_json::from_slice(&reading.body).unwrap();
        !value[&field.field].is_null()
    }
}

fn name(of: &str) -> Name {
    let (collection, key) = of.split_once('/').unwrap();
    Name::new(collection.parse().unwrap(), key.parse().unwrap()).unwrap()
}

fn merge(json: &str) -> Edit {
    Edit::MergePatch(parse(json.as_bytes(), Form::Plain, &Limits::default()).unwrap())
}

async fn edit(node: &Node, of: &str, edit: Edit) -> Result<Written, Error> {
    let precondition = Precondition::None;
    let write = Write { edit, base: None, precondition, message: None, want: None, once: None };
    node.write(&name(of), write).await
}

async fn look(node: &Node) -> Result<Held, Error> {
    let (mut documents, mut since) = (BTreeMap::new(), Since::Beginning);
    loop {
        let stretch = node.feed(since, &Filter::default(), 1000, Some(usize::MAX)).await?;
        for row in stretch.rows {
            documents.insert(row.name, (row.version, row.conflicts, row.json));
        }
        if stretch.end {
            break;
        }
        since = Since::Cursor(stretch.next);
    }
    let figures = node.figures().await;
    let (changes_taken, changes_held) = (figures.peer_changes_taken, figures.peer_changes_held);
    let peers = node.peer_statuses();
    Ok(Held { documents, reader_agrees: false, peers, changes_taken, changes_held })
}
