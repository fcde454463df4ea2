//! What a document was, and what each of its changes did.

use super::{
    Document, Operation, Patch, Refusal, Value,
    diff::{diff, operation_size},
    document::version_of,
    life,
    refusal::internal,
    standing::Standing,
    view::Scope,
};
use crate::ident::{Hash, Version};
use automerge::{Automerge, ChangeHash, ChangeMetadata, PatchLog, ROOT};

/// Most operations told of one change.
pub const OPERATIONS_MAX: usize = 100;
/// A page of history ends where it tells about so many bytes of JSON,
const PAGE_BYTES_MAX: usize = 8 << 20;
/// or where so many bytes of documents were read for it, about: some tenths of a second.
const READ_BYTES_MAX: usize = 64 << 20;
/// What one change of the history weighs where the whole of it is walked, in bytes of JSON.
const CHANGE_WEIGHT: usize = 64;

/// The place of a change in the history: its last operation, and its hash.
pub type Moment = (u64, Hash);

/// What one change did.
#[derive(Debug, Clone, PartialEq)]
pub struct Deed {
    /// The change.
    pub hash: Hash,
    /// Its actor, in hex.
    pub actor: String,
    /// Which change of its actor it is, from 1 on.
    pub seq: u64,
    /// Its time as its author's clock had it, in seconds since 1970.
    pub time_seconds: i64,
    /// What its author told of it.
    pub message: Option<String>,
    /// The version on which it was made.
    pub deps: Version,
    /// What it did to what that version shows, as [`Document::diff`] tells it; at most
    /// [`OPERATIONS_MAX`].
    pub operations: Vec<Operation>,
    /// How many operations there are.
    pub operations_total: usize,
    /// Where it stands in the history.
    pub moment: Moment,
}

/// A part of a document's history.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Deeds {
    /// The latest first.
    pub deeds: Vec<Deed>,
    /// Whether earlier ones are left.
    pub more: bool,
}

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

    /// What its changes did, by their last operations and hashes, the greatest first: every change
    /// comes before those that it rests on. `before`: only changes at lesser moments. At most
    /// `limit`, and at least one if there is one; fewer where they tell or take much.
    ///
    /// # Errors
    /// `Internal`, which would be a defect.
    pub fn deeds(&self, before: Option<Moment>, limit: usize) -> Result<Deeds, Refusal> {
        let mut metas = self.history().automerge().get_changes_meta(&[]);
        metas.retain(|meta| before.is_none_or(|before| moment(meta) < before));
        metas.sort_unstable_by_key(|meta| std::cmp::Reverse(moment(meta)));

        let read_weight = self.json_bytes() + CHANGE_WEIGHT * self.change_count();
        let (mut told, mut read) = (0, 0);
        let mut page = Deeds::default();
        let mut past = Past::of(self);
        // What the change before rested on: in a line, what the next one made.
        let mut held: Option<(Vec<ChangeHash>, Option<Value>)> = None;
        let left = metas.len();
        for meta in metas.into_iter().take(limit) {
            if PAGE_BYTES_MAX <= told || READ_BYTES_MAX <= read {
                break;
            }
            let after = match held.take() {
                Some((heads, value)) if heads == [meta.hash] => value,
                _ => {
                    read += read_weight;
                    past.value(&[meta.hash])?
                }
            };
            // A change may name what another one that it names rests on.
            let deps = life::maximal(self.history().automerge(), &meta.deps);
            let before = past.value(&deps)?;
            read += read_weight;
            let deed = Deed::of(&meta, diff(before.as_ref(), after.as_ref()));
            told += deed.operations.iter().map(operation_size).sum::<usize>();
            page.deeds.push(deed);
            held = Some((deps, before));
        }
        page.more = page.deeds.len() < left;
        Ok(page)
    }
}

fn moment(meta: &ChangeMetadata<'_>) -> Moment {
    (meta.max_op, Hash::from_bytes(meta.hash.0))
}

impl Deed {
    fn of(meta: &ChangeMetadata<'_>, Patch(mut operations): Patch) -> Self {
        let operations_total = operations.len();
        operations.truncate(OPERATIONS_MAX);
        Self {
            hash: Hash::from_bytes(meta.hash.0),
            actor: meta.actor.to_hex_string(),
            seq: meta.seq,
            time_seconds: meta.timestamp,
            message: meta.message.as_deref().map(str::to_owned),
            deps: version_of(&meta.deps),
            operations,
            operations_total,
            moment: moment(meta),
        }
    }
}

/// A document to be read at many versions.
struct Past<'d> {
    document: &'d Document,
    /// Only a transaction reads an old version at one cost for all of its objects.
    copy: Option<Automerge>,
    /// Whether something stood at some version, once that is known.
    stood: Option<bool>,
}

impl<'d> Past<'d> {
    fn of(document: &'d Document) -> Self {
        Self { document, copy: None, stood: None }
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
        let stood = *self.stood.get_or_insert_with(|| Standing::ever(automerge));
        let standing =
            if stood { Standing::at_version(automerge, heads) } else { Standing::default() };
        let copy = self.copy.get_or_insert_with(|| automerge.clone());
        let tx = copy.transaction_at(PatchLog::inactive(), heads).map_err(internal)?;
        Ok(Some(Scope::new(&tx, &standing).map_value(&[ROOT])))
    }
}
