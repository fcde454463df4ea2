//! What was typed for `peers`.

use super::Remote;
use crate::{
    cli::cluster::Way,
    ident::{Collection, PeerName},
    peer::Url,
};
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct Peers {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Nothing: list them
    #[command(subcommand)]
    pub(crate) what: Option<Roster>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Roster {
    /// Replicate with one more node from now on, or otherwise than before with one that was added
    Add(NewPeer),
    /// Replicate no more with a node that was added
    Rm {
        /// What it is called
        name: PeerName,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewPeer {
    /// What it is called
    pub(crate) name: PeerName,
    /// Where it listens: `http://HOST:PORT`
    #[arg(value_name = "URL")]
    pub(crate) at: Url,
    /// Share this collection alone; may be given again [default: all]
    #[arg(long = "collection", value_name = "NAME", value_parser = shared)]
    pub(crate) collections: Vec<String>,
    /// Which way changes go [default: both]
    #[arg(long, value_name = "WAY")]
    pub(crate) direction: Option<Way>,
}

/// The name of a collection, or `*` for all.
fn shared(text: &str) -> Result<String, String> {
    let name = || text.parse::<Collection>().map_err(|error| error.to_string());
    if text == "*" { Ok(text.to_owned()) } else { Ok(name()?.to_string()) }
}
