//! Saved Automerge documents, `KEY.automerge`: in by `import`, out by `export --automerge`.

use super::{
    args::{Document, Source, Voice},
    client::{Call, Client, decode, encode},
    progress::{Part, Progress},
};
use crate::ident::{Collection, Key};
use anyhow::{Context, bail};
use bytes::BytesMut;
use hyper::Method;
use serde::Deserialize;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// How the names of such files end.
const EXTENSION: &str = "automerge";
const MEDIA_TYPE: &str = "application/vnd.automerge";

/// Whether a source is a saved document.
pub(crate) fn is_saved(source: &Source) -> bool {
    path_of(source).is_some()
}

fn path_of(source: &Source) -> Option<&Path> {
    match source {
        Source::File(path) if path.extension().is_some_and(|end| end == EXTENSION) => Some(path),
        Source::File(_) | Source::Input => None,
    }
}

/// Sends a saved document, under the name of its file. Gives how many changes were new.
pub(crate) async fn import(
    client: &Client,
    collection: &Collection,
    source: &Source,
) -> anyhow::Result<u64> {
    let path = path_of(source).with_context(|| format!("{source} is not a saved document"))?;
    let stem = path.file_stem().and_then(|stem| stem.to_str()).and_then(decode);
    let key: Key = stem
        .and_then(|stem| stem.parse().ok())
        .with_context(|| format!("{source}: the name of the file is no key"))?;
    let bytes = fs::read(path).with_context(|| source.to_string())?;
    let document = Document { collection: collection.clone(), key };
    let call = Call::below(Method::POST, &document, "_changes")
        .header("content-type", MEDIA_TYPE)?
        .body(bytes);
    let reply = client.call(call).await.with_context(|| source.to_string())?;
    let taken: Taken = serde_json::from_slice(&reply.body).context("the answer tells nothing")?;
    if !taken.waiting.is_empty() {
        let count = taken.waiting.len();
        bail!("{source}: {count} of its changes wait for others, which are not in it");
    }
    Ok(taken.taken)
}

#[derive(Deserialize)]
struct Taken {
    taken: u64,
    waiting: Vec<serde::de::IgnoredAny>,
}

/// Writes every document of a collection into a folder, which is made if it is not there and holds
/// nothing else.
pub(crate) async fn export(
    client: &Client,
    collection: &Collection,
    folder: &Path,
    all: u64,
    voice: Voice,
) -> anyhow::Result<()> {
    let said = || folder.display().to_string();
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::read_dir(folder).with_context(said)?.next().is_some() {
                bail!("{}: holds other files", said());
            }
        }
        made => made.with_context(said)?,
    }
    let call = Call::new(Method::GET, format!("/v1/{collection}?values=false"))
        .header("accept", "application/x-ndjson")?;
    let mut list = client.open(call).await?.into_body();
    let mut progress = Progress::new(voice);
    let (mut rows, mut done, mut failed) = (BytesMut::new(), 0, 0);
    while let Some(piece) = client.next(&mut list).await? {
        rows.extend_from_slice(&piece);
        while let Some(end) = memchr::memchr(b'\n', &rows) {
            let row = rows.split_to(end + 1);
            let Row { key } = serde_json::from_slice(&row).context("a row that is none")?;
            let document = Document { collection: collection.clone(), key: key.parse()? };
            match one(client, &document, folder).await {
                Ok(()) => done += 1,
                Err(error) => {
                    progress.talk(&format!("{key}: {error:#}"));
                    failed += 1;
                }
            }
            progress.tell(done, Some(Part { done, all }));
        }
    }
    progress.clear();
    if !rows.is_empty() {
        bail!("the list ends in the middle of a row");
    }
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(said)?;
    if failed != 0 {
        bail!("{failed} documents were not exported");
    }
    Ok(())
}

#[derive(Deserialize)]
struct Row {
    key: String,
}

async fn one(client: &Client, document: &Document, folder: &Path) -> anyhow::Result<()> {
    let call = Call::document(Method::GET, document).header("accept", MEDIA_TYPE)?;
    let reply = client.call(call).await?;
    let path = folder.join(file_name(document.key.as_str()));
    let mut file = File::create_new(&path).with_context(|| path.display().to_string())?;
    file.write_all(&reply.body)?;
    Ok(file.sync_all()?)
}

/// The name of a key's file. What has no place in a URL has none in the name of a file either; and a
/// shell's `*` passes over names that begin with a dot.
fn file_name(key: &str) -> String {
    let stem = encode(key);
    match stem.strip_prefix('.') {
        Some(rest) => format!("%2E{rest}.{EXTENSION}"),
        None => format!("{stem}.{EXTENSION}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_key_and_seen_by_a_shell() {
        for (key, name) in [
            ("a", "a.automerge"),
            (".env", "%2Eenv.automerge"),
            ("..x", "%2E.x.automerge"),
            ("a/é.", "a%2F%C3%A9..automerge"),
        ] {
            assert_eq!(file_name(key), name);
            let stem = Path::new(name).file_stem().unwrap().to_str().unwrap();
            assert_eq!(decode(stem).as_deref(), Some(key));
        }
    }
}
