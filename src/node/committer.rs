//! Runs the store's one writer: drains what the shards have prepared, writes it with one sync.
//!
//! It never waits for more work than is there: while it syncs, the next group gathers by itself.

use super::{
    figures::{Metrics, nanoseconds},
    shard::Event,
    status::Status,
};
use crate::{
    ident::DocumentId,
    store::{Commit, Committer, Durability},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc::{Receiver, UnboundedSender},
    time::{Instant, MissedTickBehavior, interval_at},
};

/// Most messages of shards that one group takes in.
const GROUP_MESSAGES_MAX: usize = 256;
/// How often relaxed writes are synced.
const RELAXED_SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// What one shard has prepared in one go.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) shard: usize,
    pub(super) commits: Vec<Ticket>,
}

/// A commit of one document, and how its shard knows it.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) id: DocumentId,
    /// Which load of the document it comes from.
    pub(super) load: u64,
    /// Which commit of that load it is.
    pub(super) number: u64,
    pub(super) commit: Commit,
}

/// Writes until all shards have gone.
pub(super) async fn run(
    mut committer: Committer,
    mut prepared: Receiver<Group>,
    shards: Vec<UnboundedSender<Event>>,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    durability: Durability,
) {
    let mut ticks = interval_at(Instant::now() + RELAXED_SYNC_INTERVAL, RELAXED_SYNC_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unsynced = false;
    let mut messages = Vec::new();
    loop {
        tokio::select! {
            count = prepared.recv_many(&mut messages, GROUP_MESSAGES_MAX) => {
                if count == 0 {
                    break;
                }
                unsynced = durability == Durability::Relaxed;
                let messages = std::mem::take(&mut messages);
                write(&mut committer, messages, &shards, &status, &metrics);
            }
            _ = ticks.tick(), if unsynced => {
                unsynced = false;
                sync(&mut committer, &status);
            }
        }
    }
    sync(&mut committer, &status);
}

fn sync(committer: &mut Committer, status: &Status) {
    if let Err(error) = committer.sync() {
        status.set_read_only(&error.to_string());
    }
}

fn write(
    committer: &mut Committer,
    messages: Vec<Group>,
    shards: &[UnboundedSender<Event>],
    status: &Status,
    metrics: &Metrics,
) {
    let mut commits = Vec::new();
    let mut places = Vec::new();
    for message in messages {
        for Ticket { id, load, number, commit } in message.commits {
            places.push((message.shard, id, load, number));
            commits.push(commit);
        }
    }
    metrics.group_commits.observe(commits.len() as u64);
    let began = Instant::now();
    let written = committer.write(commits);
    metrics.commit_ns.observe(nanoseconds(began.elapsed()));
    let results = match written {
        Ok(results) => {
            results.into_iter().map(|result| result.map(|_| ()).map_err(Into::into)).collect()
        }
        Err(error) => {
            let reason = error.to_string();
            status.set_read_only(&reason);
            vec![Err(super::Error::ReadOnly(reason)); places.len()]
        }
    };
    for ((shard, id, load, number), result) in places.into_iter().zip(results) {
        // A shard that is gone has nobody left to tell.
        if let Some(shard) = shards.get(shard) {
            let _ = shard.send(Event::Committed { id, load, number, result });
        }
    }
}
