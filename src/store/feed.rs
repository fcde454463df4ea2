//! The feed: documents by their last commit.
//!
//! Where rows of it are damaged, the heads tell the same: damage costs a page the time that it takes to
//! read all heads, and hides no document whose head is whole.

use super::{
    engine::Range,
    error::{Damaged, EngineError, ReadError},
    key::{self, Family},
    read::Store,
    row::{FeedRow, Head, Origin, View},
};
use crate::ident::{Collection, Name, Version};
use std::{collections::BTreeMap, ops::ControlFlow};

/// A document in the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEntry {
    /// The commit that last moved its version.
    pub seq: u64,
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// It is deleted.
    pub deleted: bool,
    /// How many places hold more than one value.
    pub conflicts: u32,
    /// The last commit that brought it a change of [`Origin::Own`]; 0: none did.
    pub own_seq: u64,
    /// Where that commit's changes came to this group of nodes.
    pub origin: Origin,
}

/// A stretch of the feed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Feed {
    /// In order of seq.
    pub entries: Vec<FeedEntry>,
    /// Seqs whose rows are damaged; they are not among the entries.
    pub damaged: Vec<u64>,
    /// Up to where there is nothing more that the query wants.
    pub looked_to: u64,
}

/// Which part of the feed to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedQuery<'a> {
    /// Only rows behind this seq.
    pub after: u64,
    /// Only rows up to this seq.
    pub until: u64,
    /// Only documents of this collection whose keys begin with this.
    pub filter: Option<(&'a Collection, &'a str)>,
    /// Most rows.
    pub limit: usize,
    /// Most rows that are looked at.
    pub looked_at_max: usize,
}

impl Store {
    /// The documents committed after `seq`, at most `limit`.
    ///
    /// # Errors
    /// `Damaged`: neither the feed nor the heads can be read; `Engine`.
    pub fn feed(&self, seq: u64, limit: usize) -> Result<Feed, ReadError> {
        let (until, looked_at_max) = (u64::MAX, limit);
        self.feed_page(&FeedQuery { after: seq, until, filter: None, limit, looked_at_max })
    }

    /// The seq of the last row that there is, durable or about to be; 0: there is none.
    ///
    /// # Errors
    /// `Engine`.
    pub fn last_row(&self) -> Result<u64, ReadError> {
        let key = self.engine.last_key(Family::Feed)?;
        Ok(key.and_then(|key| key::decode_feed(&key)).unwrap_or(0))
    }

    /// A page of the feed.
    ///
    /// # Errors
    /// `Damaged`: neither the feed nor the heads can be read; `Engine`.
    pub fn feed_page(&self, query: &FeedQuery<'_>) -> Result<Feed, ReadError> {
        match self.feed_rows(query) {
            Ok(feed) if feed.damaged.is_empty() => Ok(feed),
            // What heads cannot tell either stays damaged.
            Ok(feed) => self.feed_by_heads(query, feed.damaged),
            Err(EngineError::Corrupt(_)) => self.feed_by_heads(query, Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    fn feed_rows(&self, query: &FeedQuery<'_>) -> Result<Feed, EngineError> {
        let mut feed = Feed { looked_to: query.until, ..Feed::default() };
        let (mut outcome, mut looked_at, mut last) = (Ok(()), 0, query.after);
        self.engine.scan(Family::Feed, &key::feed_range(query.after), &mut |key, value| {
            let Some(seq) = key::decode_feed(key) else {
                outcome = Err(EngineError::Corrupt("a key of the feed is none".to_owned()));
                return ControlFlow::Break(());
            };
            if query.until < seq {
                return ControlFlow::Break(());
            }
            let found = feed.entries.len() + feed.damaged.len();
            if query.limit <= found || query.looked_at_max <= looked_at {
                feed.looked_to = last;
                return ControlFlow::Break(());
            }
            (looked_at, last) = (looked_at + 1, seq);
            let row = FeedRow::decode(key, value);
            let passed = |row: &FeedRow| self.passes(query, row.collection, row.key.as_str());
            match row.map(|row| passed(&row).then(|| self.feed_entry(seq, row))) {
                Ok(None) => {}
                Ok(Some(Ok(entry))) => feed.entries.push(entry),
                Ok(Some(Err(_))) | Err(_) => feed.damaged.push(seq),
            }
            ControlFlow::Continue(())
        })?;
        outcome.map(|()| feed)
    }

    fn passes(&self, query: &FeedQuery<'_>, collection: u32, key: &str) -> bool {
        query.filter.is_none_or(|(name, prefix)| {
            self.catalog.id(name) == Some(collection) && key.starts_with(prefix)
        })
    }

    /// The same page, as the heads tell it.
    fn feed_by_heads(&self, query: &FeedQuery<'_>, mut lost: Vec<u64>) -> Result<Feed, ReadError> {
        let mut heads = BTreeMap::new();
        let mut looked_to = query.until;
        self.engine.scan(Family::Head, &Range::all(), &mut |key, value| {
            if let (Some(id), Ok(head)) = (key::decode_head(key), Head::decode(key, value))
                && query.after < head.seq
                && head.seq <= looked_to
                && self.passes(query, head.collection, head.key.as_str())
            {
                heads.insert(head.seq, (id, head));
                if query.limit < heads.len() {
                    heads.pop_last();
                    looked_to = heads.last_key_value().map_or(query.until, |(seq, _)| *seq);
                }
            }
            ControlFlow::Continue(())
        })?;
        lost.retain(|seq| *seq <= looked_to && !heads.contains_key(seq));
        let mut feed = Feed { damaged: lost, looked_to, ..Feed::default() };
        for (seq, (id, head)) in heads {
            let key = key::encode_view(head.collection, &head.key);
            let view = self.engine.get(Family::View, &key).ok().flatten();
            let view = view.and_then(|value| View::decode(&key, &value).ok());
            let row = FeedRow {
                id,
                collection: head.collection,
                version: head.version,
                deleted: head.deleted,
                conflicts: view.map_or(0, |view| view.conflicts),
                own_seq: head.own_seq,
                // What its last commit brought is told by its row alone.
                origin: if head.own_seq == seq { Origin::Own } else { Origin::Foreign },
                key: head.key,
            };
            match self.feed_entry(seq, row) {
                Ok(entry) => feed.entries.push(entry),
                Err(_) => feed.damaged.push(seq),
            }
        }
        Ok(feed)
    }

    fn feed_entry(&self, seq: u64, row: FeedRow) -> Result<FeedEntry, Damaged> {
        Ok(FeedEntry {
            seq,
            name: self.name(row.id, row.collection, &row.key)?,
            version: row.version,
            deleted: row.deleted,
            conflicts: row.conflicts,
            own_seq: row.own_seq,
            origin: row.origin,
        })
    }
}
