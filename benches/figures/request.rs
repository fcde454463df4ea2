//! Requests, prepared: all but the numbers in them is made before any clock runs.

use super::{
    load::{Traffic, field},
    order::Orders,
};
use std::io::Write as _;

/// Where the number of a key is put: ten digits.
const KEY: &str = "{key-----}";
/// Where the number of a value is put: ten digits.
pub(crate) const NUMBER: &str = "{number--}";
/// Numbers of values begin here, so that all have ten digits.
const NUMBERS_FROM: u64 = 1_000_000_000;
/// Different documents that are written; more would only fill memory.
const BODIES: u64 = 4_096;

/// A prime, and so a way through all documents of any number that it does not divide.
const LEAP: u64 = 7_919;

/// A request with places for numbers.
#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    key: Option<usize>,
    number: Option<usize>,
}

impl Template {
    fn new(method: &str, fields: &str, body: &str) -> Self {
        let length = body.len();
        let text = format!(
            "{method} /v1/bench/doc-{KEY} HTTP/1.1\r\nhost: localhost\r\n{fields}content-length: \
             {length}\r\n\r\n{body}"
        );
        Self { key: text.find(KEY), number: text.find(NUMBER), bytes: text.into_bytes() }
    }

    fn write(&self, key: u64, number: u64, request: &mut Vec<u8>) {
        request.extend_from_slice(&self.bytes);
        let mut put = |place: Option<usize>, digits: u64| {
            let Some(place) = place else { return };
            write!(&mut request[place..place + KEY.len()], "{digits:010}").unwrap();
        };
        put(self.key, key);
        put(self.number, NUMBERS_FROM + number);
    }
}

/// Requests that are numbered through, and each is for the key that is made of its number.
pub(crate) struct Requests {
    templates: Vec<Template>,
    key: Box<dyn Fn(u64) -> u64>,
    next: u64,
    end: u64,
}

impl Requests {
    fn new(templates: Vec<Template>, key: impl Fn(u64) -> u64 + 'static) -> Self {
        Self { templates, key: Box::new(key), next: 0, end: u64::MAX }
    }

    /// PUTs of orders, from this key on upwards.
    pub(crate) fn put(first: u64) -> Self {
        let put =
            |order: String| Template::new("PUT", "content-type: application/json\r\n", &order);
        Self::new(Orders::first(BODIES).into_iter().map(put).collect(), move |number| {
            first + number
        })
    }

    /// A PUT of one document.
    pub(crate) fn put_one(body: &str, key: u64) -> Self {
        let put = Template::new("PUT", "content-type: application/json\r\n", body);
        Self::new(vec![put], move |_| key).only(1)
    }

    /// GETs of the documents below this key.
    pub(crate) fn get(documents: u64) -> Self {
        Self::new(vec![Template::new("GET", "", "")], move |number| number % documents)
    }

    /// Patches of `counter` of the documents below this key, in leaps: each once before any comes
    /// again. Numbers never come twice under one `salt` of two digits, nor under two.
    pub(crate) fn patch(documents: u64, salt: u8) -> Self {
        Self::patch_keys(salt, move |number| number * LEAP % documents)
    }

    /// The same, of documents that are told.
    pub(crate) fn patch_keys(salt: u8, key: impl Fn(u64) -> u64 + 'static) -> Self {
        Self::patch_with(&format!(r#"{{"counter":{NUMBER}{salt:02}}}"#), key)
    }

    /// Merge patches, with a place for a number.
    pub(crate) fn patch_with(body: &str, key: impl Fn(u64) -> u64 + 'static) -> Self {
        let kind = "content-type: application/merge-patch+json\r\n";
        Self::new(vec![Template::new("PATCH", kind, body)], key)
    }

    /// No more than so many.
    pub(crate) fn only(mut self, count: u64) -> Self {
        self.end = self.next + count;
        self
    }
}

impl Traffic for Requests {
    fn ask(&mut self, request: &mut Vec<u8>) -> Option<u64> {
        let number = self.next;
        if number == self.end {
            return None;
        }
        self.next += 1;
        let at = usize::try_from(number % self.templates.len() as u64).ok()?;
        self.templates[at].write((self.key)(number), number, request);
        Some(number)
    }
}

/// Bulk writes of new orders.
pub(crate) struct Bulk {
    orders: Orders,
    next: u64,
    lines: u64,
}

impl Bulk {
    /// So many documents in each, from this key on upwards.
    pub(crate) fn new(first: u64, lines: u64) -> Self {
        Self { orders: Orders::new(), next: first, lines }
    }
}

impl Traffic for Bulk {
    fn ask(&mut self, request: &mut Vec<u8>) -> Option<u64> {
        let mut body = String::new();
        for key in self.next..self.next + self.lines {
            let order = self.orders.order(key, "");
            let line =
                format!(r#"{{"op":"put","collection":"bench","key":"doc-{key:010}","value":"#);
            body.extend([line.as_str(), &order, "}\n"]);
        }
        self.next += self.lines;
        let length = body.len();
        write!(
            request,
            "POST /v1/_bulk HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        Some(self.next)
    }

    fn take(&mut self, _number: u64, answer: &[u8]) {
        let all = format!(r#""ok":{0},"failed":0"#, self.lines);
        let last = String::from_utf8_lossy(&answer[answer.len().saturating_sub(100)..]);
        assert!(last.contains(&all), "not all documents were written: {last}");
    }
}

/// Requests of which the versions that they are answered with are kept.
pub(crate) struct Remembering {
    pub(crate) requests: Requests,
    /// The `ETag` of each, by its number.
    pub(crate) etags: Vec<String>,
}

impl Traffic for Remembering {
    fn ask(&mut self, request: &mut Vec<u8>) -> Option<u64> {
        self.requests.ask(request)
    }

    fn take(&mut self, number: u64, answer: &[u8]) {
        let etag = field(answer, b"\r\netag: ").unwrap();
        let place = usize::try_from(number).unwrap();
        if self.etags.len() <= place {
            self.etags.resize(place + 1, String::new());
        }
        self.etags[place] = String::from_utf8(etag.to_vec()).unwrap();
    }
}

/// PUTs of other orders over documents of known versions, each only if it is still at that version.
#[derive(Debug)]
pub(crate) struct Updates {
    requests: Vec<Vec<u8>>,
}

impl Updates {
    /// Of documents numbered from `first`, by their `ETag`s.
    pub(crate) fn new(first: u64, etags: &[String]) -> Self {
        let mut orders = Orders::new();
        // The first order is not written over itself.
        orders.order(0, "");
        let requests = (first..).zip(etags).map(|(key, etag)| {
            let fields = format!("content-type: application/json\r\nif-match: {etag}\r\n");
            let mut request = Vec::new();
            Template::new("PUT", &fields, &orders.order(key, "")).write(key, 0, &mut request);
            request
        });
        Self { requests: requests.collect() }
    }
}

impl Traffic for Updates {
    fn ask(&mut self, request: &mut Vec<u8>) -> Option<u64> {
        request.append(&mut self.requests.pop()?);
        Some(0)
    }
}
