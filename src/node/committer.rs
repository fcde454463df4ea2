//! Runs the store's one writer: drains what the shards have prepared, writes it with one sync.
//!
//! It never waits for more work than is there: while it syncs, the next group gathers by itself.

use super::{
    Error,
    feed::Board,
    figures::{Metrics, nanoseconds},
    guard::Guard,
    shard::{Apart, Event},
};
use crate::{
    ident::DocumentId,
    store::{Commit, CommitError, Committer, Durability, EngineError},
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

/// What a shard wants written.
#[derive(Debug)]
pub(super) enum Order {
    Group(Group),
    Apart(Box<Apart>),
}

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
    mut prepared: Receiver<Order>,
    shards: Vec<UnboundedSender<Event>>,
    guard: Guard,
    metrics: Arc<Metrics>,
    board: Arc<Board>,
    durability: Durability,
) {
    let mut ticks = interval_at(Instant::now() + RELAXED_SYNC_INTERVAL, RELAXED_SYNC_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unsynced = false;
    let mut messages = Vec::new();
    let mut looked = guard.status.room();
    loop {
        // The tick first: those who write all the time would never let it come.
        tokio::select! {
            biased;
            _ = ticks.tick(), if unsynced => {
                unsynced = false;
                sync(&mut committer, &guard);
            }
            count = prepared.recv_many(&mut messages, GROUP_MESSAGES_MAX) => {
                if count == 0 {
                    break;
                }
                unsynced = durability == Durability::Relaxed;
                let (mut groups, mut aparts) = (Vec::new(), Vec::new());
                for message in messages.drain(..) {
                    match message {
                        Order::Group(group) => groups.push(group),
                        Order::Apart(apart) => aparts.push(apart),
                    }
                }
                let bytes = write(&mut committer, groups, &shards, &guard, &metrics, &board);
                for apart in aparts {
                    write_apart(&mut committer, *apart, &guard, &board);
                }
                // Once to the log, and once to a table.
                if guard.status.spend(bytes.saturating_mul(2), looked) {
                    guard.look();
                    looked = guard.status.room();
                }
            }
        }
    }
    sync(&mut committer, &guard);
}

fn sync(committer: &mut Committer, guard: &Guard) {
    if let Err(error) = committer.sync() {
        guard.status.fail(error.engine());
    }
}

/// Writes a group, and answers. Gives how many bytes there were.
fn write(
    committer: &mut Committer,
    messages: Vec<Group>,
    shards: &[UnboundedSender<Event>],
    guard: &Guard,
    metrics: &Metrics,
    board: &Board,
) -> u64 {
    // Of all, whether anybody waits or not: who comes while the group is synced reads what was there
    // before it, and has to be woken for it.
    let mut tracks = Vec::new();
    let mut bytes = 0;
    let mut commits = Vec::new();
    let mut places = Vec::new();
    for message in messages {
        for Ticket { id, load, number, commit } in message.commits {
            places.push((message.shard, id, load, number));
            bytes += commit.bytes();
            tracks.push(Arc::clone(&commit.track));
            commits.push(commit);
        }
    }
    if commits.is_empty() {
        return 0;
    }
    metrics.group_commits.observe(commits.len() as u64);
    let began = Instant::now();
    let written = committer.write(commits);
    metrics.commit_ns.observe(nanoseconds(began.elapsed()));
    let results = match written {
        Ok(results) => {
            board.announce(tracks.iter().map(|track| track.name()), guard.store.last_seq());
            results.into_iter().map(|result| result.map(|_| ()).map_err(Into::into)).collect()
        }
        Err(error) => {
            vec![Err(failed(guard, &error)); places.len()]
        }
    };
    for ((shard, id, load, number), result) in places.into_iter().zip(results) {
        // A shard that is gone has nobody left to tell.
        if let Some(shard) = shards.get(shard) {
            let _ = shard.send(Event::Committed { id, load, number, result });
        }
    }
    bytes
}

/// Writes what is no edit of a loaded document, and answers. Nobody has to be waiting for the answer.
fn write_apart(committer: &mut Committer, apart: Apart, guard: &Guard, board: &Board) {
    match apart {
        Apart::SetAside { name, aside, why, time_seconds, reply } => {
            let time_seconds = u64::try_from(time_seconds).unwrap_or(0);
            let done = committer.set_aside(&name, &aside, &why, time_seconds);
            if let Ok(true) = done {
                tracing::error!(document = %name.id(), why, "put into quarantine");
            }
            let done = done.map_err(|error| failed(guard, &error));
            if let Some(reply) = reply {
                drop(reply.send(done));
            }
        }
        Apart::Release { commit, reply } => {
            let track = Arc::clone(&commit.track);
            let done = match committer.write(vec![*commit]) {
                Ok(mut results) => results.pop().map_or(Ok(()), |done| Ok(done.map(drop)?)),
                Err(error) => Err(failed(guard, &error)),
            };
            if done.is_ok() {
                board.announce([track.name()].into_iter(), guard.store.last_seq());
            }
            drop(reply.send(done));
        }
        Apart::Cursor { of, cursor, reply } => {
            let done = committer.keep_cursor(of, cursor).map_err(|error| failed(guard, &error));
            drop(reply.send(done));
        }
        Apart::Peer { name, row, reply } => {
            let done = committer.keep_peer(name, row.as_ref());
            drop(reply.send(done.map_err(|error| failed(guard, &error))));
        }
        Apart::Forget { id, reply } => {
            let done = committer.forget(id).map_err(|error| failed(guard, &error));
            if let Ok(true) = done {
                tracing::warn!(%id, "dropped from quarantine");
            }
            drop(reply.send(done));
        }
    }
}

/// Takes note of a commit that failed, and says what its caller is told.
fn failed(guard: &Guard, error: &CommitError) -> Error {
    guard.status.fail(error.engine());
    match error.engine() {
        EngineError::Full(_) => Error::DiskFull,
        _ => Error::ReadOnly(error.to_string()),
    }
}
