//! What a node tells of itself: `/metrics`, read by a strict parser, and `/v1/_status`.

use crate::http::{Client, PATCH};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tombolo::{
    http::{Api, Options},
    node::{self, Node},
    store::{Fault, MemoryEngine},
};

type Labels = BTreeMap<String, String>;

/// A page of OpenMetrics 1.0, valid as far as we write it.
#[derive(Debug, Default)]
struct Page {
    families: BTreeMap<String, String>,
    samples: BTreeMap<(String, Labels), f64>,
}

/// Name, labels and value of a line.
fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    let valid = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    assert!(name.chars().all(valid), "{line}");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(label.chars().all(valid), "{line}");
            let mut value = String::new();
            let mut letters = after.char_indices();
            let end = loop {
                match letters.next().unwrap() {
                    (at, '"') => break at + 1,
                    (_, '\\') => value.push(match letters.next().unwrap().1 {
                        'n' => '\n',
                        escaped @ ('\\' | '"') => escaped,
                        other => panic!("\\{other}: {line}"),
                    }),
                    (_, letter) => value.push(letter),
                }
            };
            assert!(labels.insert(label.into(), value).is_none(), "{line}");
            rest = &after[end..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break rest = rest.strip_prefix('}').unwrap(),
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap();
    (name.into(), labels, value.parse().unwrap_or_else(|_| panic!("{line}")))
}

fn parse(text: &str) -> Page {
    let mut page = Page::default();
    let body = text.strip_suffix("# EOF\n").expect("the last line");
    // Name, kind, unit and help of the family under way.
    let mut family = (String::new(), String::new(), String::new(), String::new());
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (word, name, said) =
                (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            if word == "HELP" {
                family = (name.into(), String::new(), String::new(), said.into());
                assert!(name.starts_with("tombolo_") && said.ends_with('.'), "{line}");
            }
            assert_eq!(name, family.0, "comments stand together: {line}");
            match word {
                "HELP" => {}
                "TYPE" => {
                    family.1 = said.into();
                    assert!(page.families.insert(name.into(), said.into()).is_none(), "{line}");
                }
                "UNIT" => {
                    assert!(name.ends_with(&format!("_{said}")), "{line}");
                    family.2 = said.into();
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, labels, value) = sample(line);
        let suffix = name.strip_prefix(&family.0).unwrap_or_else(|| panic!("astray: {line}"));
        let suffixes: &[&str] = match family.1.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_count", "_sum"],
            "info" => &["_info"],
            other => panic!("{other}: {line}"),
        };
        assert!(suffixes.contains(&suffix), "{line}");
        assert_eq!(labels.contains_key("le"), suffix == "_bucket", "{line}");
        for unit in ["bytes", "seconds"] {
            let ends = family.0.ends_with(&format!("_{unit}"));
            assert_eq!(ends, family.2 == unit, "{line}: its unit");
        }
        assert!(value.is_finite() && 0.0 <= value, "{line}");
        assert!(page.samples.insert((name, labels), value).is_none(), "twice: {line}");
    }
    page.check_histograms();
    page
}

impl Page {
    fn check_histograms(&self) {
        let mut buckets: BTreeMap<(String, Labels), Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), value) in &self.samples {
            let Some(family) = name.strip_suffix("_bucket") else { continue };
            let mut labels = labels.clone();
            let bound = labels.remove("le").unwrap();
            assert!(bound.contains(['.', 'e', 'I']), "canonical: {bound}");
            let bound = bound.replace("+Inf", "inf").parse().unwrap();
            buckets.entry((family.into(), labels)).or_default().push((bound, *value));
        }
        assert!(!buckets.is_empty());
        for ((family, labels), mut buckets) in buckets {
            buckets.sort_by(|one, two| one.0.total_cmp(&two.0));
            assert!(buckets.is_sorted_by(|one, two| one.0 < two.0 && one.1 <= two.1), "{family}");
            let (last, count) = buckets.pop().unwrap();
            assert!(last.is_infinite(), "{family}");
            assert_eq!(self.samples[&(format!("{family}_count"), labels.clone())], count);
            assert!(self.samples.contains_key(&(format!("{family}_sum"), labels)), "{family}");
        }
    }

    /// The value of `name` or of `name{label="value",…}`; 0 if there is none.
    fn value(&self, series: &str) -> f64 {
        let (name, labels, _) = sample(&format!("tombolo_{series} 0"));
        self.samples.get(&(name, labels)).copied().unwrap_or(0.0)
    }
}

async fn page(client: &Client) -> Page {
    let reply = client.ask("GET /metrics", &[], "").await;
    assert_eq!(
        (reply.status.as_u16(), reply.field("content-type")),
        (200, "application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    parse(reply.text())
}

#[tokio::test]
async fn what_happens_moves_what_tells_of_it() {
    let client = Client::new();
    let before = page(&client).await;
    let document = r#"{"a":1}"#;
    client.ask("PUT /v1/notes/secret", &[], document).await;
    client.ask("PUT /v1/notes/secret?x=hidden", &[], document).await;
    client.ask("GET /v1/notes/secret", &[], "").await;
    client.ask("GET /v1/notes/secret", &["if-none-match: *"], "").await;
    client.ask("HEAD /v1/notes/secret", &[], "").await;
    client.ask("BREW /v1/notes/secret", &[], "").await;
    client.ask("PATCH /v1/notes/secret", &[PATCH], r#"[{"op":"remove","path":"/b"}]"#).await;
    client.ask("PUT /v1/notes/other", &[], document).await;
    client.ask("DELETE /v1/notes/other", &[], "").await;
    client.ask("GET /nowhere", &[], "").await;
    let after = page(&client).await;
    let at = |verb: &str, class: &str| {
        format!(
            r#"http_requests_total{{route="/v1/{{collection}}/{{key}}",method="{verb}",status="{class}"}}"#
        )
    };
    for (series, moved) in [
        (at("PUT", "2xx"), 2.0),
        (at("PUT", "4xx"), 1.0),
        (at("GET", "2xx"), 1.0),
        (at("GET", "3xx"), 1.0),
        (at("HEAD", "2xx"), 1.0),
        (at("other", "4xx"), 1.0),
        (at("PATCH", "4xx"), 1.0),
        (at("DELETE", "2xx"), 1.0),
        (r#"http_requests_total{route="none",method="GET",status="4xx"}"#.into(), 1.0),
        (r#"http_requests_total{route="/metrics",method="GET",status="2xx"}"#.into(), 1.0),
        (r#"http_request_duration_seconds_count{route="/v1/{collection}/{key}"}"#.into(), 9.0),
        ("http_request_body_bytes_total".into(), 7.0 + 29.0 + 7.0),
        ("documents".into(), 1.0),
        ("documents_deleted".into(), 1.0),
        ("collections".into(), 1.0),
        ("last_seq".into(), 3.0),
        ("commit_group_sum".into(), 3.0),
        ("commit_group_count".into(), 3.0),
        ("commit_duration_seconds_count".into(), 3.0),
        ("edits_refused_total".into(), 1.0),
        ("cache_documents".into(), 2.0),
        ("cache_misses_total".into(), 2.0),
        ("cache_hits_total".into(), 2.0),
        ("read_only".into(), 0.0),
        (r#"panics_total{room="http"}"#.into(), 0.0),
    ] {
        assert_eq!(after.value(&series) - before.value(&series), moved, "{series}");
    }
    assert!(0.0 < after.value("cache_bytes") && 0.0 < after.value("uptime_seconds"));
    assert!(1000.0 < after.value("http_response_body_bytes_total"));
    let text = client.ask("GET /metrics", &[], "").await.text().to_owned();
    for hidden in ["secret", "notes", "hidden", "nowhere", "BREW"] {
        assert!(!text.contains(hidden), "{hidden} is nobody's business");
    }
}

#[tokio::test]
async fn a_scraper_gets_the_format_that_it_reads() {
    let client = Client::new();
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = "text/plain; version=0.0.4; charset=utf-8";
    for (accept, kind) in [
        ("*/*", open),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            open,
        ),
        ("text/plain", text),
        ("text/plain;version=0.0.4;q=1,*/*;q=0.1", text),
    ] {
        let reply = client.ask("GET /metrics", &[&format!("accept: {accept}")], "").await;
        assert_eq!((reply.status.as_u16(), reply.field("content-type")), (200, kind), "{accept}");
        assert_eq!(reply.text().ends_with("# EOF\n"), kind == open, "{accept}");
    }
    let refused = client.ask("GET /metrics", &["accept: application/json"], "").await;
    assert_eq!(refused.refusal(), (406, "not_acceptable".into()));
    let coded = client.ask("GET /metrics", &["accept-encoding: gzip"], "").await;
    assert_eq!(coded.field("content-encoding"), "gzip");
}

#[tokio::test]
async fn the_readme_names_every_metric() {
    let client = Client::new();
    let page = page(&client).await;
    let told: BTreeSet<&str> = page.families.keys().map(String::as_str).collect();
    let readme = include_str!("../../README.md");
    let section = readme.split("## Watching a node").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let mut named = BTreeSet::new();
    for row in rows {
        let names = row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2);
        for name in names {
            let family = format!("tombolo_{name}");
            let family = match page.families.get(&family).map(String::as_str) {
                Some(_) => family,
                None => family.strip_suffix("_total").unwrap_or(&family).to_owned(),
            };
            assert!(told.contains(family.as_str()), "{name} is no metric");
            let counter = page.families[&family] == "counter";
            assert_eq!(counter, name.ends_with("_total"), "{name}");
            named.insert(family);
        }
    }
    let named: BTreeSet<&str> = named.iter().map(String::as_str).collect();
    assert_eq!(named, told);
}

#[tokio::test]
async fn the_status_tells_what_the_node_holds_and_how_it_fares() {
    let engine = Arc::new(MemoryEngine::new());
    let options = node::Options { documents_bytes: 1 << 20, ..node::Options::default() };
    let node = Node::start(options, Arc::clone(&engine) as _).unwrap();
    let client = Client(Api::new(node.clone(), Options::default()));
    client.ask("PUT /v1/notes/a", &[], r#"{"a":1}"#).await;
    client.ask("PUT /v1/trips/b", &[], "{}").await;
    client.ask("DELETE /v1/trips/b", &[], "").await;
    let status = client.ask("GET /v1/_status", &[], "").await;
    assert_eq!(status.status, 200);
    let mut status = status.json();
    let bytes = status["cache"]["documents"]["bytes"].take().as_u64().unwrap();
    let tokens = status["collection_tokens"].take();
    for name in ["notes", "trips"] {
        assert_eq!(tokens[name].as_str().map(str::len), Some(32), "{tokens}");
    }
    assert!((1000..100_000).contains(&bytes), "{bytes}");
    assert_eq!(
        status,
        json!({
            "node": node.id().to_string(), "incarnation": node.incarnation().to_string(),
            "uptime_seconds": 0, "durability": "sync", "read_only": null, "stalled": false,
            "documents": 1, "deleted": 1, "damaged": 0, "oversize": 0, "collections": 2, "last_seq": 3,
            "collection_tokens": null,
            "quarantined": {"documents": 0, "changes": 0},
            "disk_bytes": 0,
            "cache": {
                "documents": {"bytes": null, "bytes_max": 1 << 20, "documents": 2},
                "blocks": {"bytes": 0, "bytes_max": 0},
            },
        })
    );
    engine.inject(Fault::SyncFails { after: 0 });
    client.ask("PUT /v1/notes/a", &[], r#"{"a":2}"#).await;
    let status = client.ask("GET /v1/_status", &[], "").await.json();
    assert!(status["read_only"].as_str().unwrap().contains("sync"), "{status}");
    let page = page(&client).await;
    assert_eq!(page.value("read_only"), 1.0);
    assert_eq!(page.value("store_background_errors_total"), 1.0);
}
