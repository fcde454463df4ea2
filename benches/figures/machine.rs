//! What the figures were measured on.

use super::{row::quantity, scratch::Scratch};
use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Command,
    thread,
    time::Instant,
};

const SYNCS: usize = 500;

/// The machine, as a list of Markdown.
pub(crate) fn describe() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let scratch = Scratch::new();
    let mut syncs = syncs(&scratch.path("sync"));
    syncs.sort_by(f64::total_cmp);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let lines = [
        format!("CPU: {}, {cores} cores", model.map_or("unknown", |(_, model)| model.trim())),
        format!("kernel: {}", kernel.trim()),
        format!(
            "data: {}, fdatasync of 4 KiB appended: p50 {}, p99 {}",
            file_system(&scratch.path("")),
            quantity(syncs[SYNCS / 2], "ms"),
            quantity(syncs[SYNCS * 99 / 100], "ms")
        ),
        format!("load: {}", load()),
        output("rustc", &["--version"]),
        format!("commit: {}", output("git", &["describe", "--always", "--dirty"])),
        format!("date: {}", output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
    ];
    lines.map(|line| format!("- {line}\n")).concat()
}

/// The average number of runnable threads over 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn syncs(path: &Path) -> Vec<f64> {
    let mut file = File::create(path).unwrap();
    let sync = |_| {
        file.write_all(&[7; 4096]).unwrap();
        let start = Instant::now();
        file.sync_data().unwrap();
        1e3 * start.elapsed().as_secs_f64()
    };
    (0..SYNCS).map(sync).collect()
}

/// The file system that a path is on: the mount with the longest name above it.
fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| 3 < fields.len() && path.starts_with(fields[1]));
    let nearest = above.max_by_key(|fields| fields[1].len());
    nearest.map_or_else(|| "unknown".to_owned(), |fields| format!("{} on {}", fields[2], fields[0]))
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|error| format!("{program}: {error}"))
}
