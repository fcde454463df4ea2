//! A stretch of the feed, as one peer is told it.

use super::holdings::packed;
use crate::node::{Error, Node, member::Member};
use crate::{
    ident::{DocumentId, Name, NodeId, Version},
    store::{FeedEntry, FeedQuery, Head, Logged, ReadError, Source, Store},
    sync::{Batch, Offer, Parcel},
};
use bytes::Bytes;

/// Most rows, or commits, that one batch looks at.
const ROWS_MAX: usize = 512;
/// A batch ends behind the document with which it has as many bytes of changes.
pub(super) const BYTES_MAX: usize = 1 << 20;

/// From where a peer is told the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// Behind this seq.
    pub(super) after: u64,
    /// The peer does not know of it: what lies before is left to the sketch.
    pub(super) begins: bool,
    /// Up to here all documents go whole: the peer holds next to nothing.
    pub(super) whole_until: u64,
}

impl Node {
    /// From where a member is told the feed.
    pub(super) fn start_for(&self, member: &Member) -> Start {
        let last = self.store().last_seq();
        let cursor = member.hello.beat.cursor;
        if let Some(after) = cursor.and_then(|cursor| self.seq_of_cursor(cursor)) {
            return Start { after, begins: false, whole_until: 0 };
        }
        let set = member.scope.set(self.ledger().key());
        let held = self.ledger().root(set).map_or(0, |(_, documents)| documents);
        if member.hello.documents.saturating_mul(8) < held {
            return Start { after: 0, begins: true, whole_until: last };
        }
        Start { after: last, begins: true, whole_until: 0 }
    }

    /// What a member is told of the feed after a seq: the changes made here, and offers of what came from
    /// where it does not hear itself.
    ///
    /// # Errors
    /// `Damaged`, `Internal`.
    pub(super) async fn batch_for(
        &self,
        member: &Member,
        after: u64,
        whole_until: u64,
        bytes_max: usize,
    ) -> Result<Batch, Error> {
        let (node, member) = (self.clone(), member.clone());
        self.blocking(move || {
            let until = node.store().last_seq();
            let span = Span { after, until, whole_until };
            let (batch, doubted) = read(&node, &member, &span, bytes_max)?;
            node.members().update(member.hello.node, |member| member.doubt(doubted));
            Ok(batch)
        })
        .await
    }
}

/// Of which commits a batch tells.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// Behind this one,
    after: u64,
    /// up to this one at most,
    until: u64,
    /// and up to here by whole documents.
    whole_until: u64,
}

/// A document of which a batch tells.
struct Row {
    name: Name,
    version: Version,
    seq: u64,
    own_seq: u64,
}

impl From<FeedEntry> for Row {
    fn from(entry: FeedEntry) -> Self {
        let FeedEntry { name, version, seq, own_seq, .. } = entry;
        Self { name, version, seq, own_seq }
    }
}

/// A batch of what was committed in a span, and up to where something may lie that it passed; 0: nowhere.
///
/// It passes nothing where these commits are in memory. Else it is told by rows alone, and a document has one
/// row, at its last commit: what an earlier one brought is found there, up to the last row that there was.
/// All until then is offered as well, and what is missing is wanted.
fn read(
    node: &Node,
    member: &Member,
    span: &Span,
    bytes_max: usize,
) -> Result<(Batch, u64), Error> {
    let (store, Span { after, until: last, whole_until }) = (node.store(), *span);
    let recent = match whole_until <= after {
        true => node.ledger().stretch(after, last, ROWS_MAX, bytes_max),
        false => None,
    };
    let sure = recent.is_some();
    let (until, mut moved_on) =
        recent.map_or_else(|| (last, <_>::default()), |recent| (recent.to, recent.documents));
    let span = Span { until, ..*span };
    let query = FeedQuery { after, until, filter: None, limit: ROWS_MAX, looked_at_max: ROWS_MAX };
    let feed = store.feed_page(&query)?;
    // Behind the rows: where they did not find a document, it had moved no further yet.
    let doubted = if sure { 0 } else { store.last_row()? };
    let mut batch = Batch { from: after, to: feed.looked_to, whole_until, ..Batch::default() };
    let (offers, mut bytes) = (!sure || member.doubts(after), 0);
    for entry in feed.entries {
        if bytes_max <= bytes {
            batch.to = entry.seq - 1;
            break;
        }
        moved_on.remove(&entry.name.id());
        bytes += tell(node, member, &entry.into(), &span, offers, &mut batch)?;
    }
    let span = Span { until: batch.to, ..span };
    for id in moved_on {
        if let Some(row) = row(store, id)? {
            tell(node, member, &row, &span, offers, &mut batch)?;
        }
    }
    batch.end = batch.to == last;
    Ok((batch, doubted))
}

/// A document as its head tells it; `None`: it is not there, or its head is damaged.
fn row(store: &Store, id: DocumentId) -> Result<Option<Row>, Error> {
    match store.head(id) {
        Ok(Some((name, Head { version, seq, own_seq, .. }))) => {
            Ok(Some(Row { name, version, seq, own_seq }))
        }
        Ok(None) | Err(ReadError::Damaged(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Adds to a batch what a member is told of one document: `offers`, whatever else. Gives how many bytes of
/// changes that is.
fn tell(
    node: &Node,
    member: &Member,
    row: &Row,
    span: &Span,
    mut offers: bool,
    batch: &mut Batch,
) -> Result<usize, Error> {
    let (ledger, store, to) = (node.ledger(), node.store(), member.hello.node);
    let (id, Span { after, until, whole_until }) = (row.name.id(), *span);
    let collection = ledger.key().collection(row.name.collection());
    if !member.scope.holds(collection) {
        return Ok(0);
    }
    let parcel = |changes: &[Bytes]| {
        let (name, version) = (row.name.clone(), row.version.clone());
        Some(Parcel { changes: packed(changes, node.options().parcel_bytes_max)?, name, version })
    };
    let mut bytes = 0;
    // What does not go in one message, or cannot be sent, is offered: it is wanted in parts then, or is known
    // to be lacking.
    if row.seq <= whole_until {
        let stored = store.document(&row.name).ok().flatten();
        let whole = stored.and_then(|stored| {
            let version = stored.head.version;
            Some(Parcel { version, ..parcel(&stored.chunks)? })
        });
        if let Some(whole) = whole {
            let bytes = whole.changes.len();
            batch.relayed.push(whole);
            return Ok(bytes);
        }
        offers = true;
    } else if after < row.own_seq {
        let made = ledger.made(id, after, until).map(Logged::Changes);
        match made.map_or_else(|| store.own_changes(id, after, until), Ok) {
            Ok(Logged::Changes(changes)) => match parcel(&changes) {
                Some(made) if !made.changes.is_empty() => {
                    bytes = made.changes.len();
                    batch.made.push(made);
                }
                Some(_) => {}
                None => offers = true,
            },
            Ok(Logged::Folded) | Err(_) => offers = true,
        }
    }
    offers |= ledger.relays(id, after, |source| hears(node, source, to, collection));
    if offers {
        let fingerprint = ledger.key().fingerprint(&row.name, &row.version);
        batch.offers.push(Offer { id, fingerprint });
    }
    Ok(bytes)
}

/// Whether what comes from a source reaches a node without this one.
fn hears(node: &Node, source: &Source, to: NodeId, collection: u64) -> bool {
    source.node == to || (source.made && node.members().is_linked(source.node, to, collection))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doc::{self, Edit, Form, Limits},
        node::{Options, Precondition, Write, member::tests::hello},
        store::{Engine, MemoryEngine},
        sync::Scope,
    };
    use std::sync::Arc;

    fn name(key: &str) -> Name {
        Name::new("notes".parse().unwrap(), key.parse().unwrap()).unwrap()
    }

    fn start(engine: &Arc<MemoryEngine>) -> Node {
        let options = Options { shards: 1, ..Options::default() };
        Node::start(options, Arc::clone(engine) as Arc<dyn Engine>).unwrap()
    }

    /// Writes a document. Gives the seq of its commit.
    async fn put(node: &Node, key: &str, json: &str) -> u64 {
        let edit = Edit::Put(doc::parse(json.as_bytes(), Form::Plain, &Limits::default()).unwrap());
        let precondition = Precondition::None;
        let write = Write { edit, base: None, precondition, message: None, want: None, once: None };
        node.write(&name(key), write).await.unwrap();
        node.store().last_seq()
    }

    /// The documents whose changes a batch brings, with how many bytes, and those that it offers.
    fn told(batch: &Batch) -> (Vec<(Name, usize)>, Vec<DocumentId>) {
        let made = batch.made.iter().map(|made| (made.name.clone(), made.changes.len()));
        (made.collect(), batch.offers.iter().map(|offer| offer.id).collect())
    }

    #[tokio::test]
    async fn what_a_commit_brought_is_told_once_also_of_a_document_that_has_moved_on() {
        let node = start(&Arc::default());
        let member = Member::new(hello(1), &Scope::All, None);
        let first = put(&node, "a", "{}").await;
        put(&node, "b", "{}").await;
        let last = put(&node, "a", r#"{"a":1}"#).await;
        let read = |after, until, bytes_max| {
            let span = Span { after, until, whole_until: 0 };
            let (batch, doubted) = read(&node, &member, &span, bytes_max).unwrap();
            assert_eq!(doubted, 0);
            assert_eq!(told(&batch).1, [], "nothing is offered");
            (told(&batch).0, batch.to, batch.end)
        };
        // As one reads who was told the last seq just before the document moved on,
        let (one, to, end) = read(0, first, BYTES_MAX);
        assert_eq!((one.len(), to, end), (1, first, true));
        assert_eq!(one[0].0, name("a"));
        let (two, to, end) = read(first, last, BYTES_MAX);
        assert_eq!((to, end), (last, true));
        assert_eq!(two.iter().map(|(name, _)| name.key().as_str()).collect::<Vec<_>>(), ["b", "a"]);
        // or who is told no more than so many bytes at once.
        let (again, to, end) = read(0, last, 1);
        assert_eq!((again, to, end), (one.clone(), first, false));
        let all = read(0, last, BYTES_MAX).0;
        assert_eq!(all, [two[0].clone(), (name("a"), one[0].1 + two[1].1)]);
        node.stop().await;
    }

    #[tokio::test]
    async fn where_the_commits_are_not_in_memory_all_is_offered_behind_which_one_may_be() {
        let engine = Arc::default();
        let node = start(&engine);
        let first = put(&node, "a", "{}").await;
        put(&node, "b", "{}").await;
        let last = put(&node, "a", r#"{"a":1}"#).await;
        node.stop().await;
        let node = start(&engine);
        let mut member = Member::new(hello(1), &Scope::All, None);
        let mut read = |after, until| {
            let span = Span { after, until, whole_until: 0 };
            // One document each time.
            let (batch, doubted) = read(&node, &member, &span, 1).unwrap();
            member.doubt(doubted);
            let (made, offers) = told(&batch);
            let made: Vec<_> = made.into_iter().map(|(name, _)| name).collect();
            (made, offers, batch.to, batch.end)
        };
        let [a, b, c] = ["a", "b", "c"].map(name);
        assert_eq!(read(first, last), (vec![b.clone()], vec![b.id()], last - 1, false));
        // As one reads who was told the last seq just before the document moved on.
        let again = put(&node, "a", r#"{"a":2}"#).await;
        assert_eq!(read(last - 1, last), (vec![], vec![], last, true));
        // These commits are in memory, and behind the first lies what was passed: also if it moves on again,
        let third = put(&node, "c", "{}").await;
        let last = put(&node, "a", r#"{"a":3}"#).await;
        assert_eq!(read(again - 1, last), (vec![a.clone()], vec![a.id()], again, false));
        // and if that comes to nothing, and is read again.
        assert_eq!(read(again - 1, last), (vec![a.clone()], vec![a.id()], again, false));
        assert_eq!(read(again, last), (vec![c], vec![], third, false));
        assert_eq!(read(third, last), (vec![a], vec![], last, true));
        node.stop().await;
    }
}
