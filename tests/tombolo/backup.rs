//! Backups of a running node, and what is made of them.

use crate::process::{Client, Process, copy, skipped, tombolo};
use automerge::AutoCommit;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

const JSON: (&str, &str) = ("content-type", "application/json");

fn put(client: &mut Client, path: &str, body: &str) -> u16 {
    client.send("PUT", path, &[JSON], body.as_bytes()).unwrap().status
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A document with all of its changes, as Automerge saves it.
fn saved(client: &mut Client, path: &str) -> AutoCommit {
    let accept = [("accept", "application/vnd.automerge")];
    let answer = client.send("GET", path, &accept, b"").unwrap();
    assert_eq!(answer.status, 200);
    AutoCommit::load(&answer.body).unwrap()
}

#[test]
fn a_backup_under_load_holds_what_was_acknowledged_and_goes_on_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (data, backup, other) = (path("data"), path("copy"), path("other"));
    let process = Process::start(&data);
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut least, mut last) = (0, 0);
    thread::scope(|scope| {
        let (process, stop, written) = (&process, &stop, &written);
        scope.spawn(move || {
            let mut client = process.client();
            for number in 1.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let at = format!("/v1/load/{}", number % 500);
                assert!(put(&mut client, &at, &format!(r#"{{"x":{number},"y":{number}}}"#)) < 300);
                written.store(number, Ordering::SeqCst);
            }
        });
        while written.load(Ordering::SeqCst) < 1_000 {
            thread::yield_now();
        }
        least = written.load(Ordering::SeqCst);
        let words = ["backup", text(&backup), "--data", text(&data)];
        let (well, out, said) = tombolo(&words);
        assert!(well, "{out}{said}");
        last = written.load(Ordering::SeqCst) + 1;
        stop.store(true, Ordering::SeqCst);
    });
    let words = ["restore", text(&backup), "--data", text(&other), "--new-node"];
    let (well, out, said) = tombolo(&words);
    assert!(well, "{out}{said}");
    let (clean, out, said) = tombolo(&["check", "--data", text(&other)]);
    assert!(clean, "{out}{said}");

    let restored = Process::start(&other);
    let (mut one, mut other) = (process.client(), restored.client());
    for key in 0..500 {
        let answer = other.send("GET", &format!("/v1/load/{key}"), &[], b"").unwrap();
        let value = answer.json();
        assert_eq!(value["x"], value["y"]);
        // The last number that this document was given before the backup began, or a later one.
        let acknowledged = (1..=least).rev().find(|number| number % 500 == key).unwrap();
        let number = value["x"].as_u64().unwrap();
        assert!((acknowledged..=last).contains(&number), "{key}: {number} of {acknowledged}");
    }
    let about = |client: &mut Client| client.send("GET", "/v1", &[], b"").unwrap().json();
    let (original, copied) = (about(&mut one), about(&mut other));
    assert_ne!(original["node"], copied["node"]);
    assert_ne!(original["incarnation"], copied["incarnation"]);

    // Both go on with the same documents, and what they make of them merges.
    for round in 0..20 {
        assert!(put(&mut one, "/v1/load/7", &format!(r#"{{"x":{round},"one":1}}"#)) < 300);
        assert!(put(&mut other, "/v1/load/7", &format!(r#"{{"x":{round},"two":2}}"#)) < 300);
    }
    let mut here = saved(&mut one, "/v1/load/7");
    let mut there = saved(&mut other, "/v1/load/7");
    here.merge(&mut there).unwrap();
    there.merge(&mut here).unwrap();
    assert_eq!(here.get_heads(), there.get_heads());
}

#[test]
fn a_backup_takes_the_place_of_a_lost_node() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (data, backup) = (path("data"), path("copy"));
    let process = Process::start(&data);
    let socket = path("data").join("tombolo.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let node = process.client().send("GET", "/v1", &[], b"").unwrap().json()["node"].clone();
    assert_eq!(put(&mut process.client(), "/v1/a/b", "{}"), 201);
    let words = ["backup", text(&backup), "--data", text(&data), "-o", "table"];
    let (well, out, said) = tombolo(&words);
    assert!(well && out.contains("up to commit 1"), "{out}{said}");
    let (well, _, said) = tombolo(&words);
    assert!(!well && said.contains("is there already"), "{said}");
    process.stop();
    assert!(!socket.exists(), "the socket goes with the node");
    let (well, _, said) = tombolo(&words);
    assert!(!well && said.contains("tombolo.sock"), "{said}");

    let (well, _, said) = tombolo(&["restore", text(&path("copy")), "--data", text(&path("data"))]);
    assert!(!well && said.contains("is there already"), "{said}");
    let (well, _, said) = tombolo(&["restore", text(&path("data")), "--data", text(&path("new"))]);
    assert!(!well && said.contains("no backup"), "{said}");
    let manifest = path("copy").join("backup.json");
    let sound = fs::read_to_string(&manifest).unwrap();
    for (from, to, why) in [
        (r#""format": 1"#, r#""format": 9"#, "format 9"),
        (r#""last_seq": 1"#, r#""last_seq": 5"#, "its last commits are missing"),
        (r#""node": "#, r#""nobody": "#, "no manifest"),
    ] {
        fs::write(&manifest, sound.replace(from, to)).unwrap();
        let new = path(&format!("new {why}"));
        let (well, _, said) = tombolo(&["restore", text(&path("copy")), "--data", text(&new)]);
        assert!(!well && said.contains(why), "{said}");
        // What was begun is no store.
        let started = Process::try_start(&new, |_| {});
        assert!(started.is_err() == new.join("rocksdb.restoring").exists());
    }
    fs::write(&manifest, sound).unwrap();
    let new = path("empty");
    fs::create_dir(&new).unwrap();
    let (well, _, said) = tombolo(&["restore", text(&path("copy")), "--data", text(&new)]);
    assert!(well, "{said}");
    let process = Process::start(&new);
    let about = process.client().send("GET", "/v1", &[], b"").unwrap().json();
    assert_eq!(about["node"], node, "it is the node that was backed up");
    assert_eq!(process.client().send("GET", "/v1/a/b", &[], b"").unwrap().status, 200);
}

#[test]
fn over_the_network_a_backup_goes_only_where_it_is_allowed_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let ask = |process: &Process, directory: &str| {
        let body = format!(r#"{{"directory":"{directory}"}}"#);
        let answer = process.client().send("POST", "/v1/_backup", &[JSON], body.as_bytes());
        answer.unwrap().status
    };
    let process = Process::start(&path("data"));
    let somewhere = path("copy");
    assert_eq!(ask(&process, text(&somewhere)), 403);
    assert_eq!(ask(&process, "copy"), 403);
    process.stop();
    let backups = path("backups");
    fs::create_dir(&backups).unwrap();
    let process = Process::try_start(&path("data"), |command| {
        command.env("TOMBOLO_BACKUP_DIRECTORY", &backups);
    })
    .unwrap();
    for refused in [text(&somewhere), "../copy", ".copy", "a/b", ""] {
        assert_eq!(ask(&process, refused), 403, "{refused}");
    }
    assert_eq!(ask(&process, "monday"), 201);
    assert_eq!(ask(&process, "monday"), 412);
    let url = format!("http://{}", process.address);
    let (well, _, said) = tombolo(&["backup", "tuesday", "--url", &url]);
    assert!(well, "{said}");
    let names: Vec<_> =
        fs::read_dir(&backups).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(!somewhere.exists());
}

#[test]
fn a_data_directory_that_is_not_ones_own_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let process = Process::start(&data);
    let second = Process::try_start(&data, |_| {}).err().unwrap();
    assert!(second.contains("in use by another process"), "{second}");
    for command in ["check", "repair"] {
        let (well, _, said) = tombolo(&[command, "--data", text(&data)]);
        assert!(!well && said.contains("in use by another process"), "{said}");
    }
    process.stop();
    let (well, _, said) = tombolo(&["check", "--data", text(&folder.path().join("none"))]);
    assert!(!well && said.contains("is no data directory"), "{said}");
    assert!(!folder.path().join("none").exists());

    // A program that others may run, and a folder that they may pass through.
    let shared = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o755)).unwrap();
    copy(&data, &shared.path().join("data"));
    fs::set_permissions(shared.path().join("data"), fs::Permissions::from_mode(0o755)).unwrap();
    let program = shared.path().join("tombolo");
    fs::copy(env!("CARGO_BIN_EXE_tombolo"), &program).unwrap();
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    nobody.arg("version").stdout(Stdio::null()).stderr(Stdio::null());
    if !nobody.status().is_ok_and(|status| status.success()) {
        return skipped("a data directory without permission: only root may be somebody else");
    }
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    nobody.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(shared.path().join("data"));
    let output = nobody.current_dir("/").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("Permission denied"), "{said}");
}
