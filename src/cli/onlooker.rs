//! A member of the cluster that only looks: it neither sends nor takes, and is gone when it has seen.

use super::failure::Failure;
use crate::{
    ident::{IncarnationId, Name, NodeId, Version},
    metric::Counter,
    node::{Ambient, Secret},
    peer::{Client, Error, Url, Wire},
    sync::{
        Ask, Beat, Cell, DecodeError, Envelope, Hello, MemberKey, NamesAsk, NamesTold,
        POSITIONS_MAX, Part, Scope, SetId, SketchKey, Slice, Told,
    },
};
use std::time::Duration;

/// Longest wait for an answer: a node may have to read the heads of all its documents first.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// To whichever start of a node hears it.
const ANY_START: IncarnationId = IncarnationId::from_bytes([0; 16]);

/// Who looks.
#[derive(Debug)]
pub(crate) struct Onlooker {
    client: Client,
    seals: MemberKey,
    /// What sketches are summed up under.
    pub(crate) key: SketchKey,
    node: NodeId,
    start: IncarnationId,
    /// The number of the last request.
    number: Counter,
    /// What it costs to look.
    pub(crate) wire: Wire,
}

/// A node that has said hello.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    /// Where it listens.
    pub(crate) url: &'a Url,
    /// What it says of itself.
    pub(crate) hello: Hello,
}

impl Onlooker {
    /// One that knows a secret.
    pub(crate) fn new(secret: &Secret) -> Self {
        let ambient = Ambient::machine();
        Self {
            client: Client::tcp(),
            seals: MemberKey::derived(&secret.0),
            key: SketchKey::derived(&secret.0),
            node: ambient.node_id(),
            start: ambient.incarnation_id(),
            number: Counter::default(),
            wire: Wire::default(),
        }
    }

    /// Says hello to a node, to be told of these collections.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub(crate) async fn greet<'a>(&self, url: &'a Url, scope: &Scope) -> Result<Seen<'a>, Failure> {
        let (set, root) = (scope.set(&self.key), Cell::default());
        let hello = Hello {
            node: self.node,
            incarnation: self.start,
            key: self.key.id(),
            scope: scope.clone(),
            sends: false,
            takes: false,
            links: Vec::new(),
            documents: 0,
            beat: Beat { seq: 0, cursor: None, told: 0, set, root, state: 0 },
        };
        let told = self.ask(url, ANY_START, "/_peer/hello", hello.encode()).await?;
        let hello = decoded(url, Hello::decode(&told))?;
        Ok(Seen { url, hello })
    }

    /// The first cells of a node, of a slice of a set: so many, or all that it has.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub(crate) async fn cells(
        &self,
        of: &Seen<'_>,
        set: SetId,
        slice: &Slice,
        count: usize,
    ) -> Result<Vec<Cell>, Failure> {
        let cells = u32::try_from(count).unwrap_or(u32::MAX);
        let part = Part { slice: slice.clone(), ..Part::whole(set) };
        let ask = Ask::More { part, cells };
        let told = self.ask(of.url, of.hello.incarnation, "/_peer/sketch", ask.encode()).await?;
        match decoded(of.url, Told::decode(&told))? {
            Told::Cells(cells) if !cells.is_empty() && cells.len() <= count => Ok(cells),
            Told::Other => Err(refused(of.url, "it tells of other collections by now")),
            _ => Err(refused(of.url, "its answer cannot be one")),
        }
    }

    /// The documents of a node at positions of a set, and the version of each.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub(crate) async fn names(
        &self,
        of: &Seen<'_>,
        set: SetId,
        mut positions: &[u64],
    ) -> Result<Vec<(Name, Version)>, Failure> {
        let mut documents = Vec::new();
        while !positions.is_empty() {
            let asked = positions.iter().copied().take(POSITIONS_MAX).collect();
            let ask = NamesAsk { set, positions: asked };
            let told = self.ask(of.url, of.hello.incarnation, "/_peer/names", ask.encode()).await?;
            let told = decoded(of.url, NamesTold::decode(&told))?;
            if !told.answers(&ask) {
                return Err(refused(of.url, "its answer cannot be one"));
            }
            let done = usize::try_from(told.positions).unwrap_or(usize::MAX);
            positions = positions.get(done..).unwrap_or_default();
            documents.extend(told.documents);
        }
        Ok(documents)
    }

    async fn ask(
        &self,
        url: &Url,
        to: IncarnationId,
        path: &'static str,
        body: Vec<u8>,
    ) -> Result<bytes::Bytes, Failure> {
        self.number.increment();
        let number = self.number.value();
        let envelope = Envelope { node: self.node, from: self.start, to, number, seal: [0; 32] };
        let (to, sealed) = ((url, &self.wire), (&self.seals, envelope));
        let told = self.client.ask(to, path, sealed, body, ANSWER_TIME).await;
        told.map_err(|error| failure(url, &error))
    }
}

fn decoded<T>(url: &Url, decoded: Result<T, DecodeError>) -> Result<T, Failure> {
    decoded.map_err(|error| refused(url, &format!("its answer is {error}")))
}

/// What a node does or is that is of no use.
pub(crate) fn refused(url: &Url, why: &str) -> Failure {
    Failure::Refused(format!("{url}: {why}"))
}

fn failure(url: &Url, error: &Error) -> Failure {
    let secret = "give the secret of its cluster with --cluster-secret-file";
    match error {
        Error::Unreachable(_) | Error::Timeout => Failure::Unreachable(format!("{url}: {error}")),
        Error::Status { status: 401, .. } => {
            refused(url, &format!("it has another secret: {secret}"))
        }
        Error::Status { status: 403, .. } => {
            refused(url, &format!("it takes part in no cluster: {error}"))
        }
        Error::Status { .. } => refused(url, &format!("it is no node: it {error}")),
        Error::Unsealed => refused(url, "it is no node of this cluster: its answer has no seal"),
        Error::Refused(why) => refused(url, &format!("{}: {}", why.name(), why.text)),
        Error::TooLarge | Error::Coding(_) | Error::Decode(_) | Error::Senseless(_) => {
            refused(url, &format!("{}: {error}", error.name()))
        }
    }
}
