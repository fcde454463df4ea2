//! Nodes in one process, over real sockets: what is written apart becomes equal, and what that costs.

use crate::{hostile::hello, http::Client as Asking};
use bytes::Bytes;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time};
use tombolo::{
    doc::{self, Edit, Form, Limits},
    http,
    ident::{DocumentId, IncarnationId, Name, NodeId, Version},
    node::{
        Direction, Error, Figures, Filter, Node, Options, PeerOptions, PeerState, Precondition,
        Secret, Since, Unheard, Write, Written,
    },
    peer::Client,
    store::{Crash, Engine, MemoryEngine},
    sync::{Envelope, Hello, MemberKey, Refused},
};

/// Longest that nodes may take to become equal, with nothing in the way: two ticks of their sketches.
pub(crate) const SOON: Duration = Duration::from_secs(75);

/// What all nodes of these tests know.
pub(crate) const SECRET: &[u8] = b"a secret that is long";

/// A node that others reach.
pub(crate) struct Island {
    pub(crate) node: Node,
    pub(crate) address: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Island {
    pub(crate) async fn new() -> Self {
        Self::on(Arc::new(MemoryEngine::new()), "127.0.0.1:0", SECRET).await
    }

    pub(crate) async fn on(engine: Arc<dyn Engine>, listen: &str, secret: &[u8]) -> Self {
        Self::with(
            Options { secret: Secret(secret.to_vec()), ..Options::default() },
            engine,
            listen,
        )
        .await
    }

    pub(crate) async fn with(options: Options, engine: Arc<dyn Engine>, listen: &str) -> Self {
        let options = Options { shards: 1, sketch_cells: 64, ..options };
        let node = Node::start(options, engine).unwrap();
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let api = http::Api::new(node.clone(), http::Options::default());
        let traffic = api.traffic();
        let bounds = http::Connections::default();
        let serving = http::serve(listener, api.into_service(), bounds, traffic, until(stopped));
        let tasks = vec![tokio::spawn(serving)];
        Self { node, address, stop, tasks }
    }

    /// Replicates with others.
    pub(crate) fn join(&mut self, peers: Vec<PeerOptions>) {
        let replicate = self.node.replicate(peers, Client::tcp(), until(self.stop.subscribe()));
        self.tasks.push(tokio::spawn(replicate));
    }

    pub(crate) fn peer(&self) -> PeerOptions {
        PeerOptions {
            name: self.address.to_string().parse().unwrap(),
            url: format!("http://{}", self.address).parse().unwrap(),
            collections: None,
            direction: Direction::Both,
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.node.stop().await;
        for task in self.tasks {
            task.await.unwrap();
        }
    }

    pub(crate) async fn put(&self, of: &str, json: &str) -> Written {
        let edit = Edit::Put(doc::parse(json.as_bytes(), Form::Plain, &Limits::default()).unwrap());
        self.write(of, edit).await
    }

    pub(crate) async fn write(&self, of: &str, edit: Edit) -> Written {
        self.try_write(of, edit).await.unwrap()
    }

    pub(crate) async fn try_patch(&self, of: &str, json: &str) -> Result<Written, Error> {
        let patch = doc::parse(json.as_bytes(), Form::Plain, &Limits::default()).unwrap();
        self.try_write(of, Edit::MergePatch(patch)).await
    }

    async fn try_write(&self, of: &str, edit: Edit) -> Result<Written, Error> {
        let precondition = Precondition::None;
        let write = Write { edit, base: None, precondition, message: None, want: None, once: None };
        self.node.write(&name(of), write).await
    }

    /// Every document: its version, its conflicts, its JSON.
    pub(crate) async fn all(&self) -> BTreeMap<Name, (Version, u32, Option<Bytes>)> {
        let (mut all, mut since) = (BTreeMap::new(), Since::Beginning);
        loop {
            let filter = Filter::default();
            let stretch = self.node.feed(since, &filter, 500, Some(usize::MAX)).await.unwrap();
            for row in stretch.rows {
                all.insert(row.name, (row.version, row.conflicts, row.json));
            }
            if stretch.end {
                return all;
            }
            since = Since::Cursor(stretch.next);
        }
    }

    pub(crate) async fn figures(&self) -> Figures {
        self.node.figures().await
    }
}

pub(crate) async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone stops as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

pub(crate) fn name(of: &str) -> Name {
    let (collection, key) = of.split_once('/').unwrap();
    Name::new(collection.parse().unwrap(), key.parse().unwrap()).unwrap()
}

/// Waits until all hold the same, and as many documents.
pub(crate) async fn equal(islands: &[&Island], documents: usize) {
    let until = time::Instant::now() + SOON;
    loop {
        let first = islands[0].all().await;
        let mut same = first.len() == documents;
        for island in &islands[1..] {
            same &= island.all().await == first;
        }
        if same {
            return;
        }
        if until < time::Instant::now() {
            for island in islands {
                let all = island.all().await;
                eprintln!("{} documents, {:?}", all.len(), island.node.peer_statuses());
            }
            panic!("not equal in time");
        }
        time::sleep(Duration::from_millis(20)).await;
    }
}

/// Lets all of them replicate with all others, and waits until each pushes to each.
pub(crate) async fn mesh(islands: &mut [Island]) {
    let pairs = |one| (0..one).map(move |other| (one, other));
    let links: Vec<_> = (0..islands.len()).flat_map(pairs).collect();
    link(islands, &links).await;
}

/// Lets these pairs replicate, and waits until each pushes to the other.
async fn link(islands: &mut [Island], links: &[(usize, usize)]) {
    let peers: Vec<PeerOptions> = islands.iter().map(Island::peer).collect();
    for (index, island) in islands.iter_mut().enumerate() {
        let linked = |&(one, other): &(usize, usize)| match index {
            _ if one == index => Some(peers[other].clone()),
            _ if other == index => Some(peers[one].clone()),
            _ => None,
        };
        island.join(links.iter().filter_map(linked).collect());
    }
    // And until each has told each of it: then nobody says hello any more. Naps take longer where there is
    // little to compute with, as greetings do.
    let until = time::Instant::now() + SOON;
    let (mut before, mut naps) = (0, 0);
    while naps < 100 {
        let statuses = islands.iter().flat_map(|island| island.node.peer_statuses());
        assert!(time::Instant::now() < until, "not linked: {:?}", statuses.collect::<Vec<_>>());
        let up = statuses.filter(|status| status.state == PeerState::Up);
        let hellos: Vec<u64> = up.map(|status| status.messages["hello"].requests).collect();
        let said = hellos.iter().sum();
        let settled = hellos.len() == 2 * links.len() && said == before;
        (naps, before) = (if settled { naps + 1 } else { 0 }, said);
        time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_on_one_node_is_soon_on_the_other() {
    let mut islands = [Island::new().await, Island::new().await];
    mesh(&mut islands).await;
    let [a, b] = &islands;
    a.put("notes/a", r#"{"from":"a"}"#).await;
    b.put("notes/b", r#"{"from":"b"}"#).await;
    equal(&[a, b], 2).await;
    a.put("notes/b", r#"{"from":"b","also":"a"}"#).await;
    b.write("notes/a", Edit::Delete).await;
    equal(&[a, b], 2).await;
    let all = a.all().await;
    assert_eq!(all[&name("notes/a")].2, None);
    for island in islands {
        island.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_apart_becomes_equal_when_they_meet() {
    let (mut a, b) = (Island::new().await, Island::new().await);
    for island in [&a, &b] {
        for key in 0..40 {
            island.put(&format!("notes/{key}"), &format!(r#"{{"on":"{}"}}"#, island.address)).await;
        }
        for key in 0..10 {
            island.write(&format!("notes/{key}"), Edit::Delete).await;
        }
    }
    for key in 0..300 {
        b.put(&format!("more/{key}"), r#"{"on":"b"}"#).await;
    }
    // One of them knows of the other.
    a.join(vec![b.peer()]);
    equal(&[&a, &b], 340).await;
    a.put("notes/late", "{}").await;
    b.put("notes/later", "{}").await;
    equal(&[&a, &b], 342).await;
    assert_eq!(a.all().await[&name("notes/20")].1, 1, "both values are there");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_costs_is_told_by_kind_of_message() {
    let (mut a, b) = (Island::new().await, Island::new().await);
    for island in [&a, &b] {
        island.put("notes/here", &format!(r#"{{"{}":1}}"#, island.address.port())).await;
    }
    a.join(vec![b.peer()]);
    equal(&[&a, &b], 1).await;
    a.put("notes/late", "{}").await;
    equal(&[&a, &b], 2).await;
    let status = a.node.peer_statuses().remove(0);
    let kind = |what| status.messages.get(what).copied().unwrap_or_default();
    let beats = kind("heartbeat");
    assert!((1..=beats.requests * 150).contains(&beats.bytes_sent), "{beats:?}");
    assert!((1..=beats.requests * 150).contains(&beats.bytes_received), "{beats:?}");
    // Each question is 32 cells and 32 probes of 64 cells, and what they are of.
    let asked = kind("sketch");
    assert_eq!(asked.bytes_sent, asked.requests * (19 + 4 + 32 * 20 + 4 + 32));
    for what in ["hello", "docs", "push"] {
        assert!(0 < kind(what).requests && 0 < kind(what).bytes_received, "{what}: {status:?}");
    }
    let all = status.messages.values();
    assert_eq!(all.clone().map(|of| of.bytes_sent).sum::<u64>(), status.bytes_sent);
    assert_eq!(all.map(|of| of.bytes_received).sum::<u64>(), status.bytes_received);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_sketch_tells_is_found_in_slices() {
    let (mut a, b) = (Island::new().await, Island::new().await);
    for island in [&a, &b] {
        for key in 0..150 {
            island.put(&format!("notes/{}-{key}", island.address), "{}").await;
        }
    }
    a.join(vec![b.peer()]);
    equal(&[&a, &b], 300).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_cannot_be_taken_holds_up_no_other() {
    let mut islands = [Island::new().await, Island::new().await];
    let [a, b] = &islands;
    // Two names of one foreign id, each on a node of its own.
    let id = DocumentId::from_bytes([0x41; 16]).to_bs58check();
    a.put(&format!("one/{id}"), r#"{"on":"a"}"#).await;
    b.put(&format!("two/{id}"), r#"{"on":"b"}"#).await;
    mesh(&mut islands).await;
    let [a, b] = &islands;
    // From here on each has a cursor in the other's feed.
    for island in [a, b] {
        let first = format!("notes/first-{}", island.address);
        island.put(&first, "{}").await;
        assert_eq!(island.node.replicated(&name(&first), 1, SOON).await, Ok(1));
    }
    a.put(&format!("one/{id}"), r#"{"on":"a","again":1}"#).await;
    for key in 0..10 {
        a.put(&format!("notes/a{key}"), "{}").await;
        b.put(&format!("notes/b{key}"), "{}").await;
    }
    let held = a.node.replicated(&name(&format!("one/{id}")), 1, Duration::from_secs(2)).await;
    assert_eq!(held, Ok(0), "what is refused is not held");
    let until = time::Instant::now() + SOON;
    while a.all().await.len() < 23 || b.all().await.len() < 23 {
        assert!(time::Instant::now() < until, "{:?}", a.node.peer_statuses());
        time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(a.node.replicated(&name("notes/a9"), 1, Duration::from_secs(5)).await, Ok(1));
    for island in islands {
        island.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_message_cannot_carry_is_given_back_in_several() {
    let (mut a, b) = (Island::new().await, Island::new().await);
    // Which no compression makes smaller.
    let text = || -> String { (0..160 << 10).map(|_| fastrand::alphanumeric()).collect() };
    for key in 0..16 {
        a.put(&format!("notes/{key}"), &format!(r#"{{"text":"{}"}}"#, text())).await;
    }
    b.put("more/1", "{}").await;
    b.put("more/2", "{}").await;
    // All that differs has to be found by the sketch: the feed of neither begins before.
    a.join(vec![b.peer()]);
    equal(&[&a, &b], 18).await;
    assert!(a.node.peer_statuses()[0].rounds <= 3, "{:?}", a.node.peer_statuses());
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scoped_link_shares_its_collections_and_runs_no_rounds_when_idle() {
    let (mut a, b) = (Island::new().await, Island::new().await);
    for island in [&a, &b] {
        island.put("shared/here", &format!(r#"{{"{}":1}}"#, island.address.port())).await;
        island.put(&format!("own/{}", island.address), "{}").await;
    }
    let shared = vec!["shared".parse().unwrap()];
    a.join(vec![PeerOptions { collections: Some(shared), ..b.peer() }]);
    let here = name("shared/here");
    while a.all().await[&here] != b.all().await[&here] {
        time::sleep(Duration::from_millis(20)).await;
    }
    // Whatever was on its way has come.
    time::sleep(Duration::from_secs(12)).await;
    let before = a.node.peer_statuses().remove(0);
    time::sleep(Duration::from_secs(40)).await;
    let after = a.node.peer_statuses().remove(0);
    assert_eq!((after.in_sync, after.rounds), (Some(true), before.rounds));
    assert_eq!((a.all().await.len(), b.all().await.len()), (2, 2));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_one_way_link_shows_what_it_cannot_settle_and_runs_no_rounds_when_idle() {
    let (mut a, b) = (Island::new().await, Island::new().await);
    a.put("notes/a", "{}").await;
    b.put("notes/b", "{}").await;
    a.join(vec![PeerOptions { direction: Direction::Push, ..b.peer() }]);
    while b.all().await.len() < 2 {
        time::sleep(Duration::from_millis(20)).await;
    }
    // Whatever was on its way has come, and what is left was tried.
    time::sleep(Duration::from_secs(15)).await;
    let before = a.node.peer_statuses().remove(0);
    time::sleep(Duration::from_secs(38)).await;
    let after = a.node.peer_statuses().remove(0);
    assert_eq!((after.in_sync, after.rounds), (Some(false), before.rounds));
    assert_eq!(after.unsettled.iter().map(|one| one.1).collect::<Vec<_>>(), ["one way"]);
    let api = http::Api::new(a.node.clone(), http::Options::default());
    let metrics = Asking(api).ask("GET /metrics", &[], "").await.text().to_owned();
    assert!(metrics.contains("\ntombolo_peer_unsettled 0\n"), "it is no trouble: {metrics}");
    assert_eq!(a.all().await.into_keys().collect::<Vec<_>>(), [name("notes/a")]);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_takes_nothing_does_not_lag() {
    let (mut a, mut b) = (Island::new().await, Island::new().await);
    b.put("notes/b", "{}").await;
    b.join(vec![a.peer()]);
    a.join(vec![PeerOptions { direction: Direction::Push, ..b.peer() }]);
    a.put("notes/a", "{}").await;
    let status = || b.node.peer_statuses().remove(0);
    while b.all().await.len() < 2 || status().in_sync.is_none() {
        time::sleep(Duration::from_millis(20)).await;
    }
    a.put("notes/late", "{}").await;
    assert_eq!(a.node.replicated(&name("notes/late"), 1, SOON).await, Ok(1));
    assert_eq!((status().state, status().lag_documents), (PeerState::Up, 0));
    assert_eq!(a.node.peer_statuses()[0].lag_documents, 0);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_from_a_backup_gets_what_it_has_lost() {
    let engine = Arc::new(MemoryEngine::new());
    let secret = b"a secret that is long";
    let mut a = Island::on(Arc::clone(&engine) as Arc<dyn Engine>, "127.0.0.1:0", secret).await;
    let b = Island::new().await;
    a.join(vec![b.peer()]);
    for key in 0..20 {
        a.put(&format!("notes/{key}"), r#"{"n":1}"#).await;
    }
    equal(&[&a, &b], 20).await;
    // The backup: whatever is synced, and nothing since.
    let backup = engine.crash(Crash::Keep { batches: 0 });
    for key in 10..40 {
        a.put(&format!("notes/{key}"), r#"{"n":2}"#).await;
    }
    equal(&[&a, &b], 40).await;
    let held = b.all().await;
    a.stop().await;
    let mut a = Island::on(Arc::new(backup), "127.0.0.1:0", secret).await;
    assert_eq!(a.all().await.len(), 20, "it is the backup");
    a.put("notes/5", r#"{"n":3}"#).await;
    a.join(vec![b.peer()]);
    equal(&[&a, &b], 40).await;
    let (mut now, mut before) = (a.all().await, held);
    assert_ne!(now.remove(&name("notes/5")), before.remove(&name("notes/5")));
    assert_eq!(now, before, "nothing else is another");
    a.stop().await;
    b.stop().await;
}

/// A document has one row in the feed, at its last commit, and the feed is told by many rows at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_again_while_a_peer_was_away_comes_along_the_feed() {
    // What was written is in memory still, or is not.
    for restarts in [false, true] {
        let [engine, other] = [(); 2].map(|()| Arc::new(MemoryEngine::new()));
        let mut a = Island::on(Arc::clone(&engine) as Arc<dyn Engine>, "127.0.0.1:0", SECRET).await;
        let b = Island::on(Arc::clone(&other) as Arc<dyn Engine>, "127.0.0.1:0", SECRET).await;
        a.join(vec![b.peer()]);
        a.put("notes/again", r#"{"n":0}"#).await;
        equal(&[&a, &b], 1).await;
        let address = b.address.to_string();
        b.stop().await;
        let again = async |a: &Island, n: usize| {
            for key in 0..600 {
                a.put(&format!("notes/{n}-{key}"), "{}").await;
            }
            a.put("notes/again", &format!(r#"{{"n":{n}}}"#)).await;
        };
        again(&a, 1).await;
        again(&a, 2).await;
        let mut documents = 1201;
        if restarts {
            a.stop().await;
            a = Island::on(Arc::clone(&engine) as Arc<dyn Engine>, "127.0.0.1:0", SECRET).await;
            // Its last row lies where all commits are in memory, and its first ones do not.
            again(&a, 3).await;
            documents = 1801;
        }
        let b = Island::on(Arc::clone(&other) as Arc<dyn Engine>, &address, SECRET).await;
        if restarts {
            a.join(vec![b.peer()]);
        }
        equal(&[&a, &b], documents).await;
        assert_eq!(a.node.peer_statuses()[0].repaired, 0, "nothing was left to a round");
        assert_eq!(b.figures().await.peer_changes_held, 0, "nothing came twice");
        for island in [a, b] {
            island.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_known_to_be_held_by_as_many_peers_as_hold_it() {
    let mut islands = [Island::new().await, Island::new().await, Island::new().await];
    mesh(&mut islands).await;
    let [a, b, c] = islands;
    let (one, wait) = (name("notes/one"), Duration::from_secs(20));
    a.put("notes/one", "{}").await;
    assert_eq!(a.node.replicated(&one, 2, wait).await, Ok(2));
    assert_eq!(b.all().await[&one], a.all().await[&one]);
    assert_eq!(c.all().await[&one], a.all().await[&one]);
    c.stop().await;
    let began = time::Instant::now();
    a.put("notes/one", r#"{"n":1}"#).await;
    assert_eq!(a.node.replicated(&one, 1, wait).await, Ok(1));
    // Of the other it is known, or not yet, that it has gone: it is not waited for longer than told.
    assert_eq!(a.node.replicated(&one, 2, Duration::from_secs(3)).await, Ok(1));
    assert!(began.elapsed() < wait);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_the_roster_is_waited_for_though_it_is_down() {
    let (mut a, engine) = (Island::new().await, Arc::new(MemoryEngine::new()));
    let again = |listen| Island::on(Arc::clone(&engine) as Arc<dyn Engine>, listen, SECRET);
    let b = again("127.0.0.1:0").await;
    let elsewhere = PeerOptions {
        url: "http://127.0.0.1:1".parse().unwrap(),
        collections: Some(vec!["elsewhere".parse().unwrap()]),
        ..a.peer()
    };
    a.join(vec![b.peer(), elsewhere]);
    let (one, two) = (name("notes/one"), name("notes/two"));
    a.put("notes/one", "{}").await;
    // One of the two has nothing to do with it: nobody waits for more than there are.
    let began = time::Instant::now();
    assert_eq!(a.node.replicated(&one, 2, SOON).await, Ok(1));
    assert!(began.elapsed() < SOON);
    let (address, of) = (b.address.to_string(), b.peer().name);
    b.stop().await;
    while a.node.peer_status(&of).unwrap().state != PeerState::Down {
        time::sleep(Duration::from_millis(20)).await;
    }
    a.put("notes/two", "{}").await;
    let waiting = a.node.replicated(&two, 1, SOON);
    let (held, b) = tokio::join!(waiting, async {
        time::sleep(Duration::from_millis(500)).await;
        again(&address).await
    });
    assert_eq!(held, Ok(1));
    assert_eq!(b.all().await.len(), 2);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_asks_for_the_feed_is_known_to_hold_what_it_took() {
    let (a, mut b) = (Island::new().await, Island::new().await);
    // Two names of one foreign id: what is held by one is not taken by the other.
    let id = DocumentId::from_bytes([0x41; 16]).to_bs58check();
    let refused = format!("one/{id}");
    a.put(&refused, "{}").await;
    b.put(&format!("two/{id}"), "{}").await;
    b.join(vec![a.peer()]);
    let until = time::Instant::now() + SOON;
    for number in 0.. {
        let of = format!("first/{number}");
        a.put(&of, "{}").await;
        if a.node.replicated(&name(&of), 1, Duration::from_secs(1)).await == Ok(1) {
            break;
        }
        assert!(time::Instant::now() < until);
        time::sleep(Duration::from_millis(20)).await;
    }
    for key in 0..20 {
        let of = format!("notes/{key}");
        a.put(&of, "{}").await;
        assert_eq!(a.node.replicated(&name(&of), 1, SOON).await, Ok(1));
        assert!(b.all().await.contains_key(&name(&of)));
    }
    a.put(&refused, r#"{"again":1}"#).await;
    a.put("notes/last", "{}").await;
    assert_eq!(a.node.replicated(&name("notes/last"), 1, SOON).await, Ok(1));
    assert_eq!(a.node.replicated(&name(&refused), 1, Duration::from_secs(1)).await, Ok(0));
    b.stop().await;
    a.put("notes/later", "{}").await;
    let later = a.node.replicated(&name("notes/later"), 1, Duration::from_secs(1)).await;
    assert_eq!(later, Ok(0), "nobody took it");
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_two_secrets_share_nothing_and_say_so() {
    let mut a = Island::new().await;
    let other = Arc::new(MemoryEngine::new());
    let b = Island::on(other, "127.0.0.1:0", b"another secret, as long").await;
    a.put("notes/a", "{}").await;
    a.join(vec![b.peer(), PeerOptions { name: "itself".parse().unwrap(), ..a.peer() }]);
    time::sleep(Duration::from_secs(1)).await;
    for status in a.node.peer_statuses() {
        let expected =
            if status.options.name.as_str() == "itself" { "itself" } else { "wrong_secret" };
        let (code, why) = status.error.unwrap();
        assert_eq!((status.state, code), (PeerState::Down, expected), "{why}");
    }
    assert!(b.all().await.is_empty());
    // Nobody waits for those who share nothing.
    let (began, wait) = (time::Instant::now(), Duration::from_secs(20));
    assert_eq!(a.node.replicated(&name("notes/a"), 1, wait).await, Ok(0));
    assert!(began.elapsed() < wait);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_to_one_who_may_be_a_peer_that_was_not_met_and_may_have_less() {
    let (mut a, mut b) = (Island::new().await, Island::new().await);
    let some = |of: &str| Some(vec![of.parse().unwrap()]);
    b.put("one/of-b", "{}").await;
    b.put("two/of-b", "{}").await;
    // Whoever listens there would be given this, and does not answer.
    let url = "http://127.0.0.1:1".parse().unwrap();
    let peer = PeerOptions { url, collections: some("two"), ..a.peer() };
    // Whoever comes is told no more than is agreed, though nobody has been asked anything yet.
    let replicate = b.node.replicate(vec![peer], Client::tcp(), until(b.stop.subscribe()));
    let (one, all) = (PeerOptions { collections: some("one"), ..b.peer() }, b.peer());
    a.join(vec![one]);
    let mut c = Island::new().await;
    c.join(vec![all]);
    while c.all().await.is_empty() {
        time::sleep(Duration::from_millis(20)).await;
    }
    b.tasks.push(tokio::spawn(replicate));
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(c.all().await.into_keys().collect::<Vec<_>>(), [name("two/of-b")]);
    assert_eq!(a.node.peer_statuses()[0].error.as_ref().unwrap().0, "not_shared");
    assert!(a.all().await.is_empty());
    for island in [a, b, c] {
        island.stop().await;
    }
}

#[tokio::test]
async fn a_write_that_too_few_peers_hold_is_accepted_and_says_so() {
    let client = crate::http::Client::new();
    let alone = client.ask("PUT /v1/notes/a", &["prefer: replicate=1, wait=20"], "{}").await;
    assert_eq!((alone.status.as_u16(), alone.field("tombolo-replicated")), (202, "0"));
    assert_eq!(client.ask("GET /v1/notes/a", &[], "").await.status.as_u16(), 200, "it stands");
    let none = client.ask("PUT /v1/notes/b", &["prefer: replicate=0"], "{}").await;
    assert_eq!((none.status.as_u16(), none.field("tombolo-replicated")), (201, ""));
}

#[tokio::test]
async fn what_no_member_says_is_refused_with_a_reason_and_changes_nothing() {
    let a = Island::new().await;
    let key = MemberKey::derived(b"a secret that is long");
    let envelope = |number, to| Envelope {
        node: NodeId::from_bytes([9; 16]),
        from: IncarnationId::from_bytes([8; 16]),
        to,
        number,
        seal: [0; 32],
    };
    let (anybody, here) = (IncarnationId::from_bytes([0; 16]), a.node.incarnation());
    let garbage = vec![0xff; 1000];
    let of = |number, what: &str, to, body: &[u8]| {
        let sealed = key.seal(envelope(number, to), &format!("/_peer/{what}"), body);
        (what.to_owned(), sealed.to_string(), body.to_vec())
    };
    // A hello to whoever hears it is answered, and makes nobody a member.
    let (what, field, body) = of(20, "hello", anybody, &hello(9, 8).encode());
    let told = a.node.answer_peer(&what, &field, body.into()).await.unwrap();
    assert_eq!(Hello::decode(&told.body).unwrap().incarnation, here);
    for (reason, (what, field, body)) in [
        // Nothing but a hello is for anybody; and this start is not the last one.
        (1, of(1, "push", anybody, b"")),
        (1, of(2, "sketch", IncarnationId::from_bytes([7; 16]), b"")),
        (3, of(3, "hello", anybody, &garbage)),
        (3, of(4, "hello", here, &[2, 11])),
        (2, of(4, "hello", here, &[2, 11])),
        (7, of(5, "push", here, &garbage)),
        (7, of(6, "heartbeat", here, b"")),
        (7, of(7, "feed", here, b"")),
        (7, of(8, "docs", here, b"")),
    ] {
        let answered = a.node.answer_peer(&what, &field, body.into()).await.unwrap();
        let request: Envelope = field.parse().unwrap();
        assert!(key.has_sealed_answer(&request, &answered.body, answered.seal));
        let refused = Refused::decode(&answered.body).unwrap();
        assert_eq!(refused.reason, reason, "{what}: {}", refused.text);
    }
    let (what, field, body) = of(9, "hello", anybody, &garbage);
    for (what, field, body) in [
        ("push", &*field, &body[..]),
        (&*what, &*field, b"another"),
        (&*what, &*field.replace(" 9 ", " 10 "), &body),
        (&*what, "", &body),
        (&*what, "a b c d e", &body),
    ] {
        let answered = a.node.answer_peer(what, field, Bytes::copy_from_slice(body)).await;
        assert_eq!(answered, Err(Unheard::Unsealed), "{what} {field}");
    }
    assert!(a.all().await.is_empty());
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_full_mesh_each_change_goes_once_to_each() {
    for count in [3, 5] {
        each_change_goes_once_to_each(count).await;
    }
}

async fn each_change_goes_once_to_each(count: usize) {
    let mut islands = Vec::new();
    for _ in 0..count {
        islands.push(Island::new().await);
    }
    mesh(&mut islands).await;
    let (mut changes, each) = (0, 60);
    for round in 0..each {
        for (index, island) in islands.iter().enumerate() {
            // One that all edit at once, and one of each node's own.
            let json = format!(r#"{{"by":{index},"n":{round}}}"#);
            // It may be what the edits of two others have made together.
            changes += u64::from(!island.put("notes/shared", &json).await.unchanged);
            changes += 1;
            island.put(&format!("notes/{index}-{round}"), "{}").await;
        }
    }
    equal(&islands.iter().collect::<Vec<_>>(), count * each + 1).await;
    // What is counted is counted a moment after it can be read.
    time::sleep(Duration::from_millis(500)).await;
    let (mut taken, mut held) = (0, 0);
    for island in &islands {
        let figures = island.figures().await;
        taken += figures.peer_changes_taken;
        held += figures.peer_changes_held;
    }
    let told = islands.iter().flat_map(|island| island.node.peer_statuses());
    let told: Vec<_> = told.map(|status| (status.repaired, status.messages)).collect();
    let copies = (count as u64 - 1) * changes;
    assert_eq!((taken, held), (copies, 0), "one copy for each other node, and no more: {told:?}");
    for island in islands {
        island.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_ring_the_feed_brings_everything_to_all() {
    the_feed_brings_everything_to_all(&[(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_star_the_feed_brings_everything_to_all() {
    the_feed_brings_everything_to_all(&[(0, 1), (0, 2), (0, 3), (0, 4)]).await;
}

/// Five nodes: what they wrote apart they repair once they are linked, and from then on nothing more.
async fn the_feed_brings_everything_to_all(links: &[(usize, usize)]) {
    let mut islands = Vec::new();
    for index in 0..5 {
        let island = Island::new().await;
        island.put("notes/shared", &format!(r#"{{"by":{index}}}"#)).await;
        island.put(&format!("notes/{index}-apart"), "{}").await;
        islands.push(island);
    }
    link(&mut islands, links).await;
    equal(&islands.iter().collect::<Vec<_>>(), 6).await;
    let repaired = async |islands: &[Island]| {
        // Whatever runs comes to its end: rounds wait for the feed, and repair until all is told.
        time::sleep(Duration::from_secs(12)).await;
        let statuses = islands.iter().flat_map(|island| island.node.peer_statuses());
        statuses.map(|status| status.repaired).sum::<u64>()
    };
    let before = repaired(&islands).await;
    assert_ne!(before, 0, "what was written apart");
    for round in 0..40 {
        for (index, island) in islands.iter().enumerate() {
            island.put("notes/shared", &format!(r#"{{"by":{index},"n":{round}}}"#)).await;
            island.put(&format!("notes/{index}-{round}"), "{}").await;
        }
    }
    for (index, island) in islands.iter().enumerate() {
        island.write(&format!("notes/{index}-apart"), Edit::Delete).await;
    }
    equal(&islands.iter().collect::<Vec<_>>(), 6 + 5 * 40).await;
    let all = islands[0].all().await;
    assert!((0..5).all(|index| all[&name(&format!("notes/{index}-apart"))].2.is_none()));
    assert_eq!(repaired(&islands).await, before, "the feed left something to the sketch");
    for island in islands {
        island.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_on_copies_of_the_same_data_one_is_refused_until_it_is_another() {
    let (engine, secret) = (Arc::new(MemoryEngine::new()), b"a secret that is long");
    let listen = "127.0.0.1:0";
    let mut a = Island::on(Arc::clone(&engine) as Arc<dyn Engine>, listen, secret).await;
    let b = Island::new().await;
    a.put("notes/before", "{}").await;
    a.join(vec![b.peer()]);
    equal(&[&a, &b], 1).await;
    let copy = Arc::new(engine.restart());
    let mut twin = Island::on(Arc::clone(&copy) as Arc<dyn Engine>, listen, secret).await;
    assert_eq!(twin.node.id(), a.node.id());
    twin.join(vec![b.peer()]);
    let code = |island: &Island| island.node.peer_statuses().pop()?.error.map(|error| error.0);
    let until = time::Instant::now() + SOON;
    while [code(&a), code(&twin)].iter().all(|code| *code != Some("clone_detected")) {
        assert!(time::Instant::now() < until, "{:?} {:?}", code(&a), code(&twin));
        time::sleep(Duration::from_millis(20)).await;
    }
    // The one with the greater start, whichever that is.
    let (lets, refused, disk) = match a.node.incarnation() < twin.node.incarnation() {
        true => (a, twin, copy),
        false => (twin, a, engine),
    };
    refused.put("notes/refused", "{}").await;
    lets.put("notes/lets", "{}").await;
    equal(&[&lets, &b], 2).await;
    assert_eq!(code(&refused), Some("clone_detected"));
    refused.stop().await;
    // As another node it goes on, with all that it holds.
    let secret = Secret(secret.to_vec());
    let options = Options { secret, new_node: true, ..Options::default() };
    let mut other = Island::with(options, disk, listen).await;
    assert_ne!(other.node.id(), lets.node.id());
    other.join(vec![b.peer()]);
    equal(&[&lets, &b, &other], 3).await;
    for island in [lets, b, other] {
        island.stop().await;
    }
}
