//! The socket in a data directory: the way in for its owner.

use super::failure::Failure;
use anyhow::{Context, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};
use tokio::net::{UnixListener, UnixStream};

/// Longest path of a socket that systems take, in bytes.
const PATH_BYTES_MAX: usize = 107;
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Where the socket of a data directory is.
pub(crate) fn path(data: &Path) -> PathBuf {
    data.join("tombolo.sock")
}

/// A socket that goes with the value.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) listener: UnixListener,
    _name: Name,
}

#[derive(Debug)]
struct Name(PathBuf);

impl Drop for Name {
    fn drop(&mut self) {
        // Whoever comes next removes what is left.
        let _ = fs::remove_file(&self.0);
    }
}

impl Bound {
    /// Listens at the socket, until the name goes.
    pub(crate) fn split(self) -> (UnixListener, impl Drop) {
        (self.listener, self._name)
    }
}

/// Listens in a data directory that this process holds: a socket that is there is nobody's.
pub(crate) fn bind(data: &Path) -> anyhow::Result<Bound> {
    let path = path(data);
    if PATH_BYTES_MAX < path.as_os_str().as_bytes().len() {
        return Err(anyhow!("{} is longer than a socket's path may be", path.display()));
    }
    match fs::symlink_metadata(&path) {
        Ok(there) if there.file_type().is_socket() => fs::remove_file(&path)?,
        Ok(_) => return Err(anyhow!("{} is there, and no socket", path.display())),
        Err(_) => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
    let name = Name(path.clone());
    // Nobody else can enter the directory either.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(Bound { listener, _name: name })
}

/// Sends JSON to a node by its socket; the body of its answer.
pub(crate) async fn post(path: &Path, route: &str, body: Vec<u8>) -> anyhow::Result<Bytes> {
    let unreachable =
        |why: &dyn std::fmt::Display| Failure::Unreachable(format!("{}: {why}", path.display()));
    let stream = UnixStream::connect(path).await.map_err(|error| unreachable(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    // It ends with the sender; what went wrong the answer tells.
    let connection = tokio::spawn(connection);
    let request = Request::post(route)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| unreachable(&error))?.to_bytes();
    connection.abort();
    if status.is_success() {
        return Ok(body);
    }
    let problem: Option<Problem> = serde_json::from_slice(&body).ok();
    let text = problem.map_or_else(
        || format!("{} answers {status}", path.display()),
        |Problem { code, detail }| format!("{code}: {detail}"),
    );
    Err(Failure::Refused(text).into())
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
}
