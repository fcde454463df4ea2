//! `tombolo serve`: runs a node until it is told to stop.

use super::{
    args::{LogFormat, Serve, Voice},
    config::Config,
    failure::Failure,
    output,
};
use crate::{
    http,
    node::{Node, Options},
    store::{self, Engine},
};
use anyhow::{Context, bail};
use std::sync::Arc;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};
use tracing_subscriber::EnvFilter;

/// Runs the command.
pub(crate) async fn run(flags: &Serve, voice: Voice) -> anyhow::Result<()> {
    let config = Config::load(flags)?;
    log(&config, voice)?;
    let mut signals = Signals::new()?;
    let node = start(&config)?;
    let listen = config.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| listen.to_string())?;
    let address = listener.local_addr()?;
    let api = http::Api::new(node.clone(), config.http()?);
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

    let (tell, told) = oneshot::channel::<()>();
    let serving = async {
        // However the wait ends, it is time to stop.
        let stop = async { drop(told.await) };
        let traffic = api.traffic();
        http::serve(listener, api.into_service(), config.connections(), traffic, stop).await;
        node.stop().await;
    };
    let twice = async {
        signals.next().await;
        tracing::info!("stopping");
        drop(tell);
        signals.next().await;
    };
    tokio::select! {
        () = serving => Ok(()),
        () = twice => bail!("told to stop a second time, and stopped at once"),
    }
}

/// The node that the configuration describes: the one place that makes one.
fn start(config: &Config) -> anyhow::Result<Node> {
    let options = Options {
        durability: config.durability.into(),
        documents_bytes: config.cache.documents_bytes,
        limits: config.document(),
        ..Options::default()
    };
    Node::start(options, engine(config)?).context("the node does not start")
}

#[cfg(feature = "rocksdb")]
fn engine(config: &Config) -> anyhow::Result<Arc<dyn Engine>> {
    let options = store::RocksOptions { blocks_bytes: config.cache.blocks_bytes };
    let engine = store::RocksEngine::open(&config.data, options);
    Ok(Arc::new(engine.with_context(|| config.data.display().to_string())?))
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
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_new(directives)
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
