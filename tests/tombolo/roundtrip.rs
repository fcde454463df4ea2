//! Documents at the bounds: in through REST, out through REST, and the same after a restart.

use crate::process::{Answer, Client, Process};
use std::fmt::Write as _;

/// A document, written as the node writes it: compact, keys in byte order.
struct Case {
    path: String,
    json: String,
}

impl Case {
    fn new(key: &str, json: String) -> Self {
        Self { path: format!("/v1/bounds/{key}"), json }
    }

    fn put(&self, client: &mut Client) -> Answer {
        client.send("PUT", &self.path, &[], self.json.as_bytes()).unwrap()
    }
}

/// A list, or an object's members, of as many parts.
fn joined(count: usize, part: impl Fn(usize) -> String) -> String {
    (0..count).map(part).collect::<Vec<_>>().join(",")
}

/// An object of this depth: the root is depth 1.
fn nested(depth: usize) -> String {
    let (open, close) = (r#"{"a":"#.repeat(depth - 1), "}".repeat(depth - 1));
    format!("{open}{{}}{close}")
}

/// An object of as many bytes, in strings of 1 KiB that are all different.
fn sized(bytes: usize) -> String {
    let (head, tail) = (r#"{"a":["#, "]}");
    let mut json = head.to_owned();
    while json.len() + 2 * 1024 + tail.len() < bytes {
        let number = json.len();
        write!(json, r#""{:01$}","#, number, 1024 - 3).unwrap();
    }
    let rest = bytes - json.len() - tail.len() - 2;
    write!(json, r#""{}"{tail}"#, "é".repeat(rest / 2) + &"e".repeat(rest % 2)).unwrap();
    assert_eq!(json.len(), bytes);
    json
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"))
}

fn accepted() -> Vec<Case> {
    let emoji = "🏝".repeat(512 / '🏝'.len_utf8());
    assert_eq!(emoji.len(), 512);
    let element = |n: usize| match n % 4 {
        0 => format!("{n}"),
        1 => format!("{n}.5"),
        2 => format!(r#""{n}""#),
        _ => format!(r#"{{"id":{n}}}"#),
    };
    vec![
        Case::new("7-mib", sized(7 << 20)),
        Case::new("8-mib", sized(8 << 20)),
        Case::new("keys", format!("{{{}}}", joined(10_000, |n| format!(r#""k{n:05}":{n}"#)))),
        Case::new("list", format!(r#"{{"a":[{}]}}"#, joined(100_000, element))),
        Case::new(&percent_encoded(&emoji), format!(r#"{{"key":"{emoji}"}}"#)),
        Case::new("depth", nested(100)),
        Case::new("numbers", r#"{"a":-9223372036854775808,"b":18446744073709551615,"c":1.0,"d":1e+300,"e":5e-324,"f":-0.0}"#.into()),
        Case::new("strings", r#"{"":"","\u0000":"\u0000\u001f\"\\","a":"  é é 🏝"}"#.into()),
    ]
}

fn refused() -> Vec<(Case, u16, &'static str)> {
    vec![
        (Case::new("too-deep", nested(101)), 400, "too_deep"),
        (Case::new("too-large", sized((8 << 20) + 1)), 413, "too_large"),
        (Case::new(&percent_encoded(&"a".repeat(513)), "{}".into()), 400, "bad_key"),
    ]
}

/// Holds what the node says of a document, as it is and as it was at its version, against what was
/// put. The first comes from the stored view, the second from the document itself.
fn check(process: &Process, cases: &[Case], versions: &[String], when: &str) {
    let mut client = process.client();
    for (case, version) in cases.iter().zip(versions) {
        let at = format!("{}?at={}", case.path, version.trim_matches('"'));
        for path in [&case.path, &at] {
            let answer = client.send("GET", path, &[], b"").unwrap();
            assert_eq!((answer.status, &answer.version), (200, version), "{path} {when}");
            // Megabytes are not printed.
            let pairs = answer.body.iter().zip(case.json.as_bytes());
            let first = pairs.enumerate().find(|(_, (found, put))| found != put);
            let lengths = (answer.body.len(), case.json.len());
            assert!(first.is_none(), "{path} {when}: {first:?} of {lengths:?}");
            assert_eq!(lengths.0, lengths.1, "{path} {when}");
        }
    }
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "SKIPPED: needs the feature rocksdb")]
fn documents_at_the_bounds_are_the_same_after_a_kill_and_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let cases = accepted();
    let process = Process::start(&data);
    let mut client = process.client();
    let versions: Vec<_> = cases
        .iter()
        .map(|case| {
            let answer = case.put(&mut client);
            assert_eq!(answer.status, 201, "{}: {}", case.path, answer.json());
            answer.version
        })
        .collect();
    for (case, status, code) in refused() {
        // A refused body may end the connection.
        let answer = case.put(&mut process.client());
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)));
    }
    check(&process, &cases, &versions, "at first");

    process.kill();
    let process = Process::start(&data);
    check(&process, &cases, &versions, "after a kill");
    process.stop();
    let process = Process::start(&data);
    check(&process, &cases, &versions, "after a stop");
    for (case, _, _) in refused() {
        let answer = process.client().send("GET", &case.path, &[], b"").unwrap();
        assert_ne!(answer.status, 200, "{} was refused", case.path);
    }
}
