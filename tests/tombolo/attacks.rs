//! Bytes that hurt: each is sent by somebody who knows how Automerge's parser works.

use crate::properties::all::forge::{self, Forged};
use automerge::{
    ActorId, AutoCommit, Automerge, Change, ObjType, ROOT, ReadDoc, ScalarValue,
    transaction::Transactable,
};
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
    use RefusalKind::{BadChanges, TooDeep, TooLarge};
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
    let bomb = forge::deflated(&vec![0; 8 << 20]);
    attack("a change that inflates a thousandfold", bomb, TooLarge, "inflate");
    attack("a deflated column of 64 MiB", column_bomb(64 << 20), TooLarge, "inflate");
    attack("a document of four million nothings", repeated(4_000_000), TooLarge, "operations");
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
    attack("an operation on no object", object, BadChanges, "");
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
