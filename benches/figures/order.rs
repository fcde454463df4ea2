//! The 1 KB document of all figures: an order, from the same generator as that of the measurements
//! of CouchDB, byte for byte.

use std::fmt::Write as _;

const WORDS: [&str; 12] = [
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet",
    "kilo", "lima",
];
/// Bytes of the longest member.
const NOTE_BYTES: usize = 760;
const NOTES: usize = 64;
/// Orders of a large document.
const LARGE_ORDERS: u64 = 1_020;
const FIRST: &str = r#"{"type":"order","customer":"cust-0000001","status":"open","total":503.41,"#;

/// Makes orders. Each draws from one sequence of numbers, so only equal calls in equal order make
/// equal orders.
#[derive(Debug)]
pub(crate) struct Orders {
    state: f64,
    notes: Vec<String>,
}

impl Orders {
    pub(crate) fn new() -> Self {
        let mut orders = Self { state: 12_345.0, notes: Vec::new() };
        orders.notes = (0..NOTES).map(|_| orders.note()).collect();
        orders
    }

    /// The order of customer `number`. `extra` is put before its first member.
    pub(crate) fn order(&mut self, number: u64, extra: &str) -> String {
        // The numbers are drawn in the order in which they stand.
        let mut draw = |below| self.draw(below);
        let mut json =
            format!(r#"{{{extra}"type":"order","customer":"cust-{:07}""#, number % 9_999_999);
        write!(json, r#","status":"open","total":{}.{:02}"#, draw(1000), draw(100)).unwrap();
        let (day, minute) = (draw(28) + 1, draw(60));
        write!(json, r#","created":"2026-01-{day:02}T10:{minute:02}:00Z""#).unwrap();
        let tags = (draw(10), draw(10), draw(10));
        write!(json, r#","tags":["a{}","b{}","c{}"]"#, tags.0, tags.1, tags.2).unwrap();
        let (house, city, zip) = (draw(999), draw(500), draw(99_999));
        write!(
            json,
            r#","address":{{"street":"{house} Main St","city":"Town{city}","zip":"{zip:05}"}}"#
        )
        .unwrap();
        write!(json, r#","counter":{}"#, draw(1_000_000)).unwrap();
        let note = usize::try_from(draw(NOTES as u64)).unwrap();
        write!(json, r#","note":"{}"}}"#, self.notes[note]).unwrap();
        json
    }

    /// The first orders, numbered from 1.
    pub(crate) fn first(count: u64) -> Vec<String> {
        let mut orders = Self::new();
        (1..=count).map(|number| orders.order(number, "")).collect()
    }

    fn note(&mut self) -> String {
        let (mut note, mut counted) = (String::new(), 0);
        while counted < NOTE_BYTES {
            let word = WORDS[usize::try_from(self.draw(12)).unwrap()];
            let word = format!("{word}{}", self.draw(1000));
            if !note.is_empty() {
                note.push(' ');
            }
            note.push_str(&word);
            counted += word.len() + 1;
        }
        note.truncate(NOTE_BYTES);
        note
    }

    /// A number below `below`, as a Lua whose only numbers are doubles draws it: the product is
    /// rounded to 53 bits.
    #[expect(clippy::cast_possible_truncation, reason = "the state is below 2^31")]
    fn draw(&mut self, below: u64) -> u64 {
        self.state = (self.state * 1_103_515_245.0 + 12_345.0) % 2_147_483_648.0;
        (self.state / 65_536.0) as u64 % below
    }
}

/// A document of about 1 MB: orders under keys of their own.
pub(crate) fn large() -> String {
    let orders = Orders::first(LARGE_ORDERS).into_iter();
    let members: Vec<String> =
        (1..).zip(orders).map(|(n, order)| format!(r#""o{n:04}":{order}"#)).collect();
    format!(r#"{{"orders":{{{}}}}}"#, members.join(","))
}

/// Checks the orders against those of the generator that they are taken from: the first of them,
/// and the checksum of 10,000 lines.
pub(crate) fn check() {
    let orders = Orders::first(10_000);
    assert!(orders[0].starts_with(FIRST), "{}", orders[0]);
    let mut lines = crc32fast::Hasher::new();
    for order in &orders {
        lines.update(order.as_bytes());
        lines.update(b"\n");
    }
    assert_eq!(lines.finalize(), 0xb23c_7b1c, "these are not the orders of the other measurements");
}
