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
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if 63 < shift || (shift == 63 && 1 < bits) {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// A number with sign, in two's complement.
    pub(super) fn leb(&mut self) -> Option<i64> {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = self.byte()?;
            let bits = i64::from(byte & 0x7f);
            if 63 < shift || (shift == 63 && !matches!(bits, 0 | 0x7f)) {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                let negative = byte & 0x40 != 0;
                return Some(if negative && shift < 57 {
                    number | (-1 << (shift + 7))
                } else {
                    number
                });
            }
        }
        None
    }
}

/// Writes a number without sign.
pub(super) fn uleb(out: &mut Vec<u8>, mut number: u64) {
    while 0x80 <= number {
        out.push(0x80 | number.to_le_bytes()[0]);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
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
