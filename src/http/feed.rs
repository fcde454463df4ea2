//! The feed of changes: a page, a page that is waited for, or a stream without end.

use super::{
    Api,
    extract::{Call, Query},
    media, paging,
    problem::{Code, Problem},
    reply::{self, Answer, Hashes, Text},
    trace::Ids,
    wait::WAIT_MAX,
};
use crate::{
    ident::{Collection, Cursor},
    node::{FeedRow, Filter, Since, Stretch, Subscription},
};
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use std::{io, time::Duration};
use tokio::time::{self, Instant};

/// The last event that a client has seen, as a browser sends it when it connects again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How often a stream without news says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Rows that a stream reads at once.
const STREAM_ROWS: usize = 500;
/// A page ends once its values hold as many bytes.
const PAGE_BYTES: usize = 8 << 20;
/// The same of what a stream reads at once, which is held until the client has taken it.
const STREAM_BYTES: usize = 128 << 10;

/// Marks an answer without end, which no coder may hold back, nor keep memory for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endless;

/// What a client asks of the feed.
struct Asked {
    since: Since,
    filter: Filter,
    limit: Option<usize>,
    wait: Option<Duration>,
    values: bool,
}

impl Asked {
    fn parse(call: &Call) -> Result<Self, Problem> {
        let mut query = call.query()?;
        let limit = paging::limit(&mut query)?;
        let seconds = |text: &str| text.parse::<u64>().ok().map(Duration::from_secs);
        let wait = query.parsed("wait", seconds, "a number of seconds")?;
        let switch = |text: &str| text.parse().ok();
        let values = query.parsed("values", switch, "`true` or `false`")?.unwrap_or(false);
        let filter = filter(&mut query)?;
        let since = query.take("since");
        query.end()?;
        let since = match call.head.headers.get(LAST_EVENT_ID) {
            // Not visible ASCII is no cursor.
            Some(seen) => Some(seen.to_str().unwrap_or("?").to_owned()),
            None => since,
        };
        let since = since.as_deref().map_or(Ok(Since::Beginning), cursor)?;
        Ok(Self { since, filter, limit, wait, values })
    }
}

fn filter(query: &mut Query) -> Result<Filter, Problem> {
    let collection: Option<Collection> =
        query.parsed("collection", |text| text.parse().ok(), "the name of a collection")?;
    let prefix = query.take("prefix");
    if collection.is_none() && prefix.is_some() {
        return Err(Problem::query("prefix", "goes with `collection`"));
    }
    Ok(Filter { collection, prefix: prefix.unwrap_or_default() })
}

fn cursor(text: &str) -> Result<Since, Problem> {
    match text {
        "now" => Ok(Since::Now),
        _ => text.parse().map(Since::Cursor).map_err(|_| {
            Problem::new(Code::BadCursor, "a cursor is what the feed gave as `cursor` or `next`")
        }),
    }
}

/// GET `/v1/_changes`: documents by their last commit.
pub(crate) async fn changes(call: Call) -> Answer {
    let asked = Asked::parse(&call)?;
    const OFFERS: &[&str] = &[media::JSON, media::NDJSON, media::EVENTS];
    let mut response = match media::choose(&call.head.headers, OFFERS)? {
        media::JSON => page(&call.api, asked).await?,
        kind => stream(call, asked, kind).await?,
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// One page; where there is nothing in it, the first that comes within the time.
async fn page(api: &Api, asked: Asked) -> Answer {
    let Asked { mut since, filter, limit, wait, values } = asked;
    let limit = limit.unwrap_or(paging::LIMIT_DEFAULT);
    let wait = wait.unwrap_or_default().min(WAIT_MAX);
    let until = Instant::now() + wait;
    // Before it reads: what comes in between is not missed.
    let mut waiting = if wait.is_zero() { None } else { Some(subscribe(api, &filter)?) };
    let mut ending = api.ending();
    loop {
        let work = api.node().feed(since, &filter, limit, values.then_some(PAGE_BYTES));
        let stretch = api.within(Code::NotReady, work).await?;
        let waits = stretch.rows.is_empty() && stretch.end;
        if let (true, Some(subscription)) = (waits, &mut waiting) {
            since = Since::Cursor(stretch.next);
            tokio::select! {
                () = subscription.changed() => continue,
                () = time::sleep_until(until) => {}
                _ = ending.wait_for(|ending| *ending) => {}
            }
        }
        return Ok(reply::raw(StatusCode::OK, media::JSON, to_json(&stretch)?.into()));
    }
}

/// Waits for changes, as long as so many may.
///
/// # Errors
/// `RateLimited`.
pub(crate) fn subscribe(api: &Api, filter: &Filter) -> Result<Subscription, Problem> {
    api.node().subscribe(filter.clone()).ok_or_else(|| {
        Problem::new(Code::RateLimited, "as many as may do wait for changes already")
    })
}

fn to_json(stretch: &Stretch) -> Result<Vec<u8>, Problem> {
    reply::page("changes", &stretch.rows, append, &Text(stretch.next))
}

fn append(body: &mut Vec<u8>, row: &FeedRow) -> Result<(), Problem> {
    let shape = Shape {
        cursor: Text(row.cursor),
        collection: row.name.collection().as_str(),
        key: row.name.key().as_str(),
        document: row.name.id().to_url(),
        version: Hashes(&row.version),
        deleted: row.deleted,
        conflicts: row.conflicts,
    };
    reply::append(body, &shape, row.json.as_deref())
}

#[derive(Serialize)]
struct Shape<'a> {
    cursor: Text<Cursor>,
    collection: &'a str,
    key: &'a str,
    document: String,
    version: Hashes<'a>,
    deleted: bool,
    conflicts: u32,
}

/// All pages, and those that will come, for as long as the client listens.
///
/// The first page is read before the answer begins, so that what is wrong from the start gets its
/// status. Nothing is read before the client has taken what was read before: a slow one costs no
/// memory.
async fn stream(call: Call, asked: Asked, kind: &'static str) -> Answer {
    for (name, given) in [("limit", asked.limit.is_some()), ("wait", asked.wait.is_some())] {
        if given {
            return Err(Problem::query(name, "is for pages; a stream has no end, and waits"));
        }
    }
    let subscription = subscribe(&call.api, &asked.filter)?;
    let values = asked.values.then_some(STREAM_BYTES);
    let work = call.api.node().feed(asked.since, &asked.filter, STREAM_ROWS, values);
    let first = call.api.within(Code::NotReady, work).await?;
    let bodiless = call.head.method == Method::HEAD;
    let Call { api, ids, .. } = call;
    let news = News { api, ids, subscription, values, kind, held: Some(first) };
    let body = if bodiless {
        Body::empty()
    } else {
        Body::from_stream(stream::unfold(Some(news), |news| async { news?.next().await }))
    };
    let mut response = reply::raw(StatusCode::OK, kind, body);
    response.extensions_mut().insert(Endless);
    Ok(response)
}

/// A stream on its way out.
struct News {
    api: Api,
    ids: Ids,
    subscription: Subscription,
    values: Option<usize>,
    kind: &'static str,
    /// What was read and not sent.
    held: Option<Stretch>,
}

type Piece = io::Result<Bytes>;

impl News {
    /// The next piece, and what is to come behind it; `None` once the node stops.
    async fn next(mut self) -> Option<(Piece, Option<Self>)> {
        let mut stretch = self.held.take()?;
        loop {
            if !stretch.rows.is_empty() {
                return Some(self.send(&stretch).await);
            }
            let mut beat = false;
            if stretch.end {
                let mut ending = self.api.ending();
                tokio::select! {
                    () = self.subscription.changed() => {}
                    _ = ending.wait_for(|ending| *ending) => return None,
                    () = time::sleep(HEARTBEAT) => beat = true,
                }
            }
            if beat {
                // Before it asks whether it was woken: what is announced behind it is not missed.
                let announced = self.api.node().announced();
                if !self.subscription.is_rung() && stretch.next < announced {
                    stretch.next = announced;
                }
                let piece = self.heartbeat(&stretch);
                self.held = Some(stretch);
                return Some((Ok(piece), Some(self)));
            }
            // Boxed, so that a stream that waits holds nothing of it.
            match Box::pin(self.read(stretch.next)).await {
                Ok(read) => stretch = read,
                Err(error) => return Some((Err(self.broken(error)), None)),
            }
        }
    }

    async fn send(mut self, stretch: &Stretch) -> (Piece, Option<Self>) {
        let mut text = Vec::new();
        for row in &stretch.rows {
            if self.kind == media::EVENTS {
                text.extend_from_slice(
                    format!("event: change\nid: {}\ndata: ", row.cursor).as_bytes(),
                );
            }
            if let Err(problem) = append(&mut text, row) {
                return (Err(self.broken(problem)), None);
            }
            text.extend_from_slice(if self.kind == media::EVENTS { b"\n\n" } else { b"\n" });
        }
        self.held = Some(Stretch { rows: Vec::new(), next: stretch.next, end: false });
        (Ok(text.into()), Some(self))
    }

    async fn read(&self, next: Cursor) -> Result<Stretch, Problem> {
        let since = Since::Cursor(next);
        let work =
            self.api.node().feed(since, self.subscription.filter(), STREAM_ROWS, self.values);
        self.api.within(Code::NotReady, work).await
    }

    /// What says that the stream is there; to a browser also how far it has read.
    fn heartbeat(&self, stretch: &Stretch) -> Bytes {
        match self.kind {
            media::EVENTS => format!(": here\nid: {}\n\n", stretch.next).into(),
            _ => Bytes::from_static(b"\n"),
        }
    }

    /// The end of a stream that cannot go on. Its client sees a cut; the log says why.
    fn broken(&self, error: Problem) -> io::Error {
        self.api.log(&self.ids, || tracing::error!(%error, "a feed broke off"));
        io::Error::other(error)
    }
}
