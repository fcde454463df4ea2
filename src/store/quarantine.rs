//! Quarantine: bytes of damaged rows, kept aside for whoever wants to look at them.

use super::{
    codec::Writer,
    frame::Kind,
    key::{self, Family},
};
use bytes::Bytes;

/// The kind of these rows among those of their family.
const QUARANTINED: u8 = 2;

/// The row that keeps a damaged one, value and all, under its family and key.
pub(super) fn row(family: Family, key: &[u8], value: &[u8]) -> (Vec<u8>, Bytes) {
    // A name never holds a zero byte.
    let name = [family.name().as_bytes(), &[0], key].concat();
    let key = key::encode_kept(QUARANTINED, &name);
    let mut out = Writer::new(Kind::Quarantined, value.len());
    out.raw(value);
    let value = out.finish(&key);
    (key, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::frame;

    #[test]
    fn a_row_in_quarantine_has_golden_bytes() {
        let (key, value) = row(Family::Chunk, &[7, 8], b"bytes");
        assert_eq!(key, [b"\x02chunk\0".as_slice(), &[7, 8]].concat());
        assert_eq!(frame::open(Kind::Quarantined, &key, &value), Ok(b"bytes".as_slice()));
        assert_eq!(value[..2], [1, 32]);
    }
}
