//! A body as lines: read as they come, each bounded in length and in time, none kept.

use super::{
    body::{Pace, Pieces},
    extract::{Call, Options},
    problem::{Code, Problem},
};
use bytes::{Bytes, BytesMut};
use tokio::time::{self, Instant};

/// Most bytes set aside for a line before they have come.
const LINE_RESERVE: usize = 4 << 10;

/// The lines of a body. At most one of them is held, and one frame of the body behind it.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Pieces,
    pace: Pace,
    line_bytes_max: usize,
    /// What came and was not looked at.
    frame: Bytes,
    /// The line that has begun, if it did so in an earlier frame.
    begun: BytesMut,
    /// Bytes of the line that has begun; more than `begun` holds once it is too long.
    length: usize,
    /// Lines that ended.
    count: u64,
    /// Since when the line that has begun is waited for.
    since: Option<Instant>,
    over: bool,
}

/// A line, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Without its end; never blank.
    Whole(Bytes),
    /// Longer than a body may be; it was read to its end, and not kept.
    TooLong,
    /// It did not come in time. Nothing more is read.
    Late,
    /// The body broke off in it, or is not what its coding says. Nothing more comes.
    Broken {
        /// Which of the two.
        code: Code,
        /// In words.
        detail: String,
    },
}

impl Lines {
    /// The lines of a request's body.
    ///
    /// # Errors
    /// `UnsupportedMediaType` for the body's coding.
    pub(crate) fn of(mut call: Call) -> Result<Self, Problem> {
        Ok(Self::new(call.endless()?, call.api.options()))
    }

    fn new(body: Pieces, options: &Options) -> Self {
        Self {
            body,
            pace: Pace::of(options),
            line_bytes_max: options.body_bytes_max,
            frame: Bytes::new(),
            begun: BytesMut::new(),
            length: 0,
            count: 0,
            since: None,
            over: false,
        }
    }

    /// The next line that is not blank, and its number in the body, from 1. `None` at the end. A
    /// future that is dropped loses nothing.
    ///
    /// A line may take as long as a body of its length.
    pub(crate) async fn next(&mut self) -> Option<(u64, Line)> {
        loop {
            if let Some(line) = self.cut() {
                return Some((self.count, line));
            }
            if self.over {
                return None;
            }
            let since = *self.since.get_or_insert_with(Instant::now);
            let until = since + self.pace.time(self.length);
            match time::timeout_at(until, self.body.next()).await {
                Ok(Ok(Some(frame))) => self.frame = frame,
                Ok(Ok(None)) => {
                    self.over = true;
                    return self.end().map(|line| (self.count, line));
                }
                Ok(Err(problem)) => {
                    let (code, detail) = (problem.code(), problem.to_string());
                    return Some(self.stop(Line::Broken { code, detail }));
                }
                Err(_) => return Some(self.stop(Line::Late)),
            }
        }
    }

    /// Says that nobody waits for the next line: its time stands still.
    pub(crate) fn pause(&mut self) {
        self.since = None;
    }

    fn stop(&mut self, why: Line) -> (u64, Line) {
        self.over = true;
        (self.count + 1, why)
    }

    /// The line that ends in this frame, if one does that is not blank.
    fn cut(&mut self) -> Option<Line> {
        while !self.frame.is_empty() {
            let Some(end) = memchr::memchr(b'\n', &self.frame) else {
                let frame = std::mem::take(&mut self.frame);
                self.absorb(&frame);
                return None;
            };
            let tail = self.frame.split_to(end + 1).slice(..end);
            if let Some(line) = self.finish(tail) {
                return Some(line);
            }
        }
        None
    }

    /// The line that the body ends without an end of line.
    fn end(&mut self) -> Option<Line> {
        if self.length == 0 { None } else { self.finish(Bytes::new()) }
    }

    fn finish(&mut self, tail: Bytes) -> Option<Line> {
        let line = if self.length == 0 {
            self.length = tail.len();
            tail
        } else {
            self.absorb(&tail);
            std::mem::take(&mut self.begun).freeze()
        };
        let length = std::mem::take(&mut self.length);
        self.count += 1;
        self.since = None;
        if self.line_bytes_max < length {
            return Some(Line::TooLong);
        }
        (!line.trim_ascii().is_empty()).then_some(Line::Whole(line))
    }

    fn absorb(&mut self, part: &[u8]) {
        self.length = self.length.saturating_add(part.len());
        if self.line_bytes_max < self.length {
            self.begun = BytesMut::new();
        } else {
            if self.begun.is_empty() {
                self.begun.reserve(LINE_RESERVE.min(self.line_bytes_max));
            }
            self.begun.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use futures_util::{StreamExt, stream};
    use std::time::Duration;

    fn whole(text: &'static str) -> Line {
        Line::Whole(Bytes::from_static(text.as_bytes()))
    }

    fn lines(frames: &[&'static str], body_bytes_max: usize) -> Lines {
        let frames: Vec<_> = frames.iter().map(|text| Ok::<_, std::io::Error>(*text)).collect();
        let options = Options { body_bytes_max, ..Options::default() };
        Lines::new(Pieces::of_body(Body::from_stream(stream::iter(frames))), &options)
    }

    async fn all(mut lines: Lines) -> Vec<(u64, Line)> {
        let mut found = Vec::new();
        while let Some(line) = lines.next().await {
            found.push(line);
        }
        found
    }

    #[tokio::test]
    async fn lines_are_cut_wherever_frames_are() {
        for (frames, expected) in [
            (&[][..], vec![]),
            (&["a\nbc\n"], vec![(1, whole("a")), (2, whole("bc"))]),
            (&["a", "\nb", "c", "\n"], vec![(1, whole("a")), (2, whole("bc"))]),
            (&["a\nb"], vec![(1, whole("a")), (2, whole("b"))]),
            (&["\n \r\n\na\r\n"], vec![(4, whole("a\r"))]),
            (&["a\n", " "], vec![(1, whole("a"))]),
            (&["1234\n5"], vec![(1, whole("1234")), (2, whole("5"))]),
            (&["12345\n6"], vec![(1, Line::TooLong), (2, whole("6"))]),
            (&["123", "45", "67\n8"], vec![(1, Line::TooLong), (2, whole("8"))]),
            (&["123", "45"], vec![(1, Line::TooLong)]),
            (&["    ", " \n7"], vec![(1, Line::TooLong), (2, whole("7"))]),
        ] {
            assert_eq!(all(lines(frames, 4)).await, expected, "{frames:?}");
        }
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_not_held() {
        let mut lines = lines(&["123456789", "123456789", "\n1"], 8);
        let (number, line) = lines.next().await.unwrap();
        assert_eq!((number, line), (1, Line::TooLong));
        assert!(lines.begun.capacity() <= 8, "{}", lines.begun.capacity());
    }

    #[tokio::test]
    async fn a_line_in_which_the_body_breaks_off_is_none() {
        let frames = [Ok("a\n{\"b\":1}"), Err(std::io::Error::other("gone")), Ok("x\n")];
        let body = Pieces::of_body(Body::from_stream(stream::iter(frames)));
        let found = all(Lines::new(body, &Options::default())).await;
        let (code, detail) = (Code::BadJson, "the body broke off".to_owned());
        assert_eq!(found, [(1, whole("a")), (2, Line::Broken { code, detail })]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_line_has_its_own_time_and_a_pause_takes_none_of_it() {
        let slow = |seconds: u64| {
            let pieces = stream::iter(["a\n", "b\n", "c", "\n"]).then(move |piece| async move {
                time::sleep(Duration::from_secs(seconds)).await;
                Ok::<_, std::io::Error>(piece)
            });
            Lines::new(Pieces::of_body(Body::from_stream(pieces)), &Options::default())
        };
        let found = all(slow(14)).await;
        assert_eq!(found, [(1, whole("a")), (2, whole("b")), (3, whole("c"))]);
        let found = all(slow(20)).await;
        assert_eq!(found, [(1, whole("a")), (2, whole("b")), (3, Line::Late)]);
        let mut lines = slow(29);
        for _ in 0..3 {
            assert!(time::timeout(Duration::from_secs(9), lines.next()).await.is_err());
            lines.pause();
        }
        assert_eq!(lines.next().await, Some((1, whole("a"))));
    }
}
