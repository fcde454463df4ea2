//! The protocol of offline-first clients: whatever frames a client sends, nothing panics, each answer is a
//! message, the document is what its changes make it, and the next honest client gets all of it.

use super::gate::{ROOM, limits};
use arbitrary::{Result, Unstructured};
use automerge::{
    AutoCommit, ROOT,
    sync::{Message as SyncMessage, State, SyncDoc},
    transaction::Transactable,
};
use tombolo::{
    automerge_repo::{Exchange, Heard, Message, Metadata, Next, Said, Session},
    doc::{Actor, Document, Sender},
    ident::{DocumentId, Hash, Version},
};

const DOCUMENT: DocumentId = DocumentId::from_bytes([7; 16]);
/// Messages that an honest client and the node exchange at most until both hold the same.
const ROUNDS_MAX: usize = 30;

/// Holds for frames made and damaged as `data` says.
pub fn property(data: &[u8]) {
    // Bytes as they are, before a join and after it.
    let _ = Session::new("node".to_owned(), "disk".to_owned()).hear(data);
    let mut node = Node::new();
    node.join("raw");
    node.hear(data);
    node.hear(&sync("raw", data.to_vec()));
    let _ = scene(&mut Unstructured::new(data));
}

/// A node with one document and one connection.
struct Node {
    document: Document,
    waiting: Vec<u8>,
    session: Session,
}

impl Node {
    fn new() -> Self {
        let session = Session::new("node".to_owned(), "disk".to_owned());
        Self { document: Document::new(Actor([9; 16])), waiting: Vec::new(), session }
    }

    /// Another connection, in the place of the one before.
    fn join(&mut self, peer: &str) {
        self.session = Session::new("node".to_owned(), "disk".to_owned());
        let (sender, versions) = (peer.to_owned(), vec!["1".to_owned()]);
        let join = Message::Join { sender, metadata: Metadata::default(), versions };
        assert!(matches!(self.session.hear(&join.encode()), Ok(Heard::Joined { .. })));
    }

    /// Hears a frame and takes the turns that follow; what it answers about the document.
    fn hear(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        if let Ok(Heard::Answer(answer)) = self.session.hear(frame) {
            Message::decode(&answer).expect("an answer that is no message");
        }
        self.turns()
    }

    fn turns(&mut self) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        while let Some(mut turn) = self.session.turn() {
            for incoming in turn.incoming {
                if turn.share.hear_unseen(&incoming, &self.document.version()) {
                    continue;
                }
                let missing = self.admit(&incoming.changes());
                turn.share.hear(incoming, &missing, &self.document);
            }
            let version = self.document.version();
            let settled = turn.share.is_settled(&version);
            let said = match turn.share.say(&self.document) {
                None => Said::Nothing,
                Some(data) => Said::Sync(data),
            };
            assert!(!settled || said == Said::Nothing, "there was nothing to say");
            if let Next::Send(frame) = self.session.done(turn.document, turn.share, said) {
                let Ok(Message::Sync(exchange)) = Message::decode(&frame) else {
                    panic!("no sync message")
                };
                answers.push(exchange.data);
            }
        }
        answers
    }

    fn admit(&mut self, bytes: &[u8]) -> Vec<Hash> {
        let bytes = [&self.waiting[..], bytes].concat();
        let Ok(admitted) = self.document.admit(&bytes, Sender::Stranger, ROOM, &limits()) else {
            return Vec::new();
        };
        let waiting = admitted.waiting;
        let missing = waiting.iter().flat_map(|change| change.missing.clone());
        let missing = missing.filter(|hash| waiting.iter().all(|change| change.hash != *hash));
        let missing = missing.collect();
        self.waiting = waiting.into_iter().flat_map(|change| change.bytes).collect();
        missing
    }
}

fn sync(peer: &str, data: Vec<u8>) -> Vec<u8> {
    let (sender, target) = (peer.to_owned(), "node".to_owned());
    Message::Sync(Exchange { sender, target, document: DOCUMENT.to_bs58check(), data }).encode()
}

/// A client: Automerge and its own sync protocol.
struct Client {
    name: &'static str,
    document: AutoCommit,
    state: State,
}

impl Client {
    fn new(name: &'static str, actor: u8) -> Self {
        let document = AutoCommit::new().with_actor([actor; 16].into());
        Self { name, document, state: State::new() }
    }

    fn say(&mut self) -> Option<Vec<u8>> {
        self.document.sync().generate_sync_message(&mut self.state).map(SyncMessage::encode)
    }

    fn hear(&mut self, data: &[u8]) {
        let message = SyncMessage::decode(data).expect("the node sends what Automerge reads");
        self.document.sync().receive_sync_message(&mut self.state, message).unwrap();
    }
}

fn scene(input: &mut Unstructured<'_>) -> Result<()> {
    let mut node = Node::new();
    let mut client = Client::new("client", 1);
    node.join(client.name);
    for _ in 0..input.int_in_range(1..=12)? {
        match input.int_in_range(0..=5)? {
            0 | 1 => {
                let key = ["a", "b", "c"][input.int_in_range(0..=2)?];
                client.document.put(ROOT, key, input.arbitrary::<u32>()?).unwrap();
                client.document.commit();
            }
            2 => {
                node.join(client.name);
                client.state = State::decode(&client.state.encode()).unwrap();
            }
            _ => {
                let Some(mut data) = client.say() else { continue };
                let whole = damage(input, &mut data)?;
                let mut frame = sync(client.name, data);
                let whole = whole & (input.ratio(3, 4)? || damage(input, &mut frame)?);
                for answer in node.hear(&frame) {
                    // Whom the node heard wrong hears what no honest node says.
                    if whole {
                        client.hear(&answer);
                    }
                }
            }
        }
    }
    let mut reader = Client::new("reader", 2);
    node.join(reader.name);
    for _ in 0..ROUNDS_MAX {
        let answers = match reader.say() {
            Some(data) => node.hear(&sync(reader.name, data)),
            None => break,
        };
        answers.iter().for_each(|answer| reader.hear(answer));
    }
    let held: Version =
        reader.document.get_heads().iter().map(|head| Hash::from_bytes(head.0)).collect();
    assert_eq!(held, node.document.version(), "the next client gets all of it");
    Ok(())
}

/// Changes some bytes, or none; whether none was.
fn damage(input: &mut Unstructured<'_>, bytes: &mut Vec<u8>) -> Result<bool> {
    let count = if input.ratio(1, 2)? { 0 } else { input.int_in_range(1..=4)? };
    for _ in 0..count {
        if bytes.is_empty() {
            return Ok(false);
        }
        let at = input.int_in_range(0..=bytes.len() - 1)?;
        match input.int_in_range(0..=3)? {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, input.arbitrary()?),
            2 => bytes[at] = input.arbitrary()?,
            _ => bytes[at] ^= 1 << input.int_in_range(0..=7)?,
        }
    }
    Ok(count == 0)
}
