//! Waiting for a version that this node has not seen yet: `Prefer: wait` beside `Parents`.

use super::{
    Api,
    extract::Call,
    feed,
    prefer::{self, PREFERENCE_APPLIED},
    problem::{Code, Problem},
    reply::{self, Answer},
    route::Pending,
    version,
};
use crate::{
    ident::{Name, Version},
    node::Filter,
};
use axum::http::HeaderMap;
use std::time::Duration;
use tokio::time::{self, Instant};

/// Longest that a request waits for something to happen.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// A version that a request is ready to wait for.
#[derive(Debug)]
pub(crate) struct Awaited {
    version: Version,
    wait: Duration,
}

impl Awaited {
    /// What a request for a document waits for, if it does.
    ///
    /// # Errors
    /// `BadHeader`.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(wait) = prefer::wait(headers) else { return Ok(None) };
        let version = version::parents(headers)?.filter(|version| !version.is_empty());
        Ok(version.map(|version| Self { version, wait: wait.min(WAIT_MAX) }))
    }

    /// Answers once the document includes the version, or the time is over, or the node stops.
    pub(crate) async fn then(
        self,
        call: Call,
        name: Name,
        answer: fn(Call, Name) -> Pending,
    ) -> Answer {
        let applied = format!("wait={}", self.wait.as_secs());
        self.arrived(&call.api, &name).await?;
        let mut response = answer(call, name).await?;
        // Beside what else of its preferences is applied.
        response.headers_mut().append(PREFERENCE_APPLIED, reply::value(applied));
        Ok(response)
    }

    async fn arrived(&self, api: &Api, name: &Name) -> Result<(), Problem> {
        if self.is_here(api, name).await? {
            return Ok(());
        }
        let until = Instant::now() + self.wait;
        let (collection, prefix) = (name.collection().clone(), name.key().as_str().to_owned());
        let filter = Filter { collection: Some(collection), prefix };
        let mut ending = api.ending();
        // Before it looks again: what comes in between is not missed.
        let mut commits = feed::subscribe(api, &filter)?;
        while !self.is_here(api, name).await? {
            tokio::select! {
                () = commits.changed() => {}
                () = time::sleep_until(until) => break,
                _ = ending.wait_for(|ending| *ending) => break,
            }
        }
        Ok(())
    }

    async fn is_here(&self, api: &Api, name: &Name) -> Result<bool, Problem> {
        let work = api.node().check_includes(name, self.version.clone());
        match api.within(Code::NotReady, work).await {
            Ok(()) => Ok(true),
            Err(problem) if problem.code() == Code::VersionNotFound => Ok(false),
            Err(problem) => Err(problem),
        }
    }
}
