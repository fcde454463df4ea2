//! Backups, as they are asked for.

use super::{
    extract::Call,
    problem::{Code, Problem},
    reply::{self, Answer, Text},
    service::Door,
};
use crate::{
    ident::{IncarnationId, NodeId},
    node::{Backup, BackupError},
};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    directory: PathBuf,
}

#[derive(Serialize)]
struct Made<'a> {
    directory: &'a Path,
    node: Text<NodeId>,
    incarnation: Text<IncarnationId>,
    last_seq: u64,
    unix_ms: u64,
}

/// POST `/v1/_backup`: `{"directory": …}` on the node's machine, which must not exist. Who comes over
/// the network names a directory below the one that is configured for it, and no path.
pub(crate) async fn make(mut call: Call) -> Answer {
    call.query()?.end()?;
    let wanted: Wanted = serde_json::from_slice(&call.body().await?).map_err(|error| {
        Problem::new(Code::BadJson, format!("wanted is {{\"directory\": …}}: {error}"))
    })?;
    let directory = match call.api.door() {
        Door::Owner if wanted.directory.is_absolute() => wanted.directory,
        Door::Owner => return Err(Problem::new(Code::BadJson, "`directory` is a whole path")),
        Door::Network => {
            let base = call.api.options().backup_directory.as_deref().ok_or_else(|| {
                let detail = "no `backup_directory` is configured: `tombolo backup` on the node's \
                    machine reaches it through the socket in its data directory";
                Problem::new(Code::Forbidden, detail)
            })?;
            base.join(name(&wanted.directory)?)
        }
    };
    let Backup { node, incarnation, last_seq, unix_ms, .. } =
        call.api.node().backup(directory.clone()).await.map_err(|error| refused(&call, &error))?;
    let made = Made {
        directory: &directory,
        node: Text(node),
        incarnation: Text(incarnation),
        last_seq,
        unix_ms,
    };
    reply::json(StatusCode::CREATED, &made)
}

/// What is one plain name, and leads nowhere else.
fn name(directory: &Path) -> Result<&Path, Problem> {
    let mut components = directory.components();
    let plain = match (components.next(), components.next()) {
        (Some(Component::Normal(name)), None) => {
            name == directory.as_os_str()
                && name.to_str().is_some_and(|name| {
                    !name.starts_with('.') && !name.chars().any(char::is_control)
                })
        }
        _ => false,
    };
    if plain {
        Ok(directory)
    } else {
        Err(Problem::new(Code::Forbidden, "over the network `directory` is a name, and no path"))
    }
}

fn refused(call: &Call, error: &BackupError) -> Problem {
    match error {
        BackupError::Exists(_) => Problem::new(Code::PreconditionFailed, error.to_string()),
        error if call.api.door() == Door::Owner => Problem::new(Code::Internal, error.to_string()),
        error => Problem::defect(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_the_network_a_backup_has_a_name_and_no_path() {
        for (text, plain) in [
            ("monday", true),
            ("2026-01-01T00:00", true),
            ("", false),
            (".", false),
            ("..", false),
            (".monday", false),
            ("a/b", false),
            ("a/", false),
            ("/tmp/a", false),
            ("../a", false),
            ("a\n", false),
        ] {
            assert_eq!(name(Path::new(text)).is_ok(), plain, "{text:?}");
        }
    }
}
