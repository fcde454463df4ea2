//! What it costs to ask for the past.

use super::{
    load::{Traffic, field, load_all},
    order::Orders,
    row::{Bar, Row},
    scratch::Scratch,
    server::Server,
};
use std::io::Write as _;

/// Changes of the document.
const CHANGES: usize = 1_000;
/// Every so many changes one is made on an older version.
const APART: usize = 10;
/// How much older that is, in changes.
const LATE: usize = 5;
/// Questions of one kind.
const QUESTIONS: usize = 300;
/// A prime, and so a way through all versions.
const LEAP: usize = 389;

/// A document of 1 KB with 1,000 changes, one after the other, and the same with changes made apart:
/// the server's CPU for each question about versions from all over it.
pub(crate) fn past() -> Vec<Row> {
    let scratch = Scratch::new();
    let server = Server::tombolo(&scratch.path("data"));
    let cases = [("in a line", "line", usize::MAX), ("a tenth made apart", "apart", APART)];
    let rows = cases.into_iter().flat_map(|(case, key, apart)| {
        let mut writes = Writes { key, apart, versions: Vec::new() };
        load_all(server.address(), 1, &mut writes);
        let Writes { versions, .. } = writes;
        let at = |index: usize| &versions[index * LEAP % versions.len()];
        let questions: [(&str, Vec<String>); 3] = [
            ("at", (0..QUESTIONS).map(|n| format!("?at={}", at(n))).collect()),
            ("_diff", {
                let pairs = (0..QUESTIONS).map(|n| (at(n), at(n + 1)));
                pairs.map(|(from, to)| format!("/_diff?from={from}&to={to}")).collect()
            }),
            ("_blame", vec!["/_blame".to_owned(); QUESTIONS]),
        ];
        questions.map(|(what, questions)| {
            server.rest();
            let before = server.cpu();
            load_all(server.address(), 1, &mut Questions { key, questions });
            let cpu = 1e3 * (server.cpu() - before).as_secs_f64() / QUESTIONS as f64;
            let figure = format!("{what}, 1 KB of 1,000 changes, {case}: server CPU each");
            Row::alone(figure, "ms", cpu).bar(Bar::at_most(10.0))
        })
    });
    rows.collect()
}

/// An order, and patches of its counter.
struct Writes {
    key: &'static str,
    apart: usize,
    /// As a query has them.
    versions: Vec<String>,
}

impl Traffic for Writes {
    fn ask(&mut self, request: &mut Vec<u8>) -> Option<u64> {
        let (key, number) = (self.key, self.versions.len());
        let (verb, kind, body) = match number {
            CHANGES => return None,
            0 => ("PUT", "json", Orders::first(1).remove(0)),
            _ => ("PATCH", "merge-patch+json", format!(r#"{{"counter":{number}}}"#)),
        };
        let parents = if number.is_multiple_of(self.apart) && LATE < number {
            let seen = self.versions[number - LATE].replace('.', "\", \"");
            format!("parents: \"{seen}\"\r\n")
        } else {
            String::new()
        };
        let length = body.len();
        write!(
            request,
            "{verb} /v1/bench/{key} HTTP/1.1\r\nhost: localhost\r\ncontent-type: \
             application/{kind}\r\n{parents}content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        Some(number as u64)
    }

    fn take(&mut self, _number: u64, answer: &[u8]) {
        let etag = String::from_utf8(field(answer, b"\r\netag: ").unwrap().to_vec()).unwrap();
        self.versions.push(etag.trim_matches('"').to_owned());
    }
}

/// GETs below a document.
struct Questions {
    key: &'static str,
    questions: Vec<String>,
}

impl Traffic for Questions {
    fn ask(&mut self, request: &mut Vec<u8>) -> Option<u64> {
        let path = self.questions.pop()?;
        let key = self.key;
        write!(request, "GET /v1/bench/{key}{path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        Some(0)
    }
}
