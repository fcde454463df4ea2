//! How fast the feed is read.

use super::{
    directory::build,
    order::Orders,
    rounds::{Side, alternate, pair},
    row::{Bar, Row},
    scratch::Scratch,
};
use axum::{body::Body, http::Request};
use http_body_util::BodyExt;
use serde::Deserialize;
use std::{ops::ControlFlow, sync::Arc, time::Instant};
use tombolo::{
    http::{self, Api},
    node::{Node, Options},
    store::{Engine, Range, key::Family},
};

const DOCUMENTS: u64 = 100_000;
const ROUNDS: usize = 5;

/// The whole feed in pages of 1,000, as answers of the interface without a socket, against a scan of
/// the rows that it is made of.
pub(crate) fn feed() -> Vec<Row> {
    let scratch = Scratch::new();
    let orders = Orders::first(1_000);
    let json = |number: u64| orders[usize::try_from(number).unwrap() % orders.len()].clone();
    let engine = build(&scratch.path("data"), DOCUMENTS, json);
    let node = Node::start(Options::default(), Arc::clone(&engine) as Arc<dyn Engine>).unwrap();
    let api = Api::new(node.clone(), http::Options::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let rows = [("without values", "false", 200_000.0), ("with 1 KB values", "true", 50_000.0)]
        .map(|(case, values, bar)| {
            let rounds = alternate(&format!("feed {case}"), ROUNDS, |side| {
                let start = Instant::now();
                let rows = match side {
                    Side::Ours => runtime.block_on(read(&api, values)),
                    Side::Floor => {
                        let count = scan(&*engine, Family::Feed);
                        if values == "true" {
                            assert_eq!(scan(&*engine, Family::View), count);
                        }
                        count
                    }
                };
                assert_eq!(rows, DOCUMENTS);
                f64::from(u32::try_from(rows).unwrap()) / start.elapsed().as_secs_f64()
            });
            let row = Row::pair(format!("feed {case}"), "rows/s", pair(&rounds, |rate| *rate));
            row.bar(Bar::at_least(bar))
        });
    runtime.block_on(node.stop());
    rows.into()
}

#[derive(Deserialize)]
struct Page {
    changes: Vec<serde::de::IgnoredAny>,
    next: String,
}

async fn read(api: &Api, values: &str) -> u64 {
    let (mut count, mut since) = (0, String::new());
    loop {
        let path = format!("/v1/_changes?limit=1000&values={values}{since}");
        let request = Request::get(path).header("host", "localhost").body(Body::empty()).unwrap();
        let body = api.answer(request).await.into_body().collect().await.unwrap().to_bytes();
        // The cursor is at the end: the rows are not parsed within the time of those who make them.
        let tail = body.len().saturating_sub(80);
        let tail = String::from_utf8_lossy(&body[tail..]).into_owned();
        let next = tail.split("\"next\":\"").nth(1).and_then(|next| next.split('"').next());
        let found = memchr::memmem::find_iter(&body, b"{\"cursor\":").count() as u64;
        if found == 0 {
            let page: Page = serde_json::from_slice(&body).unwrap();
            assert!(page.changes.is_empty() && !page.next.is_empty());
            return count;
        }
        count += found;
        since = format!("&since={}", next.unwrap());
    }
}

fn scan(engine: &dyn Engine, family: Family) -> u64 {
    let mut count = 0;
    let visit = &mut |key: &[u8], value: &[u8]| {
        std::hint::black_box((key.to_vec(), value.to_vec()));
        count += 1;
        ControlFlow::Continue(())
    };
    engine.scan(family, &Range::all(), visit).unwrap();
    count
}
