//! One connection: who it is, and whose turn it is of the documents that it has open.
//!
//! ```text
//! client                          server
//! join        ─────────────────▶
//!             ◀─────────────────  peer
//! request, sync ───────────────▶  hear → turn → done
//!             ◀─────────────────  sync, doc-unavailable
//! ```
//!
//! A document is in one turn at a time; what is heard of it meanwhile, and that it changed, makes the next
//! one. So whoever reads slowly is sent one merged message, and not a queue of them.

use super::{Ephemeral, Exchange, Incoming, Message, Metadata, Share};
use crate::ident::DocumentId;
use std::collections::{HashMap, VecDeque};

/// The version of the protocol that is spoken here.
const VERSION: &str = "1";
/// Most documents that one connection has open.
const DOCUMENTS_MAX: usize = 1 << 16;

/// Closing codes (RFC 6455, section 7.4.1).
const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const BAD_PAYLOAD: u16 = 1007;
/// Whoever breaks a rule of the protocol is closed with this.
pub const POLICY: u16 = 1008;

/// How a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// The closing code.
    pub code: u16,
    /// The reason, in words, at most 123 bytes.
    pub reason: &'static str,
    /// What is sent before.
    pub frame: Option<Vec<u8>>,
}

/// What a frame comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// Nothing.
    Nothing,
    /// The peer has joined; the answer goes out at once.
    Joined {
        /// Its name.
        peer: String,
        /// What it says of itself.
        metadata: Metadata,
        /// The answer.
        answer: Vec<u8>,
    },
    /// A message about a document, which the peer has open from now on; a turn is due.
    Open(DocumentId),
    /// An answer that goes out at once.
    Answer(Vec<u8>),
    /// Something for others who have the document open.
    Ephemeral(DocumentId, Ephemeral),
    /// What cannot be read of a document, or what the peer complains of: for the log.
    Odd(String),
}

/// What is to be done about one document.
#[derive(Debug)]
pub struct Turn {
    /// The document.
    pub document: DocumentId,
    /// How far the peer and this node agree.
    pub share: Share,
    /// What the peer said since the last turn, oldest first; none: the document changed.
    pub incoming: Vec<Incoming>,
}

/// What a turn came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// There is nothing to say.
    Nothing,
    /// A sync message.
    Sync(Vec<u8>),
    /// The document is not to be had.
    Unavailable,
    /// Nobody has written the document here. It may be on its way: the peer is told later, unless it comes.
    Nowhere,
}

/// What follows a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// A frame that goes out.
    Send(Vec<u8>),
    /// The document may be on its way: after a while [`Session::waited`] says that it did not come.
    Wait,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    /// This node's name.
    me: String,
    /// Where it keeps documents.
    storage: String,
    /// The client's name, once it has joined.
    peer: Option<String>,
    documents: HashMap<DocumentId, Place>,
    /// Documents whose turn it is.
    ready: VecDeque<DocumentId>,
    /// Bytes of sync messages that no turn has taken.
    backlog: usize,
}

/// A document that the peer has open.
#[derive(Debug)]
struct Place {
    /// `None` while it is in a turn.
    share: Option<Share>,
    inbox: Vec<Incoming>,
    inbox_bytes: usize,
    changed: bool,
    /// Whether it stands in `ready`.
    queued: bool,
    /// Whether the peer knows that the document is not to be had.
    unavailable: bool,
    /// Whether it has been waited for long enough.
    overdue: bool,
}

impl Session {
    /// A connection to a node of this name, which keeps its documents in `storage`.
    pub fn new(me: String, storage: String) -> Self {
        let (documents, ready) = Default::default();
        Self { me, storage, peer: None, documents, ready, backlog: 0 }
    }

    /// Bytes of sync messages that were heard and that no turn has taken: whoever reads frames stops while
    /// they are many.
    pub fn backlog(&self) -> usize {
        self.backlog
    }

    /// Whether the peer has this document open.
    pub fn is_open(&self, document: DocumentId) -> bool {
        self.documents.contains_key(&document)
    }

    /// Hears a frame.
    ///
    /// # Errors
    /// The connection ends.
    pub fn hear(&mut self, frame: &[u8]) -> Result<Heard, Closing> {
        let message = Message::decode(frame)
            .map_err(|_| self.end(BAD_PAYLOAD, "a frame that is no message"))?;
        let Some(peer) = self.peer.clone() else { return self.join(message) };
        match message {
            Message::Join { .. } => Err(self.end(POLICY, "joined already")),
            Message::Request(exchange) | Message::Sync(exchange) => {
                if exchange.sender != peer {
                    return Err(self.end(POLICY, "a message of another sender"));
                }
                self.check_target(&exchange.target)?;
                self.exchange(exchange)
            }
            Message::Unavailable { sender, target, .. } => {
                if sender != peer {
                    return Err(self.end(POLICY, "a message of another sender"));
                }
                self.check_target(&target)?;
                Ok(Heard::Nothing)
            }
            Message::Ephemeral(ephemeral) => {
                // Its sender is who said it first.
                self.check_target(&ephemeral.target)?;
                let document = DocumentId::parse_bs58check(&ephemeral.document);
                Ok(document.map_or(Heard::Nothing, |id| Heard::Ephemeral(id, ephemeral)))
            }
            Message::Error { message, .. } => Ok(Heard::Odd(message)),
            Message::Leave => Err(Closing { code: NORMAL, reason: "the client left", frame: None }),
            Message::Peer { .. } | Message::Other => Ok(Heard::Nothing),
        }
    }

    fn join(&mut self, message: Message) -> Result<Heard, Closing> {
        let Message::Join { sender, metadata, versions } = message else {
            return Err(self.end(POLICY, "expected a join message"));
        };
        self.peer = Some(sender.clone());
        if !versions.is_empty() && !versions.iter().any(|version| version == VERSION) {
            return Err(self.end(PROTOCOL_ERROR, "unsupported protocol version"));
        }
        let answer = Message::Peer {
            sender: self.me.clone(),
            target: sender.clone(),
            metadata: Metadata { storage: Some(self.storage.clone()), is_ephemeral: false },
            version: VERSION.to_owned(),
        };
        Ok(Heard::Joined { peer: sender, metadata, answer: answer.encode() })
    }

    fn check_target(&self, target: &str) -> Result<(), Closing> {
        if target == self.me { Ok(()) } else { Err(self.end(POLICY, "a message for another peer")) }
    }

    fn exchange(&mut self, exchange: Exchange) -> Result<Heard, Closing> {
        let Some(document) = DocumentId::parse_bs58check(&exchange.document) else {
            return Ok(Heard::Answer(self.unavailable(exchange.document)));
        };
        let incoming = match Incoming::decode(&exchange.data) {
            Ok(incoming) => incoming,
            Err(bad) => return Ok(Heard::Odd(format!("of {document}: {bad}"))),
        };
        if DOCUMENTS_MAX <= self.documents.len() && !self.is_open(document) {
            return Err(self.end(POLICY, "too many open documents"));
        }
        let place = self.documents.entry(document).or_insert_with(Place::new);
        place.inbox.push(incoming);
        place.inbox_bytes += exchange.data.len();
        self.backlog += exchange.data.len();
        place.line_up(document, &mut self.ready);
        Ok(Heard::Open(document))
    }

    /// Takes note that a document changed. Those that the peer does not have open are no concern of it.
    pub fn changed(&mut self, document: DocumentId) {
        if let Some(place) = self.documents.get_mut(&document) {
            place.changed = true;
            place.line_up(document, &mut self.ready);
        }
    }

    /// A document that was nowhere has been waited for long enough.
    pub fn waited(&mut self, document: DocumentId) {
        if let Some(place) = self.documents.get_mut(&document) {
            place.overdue = true;
            self.changed(document);
        }
    }

    /// The next turn, if there is one. It ends with [`Session::done`].
    pub fn turn(&mut self) -> Option<Turn> {
        while let Some(document) = self.ready.pop_front() {
            let Some(place) = self.documents.get_mut(&document) else { continue };
            place.queued = false;
            if let Some(share) = place.share.take() {
                place.changed = false;
                let incoming = std::mem::take(&mut place.inbox);
                self.backlog -= std::mem::take(&mut place.inbox_bytes);
                return Some(Turn { document, share, incoming });
            }
        }
        None
    }

    /// Ends a turn.
    pub fn done(&mut self, document: DocumentId, share: Share, said: Said) -> Next {
        let Some(place) = self.documents.get_mut(&document) else { return Next::Nothing };
        place.share = Some(share);
        place.line_up(document, &mut self.ready);
        let told = place.unavailable;
        match said {
            Said::Sync(data) => {
                (place.unavailable, place.overdue) = (false, false);
                Next::Send(self.sync(document, data))
            }
            Said::Nowhere if !told && !place.overdue => Next::Wait,
            Said::Unavailable | Said::Nowhere if !told => {
                place.unavailable = true;
                Next::Send(self.unavailable(document.to_bs58check()))
            }
            Said::Nothing | Said::Unavailable | Said::Nowhere => Next::Nothing,
        }
    }

    /// The frame that passes an ephemeral message on to this peer.
    pub fn pass_on(&self, message: &Ephemeral) -> Vec<u8> {
        let target = self.peer.clone().unwrap_or_default();
        Message::Ephemeral(Ephemeral { target, ..message.clone() }).encode()
    }

    /// How a connection ends that is not wanted any more, for this reason.
    pub fn end(&self, code: u16, reason: &'static str) -> Closing {
        let (sender, target) = (self.me.clone(), self.peer.clone().unwrap_or_default());
        let frame = Message::Error { sender, target, message: reason.to_owned() }.encode();
        Closing { code, reason, frame: Some(frame) }
    }

    fn sync(&self, document: DocumentId, data: Vec<u8>) -> Vec<u8> {
        let (sender, target) = (self.me.clone(), self.peer.clone().unwrap_or_default());
        let document = document.to_bs58check();
        Message::Sync(Exchange { sender, target, document, data }).encode()
    }

    fn unavailable(&self, document: String) -> Vec<u8> {
        let (sender, target) = (self.me.clone(), self.peer.clone().unwrap_or_default());
        Message::Unavailable { sender, target, document }.encode()
    }
}

impl Place {
    fn new() -> Self {
        let share = Some(Share::new());
        Self {
            share,
            inbox: Vec::new(),
            inbox_bytes: 0,
            changed: false,
            queued: false,
            unavailable: false,
            overdue: false,
        }
    }

    /// Queues it if there is something to do and it is in no turn.
    fn line_up(&mut self, document: DocumentId, ready: &mut VecDeque<DocumentId>) {
        let due = self.changed || !self.inbox.is_empty();
        if due && !self.queued && self.share.is_some() {
            self.queued = true;
            ready.push_back(document);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::new("node".to_owned(), "disk".to_owned())
    }

    fn join(versions: &[&str]) -> Message {
        let versions = versions.iter().map(|version| (*version).to_owned()).collect();
        Message::Join { sender: "tab".to_owned(), metadata: Metadata::default(), versions }
    }

    fn joined() -> Session {
        let mut session = session();
        session.hear(&join(&["1"]).encode()).unwrap();
        session
    }

    const DOCUMENT: DocumentId = DocumentId::from_bytes([7; 16]);
    /// A sync message of somebody who holds nothing.
    const EMPTY: [u8; 5] = [0x42, 0, 0, 0, 0];

    fn exchange(sender: &str, target: &str, document: &str, data: &[u8]) -> Exchange {
        let own = str::to_owned;
        let (sender, target, document) = (own(sender), own(target), own(document));
        Exchange { sender, target, document, data: data.to_vec() }
    }

    fn request(data: &[u8]) -> Vec<u8> {
        Message::Request(exchange("tab", "node", &DOCUMENT.to_bs58check(), data)).encode()
    }

    #[test]
    fn a_join_is_answered_with_who_this_is() {
        for versions in [&["1"][..], &["2", "1"], &[]] {
            let heard = session().hear(&join(versions).encode()).unwrap();
            let Heard::Joined { peer, answer, .. } = heard else { panic!("{heard:?}") };
            assert_eq!(peer, "tab");
            let metadata = Metadata { storage: Some("disk".to_owned()), is_ephemeral: false };
            let (sender, target) = ("node".to_owned(), "tab".to_owned());
            let peer = Message::Peer { sender, target, metadata, version: "1".to_owned() };
            assert_eq!(Message::decode(&answer).unwrap(), peer);
        }
    }

    #[test]
    fn who_breaks_the_rules_is_told_and_let_go() {
        let sync = |sender, target| {
            Message::Sync(exchange(sender, target, &DOCUMENT.to_bs58check(), &EMPTY)).encode()
        };
        let join = |versions| join(versions).encode();
        for (mut session, frame, code, reason) in [
            (session(), sync("tab", "node"), POLICY, "expected a join message"),
            (session(), join(&["2"]), PROTOCOL_ERROR, "unsupported protocol version"),
            (session(), vec![0xf6], BAD_PAYLOAD, "a frame that is no message"),
            (joined(), vec![0xf6], BAD_PAYLOAD, "a frame that is no message"),
            (joined(), join(&["1"]), POLICY, "joined already"),
            (joined(), sync("other", "node"), POLICY, "a message of another sender"),
            (joined(), sync("tab", "other"), POLICY, "a message for another peer"),
        ] {
            let closing = session.hear(&frame).unwrap_err();
            assert_eq!((closing.code, closing.reason), (code, reason));
            let told = Message::decode(&closing.frame.unwrap()).unwrap();
            assert!(matches!(told, Message::Error { message, .. } if message == reason));
            assert!(closing.reason.len() <= 123, "a close frame has room for so many bytes");
        }
        let closing = joined().hear(&Message::Leave.encode()).unwrap_err();
        assert_eq!((closing.code, closing.frame), (NORMAL, None));
    }

    #[test]
    fn what_later_releases_may_say_is_passed_over() {
        let mut session = joined();
        assert_eq!(session.hear(&Message::Other.encode()), Ok(Heard::Nothing));
        assert!(session.turn().is_none());
    }

    #[test]
    fn a_document_of_an_odd_name_is_unavailable_and_an_odd_message_is_no_end() {
        let mut session = joined();
        let odd = Message::Request(exchange("tab", "node", "odd", &EMPTY)).encode();
        let heard = session.hear(&odd).unwrap();
        let Heard::Answer(answer) = heard else { panic!("{heard:?}") };
        let told = Message::decode(&answer).unwrap();
        assert!(matches!(told, Message::Unavailable { document, .. } if document == "odd"));
        for data in [&[][..], &[0x42], &[0]] {
            assert!(matches!(session.hear(&request(data)), Ok(Heard::Odd(_))), "{data:?}");
        }
        assert!(!session.is_open(DOCUMENT) && session.turn().is_none());
    }

    #[test]
    fn of_one_document_there_is_one_turn_and_what_comes_meanwhile_makes_one_more() {
        let mut session = joined();
        session.changed(DOCUMENT);
        assert!(session.turn().is_none(), "nobody has it open");
        session.hear(&request(&EMPTY)).unwrap();
        assert_eq!(session.backlog(), EMPTY.len());
        let turn = session.turn().unwrap();
        assert_eq!((turn.document, turn.incoming.len(), session.backlog()), (DOCUMENT, 1, 0));
        session.hear(&request(&EMPTY)).unwrap();
        session.hear(&request(&EMPTY)).unwrap();
        session.changed(DOCUMENT);
        session.changed(DOCUMENT);
        assert!(session.turn().is_none(), "it is in a turn");
        let Next::Send(frame) = session.done(DOCUMENT, turn.share, Said::Sync(vec![1])) else {
            panic!("nothing is sent")
        };
        let sync = exchange("node", "tab", &DOCUMENT.to_bs58check(), &[1]);
        assert_eq!(Message::decode(&frame), Ok(Message::Sync(sync)));
        let turn = session.turn().unwrap();
        assert_eq!(turn.incoming.len(), 2);
        assert_eq!(session.done(DOCUMENT, turn.share, Said::Nothing), Next::Nothing);
        assert!(session.turn().is_none());
        session.changed(DOCUMENT);
        assert!(session.turn().unwrap().incoming.is_empty());
    }

    #[test]
    fn that_a_document_is_not_to_be_had_is_told_once_until_it_is() {
        let mut session = joined();
        let mut end = |said| {
            session.changed(DOCUMENT);
            session.hear(&request(&EMPTY)).unwrap();
            let turn = session.turn().unwrap();
            matches!(session.done(DOCUMENT, turn.share, said), Next::Send(_))
        };
        assert!(end(Said::Unavailable));
        assert!(!end(Said::Unavailable));
        assert!(!end(Said::Nothing));
        assert!(!end(Said::Unavailable));
        assert!(end(Said::Sync(vec![1])));
        assert!(end(Said::Unavailable));
    }

    #[test]
    fn what_is_nowhere_is_waited_for() {
        let mut session = joined();
        session.hear(&request(&EMPTY)).unwrap();
        let end = |session: &mut Session, said| {
            let turn = session.turn().unwrap();
            session.done(DOCUMENT, turn.share, said)
        };
        assert_eq!(end(&mut session, Said::Nowhere), Next::Wait);
        session.waited(DOCUMENT);
        assert!(matches!(end(&mut session, Said::Nowhere), Next::Send(_)));
        session.waited(DOCUMENT);
        assert_eq!(end(&mut session, Said::Nowhere), Next::Nothing, "it was told");
        session.changed(DOCUMENT);
        assert!(matches!(end(&mut session, Said::Sync(vec![1])), Next::Send(_)));
        session.changed(DOCUMENT);
        assert_eq!(end(&mut session, Said::Nowhere), Next::Wait, "it was there between");
    }

    #[test]
    fn what_others_say_is_passed_on_in_their_name() {
        let mut session = joined();
        let own = str::to_owned;
        let (document, session_name) = (DOCUMENT.to_bs58check(), own("s"));
        let (sender, target) = (own("other"), own("node"));
        let said =
            Ephemeral { sender, target, document, session: session_name, count: 1, data: vec![2] };
        let heard = session.hear(&Message::Ephemeral(said.clone()).encode()).unwrap();
        assert_eq!(heard, Heard::Ephemeral(DOCUMENT, said.clone()));
        let passed = Message::decode(&session.pass_on(&said)).unwrap();
        assert_eq!(passed, Message::Ephemeral(Ephemeral { target: own("tab"), ..said }));
    }
}
