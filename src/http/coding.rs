//! Content codings: which one a body is in, which one an answer may be in, and the codecs.

use super::{
    media,
    problem::{Code, Problem},
};
use async_compression::{
    Level,
    tokio::bufread::{GzipDecoder, GzipEncoder, ZstdDecoder, ZstdEncoder},
    zstd::{CParameter, DParameter},
};
use axum::http::{HeaderMap, header};
use std::pin::Pin;
use tokio::io::{AsyncBufRead, AsyncRead};

/// Codings of a body that are undone, as `Accept-Encoding` lists them.
const TAKEN: &str = "zstd, gzip";
/// The largest window of zstd that is taken, as a power of two: what RFC 9659 lets a sender use.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The window of zstd that is used, as a power of two: larger ones cost more memory than they save.
const ZSTD_WINDOW_LOG: u32 = 17;
const ZSTD_LEVEL: Level = Level::Precise(3);
const GZIP_LEVEL: Level = Level::Precise(4);

/// A content coding that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
}

/// Something that is read to its end.
pub(super) type Reader = Pin<Box<dyn AsyncRead + Send>>;

impl Coding {
    /// Every one, the best first.
    pub(super) const ALL: &[Self] = &[Self::Zstd, Self::Gzip];

    /// The coding of a request's body; `None`: the body is what it is.
    ///
    /// # Errors
    /// 415 with `Accept-Encoding`: an unknown coding, or several.
    pub(super) fn of_body(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut lines = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(line) = lines.next() else { return Ok(None) };
        let name = if lines.next().is_none() { line.as_bytes().trim_ascii() } else { b"several" };
        match name {
            _ if name.eq_ignore_ascii_case(b"zstd") => Ok(Some(Self::Zstd)),
            _ if name.eq_ignore_ascii_case(b"gzip") => Ok(Some(Self::Gzip)),
            // RFC 9110, 8.4.1.3: the same thing under an older name.
            _ if name.eq_ignore_ascii_case(b"x-gzip") => Ok(Some(Self::Gzip)),
            _ if name.eq_ignore_ascii_case(b"identity") => Ok(None),
            _ => {
                let detail = format!("Content-Encoding is one of {TAKEN}, or absent");
                Err(Problem::new(Code::UnsupportedMediaType, detail)
                    .hint(header::ACCEPT_ENCODING, TAKEN))
            }
        }
    }

    /// Whether an answer may be in this coding.
    pub(super) fn is_taken(self, headers: &HeaderMap) -> bool {
        Accepted::of(headers).liking(self) != 0
    }

    /// The coding's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What the entity tag of a representation in this coding ends in: a strong tag names bytes.
    pub(super) const fn tag_suffix(self) -> &'static str {
        match self {
            Self::Zstd => ";zst",
            Self::Gzip => ";gz",
        }
    }

    /// Plain bytes, coded. Whenever there are none to be had it gives out all that came before.
    pub(super) fn encode(self, plain: impl AsyncBufRead + Send + 'static) -> Reader {
        match self {
            Self::Zstd => {
                let window = CParameter::window_log(ZSTD_WINDOW_LOG);
                Box::pin(ZstdEncoder::with_quality_and_params(plain, ZSTD_LEVEL, &[window]))
            }
            Self::Gzip => Box::pin(GzipEncoder::with_quality(plain, GZIP_LEVEL)),
        }
    }

    /// What coded bytes say. Frames and members may follow each other; an end inside of one is an
    /// error, and so is what follows the last without being another.
    pub(super) fn decode(self, coded: impl AsyncBufRead + Send + 'static) -> Reader {
        match self {
            Self::Zstd => {
                let window = DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX);
                let mut decoder = ZstdDecoder::with_params(coded, &[window]);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            Self::Gzip => {
                let mut decoder = GzipDecoder::new(coded);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
        }
    }
}

/// What `Accept-Encoding` makes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    /// The coding that is liked best; `None`: none.
    pub(super) coding: Option<Coding>,
    /// An answer without a coding is not taken.
    pub(super) coded_only: bool,
}

impl Wish {
    /// As RFC 9110, 12.5.3: without the field an answer goes out as it is.
    ///
    /// # Errors
    /// 406: nothing is taken that could be sent.
    pub(super) fn parse(headers: &HeaderMap) -> Result<Self, Problem> {
        let accepted = Accepted::of(headers);
        let plain = accepted.plain();
        // The last of equals would be taken; the best stands first.
        let liking = |coding: &Coding| accepted.liking(*coding);
        let best = Coding::ALL.iter().rev().max_by_key(|coding| liking(coding)).copied();
        let best = best.filter(|coding| plain.unwrap_or(0).max(1) <= liking(coding));
        if best.is_none() && plain == Some(0) {
            let detail = format!("what can be sent: {TAKEN}, identity");
            return Err(Problem::new(Code::NotAcceptable, detail));
        }
        Ok(Self { coding: best, coded_only: plain == Some(0) })
    }
}

/// What `Accept-Encoding` names, each with its weight in thousandths.
struct Accepted<'a>(Vec<(&'a str, u16)>);

impl<'a> Accepted<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let lines = headers.get_all(header::ACCEPT_ENCODING).iter();
        let lines = lines.filter_map(|line| line.to_str().ok());
        Self(lines.flat_map(|line| line.split(',')).map(entry).collect())
    }

    fn find(&self, names: &[&str]) -> Option<u16> {
        let is = |name: &str| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        self.0.iter().find(|(name, _)| is(name)).map(|(_, quality)| *quality)
    }

    /// How a coding is liked; 0: not at all.
    fn liking(&self, coding: Coding) -> u16 {
        let names: &[&str] = match coding {
            Coding::Zstd => &["zstd"],
            Coding::Gzip => &["gzip", "x-gzip"],
        };
        self.find(names).or_else(|| self.find(&["*"])).unwrap_or(0)
    }

    /// How an answer without a coding is liked, if anything is said of that.
    fn plain(&self) -> Option<u16> {
        self.find(&["identity"]).or_else(|| self.find(&["*"]).filter(|quality| *quality == 0))
    }
}

/// A coding of `Accept-Encoding`, and its weight in thousandths.
fn entry(text: &str) -> (&str, u16) {
    let (name, weight) = text.split_once(';').unwrap_or((text, "q=1"));
    let (_, weight) = weight.split_once('=').unwrap_or(("", ""));
    (name.trim(), media::quality(weight.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_known_coding_is_undone_and_all_others_are_refused() {
        for (lines, expected) in [
            (&[][..], Some(None)),
            (&["gzip"], Some(Some(Coding::Gzip))),
            (&["X-GZIP"], Some(Some(Coding::Gzip))),
            (&["zstd"], Some(Some(Coding::Zstd))),
            (&["Identity"], Some(None)),
            (&["br"], None),
            (&["deflate"], None),
            (&[""], None),
            (&["gzip, zstd"], None),
            (&["gzip", "gzip"], None),
            (&["identity", "identity"], None),
        ] {
            let headers: HeaderMap = lines
                .iter()
                .map(|line| (header::CONTENT_ENCODING, line.parse().unwrap()))
                .collect();
            let found = Coding::of_body(&headers);
            if expected.is_none() {
                let refused = found.unwrap_err().into_response();
                assert_eq!(refused.status(), 415, "{lines:?}");
                assert_eq!(refused.headers()["accept-encoding"], TAKEN, "{lines:?}");
            } else {
                assert_eq!(found.ok(), expected, "{lines:?}");
            }
        }
    }

    #[test]
    fn the_best_liked_coding_is_chosen() {
        use Coding::{Gzip, Zstd};
        let wish = |coding, coded_only| Some(Wish { coding, coded_only });
        for (lines, expected) in [
            (&[][..], wish(None, false)),
            (&[""], wish(None, false)),
            (&["gzip"], wish(Some(Gzip), false)),
            (&["x-gzip"], wish(Some(Gzip), false)),
            (&["GZIP, ZSTD"], wish(Some(Zstd), false)),
            (&["gzip, deflate, br, zstd"], wish(Some(Zstd), false)),
            (&["gzip", "zstd;q=0.9"], wish(Some(Gzip), false)),
            (&["gzip;q=0.5, zstd; q=0.501"], wish(Some(Zstd), false)),
            (&["gzip;q=0"], wish(None, false)),
            (&["br, deflate"], wish(None, false)),
            (&["*"], wish(Some(Zstd), false)),
            (&["zstd;q=0, *"], wish(Some(Gzip), false)),
            (&["gzip;q=0.5, identity"], wish(None, false)),
            (&["gzip;q=0.5, identity;q=0.5"], wish(Some(Gzip), false)),
            (&["gzip, identity;q=0"], wish(Some(Gzip), true)),
            (&["gzip, *;q=0"], wish(Some(Gzip), true)),
            (&["identity, *;q=0"], wish(None, false)),
            (&["gzip;q=x"], wish(None, false)),
            (&["identity;q=0"], None),
            (&["*;q=0"], None),
            (&["br, identity;q=0"], None),
        ] {
            let headers: HeaderMap =
                lines.iter().map(|line| (header::ACCEPT_ENCODING, line.parse().unwrap())).collect();
            assert_eq!(Wish::parse(&headers).ok(), expected, "{lines:?}");
        }
    }
}
