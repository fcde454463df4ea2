//! What is held at positions, and the changes that somebody lacks, read before the pure room asks.

use crate::{
    ident::{DocumentId, Name, Version},
    node::{Error, Node},
    store::Store,
    sync::{
        Cell, Held, Holdings, Lacking, POSITIONS_MAX, Parcel, Part, REPAIR_BYTES_MAX, Scope, SetId,
        SketchKey, Want,
    },
};
use bytes::Bytes;
use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

/// What was read of a store.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    at: BTreeMap<u64, Vec<(Name, Version)>>,
    changes: BTreeMap<Name, Lacking>,
    positions: usize,
}

impl Fetched {
    /// For how many positions, from the first on, everything was read.
    pub(super) fn positions(&self) -> usize {
        self.positions
    }

    /// The documents of which a part was read, as those want them who hold it.
    pub(super) fn rest(&self) -> Vec<Want> {
        let rest = self.changes.iter().filter_map(|(name, lacking)| {
            Some(Want { id: name.id(), seen: lacking.then.clone()? })
        });
        rest.collect()
    }
}

impl Holdings for Fetched {
    type Error = Error;

    fn at(&self, _: SetId, position: u64) -> Result<Vec<(Name, Version)>, Error> {
        Ok(self.at.get(&position).cloned().unwrap_or_default())
    }

    fn changes(&self, name: &Name, _: &Version) -> Result<Lacking, Error> {
        Ok(self.changes.get(name).cloned().unwrap_or_default())
    }
}

impl Node {
    /// The cells of a part of what is shared; `None`: they are not summed up yet.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) async fn cells(
        &self,
        scope: &Scope,
        part: &Part,
    ) -> Result<Option<Vec<Cell>>, Error> {
        if part.slice.is_whole() && part.salt.is_none() {
            return Ok(self.ledger().summary(part.set));
        }
        let (node, scope, key) = (self.clone(), scope.clone(), self.key_for(part));
        let slice = part.slice.clone();
        let made = move || Ok(Some(node.ledger().slice(&scope, &slice, &key, node.store())?));
        self.blocking(made).await
    }

    /// The keys under which a part is summed up.
    pub(super) fn key_for(&self, part: &Part) -> SketchKey {
        let key = self.ledger().key();
        part.salt.map_or_else(|| key.clone(), |salt| key.salted(&self.options().secret.0, &salt))
    }

    /// What is held at positions.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) async fn held_at(
        &self,
        scope: Scope,
        positions: Vec<u64>,
    ) -> Result<BTreeMap<u64, Vec<(Name, Version)>>, Error> {
        let node = self.clone();
        self.blocking(move || {
            let store = Arc::clone(node.store());
            let at = |position| Ok((position, held_at(&node, &store, &scope, position)?));
            positions.into_iter().map(at).collect()
        })
        .await
    }

    /// Reads what an answer to a question needs: what is held at positions, and of each document the
    /// changes that a version has not seen. `seen`: none where it is the one that is held.
    ///
    /// # Errors
    /// `Internal`, `Stopping`.
    pub(super) async fn fetch(
        &self,
        scope: &Scope,
        positions: &[u64],
        seen: impl Fn(DocumentId) -> Version,
    ) -> Result<Fetched, Error> {
        let positions: Vec<u64> = positions.iter().copied().take(POSITIONS_MAX).collect();
        let at = self.held_at(scope.clone(), positions.clone()).await?;
        let mut fetched = Fetched { at, ..Fetched::default() };
        let mut bytes = 0;
        for position in positions {
            if REPAIR_BYTES_MAX <= bytes {
                break;
            }
            fetched.positions += 1;
            for (name, version) in fetched.at.get(&position).cloned().unwrap_or_default() {
                let seen = seen(name.id());
                if seen == version {
                    continue;
                }
                let lacking = self.lacking(&name, seen).await?;
                bytes += lacking.changes.len();
                fetched.changes.insert(name, lacking);
            }
        }
        Ok(fetched)
    }

    /// Reads what is held at positions, and no changes.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) async fn fetch_versions(
        &self,
        scope: &Scope,
        mut positions: Vec<u64>,
    ) -> Result<Fetched, Error> {
        positions.truncate(POSITIONS_MAX);
        let count = positions.len();
        let at = self.held_at(scope.clone(), positions).await?;
        Ok(Fetched { at, positions: count, ..Fetched::default() })
    }

    /// The changes of a document that a version has not seen, or a part of them; nothing of one that cannot
    /// be read.
    ///
    /// # Errors
    /// `Stalled`, `Stopping`.
    pub(super) async fn lacking(&self, name: &Name, seen: Version) -> Result<Lacking, Error> {
        let bytes_max = self.options().parcel_bytes_max;
        if seen.is_empty() {
            let (store, of) = (Arc::clone(self.store()), name.clone());
            let stored = self.blocking(move || Ok(store.document(&of)?)).await;
            if let Ok(stored) = stored {
                let chunks = stored.map_or_else(Vec::new, |stored| stored.chunks);
                if let Some(changes) = packed(&chunks, bytes_max) {
                    return Ok(Lacking { changes, then: None });
                }
            }
        }
        // Whoever loads a document that is damaged puts it into quarantine, and it is asked of a peer.
        match self.changes_within(name, seen, bytes_max).await {
            Ok((changes, then)) => Ok(Lacking { changes, then }),
            Err(error @ (Error::Stalled | Error::Stopping)) => Err(error),
            // One bad document is one bad document.
            Err(error) => {
                tracing::error!(document = %name.id(), %error, "cannot be sent to a peer");
                Ok(Lacking::default())
            }
        }
    }

    /// The documents that somebody wants, as parcels: as many as fit, how many of the wants that is, and what
    /// of these is wanted then.
    ///
    /// # Errors
    /// `Internal`, `Stopping`.
    pub(super) async fn parcels(
        &self,
        scope: &Scope,
        wants: &[Want],
    ) -> Result<(Vec<Parcel>, usize, Vec<Want>), Error> {
        let (mut parcels, mut bytes, mut done, mut rest) = (Vec::new(), 0, 0, Vec::new());
        for want in wants {
            if REPAIR_BYTES_MAX <= bytes {
                break;
            }
            done += 1;
            let (store, id) = (Arc::clone(self.store()), want.id);
            let head = self.blocking(move || Ok(store.head(id)?)).await;
            let Ok(Some((name, head))) = head else { continue };
            let collection = self.ledger().key().collection(name.collection());
            if head.quarantined || !scope.holds(collection) {
                continue;
            }
            let Lacking { changes, then } = self.lacking(&name, want.seen.clone()).await?;
            bytes += changes.len();
            rest.extend(then.map(|seen| Want { id, seen }));
            if !changes.is_empty() {
                parcels.push(Parcel { name, version: head.version, changes });
            }
        }
        Ok((parcels, done, rest))
    }
}

/// Changes of a document as a parcel carries them; `None`: they are too many for one.
pub(super) fn packed(changes: &[Bytes], bytes_max: usize) -> Option<Vec<u8>> {
    let bytes: usize = changes.iter().map(Bytes::len).sum();
    (bytes <= bytes_max).then(|| changes.concat())
}

fn held_at(
    node: &Node,
    store: &Store,
    scope: &Scope,
    position: u64,
) -> Result<Vec<(Name, Version)>, Error> {
    let mut held = Vec::new();
    store.heads(&position.to_le_bytes(), &mut |name, head| {
        let shared = scope.holds(node.ledger().key().collection(name.collection()));
        if shared && !head.quarantined {
            held.push((name, head.version));
        }
        ControlFlow::Continue(())
    })?;
    Ok(held)
}

/// As a question names what is held.
pub(super) fn held(at: &BTreeMap<u64, Vec<(Name, Version)>>, positions: &[u64]) -> Vec<Held> {
    let held = |position: &u64| {
        let documents = at.get(position).map_or(&[][..], Vec::as_slice);
        let documents = documents.iter().map(|(name, version)| (name.id(), version.clone()));
        Held { position: *position, documents: documents.collect() }
    };
    positions.iter().map(held).collect()
}
