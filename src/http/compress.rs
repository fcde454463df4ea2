//! Answers in a content coding, where the client takes one and it pays.

use super::{
    coding::{Coding, Wish},
    feed::Endless,
};
use crate::node::PEER_MESSAGE;
use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use http_body_util::BodyExt;
use std::io;
use tokio::{io::AsyncReadExt, task};
use tokio_util::io::{ReaderStream, StreamReader};

/// Smaller answers go out as they are: the fields cost as much as is saved.
const BYTES_MIN: u64 = 1 << 10;
/// Answers up to here are coded whole and say how long they are; larger ones while they go out.
const WHOLE_BYTES_MAX: u64 = 64 << 10;
/// What is coded before others may run: less than a millisecond of gzip.
const SLICE_BYTES: usize = 64 << 10;
/// Largest coded piece.
const PIECE_BYTES: usize = 32 << 10;

/// The coding that an answer goes out in, if it is to be coded.
pub(super) fn plan(answer: &Response<Body>, wish: Wish) -> Option<Coding> {
    wish.coding.filter(|_| pays(answer, wish))
}

/// The answer in a coding; as it was, if that does not make it smaller and its client takes it so.
pub(super) async fn encode(
    mut answer: Response<Body>,
    coding: Coding,
    wish: Wish,
) -> Response<Body> {
    let body = std::mem::take(answer.body_mut());
    *answer.body_mut() = match body.size_hint().exact() {
        Some(bytes) if bytes <= WHOLE_BYTES_MAX => {
            // A body that knows its length is in memory.
            let plain = match body.collect().await {
                Ok(plain) => plain.to_bytes(),
                Err(error) => {
                    *answer.body_mut() = Body::from_stream(stream::iter([Err::<Bytes, _>(error)]));
                    return answer;
                }
            };
            match encode_whole(coding, plain.clone()).await {
                Some(coded) if coded.len() < plain.len() || wish.coded_only => coded.into(),
                Some(_) | None => {
                    *answer.body_mut() = plain.into();
                    return answer;
                }
            }
        }
        Some(_) | None => {
            let plain = StreamReader::new(Box::pin(slices(body)));
            let pieces = ReaderStream::with_capacity(coding.encode(plain), PIECE_BYTES);
            Body::from_stream(pieces.then(|piece| task::yield_now().map(|()| piece)))
        }
    };
    describe(answer.headers_mut(), coding);
    answer
}

/// Whether the answer is one that gets smaller, or has to be coded at any price.
fn pays(answer: &Response<Body>, wish: Wish) -> bool {
    if answer.extensions().get::<Endless>().is_some() {
        return false;
    }
    let (status, size) = (answer.status(), answer.body().size_hint());
    let bodiless = status.is_informational()
        || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
        || size.exact() == Some(0);
    if bodiless || answer.headers().contains_key(header::CONTENT_ENCODING) {
        return false;
    }
    let large = size.exact().is_none_or(|bytes| BYTES_MIN <= bytes);
    wish.coded_only || large && is_loose(answer.headers())
}

/// Whether a body may get smaller: text, programs, and what nodes tell each other. Saved documents are
/// compressed.
fn is_loose(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.starts_with(b"text/")
        || essence.ends_with(b"json")
        || essence == b"application/openmetrics-text"
        || essence == b"application/wasm"
        || essence == PEER_MESSAGE.as_bytes()
}

async fn encode_whole(coding: Coding, plain: Bytes) -> Option<Vec<u8>> {
    let mut coded = Vec::with_capacity(plain.len() / 2);
    coding.encode(io::Cursor::new(plain)).read_to_end(&mut coded).await.ok()?;
    Some(coded)
}

/// What a body brings, in slices. The coder ends a piece where its input has a pause, so there is one
/// behind each slice.
fn slices(body: Body) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold((body, Bytes::new()), |(mut body, mut rest)| async move {
        if !rest.is_empty() {
            task::yield_now().await;
        }
        while rest.is_empty() {
            let Some(frame) = body.frame().await else { return Ok(None) };
            rest = frame.map_err(io::Error::other)?.into_data().unwrap_or_default();
        }
        let slice = rest.split_to(rest.len().min(SLICE_BYTES));
        Ok(Some((slice, (body, rest))))
    })
}

/// The fields that a coding changes.
pub(super) fn describe(headers: &mut HeaderMap, coding: Coding) {
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(header::CONTENT_LENGTH);
    let tagged = headers.get(header::ETAG).and_then(|tag| {
        let inner = tag.as_bytes().strip_suffix(b"\"")?;
        HeaderValue::from_bytes(&[inner, coding.tag_suffix().as_bytes(), b"\""].concat()).ok()
    });
    if let Some(tag) = tagged {
        headers.insert(header::ETAG, tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    fn wish(coding: Coding) -> Wish {
        Wish { coding: Some(coding), coded_only: false }
    }

    fn answer(kind: &'static str, body: impl Into<Body>) -> Response<Body> {
        let mut answer = Response::new(body.into());
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        answer
    }

    #[test]
    fn what_pays_is_coded() {
        let large = || "x".repeat(1024);
        let endless = || Body::from_stream(stream::pending::<io::Result<Bytes>>());
        for (kind, body, pays) in [
            ("application/json", large().into(), true),
            ("application/problem+json", large().into(), true),
            ("application/x-ndjson", endless(), true),
            ("text/plain; charset=utf-8", large().into(), true),
            ("application/openmetrics-text; version=1.0.0", large().into(), true),
            ("application/vnd.tombolo", large().into(), true),
            ("application/vnd.automerge", large().into(), false),
            ("application/wasm", large().into(), true),
            ("application/json", "x".repeat(1023).into(), false),
            ("application/json", Body::empty(), false),
        ] {
            let answer = answer(kind, body);
            assert_eq!(plan(&answer, wish(Coding::Gzip)).is_some(), pays, "{kind}");
            let coded_only = Wish { coded_only: true, ..wish(Coding::Gzip) };
            let empty = answer.body().size_hint().exact() == Some(0);
            assert_eq!(plan(&answer, coded_only).is_some(), !empty, "{kind}");
            assert_eq!(plan(&answer, Wish { coding: None, coded_only: false }), None);
        }
        for status in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
            let mut answer = answer("application/json", large());
            *answer.status_mut() = status;
            assert_eq!(plan(&answer, wish(Coding::Gzip)), None);
        }
    }

    #[tokio::test]
    async fn a_stream_is_coded_piece_by_piece_and_keeps_nothing_back() {
        for coding in [Coding::Zstd, Coding::Gzip] {
            let (sender, pieces) = mpsc::channel::<io::Result<Bytes>>(1);
            let pieces =
                stream::unfold(
                    pieces,
                    |mut pieces| async move { Some((pieces.recv().await?, pieces)) },
                );
            let plain = answer("application/x-ndjson", Body::from_stream(pieces));
            let coded = encode(plain, coding, wish(coding)).await;
            let coded =
                coded.into_body().into_data_stream().map(|piece| piece.map_err(io::Error::other));
            let mut decoded = coding.decode(StreamReader::new(coded));
            for number in 0..3 {
                let line = format!("{{\"number\":{number}}}\n");
                sender.send(Ok(line.clone().into())).await.unwrap();
                let mut read = vec![0; line.len()];
                // The next line comes only after this one was read.
                decoded.read_exact(&mut read).await.unwrap();
                assert_eq!(String::from_utf8(read).unwrap(), line);
            }
            drop(sender);
            assert_eq!(decoded.read_to_end(&mut Vec::new()).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn a_large_answer_lets_others_run_while_it_is_coded() {
        let large = "0123456789abcdef".repeat(64 << 10);
        let coded =
            encode(answer("application/json", large), Coding::Gzip, wish(Coding::Gzip)).await;
        let mut body = coded.into_body();
        let mut turns = 0;
        let mut coding = Box::pin(async { while body.frame().await.is_some() {} });
        std::future::poll_fn(|cx| {
            turns += 1;
            coding.as_mut().poll(cx)
        })
        .await;
        assert!((1 << 20) / SLICE_BYTES <= turns, "{turns}");
    }

    #[tokio::test]
    async fn what_does_not_get_smaller_stays_as_it_is() {
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = (0..2000).map(|_| random.u8(..)).collect();
        let plain =
            encode(answer("text/plain", noise.clone()), Coding::Gzip, wish(Coding::Gzip)).await;
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
        assert_eq!(plain.into_body().collect().await.unwrap().to_bytes(), noise);
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_is_no_whole_answer() {
        let pieces = [Ok(Bytes::from_static(b"{}\n")), Err(io::Error::other("damage"))];
        let plain = answer("application/x-ndjson", Body::from_stream(stream::iter(pieces)));
        let coded = encode(plain, Coding::Zstd, wish(Coding::Zstd)).await;
        assert!(coded.into_body().collect().await.is_err());
    }
}
