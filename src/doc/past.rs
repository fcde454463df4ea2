//! What a document was, and what each of its changes did.

use super::{
    Document, Patch, Refusal, Value, diff::diff, document::internal, life, standing::Standing,
    view::Scope,
};
use crate::ident::Version;
use automerge::{Automerge, ChangeHash, PatchLog, ROOT};

impl Document {
    /// The JSON Patch (RFC 6902) that makes of the plain JSON at `from` that at `to`; `None`: now.
    ///
    /// It adds, removes and replaces: maps key by key, lists element by element as an edit pairs
    /// them. What reads alike in plain JSON is no difference. Where a version shows nothing, since
    /// nobody had written the document or it was deleted, its value counts as `null`.
    ///
    /// # Errors
    /// `VersionNotFound`.
    pub fn diff(&self, from: Option<&Version>, to: Option<&Version>) -> Result<Patch, Refusal> {
        let heads = |version: Option<&Version>| match version {
            None => Ok(self.history().heads()),
            Some(version) => self.base(version),
        };
        let mut past = Past::of(self);
        let (from, to) = (past.value(&heads(from)?)?, past.value(&heads(to)?)?);
        Ok(diff(from.as_ref(), to.as_ref()))
    }
}

/// A document to be read at many versions.
struct Past<'d> {
    document: &'d Document,
    /// Only a transaction reads an old version at one cost for all of its objects.
    copy: Option<Automerge>,
}

impl<'d> Past<'d> {
    fn of(document: &'d Document) -> Self {
        Self { document, copy: None }
    }

    /// What these heads show; `None` if that is nothing.
    fn value(&mut self, heads: &[ChangeHash]) -> Result<Option<Value>, Refusal> {
        if heads == self.document.history().heads() {
            return Ok(self.document.value());
        }
        let automerge = self.document.history().automerge();
        if heads.is_empty() || life::is_deleted(automerge, heads) {
            return Ok(None);
        }
        let standing = Standing::at_version(automerge, heads);
        let copy = self.copy.get_or_insert_with(|| automerge.clone());
        let tx = copy.transaction_at(PatchLog::inactive(), heads).map_err(internal)?;
        Ok(Some(Scope::new(&tx, &standing).map_value(&[ROOT])))
    }
}
