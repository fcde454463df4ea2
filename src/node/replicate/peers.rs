//! The peers that there are, and how each fares.

use super::{PeerOptions, trouble::Trouble};
use crate::node::{Node, member::Terms, members::below};
use crate::{
    ident::{IncarnationId, NodeId, PeerName},
    metric::Counter,
    peer::{Messages, Wire},
    sync::{SketchKey, Slice},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{self, Notify, watch},
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
    /// What is said of it.
    pub options: PeerOptions,
    /// Whether that is in the configuration; else it was added while the node ran.
    pub configured: bool,
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
    /// The same by what was asked, the last part of its path.
    pub messages: BTreeMap<&'static str, Messages>,
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

impl PeerStatus {
    /// Why a difference is not settled that changes are not to settle: they go one way alone.
    pub const ONE_WAY: &'static str = "one way";
}

/// A peer.
#[derive(Debug)]
pub(in crate::node) struct Peer {
    pub(super) options: PeerOptions,
    pub(super) configured: bool,
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
    /// The node that is attended by this peer.
    claims: Option<NodeId>,
    state: State,
    /// Of one that is down: it shares nothing until somebody says otherwise.
    apart: bool,
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
    pub(super) fn new(options: PeerOptions, key: &SketchKey, configured: bool) -> Self {
        Self {
            terms: Terms::of(&options, key),
            options,
            configured,
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
    pub(super) fn failed(&self, trouble: &Trouble, next: Duration) {
        let mut known = self.lock();
        let before = known.error.replace((trouble.name(), trouble.to_string()));
        let news = known.state != State::Down || before != known.error;
        known.state = State::Down;
        known.apart = trouble.is_lasting();
        known.in_sync = None;
        known.next_try = Some(Instant::now() + next);
        drop(known);
        if news {
            let next_ms = next.as_millis();
            tracing::warn!(peer = %self.options.name, reason = trouble.name(), error = %trouble, next_ms,
                "a peer is not there");
        }
    }

    /// It is not talked to, for a reason of this node's.
    pub(super) fn set_refused(&self, code: &'static str, why: String) {
        tracing::warn!(peer = %self.options.name, why, "a peer is not talked to");
        let mut known = self.lock();
        (known.state, known.apart, known.error) = (State::Down, true, Some((code, why)));
    }

    /// It is attended as the node that it was claimed to be no more.
    pub(super) fn release(&self) {
        self.lock().claims = None;
    }

    /// It was met, whether or not it answers for long. Gives which other node it was before.
    pub(super) fn meet(&self, node: NodeId) -> Option<NodeId> {
        self.lock().node.replace(node).filter(|before| *before != node)
    }

    /// Whether it is known to share nothing until somebody says otherwise.
    fn is_apart(&self) -> bool {
        let known = self.lock();
        known.state == State::Down && known.apart
    }

    /// Waits before it is tried again. One that was not reached, and says hello itself, is reached again.
    pub(super) async fn rest(&self, trouble: &Trouble, pause: Duration) {
        if trouble.is_silence() {
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
        let (now, every) = (Instant::now(), node.options().audit_every);
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
        let sum = self.wire.sum();
        let known = self.lock();
        let now = Instant::now();
        let down = known.state == State::Down;
        PeerStatus {
            options: self.options.clone(),
            configured: self.configured,
            node: known.node,
            state: known.state,
            contact_unix_ms: known.contact_unix_ms,
            error: twin.map(clone_detected).or_else(|| known.error.clone()),
            next_try: known.next_try.filter(|_| down).map(|next| next.duration_since(now)),
            lag_documents,
            lag: known.lagging.map_or(Duration::ZERO, |since| now.duration_since(since)),
            requests: sum.requests,
            bytes_sent: sum.bytes_sent,
            bytes_received: sum.bytes_received,
            messages: self.wire.messages(),
            // What it has not acknowledged it may lack.
            in_sync: known.in_sync.filter(|same| !same || lag_documents == 0),
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

/// What went to and from peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of messages to them.
    pub bytes_sent: u64,
    /// Bytes of messages from them.
    pub bytes_received: u64,
    /// Rounds that were run with them.
    pub rounds: u64,
    /// Documents that rounds found to differ.
    pub repaired: u64,
}

impl Traffic {
    fn and(self, peer: &Peer) -> Self {
        let sum = peer.wire.sum();
        Self {
            bytes_sent: self.bytes_sent + sum.bytes_sent,
            bytes_received: self.bytes_received + sum.bytes_received,
            rounds: self.rounds + peer.rounds.value(),
            repaired: self.repaired + peer.repaired.value(),
        }
    }
}

/// All peers.
#[derive(Debug, Default)]
pub(in crate::node) struct Peers {
    roster: Mutex<Roster>,
    /// Told whenever the roster is another one. Until it was told, there is none.
    changed: watch::Sender<u64>,
    /// Held by whoever changes the roster.
    changing: sync::Mutex<()>,
    /// Whether this node is about to stop: nobody waits for its feed then.
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Roster {
    peers: BTreeMap<PeerName, Arc<Peer>>,
    /// What is counted of those that are gone: what was counted once does not become less.
    gone: Traffic,
}

impl Roster {
    /// A peer that was on the roster is not any more.
    fn lose(&mut self, peer: Option<Arc<Peer>>) {
        if let Some(peer) = peer {
            self.gone = self.gone.and(&peer);
        }
    }
}

impl Peers {
    /// Begins with these peers.
    pub(super) fn begin(&self, peers: BTreeMap<PeerName, Arc<Peer>>) {
        let mut roster = self.lock();
        for peer in std::mem::replace(&mut roster.peers, peers).into_values() {
            roster.lose(Some(peer));
        }
        drop(roster);
        self.tell();
    }

    /// Whether there is none.
    pub(in crate::node) fn is_empty(&self) -> bool {
        self.lock().peers.is_empty()
    }

    /// Whether nobody shall wait for the feed any more.
    pub(super) fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    /// Says whether somebody may.
    pub(super) fn set_ended(&self, ended: bool) {
        self.ended.send_replace(ended);
    }

    /// Waits until there is a roster.
    pub(super) async fn begun(&self) {
        // The sender lives as long as this.
        drop(self.changed.subscribe().wait_for(|count| 0 < *count).await);
    }

    /// Tells when the roster is another one.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits until nobody else changes the roster.
    pub(super) async fn changing(&self) -> sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Adds a peer, in the place of one of its name.
    pub(super) fn put(&self, peer: Peer) -> Arc<Peer> {
        let peer = Arc::new(peer);
        let mut roster = self.lock();
        let before = roster.peers.insert(peer.options.name.clone(), Arc::clone(&peer));
        roster.lose(before);
        drop(roster);
        self.tell();
        peer
    }

    /// Takes a peer away.
    pub(super) fn remove(&self, name: &PeerName) {
        let mut roster = self.lock();
        let before = roster.peers.remove(name);
        roster.lose(before);
        drop(roster);
        self.tell();
    }

    /// The peer of a name.
    pub(super) fn named(&self, name: &PeerName) -> Option<Arc<Peer>> {
        self.lock().peers.get(name).cloned()
    }

    /// How many are not of the configuration.
    pub(super) fn added(&self) -> usize {
        self.lock().peers.values().filter(|peer| !peer.configured).count()
    }

    /// What all may have that were never met.
    pub(super) fn unmet(&self) -> Terms {
        let unmet = self.all().into_iter().filter(|peer| peer.node().is_none());
        unmet.fold(Terms::open(), |terms, peer| terms.meet(&peer.terms))
    }

    /// Those that are to have what is written to a collection, as nodes, where that is known. Who does not answer
    /// is one of them; who is known to share nothing is not.
    pub(super) fn expected(&self, collection: u64) -> Vec<Option<NodeId>> {
        let shares =
            |peer: &Peer| peer.terms.direction.sends() && peer.terms.scope.holds(collection);
        let peers = self.all().into_iter().filter(|peer| shares(peer) && !peer.is_apart());
        peers.map(|peer| peer.node()).collect()
    }

    /// A node said hello: if it is one that did not answer, it is tried again now.
    pub(super) fn wake(&self, node: NodeId) {
        for peer in self.all().iter().filter(|peer| peer.node() == Some(node)) {
            peer.hello.notify_waiters();
        }
    }

    /// Attends a node by one peer alone.
    ///
    /// # Errors
    /// The name of another one by which it is attended.
    pub(super) fn claim(&self, peer: &Arc<Peer>, node: NodeId) -> Result<(), PeerName> {
        let roster = self.lock();
        let attends =
            |other: &&Arc<Peer>| !Arc::ptr_eq(other, peer) && other.lock().claims == Some(node);
        if let Some(other) = roster.peers.values().find(attends) {
            return Err(other.options.name.clone());
        }
        peer.lock().claims = Some(node);
        Ok(())
    }

    /// One that is this node, if there is one.
    pub(super) fn of(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.all().into_iter().find(|peer| peer.node() == Some(node))
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> Vec<Arc<Peer>> {
        self.lock().peers.values().cloned().collect()
    }

    /// What went to and from all that there are and were.
    pub(super) fn traffic(&self) -> Traffic {
        let roster = self.lock();
        roster.peers.values().fold(roster.gone, |traffic, peer| traffic.and(peer))
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Roster> {
        // Nothing in it panics half way.
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{node::Direction, peer::Error, sync::Reason};

    fn peer() -> Peer {
        let (url, direction) = ("http://b".parse().unwrap(), Direction::Both);
        let name = "b".parse().unwrap();
        let options = PeerOptions { name, url, collections: None, direction };
        Peer::new(options, &SketchKey::derived(b"a secret"), false)
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_differences_are_remembered_and_of_the_rest_rounds_go_on() {
        let peer = peer();
        let found = |count: usize| (0..count as u64).map(|at| (at, at + 1)).collect::<Vec<_>>();
        let sum = |count| found(count).iter().fold(0, |sum, (_, by)| sum ^ by);
        let (whole, most) = (Slice::whole(), UNSETTLED_MAX);
        assert_eq!(peer.to_settle(&whole, &found(most), "why").len(), most);
        assert!(peer.is_known(sum(most)), "all are remembered, and no round runs");
        // What is remembered stays, and is not tried again so soon; what is not is.
        assert_eq!(
            peer.to_settle(&whole, &found(most + 3), "why"),
            [0, 1, 2].map(|n| most as u64 + n)
        );
        assert!(!peer.is_known(sum(most + 3)));
        assert_eq!(peer.status(0, None).unsettled.len(), most);
        assert_eq!(peer.to_settle(&whole, &found(most + 3), "why").len(), 3);
        assert_eq!(peer.to_settle(&whole, &found(2), "why"), [0; 0]);
        assert!(peer.is_known(sum(2)));
    }

    #[test]
    fn what_was_counted_of_a_peer_stays_counted_when_it_is_gone() {
        let peers = Peers::default();
        peers.put(peer()).rounds.add(5);
        peers.put(peer()).rounds.add(2);
        assert_eq!(peers.traffic().rounds, 7);
        peers.remove(&"b".parse().unwrap());
        assert_eq!((peers.traffic().rounds, peers.all().len()), (7, 0));
        peers.begin(BTreeMap::new());
        assert_eq!(peers.traffic().rounds, 7);
    }

    #[test]
    fn one_that_lags_is_not_said_to_be_in_sync() {
        let peer = peer();
        let said = |lag| peer.status(lag, None).in_sync;
        assert_eq!([0, 1].map(said), [None, None]);
        peer.set_in_sync(Some(true));
        assert_eq!([0, 1].map(said), [Some(true), None]);
        peer.set_in_sync(Some(false));
        assert_eq!([0, 1].map(said), [Some(false), Some(false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_one_that_was_not_reached_is_tried_again_when_it_says_hello() {
        let peers = Peers::default();
        let peer = peers.put(peer());
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
            for trouble in [
                Trouble::Peer(Error::Timeout),
                Trouble::refuses(Reason::NotShared.because("nothing")),
            ] {
                let began = Instant::now();
                peer.rest(&trouble, Duration::from_secs(30)).await;
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
