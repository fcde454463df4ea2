//! Numbers of seven bits a byte, lowest first (LEB128), and a reader over bytes that holds them.

/// Reads from the front. `None`: the bytes end first, or hold no such number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many bytes were not read.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// A count, then as many bytes.
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let count = self.uleb()?;
        self.bytes(usize::try_from(count).ok()?)
    }

    /// A number without sign.
    pub(super) fn uleb(&mut self) -> Option<u64> {
        leb128::read::unsigned(&mut self.0).ok()
    }

    /// A number with sign, in two's complement.
    pub(super) fn leb(&mut self) -> Option<i64> {
        leb128::read::signed(&mut self.0).ok()
    }
}

/// Writes a number without sign.
pub(super) fn uleb(out: &mut Vec<u8>, number: u64) {
    // A vector takes whatever is written to it.
    let _ = leb128::write::unsigned(out, number);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_to_the_last_bit_and_no_further() {
        let max = [&[0xff; 9][..], &[1]].concat();
        let over = [&[0xff; 9][..], &[2]].concat();
        let long = [&[0x80; 10][..], &[0]].concat();
        for (bytes, unsigned) in [
            (&[][..], None),
            (&[0x80], None),
            (&[0], Some(0)),
            (&[0x80, 0], Some(0)),
            (&[0x7f], Some(127)),
            (&[0xe5, 0x8e, 0x26], Some(624_485)),
            (&max, Some(u64::MAX)),
            (&over, None),
            (&long, None),
        ] {
            assert_eq!(Reader::new(bytes).uleb(), unsigned, "{bytes:02x?}");
        }
        let min = [&[0x80; 9][..], &[0x7f]].concat();
        let under = [&[0x80; 9][..], &[0x7e]].concat();
        let max = [&[0xff; 9][..], &[0]].concat();
        for (bytes, signed) in [
            (&[][..], None),
            (&[0x80], None),
            (&[0x3f], Some(63)),
            (&[0x40], Some(-64)),
            (&[0x7f], Some(-1)),
            (&[0xc0, 0xbb, 0x78], Some(-123_456)),
            (&min, Some(i64::MIN)),
            (&under, None),
            (&max, Some(i64::MAX)),
        ] {
            assert_eq!(Reader::new(bytes).leb(), signed, "{bytes:02x?}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for number in [0, 1, 127, 128, 300, 1 << 40, u64::MAX] {
            let mut bytes = Vec::new();
            uleb(&mut bytes, number);
            assert_eq!(Reader::new(&bytes).uleb(), Some(number));
        }
    }
}
