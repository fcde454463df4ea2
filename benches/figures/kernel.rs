//! Whether the bytes that a node counts are those that its machine carries: a first copy inside a network
//! of its own, whose loopback nothing else uses.

use super::{
    cluster::documents,
    copy::{Way, copy_once, fill},
    row::{Bar, Row},
    scratch::Scratch,
    server::Server,
};
use std::{
    env, fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// The argument that makes this program measure inside of that network.
pub(crate) const INSIDE: &str = "--kernel";
const DOCUMENTS: u64 = 20_000;
/// Looks at a node that is asked how far it is, to know what a look costs.
const LOOKS: u32 = 100;
const LOOK: Duration = Duration::from_millis(200);
/// Nodes beat all along, and no more than this goes on beside what is measured.
const PAUSE: Duration = Duration::from_millis(5);

/// The bytes that loopback carried, headers and all, beside the bodies that the nodes counted. It takes
/// root to make a network.
pub(crate) fn kernel() -> Vec<Row> {
    let mut command = Command::new("unshare");
    command.arg("--net").arg(env::current_exe().unwrap()).arg(INSIDE);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.ok().filter(|output| output.status.success());
    let Some(output) = output else {
        eprintln!("SKIPPED: kernel: a network of its own cannot be made (root, and util-linux)");
        return Vec::new();
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let figure = "bytes each on loopback, against bodies as counted";
    // What is on the wire can only be more; a tenth is far more than headers take.
    let row = Row::beside(figure, "B", numbers[0], numbers[1]);
    vec![row.bar(Bar::ratio_at_least(1.0)).bar(Bar::ratio_at_most(1.1))]
}

/// Measures: prints the bytes of loopback and those of bodies, for each document.
pub(crate) fn inside() {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.unwrap().success(), "loopback is not up");
    let scratch = Scratch::new();
    let full = scratch.path("full");
    fill(&full, DOCUMENTS);
    let look = {
        let server = Server::tombolo(&full);
        let before = loopback();
        for _ in 0..LOOKS {
            documents(&server);
            thread::sleep(PAUSE);
        }
        (loopback() - before) / f64::from(LOOKS)
    };
    let before = loopback();
    let copied = copy_once(&full, DOCUMENTS, Way::Push, LOOK);
    // Behind the copy itself come as many looks again: one at a document, and two at peers.
    let carried = loopback() - before - look * f64::from(copied.looks + 3);
    let count = DOCUMENTS as f64;
    println!("{} {}", carried / count, copied.messages.all().bytes / count);
}

/// Bytes that loopback has carried.
fn loopback() -> f64 {
    let devices = fs::read_to_string("/proc/self/net/dev").unwrap();
    let line = devices.lines().find_map(|line| line.trim().strip_prefix("lo:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
