//! Quarantine: documents that do not load, and bytes of others on which Automerge broke.

use super::{
    Error, Node,
    shard::{Apart, Event},
    threads::STACK_BYTES,
};
use crate::{
    doc::{Document, Form, Room, Sender},
    ident::{Name, QuarantineId, Version},
    store::{Aside, Brings, Commit, Held, Log, NewView, Origin, Orphans, Remains, What},
};
use bytes::Bytes;
use std::{io, thread};
use tokio::sync::oneshot;

/// What came out of quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// The document.
    pub name: Name,
    /// Its version now.
    pub version: Version,
    /// How many pieces of it are lost.
    pub lost: usize,
}

impl Node {
    /// Everything in quarantine, by its name there.
    ///
    /// # Errors
    /// `Damaged`, `Internal`.
    pub async fn quarantine(&self) -> Result<Vec<Held>, Error> {
        let store = self.store().clone();
        self.blocking(move || Ok(store.quarantine()?)).await
    }

    /// One thing in quarantine, and the bytes that are kept of it; `None`: there is no such thing.
    ///
    /// # Errors
    /// `Damaged`, `Internal`.
    pub async fn quarantined(&self, id: QuarantineId) -> Result<Option<(Held, Vec<Bytes>)>, Error> {
        let store = self.store().clone();
        self.blocking(move || Ok(store.quarantined(id)?)).await
    }

    /// Forgets something in quarantine, durably. A document is then one that nobody has written.
    /// `false`: it was not there.
    ///
    /// # Errors
    /// `ReadOnly`, `DiskFull`, `WritesStopped`, `Stopping`, `Internal`.
    pub async fn forget(&self, id: QuarantineId) -> Result<bool, Error> {
        self.status().check_writable()?;
        let _alone = self.quarantining().lock().await;
        self.apart(|reply| Apart::Forget { id, reply }).await
    }

    /// Takes something out of quarantine, durably: a document with whatever of it is whole; changes of
    /// others through the gate once more. `None`: it was not there.
    ///
    /// # Errors
    /// `Damaged`: nothing of it can be read, and it stays; `Refused`; as [`Node::forget`].
    pub async fn release(&self, id: QuarantineId) -> Result<Option<Released>, Error> {
        self.status().check_writable()?;
        let _alone = self.quarantining().lock().await;
        let Some((held, bytes)) = self.quarantined(id).await? else { return Ok(None) };
        match (held.what, held.name) {
            (What::Document, Some(name)) => self.make_whole(&name).await,
            (What::Changes, Some(name)) => {
                // What breaks Automerge again is not kept again: it is here.
                let bytes = bytes.concat().into();
                let taken = self.admit_unkept(&name, &bytes, None).await?;
                self.apart(|reply| Apart::Forget { id, reply }).await?;
                Ok(Some(Released { name, version: taken.version, lost: 0 }))
            }
            _ => Err(Error::Damaged("these rows belong to no document that is known".to_owned())),
        }
    }

    /// Keeps bytes that were sent for a document and on which Automerge broke.
    pub(super) async fn set_aside(&self, name: &Name, bytes: Bytes, why: String) {
        let (name, time_seconds) = (name.clone(), self.ambient().unix_seconds());
        let aside = Aside::Changes(bytes);
        let kept = self.apart(|reply| Apart::SetAside {
            name,
            aside,
            why,
            time_seconds,
            reply: Some(reply),
        });
        if !matches!(kept.await, Ok(true)) {
            tracing::warn!("there was no room in quarantine for changes that were refused");
        }
    }

    async fn make_whole(&self, name: &Name) -> Result<Option<Released>, Error> {
        let (store, actor, id) = (self.store().clone(), self.ambient().actor(), name.id());
        let (name, now) = (name.clone(), name);
        let document_bytes_max = self.limits().document_bytes_max;
        let work = move || {
            let Some(remains) = store.remains(id)? else { return Ok(None) };
            let (document, left_out) = Document::salvage(&remains.chunks, actor);
            let lost = remains.damaged.len() + left_out;
            Ok(Some((commit(&document, remains, document_bytes_max)?, document.version(), lost)))
        };
        let Some((commit, version, lost)) = deep(work).await? else { return Ok(None) };
        self.apart(|reply| Apart::Release { commit: Box::new(commit), reply }).await?;
        tracing::warn!(document = %now.id(), lost, "a document was released from quarantine");
        Ok(Some(Released { name, version, lost }))
    }

    /// Makes a document in quarantine whole with what a member sent of it, beside whatever of it can be
    /// read here. What cannot, and is not among what was sent, stays in quarantine as changes.
    ///
    /// # Errors
    /// `Damaged`: it is not in quarantine, or what was sent does not make it whole; as
    /// [`Node::forget`].
    pub(super) async fn mend(&self, name: &Name, bytes: Bytes) -> Result<Released, Error> {
        self.status().check_writable()?;
        let _alone = self.quarantining().lock().await;
        let (store, actor, id) = (self.store().clone(), self.ambient().actor(), name.id());
        let limits = *self.limits();
        let work = move || {
            let other = || Error::Damaged("it is not in quarantine".to_owned());
            let remains = store.remains(id)?.ok_or_else(other)?;
            let mut document = Document::new(actor);
            document.admit(&bytes, Sender::Member, Room { changes: 0, bytes: 0 }, &limits)?;
            let (document, left_out) = document.regain(&remains.chunks, actor);
            let left_out = left_out.into_iter().map(|place| remains.chunks[place].clone());
            let lost: Vec<Bytes> = remains.damaged.iter().cloned().chain(left_out).collect();
            let lost = if document.holds(&remains.version) { Vec::new() } else { lost };
            Ok((commit(&document, remains, limits.document_bytes_max)?, document.version(), lost))
        };
        let (commit, version, lost) = deep(work).await?;
        if !lost.is_empty() {
            let why =
                "damaged pieces of a document that was repaired from a peer, which lacks them";
            self.set_aside(name, lost.concat().into(), why.to_owned()).await;
        }
        self.apart(|reply| Apart::Release { commit: Box::new(commit), reply }).await?;
        let lost = lost.len();
        tracing::warn!(document = %id, lost, "a document in quarantine was repaired from a peer");
        Ok(Released { name: name.clone(), version, lost })
    }

    /// Has the committer do something that is no edit of a loaded document.
    pub(super) async fn apart<T>(
        &self,
        apart: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Apart,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let event = Event::Apart(Box::new(apart(reply)));
        self.any_shard()?.send(event).await.map_err(|_| Error::Stopping)?;
        answer.await.unwrap_or(Err(Error::Stopping))
    }
}

/// The commit that takes a document out of quarantine.
fn commit(
    document: &Document,
    remains: Remains,
    document_bytes_max: usize,
) -> Result<Commit, Error> {
    let version = document.version();
    if version.is_empty() {
        let why = "nothing of it can be read: all that is left to do is to drop it";
        return Err(Error::Damaged(why.to_owned()));
    }
    let rendering = document.render(Form::Plain, None)?;
    let view = rendering.json.map_or(NewView::Deleted, |json| NewView::Made(json.into()));
    let changes = u32::try_from(document.change_count()).unwrap_or(u32::MAX);
    Ok(Commit {
        track: remains.track,
        log: Log::Fold { snapshot: document.save().into(), changes },
        // What is left is what was here; but a peer may hold more, and is to be told.
        brings: Brings::default().and(Origin::Own),
        version,
        conflicts: rendering.conflicts,
        view,
        standing: document.standing().into(),
        kept: Vec::new(),
        orphans: Orphans::default(),
        document_bytes_max,
    })
}

/// Runs work on documents on a thread whose stack is deep enough for them.
async fn deep<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (sender, answer) = oneshot::channel();
    let thread = thread::Builder::new().name("release".to_owned()).stack_size(STACK_BYTES);
    // Who asked may be gone.
    let started = thread.spawn(move || drop(sender.send(work())));
    started.map_err(|error: io::Error| Error::Internal(format!("no thread: {error}")))?;
    answer.await.unwrap_or_else(|_| Err(Error::Internal("a release did not end".to_owned())))
}
