//! The messages of automerge-repo's WebSocket protocol, version "1": one frame is one CBOR map (RFC 8949)
//! with text keys.
//!
//! Read as cbor-x writes them: keys in any order, lengths in any width, `undefined` for what is absent,
//! integers beyond 32 bits as floats, byte strings also under tag 64. Keys and types that are not known
//! here are passed over, as later releases may add some.

use ciborium::Value;

/// Most bytes of the name of a peer, a storage or a session.
pub const NAME_BYTES_MAX: usize = 1024;
/// Most values of a frame inside each other.
const DEPTH_MAX: usize = 32;
/// CBOR's tag of an array of bytes (RFC 8746).
const TAG_BYTES: u64 = 64;

/// What a peer says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The name of where it keeps documents, which stays the same.
    pub storage: Option<String>,
    /// Whether it keeps nothing, and will not come back under its name.
    pub is_ephemeral: bool,
}

/// An Automerge sync message about a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The peer that sends it.
    pub sender: String,
    /// The peer that it is for.
    pub target: String,
    /// The document, as its sender spells it.
    pub document: String,
    /// The sync message.
    pub data: Vec<u8>,
}

/// What people who have a document open tell each other, and nobody keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ephemeral {
    /// Who said it first, which may be another than who passes it on.
    pub sender: String,
    /// The peer that it is for.
    pub target: String,
    /// The document, as its sender spells it.
    pub document: String,
    /// One start of the sender.
    pub session: String,
    /// Grows with each of a session.
    pub count: u64,
    /// What is told, which is the sender's affair.
    pub data: Vec<u8>,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A client says who it is, first of all.
    Join {
        /// Its name.
        sender: String,
        /// What it says of itself.
        metadata: Metadata,
        /// The versions of the protocol that it speaks; none named is version "1".
        versions: Vec<String>,
    },
    /// A server answers who it is.
    Peer {
        /// Its name.
        sender: String,
        /// The client.
        target: String,
        /// What it says of itself.
        metadata: Metadata,
        /// The version that both speak from here on.
        version: String,
    },
    /// What is wrong, before the connection ends.
    Error {
        /// Who says so; empty: some do not tell.
        sender: String,
        /// To whom; empty: as the sender.
        target: String,
        /// In words.
        message: String,
    },
    /// A peer goes.
    Leave,
    /// A first sync message about a document that the sender does not hold.
    Request(Exchange),
    /// A sync message.
    Sync(Exchange),
    /// The sender cannot give the document.
    Unavailable {
        /// The peer that sends it.
        sender: String,
        /// The peer that it is for.
        target: String,
        /// The document, as its sender spells it.
        document: String,
    },
    /// Something between those who have a document open.
    Ephemeral(Ephemeral),
    /// Of a type that is not known here.
    Other,
}

/// A frame that is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// It is not CBOR.
    #[error("a frame is CBOR; this one is not")]
    NotCbor,
    /// It goes on behind its end.
    #[error("a frame holds one message; there are bytes behind it")]
    Trailing,
    /// It is another value than a map, or a map without a type.
    #[error("a message is a map with a text `type`")]
    NoType,
    /// A field is missing, of another kind, or too long.
    #[error("`{field}` of a message `{kind}` is missing, of another kind, or too long")]
    Field {
        /// The type of the message.
        kind: &'static str,
        /// The field.
        field: &'static str,
    },
}

impl Message {
    /// The message of a frame. Nothing is set aside by what the frame claims of its lengths.
    ///
    /// # Errors
    /// Any [`BadFrame`].
    pub fn decode(frame: &[u8]) -> Result<Self, BadFrame> {
        let mut rest = frame;
        let value: Value = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX)
            .map_err(|_| BadFrame::NotCbor)?;
        if !rest.is_empty() {
            return Err(BadFrame::Trailing);
        }
        let Value::Map(map) = value else { return Err(BadFrame::NoType) };
        let mut fields = Fields { kind: "", map };
        let Some(Value::Text(kind)) = fields.take("type") else { return Err(BadFrame::NoType) };
        Ok(match kind.as_str() {
            "join" => Self::Join {
                sender: fields.of("join").name("senderId")?,
                metadata: fields.metadata()?,
                versions: fields.versions()?,
            },
            "peer" => Self::Peer {
                sender: fields.of("peer").name("senderId")?,
                target: fields.name("targetId")?,
                metadata: fields.metadata()?,
                version: fields.name("selectedProtocolVersion")?,
            },
            "error" => Self::Error {
                sender: fields.of("error").optional_text("senderId")?.unwrap_or_default(),
                target: fields.optional_text("targetId")?.unwrap_or_default(),
                message: fields.text("message")?,
            },
            "leave" => Self::Leave,
            "request" => Self::Request(fields.of("request").exchange()?),
            "sync" => Self::Sync(fields.of("sync").exchange()?),
            "doc-unavailable" => Self::Unavailable {
                sender: fields.of("doc-unavailable").name("senderId")?,
                target: fields.name("targetId")?,
                document: fields.name("documentId")?,
            },
            "ephemeral" => Self::Ephemeral(Ephemeral {
                sender: fields.of("ephemeral").name("senderId")?,
                target: fields.name("targetId")?,
                document: fields.name("documentId")?,
                session: fields.name("sessionId")?,
                count: fields.count("count")?,
                data: fields.bytes("data")?,
            }),
            _ => Self::Other,
        })
    }

    /// The frame of this message.
    pub fn encode(self) -> Vec<u8> {
        let text = Value::Text;
        let fields = match self {
            Self::Join { sender, metadata, versions } => vec![
                ("type", text("join".to_owned())),
                ("senderId", text(sender)),
                ("peerMetadata", metadata.to_value()),
                (
                    "supportedProtocolVersions",
                    Value::Array(versions.into_iter().map(text).collect()),
                ),
            ],
            Self::Peer { sender, target, metadata, version } => vec![
                ("type", text("peer".to_owned())),
                ("senderId", text(sender)),
                ("targetId", text(target)),
                ("peerMetadata", metadata.to_value()),
                ("selectedProtocolVersion", text(version)),
            ],
            Self::Error { sender, target, message } => vec![
                ("type", text("error".to_owned())),
                ("senderId", text(sender)),
                ("targetId", text(target)),
                ("message", text(message)),
            ],
            Self::Leave => vec![("type", text("leave".to_owned()))],
            Self::Request(exchange) => exchange.fields("request"),
            Self::Sync(exchange) => exchange.fields("sync"),
            Self::Unavailable { sender, target, document } => vec![
                ("type", text("doc-unavailable".to_owned())),
                ("senderId", text(sender)),
                ("targetId", text(target)),
                ("documentId", text(document)),
            ],
            Self::Ephemeral(Ephemeral { sender, target, document, session, count, data }) => vec![
                ("type", text("ephemeral".to_owned())),
                ("senderId", text(sender)),
                ("targetId", text(target)),
                ("documentId", text(document)),
                ("sessionId", text(session)),
                ("count", Value::from(count)),
                ("data", Value::Bytes(data)),
            ],
            Self::Other => vec![("type", text("other".to_owned()))],
        };
        to_frame(fields)
    }
}

impl Exchange {
    fn fields(self, kind: &str) -> Vec<(&'static str, Value)> {
        let Self { sender, target, document, data } = self;
        vec![
            ("type", Value::Text(kind.to_owned())),
            ("senderId", Value::Text(sender)),
            ("targetId", Value::Text(target)),
            ("documentId", Value::Text(document)),
            ("data", Value::Bytes(data)),
        ]
    }
}

impl Metadata {
    fn to_value(&self) -> Value {
        let storage =
            self.storage.iter().map(|storage| ("storageId", Value::Text(storage.clone())));
        let ephemeral = [("isEphemeral", Value::Bool(self.is_ephemeral))];
        to_map(storage.chain(ephemeral))
    }
}

fn to_map(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let fields = fields.into_iter().map(|(key, value)| (Value::Text(key.to_owned()), value));
    Value::Map(fields.collect())
}

#[expect(clippy::expect_used, reason = "a map of text, bytes and numbers goes into memory")]
fn to_frame(fields: Vec<(&'static str, Value)>) -> Vec<u8> {
    let mut frame = Vec::new();
    ciborium::into_writer(&to_map(fields), &mut frame).expect("CBOR was not written to memory");
    frame
}

/// The fields of a message that is read.
struct Fields {
    /// Its type, for errors.
    kind: &'static str,
    map: Vec<(Value, Value)>,
}

impl Fields {
    fn of(&mut self, kind: &'static str) -> &mut Self {
        self.kind = kind;
        self
    }

    /// The value of a field; of the last one, where there are several. `None` if it is absent.
    fn take(&mut self, field: &str) -> Option<Value> {
        let is_it = |(key, _): &(Value, Value)| key.as_text() == Some(field);
        let place = self.map.iter().rposition(is_it)?;
        let (_, value) = self.map.remove(place);
        (!value.is_null()).then_some(value)
    }

    fn bad(&self, field: &'static str) -> BadFrame {
        BadFrame::Field { kind: self.kind, field }
    }

    fn optional_text(&mut self, field: &'static str) -> Result<Option<String>, BadFrame> {
        let text = self.take(field).map(Value::into_text).transpose();
        text.map_err(|_| self.bad(field))
    }

    fn text(&mut self, field: &'static str) -> Result<String, BadFrame> {
        self.optional_text(field)?.ok_or_else(|| self.bad(field))
    }

    fn optional_name(&mut self, field: &'static str) -> Result<Option<String>, BadFrame> {
        let name = self.optional_text(field)?;
        match &name {
            Some(name) if name.is_empty() || NAME_BYTES_MAX < name.len() => Err(self.bad(field)),
            _ => Ok(name),
        }
    }

    fn name(&mut self, field: &'static str) -> Result<String, BadFrame> {
        self.optional_name(field)?.ok_or_else(|| self.bad(field))
    }

    fn bytes(&mut self, field: &'static str) -> Result<Vec<u8>, BadFrame> {
        match self.take(field) {
            Some(Value::Bytes(bytes)) => Ok(bytes),
            Some(Value::Tag(TAG_BYTES, value)) => value.into_bytes().map_err(|_| self.bad(field)),
            _ => Err(self.bad(field)),
        }
    }

    /// A number from 0 on, also as a float.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is known to be whole and between 0 and 2^53"
    )]
    fn count(&mut self, field: &'static str) -> Result<u64, BadFrame> {
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        match self.take(field) {
            Some(Value::Integer(count)) => count.try_into().map_err(|_| self.bad(field)),
            Some(Value::Float(count))
                if count.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&count) =>
            {
                Ok(count as u64)
            }
            _ => Err(self.bad(field)),
        }
    }

    fn exchange(&mut self) -> Result<Exchange, BadFrame> {
        Ok(Exchange {
            sender: self.name("senderId")?,
            target: self.name("targetId")?,
            document: self.name("documentId")?,
            data: self.bytes("data")?,
        })
    }

    /// What the peer says of itself: under one key in the program, and another in its description.
    fn metadata(&mut self) -> Result<Metadata, BadFrame> {
        let (field, metadata) = match self.take("peerMetadata") {
            Some(metadata) => ("peerMetadata", Some(metadata)),
            None => ("metadata", self.take("metadata")),
        };
        let Some(metadata) = metadata else { return Ok(Metadata::default()) };
        let map = metadata.into_map().map_err(|_| self.bad(field))?;
        let mut fields = Self { kind: self.kind, map };
        let is_ephemeral = match fields.take("isEphemeral") {
            None => false,
            Some(Value::Bool(is_ephemeral)) => is_ephemeral,
            Some(_) => return Err(self.bad("isEphemeral")),
        };
        Ok(Metadata { storage: fields.optional_name("storageId")?, is_ephemeral })
    }

    fn versions(&mut self) -> Result<Vec<String>, BadFrame> {
        const FIELD: &str = "supportedProtocolVersions";
        let Some(versions) = self.take(FIELD) else { return Ok(Vec::new()) };
        let versions = versions.into_array().map_err(|_| self.bad(FIELD))?;
        let texts = versions.into_iter().map(Value::into_text).collect::<Result<_, _>>();
        texts.map_err(|_| self.bad(FIELD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(pair).collect()
    }

    fn own(text: &str) -> String {
        text.to_owned()
    }

    /// As cbor-x writes them in automerge-repo 2.5.6.
    #[test]
    fn frames_of_stock_clients_are_read() {
        let join = "b900046474797065646a6f696e6873656e64657249646263316c706565724d65746164617461b900026973\
                    746f726167654964f76b6973457068656d6572616cf57819737570706f7274656450726f746f636f6c5665\
                    7273696f6e73816131";
        let metadata = Metadata { storage: None, is_ephemeral: true };
        let (sender, versions) = (own("c1"), vec![own("1")]);
        assert_eq!(Message::decode(&bytes(join)), Ok(Message::Join { sender, metadata, versions }));
        let sync = "b9000564747970656473796e636873656e646572496462633168746172676574496461736a646f63756d656e\
                    744964781c344e4d4e6e6b4d684c386a5872644a396a616d533538504156645875646461746145420000\
                    0000";
        let document = own("4NMNnkMhL8jXrdJ9jamS58PAVdXu");
        let data = vec![0x42, 0, 0, 0, 0];
        let exchange = Exchange { sender: own("c1"), target: own("s"), document, data };
        assert_eq!(Message::decode(&bytes(sync)), Ok(Message::Sync(exchange)));
        let ephemeral = "b90007647479706569657068656d6572616c6873656e646572496462633168746172676574496461736a\
                         646f63756d656e744964616465636f756e74fb42000000000000006973657373696f6e496461786464\
                         6174614101";
        let said = Ephemeral {
            sender: own("c1"),
            target: own("s"),
            document: own("d"),
            session: own("x"),
            count: 1 << 33,
            data: vec![1],
        };
        assert_eq!(Message::decode(&bytes(ephemeral)), Ok(Message::Ephemeral(said)));
    }

    #[test]
    fn frames_are_these_bytes() {
        let message =
            Message::Unavailable { sender: own("s"), target: own("c"), document: own("d") };
        let frame =
            b"\xa4\x64type\x6fdoc-unavailable\x68senderId\x61s\x68targetId\x61c\x6adocumentId\x61d";
        assert_eq!(message.encode(), frame);
        let metadata = Metadata { storage: Some(own("x")), is_ephemeral: false };
        let (sender, target, version) = (own("s"), own("c"), own("1"));
        let message = Message::Peer { sender, target, metadata, version };
        let frame = b"\xa5\x64type\x64peer\x68senderId\x61s\x68targetId\x61c\x6cpeerMetadata\xa2\x69storageId\
                      \x61x\x6bisEphemeral\xf4\x77selectedProtocolVersion\x611";
        assert_eq!(message.encode(), frame);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let exchange =
            Exchange { sender: own("a"), target: own("b"), document: own("d"), data: vec![0; 300] };
        let ephemeral = Ephemeral {
            sender: own("a"),
            target: own("b"),
            document: own("d"),
            session: own("s"),
            count: u64::MAX,
            data: Vec::new(),
        };
        let metadata = Metadata { storage: Some(own("x")), is_ephemeral: true };
        let (sender, target, message) = (own("a"), own("b"), own("no"));
        for message in [
            Message::Join { sender: own("a"), metadata, versions: vec![own("1"), own("2")] },
            Message::Error { sender, target, message },
            Message::Leave,
            Message::Request(exchange.clone()),
            Message::Sync(exchange),
            Message::Ephemeral(ephemeral),
            Message::Other,
        ] {
            assert_eq!(Message::decode(&message.clone().encode()), Ok(message));
        }
    }

    /// What other writers of CBOR may do with the same message.
    #[test]
    fn other_spellings_of_a_message_are_read() {
        let expected =
            Message::Unavailable { sender: own("s"), target: own("c"), document: own("d") };
        for (frame, what) in [
            (&b"\xbf\x6adocumentId\x61d\x68targetId\x61c\x68senderId\x61s\x64type\x6fdoc-unavailable\xff"[..],
             "without its length, in another order"),
            (b"\xa6\x61x\x82\x01\xf6\x01\x02\x64type\x6fdoc-unavailable\x68senderId\x61s\x68targetId\x61c\
               \x6adocumentId\x61d", "with keys that nobody knows"),
            (b"\xa5\x64type\x6fdoc-unavailable\x68senderId\x61?\x68senderId\x61s\x68targetId\x61c\
               \x6adocumentId\x61d", "with a field twice: the last one counts"),
        ] {
            assert_eq!(Message::decode(frame).as_ref(), Ok(&expected), "{what}");
        }
        for data in [&b"\x41\x07"[..], b"\xd8\x40\x41\x07", b"\x5f\x41\x07\xff"] {
            let head = b"\xa5\x64type\x64sync\x68senderId\x61s\x68targetId\x61c\x6adocumentId\x61d\x64data";
            let read = Message::decode(&[head, data].concat());
            assert!(
                matches!(read, Ok(Message::Sync(exchange)) if exchange.data == [7]),
                "{data:?}"
            );
        }
        for metadata in ["peerMetadata", "metadata"] {
            let mut frame = b"\xa3\x64type\x64join\x68senderId\x61s".to_vec();
            frame.push(0x60 + u8::try_from(metadata.len()).unwrap());
            frame.extend([metadata.as_bytes(), b"\xa1\x69storageId\x61x"].concat());
            let read = Message::decode(&frame);
            let Ok(Message::Join { metadata, versions, .. }) = read else { panic!("{read:?}") };
            assert_eq!((metadata.storage, versions), (Some(own("x")), Vec::new()));
        }
    }

    #[test]
    fn what_is_no_message_is_an_error_and_costs_nothing() {
        let deep = [vec![0x81; 100_000], vec![0xf6]].concat();
        for (frame, expected) in [
            (&[][..], BadFrame::NotCbor),
            (&[0xf6], BadFrame::NoType),
            (&[0xf7], BadFrame::NoType),
            (&[0x80], BadFrame::NoType),
            (&[0xa0], BadFrame::NoType),
            (b"\xa1\x64type\x01", BadFrame::NoType),
            (b"\x64join", BadFrame::NoType),
            (&[0xf6, 0xf6], BadFrame::Trailing),
            (&deep, BadFrame::NotCbor),
            // Lengths of 2^63 and more, of bytes, text, lists and maps.
            (&[0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], BadFrame::NotCbor),
            (&[0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], BadFrame::NotCbor),
            (&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], BadFrame::NotCbor),
            (&[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], BadFrame::NotCbor),
            (b"\xa1\x64type\x64sync", BadFrame::Field { kind: "sync", field: "senderId" }),
            (
                b"\xa2\x64type\x64join\x68senderId\x60",
                BadFrame::Field { kind: "join", field: "senderId" },
            ),
            (
                b"\xa3\x64type\x64join\x68senderId\x61s\x6cpeerMetadata\x01",
                BadFrame::Field { kind: "join", field: "peerMetadata" },
            ),
        ] {
            assert_eq!(
                Message::decode(frame),
                Err(expected),
                "{:?}",
                &frame[..frame.len().min(20)]
            );
        }
        let long = Message::Unavailable {
            sender: "s".repeat(NAME_BYTES_MAX + 1),
            target: own("c"),
            document: own("d"),
        };
        let field = BadFrame::Field { kind: "doc-unavailable", field: "senderId" };
        assert_eq!(Message::decode(&long.encode()), Err(field));
    }
}
