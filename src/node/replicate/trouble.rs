//! Why a peer is not attended for a while.

use crate::{
    ident::PeerName,
    node::Error,
    peer,
    sync::{DecodeError, Reason, Refused},
};

/// Why a session with a peer ends, or does not begin.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// It does not answer as it should.
    #[error(transparent)]
    Peer(#[from] peer::Error),
    /// It answers well, and this node can do nothing with that for now.
    #[error("nothing of it can be taken here: {0}")]
    Here(#[from] Error),
    /// It is the node that another peer is.
    #[error("it is the same node as the peer {0}: remove one of both")]
    SameNode(PeerName),
}

impl Trouble {
    /// This node refuses it.
    pub(super) fn refuses(refused: Refused) -> Self {
        peer::Error::Refused(refused).into()
    }

    /// A word for it, the same in every release.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Peer(error) => error.name(),
            Self::Here(_) => "not_taken",
            Self::SameNode(_) => "same_node",
        }
    }

    /// Whether both share nothing until somebody says otherwise to one of them.
    pub(super) fn is_lasting(&self) -> bool {
        let apart = [Reason::OtherKey, Reason::Clone, Reason::NotShared, Reason::Itself];
        match self {
            Self::SameNode(_) | Self::Peer(peer::Error::Unsealed | peer::Error::Senseless(_)) => {
                true
            }
            Self::Peer(peer::Error::Status { status, .. }) => *status < 500,
            Self::Peer(peer::Error::Refused(refused)) => {
                apart.iter().any(|reason| *reason as u16 == refused.reason)
            }
            Self::Peer(_) | Self::Here(_) => false,
        }
    }

    /// Whether nothing came of it: it may be there at any time.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Peer(peer::Error::Unreachable(_) | peer::Error::Timeout))
    }
}

impl From<DecodeError> for Trouble {
    fn from(error: DecodeError) -> Self {
        peer::Error::from(error).into()
    }
}
