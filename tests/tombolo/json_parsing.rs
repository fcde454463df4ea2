//! The JSON parsing test suite (`tests/data/json-parsing`): what is accepted, what is refused.

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

#[test]
fn every_case_of_the_parsing_suite_is_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/json-parsing");
    let mut cases = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_some_and(|extension| extension == "json") {
            cases += 1;
            wrong.extend(fault(&name, &fs::read(&path).unwrap()));
        }
    }
    assert_eq!(cases, 316);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
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
