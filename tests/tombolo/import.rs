//! The program as it imports and exports: files in, files out, and what goes wrong with them.

use crate::process::{Process, signal};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A node, and a folder for files beside its data.
struct Place {
    node: Option<Process>,
    folder: tempfile::TempDir,
    url: String,
}

#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    talk: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let node = Process::start(&folder.path().join("data"));
        let url = format!("http://{}", node.address);
        Self { node: Some(node), folder, url }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn program(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tombolo"));
        command.args(line.split(' ')).current_dir(self.folder.path());
        command.env_clear().env("TOMBOLO_URL", &self.url);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, line: &str) -> Done {
        let output = self.program(line).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code(), out: text(output.stdout), talk: text(output.stderr) }
    }

    /// Runs an import and gives documents, unchanged, failed.
    fn import(&self, line: &str) -> (i32, u64, u64, u64) {
        let done = self.run(line);
        let summary: Value = serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{done:?}"));
        let count = |name: &str| summary[name].as_u64().unwrap();
        (done.code.unwrap(), count("documents"), count("unchanged"), count("failed"))
    }

    /// All values of a collection by key.
    fn values(&self, collection: &str) -> BTreeMap<String, Value> {
        let done = self.run(&format!("export {collection}"));
        assert_eq!(done.code, Some(0), "{done:?}");
        rows(&done.out)
    }
}

fn rows(text: &str) -> BTreeMap<String, Value> {
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        (row["key"].as_str().unwrap().to_owned(), row["value"].clone())
    };
    text.lines().map(row).collect()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

/// So many documents as lines, with an `id`.
fn lines(count: usize) -> String {
    let line =
        |n| format!("{{\"id\":\"d{n}\",\"n\":{n},\"f\":{n}.5,\"l\":[{{\"é\":\"\\n\"}},null]}}\n");
    (0..count).map(line).collect()
}

#[test]
fn every_kind_of_file_gives_the_same_documents() {
    let place = Place::new();
    let text = lines(300);
    let array = format!("[\n{}]\n", text.trim_end().replace('\n', ",\n  "));
    let pretty: Vec<Value> = serde_json::from_str(&array).unwrap();
    let expected: BTreeMap<String, Value> =
        pretty.iter().map(|row| (row["id"].as_str().unwrap().to_owned(), row.clone())).collect();
    for (name, bytes) in [
        ("a.ndjson", text.clone().into_bytes()),
        ("b.json", array.clone().into_bytes()),
        ("c.json", serde_json::to_vec_pretty(&pretty).unwrap()),
        ("d.gz", gzip(text.as_bytes())),
        ("e.zst", zstd::encode_all(array.as_bytes(), 3).unwrap()),
        ("f.txt", ["\u{feff}", &text.replace('\n', "\r\n\r\n")].concat().into_bytes()),
    ] {
        place.write(name, bytes);
        let collection = name.split('.').next().unwrap();
        let line = format!("import {collection} {name} --key id");
        assert_eq!(place.import(&line), (0, 300, 0, 0), "{name}");
        assert_eq!(place.import(&line), (0, 300, 300, 0), "{name}, again");
        assert_eq!(place.values(collection), expected, "{name}");
    }
    let input = fs::File::open(place.folder.path().join("d.gz")).unwrap();
    let done = place.program("import g - --key id").stdin(input).output().unwrap();
    assert!(done.status.success());
    assert_eq!(place.values("g"), expected);
}

#[test]
fn an_export_is_what_was_imported_and_goes_back_in() {
    let place = Place::new();
    let tricky = json!({
        "ints": [0, -1, i64::MIN, i64::MAX, u64::MAX],
        "floats": [0.1, 1e300, 5e-324, -0.0, 1.0],
        "text": "\u{0}\n\"\\/\u{1f600}", "": {"": [[], {}]}, "$odd": {"$counter": "no"},
        "key": "k", "value": {},
    });
    let (two, many) = (json!({"key": "x", "value": 7}), lines(2500));
    place.write("all.ndjson", format!("{tricky}\n{two}\n{many}"));
    assert_eq!(place.import("import one all.ndjson"), (0, 2502, 0, 0));
    let done = place.run("export one --out one.ndjson");
    assert_eq!((done.code, done.out.as_str()), (Some(0), ""), "{done:?}");
    let exported = fs::read_to_string(place.folder.path().join("one.ndjson")).unwrap();
    let found: Vec<Value> = rows(&exported).into_values().collect();
    let imported: Vec<Value> = [tricky.to_string(), two.to_string()]
        .iter()
        .map(String::as_str)
        .chain(many.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(found, imported, "rows without keys keep their order");

    assert_eq!(place.import("import two one.ndjson"), (0, 2502, 0, 0));
    assert_eq!(place.values("two"), rows(&exported));
    let part = |name: &str| name.contains(".part-");
    let left: Vec<_> = fs::read_dir(place.folder.path()).unwrap().collect();
    assert!(!left.into_iter().any(|entry| part(entry.unwrap().file_name().to_str().unwrap())));
}

#[test]
fn bad_rows_are_told_with_their_place_and_the_others_are_imported() {
    let place = Place::new();
    place.write(
        "mixed.ndjson",
        "{\"id\":1}\nnonsense\n\n{\"id\":2},{}\n{\"a\":1}\n[3]\n{\"id\":\"_x\"}\n{\"id\":3,\"id\":3}\n{\"id\":4}",
    );
    let done = place.run("import notes mixed.ndjson --key id");
    assert_eq!(done.code, Some(1), "{done:?}");
    let told: Vec<&str> =
        done.talk.lines().map(|line| line.split_inclusive(':').nth(1).unwrap()).collect();
    assert_eq!(told.len(), 7, "{done:?}");
    for (line, why) in [
        (2, "expected ident"),
        (4, "trailing characters"),
        (5, "there is no \"id\""),
        (6, "there is no \"id\""),
        (7, "bad_key"),
        (8, "duplicate_key"),
    ] {
        let place = format!("mixed.ndjson:{line}: ");
        let found = done.talk.lines().find(|talk| talk.starts_with(&place));
        assert!(found.is_some_and(|talk| talk.contains(why)), "{line} {why}: {done:?}");
    }
    assert!(done.talk.ends_with("6 of what was to be imported was not\n"), "{done:?}");
    assert_eq!(done.out, "{\"documents\":2,\"failed\":6,\"unchanged\":0}\n");
    let keys: Vec<String> = place.values("notes").into_keys().collect();
    assert_eq!(keys, ["1", "4"]);

    place.write("bad.ndjson", "x\n".repeat(1000) + "{\"id\":5}\n");
    let done = place.run("import notes bad.ndjson");
    assert!(done.talk.lines().count() < 30, "{}", done.talk);
    assert!(done.out.contains("\"documents\":1,\"failed\":1000"), "{done:?}");
}

#[test]
fn files_that_are_none_say_why() {
    let place = Place::new();
    let text = lines(5000);
    place.write("good.ndjson", "{\"a\":1}\n");
    let half = gzip(text.as_bytes());
    place.write("half.gz", &half[..half.len() / 2]);
    place.write("half.json", format!("[{}", text.trim_end().replace('\n', ",")));
    place.write("binary", b"\x7fELF\0\0\0\0");
    place.write("empty", "");
    place.write("archive.zip", b"PK\x03\x04....");
    for (files, code, why) in [
        ("none.json good.ndjson", 1, "none.json: No such file"),
        (". good.ndjson", 1, ".: is a directory"),
    ] {
        let done = place.run(&format!("import before {files}"));
        assert_eq!((done.code, done.out.as_str()), (Some(code), ""), "{done:?}");
        assert!(done.talk.contains(why), "{done:?}");
    }
    let done = place.run("export before");
    assert_eq!(done.code, Some(3), "nothing is written before all files are found: {done:?}");
    for (file, documents, code, why) in [
        ("/dev/null", 0, 0, ""),
        ("empty", 0, 0, ""),
        ("binary", 0, 1, "binary: is no JSON: there are bytes 0 in it"),
        ("archive.zip", 0, 1, "archive.zip: is a zip archive"),
        ("half.gz", 1, 1, "half.gz: "),
        ("half.json", 4999, 1, "half.json: ends in the middle of its array"),
    ] {
        let done = place.run(&format!("import notes {file} good.ndjson"));
        let summary: Value = serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{done:?}"));
        let imported = summary["documents"].as_u64().unwrap();
        assert_eq!(done.code, Some(code), "{file}: {done:?}");
        assert!(documents < imported && imported <= 5000, "{file}: {summary}, and the good one");
        assert!(done.talk.contains(why), "{file}: {done:?}");
    }
    let unwritable = place.run("import before good.ndjson --key");
    assert_eq!(unwritable.code, Some(2), "{unwritable:?}");
}

#[test]
#[cfg(unix)]
fn an_export_goes_through_links_and_pipes_and_keeps_modes() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    let place = Place::new();
    let at = |name: &str| place.folder.path().join(name);
    place.write("all.ndjson", lines(100));
    place.write("target.ndjson", "old");
    fs::set_permissions(at("target.ndjson"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("target.ndjson", at("link")).unwrap();
    symlink("nowhere", at("broken")).unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    assert_eq!(place.import("import one all.ndjson"), (0, 100, 0, 0));

    assert_eq!(place.run("export one --out link").code, Some(0));
    assert!(at("link").is_symlink());
    let exported = fs::read_to_string(at("target.ndjson")).unwrap();
    assert_eq!(exported.lines().count(), 100);
    let mode = fs::metadata(at("target.ndjson")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let reader = Command::new("cat").arg(at("pipe")).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(place.run("export one --out pipe").code, Some(0));
    assert_eq!(reader.wait_with_output().unwrap().stdout, exported.as_bytes());
    assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());

    for refused in ["broken", "."] {
        let done = place.run(&format!("export one --out {refused}"));
        assert_ne!(done.code, Some(0), "{done:?}");
    }
    assert!(at("broken").is_symlink() && !at("nowhere").exists());
}

#[test]
fn a_node_that_is_not_there_or_refuses_ends_the_import() {
    let place = Place::new();
    place.write("a.ndjson", lines(10));
    let done = place.run("import a a.ndjson --url http://127.0.0.1:1");
    assert_eq!(done.code, Some(5), "{done:?}");
    let done = place.run("import a a.ndjson --url http://127.0.0.1:1/x?y");
    assert_eq!(done.code, Some(2), "{done:?}");
    let done = place.run(&format!("import a a.ndjson --url {}/elsewhere", place.url));
    assert_eq!(done.code, Some(3), "{done:?}");
    let done = place.run("export a --url http://127.0.0.1:1 --out x");
    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(!place.folder.path().join("x").exists());
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "SKIPPED: needs the feature rocksdb")]
fn an_import_outlives_its_node_and_goes_on_where_it_was_killed() {
    let mut place = Place::new();
    let text = lines(30_000);
    place.write("a.ndjson", &text);
    let data = place.folder.path().join("data");
    // The client goes: what it had written is found again.
    let mut child = place.program("import a a.ndjson").spawn().unwrap();
    wait_for(&place, "a");
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, documents, _, failed) = place.import("import a a.ndjson");
    assert_eq!((code, documents, failed), (0, 30_000, 0));
    // The node goes and comes back at its address: the client waits for it.
    let child = place.program("import b a.ndjson").spawn().unwrap();
    wait_for(&place, "b");
    let address = place.node.as_ref().unwrap().address;
    place.node.take().unwrap().kill();
    place.node = Some(Process::start_at(&data, &address.to_string()));
    let done = child.wait_with_output().unwrap();
    let talk = String::from_utf8(done.stderr).unwrap();
    if done.status.success() {
        assert_eq!(place.import("import b a.ndjson"), (0, 30_000, 30_000, 0), "{talk}");
    } else {
        // The node was gone before anything was answered, which ends the import at once.
        assert_eq!(done.status.code(), Some(5), "{talk}");
        assert_eq!(place.import("import b a.ndjson").0, 0, "{talk}");
    }
    let expected: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for collection in ["a", "b"] {
        let values: Vec<Value> = place.values(collection).into_values().collect();
        assert_eq!(values, expected, "each once, in the order of the file");
    }
}

/// Until the node holds documents of a collection.
fn wait_for(place: &Place, collection: &str) {
    let mut client = place.node.as_ref().unwrap().client();
    loop {
        let body = client.send("GET", "/v1/_collections", &[], b"").unwrap().json();
        let collections = body["collections"].as_array().unwrap();
        if collections.iter().any(|found| found["name"] == collection) {
            return;
        }
    }
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "SKIPPED: needs the feature rocksdb")]
fn an_export_that_breaks_off_leaves_no_file() {
    let mut place = Place::new();
    let long = "x".repeat(100_000);
    let text: String = (0..300).map(|n| format!("{{\"n\":{n},\"long\":\"{long}\"}}\n")).collect();
    place.write("a.ndjson", text);
    assert_eq!(place.import("import a a.ndjson"), (0, 300, 0, 0));
    let out = place.folder.path().join("out.ndjson");
    let child = place.program("export a --out out.ndjson --timeout 5").spawn().unwrap();
    let id = child.id().to_string();
    // Stopped before it has read all, it finds a node that is gone.
    assert!(signal("STOP", &id));
    place.node.take().unwrap().kill();
    assert!(signal("CONT", &id));
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(5), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(!out.exists());
    assert!(parts(place.folder.path()).is_empty());
}

fn parts(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.contains(".part-"))
        .collect()
}

#[test]
fn saved_documents_come_in_and_go_out_whole() {
    use automerge::{AutoCommit, ROOT, ReadDoc, transaction::Transactable};
    let place = Place::new();
    let mut document = AutoCommit::new();
    for n in 0..40 {
        document.put(ROOT, "n", n).unwrap();
        document.commit();
    }
    place.write("a%2Fb é.automerge", document.save());
    place.write("half.automerge", &document.save()[..60]);
    place.write("_x.automerge", document.save());
    let files = ["a%2Fb é.automerge", "half.automerge", "_x.automerge"];
    let run = |words: &[&str]| {
        let output = place.program("import notes").args(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, talk) = run(&files);
    assert_eq!(code, Some(1), "{talk}");
    let summary: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(summary, json!({"documents": 1, "unchanged": 0, "failed": 2}), "{talk}");
    assert!(talk.contains("half.automerge") && talk.contains("bad_changes"), "{talk}");
    assert!(talk.contains("_x.automerge: the name of the file is no key"), "{talk}");
    // Again, and with what came to it elsewhere.
    document.put(ROOT, "more", true).unwrap();
    document.commit();
    for (bytes, unchanged) in [(None, 1), (Some(document.save()), 0)] {
        bytes.map(|bytes| place.write(files[0], bytes));
        let (_, out, talk) = run(&files[..1]);
        let summary: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(summary["unchanged"], unchanged, "{talk}");
    }
    let done = place.run("export notes --automerge --out saved");
    assert_eq!(done.code, Some(0), "{done:?}");
    let saved = fs::read(place.folder.path().join("saved/a%2Fb%20%C3%A9.automerge")).unwrap();
    let mut again = AutoCommit::load(&saved).unwrap();
    assert_eq!(again.get_heads(), document.get_heads());
    assert_eq!(again.get(ROOT, "n").unwrap().unwrap().0.as_i64(), Some(39));
    let refused = place.run("export notes --automerge --out saved");
    assert!(refused.code == Some(1) && refused.talk.contains("holds other files"), "{refused:?}");
    assert_eq!(place.run("export notes --automerge").code, Some(2));
    assert_eq!(place.run("import notes --key id half.automerge").code, Some(2));
}

#[test]
fn a_history_larger_than_any_body_goes_out_and_comes_in() {
    let place = Place::new();
    let mut random = fastrand::Rng::with_seed(7);
    let mut client = place.node.as_ref().unwrap().client();
    let mut last = String::new();
    // More than is inflated unseen, so that it is opened by another process first.
    for _ in 0..10 {
        let text: String = std::iter::repeat_with(|| random.alphanumeric()).take(4 << 20).collect();
        last = json!({ "text": text }).to_string();
        let answer = client.send("PUT", "/v1/notes/long", &[], last.as_bytes()).unwrap();
        assert!(answer.status < 300, "{answer:?}");
    }
    let done = place.run("export notes --automerge --out saved");
    assert_eq!(done.code, Some(0), "{}", done.talk);
    let saved = fs::metadata(place.folder.path().join("saved/long.automerge")).unwrap().len();
    assert!(8 << 20 < saved && saved < 64 << 20, "{saved}");
    assert_eq!(place.import("import others saved/long.automerge"), (0, 1, 0, 0));
    let [there, here] = ["notes", "others"].map(|collection| {
        let path = format!("/v1/{collection}/long");
        let answer = client.send("GET", &path, &[], b"").unwrap();
        assert!(answer.body == last.as_bytes(), "{collection}: {} bytes", answer.body.len());
        answer.version
    });
    assert!(!there.is_empty() && there == here, "{there:?} {here:?}");
    // And the same is nothing new.
    assert_eq!(place.import("import others saved/long.automerge"), (0, 1, 1, 0));
}
