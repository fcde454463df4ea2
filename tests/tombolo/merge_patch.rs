//! The examples of RFC 7396, appendix A.

use crate::http::{Client, MERGE};
use tombolo::doc::{Form, Limits, Value, merge_patch, parse};

/// Document, patch, result.
const EXAMPLES: &[(&str, &str, &str)] = &[
    (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
    (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
    (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
    (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
    (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
    (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
    (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
    (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
    (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
    (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
    (r#"{"a":"foo"}"#, "null", "null"),
    (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
    (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
    ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
    ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
];

#[test]
fn every_example_of_rfc_7396_holds() {
    for (document, patch, expected) in EXAMPLES {
        let merged = merge_patch(&json(document), &json(patch));
        assert_eq!(merged, json(expected), "{document} {patch}");
    }
}

/// Each example as it is, where its root may be a document's, and under a key.
#[tokio::test]
async fn every_example_of_rfc_7396_holds_of_documents() {
    let client = Client::new();
    let (mut patched, mut refused) = (0, 0);
    for (index, (document, patch, expected)) in EXAMPLES.iter().enumerate() {
        // Under a key, `null` takes the key away.
        let without = if *patch == "null" { "{}".into() } else { wrap(expected) };
        let wrapped = (wrap(document), wrap(patch), without);
        check(&client, &format!("/v1/wrapped/{index}"), &wrapped.0, &wrapped.1, &wrapped.2).await;
        patched += 1;
        let path = format!("/v1/plain/{index}");
        match (document.starts_with('{'), patch.starts_with('{')) {
            (true, true) => {
                check(&client, &path, document, patch, expected).await;
                patched += 1;
            }
            (true, false) => {
                check_refused(&client, &path, document, patch).await;
                refused += 1;
            }
            // No document to begin with.
            (false, _) => {}
        }
    }
    assert_eq!((patched, refused), (15 + 10, 3));
}

async fn check(client: &Client, path: &str, document: &str, patch: &str, expected: &str) {
    let put = client.ask(&format!("PUT {path}"), &[], document.to_owned()).await;
    assert_eq!(put.status, 201, "{document}");
    let patched = client.ask(&format!("PATCH {path}"), &[MERGE], patch.to_owned()).await;
    assert_eq!(patched.status, 200, "{document} {patch}");
    let after = client.ask(&format!("GET {path}"), &[], "").await;
    assert_eq!(json(after.text()), json(expected), "{document} {patch}");
}

/// A patch that would make the root what the root of a document is not.
async fn check_refused(client: &Client, path: &str, document: &str, patch: &str) {
    let put = client.ask(&format!("PUT {path}"), &[], document.to_owned()).await;
    let patched = client.ask(&format!("PATCH {path}"), &[MERGE], patch.to_owned()).await;
    assert_eq!(patched.refusal(), (422, "root_must_be_object".to_owned()), "{document} {patch}");
    let after = client.ask(&format!("GET {path}"), &[], "").await;
    assert_eq!((after.version(), json(after.text())), (put.version(), json(document)), "{patch}");
}

fn wrap(text: &str) -> String {
    format!(r#"{{"value":{text}}}"#)
}

fn json(text: &str) -> Value {
    parse(text.as_bytes(), Form::Plain, &Limits::default()).unwrap()
}
