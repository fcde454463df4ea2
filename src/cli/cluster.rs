//! The other nodes, as they are configured.

use super::failure::Failure;
use crate::{
    node::{Direction, PeerOptions, Secret},
    peer::Url,
};
use clap::ValueEnum;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use std::{collections::BTreeSet, fmt, fs, io::Read, os::unix::fs::PermissionsExt, path::PathBuf};

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

/// Which way changes go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// Both ways
    #[default]
    Both,
    /// From the node to the peer
    Push,
    /// From the peer to the node
    Pull,
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

impl Cluster {
    /// The secret; empty where there is none.
    pub(crate) fn secret(&self) -> Result<Secret, Failure> {
        let Some(file) = &self.secret_file else {
            return Ok(Secret::default());
        };
        let name = file.display();
        let usage = |why: String| Failure::Usage(format!("`cluster.secret_file`: {name}: {why}"));
        let mut secret = Vec::new();
        // What goes on and on is no secret, and is not read to its end.
        let opened = fs::File::open(file).map(|file| file.take(2 * SECRET_BYTES_MAX as u64));
        let read = opened.and_then(|mut file| file.read_to_end(&mut secret));
        read.map_err(|error| usage(error.to_string()))?;
        let secret = secret.trim_ascii();
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) {
            let why = format!("a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes");
            return Err(usage(why));
        }
        Ok(Secret(secret.to_vec()))
    }

    /// Whether others than the owner of the secret's file may read it.
    pub(crate) fn is_open(&self) -> bool {
        let mode = self.secret_file.as_ref().and_then(|file| fs::metadata(file).ok());
        mode.is_some_and(|file| file.permissions().mode() & 0o077 != 0)
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
        let name = self.name.as_deref().unwrap_or(url.authority());
        let name = name.parse().map_err(|error| usage(format!("`name`: {name:?}: {error}")))?;
        let direction = match self.direction {
            Way::Both => Direction::Both,
            Way::Push => Direction::Push,
            Way::Pull => Direction::Pull,
        };
        let options = PeerOptions::parse(name, &self.url, &self.collections, direction);
        options.map_err(|error| usage(error.to_string()))
    }
}

/// Peers as they are configured: tables, or in one text, as a variable of the environment is, their URLs
/// with commas between them.
pub(crate) fn told<'de, D: Deserializer<'de>>(told: D) -> Result<Vec<Peer>, D::Error> {
    struct Told;

    impl<'de> Visitor<'de> for Told {
        type Value = Vec<Peer>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("URLs with commas between them, or tables with a `url` each")
        }

        fn visit_str<E: de::Error>(self, urls: &str) -> Result<Self::Value, E> {
            let urls = urls.split(',').map(str::trim).filter(|url| !url.is_empty());
            Ok(urls.map(Peer::at).collect())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, tables: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(tables))
        }
    }

    told.deserialize_any(Told)
}

/// All peers, each with a name of its own.
pub(crate) fn peers(peers: &[Peer], secret: &Secret) -> Result<Vec<PeerOptions>, Failure> {
    let peers = peers.iter().map(Peer::options).collect::<Result<Vec<_>, _>>()?;
    let (mut names, mut urls) = (BTreeSet::new(), BTreeSet::new());
    for peer in &peers {
        if !names.insert(&peer.name) {
            return Err(Failure::Usage(format!("`peer`: {} stands twice", peer.name)));
        }
        if !urls.insert(peer.url.authority()) {
            let why = format!("`peer`: {} stands twice, under two names", peer.url);
            return Err(Failure::Usage(why));
        }
        peer.check(secret).map_err(|error| Failure::Usage(format!("`peer`: {error}")))?;
    }
    Ok(peers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_secret_is_a_short_file_that_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let secret = |file: &Path| {
            let cluster = Cluster { secret_file: Some(file.to_owned()) };
            let secret = cluster.secret().map_err(|why| why.to_string());
            (secret.map(|secret| secret.0), cluster.is_open())
        };
        let file = folder.path().join("secret");
        fs::write(&file, "\n a secret that is long \n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(secret(&file), (Ok(b"a secret that is long".to_vec()), false));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(secret(&file).1);
        assert_eq!(Cluster::default().secret().unwrap().0, b"");
        fs::write(&file, " short ").unwrap();
        for (file, said) in [
            (&*file, "16 to 4096 bytes"),
            (Path::new("/dev/zero"), "16 to 4096 bytes"),
            (Path::new(""), "No such file"),
            (folder.path(), "directory"),
        ] {
            let refused = secret(file).0.unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn peers_are_refused_with_a_reason() {
        let peer = |url: &str| Peer::at(url);
        let secret = Secret(b"a secret that is long".to_vec());
        let refusal = |list: &[Peer], public| {
            let secret = if public { Secret::default() } else { secret.clone() };
            peers(list, &secret).err().map(|why| why.to_string())
        };
        let here = peer("http://127.0.0.1:7421");
        assert_eq!(refusal(&[here.clone(), peer("http://[::1]:7421")], true), None);
        for (list, public, said) in [
            (vec![here.clone(), here.clone()], true, "stands twice"),
            (
                vec![here.clone(), Peer { name: Some("again".into()), ..here.clone() }],
                true,
                "under two names",
            ),
            (vec![peer("http://192.0.2.1:7420")], true, "need a secret"),
            (vec![peer("ftp://127.0.0.1")], true, "without a path"),
            (vec![Peer { collections: vec![], ..here.clone() }], true, "at least one"),
            (
                vec![Peer { collections: vec!["A".into()], ..here.clone() }],
                true,
                "A\": a collection",
            ),
            (vec![Peer { name: Some("a b".into()), ..here }], true, "a b\": a peer's name"),
        ] {
            let refused = refusal(&list, public).unwrap();
            assert!(refused.contains(said), "{refused}");
        }
        assert_eq!(refusal(&[peer("http://192.0.2.1:7420")], false), None);
    }
}
