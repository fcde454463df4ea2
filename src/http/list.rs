//! Many documents: the list of a collection, as a page or as a stream, and the collections.

use super::{
    Api,
    extract::Call,
    media, paging,
    problem::{Code, Problem},
    reply::{self, Answer, Hashes},
    trace::Ids,
};
use crate::{
    ident::{Collection, Key},
    node::{ListQuery, Page, Row},
};
use axum::{body::Body, http::StatusCode};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;

/// Rows that a stream reads at once.
const STREAM_ROWS: usize = 1000;

/// GET on a collection: its documents in key order.
pub(crate) async fn documents(call: Call, collection: Collection) -> Answer {
    let mut query = call.query()?;
    let limit = paging::limit(&mut query)?;
    let after = paging::after(&mut query, |mark| String::from_utf8(mark).ok()?.parse().ok())?;
    let prefix = query.take("prefix").unwrap_or_default();
    let switch = |text: &str| text.parse().ok();
    let values = query.parsed("values", switch, "`true` or `false`")?.unwrap_or(true);
    query.end()?;
    let kind = media::choose(&call.head.headers, &[media::JSON, media::NDJSON])?;

    let list = ListQuery { prefix, after, limit: limit.unwrap_or(paging::LIMIT_DEFAULT), values };
    if kind == media::NDJSON {
        return stream(call, collection, list, limit).await;
    }
    let work = call.api.node().list(&collection, list);
    let page = call.api.within(Code::NotReady, work).await?;
    Ok(reply::raw(StatusCode::OK, media::JSON, page_to_json(&page)?.into()))
}

fn page_to_json(page: &Page) -> Result<Vec<u8>, Problem> {
    let next = page.next.as_ref().map(|key| paging::encode(key.as_str().as_bytes()));
    reply::page("documents", &page.rows, append_row, &next)
}

fn append_row(body: &mut Vec<u8>, row: &Row) -> Result<(), Problem> {
    let shape = Shape {
        key: row.name.key().as_str(),
        version: Hashes(&row.version),
        conflicts: row.conflicts,
        document: row.name.id().to_url(),
    };
    reply::append(body, &shape, row.json.as_deref())
}

#[derive(Serialize)]
struct Shape<'a> {
    key: &'a str,
    version: Hashes<'a>,
    conflicts: u32,
    document: String,
}

/// The same rows, one a line, to the end of the collection (or to the client's limit).
///
/// The first page is read before the answer begins, so that what is wrong from the start gets its
/// status. A failure later cuts the connection: a list that stops early must not look whole.
async fn stream(
    call: Call,
    collection: Collection,
    mut query: ListQuery,
    limit: Option<usize>,
) -> Answer {
    query.limit = limit.unwrap_or(STREAM_ROWS);
    let work = call.api.node().list(&collection, query.clone());
    let page = call.api.within(Code::NotReady, work).await?;
    let Call { api, ids, .. } = call;
    let rows = Rows { api, ids, collection, query, left: limit, stage: Stage::Send(page) };
    let body = Body::from_stream(stream::try_unfold(rows, Rows::step));
    Ok(reply::raw(StatusCode::OK, media::NDJSON, body))
}

/// The rows of a list on their way out.
struct Rows {
    api: Api,
    ids: Ids,
    collection: Collection,
    query: ListQuery,
    /// Rows that may still be sent, if the client named a limit.
    left: Option<usize>,
    stage: Stage,
}

/// What a stream does next.
enum Stage {
    Send(Page),
    Read(Key),
    End,
}

impl Rows {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, std::io::Error> {
        loop {
            self.stage = match self.stage {
                Stage::End => return Ok(None),
                Stage::Read(after) => {
                    self.query.after = Some(after);
                    let page = self.api.node().list(&self.collection, self.query.clone()).await;
                    Stage::Send(page.map_err(|error| broken(&self.api, &self.ids, error))?)
                }
                Stage::Send(page) => {
                    let lines = lines(&page, self.left)
                        .map_err(|error| broken(&self.api, &self.ids, error))?;
                    self.left = self.left.map(|left| left.saturating_sub(page.rows.len()));
                    let next = page.next.filter(|_| self.left != Some(0));
                    self.stage = next.map_or(Stage::End, Stage::Read);
                    if !lines.is_empty() {
                        return Ok(Some((lines.into(), self)));
                    }
                    continue;
                }
            };
        }
    }
}

/// The end of a stream that cannot go on. Its client sees a cut; the log says why.
fn broken<E>(api: &Api, ids: &Ids, error: E) -> std::io::Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    api.log(ids, || tracing::error!(%error, "a list broke off"));
    std::io::Error::other(error)
}

fn lines(page: &Page, most: Option<usize>) -> Result<Vec<u8>, Problem> {
    let mut lines = Vec::new();
    for row in page.rows.iter().take(most.unwrap_or(usize::MAX)) {
        append_row(&mut lines, row)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// GET `/v1/_collections`: every collection, by name.
pub(crate) async fn collections(call: Call) -> Answer {
    call.query()?.end()?;
    media::choose(&call.head.headers, &[media::JSON])?;
    let counts = call.api.node().collections();
    let collections = counts
        .iter()
        .map(|count| Count {
            name: count.name.as_str(),
            documents: count.documents,
            deleted: count.deleted,
        })
        .collect();
    reply::json(StatusCode::OK, &Collections { collections })
}

#[derive(Serialize)]
struct Collections<'a> {
    collections: Vec<Count<'a>>,
}

#[derive(Serialize)]
struct Count<'a> {
    name: &'a str,
    documents: u64,
    deleted: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::Name;
    use serde_json::json;

    fn row(key: &str, json: Option<&'static [u8]>) -> Row {
        Row {
            name: Name::new("notes".parse().unwrap(), key.parse().unwrap()).unwrap(),
            version: "ab".repeat(32).parse().unwrap(),
            conflicts: 1,
            json: json.map(Bytes::from_static),
        }
    }

    #[test]
    fn a_page_holds_documents_as_they_are_stored() {
        let rows = vec![row("a\"b", Some(br#"{"x":1.0}"#)), row("c", None)];
        let page = Page { rows, next: Some("c".parse().unwrap()) };
        let text = page_to_json(&page).unwrap();
        assert!(String::from_utf8(text.clone()).unwrap().contains(r#""value":{"x":1.0}}"#));
        let body: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(body["documents"][0]["key"], "a\"b");
        assert_eq!(body["documents"][1].get("value"), None);
        assert_eq!(body["documents"][1]["version"], json!(["ab".repeat(32)]));
        assert_eq!(body["next"], paging::encode(b"c"));
        let empty = page_to_json(&Page::default()).unwrap();
        assert_eq!(empty, br#"{"documents":[],"next":null}"#);
    }

    #[test]
    fn a_stream_holds_one_document_a_line() {
        let page = Page { rows: vec![row("a", None), row("b", None)], next: None };
        let lines = |most| String::from_utf8(lines(&page, most).unwrap()).unwrap();
        assert_eq!(lines(None).lines().count(), 2);
        assert_eq!(lines(Some(1)).lines().count(), 1);
        assert!(lines(None).ends_with("}\n"));
    }
}
