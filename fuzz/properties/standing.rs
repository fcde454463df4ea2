//! What stands, under changes that this program would not make: deletes of what is deleted, edits
//! inside of what is gone, increments at conflicted places, and made-up `tombolo:gone` messages.

use arbitrary::{Result, Unstructured};
use automerge::{
    ActorId, Automerge, Change, ChangeHash, ObjId, ObjType, PatchLog, Prop, ROOT, ReadDoc,
    ScalarValue,
    transaction::{CommitOptions, Transactable},
};
use tombolo::doc::{Actor, Document, Edit, Form, Limits, Stamp, Value};

const REPLICAS: usize = 3;
const STEPS_MAX: usize = 24;
const KEYS: [&str; 3] = ["a", "b", "c"];

/// The property.
pub fn property(data: &[u8]) {
    let mut strangers = Strangers::new();
    let mut u = Unstructured::new(data);
    // Running out of bytes ends the run.
    let _ = strangers.play(&mut u);
    let all = strangers.changes();
    let mut one_by_one = Document::new(Actor([21; 16]));
    for change in &all {
        one_by_one.merge([change.raw_bytes()]).unwrap();
        check_whole(&one_by_one);
    }
    let mut at_once = Document::new(Actor([22; 16]));
    at_once.merge(all.iter().map(Change::raw_bytes)).unwrap();
    let mut in_two = Document::new(Actor([23; 16]));
    let (first, second) = all.split_at(all.len() / 2);
    in_two.merge(first.iter().map(Change::raw_bytes)).unwrap();
    in_two.merge(second.iter().map(Change::raw_bytes)).unwrap();
    for other in [&at_once, &in_two] {
        assert_eq!(one_by_one.standing(), other.standing());
        assert_eq!(one_by_one.render(Form::Typed, None), other.render(Form::Typed, None));
        assert_eq!(one_by_one.conflicts(), other.conflicts());
    }
    check_write(one_by_one);
}

/// Found step by step, what stands is what a scan of the whole history finds.
fn check_whole(document: &Document) {
    let version = document.version();
    if version.is_empty() {
        return;
    }
    let whole = Document::load([&document.save()[..]], b"?", &version, Actor([24; 16])).unwrap();
    assert_eq!(text(&whole.standing()), text(&document.standing()));
    assert_eq!(whole.render(Form::Typed, None), document.render(Form::Typed, None));
}

/// A put over whatever came shows exactly what was put, and settles the rest.
fn check_write(mut document: Document) {
    let mut new = document.value().unwrap_or(Value::Map([].into()));
    let write = |document: &mut Document, new: &Value| {
        let edit = Edit::Put(new.clone());
        document.edit(&edit, None, &Stamp::default(), &Limits::default()).unwrap();
        let shown = document.value().expect("a put brings to life");
        assert!(shown.same_content(new), "{new:?} shows as {shown:?}");
        check_whole(document);
    };
    if let Value::Map(map) = &mut new {
        map.insert("new".to_owned(), Value::Int(1));
        write(&mut document, &new);
    }
    if let Value::Map(map) = &mut new {
        map.retain(|key, _| key == "new" || key == "b");
        write(&mut document, &new);
    }
    write(&mut document, &Value::Map([].into()));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Replicas that use Automerge as they please.
struct Strangers {
    replicas: Vec<Automerge>,
    /// Every object and counter that was ever made, with the list or map that holds it.
    made: Vec<ObjId>,
}

impl Strangers {
    fn new() -> Self {
        let replica = |index: usize| {
            let actor = ActorId::from([u8::try_from(index + 1).unwrap(); 16]);
            Automerge::new().with_actor(actor)
        };
        Self { replicas: (0..REPLICAS).map(replica).collect(), made: vec![ROOT] }
    }

    fn changes(&self) -> Vec<Change> {
        let mut all = Automerge::new();
        for replica in &self.replicas {
            all.merge(&mut replica.clone()).unwrap();
        }
        all.get_changes(&[])
    }

    fn play(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        for _ in 0..STEPS_MAX {
            let at = u.int_in_range(0..=REPLICAS - 1)?;
            if u.ratio(2, 5)? {
                let from = (at + u.int_in_range(1..=REPLICAS - 1)?) % REPLICAS;
                let mut other = self.replicas[from].clone();
                self.replicas[at].merge(&mut other).unwrap();
            } else {
                self.change(u, at)?;
            }
            if u.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn change(&mut self, u: &mut Unstructured<'_>, at: usize) -> Result<()> {
        let message = if u.ratio(1, 4)? { Some(self.gone(u)?) } else { None };
        let heads = self.base(u, at)?;
        let known: Vec<ObjId> = self.known(at, &heads);
        let document = &mut self.replicas[at];
        let Ok(mut tx) = document.transaction_at(PatchLog::inactive(), &heads) else {
            return Ok(());
        };
        for _ in 0..u.int_in_range(1..=3)? {
            let object = u.choose(&known)?.clone();
            let kind = tx.object_type(&object);
            let place = match kind {
                Ok(ObjType::Map | ObjType::Table) => Prop::Map((*u.choose(&KEYS)?).to_owned()),
                Ok(_) => Prop::Seq(u.int_in_range(0..=tx.length(&object))?),
                Err(_) => continue,
            };
            let made = operate(u, &mut tx, &object, place)?;
            self.made.extend(made);
        }
        let mut options = CommitOptions::default().with_time(0);
        if let Some(message) = message {
            options.set_message(message);
        }
        // A change without operations would be one that the gate refuses.
        tx.commit_with(options);
        Ok(())
    }

    /// The present, or an older version.
    fn base(&self, u: &mut Unstructured<'_>, at: usize) -> Result<Vec<ChangeHash>> {
        let document = &self.replicas[at];
        let metas = document.get_changes_meta(&[]);
        if metas.is_empty() || u.ratio(3, 4)? {
            return Ok(document.get_heads());
        }
        Ok(vec![u.choose(&metas)?.hash])
    }

    /// The objects that were made in the past of a version.
    fn known(&self, at: usize, heads: &[ChangeHash]) -> Vec<ObjId> {
        let document = &self.replicas[at];
        let later: Vec<ChangeHash> =
            document.get_changes_meta(heads).iter().map(|meta| meta.hash).collect();
        let here = |object: &&ObjId| match document.hash_for_opid(object) {
            Some(hash) => !later.contains(&hash),
            None => **object == ROOT,
        };
        self.made.iter().filter(here).cloned().collect()
    }

    /// A message that claims to settle things, truly or not.
    fn gone(&self, u: &mut Unstructured<'_>) -> Result<String> {
        let mut message = "tombolo:gone".to_owned();
        for _ in 0..u.int_in_range(0..=3)? {
            let name = match u.choose(&self.made)? {
                ObjId::Id(counter, actor, _) => {
                    let off = u64::from(u.ratio(1, 4)?);
                    format!("{}@{}", counter + off, actor.to_hex_string())
                }
                ObjId::Root => "_root".to_owned(),
            };
            message.push(' ');
            message.push_str(&name);
        }
        if u.ratio(1, 8)? {
            message.push_str(" 1@zz @ 99999999999999999999@01");
        }
        Ok(message)
    }
}

fn operate<T: Transactable>(
    u: &mut Unstructured<'_>,
    tx: &mut T,
    object: &ObjId,
    place: Prop,
) -> Result<Option<ObjId>> {
    let number = i64::from(u.int_in_range(0..=99u8)?);
    let kind = *u.choose(&[ObjType::Map, ObjType::List, ObjType::Text])?;
    let is_text = tx.object_type(object).is_ok_and(|kind| kind == ObjType::Text);
    Ok(match (u.int_in_range(0..=7u8)?, place) {
        (_, Prop::Seq(index)) if is_text => {
            let letters = if number % 3 == 0 { "" } else { "xy" };
            let remove = isize::from(index < tx.length(object));
            let _ = tx.splice_text(object, index, remove, letters);
            None
        }
        (0, place) => {
            let _ = tx.delete(object, place);
            None
        }
        (1, place) => {
            let _ = tx.increment(object, place, number);
            None
        }
        (2, Prop::Seq(index)) => tx.insert_object(object, index, kind).ok(),
        (3, Prop::Seq(index)) => {
            let _ = tx.insert(object, index, number);
            None
        }
        (2 | 4 | 5, place) => tx.put_object(object, place, kind).ok(),
        (3, place) => {
            let _ = tx.put(object, place, ScalarValue::counter(number));
            None
        }
        (_, place) => {
            let _ = tx.put(object, place, number);
            None
        }
    })
}
