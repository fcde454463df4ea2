//! One peer, as long as it answers: hello, a beat every few seconds, and what goes both ways meanwhile.

use super::{pace::Pace, peers::Peer, round::Weather, trouble::Trouble};
use crate::{
    ident::{DocumentId, IncarnationId, Name, NodeId},
    node::{
        Error, Node,
        member::{Member, Terms},
        members::{Entry, below},
    },
    peer::{self, Client},
    sync::{Beat, Cell, DecodeError, Hello, Reason, Scope, SetId},
};
use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

/// How often a peer is told that this node is there.
const BEAT: Duration = Duration::from_secs(5);
/// Shortest pause before a peer that failed is tried again.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Longest wait for an answer.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(30);

/// A peer that answers.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) node: Node,
    pub(super) peer: Arc<Peer>,
    client: Client,
    /// Which node it is.
    pub(super) id: NodeId,
    /// Which start of it.
    pub(super) start: IncarnationId,
    /// What both share.
    pub(super) scope: Scope,
    /// What was taken of its feed, where that is asked for.
    pub(super) took: Mutex<Took>,
}

/// Up to where all is held of what a peer told since this session began to ask, but for some documents.
#[derive(Debug, Default)]
pub(super) struct Took {
    pub(super) seq: Option<u64>,
    /// Those of which the peer has yet to be told.
    pub(super) lacks: Vec<DocumentId>,
}

/// Why a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// There is no going on for now.
    Failed(Trouble),
    /// Both agree on something else now, or the peer was started again.
    Renewed,
}

impl From<peer::Error> for End {
    fn from(error: peer::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<DecodeError> for End {
    fn from(error: DecodeError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Node {
    /// Waits until so many peers hold a document as it is now, durably, or for a time; gives how many do. It
    /// waits for as many as there are: those of the roster, though they are down, and those that ask for the
    /// feed.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn replicated(
        &self,
        name: &Name,
        count: usize,
        wait: Duration,
    ) -> Result<usize, Error> {
        let mut held = self.members().acknowledgements();
        let (mut members, mut roster) = (self.members().changes(), self.peers().changes());
        let (store, id) = (Arc::clone(self.store()), name.id());
        let head = self.blocking(move || Ok(store.head(id)?)).await?;
        let (seq, own_seq) = head.map_or((0, 0), |(_, head)| (head.seq, head.own_seq));
        let collection = self.ledger().key().collection(name.collection());
        let until = Instant::now() + wait;
        loop {
            let expected = self.peers().expected(collection);
            let (sharing, confirmed) =
                self.members().confirmed(collection, (id, seq), seq == own_seq, &expected);
            if count.min(sharing) <= confirmed || until <= Instant::now() {
                return Ok(confirmed);
            }
            // The senders live as long as this node.
            tokio::select! {
                biased;
                _ = held.changed() => {}
                _ = members.changed() => {}
                _ = roster.changed() => {}
                () = time::sleep_until(until) => {}
            }
        }
    }

    /// The terms with a node. One that is not known yet may be any of those that were not met yet: it is
    /// given what all of these may have.
    pub(super) fn agreed(&self, node: NodeId) -> Terms {
        self.members().terms(node).unwrap_or_else(|| self.peers().unmet())
    }

    /// What this node says of itself to a peer.
    pub(super) async fn hello_for(
        &self,
        to: Option<NodeId>,
        terms: &Terms,
        drives: bool,
        scope: &Scope,
    ) -> Result<Hello, Error> {
        if !scope.is_empty() {
            self.sum_up(scope).await?;
        }
        let nobody = NodeId::from_bytes([0; 16]);
        let set = scope.set(self.ledger().key());
        let mut hello = Hello {
            node: self.id(),
            incarnation: self.incarnation(),
            key: self.ledger().key().id(),
            scope: terms.scope.clone(),
            sends: drives && terms.direction.sends(),
            takes: terms.direction.takes(),
            links: self.members().links(to.unwrap_or(nobody)),
            documents: 0,
            beat: Beat { seq: 0, cursor: None, told: 0, set, root: Cell::default(), state: 0 },
        };
        let digest = blake3::hash(&hello.encode());
        let mut state = [0; 8];
        state.copy_from_slice(&digest.as_bytes()[..8]);
        hello.documents = self.ledger().root(set).map_or(0, |(_, documents)| documents);
        hello.beat = self.beat_for(to, set, u64::from_le_bytes(state)).await?;
        Ok(hello)
    }

    /// How this node stands towards a peer.
    async fn beat_for(&self, to: Option<NodeId>, set: SetId, state: u64) -> Result<Beat, Error> {
        let member = to.and_then(|to| self.members().member(to));
        let cursor = match (&member, to) {
            (Some(member), _) => member.cursor,
            (None, Some(to)) => self.kept_cursor(to).await?,
            (None, None) => None,
        };
        let told = member.filter(|member| member.linked).map_or(0, |member| member.acknowledged);
        // Before the sum: all that was committed up to there is in it.
        let seq = self.store().last_seq();
        let root = self.ledger().root(set).map(|(root, _)| root).unwrap_or_default();
        Ok(Beat { seq, cursor, told, set, root, state })
    }

    /// What this node would say to a member now.
    pub(super) async fn hello_to(&self, member: &Member) -> Result<Hello, Error> {
        let id = member.hello.node;
        // Whoever is configured and not reached from here has to ask, and to look for what differs.
        let drives = self.members().member(id).is_some_and(|member| member.linked);
        self.hello_for(Some(id), &self.agreed(id), drives, &member.scope).await
    }

    /// Has the sketch of a scope made, if there is none yet.
    async fn sum_up(&self, scope: &Scope) -> Result<(), Error> {
        if self.ledger().root(scope.set(self.ledger().key())).is_some() {
            return Ok(());
        }
        let (node, scope) = (self.clone(), scope.clone());
        let made = self.blocking(move || Ok(node.ledger().make(&scope, node.store())?)).await?;
        if made { Ok(()) } else { Err(Error::Stalled) }
    }
}

/// How long a peer that failed is let alone: longer each time, until it is well again.
#[derive(Debug)]
struct Pauses {
    next: Duration,
    /// Which start of the peer was met last.
    met: Option<IncarnationId>,
}

impl Pauses {
    const fn new() -> Self {
        Self { next: PAUSE_MIN, met: None }
    }

    /// Takes note of an attempt that lasted so long, and met this start of the peer. One that was started anew
    /// since is well, be it for a moment.
    fn note(&mut self, lasted: Duration, met: Option<IncarnationId>) {
        if BEAT < lasted || (met.is_some() && met != self.met) {
            self.next = PAUSE_MIN;
        }
        self.met = met.or(self.met);
    }

    fn take(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

/// Keeps up with a peer for ever.
pub(super) async fn attend(node: Node, peer: Arc<Peer>, client: Client) {
    let mut pauses = Pauses::new();
    loop {
        let began = Instant::now();
        // Before it says hello: what changes behind that is not missed.
        let changes = node.members().changes();
        let (end, met) = match greet(&node, &peer, &client).await {
            Ok(session) => {
                let end = session.run(changes).await;
                node.members().link(session.id, false);
                (end, Some(session.start))
            }
            Err(end) => (end, None),
        };
        peer.release();
        pauses.note(began.elapsed(), met);
        let jitter = Duration::from_millis(below(node.ambient(), 100));
        match end {
            End::Failed(trouble) => {
                let pause = pauses.take() + jitter;
                peer.failed(&trouble, pause);
                peer.rest(&trouble, pause).await;
            }
            End::Renewed => time::sleep(PAUSE_MIN + jitter).await,
        }
    }
}

/// Says hello, and hears it.
async fn greet(node: &Node, peer: &Arc<Peer>, client: &Client) -> Result<Session, End> {
    let known = peer.node();
    let scope = known.and_then(|known| node.members().member(known)).map(|member| member.scope);
    let scope = scope.unwrap_or_else(|| peer.terms.scope.clone());
    let mine = node.hello_for(known, &peer.terms, true, &scope).await?;
    let (members, mine) = (node.members(), mine.encode());
    let say = async |to| -> Result<Hello, End> {
        let envelope = (&members.key, members.envelope(to));
        let url = (&peer.options.url, &peer.wire);
        let told = client.ask(url, "/_peer/hello", envelope, mine.clone(), ANSWER_TIME).await?;
        Ok(Hello::decode(&told)?)
    };
    // Only what is said to one start of one node counts there: it cannot be said again elsewhere, or later.
    let anybody = say(None).await?;
    members.hear_answer(anybody.node, anybody.incarnation);
    let hello = say(Some(anybody.incarnation)).await?;
    if hello.node == node.id() {
        let why = "it is this very node".to_owned();
        return Err(peer::Error::Senseless(why).into());
    }
    let id = hello.node;
    let refused = match members.let_in(id, hello.incarnation) {
        Entry::Open => None,
        Entry::Twin => {
            let why = "it runs on a copy of another node's data: start it with --new-node";
            Some(Reason::Clone.because(why))
        }
        Entry::Full => Some(Reason::Busy.because("this node knows as many others as it may")),
    };
    if let Some(refused) = refused {
        return Err(End::Failed(Trouble::refuses(refused)));
    }
    if let Some(before) = peer.meet(id) {
        node.part(before);
    }
    node.peers().claim(peer, id).map_err(|other| End::Failed(Trouble::SameNode(other)))?;
    members.meet(id, peer.terms.clone());
    let kept = node.kept_cursor(id).await?;
    let member = members.greet(hello, &peer.terms.scope, kept);
    if member.scope.is_empty() {
        let why = "both are told to share other collections";
        return Err(End::Failed(Trouble::refuses(Reason::NotShared.because(why))));
    }
    peer.heard(id, node.ambient().unix_ms());
    node.sum_up(&member.scope).await?;
    let (start, scope) = (member.hello.incarnation, member.scope);
    let (node, peer, client) = (node.clone(), Arc::clone(peer), client.clone());
    Ok(Session { node, peer, client, id, start, scope, took: Mutex::default() })
}

impl Session {
    /// Runs until the peer fails.
    async fn run(&self, changes: watch::Receiver<u64>) -> End {
        if self.sends() {
            self.node.members().link(self.id, true);
        }
        let push = async { if self.sends() { self.push().await } else { pending().await } };
        let takes = self.peer.terms.direction.takes();
        let pull = async { if takes { self.pull().await } else { pending().await } };
        let Err(end) = tokio::select! {
            biased;
            end = self.beats(changes) => end,
            end = push => end,
            end = pull => end,
            never = self.overhear() => Ok(never),
        };
        end
    }

    /// Whether changes go to the peer.
    pub(super) fn sends(&self) -> bool {
        let takes = self.node.members().member(self.id).is_some_and(|member| member.hello.takes);
        takes && self.peer.terms.direction.sends()
    }

    /// Asks the peer.
    pub(super) async fn ask(
        &self,
        path: &'static str,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<bytes::Bytes, peer::Error> {
        let members = self.node.members();
        let envelope = (&members.key, members.envelope(Some(self.start)));
        let to = (&self.peer.options.url, &self.peer.wire);
        let told = self.client.ask(to, path, envelope, body, within).await;
        if matches!(told, Ok(_) | Err(peer::Error::Refused(_))) {
            members.hear_answer(self.id, self.start);
        }
        let told = told?;
        self.peer.heard(self.id, self.node.ambient().unix_ms());
        Ok(told)
    }

    /// What is known of the peer.
    pub(super) fn member(&self) -> Result<Member, End> {
        let member = self.node.members().member(self.id);
        let same =
            |member: &Member| member.hello.incarnation == self.start && member.scope == self.scope;
        member.filter(same).ok_or(End::Renewed)
    }

    /// Tells the peer that this node is there, hears the same, and runs a round where they differ.
    async fn beats(&self, mut changes: watch::Receiver<u64>) -> Result<Infallible, End> {
        let (mut pace, mut greeted) = (Pace::new(), false);
        // Where both feeds ended; at first, what both said when they met.
        let mut before =
            self.member().ok().map(|member| (self.node.store().last_seq(), member.hello.beat.seq));
        loop {
            let member = self.member()?;
            let mine = self.node.hello_to(&member).await?;
            let told = self.ask("/_peer/heartbeat", mine.beat.encode(), ANSWER_TIME).await?;
            let theirs = Beat::decode(&told)?;
            let state = member.hello.beat.state;
            let difference = mine.beat.root.plus(theirs.root);
            self.node.members().update(self.id, |member| {
                member.hello.beat = Beat { state, ..theirs.clone() };
            });
            if theirs.state != state {
                if greeted {
                    // It says one thing and beats for another.
                    time::sleep(BEAT).await;
                }
                greeted = true;
                self.greet_again(&member).await?;
                pace.hurry();
                continue;
            }
            greeted = false;
            let same = mine.beat.set == theirs.set;
            self.peer.set_in_sync(same.then_some(difference.is_zero()));
            if same && difference.is_zero() {
                self.node.members().set_equal(self.id, mine.beat.seq);
            }
            let acknowledged = self.member()?.acknowledged;
            self.peer.set_lagging(self.sends() && acknowledged < mine.beat.seq);
            let due = pace.is_due() && !self.peer.is_known(difference.sum());
            if same && !difference.is_zero() && due && self.leads(&member) {
                let moving = before != Some((mine.beat.seq, theirs.seq));
                self.round(Weather { moving, early: pace.is_early() }).await?;
                pace.ran(|most| below(self.node.ambient(), most));
            }
            before = Some((mine.beat.seq, theirs.seq));
            let equal = same && difference.is_zero();
            if equal && self.leads(&member) && self.peer.is_audit_due(&self.node) {
                self.audit().await?;
            }
            tokio::select! {
                biased;
                () = time::sleep(BEAT) => {}
                _ = changes.changed() => {
                    let member = self.member()?;
                    self.greet_again(&member).await?;
                    // Who told either of both may have died half way.
                    pace.hurry();
                }
            }
        }
    }

    /// Whether this side runs the rounds: one of both does, and who is not told of the other cannot.
    fn leads(&self, member: &Member) -> bool {
        !member.hello.sends || self.node.id() < self.id
    }

    /// Says hello again. Where both agree on something else now, the session ends.
    async fn greet_again(&self, before: &Member) -> Result<(), End> {
        let mine = self.node.hello_to(before).await?;
        let told = self.ask("/_peer/hello", mine.encode(), ANSWER_TIME).await?;
        let hello = Hello::decode(&told)?;
        let same = (&hello.scope, hello.takes) == (&before.hello.scope, before.hello.takes);
        if hello.incarnation != self.start || !same {
            return Err(End::Renewed);
        }
        self.node.members().greet(hello, &self.peer.terms.scope, None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_was_started_again_or_stayed_is_tried_soon() {
        let [first, second] = [1, 2].map(|of| Some(IncarnationId::from_bytes([of; 16])));
        let mut pauses = Pauses::new();
        let moment = Duration::from_millis(1);
        let mut seconds = |lasted, met| {
            pauses.note(lasted, met);
            pauses.take().as_secs_f64()
        };
        // It is not there, longer and longer.
        let down: Vec<f64> = (0..10).map(|_| seconds(moment, None)).collect();
        assert_eq!(down, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]);
        // It was started, and is gone at once.
        assert_eq!(seconds(moment, first), 0.1);
        assert_eq!(seconds(moment, None), 0.2);
        // The same start fails again and again.
        assert_eq!(seconds(moment, first), 0.4);
        assert_eq!(seconds(moment, first), 0.8);
        assert_eq!(seconds(moment, second), 0.1);
        assert_eq!(seconds(moment, second), 0.2);
        // It stayed.
        assert_eq!(seconds(BEAT + moment, second), 0.1);
    }
}
