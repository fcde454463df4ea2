//! `tombolo export`: all documents of a collection, one a line, as `import` takes them.

use super::{
    args::{Export, Voice},
    client::{Call, Client},
    failure::Failure,
    progress::{Part, Progress},
    saved,
};
use anyhow::{Context, bail};
use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use std::{
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

/// Runs the command.
pub(crate) async fn run(client: &Client, line: &Export, voice: Voice) -> anyhow::Result<()> {
    let all = count(client, line.collection.as_str()).await?;
    if let (true, Some(folder)) = (line.automerge, &line.out) {
        return saved::export(client, &line.collection, folder, all, voice).await;
    }
    let call = Call::new(Method::GET, format!("/v1/{}", line.collection))
        .header("accept", "application/x-ndjson")?;
    let mut body = client.open(call).await?.into_body();
    let mut out = match &line.out {
        None => Out::Standard(BufWriter::new(io::stdout())),
        Some(path) => Out::open(path)?,
    };
    let mut progress = Progress::new(voice);
    let mut done = 0;
    let mut last: Option<Bytes> = None;
    while let Some(piece) = client.next(&mut body).await? {
        done += memchr::memchr_iter(b'\n', &piece).count() as u64;
        out.write(&piece)?;
        last = Some(piece).filter(|piece| !piece.is_empty()).or(last);
        progress.tell(done, Some(Part { done, all }));
    }
    progress.clear();
    if last.is_some_and(|piece| !piece.ends_with(b"\n")) {
        bail!("the list ends in the middle of a row");
    }
    out.end()
}

/// How many documents there are; a collection that is not there is no empty one.
async fn count(client: &Client, name: &str) -> anyhow::Result<u64> {
    let reply = client.call(Call::new(Method::GET, "/v1/_collections")).await?;
    let answer: Collections =
        serde_json::from_slice(&reply.body).context("the answer lists no collections")?;
    let found = answer.collections.iter().find(|collection| collection.name == name);
    let missing = || Failure::NotFound(format!("there is no collection {name}"));
    Ok(found.ok_or_else(missing)?.documents)
}

#[derive(Deserialize)]
struct Collections {
    collections: Vec<Collection>,
}

#[derive(Deserialize)]
struct Collection {
    name: String,
    documents: u64,
}

/// Where rows go.
enum Out {
    Standard(BufWriter<io::Stdout>),
    /// A pipe, a terminal, a device: what is no file is written to as it is.
    Other(File),
    File(Draft),
}

impl Out {
    fn open(name: &Path) -> anyhow::Result<Self> {
        let said = || name.display().to_string();
        match fs::metadata(name) {
            Ok(there) if there.is_dir() => bail!("{}: is a directory", said()),
            // A link stays one, and its file gets the rows.
            Ok(there) if there.is_file() => {
                let name = fs::canonicalize(name).with_context(said)?;
                Draft::create(&name, Some(there.permissions())).map(Self::File)
            }
            Ok(_) => {
                let file = File::options().write(true).open(name).with_context(said)?;
                Ok(Self::Other(file))
            }
            Err(_) if name.is_symlink() => bail!("{}: is a link to nothing", said()),
            Err(_) => Draft::create(name, None).map(Self::File),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Standard(out) => Ok(out.write_all(bytes)?),
            Self::Other(file) => Ok(file.write_all(bytes)?),
            Self::File(draft) => draft.write(bytes),
        }
    }

    fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Standard(mut out) => Ok(out.flush()?),
            Self::Other(_) => Ok(()),
            Self::File(draft) => draft.publish(),
        }
    }
}

/// A file that has its name once it is whole and on disk, and leaves nothing if it never is.
struct Draft {
    file: File,
    /// What it is called until then.
    path: PathBuf,
    name: PathBuf,
}

impl Draft {
    /// A file that will take the place of `name`, with what is allowed there, if there is one.
    fn create(name: &Path, permissions: Option<Permissions>) -> anyhow::Result<Self> {
        let mut path = name.as_os_str().to_owned();
        path.push(format!(".part-{}", std::process::id()));
        let path = PathBuf::from(path);
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        let draft = Self { file, path, name: name.to_owned() };
        if let Some(permissions) = permissions {
            let set = draft.file.set_permissions(permissions);
            set.with_context(|| draft.path.display().to_string())?;
        }
        Ok(draft)
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| self.path.display().to_string())
    }

    fn publish(self) -> anyhow::Result<()> {
        let published = self.file.sync_all().and_then(|()| {
            fs::rename(&self.path, &self.name)?;
            let folder = self.name.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        });
        published.with_context(|| self.name.display().to_string())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It is gone already if it has its name.
        let _ = fs::remove_file(&self.path);
    }
}
