//! What the store keeps of itself and of other nodes, field by field: the rows of the family `sys`.

use super::{
    codec::{Reader, Writer},
    error::Damaged,
    frame::{self, Kind},
};
use crate::ident::{Collection, Cursor, IncarnationId, NodeId};
use bytes::Bytes;

/// One start of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation {
    /// Its id.
    pub id: IncarnationId,
    /// The first seq that it gave, or would have given. A cursor of an incarnation is sound only
    /// below the start of the next.
    pub start_seq: u64,
}

impl Incarnation {
    /// ```text
    /// id (16), start_seq u64
    /// ```
    pub(super) fn encode(&self, key: &[u8]) -> Bytes {
        let mut out = Writer::new(Kind::Incarnation, 24);
        out.raw(&self.id.to_bytes());
        out.u64(self.start_seq);
        out.finish(key)
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, Damaged> {
        let mut fields = Reader::new(frame::open(Kind::Incarnation, key, value)?);
        let row = Self { id: IncarnationId::from_bytes(fields.array()?), start_seq: fields.u64()? };
        fields.end()?;
        Ok(row)
    }
}

/// The id of a collection, as its row holds it: u32.
pub(super) fn encode_collection(id: u32, key: &[u8]) -> Bytes {
    encode_u32(Kind::Collection, id, key)
}

/// The id of a collection.
pub(super) fn decode_collection(key: &[u8], value: &[u8]) -> Result<u32, Damaged> {
    decode_u32(Kind::Collection, key, value)
}

/// The format of the whole store, as its row holds it: u32.
pub(super) fn encode_format(format: u32, key: &[u8]) -> Bytes {
    encode_u32(Kind::Format, format, key)
}

/// The format of the whole store.
pub(super) fn decode_format(key: &[u8], value: &[u8]) -> Result<u32, Damaged> {
    decode_u32(Kind::Format, key, value)
}

/// The node's id, as its row holds it: 16 bytes.
pub(super) fn encode_node(node: NodeId, key: &[u8]) -> Bytes {
    let mut out = Writer::new(Kind::Node, 16);
    out.raw(&node.to_bytes());
    out.finish(key)
}

/// The node's id.
pub(super) fn decode_node(key: &[u8], value: &[u8]) -> Result<NodeId, Damaged> {
    let mut fields = Reader::new(frame::open(Kind::Node, key, value)?);
    let node = NodeId::from_bytes(fields.array()?);
    fields.end()?;
    Ok(node)
}

/// A cursor, as its row holds it: incarnation (16 bytes), seq u64.
pub(super) fn encode_cursor(cursor: Cursor, key: &[u8]) -> Bytes {
    let mut out = Writer::new(Kind::Cursor, 24);
    out.raw(&cursor.incarnation.to_bytes());
    out.u64(cursor.seq);
    out.finish(key)
}

/// A cursor.
pub(super) fn decode_cursor(key: &[u8], value: &[u8]) -> Result<Cursor, Damaged> {
    let mut fields = Reader::new(frame::open(Kind::Cursor, key, value)?);
    let incarnation = IncarnationId::from_bytes(fields.array()?);
    let cursor = Cursor { incarnation, seq: fields.u64()? };
    fields.end()?;
    Ok(cursor)
}

/// A node to replicate with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRow {
    /// Where it listens.
    pub url: String,
    /// Which collections are shared with it; `None`: all.
    pub collections: Option<Vec<Collection>>,
    /// Whether changes go to it.
    pub sends: bool,
    /// Whether changes come from it.
    pub takes: bool,
}

const SENDS: u8 = 1;
const TAKES: u8 = 2;
const ALL: u8 = 4;

impl PeerRow {
    /// ```text
    /// flags u8 (1: changes go to it, 2: changes come from it, 4: all collections), url (counted by a u32),
    /// collections (each counted by a u32)
    /// ```
    pub(super) fn encode(&self, key: &[u8]) -> Bytes {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let mut out = Writer::new(Kind::Peer, 64);
        let all = flag(self.collections.is_none(), ALL);
        out.u8(flag(self.sends, SENDS) | flag(self.takes, TAKES) | all);
        out.counted(self.url.as_bytes());
        for collection in self.collections.iter().flatten() {
            out.counted(collection.as_str().as_bytes());
        }
        out.finish(key)
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, Damaged> {
        let mut fields = Reader::new(frame::open(Kind::Peer, key, value)?);
        let flags = fields.u8()?;
        if flags & !(SENDS | TAKES | ALL) != 0 {
            return Err(Damaged("a flag is unknown"));
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let url = text(fields.counted()?).ok_or(Damaged("a URL is not one"))?;
        let mut named = Vec::new();
        while !fields.is_empty() {
            let collection = text(fields.counted()?).and_then(|text| text.parse().ok());
            named.push(collection.ok_or(Damaged("a collection is not one"))?);
        }
        let collections = match (flags & ALL != 0, named) {
            (true, none) if none.is_empty() => None,
            (false, some) if !some.is_empty() => Some(some),
            _ => return Err(Damaged("a peer shares neither all nor some collections")),
        };
        let (sends, takes) = (flags & SENDS != 0, flags & TAKES != 0);
        if !sends && !takes {
            return Err(Damaged("changes go neither to a peer nor come from it"));
        }
        Ok(Self { url, collections, sends, takes })
    }
}

fn encode_u32(kind: Kind, value: u32, key: &[u8]) -> Bytes {
    let mut out = Writer::new(kind, 4);
    out.u32(value);
    out.finish(key)
}

fn decode_u32(kind: Kind, key: &[u8], value: &[u8]) -> Result<u32, Damaged> {
    let mut fields = Reader::new(frame::open(kind, key, value)?);
    let value = fields.u32()?;
    fields.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"row";

    /// The payload in hex, behind the frame's header.
    fn payload(frame: &Bytes) -> String {
        frame[frame::HEADER_BYTES..].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn rows_about_the_store_have_golden_bytes() {
        let incarnation = Incarnation { id: IncarnationId::from_bytes([7; 16]), start_seq: 258 };
        let encoded = incarnation.encode(KEY);
        assert_eq!(payload(&encoded), "07".repeat(16) + "0201000000000000");
        assert_eq!(Incarnation::decode(KEY, &encoded), Ok(incarnation));
        let node = NodeId::from_bytes([8; 16]);
        let encoded = encode_node(node, KEY);
        assert_eq!(payload(&encoded), "08".repeat(16));
        assert_eq!(decode_node(KEY, &encoded), Ok(node));
        assert_eq!(payload(&encode_collection(258, KEY)), "02010000");
        assert_eq!(decode_collection(KEY, &encode_collection(258, KEY)), Ok(258));
        assert_eq!(decode_format(KEY, &encode_format(1, KEY)), Ok(1));
        assert!(decode_format(KEY, &encode_collection(1, KEY)).is_err());
        let cursor = Cursor { incarnation: incarnation.id, seq: 258 };
        let encoded = encode_cursor(cursor, KEY);
        assert_eq!(payload(&encoded), "07".repeat(16) + "0201000000000000");
        assert_eq!(decode_cursor(KEY, &encoded), Ok(cursor));
    }

    #[test]
    fn a_peer_has_golden_bytes() {
        let all = PeerRow { url: "u:1".to_owned(), collections: None, sends: true, takes: false };
        assert_eq!(payload(&all.encode(KEY)), "0503000000753a31");
        let collections = Some(vec!["a".parse().unwrap(), "bc".parse().unwrap()]);
        let some = PeerRow { collections, takes: true, ..all.clone() };
        assert_eq!(payload(&some.encode(KEY)), "0303000000753a310100000061020000006263");
        for row in [all, some] {
            assert_eq!(PeerRow::decode(KEY, &row.encode(KEY)), Ok(row));
        }
        for (strange, why) in [
            (&[8, 0, 0, 0, 0][..], "a flag is unknown"),
            (&[4, 0, 0, 0, 0], "changes go neither to a peer nor come from it"),
            (&[1, 0, 0, 0, 0], "a peer shares neither all nor some collections"),
            (&[1, 1, 0, 0, 0, 0xff], "a URL is not one"),
            (&[1, 0, 0, 0, 0, 1, 0, 0, 0, b'/'], "a collection is not one"),
        ] {
            let row = [&[0; frame::HEADER_BYTES], strange].concat();
            let row = frame::seal(Kind::Peer, KEY, row);
            assert_eq!(PeerRow::decode(KEY, &row), Err(Damaged(why)));
        }
    }
}
