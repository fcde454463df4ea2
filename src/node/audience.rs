//! Who has which document open: connections of offline-first clients, told of what changes.
//!
//! Each connection has an *ear*. What changes is noted there once, however often it does, and the
//! connection comes to it when it can. What clients say to each other goes there too; of that, what finds
//! no room is lost, as it may be.

use super::figures::{ClientMetrics, Clients};
use crate::{
    automerge_repo::{Echo, Ephemeral},
    ident::{DocumentId, NodeId},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{Notify, mpsc, watch};

/// Ephemeral messages that wait for one connection; more are lost.
const SAID_MAX: usize = 64;
/// Bytes of an ephemeral message; larger ones are lost.
const SAID_BYTES_MAX: usize = 64 << 10;
/// Ephemeral messages that are kept for other nodes, and their bytes; who asks too late has lost some.
const KEPT_MAX: usize = 256;
const KEPT_BYTES_MAX: usize = 1 << 20;

/// All connections, and what each has open.
#[derive(Debug, Default)]
pub(super) struct Audience {
    seats: Mutex<Seats>,
    /// How many documents are open, each as often as it is: nobody looks for one where none is.
    open: AtomicUsize,
    /// Whether there is any.
    present: watch::Sender<bool>,
    echo: Mutex<Echo>,
    metrics: ClientMetrics,
    kept: Mutex<Kept>,
    /// Behind the last ephemeral message.
    last: watch::Sender<u64>,
}

/// The last ephemeral messages, for other nodes.
#[derive(Debug, Default)]
struct Kept {
    /// The number behind the last.
    next: u64,
    bytes: usize,
    /// Oldest first.
    all: VecDeque<Said>,
}

/// An ephemeral message that was heard here.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// The node from which it came; `None`: from a client of this one.
    pub(super) from: Option<NodeId>,
    pub(super) document: DocumentId,
    pub(super) message: Ephemeral,
}

#[derive(Debug, Default)]
struct Seats {
    by_document: HashMap<DocumentId, Vec<Arc<Ear>>>,
    by_peer: BTreeMap<String, Arc<Ear>>,
}

/// What a connection is to be told.
#[derive(Debug)]
pub(super) struct Ear {
    changed: Mutex<BTreeSet<DocumentId>>,
    rung: Notify,
    said: mpsc::Sender<Ephemeral>,
    /// Another connection has come in its place.
    replaced: Notify,
}

/// What one connection hears, as long as it lasts.
#[derive(Debug)]
pub(super) struct Listening {
    audience: Arc<Audience>,
    ear: Arc<Ear>,
    said: mpsc::Receiver<Ephemeral>,
    open: BTreeSet<DocumentId>,
    peer: Option<String>,
}

impl Audience {
    /// A connection comes.
    pub(super) fn listen(self: &Arc<Self>) -> Listening {
        let (sender, said) = mpsc::channel(SAID_MAX);
        let (changed, rung, replaced) = Default::default();
        let ear = Arc::new(Ear { changed, rung, said: sender, replaced });
        self.metrics.connections.increment();
        let (audience, open) = (Arc::clone(self), BTreeSet::new());
        Listening { audience, ear, said, open, peer: None }
    }

    /// Documents were committed.
    pub(super) fn changed(&self, documents: impl Iterator<Item = DocumentId>) {
        if self.open.load(Ordering::Acquire) == 0 {
            return;
        }
        let seats = self.seats();
        for document in documents {
            for ear in seats.by_document.get(&document).into_iter().flatten() {
                lock(&ear.changed).insert(document);
                ear.rung.notify_one();
            }
        }
    }

    /// What was said at another node.
    pub(super) fn overhear(&self, from: NodeId, document: DocumentId, message: &Ephemeral) {
        self.pass_on(Said { from: Some(from), document, message: message.clone() }, None);
    }

    /// Tells all who have the document open, but for who says it, and keeps it for other nodes.
    fn pass_on(&self, said: Said, by: Option<&Arc<Ear>>) {
        let Said { document, message, .. } = &said;
        if SAID_BYTES_MAX < message.data.len() || !lock(&self.echo).is_new(message) {
            return;
        }
        let seats = self.seats();
        for ear in seats.by_document.get(document).into_iter().flatten() {
            if by.is_none_or(|by| !Arc::ptr_eq(by, ear)) {
                // It may be lost.
                let _ = ear.said.try_send(message.clone());
            }
        }
        drop(seats);
        let next = lock(&self.kept).keep(said);
        self.last.send_replace(next);
    }

    /// What was said since, and behind what to ask next. `None`: from now on.
    pub(super) fn said_since(&self, since: Option<u64>) -> (u64, Vec<Said>) {
        let kept = lock(&self.kept);
        // Who was told another number was told it by another start.
        let known = since.filter(|since| *since <= kept.next).unwrap_or(kept.next);
        let new = usize::try_from(kept.next - known).unwrap_or(usize::MAX).min(kept.all.len());
        (kept.next, kept.all.range(kept.all.len() - new..).cloned().collect())
    }

    /// Tells that something was said.
    pub(super) fn said(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Tells whether any document is open.
    pub(super) fn present(&self) -> watch::Receiver<bool> {
        self.present.subscribe()
    }

    /// So many more documents are open, or so many less.
    fn count(&self, more: usize, less: usize) {
        let before = self.open.fetch_add(more, Ordering::AcqRel) + more;
        self.open.fetch_sub(less, Ordering::AcqRel);
        self.present.send_if_modified(|present| {
            std::mem::replace(present, less < before) != (less < before)
        });
    }

    /// What clients do.
    pub(super) fn figures(&self) -> Clients {
        self.metrics.read(self.open.load(Ordering::Relaxed) as u64)
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        lock(&self.seats)
    }
}

impl Kept {
    fn keep(&mut self, said: Said) -> u64 {
        self.bytes += said.message.data.len();
        self.all.push_back(said);
        while (KEPT_MAX < self.all.len() || KEPT_BYTES_MAX < self.bytes)
            && let Some(oldest) = self.all.pop_front()
        {
            self.bytes -= oldest.message.data.len();
        }
        self.next += 1;
        self.next
    }
}

/// Nothing in here panics half way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listening {
    /// It is the connection of this peer; another one of the same peer ends.
    pub(super) fn join(&mut self, peer: &str) {
        let before = self.audience.seats().by_peer.insert(peer.to_owned(), Arc::clone(&self.ear));
        if let Some(before) = before {
            before.replaced.notify_one();
        }
        self.peer = Some(peer.to_owned());
    }

    /// It has a document open, and is told from now on when that changes.
    pub(super) fn open(&mut self, document: DocumentId) {
        if self.open.insert(document) {
            let mut seats = self.audience.seats();
            seats.by_document.entry(document).or_default().push(Arc::clone(&self.ear));
            self.audience.count(1, 0);
        }
    }

    /// What all connections count.
    pub(super) fn metrics(&self) -> &ClientMetrics {
        &self.audience.metrics
    }

    /// Says something to all others who have a document open.
    pub(super) fn say(&self, document: DocumentId, said: &Ephemeral) {
        let said = Said { from: None, document, message: said.clone() };
        self.audience.pass_on(said, Some(&self.ear));
    }

    /// Waits for the next that it is to be told.
    pub(super) async fn next(&mut self) -> News {
        tokio::select! {
            biased;
            () = self.ear.replaced.notified() => News::Replaced,
            () = self.ear.rung.notified() => News::Changed(std::mem::take(&mut lock(&self.ear.changed))),
            // The ear holds a sender.
            Some(said) = self.said.recv() => News::Said(said),
        }
    }
}

/// What a connection is told.
#[derive(Debug)]
pub(super) enum News {
    /// Documents have changed.
    Changed(BTreeSet<DocumentId>),
    /// Somebody said something about a document that it has open.
    Said(Ephemeral),
    /// Another connection of the same peer has come.
    Replaced,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut seats = self.audience.seats();
        for document in &self.open {
            if let Some(ears) = seats.by_document.get_mut(document) {
                ears.retain(|ear| !Arc::ptr_eq(ear, &self.ear));
                if ears.is_empty() {
                    seats.by_document.remove(document);
                }
            }
        }
        self.audience.count(0, self.open.len());
        self.audience.metrics.connections.decrement();
        if let Some(peer) = &self.peer
            && seats.by_peer.get(peer).is_some_and(|ear| Arc::ptr_eq(ear, &self.ear))
        {
            seats.by_peer.remove(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const DOCUMENTS: [DocumentId; 2] =
        [DocumentId::from_bytes([1; 16]), DocumentId::from_bytes([2; 16])];

    fn said(count: u64) -> Ephemeral {
        let [sender, target, document, session] = ["a", "node", "d", "s"].map(str::to_owned);
        Ephemeral { sender, target, document, session, count, data: vec![7] }
    }

    fn now(listening: &mut Listening) -> Option<News> {
        listening.next().now_or_never()
    }

    #[test]
    fn who_has_a_document_open_is_told_once_that_it_changed() {
        let audience = Arc::new(Audience::default());
        audience.changed(DOCUMENTS.into_iter());
        let [mut one, mut two] = [0, 1].map(|_| audience.listen());
        one.open(DOCUMENTS[0]);
        two.open(DOCUMENTS[0]);
        two.open(DOCUMENTS[1]);
        audience.changed(DOCUMENTS.into_iter());
        audience.changed(DOCUMENTS.into_iter());
        let changed = |news| match news {
            Some(News::Changed(documents)) => documents.into_iter().collect(),
            _ => Vec::new(),
        };
        assert_eq!(changed(now(&mut one)), [DOCUMENTS[0]]);
        assert_eq!(changed(now(&mut two)), DOCUMENTS);
        assert!(now(&mut one).is_none() && now(&mut two).is_none());
        drop((one, two));
        assert!(audience.seats().by_document.is_empty());
        assert_eq!(audience.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_one_says_all_others_hear_once() {
        let audience = Arc::new(Audience::default());
        let [mut one, mut two, mut three] = [0, 1, 2].map(|_| audience.listen());
        one.open(DOCUMENTS[0]);
        two.open(DOCUMENTS[0]);
        three.open(DOCUMENTS[1]);
        one.say(DOCUMENTS[0], &said(1));
        audience.overhear(NodeId::from_bytes([9; 16]), DOCUMENTS[0], &said(1));
        assert!(matches!(now(&mut two), Some(News::Said(heard)) if heard == said(1)));
        assert!(now(&mut one).is_none() && now(&mut two).is_none() && now(&mut three).is_none());
        for count in 2..500 {
            one.say(DOCUMENTS[0], &said(count));
        }
        let large = Ephemeral { data: vec![0; SAID_BYTES_MAX + 1], ..said(1000) };
        one.say(DOCUMENTS[0], &large);
        let heard = std::iter::from_fn(|| now(&mut two)).count();
        assert_eq!(heard, SAID_MAX, "who does not listen costs so much, and the rest is lost");
    }

    #[test]
    fn the_last_that_was_said_is_kept_for_other_nodes() {
        let audience = Arc::new(Audience::default());
        let mut one = audience.listen();
        one.open(DOCUMENTS[0]);
        assert!(*audience.present().borrow());
        let (start, nothing) = audience.said_since(None);
        assert!(nothing.is_empty());
        one.say(DOCUMENTS[0], &said(1));
        audience.overhear(NodeId::from_bytes([9; 16]), DOCUMENTS[0], &said(2));
        let (next, heard) = audience.said_since(Some(start));
        let counts: Vec<(bool, u64)> =
            heard.iter().map(|said| (said.from.is_some(), said.message.count)).collect();
        assert_eq!(counts, [(false, 1), (true, 2)]);
        assert!(audience.said_since(Some(next)).1.is_empty());
        assert!(audience.said_since(Some(next + 1)).1.is_empty(), "of another start");
        for count in 3..1000 {
            one.say(DOCUMENTS[0], &said(count));
        }
        assert_eq!(audience.said_since(Some(next)).1.len(), KEPT_MAX);
        for count in 1000..1100 {
            one.say(DOCUMENTS[0], &Ephemeral { data: vec![0; SAID_BYTES_MAX], ..said(count) });
        }
        assert_eq!(audience.said_since(Some(next)).1.len(), KEPT_BYTES_MAX / SAID_BYTES_MAX);
        drop(one);
        assert!(!*audience.present().borrow());
    }

    #[test]
    fn of_two_connections_of_one_peer_the_first_ends() {
        let audience = Arc::new(Audience::default());
        let [mut one, mut two] = [0, 1].map(|_| audience.listen());
        one.join("tab");
        two.join("tab");
        assert!(matches!(now(&mut one), Some(News::Replaced)));
        assert!(now(&mut two).is_none());
        drop(one);
        assert_eq!(audience.seats().by_peer.len(), 1);
        drop(two);
        assert!(audience.seats().by_peer.is_empty());
    }
}
