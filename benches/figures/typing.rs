//! How soon one client has what another writes, and what a long text costs: to open it, and to type into it.

use super::{
    clients::{Client, Kind, packages},
    row::{Bar, Row},
    scratch::Scratch,
    server::Server,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

/// Edits that are waited for, one by one, and the pause behind each.
const EDITS: usize = 300;
const EDIT_GAP_MS: u32 = 150;
/// Changes of the text, each of one character.
const CHANGES: usize = 60_000;
/// Keys that are struck, ten a second.
const KEYS: u32 = 100;
const KEY_GAP_MS: u32 = 100;

/// What one server took.
#[derive(Debug, Clone, Copy)]
struct Measured {
    latency: Latency,
    opened: Opened,
    /// Server CPU for each key, in milliseconds.
    key: f64,
}

/// From an edit on one client to the moment at which the other has it, in milliseconds.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Latency {
    p50: f64,
    p99: f64,
}

/// A new client has the text.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Opened {
    ms: f64,
    bytes: f64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Written {
    bytes: f64,
}

/// Two stock clients write to each other; one opens a text of 60,000 changes, and types into it.
pub(crate) fn typing() -> Vec<Row> {
    if !packages("typing") {
        return Vec::new();
    }
    let scratch = Scratch::new();
    let file = scratch.path("text");
    let mut written = None;
    let [ours, npm, samod] = Kind::ALL.map(|kind| {
        let server = kind.start(&scratch.path(&format!("{kind:?}")));
        let mut client = Client::start(&server);
        let saved = written.get_or_insert_with(|| {
            let write = json!({"command": "write", "file": file, "changes": CHANGES});
            client.ask::<Written>(&write)
        });
        let measured = measure(&server, &mut client, &file);
        eprintln!("typing: {kind:?}: {measured:?}, a text of {} bytes", saved.bytes);
        measured
    });
    let beside = |figure: String, unit, number: fn(&Measured) -> f64| {
        Row::beside(figure, unit, number(&ours), f64::min(number(&npm), number(&samod)))
    };
    let bytes = written.map_or(f64::NAN, |written| written.bytes);
    let saved = (bytes / 1000.0).round();
    vec![
        beside("an edit from one client to another: p50".to_owned(), "ms", |of| of.latency.p50)
            .bar(Bar::at_most(15.0)),
        beside("an edit from one client to another: p99".to_owned(), "ms", |of| of.latency.p99)
            .bar(Bar::at_most(40.0)),
        beside(format!("a text of {saved} KB of 60,000 changes opened: received"), "KB", |of| {
            of.opened.bytes / 1000.0
        })
        .bar(Bar::at_most(80.0).aim(70.0)),
        beside("the same: until a new client has it".to_owned(), "ms", |of| of.opened.ms),
        beside("a key struck in that text: server CPU".to_owned(), "ms", |of| of.key)
            .bar(Bar::at_most(5.0)),
    ]
}

fn measure(server: &Server, client: &mut Client, file: &Path) -> Measured {
    let edits = json!({"command": "latency", "edits": EDITS, "gap_ms": EDIT_GAP_MS});
    let latency = client.ask(&edits);
    let _: Value = client.ask(&json!({"command": "text", "file": file}));
    let opened = client.ask(&json!({"command": "open"}));
    let _: Opened = client.ask(&json!({"command": "open"}));
    server.rest();
    let before = server.cpu();
    let _: Value = client.ask(&json!({"command": "type", "keys": KEYS, "gap_ms": KEY_GAP_MS}));
    server.rest();
    let key = 1e3 * (server.cpu() - before).as_secs_f64() / f64::from(KEYS);
    Measured { latency, opened, key }
}
