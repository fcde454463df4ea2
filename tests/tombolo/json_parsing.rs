//! The JSON parsing test suite (`tests/data/json-parsing`): what is accepted, what is refused.

use crate::http::Client;
use std::{fs, path::Path};
use tombolo::doc::{Form, Limits, RefusalKind, parse};

/// `y_` cases that are refused all the same.
const REFUSED: &[(&str, RefusalKind)] = &[
    // Two readers could take two different values.
    ("y_object_duplicated_key.json", RefusalKind::DuplicateKey),
    ("y_object_duplicated_key_and_value.json", RefusalKind::DuplicateKey),
];

/// `i_` cases that are accepted; all others are refused.
const ACCEPTED: &[&str] = &[
    // Underflow to zero is the nearest f64.
    "i_number_double_huge_neg_exp.json",
    "i_number_real_underflow.json",
];

/// Refused cases that nest deeper than any document, whatever else is wrong with them.
const DEEP: &[&str] = &[
    "i_structure_500_nested_arrays.json",
    "n_structure_100000_opening_arrays.json",
    "n_structure_open_array_object.json",
];

/// Every case: its name and its text.
fn cases() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/json-parsing");
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            cases.push((name, fs::read(&path).unwrap()));
        }
    }
    assert_eq!(cases.len(), 316);
    cases
}

#[test]
fn every_case_of_the_parsing_suite_is_as_expected() {
    let wrong: Vec<_> = cases().iter().filter_map(|(name, text)| fault(name, text)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Each case is a body as it is, and one under a key, since the root of a document is an object.
#[tokio::test]
async fn every_case_of_the_parsing_suite_is_put_or_refused() {
    let client = Client::new();
    let (mut kept, mut wrong) = (0, Vec::new());
    for (index, (name, text)) in cases().into_iter().enumerate() {
        let wrapped = [b"{\"value\":", text.as_slice(), b"}"].concat();
        for (collection, body) in [("plain", text), ("wrapped", wrapped)] {
            let expected = expected(&name, &body);
            kept += usize::from(expected.is_ok());
            let found = put(&client, &format!("/v1/{collection}/{index}"), body).await;
            if found != expected {
                wrong.push(format!("{collection} {name}: {found:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(kept, 10 + 95);
}

/// What a body became, or why it was refused, and nothing came of it.
async fn put(client: &Client, path: &str, body: Vec<u8>) -> Result<String, (u16, String)> {
    let reply = client.ask(&format!("PUT {path}"), &[], body).await;
    let read = client.ask(&format!("GET {path}"), &[], "").await;
    if reply.status == 201 {
        return Ok(read.text().to_owned());
    }
    assert_eq!(read.refusal(), (404, "document_not_found".to_owned()), "{path}: {reply:?}");
    Err(reply.refusal())
}

/// What a body should become, or why it should be refused.
fn expected(name: &str, body: &[u8]) -> Result<String, (u16, String)> {
    let refused = |status, code: &str| Err((status, code.to_owned()));
    if REFUSED.iter().any(|(refused, _)| *refused == name) {
        return refused(400, "duplicate_key");
    }
    if DEEP.contains(&name) {
        return refused(400, "too_deep");
    }
    if !name.starts_with("y_") && !ACCEPTED.contains(&name) {
        return refused(400, "bad_json");
    }
    match serde_json::from_slice(body).unwrap() {
        value @ serde_json::Value::Object(_) => Ok(value.to_string()),
        _ => refused(422, "root_must_be_object"),
    }
}

#[test]
fn endless_nesting_is_refused_without_reading_on() {
    let endless = [b"[".repeat(100_000), [&b"[{\"\":".repeat(50_000)[..], b"\n"].concat()];
    for text in endless {
        let refusal = parse(&text, Form::Plain, &Limits::default()).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::TooDeep);
    }
}

fn fault(name: &str, text: &[u8]) -> Option<String> {
    let parsed = parse(text, Form::Plain, &Limits::default());
    if let Some((_, kind)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        let as_listed = parsed.as_ref().is_err_and(|refusal| refusal.kind == *kind);
        return (!as_listed).then(|| format!("{name}: {parsed:?}"));
    }
    let expected = name.starts_with("y_") || ACCEPTED.contains(&name);
    match parsed {
        Ok(value) if expected => {
            // What both accept, both read alike.
            let other: serde_json::Value = serde_json::from_slice(text).unwrap();
            let (ours, theirs) = (value.to_json(Form::Plain), serde_json::to_vec(&other).unwrap());
            (ours != theirs).then(|| format!("{name}: {}", String::from_utf8_lossy(&ours)))
        }
        Err(_) if !expected => None,
        parsed => Some(format!("{name}: {parsed:?}")),
    }
}
