//! One turn of a document on one connection: what a client said of it goes through the gate and becomes
//! durable, and then it is said what follows.
//!
//! Where the client holds what this node does, or nothing at all, its answer needs no loaded document.

use super::{Error, Node};
use crate::{
    automerge_repo::{Incoming, Said, Share, Turn},
    doc::{Document, Refusal},
    ident::{Collection, DocumentId, Hash, Key, Name, Version},
};
use bytes::Bytes;
use futures_util::FutureExt;
use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc};

/// Bytes of a document's chunks that are sent as they are stored; of more, it is worth while to pack them.
const AS_STORED_BYTES_MAX: usize = 4 << 10;
/// How often a look at what to say goes over a document.
const PASSES: usize = 2;

/// What a turn came to.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) document: DocumentId,
    pub(super) share: Share,
    pub(super) said: Said,
}

/// Where a document is.
enum Place {
    /// Here, at this version.
    Here(Name, Version),
    /// Here and deleted.
    Deleted(Name),
    /// Nobody has written it here.
    Nowhere,
}

impl Node {
    /// Takes a turn. Documents that clients make go into `collection`. What is wrong with one document is no
    /// concern of the others: it is unavailable.
    ///
    /// # Errors
    /// This node takes no changes now: the connection ends, and the client comes back later.
    pub(super) async fn take_turn(
        &self,
        collection: &Collection,
        turn: Turn,
    ) -> Result<Done, Error> {
        let document = turn.document;
        let taken = AssertUnwindSafe(self.try_turn(collection, turn)).catch_unwind().await;
        let defect = || Error::Internal("a turn met a defect of the program".to_owned());
        match taken.unwrap_or_else(|_| Err(defect())) {
            Ok((share, said)) => Ok(Done { document, share, said }),
            Err(error) if error.is_of_node() => Err(error),
            Err(error) => {
                tracing::error!(%document, %error, "a document is unavailable to a client");
                Ok(Done { document, share: Share::new(), said: Said::Unavailable })
            }
        }
    }

    async fn try_turn(&self, collection: &Collection, turn: Turn) -> Result<(Share, Said), Error> {
        let Turn { document, mut share, incoming } = turn;
        let said = match self.place(document).await? {
            Place::Here(name, version) => self.speak(&name, version, &mut share, incoming).await?,
            Place::Deleted(name) => self.exchange(&name, &mut share, incoming).await?,
            Place::Nowhere => match self.new_name(collection, document) {
                Some(name) if incoming.iter().any(|incoming| !incoming.heads().is_empty()) => {
                    self.exchange(&name, &mut share, incoming).await?
                }
                Some(_) | None => {
                    for incoming in &incoming {
                        share.hear_unseen(incoming, &Version::empty());
                    }
                    Said::Nowhere
                }
            },
        };
        Ok((share, said))
    }

    async fn place(&self, document: DocumentId) -> Result<Place, Error> {
        let store = self.store();
        if store.is_surely_absent(document) {
            return Ok(Place::Nowhere);
        }
        let store = Arc::clone(store);
        let head = self.blocking(move || Ok(store.head(document)?)).await?;
        Ok(match head {
            None => Place::Nowhere,
            Some((name, head)) if head.deleted => Place::Deleted(name),
            Some((name, head)) => Place::Here(name, head.version),
        })
    }

    /// The name of a document that a client brings. `None`: its id follows from a name, which this node does
    /// not know.
    fn new_name(&self, collection: &Collection, document: DocumentId) -> Option<Name> {
        if document.is_derived() {
            return None;
        }
        let key: Key = document.to_bs58check().parse().ok()?;
        Name::new(collection.clone(), key).ok()
    }

    /// Of a document that is here.
    async fn speak(
        &self,
        name: &Name,
        version: Version,
        share: &mut Share,
        incoming: Vec<Incoming>,
    ) -> Result<Said, Error> {
        let news = !incoming.is_empty();
        let mut seen = 0;
        while incoming.get(seen).is_some_and(|incoming| share.hear_unseen(incoming, &version)) {
            seen += 1;
        }
        let rest: Vec<Incoming> = incoming.into_iter().skip(seen).collect();
        if !rest.is_empty() {
            return self.exchange(name, share, rest).await;
        }
        if share.is_settled(&version) || share.has_said(&version) {
            return Ok(Said::Nothing);
        }
        if news && let Some(data) = share.say_equal(&version) {
            return Ok(Said::Sync(data));
        }
        if share.wants_all() {
            match self.whole(name, share).await {
                Ok(Some(data)) => return Ok(Said::Sync(data)),
                // Whoever loads it puts it into quarantine.
                Ok(None) | Err(Error::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.exchange(name, share, Vec::new()).await
    }

    /// All of a small document, as it is stored.
    async fn whole(&self, name: &Name, share: &mut Share) -> Result<Option<Vec<u8>>, Error> {
        let (store, name) = (Arc::clone(self.store()), name.clone());
        let stored = self.blocking(move || Ok(store.document(&name)?)).await?;
        Ok(stored.filter(|stored| !stored.head.deleted).and_then(|stored| {
            let bytes: usize = stored.chunks.iter().map(Bytes::len).sum();
            let whole = || stored.chunks.concat();
            (bytes <= AS_STORED_BYTES_MAX).then(|| share.say_whole(&stored.head.version, whole()))
        }))
    }

    /// The whole way: changes through the gate, and a look at the document.
    async fn exchange(
        &self,
        name: &Name,
        share: &mut Share,
        incoming: Vec<Incoming>,
    ) -> Result<Said, Error> {
        let mut missing = BTreeSet::new();
        for incoming in &incoming {
            let changes = incoming.changes();
            if !changes.is_empty() && !share.is_read_only() {
                missing.extend(self.admit_sent(name, changes).await?);
            }
        }
        let missing: Vec<Hash> = missing.into_iter().collect();
        let mut moved = std::mem::take(share);
        let looked = self.look(name, PASSES, move |document| {
            for incoming in incoming {
                moved.hear(incoming, &missing, document);
            }
            let said = say(&mut moved, document, !missing.is_empty());
            Ok((moved, said))
        });
        let (moved, said) = looked.await?;
        *share = moved;
        Ok(said)
    }

    /// Takes changes that a client sent; what those wait for that cannot be taken yet. What is refused is
    /// told to the log: the protocol has no word for it.
    async fn admit_sent(&self, name: &Name, changes: Vec<u8>) -> Result<Vec<Hash>, Error> {
        match self.admit(name, changes.into()).await {
            Ok(taken) => {
                let waits = |hash: &Hash| taken.waiting.iter().any(|(waiting, _)| waiting == hash);
                let missing = taken.waiting.iter().flat_map(|(_, missing)| missing.iter().copied());
                Ok(missing.filter(|hash| !waits(hash)).collect())
            }
            Err(Error::Refused(Refusal { detail, .. })) => {
                tracing::warn!(document = %name.id(), why = detail, "a client's changes are refused");
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}

/// What is said of a document, as it is now.
fn say(share: &mut Share, document: &Document, waits: bool) -> Said {
    let gone = document.is_absent() && !waits && share.holds_no_more_than(document);
    if gone {
        return Said::Unavailable;
    }
    share.say(document).map_or(Said::Nothing, Said::Sync)
}
