//! `tombolo serve`: runs a node until it is told to stop.

use super::{
    args::{DECODE, LogFormat, Serve, Voice},
    config::Config,
    failure::Failure,
    output, socket,
};
use crate::{
    doc::Limits,
    http,
    node::{Node, Options, PeerOptions},
    peer::Client,
    store::{self, Engine},
};
use anyhow::{Context, bail};
use std::{ffi::OsString, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::Instant,
};
use tracing_subscriber::EnvFilter;

/// Longest wait for what still reads the data that is to be opened anew.
const REOPEN_TIME: Duration = Duration::from_secs(30);
/// Pause before the data is tried again.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);

/// Runs the command.
pub(crate) async fn run(flags: &Serve, voice: Voice) -> anyhow::Result<()> {
    let config = Config::load(flags)?;
    log(&config, voice)?;
    let mut signals = Signals::new()?;
    let (tell, told) = watch::channel(false);
    let twice = async {
        signals.next().await;
        tracing::info!("stopping");
        tell.send_replace(true);
        signals.next().await;
    };
    tokio::select! {
        served = serve(&config, flags.new_node, told) => served,
        () = twice => bail!("told to stop a second time, and stopped at once"),
    }
}

/// Serves until told to stop, over as many openings of the data as that takes.
async fn serve(
    config: &Config,
    new_node: bool,
    mut told: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut node = start(config, new_node)?;
    let listen = config.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| listen.to_string())?;
    let listener = listener.into_std()?;
    let mut socket = owner_socket(config);
    let address = listener.local_addr()?;
    // Whatever it says is read before anybody is told that the node is there, and once.
    let peers = config.peers()?;
    let listening = format!("listening on http://{address} node {}", node.id());
    output::talk(&match config.log_format {
        LogFormat::Text => listening,
        LogFormat::Json => serde_json::json!({"level": "INFO", "message": listening}).to_string(),
    });
    if address.ip().to_canonical().is_loopback() {
        tracing::info!("no authentication: every program on this machine may read and write");
    } else {
        tracing::warn!("--insecure: whoever reaches {address} may read and write, in clear text");
    }
    if config.cluster.is_open() {
        tracing::warn!("others than its owner may read the file of `cluster.secret_file`");
    }
    loop {
        let listener = TcpListener::from_std(listener.try_clone()?)?;
        let peers = peers.clone();
        if serve_once(config, node, (listener, socket), peers, &mut told).await? == End::Stop {
            return Ok(());
        }
        tracing::info!("the disk has room again: opening the data anew");
        node = reopen(config, &mut told).await?;
        socket = owner_socket(config);
    }
}

/// Why a node's data was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    Reopen,
}

/// Serves one opening of the data.
async fn serve_once(
    config: &Config,
    node: Node,
    (listener, socket): (TcpListener, Option<socket::Bound>),
    peers: Vec<PeerOptions>,
    told: &mut watch::Receiver<bool>,
) -> anyhow::Result<End> {
    let api = http::Api::new(node.clone(), config.http()?);
    let (tell, ended) = watch::channel(None);
    let stop = || {
        let mut ended = ended.clone();
        // However the wait ends, it is time to stop.
        async move { drop(ended.wait_for(Option::is_some).await) }
    };
    let owner = owner(config, socket, api.for_owner(), stop());
    let (bounds, traffic) = (config.connections(), api.traffic());
    let streams = api.clone();
    let network = http::serve(listener, api.into_service(), bounds, traffic, stop());
    let replication = node.replicate(peers, Client::tcp(), stop());
    let waiting = async {
        let end = tokio::select! {
            _ = told.wait_for(|told| *told) => End::Stop,
            () = node.wants_reopening() => End::Reopen,
        };
        tell.send_replace(Some(end));
        streams.end_streams();
        end
    };
    let ((), (), (), end) = tokio::join!(replication, owner, network, waiting);
    node.stop().await;
    Ok(end)
}

/// The socket in the data directory, which only its owner can reach. It is there before anybody is
/// told that the node listens.
fn owner_socket(config: &Config) -> Option<socket::Bound> {
    let bound = socket::bind(&config.data);
    let tell = |error: &anyhow::Error| {
        tracing::warn!("no socket for commands on this machine: {error:#}");
    };
    bound.inspect_err(tell).ok()
}

async fn owner(
    config: &Config,
    socket: Option<socket::Bound>,
    api: http::Api,
    stop: impl Future<Output = ()>,
) {
    let Some(socket) = socket else { return };
    let (listener, _name) = socket.split();
    let (bounds, traffic) = (config.connections(), api.traffic());
    http::serve(listener, api.into_service(), bounds, traffic, stop).await;
}

/// Starts the node again in the same process. What is still being read of the data that was closed
/// keeps it from being opened for a moment.
async fn reopen(config: &Config, told: &mut watch::Receiver<bool>) -> anyhow::Result<Node> {
    let last = Instant::now() + REOPEN_TIME;
    loop {
        match start(config, false) {
            Err(error) if Instant::now() < last && !*told.borrow_and_update() => {
                tracing::debug!("not open yet: {error:#}");
                tokio::time::sleep(REOPEN_PAUSE).await;
            }
            started => return started,
        }
    }
}

/// The node that the configuration describes: the one place that makes one.
fn start(config: &Config, new_node: bool) -> anyhow::Result<Node> {
    let options = Options {
        new_node,
        durability: config.durability.into(),
        documents_bytes: config.cache.documents_bytes,
        min_free_bytes: config.storage.min_free_bytes,
        decoder: decoder(&config.document()),
        limits: config.document(),
        texts: config.texts()?,
        secret: config.cluster.secret()?,
        ..Options::default()
    };
    Node::start(options, engine(config)?).context("the node does not start")
}

/// This program again.
fn decoder(limits: &Limits) -> Vec<OsString> {
    let bounds =
        [limits.document_bytes_max, limits.depth_max].map(|bound| bound.to_string().into());
    match std::env::current_exe() {
        Ok(program) => [program.into(), DECODE.into()].into_iter().chain(bounds).collect(),
        Err(error) => {
            tracing::warn!(%error, "where this program is cannot be told: large documents are refused");
            Vec::new()
        }
    }
}

#[cfg(feature = "rocksdb")]
fn engine(config: &Config) -> anyhow::Result<Arc<dyn Engine>> {
    use store::{EngineError, OpenError, RocksEngine, RocksOptions};
    let options = RocksOptions { blocks_bytes: config.cache.blocks_bytes };
    let engine = match RocksEngine::open(&config.data, options) {
        Err(OpenError::Engine(EngineError::Full(why))) => {
            tracing::error!(why, "the disk is full: the data is open for reading alone");
            RocksEngine::open_read_only(&config.data, options)
        }
        opened => opened,
    };
    Ok(Arc::new(engine.map_err(|error| super::folder::named(error, &config.data))?))
}

#[cfg(not(feature = "rocksdb"))]
fn engine(config: &Config) -> anyhow::Result<Arc<dyn Engine>> {
    let data = config.data.display();
    tracing::warn!("built without storage: nothing is kept, and {data} is not touched");
    Ok(Arc::new(store::MemoryEngine::new()))
}

/// Begins to log, on standard error.
fn log(config: &Config, voice: Voice) -> Result<(), Failure> {
    let directives = match (voice.quiet, voice.verbose) {
        (true, _) => "error",
        (false, 0) => config.log.as_str(),
        (false, 1) => "debug,hyper=info,h2=info",
        (false, _) => "trace,automerge=trace",
    };
    // Automerge opens a span for each commit and load, which costs more than some commits, and says of
    // foreign bytes what their refusal says. Whoever wants to see it names it.
    let calmed = if directives == "off" { "" } else { "automerge=off," };
    let filter = EnvFilter::try_new(format!("{calmed}{directives}"))
        .map_err(|error| Failure::Usage(format!("`log`: {directives:?}: {error}")))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => lines.with_ansi(voice.colored()).try_init(),
        // What surrounds an event, a request, is an object of its own in the line.
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).try_init(),
    }
    .map_err(|error| Failure::Refused(format!("logging does not begin: {error}")))
}

/// The two ways to be told to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("signals cannot be caught");
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    /// Until one of them comes.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
