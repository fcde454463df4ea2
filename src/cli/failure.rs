//! How a command ends that does not succeed.

use std::process::ExitCode;

/// A failure with an exit code of its own; every other error is 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was typed or configured makes no sense.
    #[error("{0}")]
    Usage(String),
    /// There is no such document.
    #[error("{0}")]
    NotFound(String),
    /// The document is not as expected.
    #[error("{0}")]
    Precondition(String),
    /// No node answers there.
    #[error("{0}")]
    Unreachable(String),
    /// The node refused for another reason.
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    fn exit(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Precondition(_) => 4,
            Self::Unreachable(_) => 5,
        }
    }
}

/// The exit code for an error; `None` if whoever reads our output has simply had enough of it.
pub(crate) fn exit(error: &anyhow::Error) -> Option<ExitCode> {
    let stopped = error.chain().any(|cause| {
        let cause = cause.downcast_ref::<std::io::Error>();
        cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
    });
    let code = error.downcast_ref::<Failure>().map_or(1, Failure::exit);
    (!stopped).then(|| ExitCode::from(code))
}
