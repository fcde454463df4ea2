//! Taking changes that were made elsewhere: through the gate, and, where that cannot see enough, through
//! another process first.

use super::{Error, Node, Taken, task::Task};
use crate::{
    doc::{Limits, Refusal, RefusalKind},
    ident::Name,
    store::Source,
};
use bytes::Bytes;

impl Node {
    /// Takes changes that were made elsewhere, all or none, and waits until they are durable. Those
    /// that rest on changes that are not here wait beside the document, if there is one.
    ///
    /// # Errors
    /// `Refused`; `ReadOnly`, `DiskFull`, `WritesStopped`, `Stalled`, `Damaged`,
    /// `TooManyCollections`, `Stopping`, `Internal`.
    pub async fn admit(&self, name: &Name, bytes: Bytes) -> Result<Taken, Error> {
        self.admit_from(name, bytes, None).await
    }

    /// The same, of changes that a peer sent.
    pub(super) async fn admit_from(
        &self,
        name: &Name,
        bytes: Bytes,
        from: Option<Source>,
    ) -> Result<Taken, Error> {
        let taken = self.admit_unkept(name, &bytes, from).await;
        if let Err(Error::Refused(Refusal { kind: RefusalKind::Broken, detail, .. })) = &taken {
            self.set_aside(name, bytes, detail.clone()).await;
        }
        taken
    }

    /// The same; what breaks Automerge is not kept in quarantine.
    pub(super) async fn admit_unkept(
        &self,
        name: &Name,
        bytes: &Bytes,
        from: Option<Source>,
    ) -> Result<Taken, Error> {
        self.status().check_writable()?;
        let limits = *self.limits();
        match self.ask_to_admit(name, bytes, from, limits).await {
            Err(Error::Refused(Refusal { kind: RefusalKind::Heavy, .. })) => {
                self.decoder().check(bytes).await?;
                self.ask_to_admit(name, bytes, from, limits.decoded()).await
            }
            taken => taken,
        }
    }

    async fn ask_to_admit(
        &self,
        name: &Name,
        bytes: &Bytes,
        from: Option<Source>,
        limits: Limits,
    ) -> Result<Taken, Error> {
        let (left, bytes) = (self.store().orphan_bytes_left(), bytes.clone());
        let limits = Box::new(limits);
        self.ask(name, |reply| Task::Admit { from, limits, bytes, left, reply }).await
    }
}
