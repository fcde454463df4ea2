//! An island: a node in this process, reached over HTTP like any other.

use super::water::Ways;
use crate::{
    cli::{
        args::{Document, Remote},
        client::{Call, Client, Reply},
    },
    http,
    node::{Direction, Node, Options, PeerOptions, PeerState, Secret},
    peer,
    store::MemoryEngine,
};
use anyhow::Context;
use hyper::Method;
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// Longest wait for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// Every document that a node holds, by collection and key: its row of the feed, but for the cursor.
pub(crate) type All = BTreeMap<(String, String), Value>;

/// A node that runs.
#[derive(Debug)]
pub(crate) struct Island {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    pub(crate) port: u16,
    pub(crate) ways: Ways,
    node: Node,
    client: Client,
    secret: Secret,
    engine: Arc<MemoryEngine>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Island {
    /// Starts a node; port 0 picks one.
    pub(crate) async fn start(
        name: &'static str,
        secret: &Secret,
        engine: Arc<MemoryEngine>,
        port: u16,
    ) -> anyhow::Result<Self> {
        let options = Options { secret: secret.clone(), ..Options::default() };
        let node = Node::start(options, Arc::clone(&engine) as _)?;
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let port = listener.local_addr()?.port();
        let url = format!("http://127.0.0.1:{port}");
        let remote = Remote { url: url.clone(), token: None, timeout: ANSWER_TIME };
        let (client, ways) = (Client::new(&remote, false)?, Ways::default());
        let (stop, stopped) = watch::channel(false);
        let api = http::Api::new(node.clone(), http::Options::default());
        let (traffic, bounds) = (api.traffic(), http::Connections::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(http::serve(listener, api.into_service(), bounds, traffic, until(stopped)));
        let secret = secret.clone();
        Ok(Self { name, url, port, ways, node, client, secret, engine, stop, tasks })
    }

    /// Replicates with the others.
    pub(crate) fn join(&mut self, others: &[(&'static str, u16)]) -> anyhow::Result<()> {
        self.ways = Ways::to(others.iter().map(|(_, port)| *port));
        let mut peers = Vec::new();
        for (name, port) in others {
            peers.push(PeerOptions {
                name: name.parse()?,
                url: format!("http://127.0.0.1:{port}").parse()?,
                collections: None,
                direction: Direction::Both,
            });
        }
        let (client, stop) = (peer::Client::new(self.ways.clone()), until(self.stop.subscribe()));
        self.tasks.spawn(self.node.replicate(peers, client, stop));
        Ok(())
    }

    /// Stops the node. Gives what it takes to start it again.
    pub(crate) async fn stop(mut self) -> Halted {
        self.stop.send_replace(true);
        self.node.stop().await;
        while self.tasks.join_next().await.is_some() {}
        let Self { name, port, secret, engine, .. } = self;
        Halted { name, port, secret, engine }
    }

    /// Whether all others are reached.
    pub(crate) fn reaches_all(&self) -> bool {
        let peers = self.node.peer_statuses();
        peers.iter().all(|peer| peer.state == PeerState::Up)
    }

    /// Bytes of the messages that it sent to others and that they answered, and rounds run with them.
    pub(crate) fn cost(&self) -> (u64, u64) {
        let peers = self.node.peer_statuses();
        let bytes = peers.iter().map(|peer| peer.bytes_sent + peer.bytes_received).sum();
        (bytes, peers.iter().map(|peer| peer.rounds).sum())
    }

    /// How many documents it holds.
    pub(crate) fn documents(&self) -> u64 {
        self.node.collections().iter().map(|collection| collection.documents).sum()
    }

    /// Writes a document whole, with types that JSON does not have.
    pub(crate) async fn put(&self, document: &Document, json: &str) -> anyhow::Result<Reply> {
        let call = Call::document(Method::PUT, document).body(json.to_owned());
        self.call(call.header("content-type", "application/vnd.tombolo.typed+json")?).await
    }

    /// Changes a document by a JSON Patch.
    pub(crate) async fn patch(&self, document: &Document, json: &str) -> anyhow::Result<Reply> {
        let call = Call::document(Method::PATCH, document).body(json.to_owned());
        self.call(call.header("content-type", "application/json-patch+json")?).await
    }

    /// Reads a document once this node has seen a version of it.
    pub(crate) async fn await_version(
        &self,
        document: &Document,
        version: &str,
    ) -> anyhow::Result<Reply> {
        let call = Call::document(Method::GET, document).header("parents", version)?;
        self.call(call.header("prefer", "wait=15")?).await
    }

    /// Writes many documents in one request; each is durable when its line is answered.
    pub(crate) async fn bulk(&self, lines: String) -> anyhow::Result<()> {
        let count = lines.lines().count();
        let call = Call::new(Method::POST, "/v1/_bulk").body(lines);
        let call = call.header("content-type", "application/x-ndjson")?;
        let reply = self.call(call).await?;
        let last = reply.body.trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
        let last: Value = serde_json::from_slice(last.unwrap_or_default())?;
        anyhow::ensure!(last["summary"]["ok"] == count, "not all of {count} writes: {last}");
        Ok(())
    }

    /// Where a document is in conflict, and how.
    pub(crate) async fn conflicts(&self, document: &Document) -> anyhow::Result<Value> {
        let reply = self.call(Call::below(Method::GET, document, "_conflicts")).await?;
        Ok(serde_json::from_slice(&reply.body)?)
    }

    /// Everything that it holds; without values, only as much as tells versions apart.
    pub(crate) async fn all(&self, values: bool) -> anyhow::Result<All> {
        let (mut all, mut since) = (All::new(), None::<String>);
        loop {
            let call = Call::new(Method::GET, "/v1/_changes").query("limit", "1000");
            let call = call.query("values", &values.to_string());
            let call = match &since {
                None => call,
                Some(since) => call.query("since", since),
            };
            let page: Page = serde_json::from_slice(&self.call(call).await?.body)?;
            if page.changes.is_empty() {
                return Ok(all);
            }
            for mut row in page.changes {
                let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
                let name = (text("collection"), text("key"));
                if let Some(members) = row.as_object_mut() {
                    // Each node counts for itself.
                    members.remove("cursor");
                }
                all.insert(name, row);
            }
            since = Some(page.next);
        }
    }

    async fn call(&self, call: Call) -> anyhow::Result<Reply> {
        self.client.call(call).await.with_context(|| self.name)
    }
}

/// A page of the feed.
#[derive(Deserialize)]
struct Page {
    changes: Vec<Value>,
    next: String,
}

/// An island whose node was stopped.
#[derive(Debug)]
pub(crate) struct Halted {
    name: &'static str,
    port: u16,
    secret: Secret,
    engine: Arc<MemoryEngine>,
}

impl Halted {
    /// Starts it again, where it was and with what it has kept.
    pub(crate) async fn start(self) -> anyhow::Result<Island> {
        let Self { name, port, secret, engine } = self;
        Island::start(name, &secret, Arc::new(engine.restart()), port).await
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone stops as well.
    drop(stopped.wait_for(|stopped| *stopped).await);
}
