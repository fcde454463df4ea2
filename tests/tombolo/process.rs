//! A node as a process of its own, and a client small enough to trust.

use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::time::Instant;

/// Longest wait for an answer; a node that is alive gives every one of ours sooner.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// A running node, which ends with the value.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    /// From the start of the program to the line that says that it listens.
    pub(crate) opened_in: Duration,
}

impl Process {
    /// Starts the program on a data folder and waits until it listens.
    pub(crate) fn start(data: &Path) -> Self {
        Self::try_start(data, |_| {})
            .unwrap_or_else(|said| panic!("not what a node says first: {said}"))
    }

    /// The same, listening on an address.
    pub(crate) fn start_at(data: &Path, listen: &str) -> Self {
        Self::try_start_at(data, listen, |_| {}).unwrap()
    }

    /// The same with settings of its own; what it says where it does not start.
    pub(crate) fn try_start(data: &Path, set: impl FnOnce(&mut Command)) -> Result<Self, String> {
        Self::try_start_at(data, "127.0.0.1:0", set)
    }

    fn try_start_at(
        data: &Path,
        listen: &str,
        set: impl FnOnce(&mut Command),
    ) -> Result<Self, String> {
        let began = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tombolo"));
        command.args(["serve", "--listen", listen, "--data"]).arg(data);
        command.env_clear().env("TOMBOLO_LOG", "off").current_dir(data.parent().unwrap());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        set(&mut command);
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let opened_in = began.elapsed();
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["listening", "on", url, "node", id] = words[..] else {
            // It has ended, or is no node: what it says ends with it.
            let _ = child.kill();
            said.read_to_string(&mut line).unwrap();
            return Err(format!("{line}{:?}", child.wait()));
        };
        assert_eq!(id.len(), 32, "{line}");
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        Ok(Self { child, address, opened_in })
    }

    /// Bytes that it holds in memory.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    /// A connection of its own.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address).unwrap()
    }

    /// Sends SIGTERM and waits for a good end.
    pub(crate) fn stop(mut self) {
        assert!(signal("TERM", &self.child.id().to_string()));
        let status = self.child.wait().unwrap();
        assert!(status.success(), "told to stop, it ends well: {status}");
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command of the program; whether it ended well, what it printed, what it said.
pub(crate) fn tombolo(words: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tombolo"));
    command.args(words).env_clear().stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// Copies the files of a data directory, which nobody writes.
#[cfg(feature = "rocksdb")]
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.metadata().unwrap() {
            there if there.is_dir() => copy(&path, &to),
            there if there.is_file() => drop(std::fs::copy(&path, &to).unwrap()),
            // A socket.
            _ => {}
        }
    }
}

/// Says, past the harness, that a test was not run.
#[cfg(feature = "rocksdb")]
pub(crate) fn skipped(why: &str) {
    let mut talk = io::stderr();
    writeln!(talk, "SKIPPED: {why}").unwrap();
}

/// Sends a signal to a process, or to `-GROUP`; whether there was one. The shell's own `kill`: not
/// every machine has the program.
pub(crate) fn signal(signal: &str, to: &str) -> bool {
    let kill = format!("kill -s {signal} -- {to}");
    Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status().unwrap().success()
}

/// HTTP/1.1 over one connection that stays open, one request after the other.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) version: String,
    pub(crate) etag: String,
    pub(crate) body: Vec<u8>,
    /// A body that comes in pieces came to its end.
    pub(crate) whole: bool,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        Ok(Self { stream: BufReader::new(stream), address })
    }

    /// Sends a request and reads its answer. An error says that nobody knows what the node did.
    pub(crate) fn send(
        &mut self,
        verb: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut head = format!("{verb} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        for (name, value) in fields {
            write!(head, "{name}: {value}\r\n").map_err(io::Error::other)?;
        }
        write!(head, "content-length: {}\r\n\r\n", body.len()).map_err(io::Error::other)?;
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        // A node that refuses may answer, and close, before it has read everything.
        let sent = self.stream.get_mut().write_all(&request);
        self.answer().map_err(|error| sent.err().unwrap_or(error))
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let broken = || io::Error::other("not an answer");
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(broken)?;
        let (mut version, mut etag, mut length) = (String::new(), String::new(), 0);
        let mut chunked = false;
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                None => break,
                Some(("version", value)) => value.clone_into(&mut version),
                Some(("etag", value)) => value.clone_into(&mut etag),
                Some(("content-length", value)) => length = value.parse().map_err(|_| broken())?,
                Some(("transfer-encoding", _)) => chunked = true,
                Some(_) => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let whole = !chunked || self.chunks(&mut body).is_ok();
        Ok(Answer { status, version, etag, body, whole })
    }

    /// Adds what comes in chunks, to the last one.
    fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let size = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
            let mut chunk = vec![0; size];
            self.stream.read_exact(&mut chunk)?;
            body.append(&mut chunk);
            self.line()?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    /// A line without its end; the connection's end is an error.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}
