//! Who asked: the id of a request, and its place in a trace (W3C Trace Context, level 1).

use super::reply;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Longest request id of a client that is given back.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Bytes of a `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;

/// What the ids of one start's requests are made of.
#[derive(Debug)]
pub(super) struct Origin {
    /// What request ids begin with.
    incarnation: String,
    /// Chance, from which trace ids are made: asking for more of it would cost each request.
    seed: [u64; 2],
}

/// The ids of one request.
#[derive(Debug, Clone)]
pub(crate) struct Ids {
    /// The client's, if it gave a usable one.
    given: Option<HeaderValue>,
    number: u64,
    trace: [u64; 2],
    span: u64,
    sampled: bool,
    /// The client takes part in a trace, or tries to.
    traced: bool,
}

impl Origin {
    pub(super) fn new(incarnation: String, seed: [u8; 16]) -> Self {
        let seed = u128::from_be_bytes(seed);
        let half = |shift: u32| u64::try_from((seed >> shift) & u128::from(u64::MAX)).unwrap_or(1);
        Self { incarnation, seed: [half(64), half(0)] }
    }

    /// The ids of the request that is the `number`th of this start.
    pub(super) fn identify(&self, number: u64, headers: &HeaderMap) -> Ids {
        let usable = |id: &&HeaderValue| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
                && id.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        let given = headers.get(REQUEST_ID).filter(usable).cloned();
        let [high, low] = self.seed;
        let span = mix(high.rotate_left(32) ^ low, number);
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let first = parents.next();
        let parent =
            first.filter(|_| parents.next().is_none()).and_then(|field| parse(field.as_bytes()));
        let (trace, sampled) = parent.unwrap_or(([mix(high, number), mix(low, number)], false));
        Ids { given, number, trace, span, sampled, traced: first.is_some() }
    }

    /// `X-Request-Id`.
    pub(super) fn request_id(&self, ids: &Ids) -> HeaderValue {
        let ours = || reply::value(format!("{}-{}", self.incarnation, ids.number));
        ids.given.clone().unwrap_or_else(ours)
    }

    /// The ids as the log has them: a span around what is logged of the request.
    pub(super) fn span(&self, ids: &Ids) -> tracing::Span {
        let id = self.request_id(ids);
        let request_id = id.to_str().unwrap_or_default();
        tracing::error_span!("request", request_id, trace_id = %ids.trace_id())
    }
}

impl Ids {
    /// `traceparent`, if the client sent one: its trace, or a new one if it sent no valid one, and
    /// what this node did in it.
    pub(super) fn traceparent(&self) -> Option<HeaderValue> {
        let flags = u8::from(self.sampled);
        let text = || format!("00-{}-{:016x}-{flags:02x}", self.trace_id(), self.span);
        self.traced.then(|| reply::value(text()))
    }

    /// The trace's id as the field has it.
    pub(super) fn trace_id(&self) -> String {
        let [high, low] = self.trace;
        format!("{high:016x}{low:016x}")
    }
}

/// Trace and sampled flag of a `traceparent`; `None` if it is not valid.
///
/// What a later version says is read as far as version 00 goes, as the recommendation asks.
fn parse(text: &[u8]) -> Option<([u64; 2], bool)> {
    let (known, rest) = text.split_at_checked(TRACEPARENT_BYTES)?;
    let dashes = [2, 35, 52].iter().all(|at| known.get(*at) == Some(&b'-'));
    let number = |from: usize, to: usize| {
        let digits = known.get(from..to)?;
        let lower = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let digits = std::str::from_utf8(digits).ok().filter(|_| lower)?;
        u64::from_str_radix(digits, 16).ok()
    };
    let (version, flags) = (number(0, 2)?, number(53, 55)?);
    let (trace, parent) = ([number(3, 19)?, number(19, 35)?], number(36, 52)?);
    let ended = rest.is_empty() || version != 0 && rest.starts_with(b"-");
    let valid = dashes && ended && version != 0xff && trace != [0, 0] && parent != 0;
    valid.then_some((trace, flags & 1 == 1))
}

/// The `number`th of a sequence that looks like chance: splitmix64 (Steele, Lea, Flood 2014). Never
/// zero, which is no id.
fn mix(seed: u64, number: u64) -> u64 {
    let mut bits = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ (bits >> 31)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        collections::HashSet,
        io,
        sync::{Arc, Mutex},
    };

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    fn origin() -> Origin {
        Origin::new("abc".into(), [7; 16])
    }

    fn ids(fields: &[&str]) -> Ids {
        let fields = fields.iter().map(|field| (TRACEPARENT, field.parse().unwrap()));
        origin().identify(1, &fields.collect())
    }

    #[test]
    fn a_valid_trace_is_continued_under_a_span_of_our_own() {
        for (text, flags) in [
            (format!("00-{TRACE}-{PARENT}-01"), "01"),
            (format!("00-{TRACE}-{PARENT}-00"), "00"),
            (format!("00-{TRACE}-{PARENT}-03"), "01"),
            (format!("00-{TRACE}-{PARENT}-fe"), "00"),
            (format!("01-{TRACE}-{PARENT}-01"), "01"),
            (format!("cc-{TRACE}-{PARENT}-01-what-may-come"), "01"),
            (format!("cc-{TRACE}-{PARENT}-01-"), "01"),
        ] {
            let answer = ids(&[&text]).traceparent().unwrap();
            let answer = answer.to_str().unwrap();
            assert_eq!(&answer[..36], format!("00-{TRACE}-"), "{text}");
            assert_ne!(&answer[36..52], PARENT, "{text}");
            assert_eq!(&answer[52..], format!("-{flags}"), "{text}");
            assert!(parse(answer.as_bytes()).is_some(), "{answer}");
        }
    }

    #[test]
    fn an_invalid_trace_begins_anew() {
        let zeros = |count: usize| "0".repeat(count);
        for lines in [
            vec![String::new()],
            vec![format!("ff-{TRACE}-{PARENT}-01")],
            vec![format!("00-{}-{PARENT}-01", zeros(32))],
            vec![format!("00-{TRACE}-{}-01", zeros(16))],
            vec![format!("00-{TRACE}-{PARENT}-01-")],
            vec![format!("00-{TRACE}-{PARENT}-01-more")],
            vec![format!("cc-{TRACE}-{PARENT}-01.more")],
            vec![format!("00-{TRACE}-{PARENT}-1")],
            vec![format!("00-{TRACE}-{PARENT}-0")],
            vec![format!("00-{TRACE}-{PARENT}")],
            vec![format!("0-{TRACE}-{PARENT}-001")],
            vec![format!("00-{}-{PARENT}-01", TRACE.to_uppercase())],
            vec![format!("00-{TRACE}-{}-01", PARENT.to_uppercase())],
            vec![format!("00-{TRACE}-{PARENT}-0A")],
            vec![format!("0x-{TRACE}-{PARENT}-01")],
            vec![format!("00_{TRACE}-{PARENT}-01")],
            vec![format!("00-{TRACE}_{PARENT}-01")],
            vec![format!("00-+{}-{PARENT}-01", &TRACE[1..])],
            vec![format!("00-{TRACE}-{PARENT}-01"); 2],
        ] {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let answer = ids(&lines).traceparent().unwrap();
            let answer = answer.to_str().unwrap();
            assert!(parse(answer.as_bytes()).is_some(), "{lines:?}: {answer}");
            assert!(!answer.contains(TRACE) && answer.ends_with("-00"), "{lines:?}: {answer}");
        }
        assert_eq!(ids(&[]).traceparent(), None, "who does not trace is told of none");
    }

    #[test]
    fn no_two_requests_have_one_trace() {
        let (origin, headers) = (origin(), HeaderMap::new());
        let all = (0..10_000).map(|number| origin.identify(number, &headers));
        let all: HashSet<_> = all.flat_map(|ids| [ids.trace[0], ids.trace[1], ids.span]).collect();
        assert!(20_000 <= all.len(), "the halves of a seed may be alike, but no more");
        let other = Origin::new("abc".into(), [8; 16]).identify(0, &headers);
        assert!(!all.contains(&other.trace[0]));
    }

    /// What is logged in the test, as JSON.
    #[derive(Debug, Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_logged_of_a_request_carries_its_ids() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        let ids = ids(&[&format!("00-{TRACE}-{PARENT}-01")]);
        tracing::subscriber::with_default(subscriber, || {
            origin().span(&ids).in_scope(|| tracing::error!("damage"));
        });
        let line: serde_json::Value = serde_json::from_slice(&lines.0.lock().unwrap()).unwrap();
        assert_eq!(line["span"]["request_id"], "abc-1");
        assert_eq!(line["span"]["trace_id"], TRACE);
    }
}
