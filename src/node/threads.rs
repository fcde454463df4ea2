//! What runs a node: threads of its own, or one runtime of its caller's.

use super::{
    Error, Options, StartError,
    committer::Order,
    figures::ShardMetrics,
    shard::{Event, Shard, ShardOptions},
    status::Status,
    worker::Worker,
};
use crate::store::Store;
use std::{future::Future, io, sync::Arc, thread};
use tokio::sync::{Semaphore, mpsc};

/// A thread that runs Automerge on deep documents needs a deep stack.
pub(super) const STACK_BYTES: usize = 16 << 20;
/// Most threads of one shard that wait for the disk or help. Each keeps some memory of its own.
const BLOCKING_THREADS_MAX: usize = 8;

/// What runs the loops of a node, and what waits for its disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Executor {
    /// Threads: one a loop, and some for whatever waits or takes long.
    #[default]
    Threads,
    /// The runtime on which the node is started: all of it is done there, one thing after the other, so
    /// that a simulation on one seed always does the same.
    Caller,
}

impl Executor {
    /// Runs a loop until its end.
    pub(super) fn run(
        self,
        name: String,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), StartError> {
        match self {
            Self::Threads => run_thread(name, work),
            Self::Caller => {
                tokio::spawn(work);
                Ok(())
            }
        }
    }

    /// Runs what may wait for the disk, or takes long.
    ///
    /// # Errors
    /// Its own; `Internal`: it did not end.
    pub(super) async fn blocking<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if self == Self::Caller {
            return work();
        }
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| Err(Error::Internal(format!("a read did not end: {error}"))))
    }

    /// Has something done that takes long. Nobody waits for it here.
    pub(super) fn hand_out(self, work: impl FnOnce() + Send + 'static) {
        match self {
            Self::Threads => drop(tokio::task::spawn_blocking(work)),
            Self::Caller => work(),
        }
    }
}

/// The shards of a node, which run.
pub(super) struct Shards {
    /// For commands, one a shard.
    pub(super) senders: Vec<mpsc::Sender<Event>>,
    pub(super) metrics: Vec<Arc<ShardMetrics>>,
    /// For what was committed, one a shard.
    pub(super) events: Vec<mpsc::UnboundedSender<Event>>,
}

pub(super) fn start_shards(
    options: &Options,
    store: &Arc<Store>,
    status: &Arc<Status>,
    commits: &mpsc::Sender<Order>,
) -> Result<Shards, StartError> {
    let shard_count = options.shards.max(1);
    let helpers = Arc::new(Semaphore::new(options.helpers.clamp(1, BLOCKING_THREADS_MAX / 2)));
    let texts = Arc::new(options.texts.clone());
    let mut senders = Vec::new();
    let mut metrics = Vec::new();
    let mut events = Vec::new();
    for index in 0..shard_count {
        let (sender, commands) = mpsc::channel(options.commands_max.max(1));
        #[expect(clippy::disallowed_methods, reason = "holds what the shard has asked for")]
        let (events_sender, events_receiver) = mpsc::unbounded_channel();
        let shard_options = ShardOptions {
            documents_bytes: options.documents_bytes / shard_count,
            waiting_max: options.waiting_max,
            limits: options.limits,
            texts: Arc::clone(&texts),
        };
        let counted = Arc::new(ShardMetrics::default());
        let worker = Worker {
            index,
            shard: Shard::new(
                shard_options,
                options.ambient.clone(),
                Arc::clone(status),
                Arc::clone(&counted),
                Arc::clone(store.kept()),
            ),
            metrics: Arc::clone(&counted),
            store: Arc::clone(store),
            commands,
            events: events_receiver,
            events_sender: events_sender.clone(),
            commits: commits.clone(),
            helpers: Arc::clone(&helpers),
            executor: options.executor,
        };
        options.executor.run(format!("shard-{index}"), worker.run())?;
        senders.push(sender);
        metrics.push(counted);
        events.push(events_sender);
    }
    Ok(Shards { senders, metrics, events })
}

/// Runs a loop on a thread and runtime of its own.
fn run_thread(
    name: String,
    work: impl Future<Output = ()> + Send + 'static,
) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .thread_stack_size(STACK_BYTES)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(StartError::Thread)?;
    thread::Builder::new()
        .name(name)
        .stack_size(STACK_BYTES)
        .spawn(move || runtime.block_on(work))
        .map(drop)
        .map_err(|error: io::Error| StartError::Thread(error))
}
