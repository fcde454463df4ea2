//! The asked side: every message of a peer, answered from what is held. Nothing is kept of it but what is
//! known of the member.

use super::{outbox::BYTES_MAX, refused};
use crate::{
    ident::{Cursor, IncarnationId, NodeId, Version},
    node::{
        Error, Node,
        member::{Member, Terms},
        members::Entry,
    },
    sync::{
        Ask, Batch, Beat, DecodeError, Envelope, Hello, NamesAsk, POSITIONS_MAX, Pull, Reason,
        Refused, RepairAsk, Scope, answer, answer_names, answer_repair,
    },
};
use bytes::Bytes;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{self, Instant};

/// Longest that a peer waits for the feed.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// An answer to a peer, and its seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The message.
    pub body: Vec<u8>,
    /// What shows the asking node that it comes from a member.
    pub seal: [u8; 32],
}

/// Why a request is not heard at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// It is not sealed by a member.
    #[error("the request is not sealed under this cluster's secret")]
    Unsealed,
}

impl Node {
    /// Answers a peer's request: `what` is the last part of its path, `envelope` as the header has it.
    ///
    /// # Errors
    /// `Unsealed`. All other refusals are sealed answers.
    pub async fn answer_peer(
        &self,
        what: &str,
        envelope: &str,
        body: Bytes,
    ) -> Result<Answered, Unheard> {
        let envelope: Envelope = envelope.parse().map_err(|_| Unheard::Unsealed)?;
        let members = self.members();
        if !members.key.has_sealed(&envelope, &format!("/_peer/{what}"), &body) {
            if members.is_unsealed_told() {
                tracing::warn!(
                    "a request to /_peer/{what} is not sealed under this cluster's secret"
                );
            }
            return Err(Unheard::Unsealed);
        }
        let body = self.answer_member(what, &envelope, &body).await;
        let body = body.unwrap_or_else(|refused| refused.encode());
        Ok(Answered { seal: members.key.seal_answer(&envelope, &body), body })
    }

    async fn answer_member(
        &self,
        what: &str,
        envelope: &Envelope,
        body: &[u8],
    ) -> Result<Vec<u8>, Refused> {
        let anybody = envelope.to == IncarnationId::from_bytes([0; 16]);
        if envelope.to != self.incarnation() && !(anybody && what == "hello") {
            return Err(Reason::Stale.because("this node was started again"));
        }
        if !self.members().hear(envelope) {
            return Err(Reason::Replayed.because("the request was heard before"));
        }
        if envelope.node == self.id() {
            return Err(if envelope.from == self.incarnation() {
                Reason::Itself.because("this is the very node that asks")
            } else {
                Reason::Clone.because(
                    "both nodes run on copies of the same data: start one of them with --new-node",
                )
            });
        }
        if what == "hello" {
            return self.answer_hello(body, envelope.node, anybody).await;
        }
        let says = |member: &Member| member.hello.incarnation == envelope.from;
        if let Some(onlooker) = self.members().onlooker(envelope.node).filter(says) {
            return match what {
                "sketch" => self.answer_sketch(body, &onlooker).await,
                "names" => self.answer_names(body, &onlooker.scope).await,
                _ => Err(Reason::NotShared.because("who looks on neither sends nor takes")),
            };
        }
        let member = self.members().member(envelope.node).filter(says);
        let member = member.ok_or_else(|| Reason::Unknown.because("say hello first"))?;
        match what {
            "heartbeat" => self.answer_beat(body, &member).await,
            "push" => self.answer_push(body, &member).await,
            "feed" => self.answer_feed(body, &member).await,
            "sketch" => self.answer_sketch(body, &member).await,
            "docs" => self.answer_docs(body, &member).await,
            "ephemeral" => self.answer_overhear(body, &member).await,
            "names" if !self.agreed(envelope.node).direction.sends() => {
                Err(Reason::NotShared.because("nothing is told to this node"))
            }
            "names" => self.answer_names(body, &member.scope).await,
            _ => Err(Reason::BadMessage.because("nothing of that name is answered")),
        }
    }

    async fn answer_hello(
        &self,
        body: &[u8],
        from: NodeId,
        anybody: bool,
    ) -> Result<Vec<u8>, Refused> {
        let hello = Hello::decode(body).map_err(|error| bad(&error))?;
        if hello.node != from {
            return Err(Reason::BadMessage.because("the hello of another node"));
        }
        if hello.key != self.ledger().key().id() {
            return Err(Reason::OtherKey.because("the keys of the sketch are others"));
        }
        if self.looks_on(&hello) {
            let onlooker = self.members().look_on(hello, &Scope::All);
            let hello = self.hello_for(Some(from), &Terms::open(), false, &onlooker.scope).await;
            return Ok(hello.map_err(|error| refused(&error))?.encode());
        }
        if anybody {
            // It may have been said long ago, or to another node, and be said again by somebody who knows no
            // secret. So it changes nothing, and is told to which start to say it.
            let terms = Terms { scope: Scope::nothing(), ..Terms::open() };
            let hello = self.hello_for(None, &terms, false, &terms.scope).await;
            return Ok(hello.map_err(|error| refused(&error))?.encode());
        }
        match self.members().let_in(from, hello.incarnation) {
            Entry::Open => {}
            Entry::Twin => {
                let why = "another node runs on a copy of the same data: start this one with \
                           --new-node";
                return Err(Reason::Clone.because(why));
            }
            Entry::Full => {
                return Err(Reason::Busy.because("as many nodes as may be are known here"));
            }
        }
        self.peers().wake(from);
        let terms = self.agreed(from);
        let kept = self.kept_cursor(from).await.map_err(|error| refused(&error))?;
        let before = self.members().member(from).map(|before| before.hello.incarnation);
        let is_ours = self.peers().of(from).is_some();
        if before != Some(hello.incarnation) && !is_ours {
            tracing::info!(node = %from, "a node is there that names this one as its peer");
        }
        let member = self.members().greet(hello, &terms.scope, kept);
        let hello = self.hello_to(&member).await;
        Ok(hello.map_err(|error| refused(&error))?.encode())
    }

    /// Whether a hello is of one who only looks. It is told what is here, of all collections, though no
    /// document, and becomes no member: nothing is counted on it, and it takes nobody's place. A member that
    /// neither sends nor takes for now has said another hello before, at the same start.
    fn looks_on(&self, hello: &Hello) -> bool {
        let member = self.members().member(hello.node);
        let met = member.is_some_and(|member| member.hello.incarnation == hello.incarnation);
        !hello.sends && !hello.takes && !met
    }

    async fn answer_beat(&self, body: &[u8], member: &Member) -> Result<Vec<u8>, Refused> {
        let beat = Beat::decode(body).map_err(|error| bad(&error))?;
        let (from, start) = (member.hello.node, member.hello.incarnation);
        if let Some(cursor) = member.cursor
            && cursor.incarnation == start
            && cursor.seq < beat.told
        {
            let cursor = Cursor { seq: beat.told, ..cursor };
            self.advance(from, cursor, false).await.map_err(|error| refused(&error))?;
        }
        let hello = self.hello_to(member).await.map_err(|error| refused(&error))?;
        let mine = hello.beat;
        if beat.set == mine.set && beat.root == mine.root {
            self.members().set_equal(from, mine.seq);
        }
        self.members().update(from, |member| {
            let state = member.hello.beat.state;
            member.hello.beat = Beat { state, ..beat };
        });
        Ok(mine.encode())
    }

    async fn answer_push(&self, body: &[u8], member: &Member) -> Result<Vec<u8>, Refused> {
        let batch = Batch::decode(body).map_err(|error| bad(&error))?;
        let from = member.hello.node;
        let terms = self.agreed(from);
        if !terms.direction.takes() {
            return Err(Reason::NotShared.because("nothing is taken from this node"));
        }
        let start = member.hello.incarnation;
        let taken = self.take_batch(from, start, &member.scope, batch).await;
        Ok(taken.map_err(|error| refused(&error))?.encode())
    }

    async fn answer_feed(&self, body: &[u8], member: &Member) -> Result<Vec<u8>, Refused> {
        let pull = Pull::decode(body).map_err(|error| bad(&error))?;
        let terms = self.agreed(member.hello.node);
        if !terms.direction.sends() {
            return Err(Reason::NotShared.because("nothing is told to this node"));
        }
        let mut news = self.listen();
        let until = Instant::now() + Duration::from_millis(pull.wait_ms.into()).min(WAIT_MAX);
        let mut asking = member.clone();
        asking.hello.beat.cursor = pull.after;
        let mut start = self.start_for(&asking);
        if !start.begins {
            start.whole_until = pull.whole_until;
        }
        if !member.linked {
            let from = (start.after, start.whole_until);
            // It holds no more than there is.
            let taken = pull.taken.map(|seq| seq.min(self.store().last_seq()));
            self.members().ask(member.hello.node, from, taken, &pull.lacks);
        }
        let mut after = start.after;
        let mut changes = self.members().changes();
        let mut ended = self.peers().ended();
        loop {
            let member = self.members().member(member.hello.node);
            let member = member.ok_or_else(|| Reason::Unknown.because("say hello first"))?;
            if member.linked {
                // It is pushed to whoever asks.
                let (from, to) = (start.after, start.after);
                return Ok(Batch { from, to, end: true, ..Batch::default() }.encode());
            }
            let batch = self.batch_for(&member, after, start.whole_until, BYTES_MAX).await;
            let batch = batch.map_err(|error| refused(&error))?;
            let waits = batch.is_empty() && !start.begins;
            after = batch.to;
            if waits && !batch.end {
                continue;
            }
            if waits {
                tokio::select! {
                    biased;
                    () = news.changed() => continue,
                    _ = changes.changed() => continue,
                    () = time::sleep_until(until) => {}
                    // The sender lives as long as this node.
                    _ = ended.wait_for(|ended| *ended) => {}
                }
            }
            return Ok(Batch { from: start.after, begins: start.begins, ..batch }.encode());
        }
    }

    async fn answer_sketch(&self, body: &[u8], member: &Member) -> Result<Vec<u8>, Refused> {
        let ask = Ask::decode(body).map_err(|error| bad(&error))?;
        let part = ask.part();
        let shared = match member.scope.set(self.ledger().key()) == part.set {
            true => self.cells(&member.scope, part).await.map_err(|error| refused(&error))?,
            false => None,
        };
        let told = answer(shared.as_deref(), &self.key_for(part), &ask);
        Ok(told.encode())
    }

    async fn answer_docs(&self, body: &[u8], member: &Member) -> Result<Vec<u8>, Refused> {
        let ask = RepairAsk::decode(body).map_err(|error| bad(&error))?;
        if ask.set != member.scope.set(self.ledger().key()) {
            return Err(Reason::NotShared.because("another set is shared"));
        }
        let gives = self.agreed(member.hello.node).direction.sends() && member.hello.takes;
        let positions: Vec<u64> = ask.held.iter().map(|held| held.position).collect();
        let held = ask.held.iter().flat_map(|held| &held.documents);
        let held: BTreeMap<_, _> = held.cloned().collect();
        let seen = |id| held.get(&id).cloned().unwrap_or_else(Version::empty);
        let told = async {
            let fetched = match gives {
                true => self.fetch(&member.scope, &positions, seen).await?,
                // What is held is told all the same: who asks is to see what to give.
                false => self.fetch_versions(&member.scope, positions).await?,
            };
            answer_repair(&fetched, &ask)
        };
        let told: Result<_, Error> = told.await;
        Ok(told.map_err(|error| refused(&error))?.encode())
    }

    async fn answer_names(&self, body: &[u8], scope: &Scope) -> Result<Vec<u8>, Refused> {
        let mut ask = NamesAsk::decode(body).map_err(|error| bad(&error))?;
        if ask.set != scope.set(self.ledger().key()) {
            return Err(Reason::NotShared.because("another set is shared"));
        }
        ask.positions.truncate(POSITIONS_MAX);
        let held = self.held_at(scope.clone(), ask.positions.clone()).await;
        Ok(answer_names(&held.map_err(|error| refused(&error))?, &ask).encode())
    }
}

fn bad(error: &DecodeError) -> Refused {
    Reason::BadMessage.because(error.to_string())
}
