//! The HTTP interface: routes, what requests bring, what answers carry, and the accept loop.
//!
//! - Every path is in the table below; a path that is not there does not exist.
//! - Names are parsed at the rim: no handler sees a collection, key or version as text.
//! - Every refusal is a problem document from the one table in [`Code`].
//! - When several refusals apply, the first of these is given: whom the request is for and who made
//!   it, route, header fields, media type, body, then whatever the node says.
//! - What a client sends is bounded in bytes and in time before anything is made of it.
//!
//! There is no router from a crate here: they decode and normalise paths before they match them,
//! and a key may hold anything.

mod accept;
mod access;
mod backup;
mod body;
mod bulk;
mod changes;
mod coding;
mod compress;
mod conflicts;
mod deadline;
mod documents;
mod examples;
mod exposition;
mod extract;
mod feed;
mod host;
mod line;
mod lines;
mod list;
mod media;
mod metrics;
mod node;
mod once;
mod paging;
mod past;
mod peer;
mod peers;
mod prefer;
mod problem;
mod quarantine;
mod reply;
mod rest;
mod route;
mod service;
mod sockets;
mod sweep;
mod trace;
mod traffic;
mod version;
mod wait;

pub use accept::{Listener, serve};
pub use deadline::Connections;
pub use extract::Options;
pub use host::{Host, HostError, Hosts};
pub use problem::Code;
pub use service::Api;
pub use traffic::Traffic;

use route::{Line, Table, collection, document, entry, node, peer};
use std::sync::LazyLock;

/// Every route: verb, path, handler. GET answers HEAD too, and every path OPTIONS.
const ROUTES: &[Line] = &[
    ("GET", "/v1/{collection}/{key}", document!(documents::get)),
    ("PUT", "/v1/{collection}/{key}", document!(documents::put)),
    ("PATCH", "/v1/{collection}/{key}", document!(documents::patch)),
    ("DELETE", "/v1/{collection}/{key}", document!(documents::delete)),
    ("GET", "/v1/{collection}/{key}/_conflicts", document!(conflicts::list)),
    ("GET", "/v1/{collection}/{key}/_diff", document!(past::diff)),
    ("GET", "/v1/{collection}/{key}/_blame", document!(past::blame)),
    ("GET", "/v1/{collection}/{key}/_history", document!(past::history)),
    ("POST", "/v1/{collection}/{key}/_revert", document!(past::revert)),
    ("GET", "/v1/{collection}/{key}/_changes", document!(changes::list)),
    ("POST", "/v1/{collection}/{key}/_changes", document!(changes::take)),
    ("GET", "/v1/{collection}", collection!(list::documents)),
    ("POST", "/v1/{collection}", collection!(documents::create)),
    ("DELETE", "/v1/{collection}", collection!(sweep::documents)),
    ("POST", "/v1/_bulk", node!(bulk::write)),
    ("GET", "/v1/_changes", node!(feed::changes)),
    ("GET", "/v1/_sync", node!(sockets::connect)),
    ("GET", "/v1/_sync/{collection}", collection!(sockets::connect_to)),
    ("GET", "/v1/_collections", node!(list::collections)),
    ("GET", "/v1/_peers", node!(peers::list)),
    ("GET", "/v1/_peers/{peer}", peer!(peers::show)),
    ("PUT", "/v1/_peers/{peer}", peer!(peers::put)),
    ("DELETE", "/v1/_peers/{peer}", peer!(peers::remove)),
    ("GET", "/v1/_status", node!(node::status)),
    ("GET", "/v1", node!(node::about)),
    ("POST", "/v1/_backup", node!(backup::make)),
    ("GET", "/v1/_quarantine", node!(quarantine::list)),
    ("GET", "/v1/_quarantine/{id}", entry!(quarantine::show)),
    ("DELETE", "/v1/_quarantine/{id}", entry!(quarantine::forget)),
    ("POST", "/v1/_quarantine/{id}/_release", entry!(quarantine::release)),
    ("POST", "/_peer/hello", node!(peer::answer)),
    ("POST", "/_peer/heartbeat", node!(peer::answer)),
    ("POST", "/_peer/push", node!(peer::answer)),
    ("POST", "/_peer/feed", node!(peer::answer)),
    ("POST", "/_peer/sketch", node!(peer::answer)),
    ("POST", "/_peer/docs", node!(peer::answer)),
    ("POST", "/_peer/names", node!(peer::answer)),
    ("POST", "/_peer/ephemeral", node!(peer::answer)),
    ("GET", "/examples", node!(examples::folder)),
    ("GET", "/examples/", node!(examples::index)),
    ("GET", "/examples/page.css", node!(examples::style)),
    ("GET", "/examples/page.js", node!(examples::page)),
    ("GET", "/examples/automerge-repo.js", node!(examples::packages)),
    ("GET", "/examples/automerge.wasm", node!(examples::module)),
    ("GET", "/livez", node!(node::live)),
    ("GET", "/readyz", node!(node::ready)),
    ("GET", "/metrics", node!(metrics::page)),
];

/// The routes, ready to be matched.
static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(ROUTES));
