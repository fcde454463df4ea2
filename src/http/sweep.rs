//! DELETE on a collection: tombstones for all of its documents.

use super::{
    Api,
    extract::Call,
    media, prefer,
    problem::Problem,
    reply::{self, Answer},
    version,
};
use crate::{
    doc::Edit,
    ident::{Collection, Key},
    node::{self, ListQuery, Precondition, Write},
};
use axum::{
    body::Body,
    http::{StatusCode, header},
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::Serialize;
use std::{io, pin::Pin, time::Duration};
use tokio::time;

/// Documents that are deleted at once: so many names are held, and so many writes are under way.
const BATCH: usize = 500;
/// How long the answer is waited for before it begins, and between signs that it is still to come.
const SIGN_TIME: Duration = Duration::from_secs(10);
/// What stands before an answer that takes longer: JSON may begin with it.
const SIGN: &str = "\n";

/// A sweep under way.
type Sweep = Pin<Box<dyn Future<Output = Result<Bytes, Problem>> + Send>>;

/// DELETE `/v1/{collection}?all=true`: documents in key order, in batches.
///
/// What takes long begins its answer after a while with line feeds, one after the other, so that
/// nobody on the way takes the connection for dead; a failure after that cuts it. What was deleted
/// stays deleted then, and the request can be repeated. A client that goes stops it.
pub(crate) async fn documents(call: Call, collection: Collection) -> Answer {
    let mut query = call.query()?;
    let all = query.parsed("all", |text| (text == "true").then_some(()), "`true`")?;
    query.end()?;
    if all.is_none() {
        let detail = "`true`, to delete every document of the collection";
        return Err(Problem::query("all", detail));
    }
    let headers = &call.head.headers;
    let fields = [version::PARENTS, header::IF_MATCH, header::IF_NONE_MATCH];
    if let Some(name) = fields.iter().find(|name| headers.contains_key(*name)) {
        return Err(Problem::header(name, "a collection has no version"));
    }
    let message = prefer::message(headers)?;
    media::choose(headers, &[media::JSON])?;

    let api = call.api;
    let mut sweep: Sweep = Box::pin(delete(api.clone(), collection, message));
    let body = match time::timeout(SIGN_TIME, &mut sweep).await {
        Ok(done) => done?.into(),
        Err(_) => Body::from_stream(patiently(sweep)),
    };
    let mut response = reply::raw(StatusCode::OK, media::JSON, body);
    reply::state_durability(response.headers_mut(), &api);
    Ok(response)
}

/// The answer of a sweep, with signs of life before it.
fn patiently(sweep: Sweep) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(Some(sweep), |sweep| async {
        let Some(mut sweep) = sweep else { return Ok(None) };
        match time::timeout(SIGN_TIME, &mut sweep).await {
            Ok(Ok(answer)) => Ok(Some((answer, None))),
            Ok(Err(problem)) => {
                tracing::error!(error = %problem, cause = problem.cause(), "a sweep broke off");
                Err(io::Error::other(problem))
            }
            Err(_) => Ok(Some((Bytes::from_static(SIGN.as_bytes()), Some(sweep)))),
        }
    })
}

/// Deletes what there is, and what is created behind the place that was reached.
async fn delete(
    api: Api,
    collection: Collection,
    message: Option<String>,
) -> Result<Bytes, Problem> {
    let mut deleted = 0;
    let mut after: Option<Key> = None;
    let mut failed = None;
    loop {
        let query = ListQuery { prefix: String::new(), after, limit: BATCH, values: false };
        let page = api.node().list(&collection, query).await?;
        let mut writings = Vec::with_capacity(page.rows.len());
        for row in page.rows {
            writings.push(api.node().begin_write(&row.name, tombstone(message.clone())).await?);
        }
        for writing in writings {
            match writing.await {
                Ok(_) => deleted += 1,
                // Somebody else was quicker.
                Err(node::Error::NotFound | node::Error::Deleted(_)) => {}
                // What is wrong with one document is no reason to keep the others.
                Err(error @ (node::Error::Damaged(_) | node::Error::Internal(_))) => {
                    failed.get_or_insert(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    match failed {
        None => Ok(reply::to_json(&Swept { deleted })?.into()),
        Some(error) => Err(error.into()),
    }
}

fn tombstone(message: Option<String>) -> Write {
    Write {
        edit: Edit::Delete,
        base: None,
        precondition: Precondition::None,
        message,
        want: None,
        once: None,
    }
}

#[derive(Serialize)]
struct Swept {
    deleted: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::Code;
    use futures_util::StreamExt;
    use std::pin::pin;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_takes_long_shows_that_it_lives() {
        for (seconds, fails) in [(5, false), (35, false), (35, true)] {
            let sweep: Sweep = Box::pin(async move {
                time::sleep(Duration::from_secs(seconds)).await;
                let broken = Problem::new(Code::ReadOnly, "broken");
                if fails { Err(broken) } else { Ok(Bytes::from_static(b"{}")) }
            });
            let mut pieces = pin!(patiently(sweep));
            for _ in 0..seconds / 10 {
                assert_eq!(pieces.next().await.unwrap().unwrap(), SIGN);
            }
            match pieces.next().await.unwrap() {
                Ok(answer) => assert!(!fails && answer == "{}"),
                Err(_) => assert!(fails),
            }
            assert!(pieces.next().await.is_none());
        }
    }
}
