//! Damaged files: nothing wrong is served, `check` finds it, `repair` mends it.
//!
//! `TOMBOLO_FLIPS=n` flips n bytes, each in a copy of its own.

use crate::process::{Client, Process, copy, tombolo};
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tombolo::{
    ident::Name,
    node::{self, Error, ListQuery, Node, Options, Told},
    store::{OpenError, RocksEngine, RocksOptions},
};

/// JSON of every document that lives, by `collection/key`.
type Documents = BTreeMap<String, String>;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn noise(random: &mut fastrand::Rng, length: usize) -> String {
    (0..length).map(|_| random.alphanumeric()).collect()
}

/// A data directory as a kill leaves it: tables, blobs, and a log that is not empty.
fn sample(data: &Path) -> Documents {
    let mut random = fastrand::Rng::with_seed(7);
    let mut documents = Documents::new();
    for start in 0..4 {
        let process = Process::start(data);
        let mut client = process.client();
        for _ in 0..80 {
            let name = format!("c{}/d{}", random.u8(..3), random.u8(..100));
            if random.u8(..10) == 0 {
                client.send("DELETE", &format!("/v1/{name}"), &[], b"").unwrap();
                documents.remove(&name);
                continue;
            }
            let length = if random.bool() { 50 } else { 9_000 };
            let value = format!(r#"{{"n":{start},"s":"{}"}}"#, noise(&mut random, length));
            put(&mut client, &name, &value);
            documents.insert(name, value);
        }
        process.kill();
    }
    documents
}

fn put(client: &mut Client, name: &str, value: &str) {
    let fields = [("content-type", "application/json")];
    let path = format!("/v1/{name}");
    assert!(client.send("PUT", &path, &fields, value.as_bytes()).unwrap().status < 300);
}

/// The files of a store that hold anything, by name.
fn files(rows: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(rows).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The reports are for people, and the lock has no content.
    files.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        !name.starts_with("LOG") && fs::metadata(path).unwrap().len() != 0
    });
    files.sort();
    files
}

const BLOCKS: RocksOptions = RocksOptions { blocks_bytes: 8 << 20 };

/// How many things a check finds wrong; refusing to open is one.
fn check(data: &Path) -> usize {
    let mut found = 0;
    let Ok(engine) = RocksEngine::open_read_only(data, BLOCKS) else { return 1 };
    let mut told = |told| found += usize::from(matches!(told, Told::Found(_)));
    match node::check(Arc::new(engine), &mut told) {
        Ok(_) => found,
        Err(_) => 1,
    }
}

/// What a node serves of a damaged directory.
#[derive(Debug, Default)]
struct Served {
    /// Why it did not start.
    refused: Option<String>,
    right: usize,
    failed: usize,
}

/// Reads every document, one by one and in lists: each is right, or an error.
async fn serve(data: &Path, documents: &Documents, at: &str) -> Served {
    let options = Options { documents_bytes: 1 << 20, shards: 1, ..Options::default() };
    let refused = |why: &dyn std::fmt::Display| Served {
        refused: Some(why.to_string()),
        ..Served::default()
    };
    let engine = loop {
        match RocksEngine::open(data, BLOCKS) {
            Ok(engine) => break Arc::new(engine),
            // A test beside this one starts a process, which holds the lock of `check` until it is itself.
            Err(OpenError::Locked(_)) => tokio::task::yield_now().await,
            Err(error) => return refused(&error),
        }
    };
    let open = Arc::downgrade(&engine);
    let node = match Node::start(options, engine) {
        Ok(node) => node,
        Err(error) => return refused(&error),
    };
    let mut served = Served::default();
    for (name, value) in documents {
        let (collection, key) = name.split_once('/').unwrap();
        let name = Name::new(collection.parse().unwrap(), key.parse().unwrap()).unwrap();
        match node.read(&name).await {
            Ok(reading) => {
                assert_eq!(reading.body, value.as_bytes(), "{at}: {collection}/{key}");
                served.right += 1;
            }
            Err(Error::Damaged(_) | Error::Internal(_)) => served.failed += 1,
            Err(other) => panic!("{at}: {collection}/{key}: {other}"),
        }
    }
    for collection in ["c0", "c1", "c2"] {
        let query = ListQuery { prefix: String::new(), after: None, limit: 1000, values: true };
        let Ok(page) = node.list(&collection.parse().unwrap(), query).await else { continue };
        for row in page.rows {
            let name = format!("{collection}/{}", row.name.key());
            let right = documents.get(&name).map(String::as_bytes);
            assert_eq!(row.json.as_deref(), right, "{at}: {name} in the list");
        }
    }
    node.stop().await;
    drop(node);
    // The last read may hold it for a moment.
    while open.strong_count() != 0 {
        tokio::task::yield_now().await;
    }
    served
}

#[expect(clippy::disallowed_methods, reason = "how much to test is said by who runs the test")]
fn flips() -> usize {
    env::var("TOMBOLO_FLIPS").map_or(40, |text| text.parse().unwrap())
}

#[tokio::test]
async fn after_a_flipped_byte_check_finds_it_and_the_rest_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let documents = sample(&data);
    let files = files(&data.join("rocksdb"));
    assert_eq!(check(&data), 0, "the sample is sound");
    let mut random = fastrand::Rng::with_seed(1);
    let (mut found, mut refused, mut partly, mut harmless) = (0, 0, 0, 0);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for flip in 0..flips() {
        let copied = folder.path().join(format!("flip {flip}"));
        copy(&data, &copied);
        // Half of them in any file, half in any byte: most bytes are those of documents.
        let file = if flip % 2 == 0 {
            &files[random.usize(..files.len())]
        } else {
            let lengths = files.iter().map(|file| fs::metadata(file).unwrap().len());
            let mut at = random.u64(..lengths.clone().sum::<u64>());
            let hit = |length: u64| {
                let inside = at < length;
                at = at.saturating_sub(length);
                inside
            };
            &files[lengths.map(hit).position(|inside| inside).unwrap()]
        };
        let path = copied.join("rocksdb").join(file.file_name().unwrap());
        let mut bytes = fs::read(&path).unwrap();
        let byte = random.usize(..bytes.len());
        bytes[byte] ^= 1 << random.u8(..8);
        fs::write(&path, bytes).unwrap();
        let at = format!("flip {flip}: byte {byte} of {}", path.display());
        let wrong = check(&copied);
        let served = serve(&copied, &documents, &at).await;
        if served.refused.is_some() || served.failed != 0 {
            assert_ne!(wrong, 0, "{at}: check found nothing, but {served:?}");
        }
        if served.refused.is_some() {
            let salvaged = repair(&copied, &at);
            serve_repaired(&copied, &documents, salvaged, &at);
        } else {
            assert!(documents.len() / 4 < served.right, "{at}: {served:?}");
        }
        found += usize::from(wrong != 0);
        refused += usize::from(served.refused.is_some());
        partly += usize::from(served.refused.is_none() && served.failed != 0);
        harmless += usize::from(wrong == 0);
        let name = file.extension().or(file.file_name()).unwrap().to_str().unwrap();
        let outcome = match (&served, wrong) {
            (Served { refused: Some(_), .. }, _) => "the rest is served once repaired",
            (Served { failed: 0, .. }, 0) => "harmless",
            (Served { failed: 0, .. }, _) => "found, all served",
            _ => "the rest is served",
        };
        *outcomes.entry(format!("{}: {outcome}", name.split('-').next().unwrap())).or_insert(0) +=
            1;
        fs::remove_dir_all(&copied).unwrap();
    }
    eprintln!(
        "{found} found, {refused} to be repaired, {partly} served the rest, {harmless} harmless"
    );
    eprintln!("{outcomes:#?}");
    assert!(0 < found && 0 < partly, "{found} {refused} {partly} {harmless}");
}

/// A directory, damaged; what `repair` has to be told; how many documents may be lost.
type Case = (&'static str, fn(&Path), bool);

fn of_kind(rows: &Path, kind: &str) -> Vec<PathBuf> {
    let mut files = files(rows);
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().contains(kind));
    files
}

const CASES: &[Case] = &[
    ("a damaged blob", |rows| overwrite(&of_kind(rows, ".blob")[0], 3_000), false),
    ("a damaged table", |rows| overwrite(&of_kind(rows, ".sst")[1], 100), false),
    ("a missing blob file", |rows| fs::remove_file(&of_kind(rows, ".blob")[0]).unwrap(), true),
    ("a missing table", |rows| fs::remove_file(&of_kind(rows, ".sst")[2]).unwrap(), true),
    ("a damaged log", |rows| overwrite(of_kind(rows, ".log").last().unwrap(), 5_000), true),
    ("a log that ends in zeros", |rows| zero_end(of_kind(rows, ".log").last().unwrap()), true),
    ("no CURRENT", |rows| fs::remove_file(rows.join("CURRENT")).unwrap(), true),
    ("a damaged CURRENT", |rows| fs::write(rows.join("CURRENT"), "nothing\n").unwrap(), true),
    ("a damaged manifest", |rows| overwrite(of_kind(rows, "MANIFEST").last().unwrap(), 50), true),
];

fn overwrite(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    for byte in &mut bytes[at..at + 20] {
        *byte ^= 0x55;
    }
    fs::write(path, bytes).unwrap();
}

fn zero_end(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let length = bytes.len();
    bytes[length - 300..].fill(0);
    fs::write(path, bytes).unwrap();
}

/// Repairs a directory, as one does who knows what collections there are; whether it had to pass over
/// damage.
fn repair(data: &Path, case: &str) -> bool {
    let collections = ["--collection", "c0", "--collection", "c1", "--collection", "c2"];
    let repair = [&["repair", "--data", text(data)][..], &collections].concat();
    let (well, out, said) = tombolo(&repair);
    if well {
        return false;
    }
    assert!(said.contains("--salvage"), "{case}: {out}{said}");
    let (well, out, said) = tombolo(&[&repair[..], &["--salvage"]].concat());
    assert!(well && said.contains("did not open"), "{case}: {out}{said}");
    true
}

/// A repaired directory is clean, takes writes and serves each document right, or says that it
/// cannot; after a salvage some may be as they were before, or gone.
fn serve_repaired(data: &Path, documents: &Documents, salvaged: bool, case: &str) {
    let (clean, out, said) = tombolo(&["check", "--data", text(data)]);
    assert!(clean, "{case}: {out}{said}");
    let process = Process::start(data);
    let mut client = process.client();
    let (mut right, mut kept, mut lost) = (0, 0, 0);
    for (name, value) in documents {
        let answer = client.send("GET", &format!("/v1/{name}"), &[], b"").unwrap();
        match answer.status {
            200 if answer.body == value.as_bytes() => right += 1,
            503 => {
                assert_eq!(answer.json()["code"], "quarantined");
                kept += 1;
            }
            200 | 404 if salvaged => lost += 1,
            status => panic!("{case}: {name}: {status} {}", answer.json()),
        }
    }
    put(&mut client, "new/document", "{}");
    eprintln!("{case}: {right} right, {kept} in quarantine, {lost} lost");
    assert!(documents.len() / 4 < right, "{case}: {right} right, {kept} kept, {lost} lost");
    process.stop();
}

#[test]
fn what_is_repaired_is_clean_and_serves_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let documents = sample(&data);
    for (case, damage, salvage) in CASES {
        let copied = folder.path().join(case);
        copy(&data, &copied);
        damage(&copied.join("rocksdb"));
        let (clean, out, said) = tombolo(&["check", "--data", text(&copied)]);
        assert!(!clean, "{case}: {out}{said}");
        let before = files(&copied.join("rocksdb")).len();
        let (_, dry, said) =
            tombolo(&["repair", "--dry-run", "--salvage", "--data", text(&copied)]);
        assert!(dry.contains("summary"), "{case}: {dry}{said}");
        assert_eq!(files(&copied.join("rocksdb")).len(), before, "{case}: nothing was changed");
        let salvaged = repair(&copied, case);
        assert!(*salvage || !salvaged, "{case}");
        assert_eq!(files(&copied.join("rocksdb.damaged-1")).len(), before, "{case}: all is kept");
        serve_repaired(&copied, &documents, salvaged, case);
    }
}

/// A directory that the first release of its format wrote.
#[test]
fn a_directory_of_every_released_format_opens_is_served_and_is_clean() {
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/format-1");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    copy(&old, &data);
    let (clean, out, said) = tombolo(&["check", "--data", text(&data)]);
    assert!(clean && out.contains(r#""documents":5"#), "{out}{said}");
    let process = Process::start(&data);
    let mut client = process.client();
    let mut read = |path: &str| {
        let answer = client.send("GET", path, &[], b"").unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap())
    };
    assert_eq!(read("/v1/notes/plain"), (200, r#"{"tags":["a","b"],"title":"old"}"#.into()));
    assert_eq!(read("/v1/notes/conflict"), (200, r#"{"status":"done"}"#.into()));
    let conflicts = read("/v1/notes/conflict/_conflicts").1;
    assert!(conflicts.contains(r#""value":"closed""#), "{conflicts}");
    assert_eq!(read("/v1/notes/gone").0, 404);
    let large = format!(r#"{{"text":"{}"}}"#, "tide-".repeat(1200));
    assert_eq!(read("/v1/notes/large"), (200, large), "from a blob file");
    let (status, counted) = read("/v1/counts/many");
    assert_eq!((status, &*counted), (200, r#"{"n":40}"#), "from a snapshot and changes");
    put(&mut client, "notes/plain", r#"{"title":"new"}"#);
    process.stop();
    let (clean, out, said) = tombolo(&["check", "--data", text(&data)]);
    assert!(clean, "{out}{said}");
}
