//! Every figure beside its floor, in one run. README.md beside this folder says what each one is.
//!
//! ```text
//! make bench                  all of them
//! make bench ARGS=committer   those whose name holds this
//! make bench ARGS=--list      their names
//! ```

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a bench")]

mod bare;
mod beats;
mod clients;
mod cluster;
mod committer;
mod copy;
mod couchdb;
mod directory;
mod disk;
mod engine;
mod feed;
mod gate;
mod hot;
mod import;
mod kernel;
mod lag;
mod large;
mod load;
mod lost;
mod machine;
mod memory;
mod order;
mod past;
mod ready;
mod replicate;
mod request;
mod requests;
mod rounds;
mod row;
mod samod;
mod scratch;
mod server;
mod sketch;
mod stopped;
mod syncs;
mod typing;
mod union;
mod watch;

use row::Row;
use std::{env, panic, process::ExitCode};

/// As the binary has it, so that the bare handler and what runs in this process have no other.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures, and gives its rows.
type Figure = fn() -> Vec<Row>;

/// Every figure, in the order of the table.
const FIGURES: &[(&str, Figure)] = &[
    ("get", requests::get),
    ("put", requests::put),
    ("patch", requests::patch),
    ("syncs", syncs::syncs),
    ("committer", committer::committer),
    ("import", import::import),
    ("memory", memory::memory),
    ("disk", disk::disk),
    ("hot", hot::hot),
    ("large", large::large),
    ("ready", ready::ready),
    ("union", union::union),
    ("gate", gate::gate),
    ("feed", feed::feed),
    ("watch", watch::watch),
    ("subscribers", watch::subscribers),
    ("past", past::past),
    ("sketch", sketch::sketch),
    ("ledger", sketch::ledger),
    ("copy", copy::copy),
    ("replicate", replicate::replicate),
    ("lag", lag::lag),
    ("beats", beats::beats),
    ("lost", lost::lost),
    ("stopped", stopped::stopped),
    ("kernel", kernel::kernel),
    ("clients", clients::clients),
    ("touched", clients::touched),
    ("typing", typing::typing),
    (COUCHDB, couchdb::couchdb),
];

/// The figure that has a table of its own.
const COUCHDB: &str = "couchdb";

fn main() -> ExitCode {
    // Cargo says what we are.
    let arguments: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let wanted = |name: &str| {
        arguments.is_empty() || arguments.iter().any(|word| name.contains(word.as_str()))
    };
    match arguments.first().map(String::as_str) {
        Some(server::BARE) => bare::run(),
        Some(server::SAMOD) => samod::run(arguments[1].as_ref()),
        Some(kernel::INSIDE) => kernel::inside(),
        Some("--list") => FIGURES.iter().for_each(|(name, _)| println!("{name}")),
        _ => return run(FIGURES.iter().filter(|(name, _)| wanted(name))),
    }
    ExitCode::SUCCESS
}

fn run<'a>(figures: impl Iterator<Item = &'a (&'a str, Figure)>) -> ExitCode {
    order::check();
    println!("{}", machine::describe());
    let (mut rows, mut peer, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for (name, figure) in figures {
        let table = if *name == COUCHDB { &mut peer } else { &mut rows };
        // What went wrong is on standard error; the others are worth their time all the same.
        let Ok(measured) = panic::catch_unwind(figure) else {
            failed.push(*name);
            continue;
        };
        for row in measured {
            eprintln!("{}", row.line());
            table.push(row);
        }
    }
    if !rows.is_empty() {
        println!("{}", row::table(&rows, "floor"));
    }
    if !peer.is_empty() {
        println!("{}", row::table(&peer, couchdb::FLOOR));
    }
    println!("- load at the end: {}", machine::load());
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("- **not measured**: {}", failed.join(", "));
    ExitCode::FAILURE
}
