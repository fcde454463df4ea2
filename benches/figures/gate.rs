//! What it costs that foreign changes pass the gate.

use super::{
    directory::{ACTOR, parse},
    order::Orders,
    rounds::{Side, alternate, pair},
    row::{Bar, Row},
};
use automerge::{ActorId, AutoCommit, ObjType, ROOT, transaction::Transactable};
use std::time::Instant;
use tombolo::doc::{Document, Edit, Limits, Room, Sender, Stamp};

const ROUNDS: usize = 9;
/// Changes that come one by one in a round.
const CHANGES: usize = 200;
/// Changes of one letter each that made the text.
const LETTERS: usize = 60_000;
const ROOM: Room = Room { changes: 256, bytes: 4 << 20 };

/// Changes that come one by one, through the gate and as from the disk.
pub(crate) fn gate() -> Vec<Row> {
    let (order, text) = (order(), text());
    let cases = [
        ("1 KB, from a member", &order, Sender::Member, 1.5),
        ("1 KB, from a stranger", &order, Sender::Stranger, 6.0),
        ("text of 60,000 changes, from a stranger", &text, Sender::Stranger, 2.0),
    ];
    cases
        .map(|(case, (saved, changes), sender, bar)| {
            let rounds = alternate(&format!("gate, {case}"), ROUNDS, |side| {
                let mut document = Document::recover([&saved[..]], ACTOR).unwrap();
                // What is looked up once for each load.
                document.admit(&changes[0], sender, ROOM, &Limits::default()).unwrap();
                let start = Instant::now();
                for change in &changes[1..] {
                    match side {
                        Side::Ours => {
                            document.admit(change, sender, ROOM, &Limits::default()).unwrap();
                        }
                        Side::Floor => {
                            document.merge([&change[..]]).unwrap();
                        }
                    }
                }
                1e6 * start.elapsed().as_secs_f64() / CHANGES as f64
            });
            let row = Row::pair(format!("gate, {case}"), "µs", pair(&rounds, |time| *time));
            row.bar(Bar::ratio_at_most(bar))
        })
        .into()
}

/// A saved document, and changes that others made to it.
type Case = (Vec<u8>, Vec<Vec<u8>>);

fn order() -> Case {
    let mut document = Document::new(ACTOR);
    let json = Orders::first(1).remove(0);
    document.edit(&Edit::Put(parse(&json)), None, &Stamp::default(), &Limits::default()).unwrap();
    let saved = document.save();
    let changes = changes(&saved, |document, n| document.put(ROOT, "counter", n).unwrap());
    (saved, changes)
}

fn text() -> Case {
    let mut document = AutoCommit::new();
    let text = document.put_object(ROOT, "text", ObjType::Text).unwrap();
    for n in 0..LETTERS {
        document.splice_text(&text, n, 0, "a").unwrap();
        document.commit();
    }
    let saved = document.save_nocompress();
    let changes = changes(&saved, |document, n| {
        let at = usize::try_from(n).unwrap() * 97 % LETTERS;
        document.splice_text(&text, at, 0, "b").unwrap();
    });
    (saved, changes)
}

fn changes(saved: &[u8], edit: impl Fn(&mut AutoCommit, i64)) -> Vec<Vec<u8>> {
    let mut other = AutoCommit::load(saved).unwrap().with_actor(ActorId::from([9; 16]));
    (0..=i64::try_from(CHANGES).unwrap())
        .map(|n| {
            edit(&mut other, n);
            other.commit();
            other.get_last_local_change().unwrap().raw_bytes().to_vec()
        })
        .collect()
}
