//! Runs a shard: receives, lets it handle, performs what it wants.

use super::{
    Error,
    committer::{Group, Order},
    figures::{ShardMetrics, nanoseconds},
    orphans::Nursery,
    shard::{Effect, Event, Job, Loaded, Shard},
    threads::Executor,
};
use crate::{
    doc::{Actor, Document},
    ident::{Hash, Name},
    store::{Store, Stored, Track},
};
use bytes::Bytes;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{
        Semaphore,
        mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender},
    },
    time::{Instant, MissedTickBehavior, interval_at},
};

/// Most commands taken in before their commits are sent.
const BATCH_COMMANDS_MAX: usize = 64;
/// Bytes of chunks that a shard makes a document of itself, in about half a millisecond.
const LIGHT_CHUNKS_BYTES_MAX: usize = 8 << 10;
/// How often a shard is told that time passes.
const TICK: Duration = Duration::from_secs(1);

/// A shard with the channels by which it is reached and reaches others.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) shard: Shard,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) store: Arc<Store>,
    /// From callers. Closed: finish what was accepted, and end.
    pub(super) commands: Receiver<Event>,
    /// From loads and the committer; as many as the shard has asked for.
    pub(super) events: UnboundedReceiver<Event>,
    pub(super) events_sender: UnboundedSender<Event>,
    pub(super) commits: Sender<Order>,
    /// A permit for each job that runs, over all shards.
    pub(super) helpers: Arc<Semaphore>,
    pub(super) executor: Executor,
}

impl Worker {
    /// Runs until no command can come any more and everything is done.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::new();
        let mut effects = Vec::new();
        let mut open = true;
        let mut ticks = interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while open || !self.shard.is_idle() {
            // In order of what there is least of.
            tokio::select! {
                biased;
                _ = ticks.tick(), if open && self.shard.wants_ticks() => batch.push(Event::Tick),
                event = self.events.recv() => batch.extend(event),
                count = self.commands.recv_many(&mut batch, BATCH_COMMANDS_MAX), if open => {
                    open = count != 0;
                }
            }
            while let Ok(event) = self.events.try_recv() {
                batch.push(event);
            }
            for event in batch.drain(..) {
                self.shard.handle(event, &mut effects);
            }
            self.shard.flush(&mut effects);
            if !self.perform(effects.drain(..)).await {
                break;
            }
        }
        self.shard.stop();
    }

    /// Performs effects in order. `false`: the committer is gone.
    async fn perform(&self, effects: impl Iterator<Item = Effect>) -> bool {
        let mut commits = Vec::new();
        for effect in effects {
            match effect {
                Effect::Load { name, actor } => self.load(name, actor),
                Effect::Commit(ticket) => commits.push(*ticket),
                Effect::HandOut(job) => self.hand_out(*job),
                Effect::Apart(apart) => {
                    if self.commits.send(Order::Apart(apart)).await.is_err() {
                        return false;
                    }
                }
            }
        }
        let group = Order::Group(Group { shard: self.index, commits });
        matches!(&group, Order::Group(Group { commits, .. }) if commits.is_empty())
            || self.commits.send(group).await.is_ok()
    }

    fn hand_out(&self, job: Job) {
        let (helpers, sender) = (Arc::clone(&self.helpers), self.events_sender.clone());
        let executor = self.executor;
        tokio::spawn(async move {
            // The semaphore is never closed.
            let permit = helpers.acquire_owned().await;
            executor.hand_out(move || {
                // A shard that has ended waits for nothing.
                let _ = sender.send(Event::Done(Box::new(job.run())));
                drop(permit);
            });
        });
    }

    fn load(&self, name: Name, actor: Actor) {
        if self.store.is_surely_absent(name.id()) {
            // A shard that has ended waits for nothing.
            let result = Ok(absent(&name, actor, Vec::new()));
            let _ = self.events_sender.send(Event::Loaded { result, name });
            return;
        }
        let (store, sender) = (Arc::clone(&self.store), self.events_sender.clone());
        let (metrics, executor) = (Arc::clone(&self.metrics), self.executor);
        tokio::spawn(async move {
            let began = Instant::now();
            let result = load(store, name.clone(), actor, executor).await;
            metrics.load_ns.observe(nanoseconds(began.elapsed()));
            // A shard that has ended waits for nothing.
            let _ = sender.send(Event::Loaded { name, result });
        });
    }
}

/// A document that nobody has written; changes may wait for one all the same.
fn absent(name: &Name, actor: Actor, orphans: Vec<(Hash, Bytes)>) -> Box<Loaded> {
    let track = Arc::new(Track::absent(name.clone()));
    Box::new(Loaded { document: Document::new(actor), track, orphans: Nursery::new(orphans) })
}

/// Waits for the disk on another thread. What was read becomes a document on the thread that will
/// write and drop it, which spares half of what a hand-over costs, unless it is large.
async fn load(
    store: Arc<Store>,
    name: Name,
    actor: Actor,
    executor: Executor,
) -> Result<Box<Loaded>, Error> {
    let wanted = name.clone();
    let read_all = move || match store.document(&wanted)? {
        Some(stored) => Ok(Ok(stored)),
        None => Ok(Err(store.waiting_for(wanted.id())?)),
    };
    let stored = match executor.blocking(read_all).await? {
        Ok(stored) => stored,
        Err(orphans) => return Ok(absent(&name, actor, orphans)),
    };
    let bytes: usize = stored.chunks.iter().map(Bytes::len).sum();
    if bytes <= LIGHT_CHUNKS_BYTES_MAX {
        read(stored, actor)
    } else {
        executor.blocking(move || read(stored, actor)).await
    }
}

/// The document that stored chunks make.
fn read(stored: Stored, actor: Actor) -> Result<Box<Loaded>, Error> {
    let Stored { head, chunks, track, orphans } = stored;
    let load = || {
        let chunks = chunks.iter().map(|chunk| &chunk[..]);
        Document::load(chunks, &head.standing, &head.version, actor)
    };
    let loaded = catch_unwind(AssertUnwindSafe(load));
    let loaded = loaded.map_err(|_| Error::Damaged("loading it panics".to_owned()))?;
    let document = loaded.map_err(|damaged| Error::Damaged(damaged.to_string()))?;
    Ok(Box::new(Loaded { document, track, orphans: Nursery::new(orphans) }))
}
