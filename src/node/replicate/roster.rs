//! The roster: which peers there are, those of the configuration and those added while the node runs.
//!
//! Whoever changes it waits for the store, and not for a session: what is attended follows.

use super::{
    PeerError, PeerOptions,
    peers::{Peer, PeerStatus, Traffic},
    session::attend,
};
use crate::{
    ident::{NodeId, PeerName},
    node::{Error, Node, member::Member, shard::Apart},
    peer::Client,
};
use std::{collections::BTreeMap, pin::pin, sync::Arc};
use tokio::task::JoinSet;

/// Most peers that are added to a node that runs.
pub const ADDED_MAX: usize = 64;

/// What became of a peer that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerPut {
    /// It was there just so, and goes on.
    Same,
    /// It was there, and is another one now.
    Changed,
    /// It is new.
    Added,
}

/// A peer that is attended, by one task, which ends with it.
type Attended = (Arc<Peer>, JoinSet<()>);

impl Node {
    /// Replicates with the peers of the configuration and with those that were added, until `stop`.
    /// Everybody else may come, too, and is answered.
    ///
    /// Who the peers are is known once this returns: whoever is served from then on is told no more than is
    /// agreed.
    pub fn replicate<Stop: Future<Output = ()>>(
        &self,
        configured: Vec<PeerOptions>,
        client: Client,
        stop: Stop,
    ) -> impl Future<Output = ()> + use<Stop> {
        let (node, mut changes) = (self.clone(), self.peers().changes());
        node.call_the_roll(configured);
        async move {
            node.peers().set_ended(false);
            let mut attended = BTreeMap::new();
            let mut stop = pin!(stop);
            loop {
                changes.mark_unchanged();
                node.attend_all(&mut attended, &client).await;
                tokio::select! {
                    biased;
                    () = &mut stop => break,
                    // The sender lives as long as this node.
                    _ = changes.changed() => {}
                }
            }
            node.peers().set_ended(true);
            for (_, task) in attended.values_mut() {
                task.shutdown().await;
            }
            // Who was pushed to has to ask from now on.
            for id in node.peers().all().iter().filter_map(|peer| peer.node()) {
                node.members().link(id, false);
            }
        }
    }

    /// Makes the roster of those that are configured, and of those that are kept. Here and now: these are
    /// a few rows, and nobody shall be served who does not see them.
    fn call_the_roll(&self, configured: Vec<PeerOptions>) {
        let key = self.ledger().key();
        let mut roster = BTreeMap::new();
        for options in configured {
            roster.insert(options.name.clone(), Arc::new(Peer::new(options, key, true)));
        }
        let kept = self.store().peers().unwrap_or_else(|error| {
            tracing::error!(%error, "the peers that were added cannot be read");
            Vec::new()
        });
        for (name, row) in kept {
            let options = row
                .map_err(|why| why.to_string())
                .and_then(|row| PeerOptions::of(name.clone(), row).map_err(|why| why.to_string()));
            match options {
                Err(why) => tracing::error!(peer = %name, why, "a peer that was added is lost"),
                Ok(_) if roster.contains_key(&name) => {
                    tracing::warn!(peer = %name, "was added once, and is configured otherwise");
                }
                Ok(options) => {
                    let peer = Peer::new(options, key, false);
                    roster.insert(name, Arc::new(peer));
                }
            }
        }
        self.peers().begin(roster);
    }

    /// Ends what is not on the roster any more, and begins what is not attended yet.
    async fn attend_all(&self, attended: &mut BTreeMap<PeerName, Attended>, client: &Client) {
        let roster = self.peers().all();
        let stays = |peer: &Arc<Peer>| roster.iter().any(|other| Arc::ptr_eq(peer, other));
        let gone: Vec<PeerName> = attended
            .iter()
            .filter(|(_, (peer, _))| !stays(peer))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some((peer, mut task)) = attended.remove(&name) {
                task.shutdown().await;
                if let Some(node) = peer.node() {
                    self.part(node);
                }
            }
        }
        for peer in roster {
            attended.entry(peer.options.name.clone()).or_insert_with(|| {
                let mut task = JoinSet::new();
                match peer.options.check(&self.options().secret) {
                    Ok(()) => {
                        task.spawn(attend(self.clone(), Arc::clone(&peer), client.clone()));
                    }
                    // It was added when there was a secret.
                    Err(error) => peer.set_refused("needs_secret", error.to_string()),
                }
                (peer, task)
            });
        }
    }

    /// A peer is not that node any more: it is not pushed to, and what was agreed with it is forgotten,
    /// unless another peer is that node as well.
    pub(super) fn part(&self, node: NodeId) {
        self.members().link(node, false);
        match self.peers().of(node) {
            Some(other) => self.members().meet(node, other.terms.clone()),
            None => self.members().part(node),
        }
    }

    /// Adds a peer to the roster, or changes one that was added, durably.
    ///
    /// # Errors
    /// `NeedsSecret`, `Configured`, `TooMany`, `SameUrl`; `Node` as [`Node::write`].
    pub async fn put_peer(&self, options: PeerOptions) -> Result<PeerPut, PeerError> {
        options.check(&self.options().secret)?;
        self.peers().begun().await;
        let node = self.clone();
        // Of its own: whoever asks may be gone before both the store and the roster have it.
        let put = tokio::spawn(async move { node.put_on_roster(options).await });
        put.await.unwrap_or_else(|error| Err(Error::Internal(error.to_string()).into()))
    }

    async fn put_on_roster(&self, options: PeerOptions) -> Result<PeerPut, PeerError> {
        let _alone = self.peers().changing().await;
        let put = match self.peers().named(&options.name) {
            Some(peer) if peer.configured => return Err(PeerError::Configured),
            Some(peer) if peer.options == options => return Ok(PeerPut::Same),
            Some(_) => PeerPut::Changed,
            None if ADDED_MAX <= self.peers().added() => return Err(PeerError::TooMany),
            None => PeerPut::Added,
        };
        let mut others = self.peers().all().into_iter();
        let twin = |other: &Arc<Peer>| {
            other.options.name != options.name && other.options.url == options.url
        };
        if let Some(other) = others.find(twin) {
            return Err(PeerError::SameUrl(other.options.name.clone()));
        }
        self.keep_peer(options.name.clone(), Some(&options)).await?;
        tracing::info!(peer = %options.name, url = %options.url, ?put, "a peer was put");
        self.peers().put(Peer::new(options, self.ledger().key(), false));
        Ok(put)
    }

    /// Takes a peer that was added off the roster, durably. `false`: there is none of that name.
    ///
    /// # Errors
    /// `Configured`; `Node` as [`Node::write`].
    pub async fn remove_peer(&self, name: PeerName) -> Result<bool, PeerError> {
        self.peers().begun().await;
        let node = self.clone();
        // Of its own, as above.
        let removed = tokio::spawn(async move { node.take_off_roster(name).await });
        removed.await.unwrap_or_else(|error| Err(Error::Internal(error.to_string()).into()))
    }

    async fn take_off_roster(&self, name: PeerName) -> Result<bool, PeerError> {
        let _alone = self.peers().changing().await;
        match self.peers().named(&name) {
            None => return Ok(false),
            Some(peer) if peer.configured => return Err(PeerError::Configured),
            Some(_) => {}
        }
        self.keep_peer(name.clone(), None).await?;
        tracing::info!(peer = %name, "a peer was removed");
        self.peers().remove(&name);
        Ok(true)
    }

    /// Stores a peer, or that there is none of that name.
    async fn keep_peer(&self, name: PeerName, peer: Option<&PeerOptions>) -> Result<(), Error> {
        self.status().check_writable()?;
        let row = peer.map(PeerOptions::row);
        self.apart(|reply| Apart::Peer { name, row, reply }).await
    }

    /// How the peers fare, by name.
    pub fn peer_statuses(&self) -> Vec<PeerStatus> {
        self.peers().all().iter().map(|peer| self.status_of(peer)).collect()
    }

    /// How a peer fares; `None`: there is none of that name.
    pub fn peer_status(&self, name: &PeerName) -> Option<PeerStatus> {
        self.peers().named(name).map(|peer| self.status_of(&peer))
    }

    fn status_of(&self, peer: &Peer) -> PeerStatus {
        let last = self.store().last_seq();
        let member = peer.node().and_then(|node| self.members().member(node));
        let sends = peer.terms.direction.sends();
        let shares = |member: &Member| sends && member.hello.takes && !member.scope.is_empty();
        let lag =
            member.filter(shares).map_or(0, |member| last.saturating_sub(member.acknowledged));
        let twin = peer.node().and_then(|node| self.members().clone_of(node));
        peer.status(lag, twin)
    }

    /// What went to and from all peers that there were since the start.
    pub fn peer_traffic(&self) -> Traffic {
        self.peers().traffic()
    }
}
