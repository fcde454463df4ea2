//! What replication reads of a store, and keeps in it.

use super::{
    commit::Committer,
    engine::{Batch, Range},
    error::{CommitError, Damaged, ReadError},
    key::{self, Family, SysKey},
    read::Store,
    row::{Chunk, Head, Origin},
    sys::{self, PeerRow},
};
use crate::ident::{Cursor, DocumentId, Name, NodeId, PeerName};
use bytes::Bytes;
use std::ops::ControlFlow;

/// Is told of documents and their heads.
pub type Visitor<'a> = dyn FnMut(Name, Head) -> ControlFlow<()> + 'a;

/// A peer that is kept; or, where its row is damaged, why.
pub type KeptPeer = (PeerName, Result<PeerRow, Damaged>);

/// The changes of this node's own that a document got in a stretch of commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logged {
    /// These, in order.
    Changes(Vec<Bytes>),
    /// They are part of a snapshot now.
    Folded,
}

impl Store {
    /// All documents, also deleted ones and those in quarantine, whose ids begin with `first`, by their
    /// ids. Those whose heads are damaged are left out.
    ///
    /// While commits go on this is of no one moment: each head is as it was when it was read.
    ///
    /// # Errors
    /// `Engine`.
    pub fn heads(&self, first: &[u8], visit: &mut Visitor<'_>) -> Result<(), ReadError> {
        let range = if first.is_empty() { Range::all() } else { key::head_range(first) };
        self.engine.scan(Family::Head, &range, &mut |key, value| {
            let (Some(id), Ok(head)) = (key::decode_head(key), Head::decode(key, value)) else {
                return ControlFlow::Continue(());
            };
            match self.name(id, head.collection, &head.key) {
                Ok(name) => visit(name, head),
                Err(_) => ControlFlow::Continue(()),
            }
        })?;
        Ok(())
    }

    /// The documents that are in quarantine.
    pub fn quarantined_documents(&self) -> Vec<DocumentId> {
        self.ward.documents()
    }

    /// The changes of this node's own that a document got after a seq up to another one.
    ///
    /// # Errors
    /// `Damaged`, `Engine`.
    pub fn own_changes(&self, id: DocumentId, after: u64, until: u64) -> Result<Logged, ReadError> {
        let mut logged = Logged::Changes(Vec::new());
        let mut outcome = Ok(());
        let range = key::chunk_range_after(id, after);
        self.engine.scan(Family::Chunk, &range, &mut |key, value| {
            match (Chunk::decode(key, &Bytes::copy_from_slice(value)), &mut logged) {
                (Ok(Chunk::Change { origin: Origin::Own, bytes }), Logged::Changes(changes)) => {
                    let at = key::decode_chunk(key).map(|(_, at)| at.seq);
                    changes.extend(at.filter(|seq| *seq <= until).map(|_| bytes));
                }
                (Ok(Chunk::Change { .. }), _) => {}
                (Ok(Chunk::Snapshot { .. }), _) => logged = Logged::Folded,
                (Err(why), _) => {
                    outcome = Err(ReadError::Damaged(format!("a chunk of {id}: {why}")));
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        outcome.map(|()| logged)
    }

    /// How far the feed of another node has been taken in; `None`: nothing is known of it. A damaged row
    /// says as much.
    ///
    /// # Errors
    /// `Engine`.
    pub fn cursor(&self, of: NodeId) -> Result<Option<Cursor>, ReadError> {
        let key = key::encode_sys(&SysKey::Cursor(of));
        let value = self.engine.get(Family::Sys, &key)?;
        Ok(value.and_then(|value| sys::decode_cursor(&key, &value).ok()))
    }

    /// The peers that were added while the node ran, by name; of one whose row is damaged, why.
    ///
    /// # Errors
    /// `Engine`.
    pub fn peers(&self) -> Result<Vec<KeptPeer>, ReadError> {
        let mut peers = Vec::new();
        self.engine.scan(Family::Sys, &key::peer_range(), &mut |key, value| {
            if let Some(SysKey::Peer(name)) = key::decode_sys(key) {
                peers.push((name, PeerRow::decode(key, value)));
            }
            ControlFlow::Continue(())
        })?;
        Ok(peers)
    }
}

impl Committer {
    /// Keeps how far the feed of another node has been taken in. All that lies before it is durable.
    ///
    /// # Errors
    /// As [`Committer::write`].
    pub fn keep_cursor(&mut self, of: NodeId, cursor: Cursor) -> Result<(), CommitError> {
        let mut batch = Batch::default();
        let key = key::encode_sys(&SysKey::Cursor(of));
        let value = sys::encode_cursor(cursor, &key);
        batch.put(Family::Sys, key, value);
        self.write_batch(batch)
    }

    /// Keeps a peer, in the place of one of its name; `None`: none is kept of that name.
    ///
    /// # Errors
    /// As [`Committer::write`].
    pub fn keep_peer(&mut self, name: PeerName, peer: Option<&PeerRow>) -> Result<(), CommitError> {
        let mut batch = Batch::default();
        let key = key::encode_sys(&SysKey::Peer(name));
        match peer {
            Some(peer) => {
                let value = peer.encode(&key);
                batch.put(Family::Sys, key, value);
            }
            None => batch.remove(Family::Sys, key),
        }
        self.write_batch(batch)
    }
}
