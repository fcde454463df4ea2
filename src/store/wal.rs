//! The end of a log of RocksDB's: whether it is whole. RocksDB leaves a torn record out without a
//! word, since mostly power was lost and nobody was told of that write.
//!
//! A log is blocks of 32 KiB, filled with pieces: checksum (4), length (u16), kind (1), bytes. What
//! does not fit a block goes on in the next, under kinds that say so.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

pub(super) const BLOCK_BYTES: u64 = 32 << 10;
pub(super) const HEADER_BYTES: u64 = 7;
/// The same, of a piece in memory.
const HEADER: usize = 7;
/// The kinds of pieces that another follows.
const BEGUN: [u8; 2] = [2, 3];
/// The kind of room that was set aside, and of nothing.
const NOTHING: u8 = 0;

/// The newest log of a folder.
pub(super) fn newest(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            newest = newest.max(Some(path));
        }
    }
    Ok(newest)
}

/// How many bytes of a record that was cut off a log ends in; 0: it is whole, as far as lengths tell.
pub(super) fn torn_bytes(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    // Where the last piece ends, and where the last whole record does.
    let (mut at, mut whole) = (0, 0);
    loop {
        let left = BLOCK_BYTES - at % BLOCK_BYTES;
        if left < HEADER_BYTES {
            at += left;
            continue;
        }
        if length < at + HEADER_BYTES {
            return Ok(length.saturating_sub(whole));
        }
        let mut header = [0; HEADER];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut header)?;
        let [.., low, high, kind] = header;
        if kind == NOTHING {
            return Ok(0);
        }
        at += HEADER_BYTES + u64::from(u16::from_le_bytes([low, high]));
        if length < at {
            return Ok(length - whole);
        }
        if !BEGUN.contains(&kind) {
            whole = at;
        }
    }
}
