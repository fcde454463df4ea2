//! Bodies in zstd, where that makes them smaller.

use super::Error;
use async_compression::{
    Level,
    tokio::bufread::{ZstdDecoder, ZstdEncoder},
    zstd::DParameter,
};
use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    task::coop,
};

/// The one coding that is used, as the fields of HTTP name it.
pub(super) const CODING: &str = "zstd";
/// Smaller bodies go as they are.
const BYTES_MIN: usize = 1 << 10;
/// Of each body, as much is looked at first; what does not become smaller by a sixteenth goes as it is.
const SAMPLE_BYTES: usize = 64 << 10;
/// The fastest that is: between nodes it is time that is short.
const LEVEL: Level = Level::Precise(1);
/// The largest window that is taken, as a power of two: what RFC 9659 lets a sender use.
const WINDOW_LOG_MAX: u32 = 23;
/// What is coded before others may run.
const SLICE_BYTES: usize = 64 << 10;

/// A body, coded; `None`: it is not worth it.
pub(super) async fn encode(plain: &Bytes) -> Option<Vec<u8>> {
    if plain.len() < BYTES_MIN {
        return None;
    }
    if SAMPLE_BYTES < plain.len() {
        let from = (plain.len() - SAMPLE_BYTES) / 2;
        let sample = &plain[from..from + SAMPLE_BYTES];
        if SAMPLE_BYTES / 16 * 15 < coded(sample).await?.len() {
            return None;
        }
    }
    coded(plain).await.filter(|coded| coded.len() < plain.len())
}

async fn coded(plain: &[u8]) -> Option<Vec<u8>> {
    read(ZstdEncoder::with_quality(plain, LEVEL), usize::MAX).await.ok()
}

/// What a body says, of at most so many bytes.
///
/// # Errors
/// `TooLarge`, `Coding`.
pub(super) async fn decode(coded: &[u8], bytes_max: usize) -> Result<Bytes, Error> {
    let window = DParameter::window_log_max(WINDOW_LOG_MAX);
    let mut decoder = ZstdDecoder::with_params(coded, &[window]);
    decoder.multiple_members(true);
    Ok(read(decoder, bytes_max).await?.into())
}

async fn read(reader: impl AsyncRead, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let mut reader = std::pin::pin!(reader);
    let mut whole = Vec::new();
    loop {
        coop::consume_budget().await;
        let before = whole.len();
        let mut slice = (&mut reader).take(SLICE_BYTES as u64);
        slice.read_to_end(&mut whole).await.map_err(|error| Error::Coding(error.to_string()))?;
        if bytes_max < whole.len() {
            return Err(Error::TooLarge);
        }
        if whole.len() == before {
            return Ok(whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_becomes_smaller_is_coded_and_comes_back() {
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Bytes = (0..200_000).map(|_| random.u8(..)).collect::<Vec<_>>().into();
        let text = Bytes::from("all of it the same, ".repeat(10_000));
        let small = text.slice(..1_000);
        for (plain, smaller) in [(&noise, false), (&small, false), (&text, true)] {
            let coded = encode(plain).await;
            assert_eq!(coded.is_some(), smaller, "{}", plain.len());
            let Some(coded) = coded else { continue };
            assert!(coded.len() < plain.len() / 100);
            assert_eq!(decode(&coded, plain.len()).await.as_ref(), Ok(plain));
            assert_eq!(decode(&coded, plain.len() - 1).await, Err(Error::TooLarge));
            let broken = decode(&coded[..coded.len() - 1], plain.len()).await;
            assert!(matches!(broken, Err(Error::Coding(_))), "{broken:?}");
        }
        assert!(matches!(decode(&noise, usize::MAX).await, Err(Error::Coding(_))));
    }
}
