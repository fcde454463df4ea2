//! The JSON Patch test suite (`tests/data/json-patch`): every case, also those it calls disabled.

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

#[test]
fn every_case_of_the_patch_suite_is_as_expected() {
    let suites = [
        (include_str!("../data/json-patch/spec_tests.json"), 17),
        (include_str!("../data/json-patch/tests.json"), 95),
    ];
    for (text, expected) in suites {
        let cases: Vec<Case<'_>> = serde_json::from_str(text).unwrap();
        let run = cases.iter().filter(|case| check(case)).count();
        assert_eq!(run, expected);
    }
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
    parse(text.get().as_bytes(), Form::Plain, &Limits::default()).unwrap()
}
