//! Rows of documents: what the values of each family hold, field by field. What the store keeps of itself
//! has its own (`sys.rs`).
//!
//! Every row is one frame. Its layout is written beside its codec and held by golden bytes; a layout
//! never changes under the same frame format.

use super::{
    codec::{Reader, Writer},
    error::Damaged,
    frame::{self, Kind},
};
use crate::ident::{DocumentId, Key, Version};
use bytes::Bytes;

/// Where a change came to this group of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Here: by REST, by a socket, by an import.
    Own,
    /// At another node, which sent it.
    Foreign,
}

/// What is known of a document without loading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The id of its collection, in this store.
    pub collection: u32,
    /// Its key.
    pub key: Key,
    /// Its version.
    pub version: Version,
    /// The commit that last moved its version.
    pub seq: u64,
    /// The last commit that brought it a change of [`Origin::Own`]; 0: none did.
    pub own_seq: u64,
    /// It is deleted.
    pub deleted: bool,
    /// It is over a limit of this node, and may not grow.
    pub oversize: bool,
    /// What was stored of it was damaged and is kept aside: it is neither read nor written.
    pub quarantined: bool,
    /// Its view is not made yet.
    pub view_stale: bool,
    /// What stands in it without being visible; made and read by the room `doc`.
    pub standing: Bytes,
    /// Bytes of the changes that were logged since the snapshot.
    pub log_bytes: u64,
    /// How many changes were logged since the snapshot.
    pub log_count: u32,
    /// How many changes the snapshot holds; 0: there is no snapshot.
    pub snapshot_changes: u32,
    /// The seq under which the snapshot is stored; 0: there is no snapshot.
    pub snapshot_seq: u64,
}

const DELETED: u8 = 1;
const OVERSIZE: u8 = 2;
const QUARANTINED: u8 = 4;
const VIEW_STALE: u8 = 8;

impl Head {
    /// ```text
    /// collection u32, flags u8, seq u64, own_seq u64, log_bytes u64, log_count u32,
    /// snapshot_changes u32, snapshot_seq u64, key, version, standing (each counted by a u32)
    /// ```
    pub(super) fn encode(&self, key: &[u8]) -> Bytes {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let mut out = Writer::new(Kind::Head, 160 + self.standing.len());
        out.u32(self.collection);
        out.u8(flag(self.deleted, DELETED)
            | flag(self.oversize, OVERSIZE)
            | flag(self.quarantined, QUARANTINED)
            | flag(self.view_stale, VIEW_STALE));
        out.u64(self.seq);
        out.u64(self.own_seq);
        out.u64(self.log_bytes);
        out.u32(self.log_count);
        out.u32(self.snapshot_changes);
        out.u64(self.snapshot_seq);
        out.counted(self.key.as_str().as_bytes());
        out.version(&self.version);
        out.counted(&self.standing);
        out.finish(key)
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, Damaged> {
        let mut fields = Reader::new(frame::open(Kind::Head, key, value)?);
        let collection = fields.u32()?;
        let flags = fields.u8()?;
        if flags & !(DELETED | OVERSIZE | QUARANTINED | VIEW_STALE) != 0 {
            return Err(Damaged("a flag is unknown"));
        }
        let head = Self {
            collection,
            seq: fields.u64()?,
            own_seq: fields.u64()?,
            deleted: flags & DELETED != 0,
            oversize: flags & OVERSIZE != 0,
            quarantined: flags & QUARANTINED != 0,
            view_stale: flags & VIEW_STALE != 0,
            log_bytes: fields.u64()?,
            log_count: fields.u32()?,
            snapshot_changes: fields.u32()?,
            snapshot_seq: fields.u64()?,
            key: fields.key()?,
            version: fields.version()?,
            standing: Bytes::copy_from_slice(fields.counted()?),
        };
        fields.end()?;
        Ok(head)
    }
}

/// A live document as it is read. `B` is what holds its JSON: shared bytes, or a borrow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View<B = Bytes> {
    /// Its version.
    pub version: Version,
    /// How many places hold more than one value.
    pub conflicts: u32,
    /// Its plain JSON; `None` if it has to be made first.
    pub json: Option<B>,
}

impl<B: AsRef<[u8]>> View<B> {
    /// ```text
    /// conflicts u32, made u8, version (counted by a u32), JSON
    /// ```
    pub(super) fn encode(&self, key: &[u8]) -> Bytes {
        let json = self.json.as_ref().map(AsRef::as_ref);
        let mut out = Writer::new(Kind::View, 48 + json.map_or(0, <[u8]>::len));
        out.u32(self.conflicts);
        out.u8(u8::from(json.is_some()));
        out.version(&self.version);
        out.raw(json.unwrap_or_default());
        out.finish(key)
    }
}

impl View {
    /// The JSON is a slice of `value`, not a copy.
    pub(super) fn decode(key: &[u8], value: &Bytes) -> Result<Self, Damaged> {
        let View { version, conflicts, json } = View::borrow(key, value)?;
        Ok(Self { version, conflicts, json: json.map(|json| value.slice_ref(json)) })
    }
}

impl<'a> View<&'a [u8]> {
    pub(super) fn borrow(key: &[u8], value: &'a [u8]) -> Result<Self, Damaged> {
        let mut fields = Reader::new(frame::open(Kind::View, key, value)?);
        let conflicts = fields.u32()?;
        let made = fields.u8()?;
        let version = fields.version()?;
        let json = match (made, fields.rest()) {
            (0, []) => None,
            (1, json) => Some(json),
            _ => return Err(Damaged("a view is neither made nor to be made")),
        };
        Ok(Self { version, conflicts, json })
    }
}

/// One stored piece of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// One change.
    Change {
        /// Where it came to this group of nodes.
        origin: Origin,
        /// The change, as Automerge writes it.
        bytes: Bytes,
    },
    /// All changes up to some version.
    Snapshot {
        /// The version to which it loads.
        version: Version,
        /// The document, as Automerge saves it.
        bytes: Bytes,
    },
}

impl Chunk {
    /// What Automerge reads.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Change { bytes, .. } | Self::Snapshot { bytes, .. } => bytes,
        }
    }

    /// What Automerge reads.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Change { bytes, .. } | Self::Snapshot { bytes, .. } => bytes,
        }
    }

    /// ```text
    /// 0 u8 (a change of its own) or 1 u8 (a foreign change), bytes
    /// 2 u8 (a snapshot), version (counted by a u32), bytes
    /// ```
    pub(super) fn encode(&self, key: &[u8]) -> Bytes {
        let mut out = Writer::new(Kind::Chunk, 40 + self.bytes().len());
        match self {
            Self::Change { origin: Origin::Own, .. } => out.u8(0),
            Self::Change { origin: Origin::Foreign, .. } => out.u8(1),
            Self::Snapshot { version, .. } => {
                out.u8(2);
                out.version(version);
            }
        }
        out.raw(self.bytes());
        out.finish(key)
    }

    /// The bytes are a slice of `value`, not a copy.
    pub(super) fn decode(key: &[u8], value: &Bytes) -> Result<Self, Damaged> {
        let mut fields = Reader::new(frame::open(Kind::Chunk, key, value)?);
        match fields.u8()? {
            0 => Ok(Self::Change { origin: Origin::Own, bytes: value.slice_ref(fields.rest()) }),
            1 => {
                Ok(Self::Change { origin: Origin::Foreign, bytes: value.slice_ref(fields.rest()) })
            }
            2 => {
                let version = fields.version()?;
                Ok(Self::Snapshot { version, bytes: value.slice_ref(fields.rest()) })
            }
            _ => Err(Damaged("a chunk is of an unknown kind")),
        }
    }
}

/// A document's place in the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedRow {
    /// Its id.
    pub id: DocumentId,
    /// The id of its collection, in this store.
    pub collection: u32,
    /// Its key.
    pub key: Key,
    /// Its version.
    pub version: Version,
    /// It is deleted.
    pub deleted: bool,
    /// How many places hold more than one value.
    pub conflicts: u32,
    /// The last commit that brought it a change of [`Origin::Own`]; 0: none did.
    pub own_seq: u64,
    /// Where this commit's changes came to this group of nodes.
    pub origin: Origin,
}

impl FeedRow {
    /// ```text
    /// id (16), collection u32, deleted u8, foreign u8, conflicts u32, own_seq u64,
    /// key, version (each counted by a u32)
    /// ```
    pub(super) fn encode(&self, key: &[u8]) -> Bytes {
        let mut out = Writer::new(Kind::Feed, 128);
        out.raw(&self.id.to_bytes());
        out.u32(self.collection);
        out.u8(u8::from(self.deleted));
        out.u8(match self.origin {
            Origin::Own => 0,
            Origin::Foreign => 1,
        });
        out.u32(self.conflicts);
        out.u64(self.own_seq);
        out.counted(self.key.as_str().as_bytes());
        out.version(&self.version);
        out.finish(key)
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, Damaged> {
        let mut fields = Reader::new(frame::open(Kind::Feed, key, value)?);
        let row = Self {
            id: DocumentId::from_bytes(fields.array()?),
            collection: fields.u32()?,
            deleted: match fields.u8()? {
                0 => false,
                1 => true,
                _ => return Err(Damaged("a feed row neither lives nor is deleted")),
            },
            origin: match fields.u8()? {
                0 => Origin::Own,
                1 => Origin::Foreign,
                _ => return Err(Damaged("a feed row's origin is unknown")),
            },
            conflicts: fields.u32()?,
            own_seq: fields.u64()?,
            key: fields.key()?,
            version: fields.version()?,
        };
        fields.end()?;
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::Hash;

    const KEY: &[u8] = b"row";

    /// The payload in hex, fields apart, behind the frame's header.
    fn payload(frame: &Bytes) -> String {
        frame[frame::HEADER_BYTES..].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn hex(fields: &[&str]) -> String {
        fields.concat()
    }

    fn version(bytes: &[u8]) -> Version {
        bytes.iter().map(|byte| Hash::from_bytes([*byte; 32])).collect()
    }

    fn head() -> Head {
        Head {
            collection: 0x0102,
            key: "k".parse().unwrap(),
            version: version(&[0xaa, 0xbb]),
            seq: 3,
            own_seq: 4,
            deleted: true,
            oversize: false,
            quarantined: false,
            view_stale: true,
            standing: Bytes::from_static(b"st"),
            log_bytes: 5,
            log_count: 6,
            snapshot_changes: 7,
            snapshot_seq: 8,
        }
    }

    fn feed_row() -> FeedRow {
        FeedRow {
            id: DocumentId::from_bytes([9; 16]),
            collection: 1,
            key: "k".parse().unwrap(),
            version: version(&[0xaa]),
            deleted: true,
            conflicts: 2,
            own_seq: 3,
            origin: Origin::Foreign,
        }
    }

    #[test]
    fn a_head_has_golden_bytes() {
        let encoded = head().encode(KEY);
        let golden = hex(&[
            "02010000",
            "09",
            "0300000000000000",
            "0400000000000000",
            "0500000000000000",
            "06000000",
            "07000000",
            "0800000000000000",
            "01000000",
            "6b",
            "02000000",
            &"aa".repeat(32),
            &"bb".repeat(32),
            "02000000",
            "7374",
        ]);
        assert_eq!(payload(&encoded), golden);
        assert_eq!(Head::decode(KEY, &encoded), Ok(head()));
        for set in [1, 2, 3] {
            let mut other = head();
            (other.deleted, other.oversize, other.quarantined) = (set == 1, set == 2, set == 3);
            assert_eq!(Head::decode(KEY, &other.encode(KEY)), Ok(other));
        }
    }

    #[test]
    fn a_view_has_golden_bytes_and_shares_its_json() {
        let view =
            View { version: version(&[0xaa]), conflicts: 3, json: Some(Bytes::from_static(b"{}")) };
        let encoded = view.encode(KEY);
        let golden = hex(&["03000000", "01", "01000000", &"aa".repeat(32), "7b7d"]);
        assert_eq!(payload(&encoded), golden);
        let decoded = View::decode(KEY, &encoded).unwrap();
        assert_eq!(decoded, view);
        let json = decoded.json.unwrap();
        assert_eq!(json.as_ptr(), encoded[encoded.len() - 2..].as_ptr(), "no copy was made");
        let stale = View { json: None, ..view };
        let encoded = stale.encode(KEY);
        assert_eq!(payload(&encoded), hex(&["03000000", "00", "01000000", &"aa".repeat(32)]));
        assert_eq!(View::decode(KEY, &encoded), Ok(stale));
    }

    #[test]
    fn chunks_have_golden_bytes() {
        let bytes = Bytes::from_static(b"xy");
        for (chunk, golden) in [
            (Chunk::Change { origin: Origin::Own, bytes: bytes.clone() }, hex(&["00", "7879"])),
            (Chunk::Change { origin: Origin::Foreign, bytes: bytes.clone() }, hex(&["01", "7879"])),
            (
                Chunk::Snapshot { version: version(&[0xaa]), bytes },
                hex(&["02", "01000000", &"aa".repeat(32), "7879"]),
            ),
        ] {
            let encoded = chunk.encode(KEY);
            assert_eq!(payload(&encoded), golden);
            assert_eq!(Chunk::decode(KEY, &encoded), Ok(chunk));
        }
    }

    #[test]
    fn a_feed_row_has_golden_bytes() {
        let encoded = feed_row().encode(KEY);
        let golden = hex(&[
            &"09".repeat(16),
            "01000000",
            "01",
            "01",
            "02000000",
            "0300000000000000",
            "01000000",
            "6b",
            "01000000",
            &"aa".repeat(32),
        ]);
        assert_eq!(payload(&encoded), golden);
        assert_eq!(FeedRow::decode(KEY, &encoded), Ok(feed_row()));
    }

    /// Payloads that the checksum vouches for and that are still not rows: what a defect writes.
    #[test]
    fn a_whole_frame_with_a_strange_payload_is_damage() {
        let mut random = fastrand::Rng::with_seed(1);
        let rows = [
            (Kind::Head, head().encode(KEY)),
            (Kind::Feed, feed_row().encode(KEY)),
            (
                Kind::View,
                View { version: version(&[1]), conflicts: 0, json: Some("{}") }.encode(KEY),
            ),
        ];
        for _ in 0..20_000 {
            let (kind, row) = &rows[random.usize(..rows.len())];
            let mut bytes = row[..random.usize(frame::HEADER_BYTES..=row.len())].to_vec();
            for _ in 0..random.usize(0..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            let bytes = frame::seal(*kind, KEY, bytes);
            // Reads garbage or refuses it, and neither panics nor allocates by what a count claims.
            let _ = Head::decode(KEY, &bytes);
            let _ = FeedRow::decode(KEY, &bytes);
            let _ = View::decode(KEY, &bytes);
            let _ = Chunk::decode(KEY, &frame::seal(Kind::Chunk, KEY, bytes.to_vec()));
        }
        let mut flags = head().encode(KEY).to_vec();
        flags[frame::HEADER_BYTES + 4] = 16;
        let flags = frame::seal(Kind::Head, KEY, flags);
        assert_eq!(Head::decode(KEY, &flags), Err(Damaged("a flag is unknown")));
        let longer = frame::seal(Kind::Head, KEY, [&head().encode(KEY)[..], &[0]].concat());
        assert_eq!(Head::decode(KEY, &longer), Err(Damaged("bytes follow the last field")));
    }
}
