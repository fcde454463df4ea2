//! Tokens: what anybody may see of what each collection holds, to compare nodes by.

use super::Node;
use crate::ident::{Collection, CollectionToken};
use std::time::Duration;
use tokio::time;

/// Longest wait for the sums of all collections, which a scan makes when they are first asked for.
const WAIT: Duration = Duration::from_secs(5);
/// How often it is looked whether somebody else has made them.
const LOOK: Duration = Duration::from_millis(20);

impl Node {
    /// A token of each collection, by name: the same on every node of the cluster that holds the same
    /// documents of it at the same versions, deleted ones too, in whatever order they came. `None`: they
    /// are not made yet, and will be.
    pub async fn tokens(&self) -> Option<Vec<(Collection, CollectionToken)>> {
        let names: Vec<Collection> =
            self.collections().into_iter().map(|count| count.name).collect();
        let tokens = time::timeout(WAIT, self.tokens_of(&names)).await.ok().flatten()?;
        Some(names.into_iter().zip(tokens).collect())
    }

    async fn tokens_of(&self, names: &[Collection]) -> Option<Vec<CollectionToken>> {
        loop {
            if let Some(tokens) = self.ledger().tokens(names) {
                return Some(tokens);
            }
            let node = self.clone();
            let made = self.blocking(move || Ok(node.ledger().make_roots(node.store())?)).await;
            if let Err(error) = made {
                tracing::error!(%error, "the collections could not be summed up");
                return None;
            }
            if self.ledger().tokens(&[]).is_none() {
                time::sleep(LOOK).await;
            }
        }
    }
}
