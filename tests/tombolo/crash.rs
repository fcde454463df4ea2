//! Kills: what a node has acknowledged is there after SIGKILL and after SIGTERM, whole, and soon.
//!
//! Puts, patches, deletes and bulk writes of all of them, under budgets so small that every document is
//! evicted after its use, and folded when it is due; after each ten ends the data is checked.
//!
//! `TOMBOLO_KILLS=n` kills n times. What the writers choose follows a seed; what runs when does not:
//! these are real processes on a real disk.

use crate::process::{Answer, Client, Process, tombolo};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, io, mem,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

const WRITERS: u64 = 8;
/// From the start of the program until it listens, also after a kill.
const OPEN_TIME_MAX: Duration = Duration::from_secs(2);
const TYPED: &str = "application/vnd.tombolo.typed+json";
const NDJSON: &str = "application/x-ndjson";
const JSON_PATCH: &str = "application/json-patch+json";
const COLLECTION: &str = "/v1/crash";
/// The document that all writers count up.
const SHARED: &str = "shared";
/// Documents that each writer begins with.
const KEYS: u64 = 16;
/// Lines of a bulk write, each of another document.
const LINES: usize = 6;
/// Ends after which the closed data is checked.
const CHECK_EVERY: u32 = 10;
const PAGE_ROWS: usize = 1000;

/// How a node ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Kill,
    Stop,
}

/// A document that one writer alone writes: both of its members hold the same number.
#[derive(Debug, Clone, PartialEq, Default)]
struct Paired {
    number: Option<i64>,
    /// The version that was last acknowledged, as `Parents` takes it.
    version: String,
}

/// What one writer asked for, and what it was told.
struct Writer {
    name: u64,
    random: fastrand::Rng,
    /// What was acknowledged.
    documents: BTreeMap<String, Paired>,
    /// What nobody answered: by key, the number that may be there now.
    in_flight: BTreeMap<String, Option<i64>>,
    /// What the shared document was acknowledged to have grown by, and may have.
    counted: i64,
    counting: i64,
    /// Creations that nobody answered, over all kills.
    creating: usize,
    acknowledged: u64,
}

/// One write on its way.
enum Ask {
    /// A pair over whatever there is.
    Put(i64),
    /// Both members of a pair, up by this.
    Increment(i64),
    Delete,
    /// A pair under a key that the node makes up.
    Create(i64),
    /// Both members of the shared document, up by this.
    Count(i64),
    /// Writes of other documents, in one request: each with its key and what is there now.
    Bulk(Vec<(String, Option<i64>, Ask)>),
}

impl Writer {
    fn new(name: u64, seed: u64) -> Self {
        let keys = (0..KEYS).map(|key| (format!("{name}-{key}"), Paired::default()));
        Self {
            name,
            random: fastrand::Rng::with_seed(seed ^ name << 32),
            documents: keys.collect(),
            in_flight: BTreeMap::new(),
            counted: 0,
            counting: 0,
            creating: 0,
            acknowledged: 0,
        }
    }

    /// Writes until the node is gone.
    fn write(&mut self, mut client: Client) {
        while self.step(&mut client) {}
    }

    /// One request; false if nobody answered, or the node said that it is stopping.
    fn step(&mut self, client: &mut Client) -> bool {
        let (key, now) = self.pick();
        let ask = self.ask(now);
        match &ask {
            Ask::Count(by) => self.counting = *by,
            Ask::Create(_) => self.creating += 1,
            Ask::Put(_) | Ask::Increment(_) | Ask::Delete => {
                self.in_flight.insert(key.clone(), ask.outcome(now));
            }
            Ask::Bulk(lines) => {
                let outcome =
                    |(key, now, ask): &(String, Option<i64>, Ask)| (key.clone(), ask.outcome(*now));
                self.in_flight.extend(lines.iter().map(outcome));
            }
        }
        match ask.send(client, &key) {
            Ok(answer) if answer.status == 503 => {
                assert_eq!(answer.json()["code"], "not_ready");
                false
            }
            Ok(answer) => match ask {
                Ask::Bulk(lines) => self.acknowledge_lines(&lines, &answer),
                ask => {
                    self.acknowledge(&ask, key, now, answer);
                    true
                }
            },
            Err(_) => false,
        }
    }

    /// Takes note of every line that was answered; false if one said that the node is stopping, or
    /// not all were answered.
    fn acknowledge_lines(&mut self, lines: &[(String, Option<i64>, Ask)], answer: &Answer) -> bool {
        assert_eq!(answer.status, 200);
        let text = String::from_utf8(answer.body.clone()).unwrap();
        // What follows the last end of line was cut off.
        let told = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let mut stopping = false;
        for ((key, now, ask), told) in lines.iter().zip(told) {
            let told: Value = serde_json::from_str(told).unwrap();
            match told["status"].as_u64() {
                Some(200 | 201) => {
                    self.acknowledged += 1;
                    self.in_flight.remove(key);
                    let hashes = told["version"].as_array().unwrap();
                    let quoted: Vec<String> = hashes.iter().map(Value::to_string).collect();
                    let paired = Paired { number: ask.outcome(*now), version: quoted.join(", ") };
                    self.documents.insert(key.clone(), paired);
                }
                _ => {
                    assert_eq!(told["problem"]["code"], "not_ready", "{told}");
                    stopping = true;
                }
            }
        }
        answer.whole && !stopping
    }

    fn pick(&mut self) -> (String, Option<i64>) {
        let at = self.random.usize(..self.documents.len());
        let (key, paired) = self.documents.iter().nth(at).unwrap();
        (key.clone(), paired.number)
    }

    fn ask(&mut self, now: Option<i64>) -> Ask {
        let number = self.random.i64(0..1_000_000);
        match self.random.u8(..20) {
            0 => Ask::Create(number),
            1..=4 => Ask::Count(number),
            5..=7 => Ask::Bulk(self.lines()),
            _ => self.ask_of_one(now),
        }
    }

    /// A write of a document of this writer's.
    fn ask_of_one(&mut self, now: Option<i64>) -> Ask {
        let number = self.random.i64(0..1_000_000);
        match (self.random.u8(..12), now) {
            (0..=1, Some(_)) => Ask::Delete,
            (2..=6, Some(_)) => Ask::Increment(number),
            _ => Ask::Put(number),
        }
    }

    fn lines(&mut self) -> Vec<(String, Option<i64>, Ask)> {
        let picked: BTreeMap<_, _> = (0..LINES).map(|_| self.pick()).collect();
        let line = |(key, now)| (key, now, self.ask_of_one(now));
        picked.into_iter().map(line).collect()
    }

    fn acknowledge(&mut self, ask: &Ask, key: String, now: Option<i64>, answer: Answer) {
        let status = [200, 201].contains(&answer.status);
        let text = String::from_utf8_lossy(&answer.body);
        assert!(status, "writer {} at {key}, {now:?}: {} {text}", self.name, answer.status);
        self.acknowledged += 1;
        self.in_flight.remove(&key);
        let key = match ask {
            Ask::Count(_) => {
                self.counted += mem::take(&mut self.counting);
                return;
            }
            Ask::Create(_) => {
                self.creating -= 1;
                answer.json()["key"].as_str().unwrap().to_owned()
            }
            Ask::Put(_) | Ask::Increment(_) | Ask::Delete | Ask::Bulk(_) => key,
        };
        let paired = Paired { number: ask.outcome(now), version: answer.version };
        self.documents.insert(key, paired);
    }

    /// Reads every document of this writer, and goes on from what it finds.
    fn check(&mut self, client: &mut Client) {
        let in_flight = mem::take(&mut self.in_flight);
        for (key, paired) in &mut self.documents {
            let found = read(client, key, &paired.version);
            let maybe = in_flight.get(key).copied();
            let there = found == paired.number || maybe == Some(found);
            assert!(there, "{key}: acknowledged {paired:?}, in flight {maybe:?}, found {found:?}");
            paired.number = found;
        }
    }
}

impl Ask {
    /// What is there after it.
    fn outcome(&self, now: Option<i64>) -> Option<i64> {
        match self {
            Self::Put(number) | Self::Create(number) => Some(*number),
            Self::Increment(by) => now.map(|now| now + by),
            Self::Delete | Self::Count(_) | Self::Bulk(_) => None,
        }
    }

    /// A line of a bulk write.
    fn line(&self, key: &str) -> Value {
        let counter = |by: &i64| json!({ "$counter": by });
        let up = |path, by| json!({ "op": "increment", "path": path, "by": by });
        let mut line = match self {
            Self::Put(n) => {
                json!({ "op": "put", "typed": true, "value": { "x": counter(n), "y": counter(n) } })
            }
            Self::Increment(by) => json!({ "op": "patch", "value": [up("/x", by), up("/y", by)] }),
            Self::Delete | Self::Create(_) | Self::Count(_) | Self::Bulk(_) => {
                json!({ "op": "delete" })
            }
        };
        line["collection"] = "crash".into();
        line["key"] = key.into();
        line
    }

    fn send(&self, client: &mut Client, key: &str) -> io::Result<Answer> {
        let pair = |n: &i64| format!(r#"{{"x":{{"$counter":{n}}},"y":{{"$counter":{n}}}}}"#);
        let up = |by: &i64| {
            let one = |path| format!(r#"{{"op":"increment","path":"{path}","by":{by}}}"#);
            format!("[{},{}]", one("/x"), one("/y"))
        };
        let (verb, path, kind, body) = match self {
            Self::Put(number) => ("PUT", format!("{COLLECTION}/{key}"), TYPED, pair(number)),
            Self::Create(number) => ("POST", COLLECTION.to_owned(), TYPED, pair(number)),
            Self::Increment(by) => ("PATCH", format!("{COLLECTION}/{key}"), JSON_PATCH, up(by)),
            Self::Count(by) => ("PATCH", format!("{COLLECTION}/{SHARED}"), JSON_PATCH, up(by)),
            Self::Delete => ("DELETE", format!("{COLLECTION}/{key}"), TYPED, String::new()),
            Self::Bulk(lines) => {
                let lines = lines.iter().map(|(key, _, ask)| format!("{}\n", ask.line(key)));
                ("POST", "/v1/_bulk".to_owned(), NDJSON, lines.collect())
            }
        };
        client.send(verb, &path, &[("content-type", kind)], body.as_bytes())
    }
}

/// The number of a pair, from a state that includes a version.
fn read(client: &mut Client, key: &str, version: &str) -> Option<i64> {
    let fields = [("parents", version)];
    let fields = if version.is_empty() { &[][..] } else { &fields };
    let answer = client.send("GET", &format!("{COLLECTION}/{key}"), fields, b"").unwrap();
    match answer.status {
        200 => Some(pair(key, &answer.json())),
        404 => None,
        _ => panic!("{key}: {} {}", answer.status, answer.json()),
    }
}

/// The number that both members hold.
fn pair(key: &str, value: &Value) -> i64 {
    assert_eq!(value["x"], value["y"], "{key} is torn: {value}");
    value["x"].as_i64().unwrap_or_else(|| panic!("{key} is no pair: {value}"))
}

/// Every document of the list, and what the node counts.
fn list(client: &mut Client) -> BTreeSet<String> {
    let (mut keys, mut after) = (BTreeSet::new(), String::new());
    loop {
        let path = format!("{COLLECTION}?limit={PAGE_ROWS}{after}");
        let page = client.send("GET", &path, &[], b"").unwrap().json();
        for row in page["documents"].as_array().unwrap() {
            let key = row["key"].as_str().unwrap();
            pair(key, &row["value"]);
            keys.insert(key.to_owned());
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return keys,
        }
    }
}

/// What a run came to.
#[derive(Debug, Default)]
struct Figures {
    ends: u32,
    checks: u32,
    acknowledged: u64,
    documents: usize,
    slowest_open: Duration,
}

/// The node after it was started again: everything acknowledged is there.
fn check(process: &Process, writers: &mut [Writer], figures: &mut Figures) {
    let mut client = process.client();
    assert!(process.opened_in <= OPEN_TIME_MAX, "opened in {:?}", process.opened_in);
    figures.slowest_open = figures.slowest_open.max(process.opened_in);

    let least: i64 = writers.iter().map(|writer| writer.counted).sum();
    let mut sums = BTreeSet::from([least]);
    for writer in &mut *writers {
        let counting = mem::take(&mut writer.counting);
        sums = sums.iter().flat_map(|sum| [*sum, sum + counting]).collect();
    }
    let shared = read(&mut client, SHARED, "").unwrap_or(0);
    assert!(sums.contains(&shared), "counted {shared}, not one of {sums:?}");
    // What was in flight and arrived is acknowledged now: the node has shown it.
    writers[0].counted += shared - least;
    for writer in &mut *writers {
        writer.check(&mut client);
    }

    let listed = list(&mut client);
    for writer in &*writers {
        for (key, paired) in &writer.documents {
            assert_eq!(listed.contains(key), paired.number.is_some(), "{key} in the list");
        }
    }
    let known = writers.iter().flat_map(|writer| writer.documents.keys());
    let known: BTreeSet<&str> = known.map(String::as_str).chain([SHARED]).collect();
    let unknown = listed.iter().filter(|key| !known.contains(key.as_str())).count();
    let creating: usize = writers.iter().map(|writer| writer.creating).sum();
    assert!(unknown <= creating, "{unknown} documents that nobody named, {creating} in flight");
    let counts = client.send("GET", "/v1/_collections", &[], b"").unwrap().json();
    let counted = counts["collections"][0]["documents"].as_u64().unwrap_or(0);
    assert_eq!(counted, listed.len() as u64, "documents that the node counts, and lists");
    figures.documents = listed.len();
}

/// A node that keeps no document in memory for long.
fn start(data: &Path) -> Process {
    let tiny = |command: &mut Command| {
        command.env("TOMBOLO_CACHE__DOCUMENTS_BYTES", "100000");
        command.env("TOMBOLO_CACHE__BLOCKS_BYTES", "1048576");
    };
    Process::try_start(data, tiny).unwrap()
}

/// Starts a node, lets all write for a while, and ends it, for each of the ends.
fn run(ends: impl Iterator<Item = End>, seed: u64) -> Figures {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut writers: Vec<_> = (0..WRITERS).map(|name| Writer::new(name, seed)).collect();
    let mut figures = Figures::default();
    let mut process = start(&data);
    for end in ends {
        let time = Duration::from_millis(random.u64(100..=600));
        thread::scope(|scope| {
            for writer in &mut writers {
                let client = process.client();
                scope.spawn(move || writer.write(client));
            }
            #[expect(clippy::disallowed_methods, reason = "a process of its own takes real time")]
            thread::sleep(time);
            match end {
                End::Kill => process.kill(),
                End::Stop => process.stop(),
            }
        });
        figures.ends += 1;
        if figures.ends % CHECK_EVERY == 0 {
            let (clean, found, said) = tombolo(&["check", "--data", data.to_str().unwrap()]);
            assert!(clean, "after {} ends: {found}{said}", figures.ends);
            figures.checks += 1;
        }
        process = start(&data);
        check(&process, &mut writers, &mut figures);
    }
    figures.acknowledged = writers.iter().map(|writer| writer.acknowledged).sum();
    figures
}

#[expect(clippy::disallowed_methods, reason = "how much to test is said by who runs the test")]
fn kills() -> usize {
    env::var("TOMBOLO_KILLS").map_or(12, |text| text.parse().unwrap())
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "SKIPPED: needs the feature rocksdb")]
fn what_was_acknowledged_is_there_after_kills_and_stops() {
    // Now and then a stop, so that what it leaves is met by kills, too.
    let end = |count: usize| if count % 5 == 4 { End::Stop } else { End::Kill };
    let figures = run((0..kills()).map(end), 1);
    eprintln!("{figures:?}");
    assert!(0 < figures.acknowledged && 0 < figures.documents, "the writers wrote: {figures:?}");
}
