//! The gate: what is sent is taken whole, or refused and the document is as before.

use crate::{
    attacks::{self, honest, victim},
    properties::all::forge::{self, Forged},
};
use automerge::{ActorId, AutoCommit, Automerge, Change, ObjType, ROOT, transaction::Transactable};
use tombolo::doc::{Actor, Document, Form, Limits, RefusalKind, Room, Sender};

const ROOM: Room = Room { changes: 256, bytes: 4 << 20 };
const SENDERS: [Sender; 2] = [Sender::Member, Sender::Stranger];

fn admit(document: &mut Document, bytes: &[u8], sender: Sender) -> tombolo::doc::Admitted {
    document.admit(bytes, sender, ROOM, &Limits::default()).unwrap()
}

/// The victim's document, at a node.
fn attacked() -> Document {
    let mut document = Document::new(Actor([1; 16]));
    admit(&mut document, &victim().save(), Sender::Stranger);
    document
}

fn json(document: &Document) -> String {
    let json = document.render(Form::Plain, None).unwrap().json.unwrap_or_default();
    String::from_utf8(json).unwrap()
}

#[test]
fn every_attack_is_refused_and_leaves_the_document_as_it_was() {
    for attack in attacks::all() {
        for sender in SENDERS {
            // What members have accepted inflates and nests as it does.
            if sender == Sender::Member
                && matches!(
                    attack.name,
                    "a change that inflates a thousandfold" | "a hundred objects in the root"
                )
            {
                continue;
            }
            for (mut document, kind) in
                [(attacked(), "old"), (Document::new(Actor([1; 16])), "new")]
            {
                let (before, version) = (json(&document), document.version());
                let name = attack.name;
                let refusal = match document.admit(&attack.bytes, sender, ROOM, &Limits::default())
                {
                    Err(refusal) => refusal,
                    // Where nothing is, what it rests on is missing.
                    Ok(admitted) if kind == "new" && !admitted.waiting.is_empty() => continue,
                    Ok(admitted) => panic!("{name} is taken by {kind}: {admitted:?}"),
                };
                // Without a ratio it is only large, and to be opened elsewhere first.
                let column = sender == Sender::Member && name == "a deflated column of 64 MiB";
                let refused = if column { RefusalKind::Heavy } else { attack.refused };
                assert_eq!(refusal.kind, refused, "{name}, {kind}: {refusal}");
                assert!(
                    kind == "new" || refusal.detail.contains(attack.because),
                    "{name}: {refusal}"
                );
                assert_eq!((json(&document), document.version()), (before, version), "{name}");
                let taken = admit(&mut document, &victim().save(), sender);
                let here = if kind == "old" { 2 } else { 0 };
                assert_eq!(taken.held, here, "{name}: it still takes what is good");
                admit(&mut document, honest().raw_bytes(), sender);
                assert!(json(&document).contains(r#""other":1"#), "{name}");
            }
        }
    }
}

#[test]
fn changes_come_in_any_order_and_more_than_once() {
    let mut source = victim();
    for n in 0..20 {
        source.put(ROOT, "n", n).unwrap();
        source.commit();
    }
    let changes = source.get_changes(&[]);
    let parts: Vec<&[u8]> = changes.iter().map(Change::raw_bytes).collect();
    let reversed: Vec<u8> = parts.iter().rev().flat_map(|part| part.iter()).copied().collect();
    for sender in SENDERS {
        let mut document = Document::new(Actor([1; 16]));
        let admitted = admit(&mut document, &reversed, sender);
        assert_eq!(admitted.delta.changes.len(), 22);
        assert_eq!((admitted.held, admitted.waiting.len(), admitted.cloned), (0, 0, 0));
        assert!(admitted.delta.created);
        assert_eq!(json(&document), r#"{"list":["first"],"n":19,"title":"after"}"#);
        let again = admit(&mut document, &reversed, sender);
        assert_eq!((again.held, again.delta.changes.len()), (22, 0));
        let whole = admit(&mut document, &source.save(), sender);
        assert_eq!((whole.held, whole.delta.changes.len()), (22, 0));
        // Whole documents, deflated changes and changes give the same bytes.
        let deflated: Vec<u8> = changes
            .iter()
            .flat_map(|change| forge::deflated(&Forged::read(change).body()))
            .collect();
        for bytes in [source.save(), source.save_nocompress(), deflated] {
            let mut other = Document::new(Actor([1; 16]));
            let admitted = admit(&mut other, &bytes, sender);
            assert_eq!(admitted.delta.changes, parts);
            assert_eq!((other.version(), other.save()), (document.version(), document.save()));
        }
    }
}

#[test]
fn a_change_whose_dependencies_are_missing_waits_outside_the_document() {
    let changes = victim().get_changes(&[]);
    let mut document = Document::new(Actor([1; 16]));
    let admitted = admit(&mut document, changes[1].raw_bytes(), Sender::Stranger);
    assert!(admitted.delta.changes.is_empty() && document.is_absent());
    assert_eq!(admitted.waiting.len(), 1);
    let waiting = &admitted.waiting[0];
    assert_eq!(waiting.bytes, changes[1].raw_bytes());
    assert_eq!(waiting.hash.to_bytes(), changes[1].hash().0);
    assert_eq!(waiting.missing[0].to_bytes(), changes[0].hash().0);
    let both = [changes[0].raw_bytes(), &waiting.bytes].concat();
    assert_eq!(admit(&mut document, &both, Sender::Stranger).delta.changes.len(), 2);
}

#[test]
fn a_change_by_the_documents_own_actor_tells_of_a_copy() {
    let mut document = Document::new(Actor([7; 16]));
    assert_eq!(admit(&mut document, &victim().save(), Sender::Member).cloned, 2);
    let mut other = attacked();
    assert_eq!(admit(&mut other, honest().raw_bytes(), Sender::Member).cloned, 0);
}

#[test]
fn limits_hold_to_the_last_operation_byte_and_level() {
    let limits = |change_operations_max, inflated_bytes_max, depth_max| Limits {
        change_operations_max,
        inflated_bytes_max,
        depth_max,
        ..Limits::default()
    };
    let mut ten = AutoCommit::new();
    for n in 0..10 {
        ten.put(ROOT, format!("k{n}"), n).unwrap();
    }
    ten.commit();
    let change = ten.get_changes(&[])[0].clone();
    let body = Forged::read(&change).body();
    let deflated = forge::deflated(&body);
    let nested = attacks::nested(5);
    let whole = ten.save();
    let seen = |expanded| Limits { inflated_bytes_max: expanded, ..Limits::default() };
    let unseen = |expanded| Limits { decoded_bytes_max: expanded, ..seen(1) }.decoded();
    // Ten keys of two bytes each, and ten values of one.
    for (limits, refused) in [
        (seen(30), None),
        (seen(29), Some(RefusalKind::Heavy)),
        (unseen(30), None),
        (unseen(29), Some(RefusalKind::TooLarge)),
    ] {
        let mut document = Document::new(Actor([1; 16]));
        let outcome = document.admit(&whole, Sender::Stranger, ROOM, &limits);
        assert_eq!(outcome.err().map(|refusal| refusal.kind), refused, "{limits:?}");
    }
    for (bytes, limits, taken) in [
        (change.raw_bytes(), limits(9, 1 << 20, 100), false),
        (change.raw_bytes(), limits(10, 1 << 20, 100), true),
        (&deflated, limits(10, body.len() as u64 - 1, 100), false),
        (&deflated, limits(10, body.len() as u64, 100), true),
        (&nested, limits(10, 1 << 20, 5), false),
        (&nested, limits(10, 1 << 20, 6), true),
    ] {
        let mut document = Document::new(Actor([1; 16]));
        let outcome = document.admit(bytes, Sender::Stranger, ROOM, &limits);
        assert_eq!(outcome.is_ok(), taken, "{limits:?} {outcome:?}");
    }
}

#[test]
fn a_whole_document_and_more_changes_behind_it_than_are_applied_at_once_are_taken() {
    let mut author = AutoCommit::new();
    let text = author.put_object(ROOT, "text", ObjType::Text).unwrap();
    author.splice_text(&text, 0, 0, "low tide").unwrap();
    author.commit();
    let mut bytes = author.save();
    let before = author.get_heads();
    for _ in 0..3 {
        author.splice_text(&text, 0, 0, &"a".repeat(200_000)).unwrap();
        author.commit();
    }
    for change in author.get_changes(&before) {
        bytes.extend(change.raw_bytes());
    }
    for sender in SENDERS {
        let mut document = Document::new(Actor([1; 16]));
        let admitted = admit(&mut document, &bytes, sender);
        assert_eq!(
            (admitted.held, admitted.waiting.len(), admitted.delta.changes.len()),
            (0, 0, 4)
        );
        assert_eq!(json(&document).len(), r#"{"text":"low tide"}"#.len() + 600_000);
    }
}

#[test]
fn what_a_document_may_hold_may_compress_as_well_as_it_does() {
    let mut author = AutoCommit::new();
    author.put(ROOT, "s", "x".repeat(3_000)).unwrap();
    author.commit();
    let body = Forged::read(&author.get_changes(&[])[0]).body();
    let deflated = forge::deflated(&body);
    for (document_bytes_max, taken) in [(body.len() - 1, false), (body.len(), true)] {
        let limits = Limits { document_bytes_max, inflation_ratio_max: 1, ..Limits::default() };
        let mut document = Document::new(Actor([1; 16]));
        let outcome = document.admit(&deflated, Sender::Stranger, ROOM, &limits);
        assert_eq!(outcome.is_ok(), taken, "{outcome:?}");
    }
    let mut document = Document::new(Actor([1; 16]));
    let mut author = AutoCommit::new();
    author.put(ROOT, "s", "x".repeat(15 << 20)).unwrap();
    admit(&mut document, &author.save(), Sender::Stranger);
}

#[test]
fn lists_and_objects_may_be_as_wide_as_an_edit_may_make_them() {
    let limits = Limits { list_length_max: 5, object_keys_max: 4, ..Limits::default() };
    let mut other = AutoCommit::new();
    let list = other.put_object(ROOT, "list", ObjType::List).unwrap();
    let object = other.put_object(ROOT, "object", ObjType::Map).unwrap();
    let mut document = Document::new(Actor([1; 16]));
    let mut outcomes = [Vec::new(), Vec::new()];
    document.admit(&other.save(), Sender::Stranger, ROOM, &limits).unwrap();
    for n in 1..7 {
        for (outcomes, is_list) in outcomes.iter_mut().zip([true, false]) {
            if is_list {
                other.insert(&list, 0, n).unwrap();
            } else {
                other.put(&object, format!("k{n}"), n).unwrap();
            }
            other.commit();
            let change = other.get_changes(&[]).pop().unwrap();
            let outcome = document.admit(change.raw_bytes(), Sender::Stranger, ROOM, &limits);
            outcomes.push(outcome.is_ok());
            if outcome.is_err() {
                // Taken back, so that the next one rests on what is there.
                other = AutoCommit::load(&document.save()).unwrap();
            }
        }
    }
    let [lists, objects] = outcomes;
    assert_eq!(lists, [true, true, true, true, true, false]);
    assert_eq!(objects, [true, true, true, true, false, false]);
    // What members have accepted is not refused for it.
    other.insert(&list, 0, 9).unwrap();
    other.commit();
    let change = other.get_changes(&[]).pop().unwrap();
    document.admit(change.raw_bytes(), Sender::Member, ROOM, &limits).unwrap();
}

#[test]
fn a_document_at_the_end_of_its_numbers_refuses_edits_and_stays_readable() {
    let mut change = Forged::read(&honest());
    change.start_op = (1 << 31) - 1;
    let mut document = attacked();
    admit(&mut document, &change.chunk(), Sender::Stranger);
    assert!(json(&document).contains(r#""other":1"#));
    let edit = tombolo::doc::Edit::Delete;
    let refusal = document
        .edit(&edit, None, &tombolo::doc::Stamp::default(), &Limits::default())
        .unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::TooLarge);
    change.start_op += 1;
    assert!(attacked().admit(&change.chunk(), Sender::Member, ROOM, &Limits::default()).is_err());
}

#[test]
fn what_is_taken_saves_and_loads_in_automerge() {
    let mut document = attacked();
    admit(&mut document, honest().raw_bytes(), Sender::Stranger);
    let mut other = AutoCommit::load(&document.save()).unwrap();
    assert_eq!(other.get_heads().len(), 1);
    other.set_actor(ActorId::from([9; 16]));
    other.put(ROOT, "back", true).unwrap();
    let change = other.get_last_local_change().unwrap().raw_bytes().to_vec();
    admit(&mut document, &change, Sender::Stranger);
    assert!(Automerge::load(&document.save()).is_ok());
}

/// Made by `tests/data/automerge/make.cjs` with three generations of the npm package.
#[test]
fn documents_of_other_programs_are_read_and_given_back() {
    const REST: &str = concat!(
        r#""date":{"$timestamp":"2023-11-14T22:13:20.123Z"},"emoji":EMOJI,"likes":{"$counter":66},"#,
        r#""list":[1,{"three":3},[4],0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,"#,
        r#"24,25,26,27,28,29],"map":{"deep":{"deeper":{"x":1}},"other":OTHER},"#,
    );
    let text = |text: &str| format!(r#"{{"$text":{text}}}"#);
    let typed = |version: &str| {
        let texts = version == "3.2.0";
        let string =
            |value: &str| if texts { text(&format!("{value:?}")) } else { format!("{value:?}") };
        let rest = REST.replace("EMOJI", &string("😀é")).replace("OTHER", &string("b"));
        let body = if texts { r#""body":{"$text":"hello, wide world"},"# } else { "" };
        let raw = if texts { r#","raw":"scalar""# } else { "" };
        let bytes = match version {
            // It knew no bytes.
            "1.0.1-preview.7" => r#"{"0":1,"1":2,"2":254}"#,
            _ => r#"{"$bytes":"AQL+"}"#,
        };
        let title = string("Ebb");
        let head = format!(r#"{{"big":9007199254740991,{body}"bytes":{bytes},"count":29,"#);
        format!(r#"{head}{rest}"ratio":0.5{raw},"title":{title},"yes":true}}"#)
    };
    for (version, typed) in
        ["1.0.1-preview.7", "2.2.9", "3.2.0"].map(|version| (version, typed(version)))
    {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/automerge");
        let bytes = std::fs::read(folder.join(format!("npm-{version}.automerge"))).unwrap();
        let mut document = Document::new(Actor([1; 16]));
        admit(&mut document, &bytes, Sender::Stranger);
        let json = document.render(Form::Typed, None).unwrap().json.unwrap();
        assert_eq!(String::from_utf8(json).unwrap(), typed, "{version}");
        let mut theirs = AutoCommit::load(&bytes).unwrap();
        let mut again = AutoCommit::load(&document.save()).unwrap();
        assert_eq!(again.get_heads(), theirs.get_heads(), "{version}");
        assert_eq!(again.get_changes(&[]), theirs.get_changes(&[]), "{version}");
    }
}
