//! Arithmetic in GF(2⁶⁴), the field of 64-bit words: addition is exclusive or, products are those of
//! polynomials over bits, modulo x⁶⁴ + x⁴ + x³ + x + 1.

/// The product of two elements.
pub(super) fn product(a: u64, b: u64) -> u64 {
    // Of two polynomials that are turned around, the product is that of the polynomials, turned around.
    let high = lower(a.reverse_bits(), b.reverse_bits()).reverse_bits() >> 1;
    reduced(lower(a, b), high)
}

/// The lower half of the product of two polynomials, by the multiplication of numbers: of each factor every
/// fourth bit is taken at a time, so that no sum of bits at one place reaches the next that is looked at.
///
/// Source: Thomas Pornin, *BearSSL: constant-time multiplication*, as used for GHASH (`ctmul64`).
fn lower(a: u64, b: u64) -> u64 {
    const EVERY_FOURTH: u64 = 0x1111_1111_1111_1111;
    let comb = |word: u64| [0, 1, 2, 3].map(|tooth| word & (EVERY_FOURTH << tooth));
    let (a, b) = (comb(a), comb(b));
    let mut low = 0;
    for place in 0..4 {
        let terms = (0..4).map(|tooth: usize| a[tooth].wrapping_mul(b[(4 + place - tooth) % 4]));
        low |= terms.fold(0, |sum, term| sum ^ term) & (EVERY_FOURTH << place);
    }
    low
}

/// The element whose product with `a` is 1, which is a^(2⁶⁴ − 2); of 0, which has none, 0.
///
/// Source: Itoh and Tsujii, *A fast algorithm for computing multiplicative inverses in GF(2^m) using
/// normal bases*, 1988: a^(2ⁿ − 1) for n = 1, 3, 7, 15, 31, 63, and the square of the last.
pub(super) fn inverse(a: u64) -> u64 {
    let (mut power, mut bits) = (a, 1);
    for _ in 0..5 {
        power = product(power, squared(power, bits));
        power = product(a, squared(power, 1));
        bits = 2 * bits + 1;
    }
    squared(power, 1)
}

/// An element squared so many times.
fn squared(a: u64, times: u32) -> u64 {
    (0..times).fold(a, |power, _| {
        #[expect(clippy::cast_possible_truncation, reason = "each takes its half")]
        let [low, high] = [power as u32, (power >> 32) as u32].map(spread);
        reduced(low, high)
    })
}

/// The bits of a word, a zero behind each: the square of a polynomial.
fn spread(word: u32) -> u64 {
    let mut bits = u64::from(word);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | (bits << shift)) & mask;
    }
    bits
}

/// A polynomial of 128 bits modulo that of the field: x⁶⁴ is x⁴ + x³ + x + 1, and what that carries over
/// the top once more is folded in first.
fn reduced(low: u64, high: u64) -> u64 {
    let high = high ^ (high >> 63) ^ (high >> 61) ^ (high >> 60);
    low ^ high ^ (high << 1) ^ (high << 3) ^ (high << 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: [u64; 8] = [
        1,
        2,
        3,
        0x8000_0000_0000_0000,
        0xffff_ffff_ffff_ffff,
        0x0123_4567_89ab_cdef,
        0xdead_beef_0bad_f00d,
        0x0000_0001_0000_0000,
    ];

    #[test]
    fn the_laws_of_a_field_hold() {
        for a in SOME {
            assert_eq!((product(a, 0), product(a, 1)), (0, a));
            assert_eq!((product(a, inverse(a)), squared(a, 1)), (1, product(a, a)), "{a:x}");
            for b in SOME {
                assert_eq!(product(a, b), product(b, a));
                for c in SOME {
                    assert_eq!(product(a, product(b, c)), product(product(a, b), c));
                    assert_eq!(product(a, b ^ c), product(a, b) ^ product(a, c));
                }
            }
        }
        assert_eq!(inverse(0), 0);
    }

    /// Golden: computed by long division of polynomials, elsewhere.
    #[test]
    fn products_are_reduced_by_the_polynomial() {
        assert_eq!(product(1 << 63, 2), 0b1_1011);
        assert_eq!(product(1 << 63, 1 << 63), 0xc000_0000_0000_005a);
        assert_eq!(product(u64::MAX, u64::MAX), 0x5555_5555_5555_5513);
        assert_eq!(product(0x0123_4567_89ab_cdef, 0xdead_beef_0bad_f00d), 0x53d1_3203_de84_0839);
    }
}
