//! The other nodes of the cluster, as this one knows them.

use super::{
    Ambient,
    member::{Member, Terms},
    replicate::Turns,
    rivals::Rivals,
};
use crate::{
    ident::{Cursor, DocumentId, IncarnationId, NodeId},
    metric::Counter,
    sync::{Envelope, Hello, Link, MemberKey, Replays, Scope},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Most nodes of which anything is remembered.
const MEMBERS_MAX: usize = 1024;

/// Most starts of nodes whose requests are told from repeated ones; the last are.
const STARTS_MAX: usize = 4096;

/// How often it is told at most that a request is not sealed by a member.
const UNSEALED_PAUSE: Duration = Duration::from_secs(60);

/// Most of those who look on that are known at once; the last are.
const ONLOOKERS_MAX: usize = 64;

/// All of them.
#[derive(Debug)]
pub(super) struct Members {
    /// What requests are sealed with.
    pub(super) key: MemberKey,
    node: NodeId,
    incarnation: IncarnationId,
    requests: AtomicU64,
    /// Bytes of changes that are on their way through the gate.
    pub(super) inbox_bytes: AtomicUsize,
    /// Changes that came and were new.
    pub(super) taken: Counter,
    /// Changes that came and were here already.
    pub(super) held: Counter,
    known: Mutex<Known>,
    /// Told whenever this node would say another hello.
    changed: watch::Sender<u64>,
    /// Told whenever a member is known to hold more.
    acknowledged: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    members: BTreeMap<NodeId, Member>,
    /// What is configured of nodes that were met.
    terms: BTreeMap<NodeId, Terms>,
    replays: BTreeMap<IncarnationId, Replays>,
    /// In the order in which they were first heard.
    starts: VecDeque<IncarnationId>,
    /// Those who neither send nor take: they are told what is here, and are no members.
    onlookers: VecDeque<Member>,
    /// Of every node that said hello.
    rivals: BTreeMap<NodeId, Rivals>,
    /// Counts what was heard.
    heard: u64,
    /// When it was told last that a request was not sealed by a member.
    unsealed: Option<Instant>,
}

impl Known {
    /// Takes note that a start of a node was heard, if that is known.
    fn hear(&mut self, node: NodeId, start: IncarnationId) {
        self.heard += 1;
        if let Some(rivals) = self.rivals.get_mut(&node) {
            rivals.heard = self.heard;
            rivals.hear(start);
        }
    }

    /// Makes room for one more node, in place of the one that was not heard for longest of those that
    /// are neither configured nor pushed to. `false`: there is none.
    fn make_room(&mut self) -> bool {
        while MEMBERS_MAX <= self.rivals.len() {
            let linked = |node: &NodeId| self.members.get(node).is_some_and(|member| member.linked);
            let may_go = |node: &NodeId| !self.terms.contains_key(node) && !linked(node);
            let nodes = self.rivals.iter().filter(|(node, _)| may_go(node));
            let longest = nodes.min_by_key(|(_, rivals)| rivals.heard).map(|(node, _)| *node);
            let Some(node) = longest else { return false };
            self.rivals.remove(&node);
            self.members.remove(&node);
        }
        true
    }
}

/// Whether a start of a node is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It is.
    Open,
    /// It is one of two that run on copies of the same data, and the other has their id.
    Twin,
    /// As many nodes as may be are known, and none can be forgotten.
    Full,
}

impl Known {
    /// Forgets one of too many starts: the first that is no member's present one.
    fn forget_a_start(&mut self) {
        let Self { members, starts, replays, .. } = self;
        if starts.len() <= STARTS_MAX {
            return;
        }
        let present = |start: &IncarnationId| {
            members.values().any(|member| member.hello.incarnation == *start)
        };
        let place = starts.iter().position(|start| !present(start)).unwrap_or(0);
        if let Some(start) = starts.remove(place) {
            replays.remove(&start);
        }
    }
}

impl Members {
    pub(super) fn new(key: MemberKey, node: NodeId, incarnation: IncarnationId) -> Self {
        Self {
            key,
            node,
            incarnation,
            requests: AtomicU64::new(0),
            inbox_bytes: AtomicUsize::new(0),
            taken: Counter::default(),
            held: Counter::default(),
            known: Mutex::default(),
            changed: watch::Sender::new(0),
            acknowledged: watch::Sender::new(0),
        }
    }

    /// An envelope for the next request, not sealed yet.
    pub(super) fn envelope(&self, to: Option<IncarnationId>) -> Envelope {
        Envelope {
            node: self.node,
            from: self.incarnation,
            to: to.unwrap_or(IncarnationId::from_bytes([0; 16])),
            number: self.requests.fetch_add(1, Ordering::Relaxed) + 1,
            seal: [0; 32],
        }
    }

    /// Takes note of a request. `false`: it was heard before, or its time is over.
    pub(super) fn hear(&self, envelope: &Envelope) -> bool {
        let mut known = self.lock();
        if !known.replays.contains_key(&envelope.from) {
            known.starts.push_back(envelope.from);
            known.forget_a_start();
        }
        let fresh = known.replays.entry(envelope.from).or_default().hear(envelope.number);
        // What is said to anybody may have been said long ago, and be said again by somebody else.
        if fresh && envelope.to == self.incarnation {
            known.hear(envelope.node, envelope.from);
        }
        fresh
    }

    /// Takes note of an answer.
    pub(super) fn hear_answer(&self, node: NodeId, start: IncarnationId) {
        self.lock().hear(node, start);
    }

    /// A request came that no member has sealed. Whether it is time to tell so.
    pub(super) fn is_unsealed_told(&self) -> bool {
        let (now, mut known) = (Instant::now(), self.lock());
        let due = known.unsealed.is_none_or(|told| told + UNSEALED_PAUSE <= now);
        if due {
            known.unsealed = Some(now);
        }
        due
    }

    /// What is configured of a node, if it was met by that.
    pub(super) fn terms(&self, node: NodeId) -> Option<Terms> {
        self.lock().terms.get(&node).cloned()
    }

    /// A start of a node says hello. Who was started again says hello no more.
    pub(super) fn let_in(&self, node: NodeId, start: IncarnationId) -> Entry {
        let mut known = self.lock();
        if !known.rivals.contains_key(&node) && !known.make_room() {
            return Entry::Full;
        }
        let rivals = known.rivals.entry(node).or_default();
        let before = rivals.refused();
        let lets_in = rivals.lets_in(start);
        if before < rivals.refused()
            && let Some(refused) = rivals.twin()
        {
            tracing::error!(%node, %refused, "two nodes run on copies of the same data");
        }
        known.hear(node, start);
        if lets_in { Entry::Open } else { Entry::Twin }
    }

    /// A start of a node that is refused, since another one has its id.
    pub(super) fn clone_of(&self, node: NodeId) -> Option<IncarnationId> {
        self.lock().rivals.get(&node)?.twin()
    }

    /// Takes note of which node a configured peer is.
    pub(super) fn meet(&self, node: NodeId, terms: Terms) {
        let before = self.lock().terms.insert(node, terms.clone());
        if before != Some(terms) {
            self.tell();
        }
    }

    /// Forgets what was configured of a node.
    pub(super) fn part(&self, node: NodeId) {
        if self.lock().terms.remove(&node).is_some() {
            self.tell();
        }
    }

    /// Takes note of a hello, and gives what both share. `kept`: the cursor that is stored of the node.
    pub(super) fn greet(&self, hello: Hello, mine: &Scope, kept: Option<Cursor>) -> Member {
        let mut known = self.lock();
        known.onlookers.retain(|onlooker| onlooker.hello.node != hello.node);
        let member = match known.members.get(&hello.node) {
            Some(before) => before.greeted(hello, mine),
            None => Member::new(hello, mine, kept),
        };
        known.members.insert(member.hello.node, member.clone());
        // It may have been forgotten since it was let in.
        known.rivals.entry(member.hello.node).or_default();
        member
    }

    /// Takes note of a hello of one who looks on, in the place of its last one.
    pub(super) fn look_on(&self, hello: Hello, mine: &Scope) -> Member {
        let onlooker = Member::new(hello, mine, None);
        let mut known = self.lock();
        known.onlookers.retain(|other| other.hello.node != onlooker.hello.node);
        known.onlookers.push_back(onlooker.clone());
        while ONLOOKERS_MAX < known.onlookers.len() {
            known.onlookers.pop_front();
        }
        onlooker
    }

    /// What is known of one who looks on.
    pub(super) fn onlooker(&self, node: NodeId) -> Option<Member> {
        self.lock().onlookers.iter().find(|onlooker| onlooker.hello.node == node).cloned()
    }

    /// What is known of a node.
    pub(super) fn member(&self, node: NodeId) -> Option<Member> {
        self.lock().members.get(&node).cloned()
    }

    /// The turns of the batches that a node sends.
    pub(super) fn turns(&self, node: NodeId) -> Arc<Turns> {
        self.lock().members.get(&node).map(|member| Arc::clone(&member.turns)).unwrap_or_default()
    }

    /// Changes what is known of a node.
    pub(super) fn update(&self, node: NodeId, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.lock().members.get_mut(&node) {
            change(member);
        }
    }

    /// A member is told this node's feed from a seq on, up to another one by whole documents.
    pub(super) fn tell_from(&self, node: NodeId, seq: u64, whole_until: u64) {
        self.update(node, |member| member.tell_from(seq, whole_until));
    }

    /// Takes note of how far a member has taken in this node's feed, and of what it lacks of that.
    pub(super) fn acknowledge(&self, node: NodeId, seq: u64, lacks: &[DocumentId]) {
        self.update(node, |member| member.acknowledge(seq, lacks));
        self.acknowledged.send_modify(|count| *count += 1);
    }

    /// A member asks for this node's feed. `taken`: up to where it holds what it was told since it began to
    /// ask, but for what it `lacks`; none: it begins, behind a seq, up to another one by whole documents.
    pub(super) fn ask(
        &self,
        node: NodeId,
        (after, whole_until): (u64, u64),
        taken: Option<u64>,
        lacks: &[DocumentId],
    ) {
        let mut asked = false;
        self.update(node, |member| asked = member.ask());
        match taken.filter(|_| asked) {
            Some(seq) => self.acknowledge(node, seq, lacks),
            None => self.tell_from(node, after, whole_until),
        }
    }

    /// Told whenever a member is known to hold more.
    pub(super) fn acknowledgements(&self) -> watch::Receiver<u64> {
        self.acknowledged.subscribe()
    }

    /// How many nodes share a collection, and how many of them hold a document of it as it was committed last,
    /// at `seq`, with a change of this node's `own` or without.
    ///
    /// Those that hear what is written here share it, and those that are `expected`, though they do not hear it
    /// now: which nodes they are, as far as that is known. One that is not may be any that hears.
    pub(super) fn confirmed(
        &self,
        collection: u64,
        (id, seq): (DocumentId, u64),
        own: bool,
        expected: &[Option<NodeId>],
    ) -> (usize, usize) {
        let known = self.lock();
        let shares = |member: &&Member| member.hello.takes && member.scope.holds(collection);
        let hearing = known.members.values().filter(shares).filter(|member| member.hears());
        let hearing: BTreeMap<NodeId, &Member> =
            hearing.map(|member| (member.hello.node, member)).collect();
        let met: BTreeSet<NodeId> = expected.iter().flatten().copied().collect();
        let deaf = met.iter().filter(|node| !hearing.contains_key(*node));
        let deaf = deaf.filter(|node| known.members.get(node).as_ref().is_none_or(shares)).count();
        let strangers = hearing.keys().filter(|node| !met.contains(*node)).count();
        let unmet = expected.iter().filter(|node| node.is_none()).count();
        let has = |member: &&&Member| member.has(id, seq, own);
        let confirmed = hearing.values().filter(has).count();
        (hearing.len() + deaf + unmet.saturating_sub(strangers), confirmed)
    }

    /// Takes note of a member that sums up to the same, with all that was committed here up to a seq.
    pub(super) fn set_equal(&self, node: NodeId, seq: u64) {
        self.update(node, |member| member.set_equal(seq));
        self.acknowledged.send_modify(|count| *count += 1);
    }

    /// Takes note of whether the last push to a node was taken.
    pub(super) fn link(&self, node: NodeId, linked: bool) {
        let mut changed = false;
        self.update(node, |member| changed = member.link(linked));
        if changed {
            self.tell();
        }
    }

    /// To whom this node pushes, but for `except`.
    pub(super) fn links(&self, except: NodeId) -> Vec<Link> {
        let known = self.lock();
        let linked =
            known.members.iter().filter(|(node, member)| **node != except && member.linked);
        Link::told(linked.map(|(node, member)| Link { node: *node, scope: member.scope.clone() }))
    }

    /// Whether a node pushes what is written there to another one, of a collection.
    pub(super) fn is_linked(&self, from: NodeId, to: NodeId, collection: u64) -> bool {
        let known = self.lock();
        let links = known.members.get(&from).map(|member| &member.hello.links);
        links.is_some_and(|links| {
            links.iter().any(|link| link.node == to && link.scope.holds(collection))
        })
    }

    /// Tells when this node would say another hello.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing in it panics half way.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number below `end`, by chance.
pub(super) fn below(ambient: &Ambient, end: u64) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&ambient.chance()[..8]);
    u64::from_le_bytes(word).checked_rem(end).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::member::tests::hello;
    use tokio::time::advance;

    #[test]
    fn of_too_many_nodes_the_one_unheard_longest_is_forgotten() {
        let id = |number: usize| (number as u128 + 10).to_be_bytes();
        let node = |number| NodeId::from_bytes(id(number));
        let start = |number| IncarnationId::from_bytes(id(number));
        let members = Members::new(MemberKey::derived(b"a secret"), node(9_999), start(9_999));
        let comes = |number| {
            let entry = members.let_in(node(number), start(number));
            if entry == Entry::Open {
                let hello = Hello { node: node(number), incarnation: start(number), ..hello(1) };
                members.greet(hello, &Scope::All, None);
            }
            entry
        };
        let count = || {
            let known = members.lock();
            (known.members.len(), known.rivals.len())
        };
        for number in 0..MEMBERS_MAX {
            assert_eq!(comes(number), Entry::Open);
        }
        // The first is configured, the second pushed to, and the third is heard again.
        members.meet(node(0), Terms::open());
        members.link(node(1), true);
        let to = start(9_999);
        members.hear(&Envelope { node: node(2), from: start(2), to, number: 1, seal: [0; 32] });
        assert_eq!(comes(MEMBERS_MAX), Entry::Open);
        assert_eq!(count(), (MEMBERS_MAX, MEMBERS_MAX));
        let known =
            [0, 1, 2, 3, 4, MEMBERS_MAX].map(|number| members.member(node(number)).is_some());
        assert_eq!(known, [true, true, true, false, true, true]);
        for number in 2..=MEMBERS_MAX {
            members.meet(node(number), Terms::open());
        }
        assert_eq!(comes(MEMBERS_MAX + 1), Entry::Full);
        assert_eq!(comes(4), Entry::Open, "whoever is known comes back");
        members.part(node(4));
        assert_eq!(comes(MEMBERS_MAX + 1), Entry::Open);
        assert!(members.member(node(4)).is_none());
        assert_eq!(count(), (MEMBERS_MAX, MEMBERS_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_twin_is_refused_as_long_as_the_other_asks_or_answers_and_no_longer() {
        let node = |byte| NodeId::from_bytes([byte; 16]);
        let start = |byte| IncarnationId::from_bytes([byte; 16]);
        let members = Members::new(MemberKey::derived(b"a secret"), node(9), start(9));
        let comes = |byte| members.let_in(node(1), start(byte));
        let entries = [1, 2, 1, 2, 1, 2].map(comes);
        assert_eq!(entries[4..], [Entry::Open, Entry::Twin]);
        let (from, to) = (start(1), start(9));
        let request = Envelope { node: node(1), from, to, number: 1, seal: [0; 32] };
        for heard in 1..7 {
            advance(Duration::from_secs(40)).await;
            match heard % 2 {
                1 => assert!(members.hear(&Envelope { number: heard, ..request })),
                _ => members.hear_answer(node(1), start(1)),
            }
            assert_eq!(comes(2), Entry::Twin, "{heard}");
        }
        advance(Duration::from_secs(40)).await;
        // Neither what is said again, nor what is said to anybody, was said now.
        assert!(!members.hear(&request));
        let anybody = IncarnationId::from_bytes([0; 16]);
        members.hear(&Envelope { to: anybody, number: 7, ..request });
        members.hear_answer(node(1), start(2));
        advance(Duration::from_secs(20)).await;
        assert_eq!(comes(2), Entry::Open);
    }

    #[test]
    fn a_members_requests_are_told_from_repeated_ones_however_many_look_on() {
        let (own, start) = (NodeId::from_bytes([9; 16]), IncarnationId::from_bytes([9; 16]));
        let members = Members::new(MemberKey::derived(b"a secret"), own, start);
        let heard = |from: u128| {
            let from = IncarnationId::from_bytes(from.to_be_bytes());
            members.hear(&Envelope { from, number: 1, ..members.envelope(None) })
        };
        let hello = hello(1);
        let first = u128::from_be_bytes(hello.incarnation.to_bytes());
        members.greet(hello.clone(), &Scope::All, None);
        assert!(heard(first));
        for other in 0..2 * STARTS_MAX as u128 {
            assert!(heard(other));
            let node = NodeId::from_bytes(other.to_be_bytes());
            members.look_on(Hello { node, ..hello.clone() }, &Scope::All);
        }
        assert!(!heard(first), "it is remembered");
        assert!(heard(0), "this one is not");
        let known = members.lock();
        assert_eq!((known.onlookers.len(), known.members.len()), (ONLOOKERS_MAX, 1));
        assert_eq!((known.starts.len(), known.replays.len()), (STARTS_MAX, STARTS_MAX));
    }
}
