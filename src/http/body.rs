//! A request's body on its way in: piece by piece, decoded, bounded in bytes and in time.

use super::{
    coding::{Coding, Reader},
    extract::{Call, Options},
    problem::{Code, Problem},
    traffic::Traffic,
};
use axum::{
    body::{Body, HttpBody},
    http::header,
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use std::{fmt, io, sync::Arc, time::Duration};
use tokio::{
    sync::OwnedSemaphorePermit,
    task::coop,
    time::{self, Instant},
};
use tokio_util::io::{ReaderStream, StreamReader};

/// Most bytes set aside for a body because a client says that it will send them.
const BODY_RESERVE: usize = 64 << 10;
/// Most bytes of a decoded piece: what a body grows by before its limit is looked at.
const DECODED_BYTES_MAX: usize = 32 << 10;

impl Call {
    /// The whole body, decoded; at most as large as bodies may be.
    pub(crate) async fn body(&mut self) -> Result<Bytes, Problem> {
        Ok(self.whole(self.api.options().body_bytes_max).await?.0)
    }

    /// The whole body, decoded, of up to `bytes_max`; beside it, where it is larger than other bodies
    /// may be, the turn that it has: only so many are held at once.
    ///
    /// # Errors
    /// `RateLimited`; as [`Pieces::next`].
    pub(crate) async fn whole(
        &mut self,
        bytes_max: usize,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Problem> {
        let usual = self.api.options().body_bytes_max;
        let said = usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX);
        let mut pieces = self.pieces(bytes_max)?;
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        let mut turn = None;
        while let Some(piece) = pieces.next().await? {
            if first.is_empty() {
                first = piece;
                continue;
            }
            if rest.is_empty() {
                rest.reserve(said.min(BODY_RESERVE));
                rest.extend_from_slice(&first);
            }
            if turn.is_none() && usual < rest.len() + piece.len() {
                turn = Some(self.api.large_body()?);
            }
            rest.extend_from_slice(&piece);
        }
        Ok((if rest.is_empty() { first } else { rest.freeze() }, turn))
    }

    /// The body piece by piece, which is taken out of the call. At most `bytes_max` bytes, both as
    /// they come and decoded, and in the time that a body has for what came of it: time in which
    /// nobody asks for the next piece does not count.
    ///
    /// # Errors
    /// `TooLarge` for a body that says so, `UnsupportedMediaType` for its coding.
    pub(crate) fn pieces(&mut self, bytes_max: usize) -> Result<Pieces, Problem> {
        self.paced(bytes_max, Pace::of(self.api.options()))
    }

    /// The body piece by piece, without bounds in bytes or time, which are the caller's to keep.
    ///
    /// # Errors
    /// `UnsupportedMediaType` for its coding.
    pub(crate) fn endless(&mut self) -> Result<Pieces, Problem> {
        self.paced(usize::MAX, Pace::ENDLESS)
    }

    fn paced(&mut self, bytes_max: usize, pace: Pace) -> Result<Pieces, Problem> {
        let coding = Coding::of_body(&self.head.headers)?;
        let said = usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX);
        if bytes_max < said {
            return Err(too_large(bytes_max));
        }
        let raw = Raw {
            traffic: self.api.traffic(),
            body: std::mem::take(&mut self.body),
            pace,
            waited: Duration::ZERO,
            bytes: 0,
            bytes_max,
        };
        Ok(Pieces(match coding {
            None => Source::Raw(raw),
            Some(coding) => Source::Coded(Coded::new(coding, raw)),
        }))
    }
}

/// What is left to read of a body.
#[derive(Debug)]
pub(crate) struct Pieces(Source);

#[derive(Debug)]
enum Source {
    Raw(Raw),
    Coded(Coded),
}

impl Pieces {
    /// A body without a request.
    #[cfg(test)]
    pub(crate) fn of_body(body: Body) -> Self {
        let (pace, waited) = (Pace::ENDLESS, Duration::ZERO);
        let traffic = Arc::default();
        Self(Source::Raw(Raw { traffic, body, pace, waited, bytes: 0, bytes_max: usize::MAX }))
    }

    /// The next piece, never empty; `None` once the body is over, whole. A future that is dropped
    /// loses nothing.
    ///
    /// # Errors
    /// `TooLarge`, `Timeout`, `BadCoding`; `BadJson` if the body broke off. It is over then.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        match &mut self.0 {
            Source::Raw(raw) => raw.next().await,
            Source::Coded(coded) => coded.next().await,
        }
    }
}

/// How slow a body, or a part of it, may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    grace: Duration,
    bytes_per_second_min: u64,
}

impl Pace {
    /// As good as for ever.
    const ENDLESS: Self =
        Self { grace: Duration::from_secs(1 << 32), bytes_per_second_min: u64::MAX };

    pub(crate) fn of(options: &Options) -> Self {
        let bytes_per_second_min = u64::from(options.body_bytes_per_second_min.max(1));
        Self { grace: options.answer_time, bytes_per_second_min }
    }

    /// How long a body may have been waited for of which `bytes` have come.
    pub(crate) fn time(self, bytes: usize) -> Duration {
        self.grace + Duration::from_secs(bytes as u64 / self.bytes_per_second_min)
    }
}

/// A body as it comes.
#[derive(Debug)]
struct Raw {
    traffic: Arc<Traffic>,
    body: Body,
    pace: Pace,
    /// How long it has been waited for.
    waited: Duration,
    bytes: usize,
    bytes_max: usize,
}

impl Raw {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let began = Instant::now();
            let patience = self.pace.time(self.bytes).saturating_sub(self.waited);
            let frame = time::timeout_at(began + patience, self.body.frame()).await;
            self.waited += began.elapsed();
            let late = |_| unread(Code::Timeout, "the body came too slowly, or not at all".into());
            let Some(frame) = frame.map_err(late)? else { return Ok(None) };
            let frame = frame.map_err(|_| Problem::new(Code::BadJson, "the body broke off"))?;
            let Ok(data) = frame.into_data() else { continue };
            self.traffic.bytes_in.add(data.len() as u64);
            self.bytes = self.bytes.saturating_add(data.len());
            if self.bytes_max < self.bytes {
                return Err(too_large(self.bytes_max));
            }
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }
}

/// A body behind its decoder.
struct Coded {
    coding: Coding,
    decoded: ReaderStream<Reader>,
    bytes: usize,
    bytes_max: usize,
}

impl fmt::Debug for Coded {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Coded").field("coding", &self.coding).finish_non_exhaustive()
    }
}

impl Coded {
    fn new(coding: Coding, raw: Raw) -> Self {
        let bytes_max = raw.bytes_max;
        let pieces = stream::try_unfold(raw, |mut raw| async move {
            let piece = raw.next().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(piece.map(|piece| (piece, raw)))
        });
        let reader = coding.decode(StreamReader::new(Box::pin(pieces)));
        let decoded = ReaderStream::with_capacity(reader, DECODED_BYTES_MAX);
        Self { coding, decoded, bytes: 0, bytes_max }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        // A few bytes of input may become any number of pieces, and others want to run as well. Before
        // the piece is taken: a caller that gives up waiting loses none.
        coop::consume_budget().await;
        let Some(piece) = self.decoded.next().await else { return Ok(None) };
        let piece = piece.map_err(|error| {
            // A refusal of what came, on its way through the decoder.
            error.downcast::<Problem>().unwrap_or_else(|error| {
                unread(Code::BadCoding, format!("no {} body: {error}", self.coding.name()))
            })
        })?;
        self.bytes = self.bytes.saturating_add(piece.len());
        if self.bytes_max < self.bytes {
            return Err(too_large(self.bytes_max));
        }
        Ok(Some(piece))
    }
}

fn too_large(limit: usize) -> Problem {
    unread(Code::TooLarge, format!("the body is larger than {limit} bytes"))
}

/// A refusal that leaves a part of the body unread: on HTTP/1.1 the connection ends with it.
fn unread(code: Code, detail: String) -> Problem {
    Problem::new(code, detail).hint(header::CONNECTION, "close")
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_compression::tokio::bufread;
    use tokio::io::AsyncReadExt;

    #[test]
    fn a_body_has_time_in_proportion_to_what_came() {
        let pace = Pace::of(&Options::default());
        assert_eq!(pace.time(0), Duration::from_secs(30));
        assert_eq!(pace.time(10 << 10), Duration::from_secs(40));
    }

    fn raw(body: impl Into<Body>, bytes_max: usize) -> Raw {
        let (body, pace) = (body.into(), Pace::of(&Options::default()));
        let traffic = Arc::default();
        Raw { traffic, body, pace, waited: Duration::ZERO, bytes: 0, bytes_max }
    }

    #[tokio::test]
    async fn a_small_body_that_becomes_a_large_one_is_cut_at_the_limit() {
        let zeros: &[u8] = &[0; 64 << 20];
        let (mut zstd, mut gzip) = (Vec::new(), Vec::new());
        bufread::ZstdEncoder::new(zeros).read_to_end(&mut zstd).await.unwrap();
        bufread::GzipEncoder::new(zeros).read_to_end(&mut gzip).await.unwrap();
        for (coding, bomb) in [(Coding::Zstd, zstd), (Coding::Gzip, gzip)] {
            assert!(bomb.len() < 70_000);
            let mut pieces = Pieces(Source::Coded(Coded::new(coding, raw(bomb, 1 << 20))));
            let mut bytes = 0;
            let refused = loop {
                match pieces.next().await {
                    Ok(piece) => {
                        let piece = piece.unwrap();
                        assert!((1..=DECODED_BYTES_MAX).contains(&piece.len()));
                        bytes += piece.len();
                    }
                    Err(refused) => break refused,
                }
            };
            assert_eq!(bytes, 1 << 20, "all that may come comes");
            assert_eq!(refused.into_response().status(), 413);
        }
    }

    #[tokio::test]
    async fn frames_that_hold_nothing_are_bounded_too() {
        let mut empty = Vec::new();
        bufread::GzipEncoder::new(&[][..]).read_to_end(&mut empty).await.unwrap();
        let endless = stream::repeat(Bytes::from(empty)).map(Ok::<_, io::Error>);
        let mut coded = Coded::new(Coding::Gzip, raw(Body::from_stream(endless), 1 << 20));
        assert_eq!(coded.next().await.unwrap_err().into_response().status(), 413);
    }
}
