//! Keyed hashes: what makes sums of them safe against whoever chooses the documents.
//!
//! With hashes that everybody can compute, sets of documents whose sums are equal are found in
//! milliseconds to seconds. So all nodes of a cluster hash under keys of its secret, and nobody else ever
//! sees a cell or a sum.

use super::{
    message::Salt,
    sketch::{Cell, Seed},
};
use crate::ident::{Collection, CollectionToken, DocumentId, Name, Version};
use siphasher::sip::SipHasher24;
use std::{collections::BTreeSet, fmt, hash::Hasher as _};

/// The keys under which sketches can be compared.
#[derive(Clone)]
pub struct SketchKey {
    fingerprints: SipHasher24,
    seeds: SipHasher24,
    collections: SipHasher24,
    tokens: [u8; 32],
    id: u64,
}

/// SipHash-2-4 under a key that follows from a secret and what it is for.
fn hasher(secret: &[u8], context: &str) -> SipHasher24 {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::derive_key(context, secret)[..16]);
    SipHasher24::new_with_key(&key)
}

impl SketchKey {
    /// The keys that follow from a secret.
    pub fn derived(secret: &[u8]) -> Self {
        let mut id = [0; 8];
        id.copy_from_slice(&blake3::derive_key("tombolo sketch v1: key id", secret)[..8]);
        Self {
            fingerprints: hasher(secret, "tombolo sketch v1: fingerprints"),
            seeds: hasher(secret, "tombolo sketch v1: seeds"),
            collections: hasher(secret, "tombolo sketch v1: collections"),
            tokens: blake3::derive_key("tombolo collection token v1", secret),
            id: u64::from_le_bytes(id),
        }
    }

    /// The keys of one comparison, which follow from these, their secret, and what was drawn for it. What
    /// is alike under the usual keys by accident is not alike under these as well.
    #[must_use]
    pub fn salted(&self, secret: &[u8], salt: &Salt) -> Self {
        let secret = [&salt[..], secret].concat();
        Self {
            fingerprints: hasher(&secret, "tombolo sketch v1: salted fingerprints"),
            seeds: hasher(&secret, "tombolo sketch v1: salted seeds"),
            ..self.clone()
        }
    }

    /// What tells these keys from others, and nothing of the secret.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The fingerprint of a document at a version: SipHash-2-4 of its id, collection, key (each length as
    /// two bytes, little-endian) and heads. It is never 0, which is that of a document that is not held.
    pub fn fingerprint(&self, name: &Name, version: &Version) -> u64 {
        let mut hasher = self.fingerprints;
        hasher.write(&name.id().to_bytes());
        for text in [name.collection().as_str(), name.key().as_str()] {
            // A collection has at most 64 bytes, a key 512.
            hasher.write(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
            hasher.write(text.as_bytes());
        }
        for head in version.hashes() {
            hasher.write(&head.to_bytes());
        }
        hasher.finish().max(1)
    }

    /// What a collection is called among peers, who learn nothing of those that they do not have.
    pub fn collection(&self, name: &Collection) -> u64 {
        let mut hasher = self.collections;
        hasher.write(name.as_str().as_bytes());
        hasher.finish()
    }

    /// What anybody may see of the sum of a collection, its cell 0: the same for the same sum, and
    /// nothing else of it. The first 16 bytes of BLAKE3, keyed, over the encoded cell.
    pub fn token(&self, root: Cell) -> CollectionToken {
        let mut token = [0; 16];
        let hash = blake3::keyed_hash(&self.tokens, &root.encode());
        token.copy_from_slice(&hash.as_bytes()[..16]);
        CollectionToken::from_bytes(token)
    }

    /// The number of these collections, sorted, or of all.
    pub(super) fn set(&self, collections: Option<&BTreeSet<u64>>) -> u64 {
        let mut hasher = self.collections;
        hasher.write(if collections.is_some() { b"/some/" } else { b"/all/" });
        for collection in collections.into_iter().flatten() {
            hasher.write(&collection.to_le_bytes());
        }
        hasher.finish()
    }

    /// Where a position's walk over the cells begins.
    pub(super) fn seed(&self, position: u64) -> Seed {
        let mut hasher = self.seeds;
        hasher.write(&position.to_le_bytes());
        Seed(hasher.finish())
    }
}

impl fmt::Debug for SketchKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SketchKey({:016x})", self.id)
    }
}

/// The position of a document: the first eight bytes of its id, little-endian. Documents that share them
/// share a position, whose value is the sum of their fingerprints.
pub fn position(id: DocumentId) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id.to_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::Hash;

    /// Golden: nodes of every release hash alike, or they would never find themselves equal.
    #[test]
    fn a_fingerprint_is_this_number() {
        let key = SketchKey::derived(b"a secret");
        let name = |key: &str| Name::new("notes".parse().unwrap(), key.parse().unwrap()).unwrap();
        let version: Version = [[1; 32], [2; 32]].map(Hash::from_bytes).into_iter().collect();
        assert_eq!(key.id(), 0xb9250d0bf88500d3);
        assert_eq!(key.fingerprint(&name("a"), &version), 0xa94efa93ac4dfc28);
        assert_eq!(key.fingerprint(&name("a"), &Version::empty()), 0x30ac134db6244557);
        assert_eq!(key.fingerprint(&name("b"), &version), 0x433d03c4ef4d2b24);
        assert_eq!(
            SketchKey::derived(b"another").fingerprint(&name("a"), &version),
            0xe5a681034cfd1dcd
        );
        assert_eq!(position(DocumentId::from_bytes([1; 16])), 0x0101_0101_0101_0101);
        assert_eq!(format!("{key:?}"), "SketchKey(b9250d0bf88500d3)");
        let salted = key.salted(b"a secret", &[1; 16]);
        assert_eq!(salted.fingerprint(&name("a"), &version), 0xf7c4ccf99b4252e5);
        assert_eq!(
            salted.collection(name("a").collection()),
            key.collection(name("a").collection())
        );
    }

    /// Golden, computed by another implementation of BLAKE3: what nodes of two releases are compared by.
    #[test]
    fn a_token_is_these_bytes_and_shows_nothing_of_its_sum() {
        let key = SketchKey::derived(b"a secret");
        let root = Cell::decode(std::array::from_fn(|at| u8::try_from(at).unwrap() + 1));
        assert_eq!(key.token(Cell::default()).to_string(), "deca51eb4a8eec04f9508f4d98173375");
        assert_eq!(key.token(root).to_string(), "f77fb8b1dbdd3095779dbf4240284fea");
        assert_ne!(SketchKey::derived(b"another").token(root), key.token(root));
    }
}
