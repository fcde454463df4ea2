//! Forges change bytes: takes real ones apart, lets every field be anything, and puts them together
//! with a checksum that holds.

use automerge::Change;
use sha2::{Digest, Sha256};

/// A change, field by field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forged {
    pub deps: Vec<[u8; 32]>,
    pub actor: Vec<u8>,
    pub seq: u64,
    pub start_op: u64,
    pub time: i64,
    pub message: Vec<u8>,
    pub others: Vec<Vec<u8>>,
    /// Kind and bytes of each.
    pub columns: Vec<(u64, Vec<u8>)>,
    pub rest: Vec<u8>,
}

/// The columns of operations: object, key, id, insert, action, value, predecessors.
pub const KEY: u64 = 0x15;
pub const ACTION: u64 = 0x42;
pub const VALUE_LENGTHS: u64 = 0x56;

impl Forged {
    /// A first change of an actor, that does nothing.
    pub fn first(actor: u8) -> Self {
        Self {
            deps: Vec::new(),
            actor: vec![actor; 16],
            seq: 1,
            start_op: 1,
            time: 0,
            message: Vec::new(),
            others: Vec::new(),
            columns: Vec::new(),
            rest: Vec::new(),
        }
    }

    /// Takes a change apart, that Automerge wrote.
    pub fn read(change: &Change) -> Self {
        let bytes = change.raw_bytes();
        let mut reader = Reader(&bytes[9..]);
        reader.uleb();
        let deps = (0..reader.uleb()).map(|_| reader.bytes(32).try_into().unwrap()).collect();
        let actor = reader.counted();
        let (seq, start_op) = (reader.uleb(), reader.uleb());
        let time = change.timestamp();
        while reader.bytes(1)[0] & 0x80 != 0 {}
        let message = reader.counted();
        let others = (0..reader.uleb()).map(|_| reader.counted()).collect();
        let kinds: Vec<_> = (0..reader.uleb()).map(|_| (reader.uleb(), reader.count())).collect();
        let columns =
            kinds.into_iter().map(|(kind, length)| (kind, reader.bytes(length).to_vec())).collect();
        let rest = reader.0.to_vec();
        Self { deps, actor, seq, start_op, time, message, others, columns, rest }
    }

    /// What is behind the header.
    pub fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        uleb(&mut out, self.deps.len() as u64);
        out.extend(self.deps.iter().flatten());
        counted(&mut out, &self.actor);
        uleb(&mut out, self.seq);
        uleb(&mut out, self.start_op);
        leb(&mut out, self.time);
        counted(&mut out, &self.message);
        uleb(&mut out, self.others.len() as u64);
        for other in &self.others {
            counted(&mut out, other);
        }
        uleb(&mut out, self.columns.len() as u64);
        for (kind, bytes) in &self.columns {
            uleb(&mut out, *kind);
            uleb(&mut out, bytes.len() as u64);
        }
        out.extend(self.columns.iter().flat_map(|(_, bytes)| bytes));
        out.extend_from_slice(&self.rest);
        out
    }

    /// The change as a chunk.
    pub fn chunk(&self) -> Vec<u8> {
        chunk(1, &self.body())
    }
}

/// A chunk of a kind, whose checksum holds.
pub fn chunk(kind: u8, body: &[u8]) -> Vec<u8> {
    framed(kind, &hash(kind, body), body)
}

/// A change whose body is deflated, by its body.
pub fn deflated(body: &[u8]) -> Vec<u8> {
    framed(2, &hash(1, body), &deflate(body))
}

/// A chunk with any checksum.
pub fn framed(kind: u8, checksum: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = vec![0x85, 0x6f, 0x4a, 0x83];
    out.extend_from_slice(&checksum[..4]);
    out.push(kind);
    counted(&mut out, body);
    out
}

/// Corrects the checksums of all chunks, as far as bytes are chunks.
pub fn corrected(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut at = 0;
    while out.len() > at + 10 && out[at..at + 4] == [0x85, 0x6f, 0x4a, 0x83] {
        let (mut length, mut shift, mut start) = (0u64, 0, at + 9);
        while let Some(byte) = out.get(start).filter(|_| shift < 63) {
            length |= u64::from(byte & 0x7f) << shift;
            (shift, start) = (shift + 7, start + 1);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let Some(end) = end_of(start, length).filter(|end| *end <= out.len()) else {
            break;
        };
        let kind = out[at + 8];
        let checksum = match kind {
            2 => {
                use std::io::Read;
                let mut body = Vec::new();
                let source = flate2::read::DeflateDecoder::new(&out[start..end]);
                let _ = source.take(1 << 20).read_to_end(&mut body);
                hash(1, &body)
            }
            _ => hash(kind, &out[start..end]),
        };
        out[at + 4..at + 8].copy_from_slice(&checksum[..4]);
        at = end;
    }
    out
}

fn end_of(start: usize, length: u64) -> Option<usize> {
    start.checked_add(usize::try_from(length).ok()?)
}

pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn hash(kind: u8, body: &[u8]) -> [u8; 32] {
    let mut header = vec![kind];
    uleb(&mut header, body.len() as u64);
    Sha256::new().chain_update(header).chain_update(body).finalize().into()
}

/// A run: the same value so many times.
pub fn run(times: i64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    leb(&mut out, times);
    out.extend_from_slice(value);
    out
}

/// Values as they stand.
pub fn literals(values: &[Vec<u8>]) -> Vec<u8> {
    if values.is_empty() {
        Vec::new()
    } else {
        run(-i64::try_from(values.len()).unwrap(), &values.concat())
    }
}

/// So many nothings.
pub fn nothings(times: u64) -> Vec<u8> {
    let mut out = vec![0];
    uleb(&mut out, times);
    out
}

pub fn number(number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    uleb(&mut out, number);
    out
}

pub fn string(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    counted(&mut out, text.as_bytes());
    out
}

pub fn uleb(out: &mut Vec<u8>, mut number: u64) {
    while 0x80 <= number {
        out.push(0x80 | number.to_le_bytes()[0]);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

pub fn leb(out: &mut Vec<u8>, mut number: i64) {
    while !(-0x40..0x40).contains(&number) {
        out.push(0x80 | number.to_le_bytes()[0]);
        number >>= 7;
    }
    out.push(0x7f & number.to_le_bytes()[0]);
}

pub fn counted(out: &mut Vec<u8>, bytes: &[u8]) {
    uleb(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }

    fn counted(&mut self) -> Vec<u8> {
        let count = self.count();
        self.bytes(count).to_vec()
    }

    fn count(&mut self) -> usize {
        usize::try_from(self.uleb()).unwrap()
    }

    fn uleb(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = self.bytes(1)[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }
}
