//! What a loaded document holds, measured by the allocator, beside what the node thinks it holds.
//!
//! A binary of its own, with one test at a time: whatever else ran here would be counted too.

#![expect(clippy::unwrap_used, reason = "a failing test says so")]

use cap::Cap;
use std::{alloc::System, sync::Mutex};
use tombolo::doc::{Actor, Document, Edit, Form, Limits, Patch, Room, Sender, Stamp, parse};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Held by the test that counts.
static ALONE: Mutex<()> = Mutex::new(());

const ACTOR: Actor = Actor([7; 16]);

/// A document in the making.
struct Making(Document);

impl Making {
    fn new() -> Self {
        Self(Document::new(ACTOR))
    }

    fn put(mut self, typed: &str) -> Self {
        let value = parse(typed.as_bytes(), Form::Typed, &Limits::default()).unwrap();
        self.edit(&Edit::Put(value));
        self
    }

    fn patch(&mut self, patch: &str) {
        let patch = Patch::parse(patch.as_bytes(), Form::Plain, &Limits::default()).unwrap();
        self.edit(&Edit::JsonPatch(patch));
    }

    fn edit(&mut self, edit: &Edit) {
        let delta = self.0.edit(edit, None, &Stamp::default(), &Limits::default()).unwrap();
        assert!(!delta.changes.is_empty());
    }

    /// The document, told its size as its shard does after a commit.
    fn done(mut self) -> Document {
        let json = self.0.render(Form::Plain, None).unwrap().json;
        self.0.set_json_bytes(json.unwrap().len());
        self.0
    }
}

/// An object of about 1 KB, as people make them.
fn small() -> String {
    let fields = (0..25).map(|field| format!(r#""field{field}":"a value of {field:016}""#));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn joined(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(",")
}

fn put_once() -> Document {
    Making::new().put(&small()).done()
}

fn put_often() -> Document {
    let mut making = Making::new().put(&small());
    for count in 1_000..1_999 {
        let field = count % 25;
        making.patch(&format!(
            r#"[{{"op":"replace","path":"/field{field}","value":"a value of {count:016}"}}]"#
        ));
    }
    making.done()
}

fn list_of_strings() -> Document {
    let items = joined(20_000, |item| format!(r#""the text of item {item:032}""#));
    Making::new().put(&format!(r#"{{"list":[{items}]}}"#)).done()
}

fn list_of_numbers() -> Document {
    let items = joined(150_000, |item| item.to_string());
    Making::new().put(&format!(r#"{{"list":[{items}]}}"#)).done()
}

fn list_of_objects() -> Document {
    let items = joined(15_000, |item| {
        format!(r#"{{"id":{item},"name":"item {item:08}","done":false,"tags":["a","b"]}}"#)
    });
    Making::new().put(&format!(r#"{{"list":[{items}]}}"#)).done()
}

fn many_keys() -> Document {
    let members = joined(10_000, |key| format!(r#""key{key}":"value {key}""#));
    Making::new().put(&format!("{{{members}}}")).done()
}

/// An object of 3 MB: 500 strings.
fn large(round: usize) -> String {
    let members = joined(500, |key| format!(r#""key{key:03}":"{}""#, part(key, round)));
    format!("{{{members}}}")
}

fn part(key: usize, round: usize) -> String {
    format!("{key:08}{round:08}").repeat(375)
}

/// A document as it comes from the disk.
fn loaded(made: &Document) -> Document {
    Document::load([&made.save()[..]], &made.standing(), &made.version(), ACTOR).unwrap()
}

fn put_anew() -> Document {
    Making(loaded(&Making::new().put(&large(0)).done())).put(&large(1)).done()
}

fn patched_one_by_one() -> Document {
    let mut making = Making(loaded(&Making::new().put(&large(0)).done()));
    for key in 0..300 {
        making.patch(&format!(
            r#"[{{"op":"replace","path":"/key{key:03}","value":"{}"}}]"#,
            part(key, 1)
        ));
    }
    making.done()
}

/// What another node makes of a document that is put anew there.
fn merged_anew() -> Document {
    let made = Making::new().put(&large(0)).done();
    let mut merged = loaded(&made);
    let (value, limits) =
        (parse(large(1).as_bytes(), Form::Typed, &Limits::default()), Limits::default());
    let mut made = loaded(&made);
    let delta = made.edit(&Edit::Put(value.unwrap()), None, &Stamp::default(), &limits).unwrap();
    merged.merge(delta.changes.iter().map(Vec::as_slice)).unwrap();
    merged
}

fn one_string() -> Document {
    Making::new().put(&format!(r#"{{"text":"{}"}}"#, "x".repeat(1 << 20))).done()
}

fn text_at_once() -> Document {
    Making::new().put(&format!(r#"{{"text":{{"$text":"{}"}}}}"#, "low tide. ".repeat(6_000))).done()
}

fn text_by_edits() -> Document {
    let mut making = Making::new().put(r#"{"text":{"$text":""}}"#);
    for edit in 0..2_000 {
        // Here and there, as people type.
        let at = (edit * 7_919) % (edit * 30 + 1);
        making.patch(&format!(
            r#"[{{"op":"splice","path":"/text","at":{at},"insert":"low tide at noon, and {edit:011} "}}]"#
        ));
    }
    making.done()
}

/// A small edit, after which what was put is not kept as it came any more.
fn edited_again(document: Document) -> Document {
    let mut making = Making(document);
    making.patch(r#"[{"op":"add","path":"/more","value":1}]"#);
    making.done()
}

/// A document, and the bytes that it holds, itself among them.
fn held(make: impl FnOnce() -> Document) -> (usize, Box<Document>) {
    let before = ALLOCATOR.allocated();
    let document = Box::new(make());
    (ALLOCATOR.allocated() - before, document)
}

fn empty_objects() -> Document {
    let items = joined(200_000, |_| "{}".to_owned());
    Making::new().put(&format!(r#"{{"list":[{items}]}}"#)).done()
}

fn equal_elements() -> Document {
    let items = joined(200_000, |_| "true".to_owned());
    Making::new().put(&format!(r#"{{"list":[{items}]}}"#)).done()
}

/// How a document is made.
type Make = fn() -> Document;

/// What is measured, and how far the estimate may be off, either way: 2, but for what is one
/// element over and over. Automerge holds that in next to nothing, unless it is a container.
const SHAPES: &[(&str, usize, Make)] = &[
    ("nothing", 2, || Document::new(ACTOR)),
    ("1 KB, 1 change", 2, put_once),
    ("1 KB, 1,000 changes", 2, put_often),
    ("1 MB, a list of strings", 2, list_of_strings),
    ("1 MB, a list of strings, edited", 2, || edited_again(list_of_strings())),
    ("1 MB, a list of numbers", 2, list_of_numbers),
    ("1 MB, a list of numbers, edited", 2, || edited_again(list_of_numbers())),
    ("1 MB, a list of objects", 2, list_of_objects),
    ("1 MB, a list of objects, edited", 2, || edited_again(list_of_objects())),
    ("1 MB, one string", 2, one_string),
    ("10,000 keys", 2, many_keys),
    ("3 MB, put anew", 2, put_anew),
    ("3 MB, put anew elsewhere", 2, merged_anew),
    ("3 MB, 300 patches", 2, patched_one_by_one),
    ("60,000 letters, put", 2, text_at_once),
    ("60,000 letters, 2,000 edits", 2, text_by_edits),
    ("200,000 empty objects", 15, empty_objects),
    ("200,000 times true", 26, equal_elements),
];

#[test]
fn the_memory_of_a_document_is_known_within_a_factor() {
    let _alone = ALONE.lock().unwrap();
    let mut wrong = Vec::new();
    for (shape, factor_max, make) in SHAPES {
        let mut compare = |how: &str, bytes: usize, document: &Document| {
            let estimate = document.memory_bytes();
            println!("{shape}, {how}: {bytes} bytes, thought to be {estimate}");
            if factor_max * estimate.min(bytes) < estimate.max(bytes) {
                wrong.push(format!("{shape}, {how}: {bytes} bytes, thought to be {estimate}"));
            }
        };
        let (bytes, made) = held(*make);
        compare("made", bytes, &made);
        let (saved, standing, version) = (made.save(), made.standing(), made.version());
        drop(made);
        let load = || Document::load([&saved[..]], &standing, &version, ACTOR).unwrap();
        let (bytes, loaded) = held(load);
        compare("loaded", bytes, &loaded);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A document of 4 MB of values, and how to put something into each of them, from front to back.
struct Large {
    made: Document,
    patch: String,
}

/// How many values it has.
const VALUES: usize = 2_000;

impl Large {
    fn of(typed: &str, operation: impl Fn(usize) -> String) -> Self {
        let patch = format!("[{}]", joined(VALUES, operation));
        Self { made: Making::new().put(typed).done(), patch }
    }

    fn all() -> Vec<Self> {
        let string = |at: usize| format!("{at:04}").repeat(500);
        let text = |at: usize| format!(r#"{{"$text":"{at:0100}"}}"#);
        let replace = |path: String| format!(r#"{{"op":"replace","path":"{path}","value":"x"}}"#);
        let splice = |path: String, at: usize| {
            format!(r#"{{"op":"splice","path":"{path}","at":{at},"insert":"x"}}"#)
        };
        let keys = |value: &dyn Fn(usize) -> String| {
            joined(VALUES, |at| format!(r#""k{at:04}":{}"#, value(at)))
        };
        let strings = |at: usize| format!(r#""{}""#, string(at));
        let objects = |at: usize| format!(r#"{{"a":{}}}"#, strings(at));
        let mut all = vec![
            Self::of(&format!("{{{}}}", keys(&strings)), |at| replace(format!("/k{at:04}"))),
            Self::of(&format!("{{{}}}", keys(&objects)), |at| replace(format!("/k{at:04}/a"))),
            Self::of(&format!(r#"{{"l":[{}]}}"#, joined(VALUES, strings)), |at| {
                replace(format!("/l/{at}"))
            }),
            Self::of(&format!("{{{}}}", keys(&text)), |at| splice(format!("/k{at:04}"), 50)),
        ];
        // One operation that replaces them all.
        let whole =
            format!(r#"[{{"op":"replace","path":"","value":{{{}}}}}]"#, keys(&|_| "1".to_owned()));
        all.push(Self {
            patch: whole,
            ..Self::of(&format!("{{{}}}", keys(&strings)), |_| String::new())
        });
        // Values of which most are overwritten.
        let few = joined(50, |key| format!(r#""k{key:04}":"{}""#, string(key)));
        let mut making = Making::new().put(&format!("{{{few}}}"));
        for round in 0..40 {
            making.patch(&format!(
                "[{}]",
                joined(50, |key| format!(
                    r#"{{"op":"replace","path":"/k{key:04}","value":"{}"}}"#,
                    string(key + round + 1)
                ))
            ));
        }
        let patch = format!("[{}]", joined(50, |key| replace(format!("/k{key:04}"))));
        all.push(Self { made: making.done(), patch });
        all
    }

    fn patch(&self) -> Edit {
        Edit::JsonPatch(
            Patch::parse(self.patch.as_bytes(), Form::Plain, &Limits::default()).unwrap(),
        )
    }
}

/// Most bytes that an edit of 4 MB of values may take.
const PEAK_MAX: usize = 80 << 20;

/// Runs something that may take so many bytes; more are an abort.
fn within<T>(bytes: usize, run: impl FnOnce() -> T) -> T {
    let before = ALLOCATOR.limit();
    ALLOCATOR.set_limit(ALLOCATOR.allocated() + bytes).unwrap();
    let done = run();
    ALLOCATOR.set_limit(before).unwrap();
    done
}

#[test]
fn what_is_put_between_large_values_takes_few_times_their_memory() {
    let _alone = ALONE.lock().unwrap();
    let limits = Limits::default();
    for (shape, large) in Large::all().iter().enumerate() {
        let patch = large.patch();
        let mut made = loaded(&large.made);
        let before = ALLOCATOR.allocated();
        let mut edit = || made.edit(&patch, None, &Stamp::default(), &limits).unwrap().changes;
        let changes = within(PEAK_MAX, &mut edit);
        println!("{shape}: {}", ALLOCATOR.allocated() - before);
        drop(made);
        let mut merged = loaded(&large.made);
        within(PEAK_MAX, || merged.merge(changes.iter().map(Vec::as_slice))).unwrap();
        drop(merged);
        let mut taken = loaded(&large.made);
        let room = Room { changes: 0, bytes: 0 };
        within(PEAK_MAX, || taken.admit(&changes[0], Sender::Stranger, room, &limits)).unwrap();
    }
}

#[test]
fn what_is_put_into_an_earlier_version_or_into_what_just_came_takes_no_more() {
    let _alone = ALONE.lock().unwrap();
    let limits = Limits::default();
    let large = &Large::all()[2];
    let mut making = Making(loaded(&large.made));
    let base = making.0.version();
    making.patch(r#"[{"op":"add","path":"/more","value":1}]"#);
    let mut edit = || making.0.edit(&large.patch(), Some(&base), &Stamp::default(), &limits);
    let delta = within(PEAK_MAX, &mut edit).unwrap();
    assert!(delta.merged);
    drop(making);
    let mut making = Making(loaded(&Making::new().put("{}").done()));
    for count in 0..3 {
        making.patch(&format!(r#"[{{"op":"add","path":"/more","value":{count}}}]"#));
    }
    let json = large.made.render(Form::Plain, None).unwrap().json.unwrap();
    making.edit(&Edit::MergePatch(parse(&json, Form::Plain, &limits).unwrap()));
    within(PEAK_MAX, || making.edit(&large.patch()));
}

#[test]
fn a_snapshot_and_large_changes_behind_it_are_loaded_in_few_times_their_memory() {
    let _alone = ALONE.lock().unwrap();
    let large = &Large::all()[0];
    let mut made = loaded(&large.made);
    let edit = large.patch();
    let delta = made.edit(&edit, None, &Stamp::default(), &Limits::default()).unwrap();
    let (version, standing) = (made.version(), made.standing());
    let snapshot = large.made.save();
    let chunks = std::iter::once(&snapshot[..]).chain(delta.changes.iter().map(Vec::as_slice));
    within(PEAK_MAX, || Document::load(chunks, &standing, &version, ACTOR)).unwrap();
}

#[test]
fn to_put_a_large_document_anew_takes_few_times_its_memory() {
    let _alone = ALONE.lock().unwrap();
    let mut making = Making(loaded(&Making::new().put(&large(0)).done()));
    let value = parse(large(1).as_bytes(), Form::Typed, &Limits::default()).unwrap();
    within(PEAK_MAX, || making.edit(&Edit::Put(value)));
}

/// A text of 800,000 letters, in edits of 100,000.
fn long_text() -> Making {
    let mut making = Making::new().put(r#"{"text":{"$text":""}}"#);
    for part in 0..8 {
        let letters = format!("{part:025}").repeat(4_000);
        making.patch(&format!(r#"[{{"op":"splice","path":"/text","at":0,"insert":"{letters}"}}]"#));
    }
    making
}

#[test]
fn an_old_version_of_a_long_text_is_edited_in_the_memory_that_a_part_of_it_takes() {
    let _alone = ALONE.lock().unwrap();
    let mut making = Making(loaded(&long_text().done()));
    let base = making.0.version();
    making.patch(r#"[{"op":"splice","path":"/text","at":0,"insert":"x"}]"#);
    // So many places, so far from its start, that it is done in a copy.
    let splice = |at: usize| {
        let at = 700_000 - at;
        format!(r#"{{"op":"splice","path":"/text","at":{at},"insert":"y"}}"#)
    };
    let patch = format!("[{}]", joined(100, splice));
    let patch = Patch::parse(patch.as_bytes(), Form::Plain, &Limits::default()).unwrap();
    let (edit, limits) = (Edit::JsonPatch(patch), Limits::default());
    let mut edit = || making.0.edit(&edit, Some(&base), &Stamp::default(), &limits).unwrap();
    assert!(within(2 * PEAK_MAX, &mut edit).merged);
}

#[test]
fn more_deletions_than_a_change_may_have_are_refused_before_they_are_made() {
    let _alone = ALONE.lock().unwrap();
    let mut making = Making(loaded(&long_text().done()));
    let typed = br#"{"text":{"$text":""}}"#;
    let put = Edit::Put(parse(typed, Form::Typed, &Limits::default()).unwrap());
    let splice = br#"[{"op":"splice","path":"/text","at":0,"remove":600000,"insert":""}]"#;
    let splice = Edit::JsonPatch(Patch::parse(splice, Form::Plain, &Limits::default()).unwrap());
    let base = making.0.version();
    making.patch(r#"[{"op":"splice","path":"/text","at":0,"insert":"x"}]"#);
    for (edit, base) in [(&put, None), (&splice, None), (&put, Some(&base)), (&splice, Some(&base))]
    {
        let mut edit = || making.0.edit(edit, base, &Stamp::default(), &Limits::default());
        // An old version is made first. 250,000 deletions in it take more than all that is allowed.
        let bytes = if base.is_none() { PEAK_MAX / 4 } else { PEAK_MAX };
        let refused = within(bytes, &mut edit).unwrap_err();
        assert!(refused.to_string().contains("more than 250000 operations"), "{refused}");
    }
}
