//! Chunks: the frames in which Automerge's changes and documents travel, taken apart without
//! Automerge. It does not check the checksum of a change, and inflates without a bound.
//!
//! ```text
//! chunk      85 6f 4a 83, checksum (4), kind (1), length (uleb), body
//! kind       0 a whole document, 1 a change, 2 a change whose body is deflated, 3 a bundle
//! checksum   the first bytes of SHA-256(kind, length, body); of a deflated change those of the
//!            change that it holds
//! ```
//!
//! Source: the binary format of Automerge, <https://automerge.org/automerge-binary-format-spec/>.

use super::{
    leb::{Reader, uleb},
    refusal::{Refusal, RefusalKind},
};
use crate::ident::Hash;
use automerge::Change;
use flate2::read::DeflateDecoder;
use sha2::{Digest, Sha256};
use std::{borrow::Cow, io::Read};

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const DOCUMENT: u8 = 0;
const CHANGE: u8 = 1;
const DEFLATED: u8 = 2;
const BUNDLE: u8 = 3;

/// How much foreign bytes may inflate to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inflation {
    /// Bytes that are left, of all chunks of one request.
    pub(super) bytes_left: u64,
    /// Most bytes that one byte may become, and up to how many bytes that does not matter; `None`: any
    /// number.
    pub(super) ratio_max: Option<(u64, u64)>,
}

impl Inflation {
    /// Inflates, through a sink that counts. `beyond`: what it is if there are more bytes than are
    /// left, as far as the ratio allows them.
    ///
    /// # Errors
    /// `beyond`, `TooLarge`, `BadChanges`.
    pub(super) fn inflate(
        &mut self,
        deflated: &[u8],
        beyond: RefusalKind,
    ) -> Result<Vec<u8>, Refusal> {
        let within = self.ratio_max.map_or(u64::MAX, |(ratio, freely)| {
            freely.max(ratio.saturating_mul(deflated.len() as u64))
        });
        let most = self.bytes_left.min(within);
        let mut inflated = Vec::new();
        let mut source = DeflateDecoder::new(deflated).take(most + 1);
        if source.read_to_end(&mut inflated).is_err() {
            return Err(bad("deflated bytes that do not inflate"));
        }
        let bytes = inflated.len() as u64;
        if most < bytes {
            let kind = if most < within { beyond } else { RefusalKind::TooLarge };
            let detail = format!("{} bytes inflate to more than {most}", deflated.len());
            return Err(Refusal::new(kind, detail));
        }
        self.bytes_left -= bytes;
        Ok(inflated)
    }
}

/// One chunk, whose checksum holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chunk<'a> {
    /// A change.
    Change {
        /// Its name.
        hash: Hash,
        /// What is behind the header, inflated.
        body: Cow<'a, [u8]>,
    },
    /// A whole document.
    Document {
        /// The chunk, with its header.
        whole: &'a [u8],
        /// What is behind the header. Its columns may be deflated.
        body: &'a [u8],
    },
}

/// Whether bytes begin with a whole document.
pub(super) fn is_document(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC) && bytes.get(8) == Some(&DOCUMENT)
}

/// The change that bytes are; `None`: they are something else, or damaged. They were stored here: it inflates
/// without a bound.
pub(super) fn change(bytes: &[u8]) -> Option<Change> {
    let change = Change::try_from(bytes).ok()?;
    (bytes.get(4..8)? == &change.hash().0[..4]).then_some(change)
}

/// Takes bytes apart into chunks; of changes that `held` knows only the name is looked at.
///
/// # Errors
/// `BadChanges`, `TooLarge`: nothing of the bytes is to be used.
pub(super) fn chunks<'a>(
    bytes: &'a [u8],
    inflation: &mut Inflation,
    held: impl Fn(&Hash) -> bool,
) -> Result<Chunks<'a>, Refusal> {
    let mut taken = Chunks::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut reader = Reader::new(rest);
        if reader.bytes(4) != Some(&MAGIC) {
            return Err(bad("no chunk of Automerge begins here"));
        }
        let head = (reader.bytes(4), reader.byte(), reader.uleb());
        let (Some(checksum), Some(kind), Some(length)) = head else {
            return Err(bad("a chunk that ends in its header"));
        };
        let body = usize::try_from(length).ok().and_then(|length| reader.bytes(length));
        let Some(body) = body else {
            return Err(bad("a chunk that ends before its length"));
        };
        let whole = &rest[..rest.len() - reader.left()];
        rest = &rest[whole.len()..];
        let (hash, chunk) = match kind {
            CHANGE => {
                let hash = hash(CHANGE, body);
                (hash, Chunk::Change { hash, body: Cow::Borrowed(body) })
            }
            DEFLATED => {
                let body = inflation.inflate(body, RefusalKind::TooLarge)?;
                let hash = hash(CHANGE, &body);
                (hash, Chunk::Change { hash, body: Cow::Owned(body) })
            }
            DOCUMENT => (hash(DOCUMENT, body), Chunk::Document { whole, body }),
            BUNDLE => return Err(bad("a bundle of changes, which is not taken here")),
            _ => return Err(bad("a chunk of an unknown kind")),
        };
        if hash.to_bytes()[..4] != *checksum {
            return Err(bad("a chunk whose checksum is wrong"));
        }
        if kind != DOCUMENT && held(&hash) {
            taken.held += 1;
        } else {
            taken.new.push(chunk);
        }
    }
    Ok(taken)
}

/// What bytes hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Chunks<'a> {
    /// Chunks in their order.
    pub(super) new: Vec<Chunk<'a>>,
    /// How many changes were known.
    pub(super) held: usize,
}

/// A change as a chunk, in the one way in which it can be written.
pub(super) fn encode_change(hash: &Hash, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAGIC.len() + 15 + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&hash.to_bytes()[..4]);
    bytes.push(CHANGE);
    uleb(&mut bytes, body.len() as u64);
    bytes.extend_from_slice(body);
    bytes
}

fn hash(kind: u8, body: &[u8]) -> Hash {
    let mut header = vec![kind];
    uleb(&mut header, body.len() as u64);
    let mut hasher = Sha256::new();
    hasher.update(&header);
    hasher.update(body);
    Hash::from_bytes(hasher.finalize().into())
}

pub(super) fn bad(what: &str) -> Refusal {
    Refusal::new(RefusalKind::BadChanges, what)
}
