//! Reading: views straight from the store, without Automerge and without waiting for writers.

use super::{Error, Node};
use crate::{
    doc::Form,
    ident::{Collection, Key, Name, Version},
    store::{Cached, List, ReadError, View},
};
use bytes::Bytes;
use std::sync::Arc;

/// A page of a list ends once its JSON holds as many bytes.
pub(super) const PAGE_BYTES_MAX: usize = 8 << 20;

/// A document as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// JSON, or a saved Automerge document.
    pub body: Bytes,
    /// The version read.
    pub version: Version,
    /// Conflicted places in it.
    pub conflicts: u32,
}

/// How a document is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// JSON, plain or typed.
    Json(Form),
    /// The saved Automerge document.
    Automerge,
}

/// One document in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// Conflicted places.
    pub conflicts: u32,
    /// Its plain JSON, if asked for.
    pub json: Option<Bytes>,
}

/// Which documents of a collection to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Keys that begin with this; empty: all.
    pub prefix: String,
    /// Keys after this one, which itself is not listed.
    pub after: Option<Key>,
    /// Most rows, at least 1.
    pub limit: usize,
    /// Whether rows carry the JSON.
    pub values: bool,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// In key order. Ends at the limit, or once the rows hold 8 MiB.
    pub rows: Vec<Row>,
    /// The key to go on after; `None` at the end.
    pub next: Option<Key>,
}

/// What the store knows of a document, for a reader of its view.
pub(super) enum Found {
    Reading(Reading),
    /// It lives, and its view has yet to be made by its shard.
    Unmade,
}

/// The view of a document. Waits for the disk, on another thread, only if it is not in memory.
pub(super) async fn view(node: &Node, name: &Name) -> Result<Found, Error> {
    let store = node.store();
    match store.view_cached(name)? {
        Cached::Found(view) => return Ok(found(view)),
        Cached::Missing | Cached::Unknown => {}
    }
    let (store, name) = (Arc::clone(store), name.clone());
    node.blocking(move || {
        match store.view(&name)? {
            Some(view) => Ok(found(view)),
            None => match store.head(name.id())? {
                None => Err(Error::NotFound),
                Some((there, _)) if there != name => Err(ReadError::NameTaken(there).into()),
                Some((_, head)) if head.deleted => Err(Error::Deleted(head.version)),
                // Written between the two reads.
                Some(_) => Ok(store.view(&name)?.map_or(Found::Unmade, found)),
            },
        }
    })
    .await
}

fn found(view: View) -> Found {
    let View { version, conflicts, json } = view;
    match json {
        Some(body) => Found::Reading(Reading { body, version, conflicts }),
        None => Found::Unmade,
    }
}

/// A page of a collection. Damaged documents are left out and reported.
pub(super) async fn list(
    node: &Node,
    collection: &Collection,
    query: ListQuery,
) -> Result<Page, Error> {
    let (store, collection) = (Arc::clone(node.store()), collection.clone());
    node.blocking(move || {
        let page = store.list(
            &collection,
            List {
                prefix: &query.prefix,
                after: query.after.as_ref(),
                limit: query.limit,
                bytes_max: PAGE_BYTES_MAX,
                values: query.values,
            },
        )?;
        for key in &page.damaged {
            tracing::error!(%collection, %key, "a damaged document is left out of a list");
        }
        let rows = page.rows.into_iter().filter_map(|(key, view)| {
            let name = Name::new(collection.clone(), key).ok()?;
            let View { version, conflicts, json } = view;
            Some(Row { name, version, conflicts, json })
        });
        Ok(Page { rows: rows.collect(), next: page.next })
    })
    .await
}
