//! The program itself: what it prints, where, and how it ends.

use crate::process::Process;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use tokio::time::Instant;

/// A node that runs as a program of its own.
struct Node {
    process: Process,
    _folder: tempfile::TempDir,
}

/// What a command did.
#[derive(Debug)]
struct Done {
    code: i32,
    out: String,
    talk: String,
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tombolo"));
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end.
fn run(command: &mut Command, input: &str) -> Done {
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done {
        code: output.status.code().unwrap(),
        out: text(output.stdout),
        talk: text(output.stderr),
    }
}

/// Runs the words of a line, without a node.
fn words(line: &str) -> Done {
    run(program().args(line.split(' ')), "")
}

impl Node {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { process: Process::start(&folder.path().join("data")), _folder: folder }
    }

    fn run(&self, line: &str, input: &str) -> Done {
        run(self.program().args(line.split(' ')), input)
    }

    /// The program, told of this node.
    fn program(&self) -> Command {
        let mut command = program();
        command.env("TOMBOLO_URL", format!("http://{}", self.process.address));
        command
    }

    fn stop(self) {
        self.process.stop();
    }
}

#[test]
fn documents_are_written_read_listed_and_deleted() {
    let node = Node::start();
    let put = node.run("put notes a/b", r#"{"a":1.0,"b":[true]}"#);
    assert_eq!(put.code, 0, "{put:?}");
    let version = serde_json::from_str::<serde_json::Value>(&put.out).unwrap()["version"][0]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(node.run("get notes a/b", "").out, "{\"a\":1.0,\"b\":[true]}\n");
    let pretty = node.run("get notes a/b -o table", "").out;
    assert_eq!(pretty, "{\n  \"a\": 1.0,\n  \"b\": [\n    true\n  ]\n}\n");
    let meta = node.run("get notes a/b --meta", "").out;
    assert!(meta.contains(&format!(r#""version":["{version}"],"conflicts":0,"value":{{"a":1.0,"#)));

    assert_eq!(node.run("patch notes a/b", r#"{"b":null}"#).code, 0);
    let patch = r#"[{"op":"add","path":"/c","value":2}]"#;
    assert_eq!(node.run("patch notes a/b --type json", patch).code, 0);
    assert_eq!(node.run("get notes a/b", "").out, "{\"a\":1.0,\"c\":2}\n");
    assert_eq!(
        node.run(&format!("get notes a/b --at {version}"), "").out,
        "{\"a\":1.0,\"b\":[true]}\n"
    );
    let late = format!("put notes a/b - --parents {version} -o table");
    let late = node.run(&late, r#"{"a":2,"b":[true]}"#);
    assert!(late.out.starts_with("merged notes a/b\nversion "), "{late:?}");
    assert_eq!(node.run("get notes a/b", "").out, "{\"a\":2,\"c\":2}\n");

    assert_eq!(node.run("ls", "").out, "[{\"name\":\"notes\",\"documents\":1,\"deleted\":0}]\n");
    assert_eq!(node.run("ls notes -o ndjson", "").out.lines().count(), 1);
    assert!(node.run("ls notes -o table", "").out.starts_with("KEY  CONFLICTS  VERSION\na/b  0 "));
    assert_eq!(node.run("ls notes --prefix x", "").out, "[]\n");
    assert_eq!(node.run("rm notes a/b", "").code, 0);
    assert_eq!(node.run("ls notes", "").out, "[]\n");
    node.stop();
}

#[test]
fn a_command_ends_with_a_code_that_says_why() {
    let node = Node::start();
    node.run("put notes a", "{}");
    let zero = "0".repeat(64);
    for (line, input, code, said) in [
        ("get notes none".to_owned(), "", 3, "document_not_found"),
        ("rm notes none".to_owned(), "", 3, "document_not_found"),
        (format!("put notes a - --if-match {zero}"), "{}", 4, "precondition_failed"),
        (format!("put notes a - --parents {zero}"), "{}", 3, "version_not_found"),
        ("put notes a".to_owned(), "[", 1, "bad_json"),
        ("put notes a /no/such/file".to_owned(), "", 1, "/no/such/file"),
        ("get notes _a".to_owned(), "", 2, "belong to the system"),
        ("get Notes a".to_owned(), "", 2, "collection name"),
        ("get notes a --at x".to_owned(), "", 2, "64 lower-case hex digits"),
        ("dance".to_owned(), "", 2, "unrecognized subcommand"),
        ("get notes a --url https://x".to_owned(), "", 2, "TLS"),
        ("get notes a --url http://127.0.0.1:1".to_owned(), "", 5, "cannot be reached"),
    ] {
        let done = node.run(&line, input);
        assert_eq!((done.code, done.out.as_str()), (code, ""), "{line}: {done:?}");
        assert!(done.talk.contains(said), "{line}: {done:?}");
    }
    node.stop();
}

#[test]
fn a_node_that_is_silent_is_left_in_time() {
    for line in ["get notes a", "put notes a", "patch notes a", "rm notes a", "ls", "ls notes"] {
        let done = ask_one_that_says("", line, "0.3");
        assert!(done.talk.ends_with(" did not answer for 0.3 s (--timeout)\n"), "{line}: {done:?}");
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}";
    for line in ["get notes a", "ls notes"] {
        let done = ask_one_that_says(head, line, "2");
        assert!(done.talk.contains(" sent no more of its answer for 2 s"), "{line}: {done:?}");
    }
}

#[test]
fn an_answer_without_end_is_left() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\n";
    let done = ask_one_that("status", "9", |stream| {
        stream.write_all(head).unwrap();
        // Until it is left.
        while stream.write_all(&[b' '; 1 << 20]).is_ok() {}
    });
    assert!(done.talk.ends_with(" sends more than 512 MiB\n"), "{done:?}");
}

/// Runs a command against one that takes the request, says something, and then nothing more.
fn ask_one_that_says(something: &str, line: &str, seconds: &str) -> Done {
    ask_one_that(line, seconds, |stream| stream.write_all(something.as_bytes()).unwrap())
}

/// Runs a command against one that takes the request and does what it will.
fn ask_one_that(line: &str, seconds: &str, does: impl FnOnce(&mut TcpStream) + Send) -> Done {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut command = program();
    command.args(line.split(' ')).args(["--url", &url, "--timeout", seconds]);
    let began = Instant::now();
    let done = thread::scope(|scope| {
        let silent = scope.spawn(|| {
            let mut stream = listener.accept().unwrap().0;
            assert!(0 < stream.read(&mut [0; 1024]).unwrap());
            does(&mut stream);
            stream
        });
        let done = run(&mut command, "{}");
        drop(silent.join());
        done
    });
    assert!(began.elapsed() < Duration::from_secs(30), "{line}");
    assert_eq!(done.code, 5, "{line}: {done:?}");
    assert!(done.talk.starts_with(&format!("tombolo: {url} ")), "{line}: {done:?}");
    done
}

#[test]
fn a_version_is_taken_as_a_node_gave_it() {
    let node = Node::start();
    node.run("put notes a", r#"{"a":1}"#);
    let mut client = node.process.client();
    let mut field = |accept: &str| {
        let answer = client.send("GET", "/v1/notes/a", &[("accept", accept)], b"").unwrap();
        (answer.version, answer.etag)
    };
    let (version, plain) = field("application/json");
    let (_, typed) = field("application/vnd.tombolo.typed+json");
    assert!(typed.ends_with(";t\""), "{typed}");
    for text in [&version, &plain, &typed, plain.trim_matches('"'), typed.trim_matches('"')] {
        let get = run(node.program().args(["get", "notes", "a", "--at", text]), "");
        assert_eq!(get.out, "{\"a\":1}\n", "{text}: {get:?}");
        for flag in ["--parents", "--if-match"] {
            let put = run(node.program().args(["put", "notes", "a", flag, text]), r#"{"a":1}"#);
            assert!(put.out.contains("\"unchanged\":true"), "{flag} {text}: {put:?}");
        }
    }
    node.stop();
}

#[test]
fn a_configuration_is_checked_before_anything_opens() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.toml");
    std::fs::write(&file, "[cache]\ndocument_bytes = 1\n").unwrap();
    let file = file.display();
    for (line, environment, said) in [
        ("serve --listen 0.0.0.0:0".to_owned(), None, "--insecure"),
        (format!("serve --config {file}"), None, "did you mean `documents_bytes`?"),
        (format!("serve --config {file}.none"), None, "there is no file"),
        ("serve".to_owned(), Some(("TOMBOLO_LSTEN", "x")), "did you mean `listen`?"),
        ("serve".to_owned(), Some(("TOMBOLO_CACHE__X", "1")), "`cache.x` is no setting"),
        ("serve".to_owned(), Some(("TOMBOLO_LOG", "a=b=c")), "`log`"),
        ("serve".to_owned(), Some(("TOMBOLO_LISTEN", "[::]:0")), "--insecure"),
        ("serve".to_owned(), Some(("TOMBOLO_CACHE__BLOCKS_BYTES", "0")), "`cache.blocks_bytes`"),
        ("serve".to_owned(), Some(("TOMBOLO_LIMITS__DEPTH_MAX", "0")), "`limits.depth_max`"),
        (
            "serve".to_owned(),
            Some(("TOMBOLO_LIMITS__CONNECTIONS_MAX", "0")),
            "`limits.connections_max` is from 1 to 4294967295",
        ),
        (
            "serve".to_owned(),
            Some(("TOMBOLO_LIMITS__HEAD_SECONDS_MAX", "18446744073709551615")),
            "`limits.head_seconds_max` is from 1 to 86400",
        ),
    ] {
        let mut command = program();
        command.args(line.split(' ')).current_dir(directory.path()).envs(environment);
        let done = run(&mut command, "");
        assert_eq!((done.code, done.talk.contains(said)), (2, true), "{line}: {done:?}");
        assert!(!directory.path().join("tombolo-data").exists(), "{line}");
    }
}

#[test]
fn the_program_says_which_version_it_is() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(words("version -o table").out, format!("tombolo {version}\n"));
    assert_eq!(words("--version").out, format!("tombolo {version}\n"));
    assert_eq!(words("help").code, 0);
}

/// The hash of a document's only head.
fn head(done: &Done) -> String {
    let written: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    written["version"][0].as_str().unwrap().to_owned()
}

#[test]
fn the_past_is_told_in_tables_and_as_json() {
    let node = Node::start();
    let one = head(&node.run("put notes a", r#"{"t":"x\u001b[2J","n":1}"#));
    let two = head(&node.run("patch notes a", r#"{"n":2,"o":{}}"#));
    let late = node.run(&format!("put notes a - --parents {one}"), r#"{"t":"x\u001b[2J","n":3}"#);
    let late: serde_json::Value = serde_json::from_str(&late.out).unwrap();
    let three = late["version"].as_array().unwrap().iter().find(|hash| **hash != two.as_str());
    let three = three.unwrap().as_str().unwrap().to_owned();

    let history = node.run("history notes a", "");
    let changes: serde_json::Value = serde_json::from_str(&history.out).unwrap();
    assert_eq!(changes.as_array().unwrap().len(), 3, "{history:?}");
    assert_eq!(node.run("history notes a --limit 2 -o ndjson", "").out.lines().count(), 2);
    let table = node.run("history notes a -o table", "").out;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("TIME ") && lines.len() == 4, "{table}");
    assert!(lines[3].contains(&one[..8]) && lines[3].contains("replace"), "{table}");

    let diff = node.run(&format!("diff notes a {one} {two}"), "").out;
    assert_eq!(
        diff,
        "[{\"op\":\"replace\",\"path\":\"/n\",\"value\":2},{\"op\":\"add\",\"path\":\"/o\",\"value\":{}}]\n"
    );
    let diff = node.run(&format!("diff notes a {one} -o table"), "").out;
    assert!(diff.starts_with("OP       PATH  VALUE\nreplace  /n    3\n"), "{diff}");
    assert_eq!(node.run(&format!("diff notes a {one} {two} -o ndjson"), "").out.lines().count(), 2);

    let blame = node.run("blame notes a /n -o table", "").out;
    let lines: Vec<&str> = blame.lines().collect();
    assert!(lines.len() == 2 && lines[1].starts_with("/n "), "{blame}");
    assert!(lines[1].contains(&three[..8]), "{blame}");
    let blame = node.run("blame notes a", "").out;
    let leaves: serde_json::Value = serde_json::from_str(&blame).unwrap();
    assert_eq!(leaves.as_array().unwrap().len(), 3, "{blame}");

    assert!(node.run("conflicts notes -o table", "").out.contains("\na    1          "));
    let conflicts = node.run("conflicts notes a -o table", "").out;
    let lines: Vec<&str> = conflicts.lines().collect();
    assert!(lines.len() == 3 && lines[1].starts_with("/n    *  3 "), "{conflicts}");
    assert!(lines[2].starts_with("/n       2 "), "{conflicts}");
    node.run("put notes b", "{}");
    assert_eq!(node.run("conflicts notes -o ndjson", "").out.lines().count(), 1);
    assert_eq!(node.run("conflicts notes b", "").out, "[]\n");

    let reverted = node.run(&format!("revert notes a {one} -o table"), "");
    assert!(reverted.out.starts_with("written notes a\nversion "), "{reverted:?}");
    assert_eq!(node.run("get notes a", "").out, "{\"n\":1,\"t\":\"x\\u001b[2J\"}\n");
    assert_eq!(node.run("conflicts notes a", "").out, "[]\n");

    let unknown = "f".repeat(64);
    for (line, code, talk) in [
        ("history notes nowhere".to_owned(), 3, "document_not_found"),
        ("blame notes nowhere".to_owned(), 3, "document_not_found"),
        (format!("diff notes a {unknown}"), 3, "version_not_found"),
        (format!("revert notes a {unknown}"), 3, "version_not_found"),
        ("diff notes a nonsense".to_owned(), 2, "invalid value"),
        ("blame notes a nonsense".to_owned(), 2, "JSON Pointer"),
        ("history notes a --limit 0".to_owned(), 2, "at least 1"),
        ("quarantine show nonsense".to_owned(), 2, "32 lower-case hex digits"),
        ("quarantine ls --url http://127.0.0.1:1".to_owned(), 5, "cannot be reached"),
        (format!("quarantine drop {}", "0".repeat(32)), 3, "not_found"),
        (format!("quarantine release {}", "0".repeat(32)), 3, "not_found"),
        (format!("quarantine show {}", "0".repeat(32)), 3, "not_found"),
    ] {
        let done = node.run(&line, "");
        assert!(done.code == code && done.talk.contains(talk), "{line}: {done:?}");
    }
    assert_eq!(node.run("quarantine ls", "").out, "[]\n");
    node.stop();
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_damaged_document_is_seen_and_settled_on_the_command_line() {
    use tombolo::store::{
        Batch, Durability, Engine, Range, RocksEngine, RocksOptions, key::Family,
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let start = || Node { process: Process::start(&data), _folder: tempfile::tempdir().unwrap() };
    let node = start();
    for key in ["a", "b"] {
        node.run(&format!("put notes {key}"), r#"{"n":1}"#);
        node.run(&format!("patch notes {key}"), r#"{"n":2}"#);
    }
    node.stop();
    // Behind the node's back: the last chunk of each document is cut short.
    let engine = RocksEngine::open(&data, RocksOptions { blocks_bytes: 1 << 20 }).unwrap();
    let mut last = std::collections::BTreeMap::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        last.insert(key[..16].to_vec(), (key.to_vec(), value.to_vec()));
        std::ops::ControlFlow::Continue(())
    };
    engine.scan(Family::Chunk, &Range::all(), visit).unwrap();
    let mut batch = Batch::default();
    for (key, value) in last.into_values() {
        batch.put(Family::Chunk, key, value[..value.len() - 1].to_vec().into());
    }
    engine.commit(batch, Durability::Sync).unwrap();
    drop(engine);

    let node = start();
    for key in ["a", "b"] {
        let refused = node.run(&format!("patch notes {key}"), r#"{"n":3}"#);
        assert!(refused.code == 1 && refused.talk.contains("quarantined"), "{refused:?}");
    }
    // They are put there while whoever met them is answered; then they are there whatever comes.
    while node.run("quarantine ls -o ndjson", "").out.lines().count() != 2 {
        thread::park_timeout(Duration::from_millis(10));
    }
    node.process.kill();
    let node = start();
    let table = node.run("quarantine ls -o table", "").out;
    assert!(table.starts_with("ID ") && table.contains("  notes/a  "), "{table}");
    let id = |key: &str| {
        let name = format!("  notes/{key}  ");
        let line = table.lines().find(|line| line.contains(&name)).unwrap();
        line.split(' ').next().unwrap().to_owned()
    };
    let out = folder.path().join("bytes");
    let show = format!("quarantine show {} --out {}", id("a"), out.display());
    assert_eq!(node.run(&show, "").code, 0);
    assert!(50 < std::fs::metadata(&out).unwrap().len());
    assert_eq!(node.run(&show, "").code, 1, "what is there is not written over");
    let released = node.run(&format!("quarantine release {} -o table", id("a")), "");
    assert!(released.out.contains("released notes a, without 1 pieces"), "{released:?}");
    assert_eq!(node.run("get notes a", "").out, "{\"n\":1}\n");
    let dropped = node.run(&format!("quarantine drop {}", id("b")), "");
    assert!(dropped.code == 0 && dropped.talk.starts_with("dropped "), "{dropped:?}");
    assert_eq!(node.run("get notes b", "").code, 3);
    assert_eq!(node.run("quarantine ls", "").out, "[]\n");
    assert_eq!(node.run("put notes b", "{}").code, 0);
    node.stop();
    let checked = words(&format!("check --data {}", data.display()));
    assert_eq!(checked.code, 0, "{checked:?}");
}
