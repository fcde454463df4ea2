//! What a loaded document tells of its past. A deleted document has one as well.

use super::{Error, Reading};
use crate::{
    doc::{Deeds, Document, Form, Moment},
    ident::Version,
};

/// The changes that a version has not seen; the whole document where it has seen none.
pub(super) fn changes(document: &Document, since: &Version) -> Result<Reading, Error> {
    let version = written(document)?;
    let body =
        if since.is_empty() { document.save() } else { document.changes_since(since).concat() };
    Ok(Reading { body: body.into(), version, conflicts: 0 })
}

/// The JSON Patch from one version to another, and that other one.
pub(super) fn diff(
    document: &Document,
    from: &Version,
    to: Option<&Version>,
) -> Result<Reading, Error> {
    let now = written(document)?;
    let body = document.diff(Some(from), to)?.to_json(Form::Plain);
    let version = to.cloned().unwrap_or(now);
    Ok(Reading { body: body.into(), version, conflicts: 0 })
}

/// What changes did, and the version that has seen them all.
pub(super) fn deeds(
    document: &Document,
    before: Option<Moment>,
    limit: usize,
) -> Result<(Version, Deeds), Error> {
    Ok((written(document)?, document.deeds(before, limit)?))
}

/// The version of a document that somebody has written.
fn written(document: &Document) -> Result<Version, Error> {
    let version = document.version();
    if version.is_empty() { Err(Error::NotFound) } else { Ok(version) }
}
