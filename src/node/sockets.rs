//! Connections of offline-first clients: frames come and go by bounded channels, whoever carries them.

use super::{
    Error, Node,
    audience::{Listening, News},
    turn::Done,
};
use crate::{
    automerge_repo::{Closing, Heard, Next, POLICY, Session},
    ident::{Collection, DocumentId},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{self, Instant},
};

/// Turns of one connection at once, of a client that reads, and of one that does not: each may make a whole
/// document that waits to be sent.
const TURNS_MAX: usize = 16;
const TURNS_MIN: usize = 2;
/// Bytes of frames that wait for a slow reader; one frame may be larger.
const UNSENT_BYTES_MAX: u32 = 1 << 20;
/// Bytes of sync messages that were heard and that no turn has taken; no frame is read before there are
/// less.
const BACKLOG_BYTES_MAX: usize = 1 << 20;

/// How long a connection may be there without having joined.
const STRANGER: Duration = Duration::from_secs(30);

/// How long a document that is nowhere may be on its way, from another client of this node or of a peer,
/// before its client is told that it is not to be had.
const ON_ITS_WAY_HERE: Duration = Duration::from_millis(250);
const ON_ITS_WAY_FROM_PEERS: Duration = Duration::from_secs(2);

/// Closing codes (RFC 6455, section 7.4.1, and its registry).
const GOING_AWAY: u16 = 1001;
const TRY_AGAIN_LATER: u16 = 1013;

/// What goes to a client.
#[derive(Debug)]
pub enum Spoken {
    /// A frame. It counts among what waits to be sent until the permit is dropped.
    Frame(Vec<u8>, OwnedSemaphorePermit),
    /// The end, with its code and reason.
    Close(u16, &'static str),
}

/// The frames of one connection.
#[derive(Debug)]
pub struct Frames {
    /// From the client; closed when it is gone.
    pub incoming: mpsc::Receiver<Bytes>,
    /// To the client; closed when it is gone.
    pub outgoing: mpsc::Sender<Spoken>,
}

/// The client is gone, or is to go.
enum End {
    Gone,
    Closing(Closing),
}

impl Node {
    /// Serves one connection until one side ends it. Documents that the client makes go into
    /// `collection`.
    pub async fn converse(&self, collection: Collection, frames: Frames) {
        let unsent = Arc::new(Semaphore::new(UNSENT_BYTES_MAX as usize));
        let (node, storage) = (format!("tombolo-{}", self.id()), self.id().to_string());
        let Frames { incoming, outgoing } = frames;
        let mut talk = Talk {
            session: Session::new(node, storage),
            listening: self.board().audience().listen(),
            outgoing,
            unsent,
            turns_max: TURNS_MIN,
            join_by: Some(Instant::now() + STRANGER),
            awaited: VecDeque::new(),
        };
        if let Err(End::Closing(closing)) = talk.run(self, &collection, incoming).await {
            let Closing { code, reason, frame } = closing;
            talk.listening.metrics().ended.increment();
            if let Some(frame) = frame {
                // Whoever is gone hears nothing.
                let _ = talk.send(frame).await;
            }
            let _ = talk.outgoing.send(Spoken::Close(code, reason)).await;
        }
    }
}

/// One connection.
struct Talk {
    session: Session,
    listening: Listening,
    outgoing: mpsc::Sender<Spoken>,
    /// Bytes that may still wait to be sent.
    unsent: Arc<Semaphore>,
    /// Turns at once: one more with each frame that finds room, the least once one finds little.
    turns_max: usize,
    /// Until when it has to have joined; `None`: it has.
    join_by: Option<Instant>,
    /// Documents that are nowhere, and until when they may come.
    awaited: VecDeque<(Instant, DocumentId)>,
}

impl Talk {
    async fn run(
        &mut self,
        node: &Node,
        collection: &Collection,
        mut incoming: mpsc::Receiver<Bytes>,
    ) -> Result<(), End> {
        let mut turns = FuturesUnordered::new();
        loop {
            while turns.len() < self.turns_max
                && let Some(turn) = self.session.turn()
            {
                turns.push(node.take_turn(collection, turn));
            }
            let due = self.awaited.front().map(|(due, _)| *due);
            tokio::select! {
                biased;
                Some(done) = turns.next() => self.end_turn(node, done).await?,
                () = reached(due) => {
                    let document = self.awaited.pop_front().map(|(_, document)| document);
                    document.into_iter().for_each(|document| self.session.waited(document));
                }
                () = reached(self.join_by) => {
                    return Err(End::Closing(self.session.end(POLICY, "no join came")));
                }
                news = self.listening.next() => self.hear_news(news).await?,
                frame = incoming.recv(), if self.session.backlog() < BACKLOG_BYTES_MAX => {
                    let frame = frame.ok_or(End::Gone)?;
                    let metrics = self.listening.metrics();
                    metrics.received.increment();
                    metrics.received_bytes.add(frame.len() as u64);
                    self.hear(&frame).await?;
                }
            }
        }
    }

    async fn hear(&mut self, frame: &[u8]) -> Result<(), End> {
        match self.session.hear(frame).map_err(End::Closing)? {
            Heard::Nothing => {}
            Heard::Open(document) => self.listening.open(document),
            Heard::Joined { peer, answer, .. } => {
                self.listening.join(&peer);
                self.join_by = None;
                self.send(answer).await?;
            }
            Heard::Answer(answer) => self.send(answer).await?,
            Heard::Ephemeral(document, said) => self.listening.say(document, &said),
            Heard::Odd(why) => tracing::debug!(why, "an odd message of a client"),
        }
        Ok(())
    }

    async fn hear_news(&mut self, news: News) -> Result<(), End> {
        match news {
            News::Changed(documents) => {
                documents.into_iter().for_each(|document| self.session.changed(document));
                Ok(())
            }
            News::Said(said) => {
                let frame = self.session.pass_on(&said);
                self.send(frame).await
            }
            News::Replaced => {
                Err(End::Closing(self.session.end(GOING_AWAY, "joined by another connection")))
            }
        }
    }

    async fn end_turn(&mut self, node: &Node, done: Result<Done, Error>) -> Result<(), End> {
        match done {
            Ok(Done { document, share, said }) => match self.session.done(document, share, said) {
                Next::Nothing => Ok(()),
                Next::Send(frame) => self.send(frame).await,
                Next::Wait => {
                    let alone = node.peers().is_empty();
                    let wait = if alone { ON_ITS_WAY_HERE } else { ON_ITS_WAY_FROM_PEERS };
                    self.awaited.push_back((Instant::now() + wait, document));
                    Ok(())
                }
            },
            Err(error) => {
                tracing::warn!(%error, "a client is sent away and may come back");
                Err(End::Closing(self.session.end(TRY_AGAIN_LATER, "try again later")))
            }
        }
    }

    /// Sends a frame, as soon as the client has taken enough of those before.
    async fn send(&mut self, frame: Vec<u8>) -> Result<(), End> {
        let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX).min(UNSENT_BYTES_MAX);
        let permit = Arc::clone(&self.unsent).acquire_many_owned(bytes);
        let permit = tokio::select! {
            biased;
            permit = permit => permit.map_err(|_| End::Gone)?,
            () = self.outgoing.closed() => return Err(End::Gone),
        };
        let has_room = UNSENT_BYTES_MAX as usize / 2 <= self.unsent.available_permits();
        self.turns_max = if has_room { TURNS_MAX.min(self.turns_max + 1) } else { TURNS_MIN };
        let metrics = self.listening.metrics();
        metrics.sent.increment();
        metrics.sent_bytes.add(frame.len() as u64);
        self.outgoing.send(Spoken::Frame(frame, permit)).await.map_err(|_| End::Gone)
    }
}

/// Waits until then; for ever, if there is no such time.
async fn reached(due: Option<Instant>) {
    match due {
        Some(due) => time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
