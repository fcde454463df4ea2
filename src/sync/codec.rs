//! Bytes on the wire: little-endian, and every count checked against what is left before anything is
//! set aside for it.

use super::{message::Salt, sketch::Cell};
use crate::ident::{Cursor, DocumentId, Hash, IncarnationId, Name, NodeId, Version};

/// The one format that is spoken. Every message begins with it.
pub const FORMAT: u8 = 1;

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Another format.
    #[error("a message of format {0}, where {FORMAT} is spoken")]
    Format(u8),
    /// No kind of message.
    #[error("a message of no known kind, {0}")]
    Kind(u8),
    /// It ends too soon, or a count lies.
    #[error("a message that ends too soon")]
    Short,
    /// Something follows it.
    #[error("a message that goes on behind its end")]
    Long,
    /// A collection or key that can name nothing.
    #[error("a message with a name that is none")]
    Name,
    /// A slice with a longer beginning than any has.
    #[error("a message with a slice that is none")]
    Slice,
    /// Neither yes nor no.
    #[error("a message with a flag that is none")]
    Flag,
    /// Collections out of order.
    #[error("a message with a scope that is none")]
    Scope,
    /// A list with more in it than its bound.
    #[error("a message that lists more than any may")]
    Many,
    /// Heads of a version out of order.
    #[error("a message with a version that is none")]
    Version,
}

/// Writes a message.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// A message of this kind.
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![FORMAT, kind])
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.0.push(flag.into());
    }

    pub(super) fn u16(&mut self, number: u16) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// How many there are (u32), and each.
    pub(super) fn list<T>(&mut self, list: &[T], mut each: impl FnMut(&mut Self, &T)) {
        // No message is so long; were one, its reader would find that it ends too soon.
        self.u32(u32::try_from(list.len()).unwrap_or(u32::MAX));
        for element in list {
            each(self, element);
        }
    }

    /// How many there are (u32), and they.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn id(&mut self, id: DocumentId) {
        self.0.extend_from_slice(&id.to_bytes());
    }

    pub(super) fn node(&mut self, node: NodeId) {
        self.0.extend_from_slice(&node.to_bytes());
    }

    pub(super) fn incarnation(&mut self, incarnation: IncarnationId) {
        self.0.extend_from_slice(&incarnation.to_bytes());
    }

    /// An incarnation and a seq.
    pub(super) fn cursor(&mut self, cursor: Cursor) {
        self.incarnation(cursor.incarnation);
        self.u64(cursor.seq);
    }

    pub(super) fn salt(&mut self, salt: &Salt) {
        self.0.extend_from_slice(salt);
    }

    pub(super) fn cell(&mut self, cell: Cell) {
        self.0.extend_from_slice(&cell.encode());
    }

    /// Whether there is something, and it.
    pub(super) fn option<T>(&mut self, option: Option<T>, some: impl FnOnce(&mut Self, T)) {
        self.flag(option.is_some());
        if let Some(value) = option {
            some(self, value);
        }
    }

    /// A collection and a key, each as bytes.
    pub(super) fn name(&mut self, name: &Name) {
        self.bytes(name.collection().as_str().as_bytes());
        self.bytes(name.key().as_str().as_bytes());
    }

    /// The list of its heads.
    pub(super) fn version(&mut self, version: &Version) {
        self.list(version.hashes(), |writer, head| writer.0.extend_from_slice(&head.to_bytes()));
    }

    pub(super) fn cells(&mut self, cells: &[Cell]) {
        self.list(cells, |writer, cell| writer.0.extend_from_slice(&cell.encode()));
    }

    pub(super) fn end(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a message.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A message, and of which kind it is.
    pub(super) fn new(bytes: &'a [u8]) -> Result<(Self, u8), DecodeError> {
        let mut reader = Self(bytes);
        match reader.array()? {
            [FORMAT] => {}
            [other] => return Err(DecodeError::Format(other)),
        }
        let [kind] = reader.array()?;
        Ok((reader, kind))
    }

    /// A message of this kind.
    pub(super) fn of(bytes: &'a [u8], kind: u8) -> Result<Self, DecodeError> {
        match Self::new(bytes)? {
            (reader, found) if found == kind => Ok(reader),
            (_, other) => Err(DecodeError::Kind(other)),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(DecodeError::Flag),
        }
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A list, each of whose elements has `size` bytes at least.
    pub(super) fn list<T>(
        &mut self,
        size: usize,
        each: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.short_list(size, usize::MAX, each)
    }

    /// The same with at most `most` elements.
    pub(super) fn short_list<T>(
        &mut self,
        size: usize,
        most: usize,
        mut each: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = usize::try_from(self.u32()?).map_err(|_| DecodeError::Short)?;
        if self.0.len() / size < count {
            return Err(DecodeError::Short);
        }
        if most < count {
            return Err(DecodeError::Many);
        }
        (0..count).map(|_| each(self)).collect()
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = usize::try_from(self.u32()?).map_err(|_| DecodeError::Short)?;
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn id(&mut self) -> Result<DocumentId, DecodeError> {
        self.array().map(DocumentId::from_bytes)
    }

    pub(super) fn node(&mut self) -> Result<NodeId, DecodeError> {
        self.array().map(NodeId::from_bytes)
    }

    pub(super) fn incarnation(&mut self) -> Result<IncarnationId, DecodeError> {
        self.array().map(IncarnationId::from_bytes)
    }

    pub(super) fn cursor(&mut self) -> Result<Cursor, DecodeError> {
        Ok(Cursor { incarnation: self.incarnation()?, seq: self.u64()? })
    }

    pub(super) fn salt(&mut self) -> Result<Salt, DecodeError> {
        self.array()
    }

    pub(super) fn cell(&mut self) -> Result<Cell, DecodeError> {
        self.array().map(Cell::decode)
    }

    pub(super) fn option<T>(
        &mut self,
        some: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.flag()? { some(self).map(Some) } else { Ok(None) }
    }

    pub(super) fn name(&mut self) -> Result<Name, DecodeError> {
        let collection = str::from_utf8(self.bytes()?).map_err(|_| DecodeError::Name)?;
        let key = str::from_utf8(self.bytes()?).map_err(|_| DecodeError::Name)?;
        let collection = collection.parse().map_err(|_| DecodeError::Name)?;
        Name::new(collection, key.parse().map_err(|_| DecodeError::Name)?)
            .map_err(|_| DecodeError::Name)
    }

    pub(super) fn version(&mut self) -> Result<Version, DecodeError> {
        let heads = self.list(32, |reader| reader.array().map(Hash::from_bytes))?;
        // One version has one spelling, or its fingerprint would have several.
        if heads.is_sorted_by(|one, next| one < next) {
            Ok(heads.into_iter().collect())
        } else {
            Err(DecodeError::Version)
        }
    }

    pub(super) fn cells(&mut self) -> Result<Vec<Cell>, DecodeError> {
        self.list(Cell::BYTES, |reader| reader.array().map(Cell::decode))
    }

    /// The message, if this is its end.
    pub(super) fn end<T>(self, message: T) -> Result<T, DecodeError> {
        if self.0.is_empty() { Ok(message) } else { Err(DecodeError::Long) }
    }
}
