//! Little-endian fields: a writer that ends as a frame, and a reader that checks before it allocates.

use super::{
    error::Damaged,
    frame::{self, Kind},
};
use crate::ident::{Hash, Key, Version};
use bytes::Bytes;

/// Writes the payload of a frame.
#[derive(Debug)]
pub(super) struct Writer {
    kind: Kind,
    bytes: Vec<u8>,
}

impl Writer {
    /// A frame of some kind; `payload_bytes` is a guess at its size.
    pub(super) fn new(kind: Kind, payload_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(frame::HEADER_BYTES + payload_bytes);
        bytes.resize(frame::HEADER_BYTES, 0);
        Self { kind, bytes }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes whose number the reader knows, or that are the last field.
    pub(super) fn raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    /// A u32 count, then the bytes.
    pub(super) fn counted(&mut self, value: &[u8]) {
        self.count(value.len());
        self.raw(value);
    }

    /// A u32 count, then 32 bytes each.
    pub(super) fn version(&mut self, version: &Version) {
        self.count(version.hashes().len());
        for hash in version.hashes() {
            self.raw(&hash.to_bytes());
        }
    }

    /// The whole frame, for the row of that key.
    pub(super) fn finish(self, key: &[u8]) -> Bytes {
        frame::seal(self.kind, key, self.bytes)
    }

    fn count(&mut self, count: usize) {
        // The door refuses rows of over 1 GiB, so a count always fits.
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

/// Reads the payload of a frame.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

const SHORT: Damaged = Damaged("a field is cut short");

impl<'a> Reader<'a> {
    /// A payload, as [`frame::open`] gives it.
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Damaged> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Damaged> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (array, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn counted(&mut self) -> Result<&'a [u8], Damaged> {
        let count = self.count()?;
        self.take(count)
    }

    pub(super) fn key(&mut self) -> Result<Key, Damaged> {
        let text = std::str::from_utf8(self.counted()?).ok();
        text.and_then(|text| text.parse().ok()).ok_or(Damaged("a key is not one"))
    }

    pub(super) fn version(&mut self) -> Result<Version, Damaged> {
        let count = self.count()?;
        // Taking the bytes first bounds what is allocated by what is there.
        let (hashes, _) = self.take(count.checked_mul(32).ok_or(SHORT)?)?.as_chunks();
        if !hashes.is_sorted_by(|a, b| a < b) {
            return Err(Damaged("a version is not a sorted set"));
        }
        Ok(hashes.iter().map(|hash| Hash::from_bytes(*hash)).collect())
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Checks that nothing is left.
    pub(super) fn end(self) -> Result<(), Damaged> {
        if self.0.is_empty() { Ok(()) } else { Err(Damaged("bytes follow the last field")) }
    }

    fn count(&mut self) -> Result<usize, Damaged> {
        usize::try_from(self.u32()?).map_err(|_| SHORT)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_checked_against_what_is_there() {
        let huge = [0xff; 4];
        assert_eq!(Reader::new(&huge).counted(), Err(SHORT));
        assert_eq!(Reader::new(&huge).version(), Err(SHORT));
        assert_eq!(Reader::new(&huge[..3]).u32(), Err(SHORT));
    }

    #[test]
    fn a_version_in_the_wrong_order_is_damage() {
        let (one, two) = ([1; 32].as_slice(), [2; 32].as_slice());
        let read = |hashes: &[&[u8]]| {
            Reader::new(&[&[2, 0, 0, 0], hashes.concat().as_slice()].concat()).version()
        };
        assert!(read(&[one, two]).is_ok());
        assert!(read(&[two, one]).is_err());
        assert!(read(&[one, one]).is_err());
    }
}
