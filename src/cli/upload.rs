//! Rows out to a node and their answers back, over as many connections as it takes.
//!
//! What is not answered is held, within a bound, and goes again over the next connection when one
//! breaks: rows that were written by then are found unchanged.

use super::{
    client::{Call, Client, Problem},
    failure::Failure,
    progress::{Part, Progress},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Method, body::Incoming};
use serde::Deserialize;
use std::{
    collections::VecDeque,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{self, Instant, MissedTickBehavior},
};

/// Most bytes that are sent and not answered; a batch may stand over it.
const WINDOW_BYTES: usize = 16 << 20;
/// Batches on their way into a connection.
const PIECES_MAX: usize = 2;
/// How long nothing may be sent before the node is shown that more is to come: it skips blank lines.
const SIGN_TIME: Duration = Duration::from_secs(10);
const SIGN: &[u8] = b"\n";
/// The first wait before another connection, which doubles up to the last.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Faults that are told; the others are counted.
const FAULTS_TOLD_MAX: u64 = 20;
/// How often the progress is looked at.
const TICK: Duration = Duration::from_millis(250);

/// Refusals that a later attempt may not meet.
const AGAIN: [&str; 3] = ["write_stalled", "not_ready", "timeout"];
/// Refusals that every row would meet.
const FOR_ALL: [&str; 2] = ["read_only", "disk_full"];

/// Some rows of one file, ready to be sent.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The file as it was named.
    pub(crate) file: Arc<str>,
    /// Lines of a bulk write.
    pub(crate) text: Bytes,
    /// For each of them the line of the file, and where it ends in the text.
    pub(crate) rows: Vec<(u64, usize)>,
    /// What is wrong with rows that are no lines, and with the file.
    pub(crate) faults: Vec<String>,
}

/// What became of the rows.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    /// Rows that stand as documents now.
    pub(crate) documents: u64,
    /// Those of them that stood so before.
    pub(crate) unchanged: u64,
    /// What was wrong: rows, and files.
    pub(crate) failed: u64,
}

/// An upload under way.
pub(crate) struct Upload<'a> {
    pub(crate) client: &'a Client,
    pub(crate) batches: mpsc::Receiver<Batch>,
    pub(crate) progress: Progress,
    /// Bytes that were read of all files.
    pub(crate) read: Arc<AtomicU64>,
    /// Bytes that there are, if that is known.
    pub(crate) all: Option<u64>,
    pub(crate) tally: Tally,
    waiting: VecDeque<Batch>,
    /// Bytes of what waits.
    bytes: usize,
    /// Rows of the first batch that are answered.
    answered: usize,
    /// Whether more batches may come.
    reading: bool,
}

/// How a connection ended before everything was answered.
enum Ended {
    /// Another may do better.
    Broken(Failure),
    /// None will.
    Refused(anyhow::Error),
}

/// An answer to a line, or the summary, which has no status.
#[derive(Deserialize)]
struct Answer {
    status: Option<u16>,
    #[serde(default)]
    unchanged: bool,
    problem: Option<Problem>,
}

impl<'a> Upload<'a> {
    pub(crate) fn new(
        client: &'a Client,
        batches: mpsc::Receiver<Batch>,
        progress: Progress,
        read: Arc<AtomicU64>,
        all: Option<u64>,
    ) -> Self {
        Self {
            client,
            batches,
            progress,
            read,
            all,
            tally: Tally::default(),
            waiting: VecDeque::new(),
            bytes: 0,
            answered: 0,
            reading: true,
        }
    }

    /// Sends everything that comes, and waits for all answers.
    ///
    /// # Errors
    /// The node refuses all, or was not to be reached for as long as one waits for an answer.
    pub(crate) async fn run(&mut self) -> anyhow::Result<()> {
        let mut pause = PAUSE_MIN;
        let mut since = None;
        loop {
            while self.waiting.is_empty() {
                match self.batches.recv().await {
                    Some(batch) => self.take(batch),
                    None => return Ok(()),
                }
            }
            let before = self.tally;
            let failure = match self.connection().await {
                Ok(()) => return Ok(()),
                Err(Ended::Refused(error)) => return Err(error),
                Err(Ended::Broken(failure)) => failure,
            };
            if before.documents + before.failed < self.tally.documents + self.tally.failed {
                (pause, since) = (PAUSE_MIN, None);
            } else if self.tally.documents == 0 {
                // It never was there.
                return Err(failure.into());
            }
            let since: Instant = *since.get_or_insert_with(Instant::now);
            if self.client.answer_time() <= since.elapsed() {
                return Err(failure.into());
            }
            if pause == PAUSE_MIN {
                self.progress.talk(&format!("tombolo: {failure}; trying again"));
            }
            time::sleep(pause).await;
            pause = PAUSE_MAX.min(2 * pause);
        }
    }

    /// Sends what waits and what comes over one connection, until all is answered.
    async fn connection(&mut self) -> Result<(), Ended> {
        let (pieces, body) = mpsc::channel(PIECES_MAX);
        let call =
            Call::new(Method::POST, "/v1/_bulk").header("content-type", "application/x-ndjson");
        let call = call.map_err(Ended::Refused)?.pieces(body);
        let client = self.client;
        let mut opening = pin!(client.open(call));
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pieces = Some(pieces);
        let mut taken = true;
        let mut answers: Option<Incoming> = None;
        let mut rest = Vec::new();
        // Batches at the front of those that wait which this connection has been given.
        let mut sent = 0;
        let mut moved = Instant::now();
        loop {
            if !taken || !self.reading && sent == self.waiting.len() {
                pieces = None;
            }
            let piece = self.piece(sent);
            let (unsent, underway) = (piece.is_some() && pieces.is_some(), 0 < sent);
            let room = self.reading && self.bytes < WINDOW_BYTES;
            tokio::select! {
                opened = &mut opening, if answers.is_none() => {
                    answers = Some(opened.map_err(ended)?.into_body());
                }
                frame = next_frame(&mut answers), if answers.is_some() => match frame {
                    None if self.waiting.is_empty() && !self.reading => return Ok(()),
                    Some(Ok(frame)) => {
                        moved = Instant::now();
                        rest.extend_from_slice(&frame.into_data().unwrap_or_default());
                        self.hear(&mut rest, &mut sent)?;
                    }
                    None | Some(Err(_)) => {
                        return Err(Ended::Broken(client.unreachable("broke off its answers")));
                    }
                },
                permit = reserve(&pieces), if unsent => match permit {
                    Some(permit) => {
                        permit.send(piece.unwrap_or_default());
                        moved = if sent == 0 { Instant::now() } else { moved };
                        sent += 1;
                    }
                    // The node reads no more; its answers say why.
                    None => taken = false,
                },
                batch = self.batches.recv(), if room => match batch {
                    Some(batch) => self.take(batch),
                    None => self.reading = false,
                },
                () = time::sleep_until(moved + client.answer_time()), if underway => {
                    return Err(Ended::Broken(client.late("did not answer")));
                }
                () = time::sleep(SIGN_TIME), if !underway => {
                    if let Some(pieces) = &pieces {
                        // If there is something under way after all, that is a sign as well.
                        let _ = pieces.try_send(Bytes::from_static(SIGN));
                    }
                }
                _ = ticks.tick() => self.tell(),
            }
        }
    }

    /// What is to be sent once the first `sent` batches are.
    fn piece(&self, sent: usize) -> Option<Bytes> {
        let batch = self.waiting.get(sent)?;
        let answered = if sent == 0 { self.answered } else { 0 };
        let begin = answered.checked_sub(1).and_then(|last| batch.rows.get(last));
        Some(batch.text.slice(begin.map_or(0, |(_, end)| *end)..))
    }

    /// Takes a batch in.
    fn take(&mut self, batch: Batch) {
        for fault in &batch.faults {
            self.fault(fault);
        }
        if !batch.rows.is_empty() {
            self.bytes += batch.text.len();
            self.waiting.push_back(batch);
        }
    }

    /// Hears the answers that are whole, each to the first row that has none.
    fn hear(&mut self, rest: &mut Vec<u8>, sent: &mut usize) -> Result<(), Ended> {
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        for line in rest[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let answer: Answer = serde_json::from_slice(line)
                .map_err(|_| Ended::Broken(self.client.unreachable("answers what is no answer")))?;
            let (Some(status), Some(batch)) = (answer.status, self.waiting.front()) else {
                continue;
            };
            match answer.problem {
                None if status < 400 => {
                    self.tally.documents += 1;
                    self.tally.unchanged += u64::from(answer.unchanged);
                }
                problem => {
                    let code = problem.as_ref().map(|problem| problem.code.clone());
                    let code = code.unwrap_or_default();
                    let text = problem.map_or_else(|| status.to_string(), Problem::into_text);
                    if AGAIN.contains(&&*code) {
                        return Err(Ended::Broken(Failure::Unreachable(text)));
                    }
                    if FOR_ALL.contains(&&*code) {
                        return Err(Ended::Refused(Failure::Refused(text).into()));
                    }
                    let number = batch.rows.get(self.answered).map_or(0, |(number, _)| *number);
                    let text = format!("{}:{number}: {text}", batch.file);
                    self.fault(&text);
                }
            }
            self.pass(sent);
        }
        rest.drain(..whole);
        Ok(())
    }

    /// The first row that had no answer has one.
    fn pass(&mut self, sent: &mut usize) {
        self.answered += 1;
        if self.waiting.front().is_some_and(|batch| batch.rows.len() <= self.answered) {
            let batch = self.waiting.pop_front().unwrap_or_default();
            self.bytes -= batch.text.len();
            self.answered = 0;
            *sent = sent.saturating_sub(1);
        }
    }

    fn fault(&mut self, text: &str) {
        self.tally.failed += 1;
        match self.tally.failed {
            1..=FAULTS_TOLD_MAX => self.progress.talk(text),
            told if told == FAULTS_TOLD_MAX + 1 => {
                self.progress.talk("more is wrong, which is counted and not shown");
            }
            _ => {}
        }
    }

    fn tell(&mut self) {
        let done = self.read.load(Ordering::Relaxed);
        self.progress.tell(self.tally.documents, self.all.map(|all| Part { done, all }));
    }
}

/// What an answer that did not begin means.
fn ended(error: anyhow::Error) -> Ended {
    match error.downcast::<Failure>() {
        Ok(failure @ Failure::Unreachable(_)) => Ended::Broken(failure),
        Ok(failure) => Ended::Refused(failure.into()),
        Err(error) => Ended::Refused(error),
    }
}

/// The next frame of the answers, once there are any.
async fn next_frame(
    answers: &mut Option<Incoming>,
) -> Option<Result<hyper::body::Frame<Bytes>, hyper::Error>> {
    match answers {
        Some(answers) => answers.frame().await,
        None => None,
    }
}

/// Room for a piece; `None` if nobody takes any more.
async fn reserve(pieces: &Option<mpsc::Sender<Bytes>>) -> Option<mpsc::Permit<'_, Bytes>> {
    match pieces {
        Some(pieces) => pieces.reserve().await.ok(),
        None => None,
    }
}
