//! The decoder: a process of its own that opens what is too large to be opened here unseen.
//!
//! A whole document of more operations than the gate opens by itself is opened there first, where it
//! may use so much memory and time and no more. If the process dies of it, that is the document's
//! fault, and nobody else's loss.
//!
//! ```text
//! asked     length (u64, little-endian), bytes
//! answered  0: it can be opened; else how it is refused (1 byte), length (u64, little-endian), why
//! ```

use super::{Error, threads::STACK_BYTES};
use crate::doc::{Actor, Document, Limits, Refusal, RefusalKind, Room, Sender};
use std::{
    ffi::OsString,
    io::{self, Read, Write},
    process::Stdio,
    thread,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
    time,
};

/// Memory that the process may have, in bytes of addresses: a text of as many letters as a document may
/// have bytes takes most of it.
pub const DECODER_MEMORY_BYTES: u64 = 2 << 30;
/// Longest that it may take over one document.
const TIME_MAX: Duration = Duration::from_secs(60);
/// What its allocator is told: addresses that are free are given back, since they count.
const ALLOCATOR: (&str, &str) = ("MALLOC_CONF", "retain:false");
/// Longest reason that is read.
const REASON_BYTES_MAX: u64 = 4 << 10;

/// One process, started when it is needed and again when it has died.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The program and its arguments; empty: there is none.
    program: Vec<OsString>,
    process: Mutex<Option<Process>>,
}

#[derive(Debug)]
struct Process {
    _child: Child,
    asked: ChildStdin,
    answered: ChildStdout,
}

impl Decoder {
    pub(super) fn new(program: Vec<OsString>) -> Self {
        Self { program, process: Mutex::default() }
    }

    /// Whether a whole document can be opened.
    ///
    /// # Errors
    /// `Refused`: it cannot. `Internal`: there is no process that could tell.
    pub(super) async fn check(&self, bytes: &[u8]) -> Result<(), Error> {
        let Some((program, arguments)) = self.program.split_first() else {
            let why = "a document of more operations than are opened here";
            return Err(Error::Refused(Refusal::new(RefusalKind::TooLarge, why)));
        };
        let mut process = self.process.lock().await;
        // Taken out: one that does not answer is ended with this try.
        let mut asked = match process.take() {
            Some(running) => running,
            None => start(program, arguments)
                .map_err(|error| Error::Internal(format!("no decoder: {error}")))?,
        };
        match time::timeout(TIME_MAX, asked.ask(bytes)).await {
            Ok(Ok(answer)) => {
                *process = Some(asked);
                answer.map_err(Error::Refused)
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, bytes = bytes.len(), "the decoder died of a document");
                Err(broken("a document of which the process died that opened it"))
            }
            Err(_) => {
                tracing::warn!(bytes = bytes.len(), "the decoder did not come to an end");
                Err(broken("a document that takes too long to open"))
            }
        }
    }
}

fn broken(why: &str) -> Error {
    Error::Refused(Refusal::new(RefusalKind::Broken, why))
}

fn start(program: &OsString, arguments: &[OsString]) -> io::Result<Process> {
    let mut child = Command::new(program)
        .args(arguments)
        .env(ALLOCATOR.0, ALLOCATOR.1)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let pipes = child.stdin.take().zip(child.stdout.take());
    let (asked, answered) = pipes.ok_or(io::ErrorKind::BrokenPipe)?;
    Ok(Process { _child: child, asked, answered })
}

impl Process {
    async fn ask(&mut self, bytes: &[u8]) -> io::Result<Result<(), Refusal>> {
        self.asked.write_u64_le(bytes.len() as u64).await?;
        self.asked.write_all(bytes).await?;
        self.asked.flush().await?;
        let Some(kind) = kind_of(self.answered.read_u8().await?)? else { return Ok(Ok(())) };
        let length = self.answered.read_u64_le().await?;
        if REASON_BYTES_MAX < length {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut reason = String::new();
        (&mut self.answered).take(length).read_to_string(&mut reason).await?;
        if reason.len() as u64 == length {
            Ok(Err(Refusal::new(kind, reason)))
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// Opens documents as a node asks for it, until there are no more. It is called by a process that is
/// nothing else, and that limits itself before.
///
/// # Errors
/// Its input or output is gone, or it panicked.
pub fn decode(
    asked: impl Read + Send + 'static,
    answered: impl Write + Send + 'static,
    limits: Limits,
) -> io::Result<()> {
    let thread = thread::Builder::new().stack_size(STACK_BYTES);
    let work = thread.spawn(move || answer_all(asked, answered, limits))?;
    work.join().unwrap_or_else(|_| Err(io::Error::other("it panicked")))
}

fn answer_all(mut asked: impl Read, mut answered: impl Write, limits: Limits) -> io::Result<()> {
    let mut length = [0; 8];
    while read_or_end(&mut asked, &mut length)? {
        let mut bytes = Vec::new();
        asked.by_ref().take(u64::from_le_bytes(length)).read_to_end(&mut bytes)?;
        match open(&bytes, limits) {
            Ok(()) => answered.write_all(&[OPENS])?,
            Err(Refusal { kind, detail, .. }) => {
                answered.write_all(&[code_of(kind)])?;
                answered.write_all(&(detail.len() as u64).to_le_bytes())?;
                answered.write_all(detail.as_bytes())?;
            }
        }
        answered.flush()?;
    }
    Ok(())
}

const OPENS: u8 = 0;
/// How documents are refused, by the byte that says so, counted from 1.
const KINDS: [RefusalKind; 5] = [
    RefusalKind::BadChanges,
    RefusalKind::TooLarge,
    RefusalKind::TooDeep,
    RefusalKind::Broken,
    RefusalKind::Internal,
];

fn code_of(kind: RefusalKind) -> u8 {
    let kind = if kind == RefusalKind::Heavy { RefusalKind::TooLarge } else { kind };
    (1..).zip(KINDS).find(|(_, known)| *known == kind).map_or(1, |(code, _)| code)
}

fn kind_of(code: u8) -> io::Result<Option<RefusalKind>> {
    match code.checked_sub(1) {
        None => Ok(None),
        Some(index) => match KINDS.get(usize::from(index)) {
            Some(kind) => Ok(Some(*kind)),
            None => Err(io::ErrorKind::InvalidData.into()),
        },
    }
}

/// Whether there was a beginning at all.
fn read_or_end(asked: &mut impl Read, length: &mut [u8; 8]) -> io::Result<bool> {
    let (first, rest) = length.split_at_mut(1);
    if asked.read(first)? == 0 {
        return Ok(false);
    }
    asked.read_exact(rest).map(|()| true)
}

fn open(bytes: &[u8], limits: Limits) -> Result<(), Refusal> {
    let room = Room { changes: 0, bytes: 0 };
    let mut document = Document::new(Actor([0; 16]));
    document.admit(bytes, Sender::Stranger, room, &limits.decoded()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::{Edit, Form, Stamp, parse};

    fn saved() -> Vec<u8> {
        let mut document = Document::new(Actor([7; 16]));
        let value = parse(br#"{"a":1}"#, Form::Plain, &Limits::default()).unwrap();
        document.edit(&Edit::Put(value), None, &Stamp::default(), &Limits::default()).unwrap();
        document.save()
    }

    fn decoder(script: &str) -> Decoder {
        Decoder::new(["sh", "-c", script].map(OsString::from).into())
    }

    fn kind(outcome: Result<(), Error>) -> Option<RefusalKind> {
        match outcome {
            Ok(()) => None,
            Err(Error::Refused(refusal)) => Some(refusal.kind),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_can_be_opened_is_told_from_what_cannot() {
        let mut asked = Vec::new();
        for bytes in [&saved()[..], b"nonsense", &saved()] {
            asked.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            asked.extend_from_slice(bytes);
        }
        let mut answered = Vec::new();
        answer_all(&asked[..], &mut answered, Limits::default()).unwrap();
        let reason = "no chunk of Automerge begins here";
        let expected = [&[0, 1, 33, 0, 0, 0, 0, 0, 0, 0][..], reason.as_bytes(), &[0]];
        assert_eq!(answered, expected.concat());
        assert!(
            answer_all(&asked[..3], &mut answered, Limits::default()).is_err(),
            "half a length"
        );
    }

    #[tokio::test]
    async fn a_process_that_dies_or_lies_is_ended_and_another_one_asked() {
        let none = Decoder::new(Vec::new());
        assert_eq!(kind(none.check(&saved()).await), Some(RefusalKind::TooLarge));
        let missing = Decoder::new(vec!["/nowhere/decoder".into()]);
        assert!(matches!(missing.check(&saved()).await, Err(Error::Internal(_))));
        for script in [
            "exit 1",
            "kill -9 $$",
            "head -c 8 > /dev/null; printf '\\001\\001\\0\\0\\0'",
            "printf '\\377'; sleep 9",
            "printf '\\001\\377\\377\\377\\377\\377\\377\\377\\377'; sleep 9",
            "printf '\\001\\002\\0\\0\\0\\0\\0\\0\\0\\377\\377'; sleep 9",
        ] {
            let decoder = decoder(script);
            for _ in 0..2 {
                assert_eq!(
                    kind(decoder.check(&saved()).await),
                    Some(RefusalKind::Broken),
                    "{script}"
                );
            }
        }
        // One that answers is asked again, and so long as it lives.
        let fine = decoder("printf '\\0\\003\\003\\0\\0\\0\\0\\0\\0\\0bad'; cat > /dev/null");
        assert_eq!(kind(fine.check(&saved()).await), None);
        assert_eq!(kind(fine.check(&saved()).await), Some(RefusalKind::TooDeep));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_does_not_answer_is_given_up() {
        let decoder = decoder("sleep 60");
        assert_eq!(kind(decoder.check(&saved()).await), Some(RefusalKind::Broken));
    }
}
