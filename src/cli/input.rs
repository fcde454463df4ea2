//! Files to be read as text: found, opened, and their compression undone.

use super::args::Source;
use anyhow::{Context, bail};
use std::{
    fmt,
    fs::{self, File},
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Bytes that tell what a file is.
const MAGIC_BYTES: usize = 6;

/// What a file begins with that is compressed, or no text as we take it.
const MAGIC: &[(&[u8], Magic)] = &[
    (b"\x1f\x8b", Magic::Gzip),
    (b"\x28\xb5\x2f\xfd", Magic::Zstd),
    (b"\xfd7zXZ\0", Magic::Foreign("compressed by xz")),
    (b"BZh", Magic::Foreign("compressed by bzip2")),
    (b"PK\x03\x04", Magic::Foreign("a zip archive")),
    (b"\xff\xfe", Magic::Foreign("UTF-16")),
    (b"\xfe\xff", Magic::Foreign("UTF-16")),
];

/// Bytes of text that tell whether it is one.
const HEAD_BYTES: usize = 4 << 10;
/// A mark of UTF-8, which some programs write before all else.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[derive(Debug, Clone, Copy)]
enum Magic {
    Gzip,
    Zstd,
    Foreign(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => out.write_str("-"),
            Self::File(path) => path.display().fmt(out),
        }
    }
}

/// The bytes of a source, or nothing if it does not know; an error if it is not there or cannot be
/// read as a file.
pub(crate) fn measure(source: &Source) -> anyhow::Result<Option<u64>> {
    let Source::File(path) = source else { return Ok(None) };
    let about = fs::metadata(path).with_context(|| source.to_string())?;
    if about.is_dir() {
        bail!("{source}: is a directory");
    }
    Ok(about.is_file().then_some(about.len()))
}

/// The text of a source, and counts in `read` what is taken off the disk.
///
/// # Errors
/// It is not there, cannot be read, or is no text.
pub(crate) fn open(source: &Source, read: Arc<AtomicU64>) -> anyhow::Result<Box<dyn BufRead>> {
    let file: Box<dyn Read> = match source {
        Source::Input => Box::new(io::stdin()),
        Source::File(path) => Box::new(File::open(path as &Path)?),
    };
    text(Counted { file, read })
}

/// The text in these bytes.
fn text(mut file: impl Read + 'static) -> anyhow::Result<Box<dyn BufRead>> {
    let start = start(&mut file, MAGIC_BYTES)?;
    let magic = MAGIC.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, kind)| *kind);
    let file = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(start).chain(file));
    let mut text: Box<dyn Read> = match magic {
        None => Box::new(file),
        Some(Magic::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Some(Magic::Zstd) => Box::new(zstd::stream::read::Decoder::with_buffer(file)?),
        Some(Magic::Foreign(what)) => bail!("is {what}: JSON is read plain, or by gzip or zstd"),
    };
    let mut head = self::start(&mut text, HEAD_BYTES)?;
    if head.contains(&0) {
        bail!("is no JSON: there are bytes 0 in it");
    }
    if head.starts_with(BYTE_ORDER_MARK) {
        head.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, Cursor::new(head).chain(text))))
}

/// As many bytes as there are, up to so many.
fn start(file: &mut impl Read, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(bytes_max);
    file.take(bytes_max as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// A reader that counts.
struct Counted {
    file: Box<dyn Read>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(text).unwrap();
        out.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut text = text(Cursor::new(bytes.to_vec())).map_err(|error| error.to_string())?;
        let mut out = Vec::new();
        text.read_to_end(&mut out).map_err(|error| error.to_string())?;
        Ok(out)
    }

    #[test]
    fn text_is_read_whatever_it_is_wrapped_in() {
        let plain = b"{\"a\":1}\n".to_vec();
        let members = [gzip(&plain), gzip(&plain)].concat();
        let zstd = zstd::encode_all(&plain[..], 1).unwrap();
        for (bytes, text) in [
            (Vec::new(), Vec::new()),
            (b"{".to_vec(), b"{".to_vec()),
            (plain.clone(), plain.clone()),
            ([BYTE_ORDER_MARK, &plain].concat(), plain.clone()),
            (gzip(&plain), plain.clone()),
            (gzip(&[BYTE_ORDER_MARK, &plain].concat()), plain.clone()),
            (members, plain.repeat(2)),
            (zstd.clone(), plain.clone()),
            (zstd.repeat(2), plain.repeat(2)),
        ] {
            assert_eq!(read(&bytes).as_ref(), Ok(&text), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_text_is_refused_by_its_name() {
        let plain = b"{\"a\":1}\n".repeat(1000);
        let (gzip, zstd) = (gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap());
        for (bytes, why) in [
            (b"\xfd7zXZ\0\0".to_vec(), "xz"),
            (b"BZh91AY".to_vec(), "bzip2"),
            (b"PK\x03\x04\x14\0".to_vec(), "zip"),
            (b"\xff\xfe{\0".to_vec(), "UTF-16"),
            (b"\x7fELF\x02\x01\x01\0".to_vec(), "no JSON"),
            (gzip[..gzip.len() / 2].to_vec(), ""),
            (zstd[..zstd.len() / 2].to_vec(), ""),
            ([&gzip[..], b"garbage"].concat(), ""),
        ] {
            let found = read(&bytes).unwrap_err();
            assert!(found.contains(why), "{bytes:?}: {found}");
        }
    }
}
