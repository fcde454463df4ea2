//! GET `/metrics`: everything that is counted, as a page for Prometheus and its like.

use super::{
    Traffic,
    exposition::{Dialect, Kind, Page, Unit},
    extract::Call,
    media,
    reply::{self, Answer},
};
use crate::node::{
    Clients, Figures, Health, Loaded, Node, PeerState, PeerStatus, PeerTraffic, Usage,
};
use axum::http::StatusCode;

const OPENMETRICS: &str = "application/openmetrics-text";
const TEXT: &str = "text/plain";

/// GET `/metrics`.
pub(crate) async fn page(call: Call) -> Answer {
    call.query()?.end()?;
    let kind = media::choose(&call.head.headers, &[OPENMETRICS, TEXT])?;
    let (dialect, kind) = match kind {
        OPENMETRICS => {
            (Dialect::OpenMetrics, "application/openmetrics-text; version=1.0.0; charset=utf-8")
        }
        _ => (Dialect::Prometheus, "text/plain; version=0.0.4; charset=utf-8"),
    };
    let node = call.api.node();
    let figures = node.figures().await;
    let mut page = Page::new(dialect);
    tell_node(&mut page, node, &figures);
    tell_peers(&mut page, &node.peer_statuses(), node.peer_traffic(), &figures);
    tell_clients(&mut page, &figures.clients);
    tell_writes(&mut page, &figures);
    tell_loaded(&mut page, &figures.loaded);
    if let Some((health, usage)) = figures.engine {
        tell_engine(&mut page, health, usage);
    }
    let traffic = call.api.traffic();
    tell_traffic(&mut page, &traffic);
    page.family("panics", Kind::Counter, Unit::Count, "Defects that were met and answered.")
        .sample(&[("room", "http")], traffic.panics.value())
        .sample(&[("room", "node")], figures.panics);
    Ok(reply::raw(StatusCode::OK, kind, page.end().into()))
}

fn tell_node(page: &mut Page, node: &Node, figures: &Figures) {
    let (id, incarnation) = (node.id().to_string(), node.incarnation().to_string());
    let labels =
        [("version", env!("CARGO_PKG_VERSION")), ("node", &*id), ("incarnation", &*incarnation)];
    page.family("build", Kind::Info, Unit::Count, "Which program, node and start this is.")
        .sample(&labels, 1);
    let uptime = figures.uptime.as_secs_f64();
    page.family("uptime_seconds", Kind::Gauge, Unit::Seconds, "Since the node was started.")
        .sample(&[], uptime);
    for (name, help, value) in [
        ("documents", "Documents that live.", figures.documents),
        ("documents_deleted", "Documents that are deleted.", figures.deleted),
        ("documents_damaged", "Documents found damaged at the start.", figures.damaged),
        ("documents_oversize", "Documents larger than an edit may make them.", figures.oversize),
        ("documents_quarantined", "Documents in quarantine.", figures.quarantined),
        ("changes_quarantined", "Changes kept in quarantine.", figures.quarantined_changes),
        ("changes_waiting", "Changes that wait for others.", figures.orphans),
        ("feed_subscriptions", "Readers that wait for the feed.", figures.subscriptions),
        ("collections", "Collections.", figures.collections),
        ("last_seq", "Commits of documents so far: the end of the feed.", figures.last_seq),
        ("read_only", "1 once the node takes no writes.", u64::from(figures.read_only.is_some())),
    ] {
        page.family(name, Kind::Gauge, Unit::Count, help).sample(&[], value);
    }
}

fn tell_peers(page: &mut Page, peers: &[PeerStatus], traffic: PeerTraffic, figures: &Figures) {
    let count = |state| peers.iter().filter(|peer| peer.state == state).count() as u64;
    page.family("peers", Kind::Gauge, Unit::Count, "Peers, by state.")
        .sample(&[("state", "connecting")], count(PeerState::Connecting))
        .sample(&[("state", "up")], count(PeerState::Up))
        .sample(&[("state", "down")], count(PeerState::Down));
    let lag = peers.iter().map(|peer| peer.lag_documents).max().unwrap_or(0);
    let help = "Commits that a peer has not acknowledged, at most, of the peer with the most.";
    page.family("peer_lag_documents", Kind::Gauge, Unit::Count, help).sample(&[], lag);
    // What is not to go over is no trouble.
    let unsettled = |peer: &PeerStatus| {
        peer.unsettled.iter().filter(|(_, why)| *why != PeerStatus::ONE_WAY).count() as u64
    };
    let unsettled = peers.iter().map(unsettled).sum::<u64>();
    let help = "Differences from peers that could not be settled, those of one-way links aside.";
    page.family("peer_unsettled", Kind::Gauge, Unit::Count, help).sample(&[], unsettled);
    let PeerTraffic { bytes_sent, bytes_received, rounds, repaired } = traffic;
    page.family("peer_bytes", Kind::Counter, Unit::Bytes, "Messages to peers and back.")
        .sample(&[("direction", "sent")], bytes_sent)
        .sample(&[("direction", "received")], bytes_received);
    let help = "Rounds that were run to find what differs.";
    page.family("peer_rounds", Kind::Counter, Unit::Count, help).sample(&[], rounds);
    let repairs = "Documents that rounds found to differ.";
    for (name, help, value) in [
        ("peer_documents_repaired", repairs, repaired),
        ("peer_changes_taken", "Changes of peers that were new.", figures.peer_changes_taken),
        ("peer_changes_held", "Changes of peers that were here.", figures.peer_changes_held),
    ] {
        page.family(name, Kind::Counter, Unit::Count, help).sample(&[], value);
    }
}

fn tell_clients(page: &mut Page, clients: &Clients) {
    let help = "Offline-first clients that are connected.";
    page.family("clients", Kind::Gauge, Unit::Count, help).sample(&[], clients.connections);
    let help = "Documents that clients have open, each as often as it is.";
    page.family("client_documents", Kind::Gauge, Unit::Count, help).sample(&[], clients.documents);
    page.family("client_messages", Kind::Counter, Unit::Count, "Messages of clients and to them.")
        .sample(&[("direction", "received")], clients.received)
        .sample(&[("direction", "sent")], clients.sent);
    page.family("client_bytes", Kind::Counter, Unit::Bytes, "Their bytes.")
        .sample(&[("direction", "received")], clients.received_bytes)
        .sample(&[("direction", "sent")], clients.sent_bytes);
    let help =
        "Clients that the node sent away: a broken rule, no writes taken, the same peer again.";
    page.family("clients_sent_away", Kind::Counter, Unit::Count, help).sample(&[], clients.ended);
}

fn tell_writes(page: &mut Page, figures: &Figures) {
    let help = "Commits that were written with one sync.";
    page.family("commit_group", Kind::Histogram, Unit::Count, help).histogram(&[], &figures.groups);
    let help = "From a group's first row to the end of its sync.";
    page.family("commit_duration_seconds", Kind::Histogram, Unit::Seconds, help)
        .histogram(&[], &figures.commits);
    let help = "Edits that the document or the limits forbid.";
    page.family("edits_refused", Kind::Counter, Unit::Count, help).sample(&[], figures.refused);
    let help = "Commands turned away because too many waited.";
    page.family("commands_stalled", Kind::Counter, Unit::Count, help).sample(&[], figures.stalled);
    let help = "Commands that wait for their shard.";
    page.family("commands_waiting", Kind::Gauge, Unit::Count, help).sample(&[], figures.waiting);
}

fn tell_loaded(page: &mut Page, loaded: &Loaded) {
    let help = "Documents loaded for writing.";
    page.family("cache_documents", Kind::Gauge, Unit::Count, help).sample(&[], loaded.documents);
    let help = "Memory of the loaded documents, estimated.";
    page.family("cache_bytes", Kind::Gauge, Unit::Bytes, help).sample(&[], loaded.bytes);
    let help = "Memory that loaded documents may take.";
    page.family("cache_budget_bytes", Kind::Gauge, Unit::Bytes, help).sample(&[], loaded.bytes_max);
    for (name, help, value) in [
        ("cache_hits", "Commands that found their document loaded.", loaded.hits),
        ("cache_misses", "Commands that did not.", loaded.misses),
        ("cache_evictions", "Loaded documents that made room for others.", loaded.evictions),
    ] {
        page.family(name, Kind::Counter, Unit::Count, help).sample(&[], value);
    }
    let help = "Loading a document.";
    page.family("load_duration_seconds", Kind::Histogram, Unit::Seconds, help)
        .histogram(&[], &loaded.loads);
    let help = "Folding a document's log into a snapshot.";
    page.family("fold_duration_seconds", Kind::Histogram, Unit::Seconds, help)
        .histogram(&[], &loaded.folds);
}

fn tell_engine(page: &mut Page, health: Health, usage: Usage) {
    let help = "Files on disk: tables, large values, log.";
    page.family("store_disk_bytes", Kind::Gauge, Unit::Bytes, help)
        .sample(&[("kind", "table")], usage.table_bytes)
        .sample(&[("kind", "blob")], usage.blob_bytes)
        .sample(&[("kind", "log")], usage.log_bytes);
    for (name, unit, help, value) in [
        ("store_memtable_bytes", Unit::Bytes, "Rows in no table yet.", usage.memtable_bytes),
        ("store_block_cache_bytes", Unit::Bytes, "The cache of blocks.", usage.cache_bytes),
        ("store_block_cache_budget_bytes", Unit::Bytes, "What it may hold.", usage.cache_bytes_max),
        (
            "store_compaction_pending_bytes",
            Unit::Bytes,
            "What compactions have still to rewrite.",
            usage.compaction_bytes_pending,
        ),
        ("store_compactions", Unit::Count, "Compactions that run.", usage.compactions_running),
        ("store_flushes", Unit::Count, "Flushes that run.", usage.flushes_running),
        ("store_write_stopped", Unit::Count, "1 while writes wait.", u64::from(health.stalled)),
        (
            "store_delayed_write_rate",
            Unit::Count,
            "Bytes a second to which writes are slowed down; 0: they are not.",
            usage.write_bytes_per_second_max,
        ),
    ] {
        page.family(name, Kind::Gauge, unit, help).sample(&[], value);
    }
    let help = "Flushes and compactions that failed.";
    page.family("store_background_errors", Kind::Counter, Unit::Count, help)
        .sample(&[], health.background_errors);
}

fn tell_traffic(page: &mut Page, traffic: &Traffic) {
    let help = "Requests answered, by route, verb and class of status.";
    page.family("http_requests", Kind::Counter, Unit::Count, help);
    for (route, site) in traffic.sites() {
        for (method, status, count) in site.requests() {
            let labels = [("route", route), ("method", method), ("status", status)];
            page.sample(&labels, count);
        }
    }
    let help = "From a request's head to that of its answer.";
    page.family("http_request_duration_seconds", Kind::Histogram, Unit::Seconds, help);
    for (route, site) in traffic.sites() {
        let times = site.answer_ns.read();
        if times.count != 0 {
            page.histogram(&[("route", route)], &times);
        }
    }
    for (name, unit, help, value) in [
        ("http_request_body_bytes", Unit::Bytes, "Bodies as they came.", &traffic.bytes_in),
        ("http_response_body_bytes", Unit::Bytes, "Bodies as they went.", &traffic.bytes_out),
        ("http_connections_accepted", Unit::Count, "Connections let in.", &traffic.accepted),
        (
            "http_connections_refused",
            Unit::Count,
            "Connections of addresses with too many.",
            &traffic.refused,
        ),
    ] {
        page.family(name, Kind::Counter, unit, help).sample(&[], value.value());
    }
    let help = "Connections that are open.";
    page.family("http_connections", Kind::Gauge, Unit::Count, help)
        .sample(&[], traffic.connections.value());
    let help = "Requests whose answers are not out.";
    page.family("http_requests_in_flight", Kind::Gauge, Unit::Count, help)
        .sample(&[], traffic.in_flight.value());
}
