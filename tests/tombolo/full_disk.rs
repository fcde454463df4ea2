//! A full disk: writes are refused, reads go on, and writes begin again by themselves.

use crate::process::{Client, Process, skipped, tombolo};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use tokio::time::Instant;

/// Longest wait for writes to begin again.
const RESUME_TIME: Duration = Duration::from_secs(60);

/// A small volume of its own, for as long as the value lives.
struct Volume(PathBuf);

impl Volume {
    /// `None`: only root may mount.
    fn mount(path: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tombolo-test"]).arg(path);
        let mounted = mount.stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(path.to_path_buf()))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What was acknowledged: the number in each document.
type Acknowledged = BTreeMap<String, u64>;

/// A value that does not compress.
fn value(number: u64) -> String {
    let mut random = fastrand::Rng::with_seed(number);
    let noise: String = (0..6_000).map(|_| random.alphanumeric()).collect();
    format!(r#"{{"number":{number},"noise":"{noise}"}}"#)
}

/// One write; the status of its answer, and its code.
fn put(client: &mut Client, number: u64, acknowledged: &mut Acknowledged) -> (u16, String) {
    let key = format!("d{}", number % 5_000);
    let path = format!("/v1/full/{key}");
    let fields = [("content-type", "application/json")];
    let answer = client.send("PUT", &path, &fields, value(number).as_bytes()).unwrap();
    if answer.status < 300 {
        acknowledged.insert(key, number);
        return (answer.status, String::new());
    }
    (answer.status, answer.json()["code"].as_str().unwrap().to_owned())
}

/// Writes until the disk is full; the next number.
fn fill(process: &Process, from: u64, acknowledged: &mut Acknowledged) -> u64 {
    let mut client = process.client();
    for number in from.. {
        match put(&mut client, number, acknowledged) {
            (200 | 201, _) => assert!(number < from + 50_000, "the disk is never full"),
            // Flushes have to catch up, on so small a volume.
            (503, code) if code == "write_stalled" => thread::yield_now(),
            refused => {
                assert_eq!(refused, (507, "disk_full".to_owned()), "at {number}");
                return number + 1;
            }
        }
    }
    unreachable!()
}

/// Writes as soon as that can be.
fn resume(process: &Process, from: u64, acknowledged: &mut Acknowledged) -> u64 {
    let last = Instant::now() + RESUME_TIME;
    for number in from.. {
        // The data may be opened anew meanwhile, and connections with it.
        let written = Client::connect(process.address).is_ok_and(|mut client| {
            let fields = [("content-type", "application/json")];
            let path = format!("/v1/full/d{}", number % 5_000);
            let answer = client.send("PUT", &path, &fields, value(number).as_bytes());
            answer.is_ok_and(|answer| answer.status < 300)
        });
        if written {
            acknowledged.insert(format!("d{}", number % 5_000), number);
            return number + 1;
        }
        assert!(Instant::now() < last, "writes do not begin again");
        #[expect(clippy::disallowed_methods, reason = "a process of its own takes real time")]
        thread::sleep(Duration::from_millis(50));
    }
    unreachable!()
}

/// Every document that was acknowledged is as it was acknowledged.
fn check(process: &Process, acknowledged: &Acknowledged) {
    let mut client = process.client();
    for (key, number) in acknowledged {
        let answer = client.send("GET", &format!("/v1/full/{key}"), &[], b"").unwrap();
        assert_eq!(answer.status, 200, "{key}: {}", answer.json());
        assert_eq!(answer.json()["number"], *number, "{key}");
    }
    assert_eq!(client.send("GET", "/livez", &[], b"").unwrap().status, 200);
}

/// Takes every byte that is left, and every one that the node frees by tidying up, until the node
/// says that the disk is full.
fn stuff(process: &Process, alien: &Path) {
    let mut file = File::options().create(true).append(true).open(alien).unwrap();
    let last = Instant::now() + RESUME_TIME;
    loop {
        while file.write_all(&[1; 4096]).is_ok() {}
        let ready = process.client().send("GET", "/readyz", &[], b"").unwrap();
        if ready.status == 503 {
            let detail = ready.json()["detail"].to_string();
            assert!(detail.contains("disk is full"), "{detail}");
            return;
        }
        assert!(Instant::now() < last, "the node does not see that the disk is full");
        thread::yield_now();
    }
}

/// Waits until a document of JSON is as it should be.
#[expect(clippy::disallowed_methods, reason = "a process of its own takes real time")]
fn until(process: &Process, path: &str, fine: impl Fn(u16, &Value) -> bool) {
    let last = Instant::now() + RESUME_TIME;
    loop {
        let answer = process.client().send("GET", path, &[], b"").unwrap();
        if fine(answer.status, &answer.json()) {
            return;
        }
        assert!(Instant::now() < last, "{path}: {}", answer.json());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_full_disk_refuses_writes_and_takes_them_again_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    let Some(_volume) = Volume::mount(&path, "64m") else {
        return skipped("a full disk: only root may mount a small volume");
    };
    let data = path.join("data");
    let peer = Process::start(&folder.path().join("peer"));
    let start = || {
        Process::try_start(&data, |command| {
            command.env("TOMBOLO_PEER", format!("http://{}", peer.address));
            command.env("TOMBOLO_CACHE__BLOCKS_BYTES", (64 << 20).to_string());
            command.env("TOMBOLO_CACHE__DOCUMENTS_BYTES", (8 << 20).to_string());
        })
        .unwrap()
    };
    let mut acknowledged = Acknowledged::new();
    let alien = path.join("alien");
    fs::write(&alien, vec![1; 24 << 20]).unwrap();

    let process = start();
    let next = fill(&process, 0, &mut acknowledged);
    assert!(500 < acknowledged.len(), "only {} writes", acknowledged.len());
    check(&process, &acknowledged);
    stuff(&process, &alien);
    check(&process, &acknowledged);
    fs::remove_file(&alien).unwrap();
    let mut next = resume(&process, next, &mut acknowledged);
    for _ in 0..100 {
        next = resume(&process, next, &mut acknowledged);
    }
    check(&process, &acknowledged);

    // Not a byte is left, and the node is killed: it starts, for reading.
    stuff(&process, &alien);
    check(&process, &acknowledged);
    process.kill();
    let process = start();
    check(&process, &acknowledged);
    stuff(&process, &alien);
    let refused = put(&mut process.client(), next, &mut acknowledged);
    assert_eq!(refused, (507, "disk_full".to_owned()));
    let status = process.client().send("GET", "/v1/_status", &[], b"").unwrap().json();
    assert!(status["read_only"].as_str().is_some_and(|why| why.contains("full")), "{status}");
    // Nor can what a peer tells be taken. That is no fault of the peer's, and it comes later.
    let told = peer.client().send("PUT", "/v1/told/a", &[], b"{}").unwrap();
    assert_eq!(told.status, 201);
    let of_peer = format!("/v1/_peers/{}", peer.address);
    until(&process, &of_peer, |_, peer| peer["last_error"]["code"] == "not_taken");
    fs::remove_file(&alien).unwrap();
    let next = resume(&process, next + 1, &mut acknowledged);
    until(&process, "/v1/told/a", |status, _| status == 200);
    until(&process, &of_peer, |_, peer| peer["state"] == "up");
    check(&process, &acknowledged);
    let _ = resume(&process, next, &mut acknowledged);
    process.kill();
    let process = start();
    check(&process, &acknowledged);
    process.stop();
    let (clean, out, said) = tombolo(&["check", "--data", data.to_str().unwrap()]);
    assert!(clean, "{out}{said}");
}
