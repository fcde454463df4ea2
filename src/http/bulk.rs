//! POST `/v1/_bulk`: many writes in one request, answered line by line while it still comes.
//!
//! Lines are read, handed to their shards and answered in order, so many at once and so many bytes
//! of them, and no more: a client that does not read its answers is not read on. Each line is a write
//! of its own: durable when its answer is out, and no other line's concern.

use super::{
    Api,
    extract::Call,
    line,
    lines::{Line, Lines},
    media,
    problem::{Code, Problem},
    reply::{self, Answer, Hashes},
    version,
};
use crate::{
    ident::Name,
    node::{self, Writing, Written},
};
use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use std::{collections::VecDeque, convert::Infallible, mem};

/// Most lines that are read and not yet answered.
const LINES_MAX: usize = 1024;
/// Most bytes of them, or one line.
const LINES_BYTES_MAX: usize = 4 << 20;
/// Answers go out once there are so many bytes of them, or nothing else can be done.
const PIECE_BYTES: usize = 64 << 10;

/// POST `/v1/_bulk`. What is wrong with the first bytes gets its status; from the first line on it is
/// 200, and each line has a status of its own.
pub(crate) async fn write(call: Call) -> Answer {
    call.query()?.end()?;
    check_fields(&call.head.headers)?;
    media::check_lines(&call.head.headers)?;
    media::choose(&call.head.headers, &[media::NDJSON])?;
    let api = call.api.clone();
    let mut lines = Lines::of(call)?;
    let first = match lines.next().await {
        Some((_, Line::Late)) => return Err(late().hint(header::CONNECTION, "close")),
        first => first,
    };
    let mut bulk = Bulk::new(api.clone(), lines);
    bulk.take(first).await;
    let body = Body::from_stream(stream::unfold(bulk, Bulk::step));
    let mut response = reply::raw(StatusCode::OK, media::NDJSON, body);
    reply::state_durability(response.headers_mut(), &api);
    Ok(response)
}

/// Refuses fields that would have to be said of each line.
fn check_fields(headers: &HeaderMap) -> Result<(), Problem> {
    let fields = [version::PARENTS, header::IF_MATCH, header::IF_NONE_MATCH];
    match fields.iter().find(|name| headers.contains_key(*name)) {
        None => Ok(()),
        Some(name) => Err(Problem::header(name, "each line says what it was made from")),
    }
}

fn late() -> Problem {
    Problem::new(Code::Timeout, "the line came too slowly, or not at all; nothing after it is read")
}

/// A bulk write under way.
struct Bulk {
    api: Api,
    lines: Lines,
    /// Lines that are not answered, in order.
    pending: VecDeque<Pending>,
    /// Their bytes.
    bytes: usize,
    /// Answers that are not out.
    out: Vec<u8>,
    summary: Summary,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Lines may come.
    Read,
    /// There are no more.
    Drain,
    /// All is said.
    End,
}

/// A line on its way to its answer.
struct Pending {
    number: u64,
    bytes: usize,
    name: Option<Name>,
    outcome: Outcome,
}

enum Outcome {
    Writing(Writing),
    Refused(Box<Problem>),
}

/// What can be done next.
enum Next {
    Answered(Result<Written, node::Error>),
    Came(Option<(u64, Line)>),
    Send,
    End,
}

impl Bulk {
    fn new(api: Api, lines: Lines) -> Self {
        Self {
            api,
            lines,
            pending: VecDeque::new(),
            bytes: 0,
            out: Vec::new(),
            summary: Summary::default(),
            stage: Stage::Read,
        }
    }

    /// The next piece of the answer.
    async fn step(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        while self.stage != Stage::End && self.out.len() < PIECE_BYTES {
            self.answer_refused();
            match self.next().await {
                Next::Answered(result) => self.answer(result.map_err(Problem::from)),
                Next::Came(line) => self.take(line).await,
                Next::Send => break,
                Next::End => {
                    self.stage = Stage::End;
                    self.say(&Last { summary: self.summary });
                }
            }
        }
        let piece = mem::take(&mut self.out);
        (!piece.is_empty()).then(|| (Ok(piece.into()), self))
    }

    /// Answers first, then lines, as far as there is room for them; and if neither can be had now,
    /// what there is goes out.
    async fn next(&mut self) -> Next {
        let room = self.pending.is_empty()
            || self.pending.len() < LINES_MAX && self.bytes < LINES_BYTES_MAX;
        if !room {
            self.lines.pause();
        }
        if self.stage == Stage::Drain && self.pending.is_empty() {
            return Next::End;
        }
        let (unsent, waiting) = (!self.out.is_empty(), !self.pending.is_empty());
        let answered = async {
            match self.pending.front_mut().map(|first| &mut first.outcome) {
                Some(Outcome::Writing(writing)) => writing.await,
                Some(Outcome::Refused(_)) | None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            result = answered, if waiting => Next::Answered(result),
            line = self.lines.next(), if room && self.stage == Stage::Read => Next::Came(line),
            () = std::future::ready(()), if unsent => Next::Send,
            else => Next::End,
        }
    }

    /// Takes a line in, or the end of them.
    async fn take(&mut self, line: Option<(u64, Line)>) {
        let Some((number, line)) = line else {
            self.stage = Stage::Drain;
            return;
        };
        let (bytes, name, outcome) = match line {
            Line::Whole(line) => {
                let (name, outcome) = begin(self.api.clone(), &line).await;
                (line.len(), name, outcome)
            }
            Line::TooLong => {
                let limit = self.api.options().body_bytes_max;
                let detail = format!("the line is larger than {limit} bytes");
                (0, None, Outcome::Refused(Problem::new(Code::TooLarge, detail).into()))
            }
            Line::Late => (0, None, Outcome::Refused(late().into())),
            Line::Broken { code, detail } => {
                let detail = format!("{detail}, in this line at the latest");
                (0, None, Outcome::Refused(Problem::new(code, detail).into()))
            }
        };
        self.bytes += bytes;
        self.pending.push_back(Pending { number, bytes, name, outcome });
    }

    /// Answers the lines in front that nothing was written for.
    fn answer_refused(&mut self) {
        while let Some(Pending { outcome: Outcome::Refused(_), .. }) = self.pending.front() {
            let Some(first) = self.pending.pop_front() else { return };
            if let Outcome::Refused(problem) = first.outcome {
                self.bytes -= first.bytes;
                self.refuse(first.number, first.name.as_ref(), &problem);
            }
        }
    }

    /// Answers the first line.
    fn answer(&mut self, result: Result<Written, Problem>) {
        let Some(Pending { number, bytes, name, .. }) = self.pending.pop_front() else { return };
        self.bytes -= bytes;
        match (result, &name) {
            (Ok(written), Some(name)) => {
                self.summary.lines += 1;
                self.summary.ok += 1;
                let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
                self.say(&Done {
                    line: number,
                    status: status.as_u16(),
                    collection: name.collection().as_str(),
                    key: name.key().as_str(),
                    version: Hashes(&written.version),
                    merged: written.merged,
                    unchanged: written.unchanged,
                    replayed: written.replayed,
                });
            }
            (Ok(_), None) => {}
            (Err(problem), name) => self.refuse(number, name.as_ref(), &problem),
        }
    }

    fn refuse(&mut self, number: u64, name: Option<&Name>, problem: &Problem) {
        if let Some(cause) = problem.cause() {
            tracing::error!(line = number, cause, "a defect, or damage, in a bulk write");
        }
        self.summary.lines += 1;
        self.summary.failed += 1;
        self.say(&Failed {
            line: number,
            status: problem.status().as_u16(),
            collection: name.map(|name| name.collection().as_str()),
            key: name.map(|name| name.key().as_str()),
            version: problem.version().map(Hashes),
            problem: problem.document(),
        });
    }

    /// Adds a line to the answer.
    fn say(&mut self, line: &impl Serialize) {
        // What is written here has a JSON form, and memory takes it.
        let _ = serde_json::to_writer(&mut self.out, line);
        self.out.push(b'\n');
    }
}

/// Begins the write that a line asks for.
async fn begin(api: Api, line: &[u8]) -> (Option<Name>, Outcome) {
    let (name, write) = match line::parse(&api, line) {
        Ok((name, Ok(write))) => (name, write),
        Ok((name, Err(problem))) => return (Some(name), Outcome::Refused(problem.into())),
        Err(problem) => return (None, Outcome::Refused(problem.into())),
    };
    let outcome = match api.node().begin_write(&name, write).await {
        Ok(writing) => Outcome::Writing(writing),
        Err(error) => Outcome::Refused(Box::new(error.into())),
    };
    (Some(name), outcome)
}

#[derive(Serialize)]
struct Done<'a> {
    line: u64,
    status: u16,
    collection: &'a str,
    key: &'a str,
    version: Hashes<'a>,
    merged: bool,
    unchanged: bool,
    /// Said only where it is so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
}

#[derive(Serialize)]
struct Failed<'a> {
    line: u64,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Hashes<'a>>,
    problem: super::problem::Document<'a>,
}

#[derive(Serialize)]
struct Last {
    summary: Summary,
}

/// Lines that were answered; blank ones are none.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Summary {
    lines: u64,
    ok: u64,
    failed: u64,
}
