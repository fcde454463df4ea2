//! What two nodes say to each other where there is next to nothing to say.

use super::{
    cluster::{copy_directory, in_sync, json, messages, pair, until},
    copy::fill,
    load::load_all,
    lost::{Differences, join},
    request::Requests,
    row::{Bar, Row},
    scratch::Scratch,
};
use std::{thread, time::Duration};

const DOCUMENTS: u64 = 20_000;
/// What is still being said when nodes meet is said by then.
const SETTLING: Duration = Duration::from_secs(12);
/// How long it is listened: four beats of each.
const LISTENING: Duration = Duration::from_secs(20);
/// A change has come, and its acknowledgement a little later.
const BEHIND: Duration = Duration::from_millis(500);

/// Two nodes that hold the same and know of each other: a beat of either; then one document that is
/// changed, told by the feed; and the same after both have lost their cursors, found by the sketch.
pub(crate) fn beats() -> Vec<Row> {
    let scratch = Scratch::new();
    let data = ["one", "two", "third", "fourth"].map(|name| scratch.path(name));
    fill(&data[0], DOCUMENTS);
    for copy in &data[1..] {
        copy_directory(&data[0], copy);
    }
    let nodes = pair([&data[0], &data[1]], true);
    let both = [&nodes[0], &nodes[1]];
    until("two nodes are equal", || both.iter().all(|node| in_sync(node)));
    thread::sleep(SETTLING);
    let before = messages(&both);
    eprintln!("beats: listening");
    thread::sleep(LISTENING);
    let heard = messages(&both).since(&before);
    let beats = heard.of(&["heartbeat"]).requests;
    eprintln!("{heard:?}");
    let idle = [heard.all().requests / beats, heard.all().bytes / beats];
    let before = messages(&both);
    load_all(both[0].address(), 1, &mut Requests::patch(1, 0).only(1));
    let value = || json(both[1].address(), "/v1/bench/doc-0000000000")["counter"].take();
    let is = json(both[0].address(), "/v1/bench/doc-0000000000")["counter"].take();
    until("a change comes", || value() == is);
    thread::sleep(BEHIND);
    let told = messages(&both).since(&before);
    eprintln!("{told:?}");
    // A beat may have come in between.
    let told = told.all() - told.of(&["heartbeat"]);
    drop(nodes);
    let found = join([&data[2], &data[3]], &Differences { patched: [1, 0], made: [0, 0] });
    let found = found.messages.all();
    vec![
        Row::alone("two equal nodes: requests for each beat of either", "", idle[0])
            .bar(Bar::at_most(1.0)),
        Row::alone("two equal nodes: bytes of bodies for each beat", "B", idle[1])
            .bar(Bar::at_most(300.0)),
        Row::alone("one changed document, told by the feed: requests", "", told.requests)
            .bar(Bar::at_most(3.0)),
        Row::alone("one changed document, told by the feed: bytes", "B", told.bytes)
            .bar(Bar::at_most(4_096.0)),
        Row::alone("the same, found after cursors were lost: requests", "", found.requests),
        Row::alone("the same, found after cursors were lost: bytes", "B", found.bytes),
    ]
}
