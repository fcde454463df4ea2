//! How far a peer and this node agree on one document: Automerge's sync protocol (Kleppmann and Howard
//! 2020, "Byzantine eventual consistency and the fundamental limits of peer-to-peer databases"), without
//! its hand on the document.
//!
//! What Automerge does when it receives a message is done in two halves: the changes are admitted by
//! whoever owns the document, and [`Share::hear`] learns the rest. What is said is Automerge's own, but
//! for two filters that it need not send:
//!
//! - A peer that names what both shared when they last met is believed, as far as it is held here: no
//!   filter of the whole history goes to one that has written since.
//! - Behind a whole document there is nothing that the peer would lack: the filter that goes with it is
//!   empty.
//!
//! And changes that wait for others wait beside the document, of which Automerge does not know: what they
//! wait for is asked for here.

use super::Incoming;
use crate::{
    doc::Document,
    ident::{Hash, Version},
};
use automerge::{
    ChangeHash,
    sync::{Capability, Have, Message, MessageFlags, MessageVersion, State, SyncDoc},
};

/// How often the same is said to a peer that says the same. It holds changes that are not taken here; in
/// the protocol each would answer the other for ever.
const REPEATS_MAX: u8 = 2;

/// What one peer and this node know of each other's copy of one document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    state: State,
    /// What changes rest on that came from the peer and wait here for it.
    missing: Vec<ChangeHash>,
    /// What the peer said last, and how often in a row.
    last: [u8; 32],
    repeats: u8,
    /// The heads of the document when something was said last.
    said: Vec<ChangeHash>,
}

impl Share {
    /// Nothing is known yet, and the peer may write.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is known yet, and the peer may read alone.
    pub fn read_only() -> Self {
        Self { state: State::new_read_only(), ..Self::default() }
    }

    /// Whether the peer's changes are not taken.
    pub fn is_read_only(&self) -> bool {
        self.state.read_only
    }

    /// Whether there is nothing to say to the peer of a document at this version.
    pub fn is_settled(&self, version: &Version) -> bool {
        let heads = heads_of(version);
        self.state.have_responded && self.agrees(&heads) && self.state.last_sent_heads == heads
    }

    /// Whether the peer holds nothing and can take a whole document: then [`Share::say_whole`] serves it.
    pub fn wants_all(&self) -> bool {
        let whole = |known: &Vec<Capability>| known.contains(&Capability::MessageV2);
        self.state.their_heads.as_ref().is_some_and(Vec::is_empty)
            && self.state.their_capabilities.as_ref().is_some_and(whole)
    }

    /// Whether the peer, when it spoke last, held nothing that is not here.
    pub fn holds_no_more_than(&self, document: &Document) -> bool {
        let heads = self.state.their_heads.iter().flatten();
        heads.copied().all(|head| document.holds_change(&Hash::from_bytes(head.0)))
    }

    /// Whether all was said of this version, as often as it is said to a peer that says the same.
    pub fn has_said(&self, version: &Version) -> bool {
        REPEATS_MAX < self.repeats && heads_of(version) == self.said
    }

    /// Whether the peer held what `version` names when it spoke last, and asked for nothing.
    fn agrees(&self, heads: &[ChangeHash]) -> bool {
        self.state.their_heads.as_deref() == Some(heads)
            && self.state.their_need.as_ref().is_some_and(Vec::is_empty)
    }

    /// Learns from a message whose changes have been admitted, or were refused. `missing`: what the document
    /// lacks of what those rest on that wait beside it.
    pub fn hear(&mut self, incoming: Incoming, missing: &[Hash], document: &Document) {
        self.missing = missing.iter().map(|hash| ChangeHash(hash.to_bytes())).collect();
        let holds = |hash: &ChangeHash| document.holds_change(&Hash::from_bytes(hash.0));
        self.learn(incoming, &document.version(), holds);
    }

    /// The same of a message that says that its sender holds what this node does, or nothing at all: for it
    /// the document need not be at hand. `false` and nothing learned: it is another message.
    pub fn hear_unseen(&mut self, incoming: &Incoming, version: &Version) -> bool {
        let message = incoming.message();
        let heads = heads_of(version);
        let equal = !heads.is_empty() && message.heads == heads;
        let empty =
            message.heads.is_empty() && message.have.iter().all(|have| have.last_sync.is_empty());
        if !(equal || empty) || !message.need.is_empty() || !message.changes.is_empty() {
            return false;
        }
        self.missing.clear();
        self.learn(incoming.clone(), version, |hash| heads.contains(hash));
        true
    }

    fn learn(
        &mut self,
        incoming: Incoming,
        version: &Version,
        holds: impl Fn(&ChangeHash) -> bool,
    ) {
        let digest = incoming.digest();
        self.repeats = if digest == self.last { self.repeats.saturating_add(1) } else { 0 };
        self.last = digest;
        let Message { heads, need, have, changes, flags, version: _ } = incoming.into_message();
        let ours = heads_of(version);
        let state = &mut self.state;
        state.in_flight = false;
        if let Some(flags) = flags {
            // Who sends flags at all reads messages of the second version.
            let mut known = vec![Capability::MessageV2];
            if flags.contains(MessageFlags::SUPPORTS_SYNC_RESET) {
                known.push(Capability::SyncReset);
            }
            state.their_capabilities = Some(known);
            if flags.contains(MessageFlags::SYNC_RESET) {
                state.sent_hashes.clear();
            }
            state.peer_read_only = flags.contains(MessageFlags::READ_ONLY);
        }
        // Who holds all that was sent is sent none of it again, listed or not.
        if heads == ours || state.last_sent_heads.iter().all(|head| heads.contains(head)) {
            state.sent_hashes.clear();
        }
        if changes.is_empty() && heads == ours {
            state.last_sent_heads.clone_from(&heads);
        }
        let known: Vec<ChangeHash> = heads.iter().filter(|head| holds(head)).copied().collect();
        if known.len() == heads.len() {
            state.shared_heads.clone_from(&heads);
            if heads.is_empty() {
                // The peer has nothing, or has lost everything.
                state.last_sent_heads.clear();
                state.sent_hashes.clear();
            }
        } else {
            state.shared_heads.extend(known);
            state.shared_heads.sort_unstable();
            state.shared_heads.dedup();
        }
        if let (true, Some(have)) = (state.shared_heads.is_empty(), have.first())
            && have.last_sync.iter().all(&holds)
        {
            state.shared_heads.clone_from(&have.last_sync);
        }
        state.their_have = Some(have);
        state.their_heads = Some(heads);
        state.their_need = Some(need);
        if self.agrees(&ours) {
            self.state.their_have = Some(vec![all_of(ours)]);
        }
    }

    /// What is to be said to the peer now; `None`: nothing.
    pub fn say(&mut self, document: &Document) -> Option<Vec<u8>> {
        if self.has_said(&document.version()) {
            return None;
        }
        let mut message = document.automerge().generate_sync_message(&mut self.state)?;
        self.said.clone_from(&message.heads);
        if !self.missing.is_empty() && !message.need.is_empty() {
            // A filter that claims too much held these back. With another filter they would be again.
            message.need.clone_from(&self.missing);
            message.have.clear();
        }
        let is_whole = message.changes.iter().any(|chunk| chunk.get(8) == Some(&0));
        if is_whole && !message.have.is_empty() {
            message.have = vec![all_of(message.heads.clone())];
        }
        Some(message.encode())
    }

    /// What [`Share::say`] says of a document of which the peer holds this very version, without it. `None`:
    /// it does not.
    pub fn say_equal(&mut self, version: &Version) -> Option<Vec<u8>> {
        let heads = heads_of(version);
        self.agrees(&heads).then(|| self.send(heads, Vec::new()))
    }

    /// What is said to a peer that wants all of a document, which is these bytes.
    pub fn say_whole(&mut self, version: &Version, document: Vec<u8>) -> Vec<u8> {
        self.send(heads_of(version), vec![document])
    }

    fn send(&mut self, heads: Vec<ChangeHash>, changes: Vec<Vec<u8>>) -> Vec<u8> {
        let state = &mut self.state;
        state.have_responded = true;
        state.in_flight = true;
        state.last_sent_heads.clone_from(&heads);
        self.said.clone_from(&heads);
        let mut flags = MessageFlags::new();
        flags.set(MessageFlags::SUPPORTS_SYNC_RESET);
        if state.read_only {
            flags.set(MessageFlags::READ_ONLY);
        }
        let second = state.their_capabilities.is_some();
        let version = if second { MessageVersion::V2 } else { MessageVersion::V1 };
        let have = vec![all_of(heads.clone())];
        let (need, changes) = (Vec::new(), changes.into());
        Message { heads, need, have, changes, flags: Some(flags), version }.encode()
    }
}

/// The summary of whoever holds what these heads rest on, and nothing else.
fn all_of(heads: Vec<ChangeHash>) -> Have {
    Have { last_sync: heads, ..Have::default() }
}

fn heads_of(version: &Version) -> Vec<ChangeHash> {
    version.hashes().iter().map(|hash| ChangeHash(hash.to_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::{Actor, Limits, Room, Sender};
    use automerge::{AutoCommit, ObjType, ROOT, ReadDoc, transaction::Transactable};
    use fastrand::Rng;

    const ROOM: Room = Room { changes: 1000, bytes: 4 << 20 };

    /// A client: Automerge and its own sync protocol.
    struct Client {
        document: AutoCommit,
        state: State,
        /// Bytes that it was sent.
        heard: usize,
    }

    /// The node's side: a document, and what waits beside it.
    struct Node {
        document: Document,
        waiting: Vec<u8>,
    }

    impl Node {
        fn new() -> Self {
            Self { document: Document::new(Actor([9; 16])), waiting: Vec::new() }
        }

        /// Takes changes; what those lack that cannot be taken yet.
        fn admit(&mut self, bytes: &[u8]) -> Vec<Hash> {
            let bytes = [&self.waiting[..], bytes].concat();
            let limits = Limits::default();
            let waiting =
                self.document.admit(&bytes, Sender::Stranger, ROOM, &limits).unwrap().waiting;
            let missing = waiting.iter().flat_map(|change| change.missing.clone());
            let missing = missing.filter(|hash| waiting.iter().all(|change| change.hash != *hash));
            let missing = missing.collect();
            self.waiting = waiting.into_iter().flat_map(|change| change.bytes).collect();
            missing
        }

        /// Hears a message and answers, as a turn does it.
        fn answer(&mut self, share: &mut Share, data: &[u8]) -> Option<Vec<u8>> {
            let incoming = Incoming::decode(data).unwrap();
            let changes = if share.is_read_only() { Vec::new() } else { incoming.changes() };
            let missing = self.admit(&changes);
            share.hear(incoming, &missing, &self.document);
            share.say(&self.document)
        }
    }

    impl Client {
        fn new(actor: u8) -> Self {
            let document = AutoCommit::new().with_actor([actor; 16].into());
            Self { document, state: State::new(), heard: 0 }
        }

        /// Comes back after a while, with what it has kept.
        fn reconnect(&mut self) {
            self.state = State::decode(&self.state.encode()).unwrap();
        }

        fn say(&mut self) -> Option<Vec<u8>> {
            self.document.sync().generate_sync_message(&mut self.state).map(Message::encode)
        }

        fn hear(&mut self, data: &[u8]) {
            self.heard += data.len();
            let message = Message::decode(data).unwrap();
            self.document.sync().receive_sync_message(&mut self.state, message).unwrap();
        }

        fn edit(&mut self, rng: &mut Rng) {
            let value: String = (0..rng.usize(..30)).map(|_| rng.alphabetic()).collect();
            self.document.put(ROOT, format!("k{}", rng.u8(..20)), value).unwrap();
            self.document.commit();
        }
    }

    /// Both talk until neither has more to say; how often they did.
    fn talk(client: &mut Client, node: &mut Node, share: &mut Share) -> usize {
        for round in 0..20 {
            let said = client.say();
            let mut quiet = said.is_none();
            let answer = match said {
                Some(data) => node.answer(share, &data),
                None => share.say(&node.document),
            };
            if let Some(data) = answer {
                quiet = false;
                client.hear(&data);
            }
            if quiet {
                return round;
            }
        }
        panic!("they talk without end");
    }

    fn is_equal(client: &mut Client, node: &Node) -> bool {
        heads_of(&node.document.version()) == client.document.get_heads()
    }

    /// A document with so many small changes, and the node's copy of it.
    fn long(changes: usize) -> (Client, Node) {
        let mut client = Client::new(1);
        let text = client.document.put_object(ROOT, "text", ObjType::Text).unwrap();
        for n in 0..changes {
            client.document.splice_text(&text, n, 0, "a").unwrap();
            client.document.commit();
        }
        let mut node = Node::new();
        node.admit(&client.document.save());
        (client, node)
    }

    #[test]
    fn who_edits_on_and_offline_becomes_equal() {
        for seed in 0..200 {
            let mut rng = Rng::with_seed(seed);
            let mut node = Node::new();
            let mut clients: Vec<Client> = (1..4).map(Client::new).collect();
            let mut shares = vec![Share::new(); clients.len()];
            for _ in 0..rng.usize(1..25) {
                let at = rng.usize(..clients.len());
                let (client, share) = (&mut clients[at], &mut shares[at]);
                match rng.u8(..8) {
                    0..4 => client.edit(&mut rng),
                    4..6 => drop(talk(client, &mut node, share)),
                    6 => {
                        // The answer gets lost with the connection.
                        if let Some(data) = client.say() {
                            node.answer(share, &data);
                        }
                        client.reconnect();
                        *share = Share::new();
                    }
                    _ => {
                        client.reconnect();
                        *share = Share::new();
                    }
                }
            }
            for _ in 0..2 {
                for (client, share) in clients.iter_mut().zip(&mut shares) {
                    talk(client, &mut node, share);
                }
            }
            for (at, client) in clients.iter_mut().enumerate() {
                assert!(is_equal(client, &node), "seed {seed}, client {at}");
                let version = node.document.version();
                assert!(shares[at].is_settled(&version) || version.is_empty(), "seed {seed}");
            }
        }
    }

    #[test]
    fn of_equal_documents_the_same_is_said_with_and_without_the_document() {
        let (mut client, mut node) = long(50);
        let version = node.document.version();
        for again in [false, true] {
            let data = client.say();
            let data = data.or_else(|| {
                client.reconnect();
                client.say()
            });
            let incoming = Incoming::decode(&data.unwrap()).unwrap();
            let (mut loaded, mut unloaded) = (Share::new(), Share::new());
            loaded.hear(incoming.clone(), &[], &node.document);
            assert!(unloaded.hear_unseen(&incoming, &version));
            let said = loaded.say(&node.document);
            assert!(said.is_some());
            assert_eq!(unloaded.say_equal(&version), said);
            assert_eq!(unloaded, loaded, "again: {again}");
            assert!(unloaded.is_settled(&version));
            assert_eq!(loaded.say(&node.document), None);
            client.hear(&said.unwrap());
        }
        client.edit(&mut Rng::with_seed(1));
        let data = client.say().unwrap();
        let mut share = Share::new();
        let incoming = Incoming::decode(&data).unwrap();
        assert!(!share.hear_unseen(&incoming, &version), "it holds more");
        assert_eq!(share, Share::new());
        client.hear(&node.answer(&mut share, &data).unwrap());
        talk(&mut client, &mut node, &mut share);
        assert!(is_equal(&mut client, &node));
    }

    #[test]
    fn what_a_filter_held_back_is_asked_for() {
        let (mut client, mut node) = long(3);
        let mut share = Share::new();
        talk(&mut client, &mut node, &mut share);
        for n in 0..2 {
            client.document.put(ROOT, "n", n).unwrap();
            client.document.commit();
        }
        // As if the filter of the node had claimed the first of the two.
        let last = client.document.get_changes(&[]).pop().unwrap();
        let mut message = Message::decode(&client.say().unwrap()).unwrap();
        message.changes = vec![last.raw_bytes().to_vec()].into();
        client.state.sent_hashes = [last.hash()].into();
        client.hear(&node.answer(&mut share, &message.encode()).unwrap());
        talk(&mut client, &mut node, &mut share);
        assert!(is_equal(&mut client, &node));
    }

    #[test]
    fn of_changes_that_are_not_taken_there_is_no_talk_without_end() {
        let (mut client, mut node) = (Client::new(1), Node::new());
        client.edit(&mut Rng::with_seed(1));
        let mut share = Share::new();
        for round in 0.. {
            let Some(said) = client.say() else { break };
            let incoming = Incoming::decode(&said).unwrap();
            // The gate refuses whatever it is.
            share.hear(incoming, &[], &node.document);
            let Some(answer) = share.say(&node.document) else { break };
            client.hear(&answer);
            assert!(round < 10, "they talk without end");
        }
        // What others write goes to it all the same.
        let (mut author, mut writing) = (Client::new(2), Share::new());
        author.edit(&mut Rng::with_seed(2));
        talk(&mut author, &mut node, &mut writing);
        let said = share.say(&node.document).unwrap();
        client.hear(&said);
        let head = author.document.get_heads()[0];
        assert!(client.document.get_change_by_hash(&head).is_some());
    }

    /// Automerge sends a filter of the whole history behind the whole document.
    #[test]
    fn a_whole_document_costs_its_bytes_and_is_one_trip() {
        let (mut author, mut node) = long(3_000);
        let bytes = author.document.save();
        let (mut client, mut share) = (Client::new(2), Share::new());
        assert!(talk(&mut client, &mut node, &mut share) <= 3);
        assert!(is_equal(&mut client, &node));
        assert!(client.heard < bytes.len() + 300, "{} bytes for {}", client.heard, bytes.len());

        let (mut client, mut share) = (Client::new(3), Share::new());
        let incoming = Incoming::decode(&client.say().unwrap()).unwrap();
        assert!(share.hear_unseen(&incoming, &node.document.version()));
        assert!(share.wants_all());
        client.hear(&share.say_whole(&node.document.version(), bytes));
        assert!(is_equal(&mut client, &node));
        client.edit(&mut Rng::with_seed(1));
        talk(&mut client, &mut node, &mut share);
        assert!(is_equal(&mut client, &node), "and it goes on from there");
    }

    #[test]
    fn who_comes_back_with_offline_edits_is_sent_no_filter_of_the_history() {
        let (mut client, mut node) = long(3_000);
        talk(&mut client, &mut node, &mut Share::new());
        client.edit(&mut Rng::with_seed(1));
        let mut other = Client::new(2);
        let mut share = Share::new();
        talk(&mut other, &mut node, &mut share);
        other.edit(&mut Rng::with_seed(2));
        talk(&mut other, &mut node, &mut share);
        client.reconnect();
        client.heard = 0;
        talk(&mut client, &mut node, &mut Share::new());
        assert!(is_equal(&mut client, &node));
        assert!(client.heard < 1_000, "{} bytes for one change", client.heard);
    }

    #[test]
    fn whoever_may_only_read_changes_nothing_and_hears_everything() {
        let (mut client, mut node) = long(10);
        let mut share = Share::read_only();
        talk(&mut client, &mut node, &mut share);
        client.edit(&mut Rng::with_seed(1));
        let before = node.document.version();
        talk(&mut client, &mut node, &mut share);
        assert_eq!(node.document.version(), before);
        let (mut author, mut writing) = (Client::new(3), Share::new());
        talk(&mut author, &mut node, &mut writing);
        author.edit(&mut Rng::with_seed(2));
        talk(&mut author, &mut node, &mut writing);
        talk(&mut client, &mut node, &mut share);
        let heads = heads_of(&node.document.version());
        assert!(heads.iter().all(|head| client.document.get_change_by_hash(head).is_some()));
    }

    #[test]
    fn what_is_asked_for_twice_is_sent_once() {
        let (client, node) = long(10);
        let mut asking = Client::new(2);
        let mut message = Message::decode(&asking.say().unwrap()).unwrap();
        let wanted = node.document.version().hashes()[0];
        message.need = vec![ChangeHash(wanted.to_bytes()); 1000];
        message.heads = client.document.clone().get_heads();
        let mut share = Share::new();
        let incoming = Incoming::decode(&message.encode()).unwrap();
        share.hear(incoming, &[], &node.document);
        let said = share.say(&node.document).unwrap();
        assert!(said.len() < 2 * node.document.save().len() + 500, "{} bytes", said.len());
    }

    #[test]
    fn who_says_the_same_again_and_again_is_told_so_many_times_and_of_news_at_once() {
        let (_, mut node) = long(10);
        let (mut client, mut share) = (Client::new(2), Share::new());
        let data = client.say().unwrap();
        let told = (0..10).filter(|_| node.answer(&mut share, &data).is_some()).count();
        assert_eq!(told, usize::from(REPEATS_MAX) + 1);
        let (mut author, mut writing) = (Client::new(3), Share::new());
        talk(&mut author, &mut node, &mut writing);
        author.edit(&mut Rng::with_seed(1));
        talk(&mut author, &mut node, &mut writing);
        client.hear(&share.say(&node.document).unwrap());
        assert!(is_equal(&mut client, &node));
    }

    #[test]
    fn a_peer_that_lost_everything_is_sent_everything() {
        let (mut client, mut node) = long(10);
        let mut share = Share::new();
        talk(&mut client, &mut node, &mut share);
        assert!(is_equal(&mut client, &node));
        let mut client = Client::new(1);
        talk(&mut client, &mut node, &mut share);
        assert!(is_equal(&mut client, &node));
    }
}
