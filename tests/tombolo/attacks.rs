//! Bytes that hurt: each is sent by somebody who knows how Automerge's parser works.

use crate::{
    process::{Client, Process},
    properties::all::forge::{self, Forged},
};
use automerge::{
    ActorId, AutoCommit, Automerge, Change, ObjType, ROOT, ReadDoc, ScalarValue,
    transaction::Transactable,
};
use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use tokio::time::Instant;
use tombolo::doc::RefusalKind;

/// What is sent to a document.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Why it is refused.
    pub(crate) refused: RefusalKind,
    /// Words of the refusal.
    pub(crate) because: &'static str,
}

/// The document that is attacked: the victim's, of two changes and a container.
pub(crate) fn victim() -> AutoCommit {
    let mut document = AutoCommit::new().with_actor(ActorId::from([7; 16]));
    document.put(ROOT, "title", "before").unwrap();
    let list = document.put_object(ROOT, "list", ObjType::List).unwrap();
    document.insert(&list, 0, "first").unwrap();
    document.commit();
    document.put(ROOT, "title", "after").unwrap();
    document.commit();
    document
}

/// A change that somebody else made after the victim's.
pub(crate) fn honest() -> Change {
    honest_of(8, |document| document.put(ROOT, "other", 1).unwrap())
}

fn honest_of(actor: u8, edit: impl FnOnce(&mut AutoCommit)) -> Change {
    let mut document = victim().fork().with_actor(ActorId::from([actor; 16]));
    edit(&mut document);
    document.commit();
    document.get_last_local_change().unwrap()
}

fn forged(edit: impl FnOnce(&mut Forged)) -> Vec<u8> {
    let mut forged = Forged::read(&honest());
    edit(&mut forged);
    forged.chunk()
}

/// A first change that puts one value into as many places of a list, or claims to.
fn many(count: i64) -> Vec<u8> {
    let nothing = |kind: u64| (kind, forge::nothings(count.unsigned_abs()));
    let mut change = Forged::first(9);
    change.columns = vec![
        nothing(0x01),
        nothing(0x02),
        (forge::KEY, forge::run(count, &forge::string("k"))),
        (0x34, forge::number(count.unsigned_abs())),
        (forge::ACTION, forge::run(count, &forge::number(1))),
        (forge::VALUE_LENGTHS, forge::run(count, &forge::number(0))),
        (0x70, forge::run(count, &forge::number(0))),
    ];
    change.chunk()
}

/// Objects in objects.
pub(crate) fn nested(levels: usize) -> Vec<u8> {
    let mut document = Automerge::new().with_actor(ActorId::from([9; 16]));
    let mut tx = document.transaction();
    let mut holder = ROOT;
    for _ in 0..levels {
        holder = tx.put_object(&holder, "a", ObjType::Map).unwrap();
    }
    tx.commit();
    document.get_changes(&[])[0].raw_bytes().to_vec()
}

/// A list of one value over and over, as a whole document of a few bytes.
fn repeated(length: usize) -> Vec<u8> {
    let mut document = AutoCommit::new().with_actor(ActorId::from([9; 16]));
    let list = document.put_object(ROOT, "l", ObjType::List).unwrap();
    document.splice(&list, 0, 0, vec![ScalarValue::Null; length]).unwrap();
    document.save()
}

/// What [`repeated`] makes, which takes half a minute for the longest.
fn kept_repeated(length: usize) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nothings");
    fs::read(folder.join(format!("{length}.automerge"))).unwrap()
}

#[test]
#[ignore = "takes a minute"]
fn what_is_kept_is_what_automerge_makes() {
    for length in [4_000_000, 20_000_000] {
        assert_eq!(kept_repeated(length), repeated(length), "{length}");
    }
}

/// A document one of whose columns inflates to so many bytes.
fn column_bomb(bytes: usize) -> Vec<u8> {
    let deflated = forge::deflate(&vec![0; bytes]);
    let mut body = Vec::new();
    for number in [1, 1, 9, 0, 0, 1, 0x57 | 8] {
        forge::uleb(&mut body, number);
    }
    forge::uleb(&mut body, deflated.len() as u64);
    body.extend(deflated);
    forge::chunk(0, &body)
}

/// Every attack that is refused by what its bytes say.
pub(crate) fn all() -> Vec<Attack> {
    use RefusalKind::{BadChanges, Broken, Heavy, TooDeep, TooLarge};
    let victim_change = victim().get_changes(&[])[1].clone();
    let mut attacks = Vec::new();
    let mut attack = |name, bytes, refused, because| {
        attacks.push(Attack { name, bytes, refused, because });
    };
    attack("a million operations", many(1_000_000), TooLarge, "operations");
    attack("10^12 operations", many(1_000_000_000_000), TooLarge, "operations");
    attack("2^63 operations", many(i64::MAX), TooLarge, "operations");
    let bomb = forge::deflated(&vec![0; 64 << 20]);
    attack("a deflated change of 64 MiB", bomb, TooLarge, "inflate");
    let bomb = forge::deflated(&vec![0; 20 << 20]);
    attack("a change that inflates a thousandfold", bomb, TooLarge, "inflate");
    attack("a deflated column of 64 MiB", column_bomb(64 << 20), TooLarge, "inflate");
    attack("a document of four million nothings", kept_repeated(4_000_000), Heavy, "operations");
    attack("a document of 20 million nothings", kept_repeated(20_000_000), TooLarge, "operations");
    attack("a bundle", forge::chunk(3, &[0; 40]), BadChanges, "bundle");
    attack("a chunk of an unknown kind", forge::chunk(9, &[]), BadChanges, "unknown kind");
    attack("a thousand objects in each other", nested(1_000), TooDeep, "nested");
    attack("a hundred objects in the root", nested(100), TooDeep, "nested");
    let last = forged(|change| change.start_op = u64::from(u32::MAX));
    attack("operations to the end of numbers", last, BadChanges, "past the end");
    let past = forged(|change| change.start_op = u64::MAX);
    attack("operations past the end of numbers", past, BadChanges, "");
    let same = forged(|change| change.start_op = 2);
    attack("operations numbered as the victim's", same, BadChanges, "numbered as");
    let overlap = {
        let mut change = Forged::read(&victim_change);
        change.start_op = 3;
        change.seq = 3;
        change.deps = vec![victim_change.hash().0];
        change.chunk()
    };
    attack("an actor's operations numbered twice", overlap, BadChanges, "numbered as");
    let gap = forged(|change| change.seq = 2);
    attack("a gap in the numbers of changes", gap, BadChanges, "before it");
    let far = forged(|change| change.seq = u64::MAX);
    attack("the last number of a change", far, BadChanges, "before it");
    let zero = forged(|change| change.seq = 0);
    attack("a change numbered zero", zero, BadChanges, "before it");
    let stolen = forged(|change| (change.actor, change.seq) = (vec![7; 16], 2));
    attack("a stolen place", stolen, BadChanges, "in its place");
    let aside = {
        let mut change = Forged::read(&victim_change);
        (change.seq, change.start_op) = (3, 9);
        change.deps = vec![victim().get_changes(&[])[0].hash().0];
        change.chunk()
    };
    attack("a change beside its actor's last", aside, BadChanges, "does not rest on");
    let empty = forged(|change| {
        change.columns.clear();
        change.start_op += 5;
    });
    attack("a change without operations that skips numbers", empty, BadChanges, "no operations");
    let mut wrong = honest().raw_bytes().to_vec();
    wrong[5] ^= 1;
    attack("a wrong checksum", wrong, BadChanges, "checksum");
    let mut second = honest().raw_bytes().to_vec();
    second.extend_from_slice(&[0x85, 0x6f]);
    attack("half a chunk behind a whole one", second, BadChanges, "");
    let whole = victim().save();
    for (name, cut) in [
        ("a document without its last byte", whole.len() - 1),
        ("half a document", whole.len() / 2),
        ("the header of a document", 9),
        ("five bytes", 5),
    ] {
        attack(name, whole[..cut].to_vec(), BadChanges, "");
    }
    let body = &whole[whole.len() / 2..];
    attack("half a document with a checksum", forge::chunk(0, body), BadChanges, "");
    attack("text", b"{\"a\":1}".to_vec(), BadChanges, "no chunk");
    // Operations on what there is not.
    let object = {
        let mut change = Forged::read(&honest_of(8, |document| {
            let (_, list) = document.get(ROOT, "list").unwrap().unwrap();
            document.insert(&list, 1, "x").unwrap();
        }));
        change.columns[1].1 = forge::literals(&[forge::number(900)]);
        change.chunk()
    };
    attack("an operation on no object", object, Broken, "");
    let pred = {
        let mut change =
            Forged::read(&honest_of(8, |document| document.put(ROOT, "title", "x").unwrap()));
        let column = change.columns.iter_mut().find(|(kind, _)| *kind == 0x73).unwrap();
        column.1 = forge::literals(&[vec![0x3f]]);
        change.chunk()
    };
    attack("an operation after no operation", pred, BadChanges, "");
    attacks
}

/// Most bytes by which an attack may make a node grow.
const GROWTH_MAX: u64 = 64 << 20;
/// In this time others are served, whatever is sent.
const SERVED_WITHIN: Duration = Duration::from_secs(1);

/// What Automerge does with bytes, alone in a process that may use 4 GiB and three seconds.
fn bare(bytes: &[u8], folder: &Path) -> &'static str {
    let file = folder.join("attack");
    fs::write(&file, bytes).unwrap();
    let this = env::current_exe().unwrap();
    let run =
        "ulimit -v 4194304; ulimit -t 3; exec \"$0\" --exact attacks::bare_automerge --ignored";
    let status = Command::new("sh")
        .args(["-c", run, this.to_str().unwrap()])
        .env("TOMBOLO_ATTACK", &file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let told = fs::read_to_string(folder.join("outcome")).unwrap_or_default();
    let _ = fs::remove_file(folder.join("outcome"));
    match (status.code(), &*told) {
        (Some(0), "refused") => "refuses",
        (Some(0), "taken") => "takes it",
        (Some(0), "unsound") => "takes it, and cannot load what it saves",
        (Some(0), _) => "is not asked",
        (Some(_), _) => "panics",
        (None, _) => "ends the process",
    }
}

/// Run by [`bare`] in a process of its own.
#[test]
#[ignore = "takes the bytes of an attack"]
#[expect(clippy::disallowed_methods, reason = "it is told which by the test that runs it")]
fn bare_automerge() {
    let Ok(file) = env::var("TOMBOLO_ATTACK") else { return };
    let bytes = fs::read(&file).unwrap();
    let mut document = Automerge::load(&victim().save()).unwrap();
    let changes = match Change::from_bytes(bytes.clone()) {
        Ok(change) => document.apply_changes([change]).is_ok(),
        Err(_) => match Automerge::load(&bytes) {
            Ok(mut other) => document.merge(&mut other).is_ok(),
            Err(_) => false,
        },
    };
    let outcome = if changes {
        // What a server does next.
        let value = serde_json::to_vec(&automerge::AutoSerde::from(&document)).unwrap();
        let mut tx = document.transaction();
        tx.put(ROOT, "next", 1).unwrap();
        tx.commit();
        let sound = Automerge::load(&document.save()).is_ok() && !value.is_empty();
        if sound { "taken" } else { "unsound" }
    } else {
        "refused"
    };
    fs::write(Path::new(&file).with_file_name("outcome"), outcome).unwrap();
}

fn post(client: &mut Client, key: &str, bytes: &[u8]) -> (u16, serde_json::Value) {
    let fields = [("content-type", "application/vnd.automerge")];
    let answer = client.send("POST", &format!("/v1/notes/{key}/_changes"), &fields, bytes).unwrap();
    (answer.status, answer.json())
}

#[test]
fn a_node_refuses_every_attack_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let mut client = process.client();
    assert_eq!(post(&mut client, "victim", &victim().save()).0, 201);
    let other = br#"{"served":true}"#;
    client.send("PUT", "/v1/notes/other", &[], other).unwrap();
    let read = |client: &mut Client, key: &str| {
        let answer = client.send("GET", &format!("/v1/notes/{key}"), &[], b"").unwrap();
        (answer.status, answer.body)
    };
    let before = read(&mut client, "victim");
    let mut outcomes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut held = process.resident_bytes();
    let mut broken = Vec::new();
    for attack in all() {
        outcomes.entry(bare(&attack.bytes, folder.path())).or_default().push(attack.name);
        // That may take longer than a connection may be idle.
        client = process.client();
        let sender = std::thread::scope(|scope| {
            let mut attacker = process.client();
            let bytes = &attack.bytes;
            // A busy machine may need longer than a request may take.
            let sent = scope.spawn(move || {
                let mut answers = (0..3).map(|_| post(&mut attacker, "victim", bytes));
                let told = answers.find(|(_, problem)| problem["code"] != "write_stalled");
                told.expect("an answer at the third time")
            });
            // Others are served meanwhile.
            while !sent.is_finished() {
                let began = Instant::now();
                assert_eq!(read(&mut client, "other").1, other);
                assert!(began.elapsed() < SERVED_WITHIN, "{}: {:?}", attack.name, began.elapsed());
            }
            sent.join().unwrap()
        });
        let (status, problem) = sender;
        assert!(matches!(status, 400 | 413 | 422), "{}: {status} {problem}", attack.name);
        match attack.refused {
            RefusalKind::Broken => {
                assert_eq!(problem["code"], "quarantined_changes", "{}", attack.name);
                broken.push(attack.bytes.clone());
            }
            // The process that opened it has told what it is.
            RefusalKind::Heavy => assert_eq!(problem["code"], "too_large", "{}", attack.name),
            _ => {}
        }
        assert_eq!(read(&mut client, "victim"), before, "{}", attack.name);
        let now = process.resident_bytes();
        assert!(now < held + GROWTH_MAX, "{}: from {held} to {now} bytes", attack.name);
        held = held.max(now);
    }
    eprintln!("what Automerge alone does: {outcomes:#?}");
    for outcome in ["ends the process", "panics"] {
        assert!(outcomes.contains_key(outcome), "an attack is one: {outcomes:?}");
    }
    // What broke Automerge behind the gate is there to be looked at, and nothing else is.
    let list = client.send("GET", "/v1/_quarantine", &[], b"").unwrap().body;
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for held in list["quarantined"].as_array().unwrap() {
        assert_eq!((&held["kind"], &held["key"]), (&"changes".into(), &"victim".into()));
        let path = format!("/v1/_quarantine/{}", held["id"].as_str().unwrap());
        seen.push(client.send("GET", &path, &[], b"").unwrap().body);
    }
    broken.sort();
    seen.sort();
    assert_eq!(seen, broken);
    // The document takes what is good, as before.
    assert_eq!(post(&mut client, "victim", honest().raw_bytes()).0, 200);
    assert!(read(&mut client, "victim").1.ends_with(br#""other":1,"title":"after"}"#));
    process.stop();
}

#[test]
fn orphans_wait_up_to_a_bound_and_go_on_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let process = Process::start(&data);
    let mut client = process.client();
    // Nothing waits where there is no document.
    let orphan = |actor: u8, rests_on: [u8; 32]| {
        let mut change = Forged::first(actor);
        change.deps = vec![rests_on];
        change.start_op = 9;
        change.chunk()
    };
    let (status, problem) = post(&mut client, "none", &orphan(1, [9; 32]));
    assert_eq!((status, &problem["code"]), (422, &"bad_changes".into()));
    assert!(problem["detail"].as_str().unwrap().contains(&"09".repeat(32)), "{problem}");

    let mut document = victim();
    assert_eq!(post(&mut client, "victim", &document.save()).0, 201);
    document.put(ROOT, "a", 1).unwrap();
    document.commit();
    let first = document.get_last_local_change().unwrap();
    document.put(ROOT, "b", 2).unwrap();
    document.commit();
    let second = document.get_last_local_change().unwrap();
    let (status, taken) = post(&mut client, "victim", second.raw_bytes());
    assert_eq!((status, &taken["taken"]), (200, &0.into()), "{taken}");
    assert_eq!(taken["waiting"][0]["missing"][0], first.hash().to_string());
    let mut refused = 0;
    for n in 0..=255_u8 {
        let mut hash = [n; 32];
        hash[0] = 1;
        refused += usize::from(post(&mut client, "victim", &orphan(n, hash)).0 == 422);
    }
    assert_eq!(refused, 1, "256 wait, and no more");
    process.kill();

    let process = Process::start(&data);
    let mut client = process.client();
    let (status, taken) = post(&mut client, "victim", first.raw_bytes());
    assert_eq!((status, &taken["taken"]), (200, &2.into()), "{taken}");
    let answer = client.send("GET", "/v1/notes/victim", &[], b"").unwrap();
    assert!(answer.body.starts_with(br#"{"a":1,"b":2,"#));
    process.stop();
}

/// A text of so many letters, as Automerge saves it.
fn letters(count: usize) -> Vec<u8> {
    let mut document = AutoCommit::new();
    let text = document.put_object(ROOT, "text", ObjType::Text).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for part in 0..count / 100_000 {
        let some: String = (0..100_000).map(|_| random.lowercase()).collect();
        document.splice_text(&text, part * 100_000, 0, &some).unwrap();
        document.commit();
    }
    document.save()
}

#[test]
fn a_document_of_more_operations_than_are_opened_unseen_is_opened_elsewhere_first() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"));
    let mut client = process.client();
    let before = process.resident_bytes();
    let (status, taken) = post(&mut client, "text", &letters(1_500_000));
    assert_eq!((status, &taken["taken"]), (201, &15.into()), "{taken}");
    let answer = client.send("GET", "/v1/notes/text", &[], b"").unwrap();
    assert_eq!(answer.body.len(), r#"{"text":""}"#.len() + 1_500_000);
    eprintln!("grew by {} MiB", (process.resident_bytes() - before) >> 20);
    // What is too wide is found there, and never opened here.
    let before = process.resident_bytes();
    let (status, problem) = post(&mut client, "wide", &repeated(1_000_001));
    assert_eq!((status, &problem["code"]), (413, &"too_large".into()), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("1000000 elements"), "{problem}");
    assert!(process.resident_bytes() < before + (8 << 20));
    assert_eq!(client.send("GET", "/v1/notes/wide", &[], b"").unwrap().status, 404);
    process.stop();
}
