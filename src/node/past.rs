//! What a loaded document tells of its past, and of who wrote what it shows.

use super::{Error, Node, Reading};
use crate::{
    doc::{Blame, Conflict, Deeds, Document, Form, Moment, Pointer},
    ident::{Name, Version},
};

impl Node {
    /// Whether a document includes a version, so that whatever is read of it later does.
    ///
    /// # Errors
    /// `VersionNotFound`; as [`Node::read_as`].
    pub async fn check_includes(&self, name: &Name, version: Version) -> Result<(), Error> {
        let work = move |document: &Document| {
            document.holds(&version).then_some(()).ok_or(Error::VersionNotFound)
        };
        self.look(name, 0, work).await
    }

    /// Every conflicted place of a document, in the order of its view, and its version.
    ///
    /// # Errors
    /// As [`Node::read_as`].
    pub async fn conflicts(&self, name: &Name) -> Result<(Version, Vec<Conflict>), Error> {
        self.look(name, 1, |document| Ok((shown(document)?, document.conflicts()))).await
    }

    /// Which change set each value that a document shows at a place and below it, in the order of its
    /// view, and its version.
    ///
    /// # Errors
    /// As [`Node::read_as`].
    pub async fn blame(
        &self,
        name: &Name,
        within: Pointer,
    ) -> Result<(Version, Vec<Blame>), Error> {
        self.look(name, 1, move |document| Ok((shown(document)?, document.blame(&within)))).await
    }

    /// The changes that a version has not seen, encoded, one behind the other; the whole document
    /// where it has seen none. Hashes that are not known here count as nothing. A deleted document
    /// has changes as well.
    ///
    /// # Errors
    /// `NotFound`; as [`Node::read_as`].
    pub async fn changes_since(&self, name: &Name, since: Version) -> Result<Reading, Error> {
        self.look(name, 1, move |document| {
            let version = written(document)?;
            let body = if since.is_empty() {
                document.save()
            } else {
                document.changes_since(&since).concat()
            };
            Ok(Reading { body: body.into(), version, conflicts: 0 })
        })
        .await
    }

    /// As many of these changes as come to so many bytes, at least one, in an order in which they can be
    /// taken; and the version of whoever holds them as well, if there are more.
    ///
    /// # Errors
    /// As [`Node::changes_since`].
    pub(super) async fn changes_within(
        &self,
        name: &Name,
        since: Version,
        bytes_max: usize,
    ) -> Result<(Vec<u8>, Option<Version>), Error> {
        let work = move |document: &Document| {
            written(document)?;
            Ok(document.changes_within(&since, bytes_max))
        };
        self.look(name, 1, work).await
    }

    /// The JSON Patch that makes of the document at one version that at another, or the present
    /// one; with it that other version. A deleted document has a past as well. Conflicts are not
    /// counted.
    ///
    /// # Errors
    /// `NotFound`; as [`Node::read_as`].
    pub async fn diff(
        &self,
        name: &Name,
        from: Version,
        to: Option<Version>,
    ) -> Result<Reading, Error> {
        self.look(name, 2, move |document| {
            let now = written(document)?;
            let body = document.diff(Some(&from), to.as_ref())?.to_json(Form::Plain);
            let version = to.unwrap_or(now);
            Ok(Reading { body: body.into(), version, conflicts: 0 })
        })
        .await
    }

    /// What the changes before a moment did, the latest first, and the document's version. A deleted
    /// document has a past as well.
    ///
    /// # Errors
    /// `NotFound`; as [`Node::read_as`].
    pub async fn deeds(
        &self,
        name: &Name,
        before: Option<Moment>,
        limit: usize,
    ) -> Result<(Version, Deeds), Error> {
        let work =
            move |document: &Document| Ok((written(document)?, document.deeds(before, limit)?));
        self.look(name, limit, work).await
    }
}

/// The version of a document that somebody has written.
fn written(document: &Document) -> Result<Version, Error> {
    let version = document.version();
    if version.is_empty() { Err(Error::NotFound) } else { Ok(version) }
}

/// The version of a document that shows something.
fn shown(document: &Document) -> Result<Version, Error> {
    let version = written(document)?;
    if document.is_deleted() { Err(Error::Deleted(version)) } else { Ok(version) }
}
