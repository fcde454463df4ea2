//! What others are told of a document: its changes, in parts, or the whole of it.

use super::{Document, Refusal, document::version_of, history};
use crate::ident::Version;
use automerge::ChangeHash;
use std::collections::BTreeSet;

impl Document {
    /// All changes that `version` has not seen, encoded, in an order that respects their
    /// dependencies. Hashes that are not known here count as nothing.
    pub fn changes_since(&self, version: &Version) -> Vec<Vec<u8>> {
        let known = |hash: &ChangeHash| self.history().holds(hash);
        let heads: Vec<ChangeHash> =
            version.hashes().iter().map(|hash| ChangeHash(hash.to_bytes())).filter(known).collect();
        let changes = self.history().automerge().get_changes(&heads);
        changes.iter().map(|change| change.raw_bytes().to_vec()).collect()
    }

    /// As many of the changes that `version` has not seen as come to so many bytes, in such an order, at
    /// least one if there is any; and the version of whoever holds them as well, if there are more.
    pub fn changes_within(
        &self,
        version: &Version,
        bytes_max: usize,
    ) -> (Vec<u8>, Option<Version>) {
        let known = |hash: &ChangeHash| self.history().holds(hash);
        let heads = version.hashes().iter().map(|hash| ChangeHash(hash.to_bytes()));
        let mut heads: BTreeSet<ChangeHash> = heads.filter(known).collect();
        let seen: Vec<ChangeHash> = heads.iter().copied().collect();
        let mut bytes = Vec::new();
        for change in self.history().automerge().get_changes(&seen) {
            let next = change.raw_bytes();
            if !bytes.is_empty() && bytes_max < bytes.len() + next.len() {
                let heads: Vec<ChangeHash> = heads.into_iter().collect();
                return (bytes, Some(version_of(&heads)));
            }
            bytes.extend_from_slice(next);
            for dependency in change.deps() {
                heads.remove(dependency);
            }
            heads.insert(change.hash());
        }
        (bytes, None)
    }

    /// The whole document as one snapshot, which [`Document::load`] and every Automerge library
    /// take.
    pub fn save(&self) -> Vec<u8> {
        self.history().automerge().save_nocompress()
    }

    /// The document as it was at a version, as one snapshot; `None`: now.
    ///
    /// # Errors
    /// `VersionNotFound`.
    pub fn save_at(&self, at: Option<&Version>) -> Result<Vec<u8>, Refusal> {
        let Some(version) = at else { return Ok(self.save()) };
        let heads = self.base(version)?;
        if heads == self.history().heads() {
            return Ok(self.save());
        }
        let past = history::past(self.history().automerge(), &heads)?;
        Ok(past.automerge().save_nocompress())
    }
}
