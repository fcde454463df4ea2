//! How far something is, on one line of a terminal that is written again and again.

use super::{args::Voice, output};
use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};
use tokio::time::Instant;

/// How often the line is written.
const INTERVAL: Duration = Duration::from_millis(250);
/// Back to the line's begin, and nothing on it.
const CLEAR: &str = "\r\x1b[K";

/// A line of progress; nothing where nobody looks.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    began: Instant,
    written: Option<Instant>,
}

/// What is done of what there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) done: u64,
    pub(crate) all: u64,
}

impl Progress {
    pub(crate) fn new(voice: Voice) -> Self {
        let shown = !voice.quiet && io::stderr().is_terminal();
        Self { shown, began: Instant::now(), written: None }
    }

    /// Says how far it is, if it is time to.
    pub(crate) fn tell(&mut self, documents: u64, part: Option<Part>) {
        let now = Instant::now();
        if !self.shown || self.written.is_some_and(|last| now < last + INTERVAL) {
            return;
        }
        self.written = Some(now);
        let text = line(documents, part, now - self.began);
        // If nobody sees it, nobody misses it.
        let _ = write!(io::stderr(), "{CLEAR}{text}");
    }

    /// Says something that stays.
    pub(crate) fn talk(&mut self, text: &str) {
        self.clear();
        output::talk(text);
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if self.written.take().is_some() {
            let _ = write!(io::stderr(), "{CLEAR}");
        }
    }

    /// Since it began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

#[expect(clippy::cast_precision_loss, reason = "people read three digits of it")]
fn line(documents: u64, part: Option<Part>, elapsed: Duration) -> String {
    let rate = documents as f64 / elapsed.as_secs_f64().max(0.001);
    let mut text = format!("{documents} documents, {rate:.0}/s");
    if let Some(Part { done, all }) = part.filter(|part| 0 < part.all) {
        let share = (done as f64 / all as f64).min(1.0);
        text += &format!(", {:.0} %", 100.0 * share);
        if 0.0 < share {
            let left = Duration::try_from_secs_f64(elapsed.as_secs_f64() / share * (1.0 - share));
            text += &format!(", {} left", span(left.unwrap_or(Duration::MAX)));
        }
    }
    text
}

/// A time as people say it.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_many_how_fast_and_how_long() {
        for (documents, part, seconds, expected) in [
            (0, None, 0, "0 documents, 0/s"),
            (3000, None, 2, "3000 documents, 1500/s"),
            (3000, Some((1, 4)), 2, "3000 documents, 1500/s, 25 %, 6 s left"),
            (3000, Some((0, 4)), 2, "3000 documents, 1500/s, 0 %"),
            (3000, Some((0, 0)), 2, "3000 documents, 1500/s"),
            (5, Some((5, 4)), 1, "5 documents, 5/s, 100 %, 0 s left"),
            (60, Some((1, 62)), 60, "60 documents, 1/s, 2 %, 1 h 01 min left"),
            (60, Some((1, 3)), 61, "60 documents, 1/s, 33 %, 2 min 02 s left"),
        ] {
            let part = part.map(|(done, all)| Part { done, all });
            assert_eq!(line(documents, part, Duration::from_secs(seconds)), expected);
        }
    }
}
