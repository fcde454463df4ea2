//! The peers that are configured, and how each fares.

use crate::node::{
    Node,
    members::{PeerOptions, Terms, below},
};
use crate::{
    ident::{IncarnationId, NodeId},
    metric::Counter,
    peer::{self, Wire},
    sync::{SketchKey, Slice},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{self, Instant},
};

/// Shortest time after which a difference is tried again that could not be settled.
const RETRY_MIN: Duration = Duration::from_secs(60);
/// Longest.
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// Most differences from a peer of which it is remembered that they could not be settled. While there are
/// more, rounds go on as if nothing was remembered.
const UNSETTLED_MAX: usize = 1 << 16;

/// How a peer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// It was never reached.
    #[default]
    Connecting,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// A peer, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// What is configured.
    pub options: PeerOptions,
    /// Which node it is, once that is known.
    pub node: Option<NodeId>,
    /// How it is.
    pub state: State,
    /// When it last answered, in milliseconds since 1970.
    pub contact_unix_ms: Option<u64>,
    /// What went wrong last: a word, and a text.
    pub error: Option<(&'static str, String)>,
    /// How long until it is tried again, of one that is down.
    pub next_try: Option<Duration>,
    /// Commits that it has not acknowledged: at least as many as documents.
    pub lag_documents: u64,
    /// How long it has lagged.
    pub lag: Duration,
    /// Requests to it.
    pub requests: u64,
    /// Bytes of their bodies, as they were coded.
    pub bytes_sent: u64,
    /// Bytes of the bodies of its answers, the same.
    pub bytes_received: u64,
    /// Whether both hold the same; `None`: not known.
    pub in_sync: Option<bool>,
    /// Rounds that were run with it.
    pub rounds: u64,
    /// Documents that rounds found to differ, and set out to make equal.
    pub repaired: u64,
    /// Audits that were made with it.
    pub audits: u64,
    /// What differs and could not be settled: positions, and why.
    pub unsettled: Vec<(u64, &'static str)>,
}

/// A peer.
#[derive(Debug)]
pub(in crate::node) struct Peer {
    pub(super) options: PeerOptions,
    pub(super) terms: Terms,
    /// What went to it and came from it.
    pub(super) wire: Wire,
    pub(super) rounds: Counter,
    pub(super) repaired: Counter,
    pub(super) audits: Counter,
    known: Mutex<Known>,
    /// Told when it says hello.
    hello: Notify,
}

#[derive(Debug, Default)]
struct Known {
    node: Option<NodeId>,
    state: State,
    contact_unix_ms: Option<u64>,
    error: Option<(&'static str, String)>,
    next_try: Option<Instant>,
    lagging: Option<Instant>,
    in_sync: Option<bool>,
    unsettled: BTreeMap<u64, Unsettled>,
    /// When it is audited next.
    audit: Option<Instant>,
}

/// A difference that was tried to be settled.
#[derive(Debug, Clone, Copy)]
struct Unsettled {
    by: u64,
    why: &'static str,
    tries: u32,
    next: Instant,
}

impl Peer {
    pub(super) fn new(options: PeerOptions, key: &SketchKey) -> Self {
        Self {
            terms: Terms::of(&options, key),
            options,
            wire: Wire::default(),
            rounds: Counter::default(),
            repaired: Counter::default(),
            audits: Counter::default(),
            known: Mutex::default(),
            hello: Notify::new(),
        }
    }

    /// It answered.
    pub(super) fn heard(&self, node: NodeId, unix_ms: u64) {
        let mut known = self.lock();
        known.node = Some(node);
        known.contact_unix_ms = Some(unix_ms);
        if known.state != State::Up {
            known.state = State::Up;
            drop(known);
            tracing::info!(peer = %self.options.name, %node, "a peer is there");
        }
    }

    /// It did not, and is tried again after a time.
    pub(super) fn failed(&self, error: &peer::Error, next: Duration) {
        let mut known = self.lock();
        let before = known.error.replace((error.name(), error.to_string()));
        let news = known.state != State::Down || before != known.error;
        known.state = State::Down;
        known.in_sync = None;
        known.next_try = Some(Instant::now() + next);
        drop(known);
        if news {
            let next_ms = next.as_millis();
            tracing::warn!(peer = %self.options.name, reason = error.name(), %error, next_ms,
                "a peer is not there");
        }
    }

    /// It was met, whether or not it answers for long.
    pub(super) fn meet(&self, node: NodeId) {
        self.lock().node = Some(node);
    }

    /// Waits before it is tried again. One that was not reached, and says hello itself, is reached again.
    pub(super) async fn rest(&self, error: &peer::Error, pause: Duration) {
        if matches!(error, peer::Error::Unreachable(_) | peer::Error::Timeout) {
            // Too late is a pause more, and no harm.
            let _ = time::timeout(pause, self.hello.notified()).await;
        } else {
            time::sleep(pause).await;
        }
    }

    pub(super) fn set_in_sync(&self, in_sync: Option<bool>) {
        let mut known = self.lock();
        known.in_sync = in_sync;
        if in_sync == Some(true) {
            known.unsettled.clear();
        }
    }

    /// Whether it is time for an audit. If so, it is the next one's turn: the first one comes at any time
    /// within a period, so that not all peers are audited at once.
    pub(super) fn is_audit_due(&self, node: &Node) -> bool {
        let (now, every) = (Instant::now(), node.audit_every());
        let mut known = self.lock();
        let millis = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        let first = || now + Duration::from_millis(below(node.ambient(), millis));
        let due = *known.audit.get_or_insert_with(first) <= now;
        if due {
            known.audit = Some(now + every);
        }
        due
    }

    /// Takes note of whether anything is not acknowledged.
    pub(super) fn set_lagging(&self, lagging: bool) {
        let mut known = self.lock();
        known.lagging = if lagging { known.lagging.or_else(|| Some(Instant::now())) } else { None };
    }

    /// Whether a difference of sums is that of what could not be settled.
    pub(super) fn is_known(&self, difference: u64) -> bool {
        let known = self.lock();
        let now = Instant::now();
        !known.unsettled.is_empty()
            && known.unsettled.values().all(|unsettled| now < unsettled.next)
            && known.unsettled.values().fold(0, |sum, one| sum ^ one.by) == difference
    }

    /// Of the differences that were found in a slice, those to be settled now. All others of it that were
    /// remembered are settled.
    pub(super) fn to_settle(
        &self,
        slice: &Slice,
        found: &[(u64, u64)],
        why: &'static str,
    ) -> Vec<u64> {
        let now = Instant::now();
        let mut known = self.lock();
        let mut before = BTreeMap::new();
        known.unsettled.retain(|position, unsettled| {
            let settled = slice.holds(*position);
            if settled {
                before.insert(*position, *unsettled);
            }
            !settled
        });
        let mut positions = Vec::new();
        for (position, by) in found {
            let again = before.get(position).filter(|unsettled| unsettled.by == *by);
            let unsettled = match again {
                Some(unsettled) if now < unsettled.next => *unsettled,
                again => {
                    positions.push(*position);
                    let tries = again.map_or(0, |unsettled| unsettled.tries + 1);
                    let pause = RETRY_MIN.saturating_mul(1 << tries.min(10)).min(RETRY_MAX);
                    Unsettled { by: *by, why, tries, next: now + pause }
                }
            };
            if known.unsettled.len() < UNSETTLED_MAX || known.unsettled.contains_key(position) {
                known.unsettled.insert(*position, unsettled);
            }
        }
        positions
    }

    /// Says why a difference could not be settled.
    pub(super) fn explain(&self, position: u64, why: &'static str) {
        if let Some(unsettled) = self.lock().unsettled.get_mut(&position) {
            unsettled.why = why;
        }
    }

    /// Which node it is, if that is known.
    pub(super) fn node(&self) -> Option<NodeId> {
        self.lock().node
    }

    /// `twin`: a start of the same node that is refused, since it runs beside this one.
    pub(super) fn status(&self, lag_documents: u64, twin: Option<IncarnationId>) -> PeerStatus {
        let known = self.lock();
        let now = Instant::now();
        let down = known.state == State::Down;
        PeerStatus {
            options: self.options.clone(),
            node: known.node,
            state: known.state,
            contact_unix_ms: known.contact_unix_ms,
            error: twin.map(clone_detected).or_else(|| known.error.clone()),
            next_try: known.next_try.filter(|_| down).map(|next| next.duration_since(now)),
            lag_documents,
            lag: known.lagging.map_or(Duration::ZERO, |since| now.duration_since(since)),
            requests: self.wire.requests.value(),
            bytes_sent: self.wire.sent.value(),
            bytes_received: self.wire.received.value(),
            in_sync: known.in_sync,
            rounds: self.rounds.value(),
            repaired: self.repaired.value(),
            audits: self.audits.value(),
            unsettled: known.unsettled.iter().map(|(at, one)| (*at, one.why)).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing in it panics half way.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn clone_detected(twin: IncarnationId) -> (&'static str, String) {
    let what = "runs on a copy of its data, and is refused until it is started with --new-node";
    ("clone_detected", format!("another node, at its start {twin}, {what}"))
}

/// All peers, by name.
#[derive(Debug, Default)]
pub(in crate::node) struct Peers(Mutex<BTreeMap<String, Arc<Peer>>>);

impl Peers {
    /// Adds a peer, in the place of one of its name.
    pub(super) fn add(&self, peer: Peer) -> Arc<Peer> {
        let peer = Arc::new(peer);
        self.lock().insert(peer.options.name.clone(), Arc::clone(&peer));
        peer
    }

    /// What all may have that were never met.
    pub(super) fn unmet(&self) -> Terms {
        let unmet = self.all().into_iter().filter(|peer| peer.node().is_none());
        unmet.fold(Terms::open(), |terms, peer| terms.meet(&peer.terms))
    }

    /// A node said hello: if it is one that did not answer, it is tried again now.
    pub(super) fn wake(&self, node: NodeId) {
        for peer in self.all().iter().filter(|peer| peer.node() == Some(node)) {
            peer.hello.notify_waiters();
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Peer>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Peer>>> {
        // Nothing in it panics half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{node::Direction, sync::Reason};

    #[tokio::test(start_paused = true)]
    async fn only_one_that_was_not_reached_is_tried_again_when_it_says_hello() {
        let (url, direction) = ("http://b".parse().unwrap(), Direction::Both);
        let options = PeerOptions { name: "b".to_owned(), url, collections: None, direction };
        let peers = Peers::default();
        let peer = peers.add(Peer::new(options, &SketchKey::derived(b"a secret")));
        let node = NodeId::from_bytes([1; 16]);
        peer.meet(node);
        let hello = async {
            loop {
                time::sleep(Duration::from_secs(1)).await;
                peers.wake(node);
            }
        };
        let rested = async {
            let mut rested = Vec::new();
            for error in
                [peer::Error::Timeout, peer::Error::Refused(Reason::NotShared.because("nothing"))]
            {
                let began = Instant::now();
                peer.rest(&error, Duration::from_secs(30)).await;
                rested.push(began.elapsed().as_secs());
            }
            rested
        };
        tokio::select! {
            rested = rested => assert_eq!(rested, [1, 30]),
            () = hello => {}
        }
    }
}
