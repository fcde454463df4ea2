//! A failing disk: a library that is loaded before the C library fails syncs and reads.

use crate::process::{Client, Process};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// A disk that can be told to fail.
struct Disk {
    folder: tempfile::TempDir,
    library: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/faults.c");
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(cc.status().unwrap().success(), "the C compiler makes the library");
        Self { folder, library }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A node on this disk, with faults.
    fn start(&self, data: &str, faults: &[(&str, &str)]) -> Result<Process, String> {
        let data = self.path(data);
        let _ = fs::remove_file(self.path("report"));
        let started = Process::try_start(&data, |command| {
            command.env("LD_PRELOAD", &self.library).env("FAULT_BELOW", &data);
            command.env("FAULT_REPORT", self.path("report"));
            command.env("TOMBOLO_CACHE__BLOCKS_BYTES", (1 << 20).to_string());
            command.env("TOMBOLO_CACHE__DOCUMENTS_BYTES", (1 << 20).to_string());
            command.envs(faults.iter().copied());
        });
        assert!(self.path("report").exists(), "the library was not loaded");
        started
    }

    /// How many faults there were.
    fn struck(&self) -> usize {
        fs::read(self.path("report")).unwrap().len()
    }
}

fn put(client: &mut Client, key: &str, body: &str) -> (u16, String) {
    let fields = [("content-type", "application/json")];
    let answer = client.send("PUT", &format!("/v1/d/{key}"), &fields, body.as_bytes()).unwrap();
    let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
    (answer.status, code)
}

fn get(client: &mut Client, key: &str) -> (u16, String) {
    let answer = client.send("GET", &format!("/v1/d/{key}"), &[], b"").unwrap();
    (answer.status, String::from_utf8(answer.body).unwrap())
}

fn pair(number: usize) -> String {
    format!(r#"{{"x":{number},"y":{number}}}"#)
}

/// After a failed sync nothing is acknowledged, reads go on, and the next start finds everything
/// that was acknowledged, and nothing torn.
#[test]
fn a_failed_sync_is_never_acknowledged() {
    let disk = Disk::new();
    let mut while_running = 0;
    for at in 1..=50 {
        let data = format!("sync-{at}");
        let mut acknowledged = 0;
        // Where the opening fails, nothing was acknowledged at all.
        if let Ok(process) = disk.start(&data, &[("FAULT_SYNC", &at.to_string())]) {
            let mut client = process.client();
            loop {
                let (status, code) =
                    put(&mut client, &acknowledged.to_string(), &pair(acknowledged));
                if status == 201 {
                    acknowledged += 1;
                    assert!(acknowledged < 100, "the sync {at} never failed");
                    continue;
                }
                assert_eq!((status, &*code), (503, "read_only"), "sync {at}");
                break;
            }
            while_running += 1;
            assert_eq!(put(&mut client, "late", "{}"), (503, "read_only".to_owned()));
            for key in 0..acknowledged {
                assert_eq!(get(&mut client, &key.to_string()), (200, pair(key)), "sync {at}");
            }
            let ready = client.send("GET", "/readyz", &[], b"").unwrap();
            assert_eq!(ready.status, 503);
            assert!(ready.json()["detail"].as_str().unwrap().contains("Input/output error"));
            process.kill();
        }
        assert_eq!(disk.struck(), 1, "sync {at}");
        let process = disk.start(&data, &[]).unwrap();
        let mut client = process.client();
        for key in 0..acknowledged {
            assert_eq!(get(&mut client, &key.to_string()), (200, pair(key)), "sync {at}");
        }
        let maybe = get(&mut client, &acknowledged.to_string());
        assert!(maybe.0 == 404 || maybe == (200, pair(acknowledged)), "sync {at}: {maybe:?}");
        assert_eq!(get(&mut client, "late").0, 404);
        assert_eq!(put(&mut client, "next", "{}").0, 201);
    }
    assert!(20 < while_running, "{while_running} syncs failed while the node ran");
}

#[test]
fn a_failing_read_is_an_error_and_the_node_goes_on() {
    let disk = Disk::new();
    let value = |key: usize| format!(r#"{{"key":{key},"noise":"{}"}}"#, noise(key));
    let process = disk.start("data", &[]).unwrap();
    let mut client = process.client();
    for key in 0..400 {
        assert_eq!(put(&mut client, &key.to_string(), &value(key)).0, 201);
    }
    process.stop();
    // Opening writes what the log holds into tables.
    disk.start("data", &[]).unwrap().stop();
    let switch = disk.path("switch");
    let faults = [("FAULT_READ", "3"), ("FAULT_SWITCH", switch.to_str().unwrap())];
    let process = disk.start("data", &faults).unwrap();
    let mut client = process.client();
    fs::write(&switch, "").unwrap();
    let (mut read, mut failed) = (0, 0);
    for key in 0..400 {
        let (status, body) = get(&mut client, &key.to_string());
        match status {
            200 => {
                assert_eq!(body, value(key));
                read += 1;
            }
            500 | 503 => {
                assert!(body.contains(r#""code":"internal""#) || body.contains("quarantined"));
                failed += 1;
            }
            _ => panic!("{key}: {status} {body}"),
        }
    }
    assert!(0 < read && 0 < failed && 0 < disk.struck(), "{read} read, {failed} failed");
    assert_eq!(client.send("GET", "/livez", &[], b"").unwrap().status, 200);
    fs::remove_file(&switch).unwrap();
    for key in 0..400 {
        assert_eq!(get(&mut client, &key.to_string()), (200, value(key)));
    }
}

fn noise(seed: usize) -> String {
    let mut random = fastrand::Rng::with_seed(seed as u64);
    (0..6_000).map(|_| random.alphanumeric()).collect()
}

/// While a sync takes seconds, all else is answered, and the writes behind it share the next.
#[test]
fn a_slow_sync_holds_up_the_writes_that_wait_for_it_and_nothing_else() {
    const WRITERS: usize = 32;
    let disk = Disk::new();
    let switch = disk.path("switch");
    let faults = [("FAULT_SLEEP", "3000"), ("FAULT_SWITCH", switch.to_str().unwrap())];
    let process = disk.start("data", &faults).unwrap();
    let mut client = process.client();
    assert_eq!(put(&mut client, "read", &pair(1)).0, 201);
    fs::write(&switch, "").unwrap();
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (process, answered) = (&process, &answered);
            scope.spawn(move || {
                let mut client = process.client();
                let put = put(&mut client, &writer.to_string(), &pair(writer));
                assert_eq!(put.0, 201);
                answered.fetch_add(1, Ordering::SeqCst);
            });
        }
        for _ in 0..50 {
            assert_eq!(client.send("GET", "/livez", &[], b"").unwrap().status, 200);
            assert_eq!(get(&mut client, "read"), (200, pair(1)));
        }
        assert_eq!(answered.load(Ordering::SeqCst), 0, "a write was answered before its sync");
    });
    assert!(disk.struck() <= WRITERS / 2, "{} syncs for {WRITERS} writes", disk.struck());
    fs::remove_file(&switch).unwrap();
}
