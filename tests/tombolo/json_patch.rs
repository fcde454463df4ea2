//! The JSON Patch test suite (`tests/data/json-patch`): every case, also those it calls disabled.

use crate::http::{Client, PATCH};
use serde::Deserialize;
use serde_json::value::RawValue;
use tombolo::doc::{Form, Limits, Patch, Refusal, Value, parse};

#[derive(Deserialize)]
struct Case<'a> {
    comment: Option<String>,
    // As they stand: one case names a key twice, and a reader would hide it.
    #[serde(borrow)]
    doc: Option<&'a RawValue>,
    #[serde(borrow)]
    patch: Option<&'a RawValue>,
    #[serde(borrow)]
    expected: Option<&'a RawValue>,
    error: Option<String>,
}

/// Each suite, and how many cases of it have something to run.
const SUITES: &[(&str, usize)] = &[
    (include_str!("../data/json-patch/spec_tests.json"), 17),
    (include_str!("../data/json-patch/tests.json"), 95),
];

/// What may refuse a patch of the suites.
const REFUSALS: &[(u16, &str)] =
    &[(400, "bad_patch"), (400, "duplicate_key"), (409, "patch_test_failed"), (422, "bad_pointer")];

#[test]
fn every_case_of_the_patch_suite_is_as_expected() {
    for &(text, expected) in SUITES {
        let cases: Vec<Case<'_>> = serde_json::from_str(text).unwrap();
        let run = cases.iter().filter(|case| check(case)).count();
        assert_eq!(run, expected);
    }
}

/// Each case as it is, where its root may be a document's, and under a key.
#[tokio::test]
async fn every_case_of_the_patch_suite_is_as_expected_of_documents() {
    let client = Client::new();
    let (mut plain, mut wrapped) = (Outcomes::default(), Outcomes::default());
    for (suite, (text, _)) in SUITES.iter().enumerate() {
        let cases: Vec<Case<'_>> = serde_json::from_str(text).unwrap();
        for (index, case) in cases.iter().enumerate() {
            let (Some(doc), Some(patch)) = (case.doc, case.patch) else { continue };
            let (doc, patch) = (doc.get(), patch.get());
            let expected = case.error.is_none().then(|| case.expected.map_or(doc, RawValue::get));
            if doc.starts_with('{') {
                let path = format!("/v1/plain/{suite}-{index}");
                plain.run(&client, &path, doc, patch, expected).await;
            }
            let expected = expected.map(wrap);
            let path = format!("/v1/wrapped/{suite}-{index}");
            wrapped.run(&client, &path, &wrap(doc), &under(patch), expected.as_deref()).await;
        }
    }
    assert_eq!(plain, Outcomes { patched: 54, refused: 22, rootless: 1 });
    assert_eq!(wrapped, Outcomes { patched: 76, refused: 36, rootless: 0 });
}

/// How many cases came out how.
#[derive(Debug, Default, PartialEq)]
struct Outcomes {
    patched: usize,
    /// As the suite wants it.
    refused: usize,
    /// Because the root would not be an object any more.
    rootless: usize,
}

impl Outcomes {
    /// Puts a document, patches it, and reads it; nothing is `expected` where a refusal is.
    async fn run(
        &mut self,
        client: &Client,
        path: &str,
        doc: &str,
        patch: &str,
        expected: Option<&str>,
    ) {
        let told = format!("{path}: {doc} {patch}");
        let before = client.ask(&format!("PUT {path}"), &[], doc.to_owned()).await;
        assert_eq!(before.status, 201, "{told}: {before:?}");
        let patched = client.ask(&format!("PATCH {path}"), &[PATCH], patch.to_owned()).await;
        let after = client.ask(&format!("GET {path}"), &[], "").await;
        let (status, code) = patched.refusal();
        let unchanged = after.version() == before.version() && value(after.text()) == value(doc);
        match expected {
            Some(expected) if expected.starts_with('{') => {
                self.patched += 1;
                assert_eq!(status, 200, "{told}: {code}");
                assert_eq!(value(after.text()), value(expected), "{told}");
            }
            Some(_) => {
                self.rootless += 1;
                assert_eq!((status, code.as_str()), (422, "root_must_be_object"), "{told}");
                assert!(unchanged, "{told}: {after:?}");
            }
            None => {
                self.refused += 1;
                assert!(REFUSALS.contains(&(status, &code)), "{told}: {status} {code}");
                assert!(unchanged, "{told}: {after:?}");
            }
        }
    }
}

fn wrap(text: &str) -> String {
    format!(r#"{{"value":{text}}}"#)
}

/// A patch whose pointers lead under the key `value`; those that are none stay as they are. Edited
/// as text, since one case names a key twice.
fn under(patch: &str) -> String {
    let under = |text: String, member: &str| {
        let mut parts = text.split(member).map(str::trim_start);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, value| match value.strip_prefix('"') {
            Some(pointer) if pointer.starts_with(['/', '"']) => {
                format!(r#"{text}{member}"/value{pointer}"#)
            }
            _ => text + member + value,
        })
    };
    [r#""path":"#, r#""from":"#].into_iter().fold(patch.to_owned(), under)
}

/// Runs a case; `false` if it has nothing to run.
fn check(case: &Case<'_>) -> bool {
    let (Some(doc), Some(patch)) = (case.doc, case.patch) else { return false };
    let comment = case.comment.as_deref().unwrap_or_default();
    let after = apply(&json(doc), patch);
    let told = format!("{comment}: {doc} {patch}");
    if case.error.is_some() {
        assert!(after.is_err(), "{told}: {after:?}");
    } else {
        let expected = case.expected.map_or_else(|| json(doc), json);
        assert_eq!(after, Ok(expected), "{told}");
    }
    true
}

fn apply(doc: &Value, patch: &RawValue) -> Result<Value, Refusal> {
    let limits = Limits::default();
    Patch::parse(patch.get().as_bytes(), Form::Plain, &limits)?.apply(doc, &limits)
}

fn json(text: &RawValue) -> Value {
    value(text.get())
}

fn value(text: &str) -> Value {
    parse(text.as_bytes(), Form::Plain, &Limits::default()).unwrap()
}
