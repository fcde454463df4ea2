//! What was configured, from every source, checked before anything opens.

use super::{
    args::{Durability, LogFormat, Serve},
    cluster::{self, Cluster, Peer},
    collection::{self, Collections},
    failure::Failure,
};
use crate::{doc, http, ident::Collection, node::PeerOptions, store};
use figment::{
    Figment, Provider,
    error::Kind,
    providers::{Env, Format as _, Serialized, Toml},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

/// Files that are looked for if none is named; the first that exists is read.
const FILES: &[&str] = &["./tombolo.toml", "/etc/tombolo/tombolo.toml"];
/// What our environment variables begin with.
const PREFIX: &str = "TOMBOLO_";
/// Variables that are flags of commands, and no settings.
const FLAGS: &[&str] = &["url", "token", "config"];

/// Most seconds of any wait: a day. Clocks overflow on absurd ones.
const SECONDS_MAX: u64 = 86_400;
/// Largest document, and largest body: half of what one row of the store may hold.
const JSON_BYTES_MAX: u64 = 512 << 20;
/// Most of anything that is counted; wire and Automerge count in 32 bits.
const COUNT_MAX: u64 = u32::MAX as u64;

/// What each number may be. Nothing works under a limit of zero.
const RANGES: &[(&str, RangeInclusive<u64>)] = &[
    // RocksDB ends the process over a cache of nothing, or of more addresses than there are; under
    // 1 MiB it writes a file for every few documents.
    ("cache.blocks_bytes", 1 << 20..=1 << 40),
    // Zero keeps no document loaded.
    ("cache.documents_bytes", 0..=u64::MAX),
    ("limits.body_bytes_max", 1..=JSON_BYTES_MAX),
    ("limits.body_bytes_per_second_min", 1..=COUNT_MAX),
    ("limits.change_operations_max", 1..=COUNT_MAX),
    ("limits.changes_bytes_max", 1..=JSON_BYTES_MAX),
    ("limits.connections_max", 1..=COUNT_MAX),
    ("limits.connections_per_address_max", 1..=COUNT_MAX),
    // Nothing is tested deeper than the default.
    ("limits.depth_max", 1..=100),
    ("limits.document_bytes_max", 1..=JSON_BYTES_MAX),
    ("limits.head_seconds_max", 1..=SECONDS_MAX),
    ("limits.header_bytes_max", 1..=COUNT_MAX),
    // hyper takes no more, whatever it is told here.
    ("limits.header_count_max", 1..=100),
    ("limits.idle_seconds_max", 1..=SECONDS_MAX),
    ("limits.list_length_max", 1..=COUNT_MAX),
    ("limits.object_keys_max", 1..=COUNT_MAX),
    ("limits.request_seconds_max", 1..=SECONDS_MAX),
    ("limits.stop_seconds_max", 1..=SECONDS_MAX),
    ("limits.streams_max", 1..=COUNT_MAX),
    // As much as a volume may hold.
    ("storage.min_free_bytes", 0..=1 << 50),
];

/// The configuration of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the data lives.
    pub(crate) data: PathBuf,
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// The names that the node answers to, beside those of loopback; none: see [`http::Hosts::of`].
    pub(crate) hosts: Vec<String>,
    /// When a write is answered.
    pub(crate) durability: Durability,
    /// What is logged, as `RUST_LOG` writes it.
    pub(crate) log: String,
    /// How log lines are written.
    pub(crate) log_format: LogFormat,
    /// What is kept in memory.
    pub(crate) cache: Cache,
    /// Every bound.
    pub(crate) limits: Limits,
    /// How the disk is used.
    pub(crate) storage: Storage,
    /// Where backups go that are asked for over the network; nowhere if there is none.
    pub(crate) backup_directory: Option<PathBuf>,
    /// What all nodes of the cluster share.
    pub(crate) cluster: Cluster,
    /// The nodes to replicate with.
    #[serde(deserialize_with = "cluster::told")]
    pub(crate) peer: Vec<Peer>,
    /// What holds for one collection alone.
    pub(crate) collection: Collections,
}

/// How the disk is used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Storage {
    /// Free bytes below which writes are refused; none: 256 MiB, or 5 % of the volume if that is
    /// less.
    pub(crate) min_free_bytes: Option<u64>,
}

/// Budgets of memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cache {
    /// Loaded documents, all shards.
    pub(crate) documents_bytes: usize,
    /// Blocks of the storage engine.
    pub(crate) blocks_bytes: usize,
}

/// Every bound, by the names that users give.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    body_bytes_max: usize,
    body_bytes_per_second_min: u32,
    change_operations_max: usize,
    changes_bytes_max: usize,
    connections_max: usize,
    connections_per_address_max: usize,
    depth_max: usize,
    document_bytes_max: usize,
    head_seconds_max: u64,
    header_bytes_max: usize,
    header_count_max: usize,
    idle_seconds_max: u64,
    list_length_max: usize,
    object_keys_max: usize,
    request_seconds_max: u64,
    stop_seconds_max: u64,
    streams_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        let document = doc::Limits::default();
        let (options, bounds) = (http::Options::default(), http::Connections::default());
        let limits = Limits {
            body_bytes_max: options.body_bytes_max,
            body_bytes_per_second_min: options.body_bytes_per_second_min,
            change_operations_max: document.change_operations_max,
            changes_bytes_max: options.changes_bytes_max,
            connections_max: bounds.count_max,
            connections_per_address_max: bounds.count_per_address_max,
            depth_max: document.depth_max,
            document_bytes_max: document.document_bytes_max,
            head_seconds_max: bounds.head_time.as_secs(),
            header_bytes_max: options.header_bytes_max,
            header_count_max: options.header_count_max,
            idle_seconds_max: bounds.idle_time.as_secs(),
            list_length_max: document.list_length_max,
            object_keys_max: document.object_keys_max,
            request_seconds_max: options.answer_time.as_secs(),
            stop_seconds_max: bounds.stop_time.as_secs(),
            streams_max: bounds.streams_max,
        };
        Self {
            data: "./tombolo-data".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7420)),
            hosts: Vec::new(),
            durability: Durability::Sync,
            log: "info".into(),
            log_format: LogFormat::Text,
            cache: Cache { documents_bytes: 256 << 20, blocks_bytes: 256 << 20 },
            limits,
            storage: Storage::default(),
            backup_directory: None,
            cluster: Cluster::default(),
            peer: Vec::new(),
            collection: Collections::new(),
        }
    }
}

impl Config {
    /// Flag, else environment, else file, else default.
    pub(crate) fn load(flags: &Serve) -> Result<Self, Failure> {
        let config = match file(flags.config.as_deref())? {
            Some(file) => Self::resolve(Toml::file_exact(file), environment(), flags),
            None => Self::resolve(Toml::string(""), environment(), flags),
        }?;
        config.check(flags)?;
        Ok(config)
    }

    fn resolve(
        file: impl Provider,
        environment: impl Provider,
        flags: &Serve,
    ) -> Result<Self, Failure> {
        let defaults = Figment::from(Serialized::defaults(Self::default()));
        let all = defaults.merge(file).merge(environment).merge(Serialized::defaults(flags));
        let mut config: Self = all.extract().map_err(|error| explain(&error))?;
        config.peer.extend(flags.peer.iter().map(|url| Peer::at(url)));
        if let Some(file) = &flags.cluster_secret_file {
            config.cluster.secret_file = Some(file.clone());
        }
        Ok(config)
    }

    fn check(&self, flags: &Serve) -> Result<(), Failure> {
        if !self.listen.ip().to_canonical().is_loopback() && !flags.insecure {
            return Err(Failure::Usage(format!(
                "{} can be reached from other machines, and there is neither authentication nor \
                 TLS: listen on 127.0.0.1, or accept it with --insecure",
                self.listen
            )));
        }
        self.hosts()?;
        self.peers()?;
        self.texts()?;
        self.check_ranges()
    }

    /// Refuses numbers out of their range, each by its name.
    fn check_ranges(&self) -> Result<(), Failure> {
        let settings = serde_json::to_value(self);
        let settings = settings.map_err(|error| Failure::Usage(error.to_string()))?;
        let mut refused = Vec::new();
        for (name, range) in RANGES {
            let number = settings.pointer(&format!("/{}", name.replace('.', "/")));
            // What has no number of its own is told by the machine.
            let unset = number.is_some_and(Value::is_null);
            let within = number.and_then(Value::as_u64).is_some_and(|n| range.contains(&n));
            if !unset && !within {
                refused.push(format!("`{name}` is from {} to {}", range.start(), range.end()));
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(Failure::Usage(refused.join("\n"))) }
    }

    /// The nodes to replicate with.
    pub(crate) fn peers(&self) -> Result<Vec<PeerOptions>, Failure> {
        cluster::peers(&self.peer, &self.cluster.secret()?)
    }

    /// The collections whose new strings are texts.
    pub(crate) fn texts(&self) -> Result<BTreeSet<Collection>, Failure> {
        collection::texts(&self.collection)
    }

    /// The hosts that requests may be for.
    fn hosts(&self) -> Result<http::Hosts, Failure> {
        let host = |text: &String| {
            text.parse().map_err(|error| Failure::Usage(format!("`hosts`: {text:?}: {error}")))
        };
        let named = self.hosts.iter().map(host).collect::<Result<_, _>>()?;
        Ok(http::Hosts::of(self.listen.ip(), named))
    }

    /// Bounds of one document and one edit.
    pub(crate) fn document(&self) -> doc::Limits {
        doc::Limits {
            depth_max: self.limits.depth_max,
            object_keys_max: self.limits.object_keys_max,
            list_length_max: self.limits.list_length_max,
            change_operations_max: self.limits.change_operations_max,
            document_bytes_max: self.limits.document_bytes_max,
            ..doc::Limits::default()
        }
    }

    /// Bounds of requests.
    pub(crate) fn http(&self) -> Result<http::Options, Failure> {
        Ok(http::Options {
            body_bytes_max: self.limits.body_bytes_max,
            changes_bytes_max: self.limits.changes_bytes_max,
            body_bytes_per_second_min: self.limits.body_bytes_per_second_min,
            answer_time: Duration::from_secs(self.limits.request_seconds_max),
            header_bytes_max: self.limits.header_bytes_max,
            header_count_max: self.limits.header_count_max,
            hosts: self.hosts()?,
            // Without a secret, only nodes of this machine can be told from others.
            peers: self.listen.ip().to_canonical().is_loopback()
                || !self.cluster.secret()?.0.is_empty(),
            backup_directory: self.backup_directory.clone(),
        })
    }

    /// Bounds of connections.
    pub(crate) fn connections(&self) -> http::Connections {
        let idle_time = Duration::from_secs(self.limits.idle_seconds_max);
        http::Connections {
            count_max: self.limits.connections_max,
            count_per_address_max: self.limits.connections_per_address_max,
            streams_max: self.limits.streams_max,
            header_bytes_max: self.limits.header_bytes_max,
            head_time: Duration::from_secs(self.limits.head_seconds_max),
            idle_time,
            stall_time: idle_time + Duration::from_secs(self.limits.request_seconds_max),
            stop_time: Duration::from_secs(self.limits.stop_seconds_max),
            ..http::Connections::default()
        }
    }
}

impl From<Durability> for store::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Sync => Self::Sync,
            Durability::Relaxed => Self::Relaxed,
        }
    }
}

/// The file to read. One that is named has to be there.
fn file(named: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    match named {
        Some(path) if path.is_file() => Ok(Some(path.into())),
        Some(path) => Err(Failure::Usage(format!("there is no file {}", path.display()))),
        None => Ok(FILES.iter().map(PathBuf::from).find(|path| path.is_file())),
    }
}

/// `TOMBOLO_CACHE__BLOCKS_BYTES` and the like.
fn environment() -> Env {
    let of_others = |key: &figment::value::UncasedStr| {
        // Kubernetes tells every pod of a service `tombolo` its addresses in variables like these.
        let key = key.as_str().to_ascii_lowercase();
        let service = key.starts_with("service_") || key == "port" || key.starts_with("port_");
        service || FLAGS.contains(&key.as_str())
    };
    Env::prefixed(PREFIX).filter(move |key| !of_others(key)).split("__")
}

/// What is wrong with the configuration, in words: where, what, and what was probably meant.
fn explain(errors: &figment::Error) -> Failure {
    let explained = errors.clone().into_iter().map(|error| explain_one(&error));
    Failure::Usage(explained.collect::<Vec<_>>().join("\n"))
}

fn explain_one(error: &figment::Error) -> String {
    let source = error.metadata.as_ref().map_or_else(String::new, |metadata| {
        match metadata.source.as_ref() {
            Some(source) => format!("{source}: "),
            None => format!("{}: ", metadata.name),
        }
    });
    let path = error.path.join(".");
    match &error.kind {
        Kind::UnknownField(name, known) => {
            let meant = nearest(name, known).map_or_else(
                || format!("there are {}", known.join(", ")),
                |known| format!("did you mean `{known}`?"),
            );
            format!("{source}`{path}` is no setting; {meant}")
        }
        kind => format!("{source}`{path}`: {kind}"),
    }
}

/// The known name that a mistyped one is nearest to, if one is near.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let far = name.len().div_ceil(3).max(1);
    let distances = known.iter().map(|known| (distance(name, known), *known));
    distances.filter(|(distance, _)| *distance <= far).min().map(|(_, known)| known)
}

/// How many letters have to be added, dropped or changed (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.bytes().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in to.bytes().enumerate() {
            let changed = corner + usize::from(letter != other);
            corner = row[column + 1];
            row[column + 1] = changed.min(corner + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn resolve(file: &str, environment: &str, flags: &Serve) -> Result<Config, String> {
        let sources = (Toml::string(file), Toml::string(environment));
        Config::resolve(sources.0, sources.1, flags).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
        let file = "listen = '127.0.0.1:1'\nlog = 'a'\ndata = 'd'\n[cache]\nblocks_bytes = 1_000";
        let environment = "listen = '127.0.0.1:2'\nlog = 'b'";
        let flags = Serve { listen: Some("127.0.0.1:3".parse().unwrap()), ..Serve::default() };
        let config = resolve(file, environment, &flags).unwrap();
        assert_eq!(config.listen.port(), 3);
        assert_eq!(config.log, "b");
        assert_eq!(config.data, Path::new("d"));
        assert_eq!(config.cache, Cache { documents_bytes: 256 << 20, blocks_bytes: 1000 });
        assert_eq!(resolve("", "", &Serve::default()), Ok(Config::default()));
    }

    #[test]
    fn an_unknown_setting_is_refused_with_what_was_probably_meant() {
        for (file, said) in [
            ("lsten = 'x'", "`lsten` is no setting; did you mean `listen`?"),
            (
                "[cache]\ndocument_bytes = 1",
                "`cache.document_bytes` is no setting; did you mean `documents_bytes`?",
            ),
            ("[limits]\nquux = 1", "`limits.quux` is no setting; there are body_bytes_max"),
            ("durability = 'never'", "`durability`"),
            ("listen = 'localhost'", "`listen`"),
            ("[limits]\ndepth_max = -1", "`limits.depth_max`"),
        ] {
            let refused = resolve(file, "", &Serve::default()).unwrap_err();
            assert!(refused.contains(said), "{file}: {refused}");
        }
    }

    #[test]
    fn peers_are_tables_or_urls_in_one_text() {
        let peers = |told: &str| {
            resolve("", told, &Serve::default()).map(|config| config.peers().unwrap().len())
        };
        assert_eq!(peers("peer = 'http://127.0.0.1:1'"), Ok(1));
        assert_eq!(peers("peer = ' http://127.0.0.1:1, http://127.0.0.1:2 '"), Ok(2));
        assert_eq!(peers("peer = ''"), Ok(0));
        assert_eq!(peers("[[peer]]\nurl = 'http://127.0.0.1:1'"), Ok(1));
        for (told, said) in [
            ("peer = 7", "`peer`: invalid type: found signed int `7`, expected URLs"),
            ("[peer]\nurl = 'http://127.0.0.1:1'", "`peer`: invalid type: found map"),
            ("[[peer]]\nuri = 'http://127.0.0.1:1'", "did you mean `url`?"),
        ] {
            let refused = peers(told).unwrap_err();
            assert!(refused.contains(said), "{told}: {refused}");
        }
    }

    #[test]
    fn strings_of_a_collection_are_values_unless_it_says_texts() {
        let texts = |told: &str| {
            let config = resolve(told, "", &Serve::default())?;
            let texts = config.texts().map_err(|failure| failure.to_string())?;
            Ok::<_, String>(texts.into_iter().map(|name| name.to_string()).collect::<Vec<_>>())
        };
        let two = "[collection.notes]\nstrings = 'text'\n[collection.orders]\nstrings = 'value'";
        assert_eq!(texts(two), Ok(vec!["notes".to_owned()]));
        assert_eq!(texts("[collection.notes]"), Ok(Vec::new()));
        for (told, said) in [
            ("[collection.notes]\nstrings = 'letters'", "`collection.notes.strings`"),
            ("[collection.notes]\nstring = 'text'", "did you mean `strings`?"),
            ("[collection.Notes]\nstrings = 'text'", "`collection.Notes`: "),
        ] {
            let refused = texts(told).unwrap_err();
            assert!(refused.contains(said), "{told}: {refused}");
        }
    }

    #[test]
    fn only_loopback_is_listened_on_unless_told_so() {
        for (address, insecure, fine) in [
            ("127.0.0.1:1", false, true),
            ("127.9.9.9:1", false, true),
            ("[::1]:1", false, true),
            ("[::ffff:127.0.0.1]:1", false, true),
            ("0.0.0.0:1", false, false),
            ("[::]:1", false, false),
            ("192.0.2.1:1", false, false),
            ("0.0.0.0:1", true, true),
        ] {
            let listen = address.parse().unwrap();
            let config = Config { listen, ..Config::default() };
            let flags = Serve { insecure, ..Serve::default() };
            assert_eq!(config.check(&flags).is_ok(), fine, "{address}");
        }
    }

    #[test]
    fn hosts_are_names_without_a_port() {
        for (file, fine) in [
            ("hosts = ['db.example.com', '192.0.2.1', '[2001:db8::1]']", true),
            ("hosts = []", true),
            ("hosts = ['db.example.com:80']", false),
            ("hosts = ['http://db.example.com']", false),
            ("hosts = ['*']", false),
        ] {
            let config = resolve(file, "", &Serve::default()).unwrap();
            assert_eq!(config.check(&Serve::default()).is_ok(), fine, "{file}");
        }
        let config = resolve("", "hosts = ['a', 'b']", &Serve::default()).unwrap();
        let named = ["a", "b"].map(|name| name.parse().unwrap());
        assert_eq!(config.http().unwrap().hosts, http::Hosts::Only(named.into()));
    }

    #[test]
    fn every_number_has_a_range_and_its_ends_work() {
        let defaults = serde_json::to_value(Config::default()).unwrap();
        let mut names = Vec::new();
        for section in ["cache", "limits", "storage"] {
            let settings = defaults[section].as_object().unwrap();
            names.extend(settings.keys().map(|name| format!("{section}.{name}")));
        }
        assert_eq!(RANGES.iter().map(|range| range.0.to_owned()).collect::<Vec<_>>(), names);

        for (name, range) in RANGES {
            let (least, most) = (*range.start(), *range.end());
            assert_eq!((set(name, least), set(name, most)), (Ok(()), Ok(())));
            let beyond = [least.checked_sub(1), most.checked_add(1)];
            for number in beyond.into_iter().flatten() {
                let refused = set(name, number).unwrap_err();
                assert!(refused.contains(&format!("`{name}`")), "{refused}");
            }
        }
    }

    /// Sets one number, and makes of it what a node would.
    fn set(name: &str, number: u64) -> Result<(), String> {
        let file = Serialized::default(name, number);
        let config = Config::resolve(file, Toml::string(""), &Serve::default());
        let config = config.and_then(|config| config.check_ranges().map(|()| config));
        let config = config.map_err(|failure| failure.to_string())?;
        let http::Connections { head_time, stall_time, stop_time, .. } = config.connections();
        let longest = config
            .http()
            .map(|http| http.answer_time)
            .unwrap()
            .max(head_time)
            .max(stall_time)
            .max(stop_time);
        assert!(Instant::now().checked_add(longest).is_some(), "{name} = {number}");
        Ok(())
    }

    #[test]
    fn distances_are_counted_in_letters() {
        for (from, to, letters) in [("", "abc", 3), ("abc", "abc", 0), ("listen", "lsten", 1)] {
            assert_eq!(distance(from, to), letters);
        }
    }
}
