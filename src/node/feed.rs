//! The feed: documents by their last commit, read a page at a time, and who waits for more of it.
//!
//! The feed is the queue: whoever reads slowly, or not at all, holds a cursor and nothing else. Each
//! filter that somebody waits on has one *slot*; a commit wakes the slots that its document matches,
//! so that readers of something else cost a writer nothing.

use super::{Error, Node, audience::Audience};
use crate::{
    ident::{Collection, Cursor, Name, Version},
    store::{FeedEntry, FeedQuery, Store},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};
use tokio::sync::watch;

/// Most rows that one page looks at, whatever it finds.
const ROWS_LOOKED_AT_MAX: usize = 20_000;
/// Most readers that wait at once.
pub const SUBSCRIPTIONS_MAX: usize = 4096;

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Before everything.
    Beginning,
    /// Behind everything that is durable now.
    Now,
    /// Behind this.
    Cursor(Cursor),
}

/// Which documents a reader wants to hear of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Filter {
    /// Of one collection; `None`: of all.
    pub collection: Option<Collection>,
    /// Whose keys begin with this; empty: all.
    pub prefix: String,
}

/// A document that was committed, and has not been since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where to go on behind it.
    pub cursor: Cursor,
    /// Its name.
    pub name: Name,
    /// Its version; with a value, that of the value, which may be newer than the row: then the
    /// document has another row further on.
    pub version: Version,
    /// It is deleted.
    pub deleted: bool,
    /// Conflicted places in it.
    pub conflicts: u32,
    /// Its plain JSON, if asked for, and if it lives and can be read.
    pub json: Option<Bytes>,
}

/// A stretch of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// In the order of their commits.
    pub rows: Vec<Row>,
    /// Where to go on: behind the last row that was looked at.
    pub next: Cursor,
    /// Whether there was nothing behind it.
    pub end: bool,
}

impl Node {
    /// Where a reader begins, as a seq.
    ///
    /// # Errors
    /// `CursorGone`.
    fn seq_of(&self, since: Since) -> Result<u64, Error> {
        let store = self.store();
        match since {
            Since::Beginning => Ok(0),
            Since::Now => Ok(store.last_seq()),
            Since::Cursor(cursor) => {
                let starts = store.incarnations();
                let start = starts.iter().position(|start| start.id == cursor.incarnation);
                let start = start.ok_or(Error::CursorGone)?;
                // What an earlier start gave and did not keep, a later one has given again.
                let end = starts.get(start + 1).map(|next| next.start_seq);
                let end = end.unwrap_or_else(|| store.last_seq() + 1);
                if cursor.seq < end { Ok(cursor.seq) } else { Err(Error::CursorGone) }
            }
        }
    }

    /// The seq of a cursor from which this node can go on without skipping a row.
    pub(super) fn seq_of_cursor(&self, cursor: Cursor) -> Option<u64> {
        self.seq_of(Since::Cursor(cursor)).ok()
    }

    /// The cursor of a seq.
    fn cursor(&self, seq: u64) -> Cursor {
        Cursor { incarnation: self.incarnation(), seq }
    }

    /// What was committed since: at most `limit` rows, and as many as a page may look at. With values
    /// it ends once they hold so many bytes.
    ///
    /// # Errors
    /// `CursorGone`, `Damaged`, `Internal`; as [`Node::read`] where values are wanted.
    pub async fn feed(
        &self,
        since: Since,
        filter: &Filter,
        limit: usize,
        values: Option<usize>,
    ) -> Result<Stretch, Error> {
        let after = self.seq_of(since)?;
        let (store, filter) = (Arc::clone(self.store()), filter.clone());
        let node = self.clone();
        let (stretch, unmade) =
            self.blocking(move || read(&node, &store, after, &filter, limit, values)).await?;
        match values {
            Some(most) if !unmade.is_empty() => self.make_all(stretch, &unmade, most).await,
            _ => Ok(stretch),
        }
    }

    /// Has the values made of rows that lack them. The stretch ends once its values hold so many bytes.
    async fn make_all(
        &self,
        mut stretch: Stretch,
        unmade: &[usize],
        most: usize,
    ) -> Result<Stretch, Error> {
        let mut bytes = 0;
        for index in 0..stretch.rows.len() {
            if unmade.contains(&index) {
                self.make(&mut stretch.rows[index]).await?;
            }
            bytes += stretch.rows[index].json.as_ref().map_or(0, Bytes::len);
            if most <= bytes && index + 1 < stretch.rows.len() {
                (stretch.next, stretch.end) = (stretch.rows[index].cursor, false);
                stretch.rows.truncate(index + 1);
                break;
            }
        }
        Ok(stretch)
    }

    /// Has the value made of a row that lacks it.
    async fn make(&self, row: &mut Row) -> Result<(), Error> {
        match self.read(&row.name).await {
            Ok(reading) => {
                (row.version, row.conflicts) = (reading.version, reading.conflicts);
                row.json = Some(reading.body);
            }
            Err(Error::Deleted(version)) => {
                (row.version, row.deleted, row.conflicts) = (version, true, 0);
            }
            // That there is no value says so; the rest of the row is right.
            Err(Error::Damaged(why)) => {
                tracing::error!(document = %row.name.id(), why, "has no value in the feed");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Waits for what a filter matches; `None`: too many wait already.
    pub fn subscribe(&self, filter: Filter) -> Option<Subscription> {
        Subscription::new(Arc::clone(self.board()), filter)
    }

    /// Waits for everything, whoever else does: members are bounded.
    pub(super) fn listen(&self) -> Subscription {
        Subscription::beside(Arc::clone(self.board()), Filter::default())
    }

    /// How many readers wait.
    pub fn subscriptions(&self) -> usize {
        self.board().count.load(Ordering::Relaxed)
    }

    /// The cursor behind everything of which all who wait have heard.
    pub fn announced(&self) -> Cursor {
        self.cursor(self.board().announced.load(Ordering::Acquire))
    }
}

/// One page, and the places in it of rows whose views have yet to be made.
fn read(
    node: &Node,
    store: &Store,
    after: u64,
    filter: &Filter,
    limit: usize,
    values: Option<usize>,
) -> Result<(Stretch, Vec<usize>), Error> {
    let query = FeedQuery {
        after,
        until: store.last_seq(),
        filter: filter.collection.as_ref().map(|name| (name, filter.prefix.as_str())),
        limit,
        looked_at_max: ROWS_LOOKED_AT_MAX,
    };
    let feed = store.feed_page(&query)?;
    for seq in &feed.damaged {
        tracing::error!(seq, "a damaged row is left out of the feed");
    }
    let (mut rows, mut unmade, mut bytes) = (Vec::with_capacity(feed.entries.len()), Vec::new(), 0);
    let (mut next, mut end) = (feed.looked_to, feed.looked_to == query.until);
    let count = feed.entries.len();
    for (index, entry) in feed.entries.into_iter().enumerate() {
        let seq = entry.seq;
        let FeedEntry { name, version, deleted, conflicts, .. } = entry;
        let cursor = node.cursor(seq);
        let mut row = Row { cursor, name, version, deleted, conflicts, json: None };
        if values.is_some() && !deleted {
            // A document that was deleted since has no view either.
            match store.view(&row.name) {
                Ok(Some(view)) if view.json.is_some() => {
                    (row.version, row.conflicts) = (view.version, view.conflicts);
                    bytes += view.json.as_ref().map_or(0, Bytes::len);
                    row.json = view.json;
                }
                Ok(_) | Err(_) => unmade.push(index),
            }
        }
        rows.push(row);
        if values.is_some_and(|most| most <= bytes) && index + 1 < count {
            (next, end) = (seq, false);
            break;
        }
    }
    Ok((Stretch { rows, next: node.cursor(next), end }, unmade))
}

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct Board {
    slots: Mutex<Slots>,
    count: AtomicUsize,
    /// All who wait have been woken for what was committed up to here.
    announced: AtomicU64,
    audience: Arc<Audience>,
}

#[derive(Debug, Default)]
struct Slots {
    by_filter: HashMap<Filter, Slot>,
    /// Of each collection that somebody waits on: how long the prefixes are, and how many of each.
    lengths: HashMap<Collection, BTreeMap<usize, usize>>,
}

/// All who wait on one filter.
#[derive(Debug)]
struct Slot {
    bell: watch::Sender<u64>,
    users: usize,
}

impl Board {
    /// How many wait.
    pub(super) fn subscriptions(&self) -> u64 {
        self.count.load(Ordering::Relaxed) as u64
    }

    /// Those who have documents open.
    pub(super) fn audience(&self) -> &Arc<Audience> {
        &self.audience
    }

    /// A board on which everything up to `seq` is known.
    pub(super) fn new(seq: u64) -> Self {
        Self { announced: AtomicU64::new(seq), ..Self::default() }
    }

    /// Wakes whoever waits for one of these documents, published up to `seq`.
    ///
    /// The lock is taken also where nobody waits. It is what orders this and a reader that comes: either
    /// the reader has its slot and is woken, or it reads after it got one what was published before.
    pub(super) fn announce<'a>(&self, names: impl Iterator<Item = &'a Name> + Clone, seq: u64) {
        let slots = self.lock();
        if !slots.by_filter.is_empty() {
            for name in names.clone() {
                slots.ring(name, seq);
            }
        }
        drop(slots);
        self.audience.changed(names.map(Name::id));
        self.announced.fetch_max(seq, Ordering::AcqRel);
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        // Nothing in it panics half way.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn ring(&self, name: &Name, seq: u64) {
        let ring = |filter: &Filter| {
            if let Some(slot) = self.by_filter.get(filter) {
                slot.bell.send_replace(seq);
            }
        };
        ring(&Filter::default());
        let Some(lengths) = self.lengths.get(name.collection()) else { return };
        let key = name.key().as_str();
        for length in lengths.keys() {
            if let Some(prefix) = key.get(..*length) {
                let collection = Some(name.collection().clone());
                ring(&Filter { collection, prefix: prefix.to_owned() });
            }
        }
    }

    fn join(&mut self, filter: &Filter) -> watch::Receiver<u64> {
        let slot = self.by_filter.entry(filter.clone()).or_insert_with(|| {
            if let Some(collection) = &filter.collection {
                let lengths = self.lengths.entry(collection.clone()).or_default();
                *lengths.entry(filter.prefix.len()).or_default() += 1;
            }
            Slot { bell: watch::Sender::new(0), users: 0 }
        });
        slot.users += 1;
        slot.bell.subscribe()
    }

    fn leave(&mut self, filter: &Filter) {
        let Some(slot) = self.by_filter.get_mut(filter) else { return };
        slot.users -= 1;
        if slot.users != 0 {
            return;
        }
        self.by_filter.remove(filter);
        let Some(collection) = &filter.collection else { return };
        let Some(lengths) = self.lengths.get_mut(collection) else { return };
        if let Some(count) = lengths.get_mut(&filter.prefix.len()) {
            *count -= 1;
            if *count == 0 {
                lengths.remove(&filter.prefix.len());
            }
        }
        if lengths.is_empty() {
            self.lengths.remove(collection);
        }
    }
}

/// A place among those who wait.
#[derive(Debug)]
pub struct Subscription {
    board: Arc<Board>,
    filter: Filter,
    bell: watch::Receiver<u64>,
    /// Whether it is one of those of which there are so many at most.
    counts: bool,
}

impl Subscription {
    fn new(board: Arc<Board>, filter: Filter) -> Option<Self> {
        let free = |count| (count < SUBSCRIPTIONS_MAX).then_some(count + 1);
        board.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).ok()?;
        let mut waiting = Self::beside(board, filter);
        waiting.counts = true;
        Some(waiting)
    }

    /// One that does not count.
    fn beside(board: Arc<Board>, filter: Filter) -> Self {
        let bell = board.lock().join(&filter);
        Self { board, filter, bell, counts: false }
    }

    /// What it waits for.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Waits until something that it waits for was committed since it was last told so.
    pub async fn changed(&mut self) {
        // The sender lives in the slot, which lives as long as this.
        let _ = self.bell.changed().await;
    }

    /// Whether it has yet to be told of something.
    pub fn is_rung(&self) -> bool {
        self.bell.has_changed().unwrap_or(false)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.board.lock().leave(&self.filter);
        if self.counts {
            self.board.count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        let (collection, key) = text.split_once('/').unwrap();
        Name::new(collection.parse().unwrap(), key.parse().unwrap()).unwrap()
    }

    fn filter(collection: &str, prefix: &str) -> Filter {
        let collection = (!collection.is_empty()).then(|| collection.parse().unwrap());
        Filter { collection, prefix: prefix.to_owned() }
    }

    #[test]
    fn a_commit_wakes_those_whose_filter_matches_and_no_others() {
        let board = Arc::new(Board::new(7));
        let filters = [
            filter("", ""),
            filter("a", ""),
            filter("a", "x"),
            filter("a", "xé"),
            filter("a", "y"),
            filter("b", ""),
        ];
        let mut waiting: Vec<Subscription> = filters
            .iter()
            .map(|filter| Subscription::new(Arc::clone(&board), filter.clone()).unwrap())
            .collect();
        for (document, woken) in [
            ("a/xé1", vec![0, 1, 2, 3]),
            ("a/x", vec![0, 1, 2]),
            ("a/z", vec![0, 1]),
            ("b/x", vec![0, 5]),
            ("c/x", vec![0]),
        ] {
            board.announce([&name(document)].into_iter(), 9);
            let rung: Vec<usize> =
                (0..waiting.len()).filter(|index| waiting[*index].is_rung()).collect();
            assert_eq!(rung, woken, "{document}");
            for subscription in &mut waiting {
                subscription.bell.mark_unchanged();
            }
        }
        assert_eq!(board.announced.load(Ordering::Relaxed), 9);
        drop(waiting);
        let slots = board.lock();
        assert!(slots.by_filter.is_empty() && slots.lengths.is_empty());
        assert_eq!(board.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn there_are_never_more_than_the_bound() {
        let board = Arc::new(Board::default());
        let subscribe = || Subscription::new(Arc::clone(&board), Filter::default());
        let mut waiting: Vec<_> = (0..SUBSCRIPTIONS_MAX).map(|_| subscribe().unwrap()).collect();
        assert!(subscribe().is_none());
        drop(Subscription::beside(Arc::clone(&board), Filter::default()));
        assert!(subscribe().is_none(), "one beside them makes no room, and takes none");
        waiting.pop();
        assert!(subscribe().is_some());
    }
}
