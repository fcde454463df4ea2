//! Why a peer did not answer.

use crate::sync::{DecodeError, Refused};

/// Why there is no answer of a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke.
    #[error("not reached: {0}")]
    Unreachable(String),
    /// Nothing came in time.
    #[error("no answer in time")]
    Timeout,
    /// It is no node, or one with another secret, or a node that does not replicate.
    #[error("answered {status}: {detail}")]
    Status {
        /// The status.
        status: u16,
        /// What it says.
        detail: String,
    },
    /// Who answers does not know the secret of this cluster.
    #[error("the answer is not sealed under this cluster's secret")]
    Unsealed,
    /// The answer has more bytes than any may have.
    #[error("an answer without end")]
    TooLarge,
    /// The answer is not coded as it says.
    #[error("an answer that is not coded as it says: {0}")]
    Coding(String),
    /// The answer is no message.
    #[error("the answer is {0}")]
    Decode(#[from] DecodeError),
    /// The peer says why it does not answer.
    #[error("{}", .0.text)]
    Refused(Refused),
    /// The answer is to something else.
    #[error("the answer cannot be one: {0}")]
    Senseless(String),
}

impl Error {
    /// A word for it, the same in every release.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Status { status: 401, .. } | Self::Unsealed => "wrong_secret",
            Self::Status { .. } => "bad_status",
            Self::TooLarge => "too_large",
            Self::Coding(_) => "bad_coding",
            Self::Decode(DecodeError::Format(_)) => "other_format",
            Self::Decode(_) => "bad_message",
            Self::Refused(refused) => refused.name(),
            Self::Senseless(_) => "bad_answer",
        }
    }
}
