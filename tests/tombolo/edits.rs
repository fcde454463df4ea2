//! Edits whose outcome is easily got wrong, one by one.

use crate::http::Client;
use std::sync::Arc;
use tombolo::{
    doc::{self, Actor, Document, Edit, Form, Limits, Patch, Stamp, Value},
    http::{self, Api},
    ident::Version,
    node::{Node, Options},
    store::MemoryEngine,
};

struct Line(Document);

impl Line {
    fn new() -> Self {
        Self(Document::new(Actor([7; 16])))
    }

    fn put(&mut self, at: Option<&Version>, json: &str) -> Version {
        self.edit(at, &Edit::Put(value(json)))
    }

    fn merge_patch(&mut self, at: Option<&Version>, json: &str) -> Version {
        self.edit(at, &Edit::MergePatch(value(json)))
    }

    fn edit(&mut self, at: Option<&Version>, edit: &Edit) -> Version {
        self.0.edit(edit, at, &Stamp::default(), &Limits::default()).unwrap();
        self.0.version()
    }

    fn shows(&self) -> String {
        let rendering = self.0.render(Form::Typed, None).unwrap();
        String::from_utf8(rendering.json.unwrap()).unwrap()
    }
}

/// Typed JSON, as a value.
fn value(json: &str) -> Value {
    doc::parse(json.as_bytes(), Form::Typed, &Limits::default()).unwrap()
}

#[test]
fn a_null_that_was_read_of_a_nan_leaves_it() {
    let mut line = Line::new();
    line.put(None, r#"{"a":{"$float":"NaN"},"b":[{"$float":"-Infinity"},1]}"#);
    line.put(None, r#"{"a":null,"b":[null,2],"c":null}"#);
    assert_eq!(line.shows(), r#"{"a":{"$float":"NaN"},"b":[{"$float":"-Infinity"},2],"c":null}"#);
    line.put(None, r#"{"a":null,"b":[],"c":{"$float":"NaN"}}"#);
    assert_eq!(line.shows(), r#"{"a":{"$float":"NaN"},"b":[],"c":{"$float":"NaN"}}"#);
    let patch = br#"[{"op":"replace","path":"/a","value":null}]"#;
    let patch = Patch::parse(patch, Form::Plain, &Limits::default()).unwrap();
    line.edit(None, &Edit::JsonPatch(patch));
    assert_eq!(line.shows(), r#"{"a":null,"b":[],"c":{"$float":"NaN"}}"#);
}

#[test]
fn a_late_patch_with_what_won_a_conflict_settles_it_once() {
    let mut line = Line::new();
    line.put(Some(&Version::empty()), r#"{"a":1}"#);
    let conflict = line.put(Some(&Version::empty()), r#"{"a":2}"#);
    let shown = line.shows();
    let settled = line.merge_patch(Some(&conflict), &shown);
    assert!(line.0.conflicts().is_empty());
    assert_eq!(line.merge_patch(Some(&conflict), &shown), settled);
}

#[test]
fn a_late_patch_with_what_won_a_conflict_outlives_its_deletion() {
    let mut line = Line::new();
    let one = line.put(Some(&Version::empty()), r#"{"a":1,"k":0}"#);
    let conflict = line.put(Some(&Version::empty()), r#"{"a":2,"k":0}"#);
    let two: Version =
        conflict.hashes().iter().filter(|h| !one.hashes().contains(h)).copied().collect();
    let shown = line.shows();
    let (won, lost) = if shown.contains(r#""a":2"#) { (&two, 1) } else { (&one, 2) };
    line.put(Some(won), r#"{"k":0}"#);
    assert_eq!(line.shows(), format!(r#"{{"a":{lost},"k":0}}"#));
    line.merge_patch(Some(&conflict), &shown);
    assert_eq!(line.shows(), shown);
}

#[test]
fn a_late_list_that_was_cut_by_others_is_written_once() {
    let mut line = Line::new();
    let base = line.put(None, r#"{"l":["yx"]}"#);
    line.put(None, r#"{"l":["a","b"]}"#);
    let after = line.put(Some(&base), r#"{"l":[[1],"yx",null]}"#);
    assert_eq!(line.put(Some(&base), r#"{"l":[[1],"yx",null]}"#), after);
}

#[test]
fn a_long_list_that_grew_at_both_ends_keeps_its_elements() {
    let mut line = Line::new();
    let json = |ids: &mut dyn Iterator<Item = usize>, late: bool| {
        let value = |id: usize| usize::from(late && id == 1_500);
        let elements = ids.map(|id| format!(r#"{{"id":{id},"n":{}}}"#, value(id)));
        format!(r#"{{"l":[{}]}}"#, elements.collect::<Vec<_>>().join(","))
    };
    let base = line.put(None, &json(&mut (1..3_000), false));
    line.put(None, &json(&mut (0..3_001), false));
    line.put(Some(&base), &json(&mut (1..3_000), true));
    assert_eq!(line.shows(), json(&mut (0..3_001), true));
    assert_eq!(line.0.conflicts(), []);
    // Moved ones are written anew where they stand, the others stay.
    let swapped = (0..3_001).map(|id| if id % 1_000 == 7 { 2_014 - id } else { id });
    line.put(None, &json(&mut swapped.clone(), true));
    assert_eq!(line.shows(), json(&mut { swapped }, true));
}

#[test]
fn a_late_patch_of_a_deleted_document_that_came_back_is_written_whole() {
    let mut line = Line::new();
    let first = line.put(None, r#"{"id":{"$text":"x"}}"#);
    line.edit(None, &Edit::Delete);
    line.put(None, r#"{"a":{"a":"y","b":"x"}}"#);
    let deleted = line.edit(None, &Edit::Delete);
    line.merge_patch(Some(&first), r#"{"id":"x"}"#);
    assert_eq!(line.shows(), r#"{"a":{"a":"y","b":"x"}}"#);
    line.merge_patch(Some(&deleted), r#"{"a":{"a":"y","id":"z"}}"#);
    assert_eq!(line.shows(), r#"{"a":{"a":"y","id":"z"}}"#);
}

#[test]
fn a_type_that_is_named_is_content() {
    let plain = r#"{"b":"aGk=","c":1,"l":["a",{"id":1,"t":"x"}],"t":"a","u":3,"z":"2026-05-01T00:00:00.000Z"}"#;
    let typed = r#"{"b":{"$bytes":"aGk="},"c":{"$counter":1},"l":[{"$text":"a"},{"id":1,"t":{"$text":"x"}}],"t":{"$text":"a"},"u":{"$uint":3},"z":{"$timestamp":"2026-05-01T00:00:00.000Z"}}"#;
    let patch = br#"[{"op":"replace","path":"/t","value":{"$text":"a"}}]"#;
    let patch = Edit::JsonPatch(Patch::parse(patch, Form::Typed, &Limits::default()).unwrap());
    for edit in [Edit::Put(value(typed)), Edit::MergePatch(value(typed))] {
        let mut line = Line::new();
        let base = line.put(None, plain);
        let named = line.edit(None, &edit);
        assert_eq!(line.shows(), typed);
        // Once, whoever does it again, and plain JSON leaves it so.
        for (at, again) in [(None, &edit), (Some(&base), &edit), (None, &patch)] {
            assert_eq!(line.edit(at, again), named, "{again:?}");
        }
        assert_eq!(line.put(None, plain), named);
        assert_eq!(line.put(Some(&base), plain), named);
    }
    let mut line = Line::new();
    line.put(None, r#"{"t":"a"}"#);
    line.edit(None, &patch);
    assert_eq!(line.shows(), r#"{"t":{"$text":"a"}}"#);
    let back = br#"[{"op":"remove","path":"/t"},{"op":"add","path":"/t","value":"a"}]"#;
    line.edit(None, &Edit::JsonPatch(Patch::parse(back, Form::Plain, &Limits::default()).unwrap()));
    assert_eq!(line.shows(), r#"{"t":"a"}"#);
}

#[test]
fn zeros_of_both_signs_are_written() {
    let mut line = Line::new();
    for json in [r#"{"a":0.0}"#, r#"{"a":-0.0}"#, r#"{"a":0.0}"#] {
        line.put(None, json);
        assert_eq!(line.shows(), json);
    }
}

#[test]
fn a_patch_that_grows_or_takes_long_is_refused_at_its_bounds() {
    let mut line = Line::new();
    line.put(None, r#"{"a":[1,1,1,1,1,1,1,1,1,1],"t":"abcdefghijklmnopqrstuvwxyz"}"#);
    let version = line.0.version();
    let copies: Vec<_> =
        (0..40).map(|n| format!(r#"{{"op":"copy","from":"","path":"/c{n}"}}"#)).collect();
    let splice = r#"{"op":"splice","path":"/t","at":0,"remove":0,"insert":"z"}"#;
    let again = r#"{"op":"remove","path":"/a/0"},{"op":"add","path":"/a/0","value":1}"#;
    let few = Limits { change_operations_max: 1_000, ..Limits::default() };
    let slow = Limits { walked_elements_max: 5_049, ..Limits::default() };
    let small = Limits { document_bytes_max: 1_000, ..Limits::default() };
    for (patch, limits) in
        [(copies, few), (vec![splice.to_owned(); 100], small), (vec![again.to_owned(); 100], slow)]
    {
        let patch = format!("[{}]", patch.join(","));
        let patch = Patch::parse(patch.as_bytes(), Form::Plain, &Limits::default()).unwrap();
        let edit = Edit::JsonPatch(patch);
        let refusal = line.0.edit(&edit, None, &Stamp::default(), &limits).unwrap_err();
        assert_eq!(refusal.kind, doc::RefusalKind::TooLarge);
        assert_eq!(line.0.version(), version);
    }
}

#[test]
fn three_who_write_into_one_version_of_a_text_find_all_of_it_where_they_put_it() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut lines = |count: usize, end: &str| {
        let mut word =
            || (0..random.usize(2..9)).map(|_| random.char('a'..='p')).collect::<String>();
        let mut line = || (0..9).map(|_| word()).collect::<Vec<_>>().join(" ") + end;
        (0..count).map(|_| line()).collect::<String>()
    };
    // Prose in lines; in one line; and letters without a word.
    for end in ["\n", " ", ""] {
        for (long, more) in [(8, 6), (40, 5), (300, 10), (2_000, 10)] {
            let without = |text: String| if end.is_empty() { text.replace(' ', "") } else { text };
            let mut lines = |count| without(lines(count, end));
            let [first, second] = [lines(long), lines(long)];
            let [ann, anns, bob, bobs] = [lines(more), lines(more), lines(more), lines(more)];
            let put = |text: String| serde_json::json!({ "t": { "$text": text } }).to_string();
            let mut line = Line::new();
            let seen = line.put(None, &put(format!("{first}{second}")));
            line.put(Some(&seen), &put(format!("{ann}{first}{second}{anns}")));
            line.put(Some(&seen), &put(format!("{first}MIDDLE{second}")));
            line.put(Some(&seen), &put(format!("{bob}{first}{second}{bobs}")));
            let shown: serde_json::Value = serde_json::from_str(&line.shows()).unwrap();
            let shown = shown["t"]["$text"].as_str().unwrap();
            let before = ann.len() + bob.len() + first.len();
            assert_eq!(shown.find("MIDDLE"), Some(before), "{long} of {end:?}");
            let behind = anns.len() + bobs.len() + second.len();
            assert_eq!(shown.len(), before + "MIDDLE".len() + behind, "{long} of {end:?}");
            if !end.is_empty() {
                for written in [&ann, &anns, &bob, &bobs] {
                    let written = &written[..written.len() - 10];
                    assert!(shown.contains(written), "{long} of {end:?}: {written}");
                }
            }
        }
    }
}

#[tokio::test]
async fn strings_of_a_collection_that_says_so_become_texts() {
    let options = Options { texts: ["notes".parse().unwrap()].into(), ..Options::default() };
    let node = Node::start(options, Arc::new(MemoryEngine::new())).unwrap();
    let client = Client(Api::new(node, http::Options::default()));
    let typed = async |path: &str| {
        let accept = "accept: application/vnd.tombolo.typed+json";
        client.ask(&format!("GET {path}"), &[accept], "").await.text().to_owned()
    };
    for (collection, expected) in [("notes", r#"{"a":{"$text":"x"}}"#), ("other", r#"{"a":"x"}"#)] {
        let path = format!("/v1/{collection}/1");
        assert_eq!(client.ask(&format!("PUT {path}"), &[], r#"{"a":"x"}"#).await.status, 201);
        assert_eq!(typed(&path).await, expected);
    }
    let line = r#"{"op":"put","collection":"notes","key":"2","value":{"a":"x"}}"#;
    let fields = ["content-type: application/x-ndjson"];
    assert_eq!(client.ask("POST /v1/_bulk", &fields, line).await.status, 200);
    assert_eq!(typed("/v1/notes/2").await, r#"{"a":{"$text":"x"}}"#);
}
