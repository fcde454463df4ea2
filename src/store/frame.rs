//! Frames: every stored value says what it is, how long it is, and whether it is whole.
//!
//! ```text
//! format (1)  kind (1)  payload length (u32)  checksum (u32)  payload
//! ```
//! Numbers are little-endian. The checksum is CRC-32 over the row's key, then the frame without the
//! checksum: a row that stands under another row's key is damage too.

use super::error::Damaged;
use bytes::Bytes;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 10;

/// Largest payload. The store refuses to write more.
pub(super) const PAYLOAD_BYTES_MAX: usize = 1 << 30;

const FORMAT: u8 = 1;

/// What a payload is. A number is never reused for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    View = 1,
    Head = 2,
    Chunk = 3,
    Feed = 4,
    Answer = 5,
    Orphan = 6,
    Format = 16,
    Node = 17,
    Incarnation = 18,
    Collection = 19,
    Cursor = 20,
    Peer = 21,
    Quarantined = 32,
    Note = 33,
    Changes = 34,
}

/// Fills in the header of a frame: `bytes` is [`HEADER_BYTES`] of room, then the payload.
pub(super) fn seal(kind: Kind, key: &[u8], mut bytes: Vec<u8>) -> Bytes {
    if let Some((header, payload)) = bytes.split_first_chunk_mut::<HEADER_BYTES>() {
        // Payloads of over 1 GiB are refused before anything is encoded.
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        header[0] = FORMAT;
        header[1] = kind as u8;
        header[2..6].copy_from_slice(&length.to_le_bytes());
        let checksum = checksum(key, &header[..6], payload);
        header[6..].copy_from_slice(&checksum.to_le_bytes());
    }
    Bytes::from(bytes)
}

/// The payload of a frame, if it is whole, of this kind, and the row of this key.
pub(super) fn open<'a>(kind: Kind, key: &[u8], frame: &'a [u8]) -> Result<&'a [u8], Damaged> {
    let (header, payload) =
        frame.split_first_chunk::<HEADER_BYTES>().ok_or(Damaged("the frame is cut short"))?;
    let [format, kind_byte, l0, l1, l2, l3, c0, c1, c2, c3] = *header;
    if checksum(key, &header[..6], payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(Damaged("the checksum is wrong"));
    }
    if format != FORMAT {
        return Err(Damaged("the frame's format is unknown"));
    }
    if kind_byte != kind as u8 {
        return Err(Damaged("the frame is of another kind"));
    }
    if usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])) != Ok(payload.len()) {
        return Err(Damaged("the frame's length is wrong"));
    }
    Ok(payload)
}

/// Whether a frame of any kind is whole, and the row of this key.
pub(super) fn verify(key: &[u8], frame: &[u8]) -> Result<(), Damaged> {
    let (header, payload) =
        frame.split_first_chunk::<HEADER_BYTES>().ok_or(Damaged("the frame is cut short"))?;
    let [.., c0, c1, c2, c3] = *header;
    if checksum(key, &header[..6], payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(Damaged("the checksum is wrong"));
    }
    if header[0] == FORMAT { Ok(()) } else { Err(Damaged("the frame's format is unknown")) }
}

fn checksum(key: &[u8], header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: Kind, key: &[u8], payload: &[u8]) -> Bytes {
        seal(kind, key, [&[0; HEADER_BYTES], payload].concat())
    }

    #[test]
    fn a_frame_has_golden_bytes() {
        let golden = [1, 2, 3, 0, 0, 0, 0x32, 0xb, 0x19, 0xa7, b'a', b'b', b'c'];
        assert_eq!(frame(Kind::Head, b"key", b"abc")[..], golden);
        assert_eq!(open(Kind::Head, b"key", &golden), Ok(b"abc".as_slice()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let whole = frame(Kind::View, b"key", b"some payload");
        for bit in 0..8 * whole.len() {
            let mut bytes = whole.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(open(Kind::View, b"key", &bytes).is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            assert!(open(Kind::View, b"key", &whole[..length]).is_err(), "{length} bytes");
        }
        assert!(open(Kind::View, b"key", &[&whole[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_frame_of_another_kind_or_key_is_damage() {
        let whole = frame(Kind::View, b"key", b"");
        assert_eq!(open(Kind::View, b"key", &whole), Ok(b"".as_slice()));
        assert_eq!(open(Kind::Head, b"key", &whole), Err(Damaged("the frame is of another kind")));
        assert_eq!(open(Kind::View, b"kez", &whole), Err(Damaged("the checksum is wrong")));
    }
}
