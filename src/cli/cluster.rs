//! The other nodes, as they are configured.

use super::failure::Failure;
use crate::{
    node::{Direction, PeerOptions, Secret},
    peer::Url,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fs, path::PathBuf};

/// Fewest bytes of a secret.
const SECRET_BYTES_MIN: usize = 16;
/// Most.
const SECRET_BYTES_MAX: usize = 4096;

/// What all nodes of a cluster share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    /// The file that holds the secret; none: nodes of this machine alone replicate.
    pub(crate) secret_file: Option<PathBuf>,
}

/// A node to replicate with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    /// What it is called here; none: its host and port.
    name: Option<String>,
    /// Where it listens.
    url: String,
    /// Which collections are shared with it: `*` for all.
    #[serde(default = "all")]
    collections: Vec<String>,
    /// Which way changes go.
    #[serde(default)]
    direction: Way,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    #[default]
    Both,
    Push,
    Pull,
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

impl Cluster {
    /// The secret; empty where there is none.
    pub(crate) fn secret(&self) -> Result<Secret, Failure> {
        let Some(file) = self.secret_file.as_ref().filter(|file| !file.as_os_str().is_empty())
        else {
            return Ok(Secret::default());
        };
        let name = file.display();
        let usage = |why: String| Failure::Usage(format!("`cluster.secret_file`: {name}: {why}"));
        let secret = fs::read(file).map_err(|error| usage(error.to_string()))?;
        let secret = secret.trim_ascii();
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) {
            let why = format!("a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes");
            return Err(usage(why));
        }
        Ok(Secret(secret.to_vec()))
    }
}

impl Peer {
    /// The peer of a flag.
    pub(crate) fn at(url: &str) -> Self {
        let url = url.to_owned();
        Self { name: None, url, collections: all(), direction: Way::Both }
    }

    fn options(&self) -> Result<PeerOptions, Failure> {
        let usage = |why: String| Failure::Usage(format!("`peer`: {}: {why}", self.url));
        let url: Url = self.url.parse().map_err(|error| usage(format!("{error}")))?;
        let every = self.collections.iter().any(|name| name == "*");
        let parse = |name: &String| name.parse().map_err(|error| usage(format!("{name}: {error}")));
        let named = || self.collections.iter().map(parse).collect::<Result<Vec<_>, _>>();
        let collections = if every { None } else { Some(named()?) };
        if collections.as_ref().is_some_and(Vec::is_empty) {
            return Err(usage("`collections` names none".to_owned()));
        }
        Ok(PeerOptions {
            name: self.name.clone().unwrap_or_else(|| url.authority().to_owned()),
            url,
            collections,
            direction: match self.direction {
                Way::Both => Direction::Both,
                Way::Push => Direction::Push,
                Way::Pull => Direction::Pull,
            },
        })
    }
}

/// All peers, each with a name of its own.
pub(crate) fn peers(peers: &[Peer], public: bool) -> Result<Vec<PeerOptions>, Failure> {
    let peers = peers.iter().map(Peer::options).collect::<Result<Vec<_>, _>>()?;
    let mut names = BTreeSet::new();
    for peer in &peers {
        if !names.insert(&peer.name) {
            return Err(Failure::Usage(format!("`peer`: {} stands twice", peer.name)));
        }
        let host = peer.url.host().trim_matches(['[', ']']);
        let here = host == "localhost"
            || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        if public && !here {
            return Err(Failure::Usage(format!(
                "`peer`: {}: nodes of other machines need a secret: give all of them the same with \
                 --cluster-secret-file",
                peer.url
            )));
        }
    }
    Ok(peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_refused_with_a_reason() {
        let peer = |url: &str| Peer::at(url);
        let refusal = |list: &[Peer], public| peers(list, public).err().map(|why| why.to_string());
        let here = peer("http://127.0.0.1:7421");
        assert_eq!(refusal(&[here.clone(), peer("http://[::1]:7421")], true), None);
        for (list, public, said) in [
            (vec![here.clone(), here.clone()], true, "stands twice"),
            (vec![peer("http://192.0.2.1:7420")], true, "need a secret"),
            (vec![peer("ftp://127.0.0.1")], true, "without a path"),
            (vec![Peer { collections: vec![], ..here.clone() }], true, "names none"),
            (vec![Peer { collections: vec!["A".into()], ..here }], true, "A: a collection"),
        ] {
            let refused = refusal(&list, public).unwrap();
            assert!(refused.contains(said), "{refused}");
        }
        assert_eq!(refusal(&[peer("http://192.0.2.1:7420")], false), None);
    }
}
