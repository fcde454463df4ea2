//! The handle of a running node: what its callers see.

use super::{
    Ambient, Error, ListQuery, Page, Reading, Representation, StartError, Write, Written,
    committer,
    decoder::Decoder,
    feed::Board,
    figures::{Figures, Loaded, Metrics, ShardMetrics},
    guard::Guard,
    ledger::Ledger,
    look::look,
    members::Members,
    read::{self, Found, PAGE_BYTES_MAX},
    replicate::Peers,
    shard::Event,
    status::Status,
    task::{Command, Task},
    threads::{Executor, Shards, start_shards},
};
use crate::{
    doc::{Document, Form, Limits},
    ident::{Collection, IncarnationId, Key, Name, NodeId, Version},
    store::{Backup, BackupError, CollectionCount, Durability, Engine, Fresh, Store},
    sync::{MemberKey, Sketch, SketchKey},
};
use bytes::Bytes;
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt,
    future::Future,
    io,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};
use tokio::{
    sync::{
        mpsc,
        oneshot::{self, error::RecvError},
        watch,
    },
    time::Instant,
};

/// How a node runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// When a write is answered.
    pub durability: Durability,
    /// Memory for loaded documents, in bytes, over all shards.
    pub documents_bytes: usize,
    /// How many shards; each is a thread.
    pub shards: usize,
    /// How many threads do heavy work on documents, over all shards.
    pub helpers: usize,
    /// Commands that one shard has not yet taken in; more wait at their callers.
    pub commands_max: usize,
    /// Bytes of disk below which writes are refused; `None`: the least of 256 MiB and 5 % of the
    /// volume.
    pub min_free_bytes: Option<u64>,
    /// Commands that wait for one document; more are refused as `Stalled`.
    pub waiting_max: usize,
    /// Bounds of documents and edits.
    pub limits: Limits,
    /// Collections in which strings are texts that edits write where no string stands.
    pub texts: BTreeSet<Collection>,
    /// The program that opens large documents first, and its arguments; empty: there is none, and they
    /// are refused. It runs [`decode`](super::decode).
    pub decoder: Vec<OsString>,
    /// The secret that all nodes of the cluster share; empty: a public one, good for one machine alone.
    pub secret: Secret,
    /// Cells of each sketch, of 20 bytes: of about as many documents that differ from a peer's it tells
    /// at once; of more, slices of the ids are compared.
    pub sketch_cells: usize,
    /// Bytes of changes of one document that go to a peer in one message; of more, one part follows the
    /// other. One change goes in one.
    pub parcel_bytes_max: usize,
    /// How often it is audited, with each peer, whether both hold the same: by sums made anew under keys
    /// that are used just once.
    pub audit_every: Duration,
    /// Whether this is another node from now on: its data is a copy of one that runs, too.
    pub new_node: bool,
    /// Clock and chance.
    pub ambient: Ambient,
    /// What runs it.
    pub executor: Executor,
}

/// What all nodes of a cluster know, and nobody else. It is not shown.
#[derive(Clone, Default)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            documents_bytes: 256 << 20,
            shards: thread::available_parallelism().map_or(2, usize::from),
            helpers: 2 * thread::available_parallelism().map_or(2, usize::from),
            commands_max: 1024,
            min_free_bytes: None,
            waiting_max: 4096,
            limits: Limits::default(),
            texts: BTreeSet::new(),
            decoder: Vec::new(),
            secret: Secret::default(),
            sketch_cells: Sketch::CELLS_MAX,
            parcel_bytes_max: 16 << 20,
            audit_every: Duration::from_secs(7 * 24 * 3600),
            new_node: false,
            ambient: Ambient::machine(),
            executor: Executor::default(),
        }
    }
}

/// A running node; clones share it.
#[derive(Debug, Clone)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    shard_metrics: Vec<Arc<ShardMetrics>>,
    started: Instant,
    options: Options,
    /// One sender a shard; empty once the node stops.
    shards: Mutex<Vec<mpsc::Sender<Event>>>,
    /// `true` once the committer and the guard have ended, and hold the store no more.
    ended: watch::Receiver<bool>,
    /// One backup is made at a time.
    backup: tokio::sync::Mutex<()>,
    /// One thing leaves quarantine at a time.
    quarantining: tokio::sync::Mutex<()>,
    /// Who waits for the feed.
    board: Arc<Board>,
    decoder: Decoder,
    ledger: Arc<Ledger>,
    members: Members,
    peers: Peers,
}

/// A write that its shard has been handed: done once it is durable, or refused. It is made also if
/// this is dropped.
#[derive(Debug)]
#[must_use = "whether a write was made is known at its end"]
pub struct Writing {
    answer: oneshot::Receiver<Result<Written, Error>>,
    node: Node,
}

impl Future for Writing {
    type Output = Result<Written, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        Poll::Ready(self.node.heard(answer))
    }
}

impl Node {
    /// Opens what the engine holds and starts the node on threads of its own.
    ///
    /// # Errors
    /// The data could not be opened, or a thread not be started.
    pub fn start(options: Options, engine: Arc<dyn Engine>) -> Result<Self, StartError> {
        let ambient = &options.ambient;
        let (node, incarnation) = (ambient.node_id(), ambient.incarnation_id());
        let fresh = Fresh { node, renewed: options.new_node, incarnation };
        let (store, mut committer) = Store::open(engine, fresh, options.durability)?;
        let key = SketchKey::derived(&options.secret.0);
        let ledger = Ledger::kept_by(&mut committer, key, options.sketch_cells, &store);
        let key = MemberKey::derived(&options.secret.0);
        let members = Members::new(key, store.node(), store.incarnation().id);
        let status = Arc::new(Status::default());
        let metrics = Arc::new(Metrics::default());
        if let Some(error) = committer.poison() {
            status.fail(error);
        }
        let guard = Guard {
            store: Arc::clone(&store),
            status: Arc::clone(&status),
            min_free_bytes: options.min_free_bytes,
        };
        guard.look();
        let (commits, prepared) = mpsc::channel(2 * options.shards.max(1));
        let Shards { senders, metrics: shard_metrics, events } =
            start_shards(&options, &store, &status, &commits)?;
        drop(commits);
        let (ending, ended) = watch::channel(false);
        let (going, gone) = watch::channel(false);
        let guarding = guard.clone().run(ended);
        options.executor.run("guard".to_owned(), async move {
            guarding.await;
            // Nobody has to be waiting for the end.
            let _ = going.send(true);
        })?;
        let counted = Arc::clone(&metrics);
        let board = Arc::new(Board::new(store.last_seq()));
        let watching = Arc::clone(&board);
        let committing = committer::run(
            committer,
            prepared,
            events,
            guard,
            counted,
            watching,
            options.durability,
        );
        options.executor.run("committer".to_owned(), async move {
            committing.await;
            // Nobody has to be waiting for the end.
            let _ = ending.send(true);
        })?;
        let (backup, quarantining) = Default::default();
        let decoder = Decoder::new(options.decoder.clone());
        let inner = Inner {
            store,
            status,
            metrics,
            shard_metrics,
            started: Instant::now(),
            options,
            shards: Mutex::new(senders),
            ended: gone,
            backup,
            quarantining,
            board,
            decoder,
            ledger,
            members,
            peers: Peers::default(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// What is stored.
    pub(super) fn store(&self) -> &Arc<Store> {
        &self.0.store
    }

    /// Whether writes are taken.
    pub(super) fn status(&self) -> &Status {
        &self.0.status
    }

    /// How it runs.
    pub(super) fn options(&self) -> &Options {
        &self.0.options
    }

    /// Clock and chance.
    pub(super) fn ambient(&self) -> &Ambient {
        &self.0.options.ambient
    }

    /// Runs what may wait for the disk, or takes long.
    ///
    /// # Errors
    /// Its own; `Internal`: it did not end.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.0.options.executor.blocking(work).await
    }

    /// Held by whoever takes something out of quarantine.
    pub(super) fn quarantining(&self) -> &tokio::sync::Mutex<()> {
        &self.0.quarantining
    }

    /// What opens large documents first.
    pub(super) fn decoder(&self) -> &Decoder {
        &self.0.decoder
    }

    /// What is held, summed up.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// The other nodes.
    pub(super) fn members(&self) -> &Members {
        &self.0.members
    }

    /// Those that this one talks to.
    pub(super) fn peers(&self) -> &Peers {
        &self.0.peers
    }

    /// Who waits for the feed.
    pub(super) fn board(&self) -> &Arc<Board> {
        &self.0.board
    }

    /// The node's id.
    pub fn id(&self) -> NodeId {
        self.0.store.node()
    }

    /// This start of the node.
    pub fn incarnation(&self) -> IncarnationId {
        self.0.store.incarnation().id
    }

    /// 16 bytes that nobody has seen before, from where the node has all its chance.
    pub fn chance(&self) -> [u8; 16] {
        self.0.options.ambient.chance()
    }

    /// When writes are answered.
    pub fn durability(&self) -> Durability {
        self.0.options.durability
    }

    /// The bounds of documents and edits.
    pub fn limits(&self) -> &Limits {
        &self.0.options.limits
    }

    /// Whether the node takes reads and writes.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn ready(&self) -> Result<(), String> {
        self.0.status.check_writable().map_err(|error| error.to_string())?;
        self.0.store.health().map(drop).map_err(|error| error.to_string())
    }

    /// Waits until the data should be opened anew, by another start: a commit found the disk full,
    /// and there is room again.
    pub async fn wants_reopening(&self) {
        let mut reopening = self.0.status.reopening();
        // The sender lives as long as this node.
        let _ = reopening.wait_for(|reopen| *reopen).await;
    }

    /// Makes a backup in a directory that does not exist yet, on the machine of this node.
    ///
    /// # Errors
    /// There is no backup.
    pub async fn backup(&self, directory: PathBuf) -> Result<Backup, BackupError> {
        let alone = self.0.backup.lock().await;
        let (store, unix_ms) = (Arc::clone(&self.0.store), self.0.options.ambient.unix_ms());
        let made = tokio::task::spawn_blocking(move || store.backup(&directory, unix_ms)).await;
        drop(alone);
        made.unwrap_or_else(|error| {
            let path = PathBuf::from("backup");
            Err(BackupError::Io { path, source: io::Error::other(error) })
        })
    }

    /// What the node counts of itself. The engine is asked on another thread.
    pub async fn figures(&self) -> Figures {
        let Inner { store, status, metrics, .. } = &*self.0;
        let asked = Arc::clone(store);
        let engine = self.blocking(move || Ok((asked.health()?, asked.usage()?))).await;
        let counts = store.collections();
        let shards = self.0.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = shards.iter().map(|shard| shard.max_capacity() - shard.capacity());
        let waiting: usize = waiting.sum();
        drop(shards);
        let (quarantined, quarantined_changes) = store.quarantine_size();
        Figures {
            oversize: store.oversize(),
            quarantined,
            quarantined_changes,
            orphans: store.orphans(),
            subscriptions: self.0.board.subscriptions(),
            clients: self.0.board.audience().figures(),
            peer_changes_taken: self.0.members.taken.value(),
            peer_changes_held: self.0.members.held.value(),
            uptime: self.0.started.elapsed(),
            documents: counts.iter().map(|count| count.documents).sum(),
            deleted: counts.iter().map(|count| count.deleted).sum(),
            collections: counts.len() as u64,
            last_seq: store.last_seq(),
            damaged: store.damaged_heads(),
            read_only: status.read_only(),
            refused: metrics.refused.value(),
            stalled: metrics.stalled.value(),
            waiting: waiting as u64,
            panics: self.0.shard_metrics.iter().map(|shard| shard.panics.value()).sum(),
            groups: metrics.group_commits.read(),
            commits: metrics.commit_ns.read(),
            loaded: Loaded::of(&self.0.shard_metrics, self.0.options.documents_bytes),
            engine: engine.ok(),
        }
    }

    /// The document's plain JSON, from its stored view.
    ///
    /// # Errors
    /// `NotFound`, `Deleted`, `Damaged`, `Internal`.
    pub async fn read(&self, name: &Name) -> Result<Reading, Error> {
        match read::view(self, name).await? {
            Found::Reading(reading) => Ok(reading),
            Found::Unmade => {
                self.read_as(name, Representation::Json(Form::Plain), None, None).await
            }
        }
    }

    /// The document in any representation, now or at a version. `includes`: a version that the
    /// document has to have seen.
    ///
    /// # Errors
    /// As [`Node::read`], `VersionNotFound`, `Stalled`, `Stopping`.
    pub async fn read_as(
        &self,
        name: &Name,
        what: Representation,
        at: Option<Version>,
        includes: Option<Version>,
    ) -> Result<Reading, Error> {
        self.ask(name, |reply| Task::Read { what, at, includes, reply }).await
    }

    /// Makes a write, and waits until it is durable.
    ///
    /// # Errors
    /// `Refused`; `NotFound` and `Deleted` for deletes; `VersionNotFound`, `PreconditionFailed`,
    /// `ReadOnly`, `DiskFull`, `WritesStopped`, `Stalled`, `Damaged`, `TooManyCollections`,
    /// `Stopping`, `Internal`.
    pub async fn write(&self, name: &Name, write: Write) -> Result<Written, Error> {
        self.begin_write(name, write).await?.await
    }

    /// Hands a write to its shard, and does not wait until it is durable. Writes of one document are
    /// made in the order in which they began.
    ///
    /// # Errors
    /// `ReadOnly`, `Stopping`; all others are told by what is given.
    pub async fn begin_write(&self, name: &Name, write: Write) -> Result<Writing, Error> {
        self.0.status.check_writable()?;
        let write = Box::new(write);
        let answer = self.begin(name, |reply| Task::Write { write, reply }).await?;
        Ok(Writing { answer, node: self.clone() })
    }

    /// A key that was never used: a UUIDv7.
    ///
    /// # Errors
    /// `Internal`, which would be a defect.
    pub fn fresh_key(&self) -> Result<Key, Error> {
        let key = self.0.options.ambient.key();
        key.ok_or_else(|| Error::Internal("a UUID is no key".to_owned()))
    }

    /// Lists documents in key order. An unknown collection is an empty page.
    ///
    /// # Errors
    /// `Damaged`, `Internal`; as [`Node::read_as`] where a view has to be made first.
    pub async fn list(&self, collection: &Collection, query: ListQuery) -> Result<Page, Error> {
        let values = query.values;
        let mut page = read::list(self, collection, query).await?;
        if values && page.rows.iter().any(|row| row.json.is_none()) {
            self.make_views(&mut page).await?;
        }
        Ok(page)
    }

    /// Has the views made that a page lacks. It ends earlier where they make it too large.
    async fn make_views(&self, page: &mut Page) -> Result<(), Error> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let mut unmade = std::mem::take(&mut page.rows).into_iter();
        while let Some(mut row) = unmade.next() {
            if row.json.is_none() {
                match self.read(&row.name).await {
                    Ok(Reading { body, version, conflicts }) => {
                        (row.json, row.version, row.conflicts) = (Some(body), version, conflicts);
                    }
                    // Deleted since the page was read.
                    Err(Error::Deleted(_)) => continue,
                    Err(Error::Damaged(why)) => {
                        tracing::error!(document = %row.name.id(), why, "left out of a list");
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            bytes += row.json.as_ref().map_or(0, Bytes::len);
            let key = row.name.key().clone();
            rows.push(row);
            if PAGE_BYTES_MAX <= bytes && unmade.len() != 0 {
                page.next = Some(key);
                break;
            }
        }
        page.rows = rows;
        Ok(())
    }

    /// All collections, by name.
    pub fn collections(&self) -> Vec<CollectionCount> {
        self.0.store.collections()
    }

    /// Finishes what was accepted, syncs, and ends. Later calls answer `Stopping`.
    pub async fn stop(&self) {
        self.0.status.set_stopping();
        self.0.shards.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut ended = self.0.ended.clone();
        // An error would mean that the guard's thread is gone, which is the end as well.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// What is read off a document, once all that it rests on is durable.
    pub(super) async fn look<T: Send + Sync + 'static>(
        &self,
        name: &Name,
        passes: usize,
        at: impl FnOnce(&Document) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        self.ask(name, |reply| Task::Look(look(passes, at, reply))).await
    }

    /// The answer of its shard to what is wanted of a document.
    pub(super) async fn ask<T>(
        &self,
        name: &Name,
        task: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Task,
    ) -> Result<T, Error> {
        let answer = self.begin(name, task).await?.await;
        self.heard(answer)
    }

    /// What a shard answered; or, since nobody will, that the node stops or met a panic.
    fn heard<T>(&self, answer: Result<Result<T, Error>, RecvError>) -> Result<T, Error> {
        let answer = answer.unwrap_or_else(|_| {
            self.0.status.check_running()?;
            Err(Error::Internal("the request met a defect of the program".to_owned()))
        });
        match &answer {
            Err(Error::Refused(_)) => self.0.metrics.refused.increment(),
            Err(Error::Stalled) => self.0.metrics.stalled.increment(),
            _ => {}
        }
        answer
    }

    /// Hands a task to its shard; waits only while that has too much to take in.
    async fn begin<T>(
        &self,
        name: &Name,
        task: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Task,
    ) -> Result<oneshot::Receiver<Result<T, Error>>, Error> {
        let (reply, answer) = oneshot::channel();
        let command = Command { name: name.clone(), task: task(reply) };
        let shard = self.shard(name)?;
        shard.send(Event::Command(command)).await.map_err(|_| Error::Stopping)?;
        Ok(answer)
    }

    /// Some shard, for what is of no document of its own.
    pub(super) fn any_shard(&self) -> Result<mpsc::Sender<Event>, Error> {
        let shards = self.0.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.first().cloned().ok_or(Error::Stopping)
    }

    fn shard(&self, name: &Name) -> Result<mpsc::Sender<Event>, Error> {
        let shards = self.0.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let first = u64::from_be_bytes(name.id().to_bytes()[..8].try_into().unwrap_or_default());
        let count = shards.len() as u64;
        let index = first.checked_rem(count).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| shards.get(index)).cloned().ok_or(Error::Stopping)
    }
}
