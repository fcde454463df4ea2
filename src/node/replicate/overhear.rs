//! What clients say to each other goes to those of other nodes, too: told at once, and asked for where
//! clients listen. It may be lost; a peer that does not know of it costs nothing but that.

use super::session::{ANSWER_TIME, Session};
use crate::{
    automerge_repo::Message,
    ident::{DocumentId, NodeId},
    node::{Error, Node, audience::Said, member::Member},
    peer,
    sync::{Overhear, Overheard, Reason, Refused, SAID_MAX, Scope},
};
use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};
use tokio::time::{self, Instant};

/// How long a peer waits for something to be said.
const WAIT: Duration = Duration::from_secs(20);
/// How long nothing is said to a peer that did not hear, nor asked of it.
const PAUSE: Duration = Duration::from_secs(5);

impl Node {
    /// What was said of documents that a peer shares and did not say itself, and behind what to ask next.
    async fn said_to(
        &self,
        peer: NodeId,
        scope: &Scope,
        since: Option<u64>,
    ) -> Result<(u64, Vec<Vec<u8>>), Error> {
        let (next, said) = self.board().audience().said_since(since);
        let mut shared = BTreeMap::new();
        let mut frames = Vec::new();
        for Said { from, document, message } in said {
            if from == Some(peer) {
                continue;
            }
            let shares = match shared.get(&document) {
                Some(shares) => *shares,
                None => self.shares(document, scope).await?,
            };
            shared.insert(document, shares);
            if shares {
                frames.push(Message::Ephemeral(message).encode());
            }
        }
        frames.truncate(SAID_MAX);
        Ok((next, frames))
    }

    /// Whether a document is in the scope of a peer. One that is not known here is in none.
    async fn shares(&self, document: DocumentId, scope: &Scope) -> Result<bool, Error> {
        let store = Arc::clone(self.store());
        let head = self.blocking(move || Ok(store.head(document)?)).await?;
        let key = self.ledger().key();
        Ok(head.is_some_and(|(name, _)| scope.holds(key.collection(name.collection()))))
    }

    /// Passes on what clients of a peer said.
    fn overhear(&self, from: NodeId, said: &[Vec<u8>]) {
        for frame in said {
            let Ok(Message::Ephemeral(message)) = Message::decode(frame) else { continue };
            if let Some(document) = DocumentId::parse_bs58check(&message.document) {
                self.board().audience().overhear(from, document, &message);
            }
        }
    }

    /// Answers a peer that says something, or waits until something is said here.
    pub(super) async fn answer_overhear(
        &self,
        body: &[u8],
        member: &Member,
    ) -> Result<Vec<u8>, Refused> {
        let asked = Overhear::decode(body)
            .map_err(|error| Reason::BadMessage.because(error.to_string()))?;
        let (from, terms) = (member.hello.node, self.agreed(member.hello.node));
        if terms.direction.takes() {
            self.overhear(from, &asked.said);
        }
        let mut last = self.board().audience().said();
        let until = Instant::now() + WAIT;
        let mut ended = self.peers().ended();
        loop {
            last.mark_unchanged();
            let told = self.said_to(from, &member.scope, asked.since).await;
            let (next, mut said) = told.map_err(|error| super::refused(&error))?;
            if !terms.direction.sends() {
                said.clear();
            }
            let waits = asked.since.is_some_and(|since| since <= next) && said.is_empty();
            if waits {
                tokio::select! {
                    biased;
                    // The senders live as long as this node.
                    _ = ended.wait_for(|ended| *ended) => {}
                    _ = last.changed() => continue,
                    () = time::sleep_until(until) => {}
                }
            }
            return Ok(Overheard { next, said }.encode());
        }
    }
}

impl Session {
    /// Tells the peer what clients say here, and asks what they say there.
    pub(super) async fn overhear(&self) -> Infallible {
        let takes = self.peer.terms.direction.takes();
        tokio::select! {
            biased;
            never = self.retell(), if self.sends() => never,
            never = self.listen(), if takes => never,
            else => std::future::pending().await,
        }
    }

    async fn retell(&self) -> Infallible {
        let audience = self.node.board().audience();
        let mut last = audience.said();
        let (mut since, _) = audience.said_since(None);
        loop {
            // The sender lives as long as the node.
            let _ = last.changed().await;
            match self.node.said_to(self.id, &self.scope, Some(since)).await {
                Ok((next, said)) => {
                    since = next;
                    if !said.is_empty() && self.say(Overhear { since: None, said }).await.is_err() {
                        time::sleep(PAUSE).await;
                    }
                }
                Err(_) => time::sleep(PAUSE).await,
            }
        }
    }

    async fn listen(&self) -> Infallible {
        let mut present = self.node.board().audience().present();
        loop {
            // As above.
            let _ = present.wait_for(|present| *present).await;
            let mut since = None;
            while *present.borrow() {
                match self.say(Overhear { since, said: Vec::new() }).await {
                    Ok(Overheard { next, said }) => {
                        since = Some(next);
                        self.node.overhear(self.id, &said);
                    }
                    Err(_) => {
                        since = None;
                        time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    async fn say(&self, asked: Overhear) -> Result<Overheard, peer::Error> {
        let told = self.ask("/_peer/ephemeral", asked.encode(), WAIT + ANSWER_TIME).await?;
        Overheard::decode(&told).map_err(|error| peer::Error::Senseless(error.to_string()))
    }
}
