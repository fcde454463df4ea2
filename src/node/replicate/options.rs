//! What is configured of a peer, checked once, whoever says it.

use crate::{
    ident::{Collection, NameError, PeerName},
    node::{Error, Secret},
    peer::{Url, UrlError},
    store::PeerRow,
    sync::COLLECTIONS_MAX,
};
use std::{collections::BTreeSet, net::IpAddr};

/// Stands for all collections.
const EVERY: &str = "*";

/// Which way changes go between a node and a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    Both,
    /// From here to the peer.
    Push,
    /// From the peer to here.
    Pull,
}

impl Direction {
    /// Whether changes go to the peer.
    pub fn sends(self) -> bool {
        self != Self::Pull
    }

    /// Whether changes come from the peer.
    pub fn takes(self) -> bool {
        self != Self::Push
    }
}

/// A node to replicate with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerOptions {
    /// What it is called here.
    pub name: PeerName,
    /// Where it listens.
    pub url: Url,
    /// Which collections are shared with it; `None`: all.
    pub collections: Option<Vec<Collection>>,
    /// Which way changes go.
    pub direction: Direction,
}

/// Why there is no such peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Not where a node listens.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// One of the collections, counted from 0, is none.
    #[error("{name:?}: {why}")]
    Collection {
        /// Which one.
        index: usize,
        /// What it is called.
        name: String,
        /// Why it is none.
        why: NameError,
    },
    /// Nothing would be shared with it.
    #[error("at least one collection is named, or `*` for all")]
    NoCollection,
    /// More than any node has.
    #[error("at most {COLLECTIONS_MAX} collections are named; `*` is all")]
    ManyCollections,
    /// It may be on another machine, and there is no secret.
    #[error(
        "{0}: nodes of other machines need a secret: give all of them the same with \
         --cluster-secret-file"
    )]
    NeedsSecret(Url),
    /// Another peer listens there.
    #[error("the peer {0} has this URL")]
    SameUrl(PeerName),
    /// The configuration has one of that name.
    #[error(
        "this peer is in the node's configuration, or was named with --peer: it is changed there, \
         and the node started again"
    )]
    Configured,
    /// As many were added as may be.
    #[error("at most {} peers are added to a node that runs", super::ADDED_MAX)]
    TooMany,
    /// The node cannot do it now.
    #[error(transparent)]
    Node(#[from] Error),
}

impl PeerOptions {
    /// The peer that listens there and shares collections of these names.
    ///
    /// # Errors
    /// `Url`, `Collection`, `NoCollection`, `ManyCollections`.
    pub fn parse(
        name: PeerName,
        url: &str,
        collections: &[String],
        direction: Direction,
    ) -> Result<Self, PeerError> {
        let mut named = BTreeSet::new();
        for (index, name) in collections.iter().enumerate().filter(|(_, name)| *name != EVERY) {
            let refused = |why| PeerError::Collection { index, name: name.clone(), why };
            named.insert(name.parse().map_err(refused)?);
        }
        let every = collections.iter().any(|name| name == EVERY);
        match named.len() {
            _ if every => {}
            0 => return Err(PeerError::NoCollection),
            count if COLLECTIONS_MAX < count => return Err(PeerError::ManyCollections),
            _ => {}
        }
        let collections = (!every).then(|| named.into_iter().collect());
        Ok(Self { name, url: url.parse()?, collections, direction })
    }

    /// Refuses what may be a node of another machine if there is no secret: everybody knows the keys then
    /// under which nodes seal what they say.
    ///
    /// # Errors
    /// `NeedsSecret`.
    pub fn check(&self, secret: &Secret) -> Result<(), PeerError> {
        let host = self.url.host().trim_matches(['[', ']']);
        let here =
            host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        if here || !secret.0.is_empty() {
            Ok(())
        } else {
            Err(PeerError::NeedsSecret(self.url.clone()))
        }
    }

    /// The peer of a row.
    pub(super) fn of(name: PeerName, row: PeerRow) -> Result<Self, UrlError> {
        let direction = match (row.sends, row.takes) {
            (true, false) => Direction::Push,
            (false, true) => Direction::Pull,
            _ => Direction::Both,
        };
        Ok(Self { name, url: row.url.parse()?, collections: row.collections, direction })
    }

    /// The row of it.
    pub(super) fn row(&self) -> PeerRow {
        PeerRow {
            url: self.url.to_string(),
            collections: self.collections.clone(),
            sends: self.direction.sends(),
            takes: self.direction.takes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, collections: &[&str]) -> Result<PeerOptions, PeerError> {
        let collections: Vec<String> = collections.iter().copied().map(str::to_owned).collect();
        PeerOptions::parse("b".parse().unwrap(), url, &collections, Direction::Push)
    }

    #[test]
    fn a_peer_shares_all_collections_or_some_each_named_once() {
        let shared = |names: &[&str]| {
            let names = parse("http://b", names)?.collections;
            Ok(names.map(|names| names.iter().map(Collection::to_string).collect::<Vec<_>>()))
        };
        assert_eq!(shared(&["*"]), Ok(None));
        assert_eq!(shared(&["a", "*"]), Ok(None));
        let some = ["a", "b"].map(str::to_owned).to_vec();
        assert_eq!(shared(&["b", "a", "b"]), Ok(Some(some)));
        assert_eq!(shared(&[]), Err(PeerError::NoCollection));
        let (index, name, why) = (1, "B".to_owned(), NameError::Collection);
        assert_eq!(shared(&["*", "B"]), Err(PeerError::Collection { index, name, why }));
        let many: Vec<String> = (0..=COLLECTIONS_MAX).map(|number| format!("c{number}")).collect();
        let peer = |names: &[String]| {
            PeerOptions::parse("b".parse().unwrap(), "http://b", names, Direction::Both)
        };
        assert_eq!(peer(&many), Err(PeerError::ManyCollections));
        assert!(peer(&many[1..]).is_ok());
        assert_eq!(parse("b", &["*"]), Err(PeerError::Url(UrlError)));
        assert_eq!(COLLECTIONS_MAX, crate::store::COLLECTIONS_MAX, "a node's are no more");
    }

    #[test]
    fn a_node_that_may_be_of_another_machine_needs_a_secret() {
        let secret = Secret(b"a secret that is long".to_vec());
        for (url, here) in [
            ("http://127.0.0.1:1", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:1", true),
            ("http://localhost:1", true),
            ("http://localhost.example.com", false),
            ("http://192.0.2.1", false),
            ("http://b:1", false),
        ] {
            let peer = parse(url, &["*"]).unwrap();
            assert_eq!(peer.check(&Secret::default()).is_ok(), here, "{url}");
            assert_eq!(peer.check(&secret), Ok(()), "{url}");
        }
    }

    #[test]
    fn a_peer_comes_out_of_its_row_as_it_went_in() {
        for direction in [Direction::Both, Direction::Push, Direction::Pull] {
            for names in [&["*"][..], &["a", "b"]] {
                let peer = PeerOptions { direction, ..parse("http://b:1", names).unwrap() };
                assert_eq!(PeerOptions::of(peer.name.clone(), peer.row()), Ok(peer));
            }
        }
    }
}
