//! Identity: collections, keys, document ids, versions, cursors. Parsed once, never invalid.
//!
//! Pure, and free of Automerge: every room may import it. Text forms are `parse`/`Display`, byte
//! forms are `to_bytes`/`from_bytes`.

use std::{borrow::Borrow, fmt, str::FromStr};

/// Longest collection name, in bytes.
pub const COLLECTION_BYTES_MAX: usize = 64;
/// Longest key, in bytes of UTF-8.
pub const KEY_BYTES_MAX: usize = 512;
/// Longest name of a peer, in bytes: as long as the longest host and its port.
pub const PEER_NAME_BYTES_MAX: usize = 260;
/// The collection of documents that automerge-repo clients create; its keys are document ids.
pub const AUTOMERGE: &str = "automerge";

/// Why a name was refused; the text is fit for a user's eyes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not `[a-z][a-z0-9_-]{0,63}`.
    #[error("a collection name is a lower-case letter and up to 63 letters, digits, `_` or `-`")]
    Collection,
    /// No bytes at all.
    #[error("a key is at least one byte")]
    KeyEmpty,
    /// More than [`KEY_BYTES_MAX`] bytes.
    #[error("a key is at most 512 bytes of UTF-8")]
    KeyLong,
    /// A control character (U+0000 to U+001F, U+007F to U+009F).
    #[error("a key holds no control characters")]
    KeyControl,
    /// `.` or `..`, which URL clients fold away.
    #[error("`.` and `..` are not keys: clients remove them from URLs")]
    KeyDots,
    /// A leading `_`.
    #[error("names that begin with `_` belong to the system")]
    KeyReserved,
    /// A key of [`AUTOMERGE`] that is no bs58check document id.
    #[error("a key in the collection `automerge` is the bs58check id of an Automerge document")]
    KeyNotAnId,
}

/// Not [`PeerName`]'s letters, or too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a peer's name is at most 260 letters and digits of ASCII, `.`, `-`, `_`, `:`, `[` and `]`, and \
     begins with a letter, a digit or `[`"
)]
pub struct PeerNameError;

/// The name of a set of documents: `[a-z][a-z0-9_-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Collection(Box<str>);

impl Collection {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Collection {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let tail = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        let valid = text.len() <= COLLECTION_BYTES_MAX
            && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
            && text.bytes().all(tail);
        if valid { Ok(Self(text.into())) } else { Err(NameError::Collection) }
    }
}

impl fmt::Display for Collection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Borrow<str> for Collection {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What a peer is called on one node: `[A-Za-z0-9[][][A-Za-z0-9._:-]{0,259}`, so that a host and its port
/// are a name, and no name is folded away in a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(Box<str>);

impl PeerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerName {
    type Err = PeerNameError;

    fn from_str(text: &str) -> Result<Self, PeerNameError> {
        let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'[';
        let tail = |byte: u8| first(byte) || matches!(byte, b'.' | b'-' | b'_' | b':' | b']');
        let valid = text.len() <= PEER_NAME_BYTES_MAX
            && text.as_bytes().first().is_some_and(|byte| first(*byte))
            && text.bytes().all(tail);
        if valid { Ok(Self(text.into())) } else { Err(PeerNameError) }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A document's name in its collection: 1 to 512 bytes of UTF-8, compared by bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

impl Key {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "" => Err(NameError::KeyEmpty),
            "." | ".." => Err(NameError::KeyDots),
            _ if KEY_BYTES_MAX < text.len() => Err(NameError::KeyLong),
            _ if text.starts_with('_') => Err(NameError::KeyReserved),
            _ if text.chars().any(char::is_control) => Err(NameError::KeyControl),
            _ => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The 16 bytes that name an Automerge document everywhere; a UUID by layout.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId([u8; 16]);

impl DocumentId {
    /// The id of the document called `key` in `collection`.
    ///
    /// A key that is the bs58check of an id that is not version 8 names that id. Every other key
    /// gives the first 16 bytes of BLAKE3(`tombolo/document/v1` ‖ u8 length of collection ‖
    /// collection ‖ key) as a version 8 UUID, so nodes that never met agree on it.
    ///
    /// # Errors
    /// [`NameError::KeyNotAnId`] in the collection [`AUTOMERGE`], which holds foreign ids only.
    pub fn of(collection: &Collection, key: &Key) -> Result<Self, NameError> {
        if let Some(id) = Self::parse_bs58check(key.as_str()).filter(|id| !id.is_derived()) {
            return Ok(id);
        }
        if collection.as_str() == AUTOMERGE {
            return Err(NameError::KeyNotAnId);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"tombolo/document/v1");
        // A collection name has at most 64 bytes.
        hasher.update(&[u8::try_from(collection.0.len()).unwrap_or(u8::MAX)]);
        hasher.update(collection.0.as_bytes());
        hasher.update(key.0.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        id[6] = (id[6] & 0x0f) | 0x80;
        id[8] = (id[8] & 0x3f) | 0x80;
        Ok(Self(id))
    }

    /// Whether this id was derived from a name (UUID version 8).
    pub fn is_derived(self) -> bool {
        self.0[6] >> 4 == 8
    }

    /// The id that automerge-repo writes behind `automerge:`; `None` if it is none.
    pub fn parse_bs58check(text: &str) -> Option<Self> {
        // 16 bytes and 4 of checksum make at most 28 letters; longer text is not worth decoding.
        if 28 < text.len() {
            return None;
        }
        let bytes = bs58::decode(text).with_check(None).into_vec().ok()?;
        let id = Self(bytes.try_into().ok()?);
        // Only the canonical spelling names an id.
        (id.to_bs58check() == text).then_some(id)
    }

    /// The spelling that automerge-repo uses.
    pub fn to_bs58check(self) -> String {
        bs58::encode(self.0).with_check().into_string()
    }

    /// The document's URL for Automerge clients: `automerge:` and the bs58check id.
    pub fn to_url(self) -> String {
        format!("automerge:{}", self.to_bs58check())
    }

    /// The 16 bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// An id from its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for DocumentId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.to_bs58check())
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.to_bs58check())
    }
}

/// A document's whole name: where users find it, and the id that follows from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    collection: Collection,
    key: Key,
    id: DocumentId,
}

impl Name {
    /// The name of `key` in `collection`.
    ///
    /// # Errors
    /// [`NameError::KeyNotAnId`] if the collection takes only document ids as keys.
    pub fn new(collection: Collection, key: Key) -> Result<Self, NameError> {
        let id = DocumentId::of(&collection, &key)?;
        Ok(Self { collection, key, id })
    }

    /// The collection.
    pub fn collection(&self) -> &Collection {
        &self.collection
    }

    /// The key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The id that the two make.
    pub fn id(&self) -> DocumentId {
        self.id
    }
}

macro_rules! id16 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// From its 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(out, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(out, &self.0)
            }
        }

        impl FromStr for $name {
            type Err = VersionError;

            fn from_str(text: &str) -> Result<Self, VersionError> {
                parse_hex(text).map(Self)
            }
        }
    };
}

id16! {
    /// A node, made once with its data directory. Text: 32 lower-case hex digits.
    NodeId
}
id16! {
    /// What anybody may see of what a collection holds: equal where the same is held. Text: 32 lower-case
    /// hex digits.
    CollectionToken
}
id16! {
    /// One start of one node. Text: 32 lower-case hex digits.
    IncarnationId
}
id16! {
    /// Something in quarantine. Text: 32 lower-case hex digits.
    QuarantineId
}

/// The name of one change: its SHA-256. Text: 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// From its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(out, &self.0)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(out, &self.0)
    }
}

impl FromStr for Hash {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        parse_hex(text).map(Self)
    }
}

/// Why the text of a hash, version or id was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not lower-case hex digits of the right number.
    #[error("a change is named by 64 lower-case hex digits")]
    NotHex,
    /// Not `incarnation-seq` in hex digits.
    #[error("not a cursor of this node")]
    NotACursor,
}

/// A sorted set of change hashes: names exactly what has been seen. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Box<[Hash]>);

impl Version {
    /// The version that saw nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The hashes, sorted, each once.
    pub fn hashes(&self) -> &[Hash] {
        &self.0
    }

    /// Whether nothing has been seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Hash> for Version {
    fn from_iter<I: IntoIterator<Item = Hash>>(hashes: I) -> Self {
        let mut hashes: Vec<Hash> = hashes.into_iter().collect();
        hashes.sort_unstable();
        hashes.dedup();
        Self(hashes.into())
    }
}

/// Hashes joined by `.`, as in URLs and `ETag`.
impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, hash) in self.0.iter().enumerate() {
            if 0 < index {
                out.write_str(".")?;
            }
            write_hex(out, &hash.0)?;
        }
        Ok(())
    }
}

/// Hashes joined by `.`, in any order; the empty text is the empty version.
impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        if text.is_empty() {
            return Ok(Self::empty());
        }
        text.split('.').map(Hash::from_str).collect()
    }
}

/// How far someone has read a node's feed. Text: incarnation, `-`, seq in 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// The start of the node that gave it.
    pub incarnation: IncarnationId,
    /// The last seq read.
    pub seq: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{:016x}", self.incarnation, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let (incarnation, seq) = text.split_once('-').ok_or(VersionError::NotACursor)?;
        let incarnation = incarnation.parse().map_err(|_| VersionError::NotACursor)?;
        let seq: [u8; 8] = parse_hex(seq).map_err(|_| VersionError::NotACursor)?;
        Ok(Self { incarnation, seq: u64::from_be_bytes(seq) })
    }
}

fn write_hex(out: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0u8; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0x0f)];
    }
    out.write_str(std::str::from_utf8(&text[..2 * bytes.len()]).unwrap_or_default())
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], VersionError> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(VersionError::NotHex),
    };
    if text.len() != 2 * N {
        return Err(VersionError::NotHex);
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(collection: &str, key: &str) -> Result<DocumentId, NameError> {
        DocumentId::of(&collection.parse()?, &key.parse()?)
    }

    #[test]
    fn a_document_id_has_a_golden_value() {
        let golden = id("notes", "a").unwrap();
        assert_eq!(golden.to_bytes(), GOLDEN_NOTES_A);
        assert!(golden.is_derived());
        assert_ne!(id("note", "sa").unwrap(), golden, "the length of the collection counts");
    }
    /// Computed by another implementation of BLAKE3.
    const GOLDEN_NOTES_A: [u8; 16] =
        [69, 134, 223, 207, 35, 43, 142, 86, 177, 76, 158, 90, 135, 54, 63, 118];

    #[test]
    fn a_key_that_is_a_foreign_id_names_it() {
        let foreign = DocumentId::from_bytes([0x41; 16]);
        assert!(!foreign.is_derived());
        let key = foreign.to_bs58check();
        assert_eq!(id("automerge", &key), Ok(foreign));
        assert_eq!(id("notes", &key), Ok(foreign));
        assert_eq!(id("automerge", "notes"), Err(NameError::KeyNotAnId));
        let derived = id("notes", "a").unwrap();
        assert_eq!(id("automerge", &derived.to_bs58check()), Err(NameError::KeyNotAnId));
        assert_ne!(id("notes", &derived.to_bs58check()), Ok(derived));
        assert_eq!(foreign.to_url(), format!("automerge:{key}"));
    }

    #[test]
    fn names_are_refused_with_a_reason() {
        let long = "a".repeat(65);
        for name in ["", "A", "1", "_a", "a.b", "a b", "ä", long.as_str()] {
            assert_eq!(name.parse::<Collection>(), Err(NameError::Collection), "{name}");
        }
        assert!("a".repeat(64).parse::<Collection>().is_ok());
        let (max, over) = ("k".repeat(512), "k".repeat(513));
        assert!(max.parse::<Key>().is_ok());
        for (key, why) in [
            ("", NameError::KeyEmpty),
            (".", NameError::KeyDots),
            ("..", NameError::KeyDots),
            ("_x", NameError::KeyReserved),
            ("a\u{7f}", NameError::KeyControl),
            ("a\u{85}", NameError::KeyControl),
            ("a\0", NameError::KeyControl),
            (over.as_str(), NameError::KeyLong),
        ] {
            assert_eq!(key.parse::<Key>(), Err(why), "{key:?}");
        }
        assert!("...".parse::<Key>().is_ok());
        assert!("a/b c+%".parse::<Key>().is_ok());
    }

    #[test]
    fn a_peer_is_called_as_its_host_may_be_and_not_as_a_path_is() {
        let (max, over) = ("p".repeat(260), "p".repeat(261));
        for name in ["b", "127.0.0.1:7420", "[::1]:7420", "Node_2.example.com:80", &max] {
            assert_eq!(name.parse::<PeerName>().unwrap().to_string(), name);
        }
        for name in ["", ".", "..", "_b", "-b", ":80", "a b", "a/b", "a%", "ä", "b\n", &over] {
            assert_eq!(name.parse::<PeerName>(), Err(PeerNameError), "{name:?}");
        }
    }

    #[test]
    fn versions_are_sorted_sets() {
        let (a, b) = (Hash::from_bytes([0xab; 32]), Hash::from_bytes([1; 32]));
        let version: Version = [a, b, a].into_iter().collect();
        assert_eq!(version.hashes(), [b, a]);
        assert_eq!(version.to_string().parse(), Ok(version.clone()));
        assert_eq!(format!("{a}.{b}").parse(), Ok(version));
        assert_eq!("".parse(), Ok(Version::empty()));
        for text in ["ab", ".", &"AB".repeat(32), &format!("{a}."), &format!("{a},{b}")] {
            assert_eq!(text.parse::<Version>(), Err(VersionError::NotHex), "{text}");
        }
    }

    #[test]
    fn cursors_round_trip_and_garbage_is_refused() {
        let cursor = Cursor { incarnation: IncarnationId::from_bytes([7; 16]), seq: 258 };
        let text = cursor.to_string();
        assert_eq!(text, format!("{}-0000000000000102", "07".repeat(16)));
        assert_eq!(text.parse(), Ok(cursor));
        for text in ["", "-", "07-1", &text[1..], &format!("{text}0")] {
            assert_eq!(text.parse::<Cursor>(), Err(VersionError::NotACursor), "{text}");
        }
    }
}
