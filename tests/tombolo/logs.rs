//! The log of a node as a process: one JSON object a line, and a line for each request.

use crate::process::{Client, signal};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[test]
fn each_request_has_a_line_of_json_with_its_ids_and_without_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tombolo"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--data"]);
    command.arg(directory.path().join("data")).current_dir(directory.path());
    command.env_clear().env("TOMBOLO_LOG", "info,tombolo::access=debug");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(|line| {
        let line = line.unwrap();
        serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    let mut seen: Vec<Value> = Vec::new();
    let address = loop {
        let line = lines.next().unwrap();
        let said = line["message"].as_str().unwrap();
        let address = said
            .strip_prefix("listening on http://")
            .map(|rest| rest.split(' ').next().unwrap().to_owned());
        seen.push(line.clone());
        if let Some(address) = address {
            break address.parse().unwrap();
        }
    };
    let mut client = Client::connect(address).unwrap();
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let fields = [("traceparent", traceparent.as_str()), ("x-request-id", "mine")];
    let fields = [fields.as_slice(), &[("authorization", "Bearer token-of-mine")]].concat();
    let put = client.send("PUT", "/v1/notes/secret", &fields, br#"{"a":"hidden"}"#).unwrap();
    assert_eq!(put.status, 201);
    client.send("GET", "/v1/notes?prefix=secret", &[], b"").unwrap();
    client.send("GET", "/nowhere/secret", &[], b"").unwrap();
    drop(client);
    assert!(signal("TERM", &child.id().to_string()));
    seen.extend(lines);
    child.wait().unwrap();

    let access: Vec<&Value> =
        seen.iter().filter(|line| line["target"] == "tombolo::access").collect();
    let summary: Vec<String> = access
        .iter()
        .map(|line| format!("{} {} {}", line["method"], line["route"], line["status"]))
        .collect();
    assert_eq!(
        summary,
        [
            r#""PUT" "/v1/{collection}/{key}" 201"#,
            r#""GET" "/v1/{collection}" 200"#,
            r#""GET" "none" 404"#,
        ]
    );
    assert_eq!(
        (access[0]["request_id"].as_str(), access[0]["trace_id"].as_str()),
        (Some("mine"), Some(TRACE))
    );
    assert_eq!(access[0]["bytes"], put.body.len());
    for line in access {
        assert_eq!(line["level"], "DEBUG");
        assert!(line["duration_us"].is_u64() && line["request_id"].is_string(), "{line}");
        assert_eq!(line["trace_id"].as_str().unwrap().len(), 32);
    }
    for line in &seen {
        let text = line.to_string();
        assert!(line["level"].is_string(), "{text}");
        for hidden in ["secret", "hidden", "token-of-mine"] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
    }
}
