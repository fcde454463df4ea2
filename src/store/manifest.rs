//! A manifest of RocksDB's, changed so that a table is left out of what it names. RocksDB itself opens
//! all tables or none, or makes a manifest anew that knows of no file of large values.
//!
//! A manifest is a log (its blocks and pieces are told in `wal.rs`) of edits: pairs of a kind and what
//! it holds, as variable-length integers of seven bits a byte, lowest first.

use super::wal::{BLOCK_BYTES, HEADER_BYTES};
use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::Path,
};

/// The kind of a piece that is a whole record.
const WHOLE: u8 = 1;
/// The kinds of what an edit holds: the family it is about, and a table that is no more.
const FAMILY: u64 = 200;
const REMOVED_TABLE: u64 = 6;

/// A table, as a manifest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    /// The number that RocksDB gave its family.
    pub family: u64,
    /// The level that it is in.
    pub level: u64,
    /// Its file's number.
    pub number: u64,
}

/// The number of the table that a text names, by its file `NUMBER.sst`.
pub(super) fn table_number(text: &str) -> Option<u64> {
    let (before, _) = text.split_once(".sst")?;
    let digits = before.rfind(|symbol: char| !symbol.is_ascii_digit()).map_or(0, |at| at + 1);
    before.get(digits..)?.parse().ok()
}

/// Adds an edit to a manifest that takes a table out. RocksDB opens nothing that takes out what there
/// is not.
///
/// # Errors
/// The file could not be written.
pub(super) fn leave_out(manifest: &Path, table: Table) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(manifest)?;
    let length = file.metadata()?.len();
    file.write_all(&appended(length, table))
}

/// What is written behind so many bytes.
fn appended(length: u64, table: Table) -> Vec<u8> {
    let mut edit = Vec::new();
    for number in [FAMILY, table.family, REMOVED_TABLE, table.level, table.number] {
        // A vector takes whatever is written to it.
        let _ = leb128::write::unsigned(&mut edit, number);
    }
    let left = BLOCK_BYTES - length % BLOCK_BYTES;
    let room = HEADER_BYTES + edit.len() as u64;
    // Zeros are room that was set aside, up to the block's end.
    let mut bytes = vec![0; if left < room { usize::try_from(left).unwrap_or(0) } else { 0 }];
    let mut piece = vec![WHOLE];
    piece.extend_from_slice(&edit);
    bytes.extend_from_slice(&masked(crc32c::crc32c(&piece)).to_le_bytes());
    bytes.extend_from_slice(&u16::try_from(edit.len()).unwrap_or(0).to_le_bytes());
    bytes.extend_from_slice(&piece);
    bytes
}

/// A checksum over bytes that hold checksums is stored turned and moved.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table { family: 7, level: 0, number: 300 };

    #[test]
    fn an_edit_is_written_in_one_piece_within_a_block() {
        // Checksum (4), length, kind, then family 7, and table 300 of level 0.
        let piece = appended(0, TABLE);
        assert_eq!(piece[4..], [7, 0, 1, 0xc8, 1, 7, 6, 0, 0xac, 2][..], "{piece:02x?}");
        for (left, zeros) in [(14, 0), (13, 13), (1, 1), (BLOCK_BYTES, 0)] {
            let bytes = appended(3 * BLOCK_BYTES - left, TABLE);
            assert_eq!(bytes, [vec![0; zeros], piece.clone()].concat(), "{left} left");
        }
    }
}
