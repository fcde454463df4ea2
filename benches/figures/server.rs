//! Servers in processes of their own: the released binary, and what it stands beside. What they cost is
//! read from the kernel.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The argument that makes this program the bare handler.
pub(crate) const BARE: &str = "--bare";
/// The argument that makes this program a sync server of samod's.
pub(crate) const SAMOD: &str = "--samod";
/// Budgets of the node's two caches.
pub(crate) const CACHE_BYTES: usize = 64 << 20;
/// What `/proc/PID/stat` counts in: Linux shows hundredths of a second everywhere.
const TICK: Duration = Duration::from_millis(10);
/// Longest that deferred work may take to end.
const REST: Duration = Duration::from_secs(20);

/// What a node is told when it is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// Where its peers listen, and which way changes go.
    pub(crate) peers: Vec<(SocketAddr, &'static str)>,
    /// Whether its directory is a copy of another node's.
    pub(crate) new_node: bool,
}

impl Default for Launch {
    /// Without peers, at whatever port is free.
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { listen, peers: Vec::new(), new_node: false }
    }
}

/// A server that runs; it is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    /// From its start to the line that says that it listens.
    ready: Duration,
}

impl Server {
    /// The released binary on a directory.
    pub(crate) fn tombolo(data: &Path) -> Self {
        Self::with(data, &Launch::default())
    }

    /// The same, with peers.
    pub(crate) fn with(data: &Path, launch: &Launch) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tombolo"));
        command.args(["serve", "--listen", &launch.listen.to_string(), "--data"]).arg(data);
        if launch.new_node {
            command.arg("--new-node");
        }
        command.env_clear().current_dir(data.parent().unwrap());
        let peers = launch.peers.iter().map(|(address, direction)| {
            format!(r#"{{url="http://{address}",direction="{direction}"}}"#)
        });
        command.env("TOMBOLO_PEER", format!("[{}]", peers.collect::<Vec<_>>().join(",")));
        command.env("TOMBOLO_LOG", "warn");
        for cache in ["DOCUMENTS", "BLOCKS"] {
            command.env(format!("TOMBOLO_CACHE__{cache}_BYTES"), CACHE_BYTES.to_string());
        }
        Self::start(command)
    }

    /// The floor: this program again.
    pub(crate) fn bare() -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg(BARE);
        Self::start(command)
    }

    /// This program again, as samod.
    pub(crate) fn samod(data: &Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg(SAMOD).arg(data);
        Self::start(command)
    }

    /// A program in JavaScript that takes a folder for its data.
    pub(crate) fn javascript(script: &Path, data: &Path) -> Self {
        let mut command = Command::new("node");
        command.arg(script).arg(data);
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let start = Instant::now();
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("a server ended before it listened").unwrap();
            let rest = line.strip_prefix("listening on http://");
            match rest.and_then(|rest| rest.split(' ').next()) {
                Some(address) => break address.parse().unwrap(),
                None => eprintln!("{line}"),
            }
        };
        let ready = start.elapsed();
        // A pipe that nobody reads would stop the server one day.
        let rest = thread::Builder::new().name("log".to_owned());
        rest.spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")))
            .unwrap();
        Self { child, address, ready }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From the start of the process to the line that says that it listens.
    pub(crate) fn ready(&self) -> Duration {
        self.ready
    }

    /// CPU time of all of its threads, in the program and in the kernel.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        // The name of the program, in brackets, may hold anything.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u32>().unwrap());
        TICK * ticks.sum::<u32>()
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> f64 {
        number(&self.proc("status"), "VmRSS:") * 1024.0
    }

    /// Bytes that it had the disk write: whole pages, each as often as it was made dirty.
    pub(crate) fn written(&self) -> f64 {
        number(&self.proc("io"), "write_bytes:")
    }

    /// Waits until it has nothing to do.
    pub(crate) fn rest(&self) {
        let start = Instant::now();
        let (mut cpu, mut quiet) = (self.cpu(), 0);
        while quiet < 5 && start.elapsed() < REST {
            thread::sleep(Duration::from_millis(100));
            let now = self.cpu();
            quiet = if now == cpu { quiet + 1 } else { 0 };
            cpu = now;
        }
    }

    /// Has it end by itself, and waits until it has.
    pub(crate) fn stop(mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number behind a name, in one of the kernel's lists.
fn number(list: &str, name: &str) -> f64 {
    let line = list.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
