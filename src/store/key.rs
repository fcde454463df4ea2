//! Keys: the only file that knows their bytes. Numbers are big-endian, so byte order is logical order.
//!
//! | family | key |
//! |---|---|
//! | `view` | collection id (u32), bytes of the document's key |
//! | `head` | document id (16 bytes) |
//! | `chunk` | document id, seq (u64), n (u32) |
//! | `feed` | seq (u64) |
//! | `orphan` | document id, hash of a change (32 bytes) |
//! | `kept` | kind (u8), bytes |
//! | `sys` | text: `collection/NAME`, `cursor/NODE`, `format`, `incarnation/NNNNNNNN` (hex), `node`, `peer/NAME` |

use super::engine::Range;
use crate::ident::{Collection, DocumentId, Hash, Key, NodeId, PeerName};

/// A column family: rows of one shape, in key order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Present JSON of live documents, in order of collection and key.
    View,
    /// What is known of each document, in order of document id.
    Head,
    /// Changes and snapshots, in order of document id and seq.
    Chunk,
    /// One row per document, in order of its last commit.
    Feed,
    /// Changes whose dependencies are not here yet.
    Orphan,
    /// Idempotency answers, tokens, quarantined bytes.
    Kept,
    /// What the store knows of itself.
    Sys,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 7] =
        [Self::View, Self::Head, Self::Chunk, Self::Feed, Self::Orphan, Self::Kept, Self::Sys];

    /// The name under which an engine knows it; never reused for something else.
    pub const fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Head => "head",
            Self::Chunk => "chunk",
            Self::Feed => "feed",
            Self::Orphan => "orphan",
            Self::Kept => "kept",
            Self::Sys => "sys",
        }
    }
}

/// Where a chunk stands among its document's chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkAt {
    /// The commit that wrote it.
    pub seq: u64,
    /// Its place among that commit's chunks, from 0.
    pub n: u32,
}

/// A row of the family `sys`. The order is that of the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SysKey {
    /// The id of a collection.
    Collection(Collection),
    /// The version of the format of everything.
    Format,
    /// How far the feed of another node has been taken in.
    Cursor(NodeId),
    /// An incarnation, counted from 0.
    Incarnation(u32),
    /// The node's id.
    Node,
    /// A node to replicate with, that was added while this one ran.
    Peer(PeerName),
}

const COLLECTION: &str = "collection/";
const CURSOR: &str = "cursor/";
const FORMAT: &str = "format";
const INCARNATION: &str = "incarnation/";
const NODE: &str = "node";
const PEER: &str = "peer/";

/// The key of a view.
pub fn encode_view(collection: u32, key: &Key) -> Vec<u8> {
    view_prefix(collection, key.as_str())
}

/// The collection id and key of a view.
pub fn decode_view(bytes: &[u8]) -> Option<(u32, Key)> {
    let (collection, key) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*collection), std::str::from_utf8(key).ok()?.parse().ok()?))
}

/// The key of a head.
pub fn encode_head(id: DocumentId) -> [u8; 16] {
    id.to_bytes()
}

/// The document of a head.
pub fn decode_head(bytes: &[u8]) -> Option<DocumentId> {
    Some(DocumentId::from_bytes(bytes.try_into().ok()?))
}

/// The key of a chunk.
pub fn encode_chunk(id: DocumentId, at: ChunkAt) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..16].copy_from_slice(&id.to_bytes());
    bytes[16..24].copy_from_slice(&at.seq.to_be_bytes());
    bytes[24..].copy_from_slice(&at.n.to_be_bytes());
    bytes
}

/// The document and place of a chunk.
pub fn decode_chunk(bytes: &[u8]) -> Option<(DocumentId, ChunkAt)> {
    let (id, rest) = bytes.split_first_chunk()?;
    let (seq, n) = rest.split_first_chunk()?;
    let at = ChunkAt { seq: u64::from_be_bytes(*seq), n: u32::from_be_bytes(n.try_into().ok()?) };
    Some((DocumentId::from_bytes(*id), at))
}

/// The key of a feed row.
pub fn encode_feed(seq: u64) -> [u8; 8] {
    seq.to_be_bytes()
}

/// The seq of a feed row.
pub fn decode_feed(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// The key of a change that waits for its dependencies.
pub fn encode_orphan(id: DocumentId, change: Hash) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[..16].copy_from_slice(&id.to_bytes());
    bytes[16..].copy_from_slice(&change.to_bytes());
    bytes
}

/// The document and name of a change that waits for its dependencies.
pub fn decode_orphan(bytes: &[u8]) -> Option<(DocumentId, Hash)> {
    let (id, change) = bytes.split_first_chunk()?;
    Some((DocumentId::from_bytes(*id), Hash::from_bytes(change.try_into().ok()?)))
}

/// The key of a kept thing.
pub fn encode_kept(kind: u8, name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + name.len());
    bytes.push(kind);
    bytes.extend_from_slice(name);
    bytes
}

/// The key of a kept answer: in order of the time until which it is kept.
pub fn encode_answer(kind: u8, until_seconds: u64, name: &[u8; 32]) -> Vec<u8> {
    encode_kept(kind, &[&until_seconds.to_be_bytes()[..], name].concat())
}

/// The kind and name of a kept thing.
pub fn decode_kept(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (kind, name) = bytes.split_first()?;
    Some((*kind, name))
}

/// The key of a row about the store itself.
pub fn encode_sys(key: &SysKey) -> Vec<u8> {
    match key {
        SysKey::Collection(name) => format!("{COLLECTION}{name}").into_bytes(),
        SysKey::Cursor(node) => format!("{CURSOR}{node}").into_bytes(),
        SysKey::Format => FORMAT.into(),
        SysKey::Incarnation(count) => format!("{INCARNATION}{count:08x}").into_bytes(),
        SysKey::Node => NODE.into(),
        SysKey::Peer(name) => format!("{PEER}{name}").into_bytes(),
    }
}

/// The meaning of a row about the store itself.
pub fn decode_sys(bytes: &[u8]) -> Option<SysKey> {
    let text = std::str::from_utf8(bytes).ok()?;
    let key = match text {
        FORMAT => SysKey::Format,
        NODE => SysKey::Node,
        _ => {
            let (kind, name) = text.split_at(text.find('/')? + 1);
            match kind {
                COLLECTION => SysKey::Collection(name.parse().ok()?),
                CURSOR => SysKey::Cursor(name.parse().ok()?),
                INCARNATION => SysKey::Incarnation(u32::from_str_radix(name, 16).ok()?),
                PEER => SysKey::Peer(name.parse().ok()?),
                _ => return None,
            }
        }
    };
    // Signs, capitals and missing zeros would be second spellings of one key.
    (encode_sys(&key) == bytes).then_some(key)
}

/// The views of a collection whose keys begin with `prefix` and come after `after`.
pub fn view_range(collection: u32, prefix: &str, after: Option<&Key>) -> Range {
    let range = Range::prefix(&view_prefix(collection, prefix));
    match after {
        Some(key) => range.after(&encode_view(collection, key)),
        None => range,
    }
}

/// The chunks of a document.
pub fn chunk_range(id: DocumentId) -> Range {
    Range::prefix(&id.to_bytes())
}

/// The feed after `seq`.
pub fn feed_range(seq: u64) -> Range {
    Range::all().after(&encode_feed(seq))
}

/// All incarnations, in order.
pub fn incarnation_range() -> Range {
    Range::prefix(INCARNATION.as_bytes())
}

/// The heads of the documents whose ids begin so.
pub fn head_range(first: &[u8]) -> Range {
    Range::prefix(first)
}

/// The chunks of a document that were stored after `seq`.
pub fn chunk_range_after(id: DocumentId, seq: u64) -> Range {
    chunk_range(id).after(&encode_chunk(id, ChunkAt { seq, n: u32::MAX }))
}

/// All collections, by name.
pub fn collection_range() -> Range {
    Range::prefix(COLLECTION.as_bytes())
}

/// All peers that were added, by name.
pub fn peer_range() -> Range {
    Range::prefix(PEER.as_bytes())
}

fn view_prefix(collection: u32, text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + text.len());
    bytes.extend_from_slice(&collection.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> DocumentId {
        DocumentId::from_bytes([byte; 16])
    }

    #[test]
    fn keys_have_golden_bytes() {
        let key: Key = "a/é".parse().unwrap();
        assert_eq!(encode_view(0x0102, &key), [0, 0, 1, 2, b'a', b'/', 0xc3, 0xa9]);
        assert_eq!(encode_head(id(7)), [7; 16]);
        let chunk = encode_chunk(id(7), ChunkAt { seq: 0x0102, n: 3 });
        assert_eq!(chunk, [[7; 16].as_slice(), &[0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3]].concat()[..]);
        assert_eq!(encode_feed(0x0102), [0, 0, 0, 0, 0, 0, 1, 2]);
        let orphan = encode_orphan(id(7), Hash::from_bytes([9; 32]));
        assert_eq!(orphan, [[7; 16].as_slice(), &[9; 32]].concat()[..]);
        assert_eq!(encode_kept(4, b"xy"), [4, b'x', b'y']);
        for (key, golden) in [
            (SysKey::Collection("notes".parse().unwrap()), "collection/notes"),
            (
                SysKey::Cursor(NodeId::from_bytes([0xab; 16])),
                "cursor/abababababababababababababababab",
            ),
            (SysKey::Format, "format"),
            (SysKey::Incarnation(258), "incarnation/00000102"),
            (SysKey::Node, "node"),
            (SysKey::Peer("[::1]:7420".parse().unwrap()), "peer/[::1]:7420"),
        ] {
            assert_eq!(encode_sys(&key), golden.as_bytes());
        }
    }

    #[test]
    fn families_have_golden_names() {
        let names = Family::ALL.map(Family::name);
        assert_eq!(names, ["view", "head", "chunk", "feed", "orphan", "kept", "sys"]);
    }

    #[test]
    fn a_second_spelling_of_a_sys_key_is_none() {
        for text in [
            "incarnation/1",
            "incarnation/+0000001",
            "incarnation/0000000A",
            "collection/A",
            "nodes",
            "peer/",
            "peer/_b",
        ] {
            assert_eq!(decode_sys(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_view_range_holds_its_prefix_after_the_given_key() {
        let key = |text: &str| text.parse::<Key>().unwrap();
        let all = ["a", "aa", "ab", "abc", "b"].map(|text| encode_view(1, &key(text)));
        let within = |range: &Range| -> Vec<usize> {
            (0..all.len()).filter(|&n| range.contains(&all[n])).collect()
        };
        assert_eq!(within(&view_range(1, "", None)), [0, 1, 2, 3, 4]);
        assert_eq!(within(&view_range(1, "ab", None)), [2, 3]);
        assert_eq!(within(&view_range(1, "ab", Some(&key("ab")))), [3]);
        assert_eq!(within(&view_range(1, "ab", Some(&key("a")))), [2, 3]);
        assert_eq!(within(&view_range(1, "a", Some(&key("b")))), [0; 0]);
        assert_eq!(within(&view_range(2, "", None)), [0; 0]);
        assert_eq!(within(&view_range(u32::MAX, "", None)), [0; 0]);
    }
}
