//! Content codings: `Content-Encoding` of a request, and how its body is decoded.

use super::problem::{Code, Problem};
use async_compression::{
    tokio::bufread::{GzipDecoder, ZstdDecoder},
    zstd::DParameter,
};
use axum::http::{HeaderMap, header};
use std::pin::Pin;
use tokio::io::{AsyncBufRead, AsyncRead};

/// Codings of a body that are undone, as `Accept-Encoding` lists them.
const TAKEN: &str = "zstd, gzip";
/// The largest window of zstd that is taken, as a power of two: what RFC 9659 lets a sender use.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A content coding that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
}

impl Coding {
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

    /// The coding's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What coded bytes say. Frames and members may follow each other; an end inside of one is an
    /// error, and so is what follows the last without being another.
    pub(super) fn decode(
        self,
        coded: impl AsyncBufRead + Send + 'static,
    ) -> Pin<Box<dyn AsyncRead + Send>> {
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
}
