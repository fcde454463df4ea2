//! Pages: how much an answer holds at most, and the opaque text from which the next one goes on.

use super::{extract::Query, problem::Problem};
use crate::ident::KEY_BYTES_MAX;

/// Members of a page if the client names no limit.
pub(crate) const LIMIT_DEFAULT: usize = 100;
/// Longest text worth decoding: base 58 costs the square of its length.
const TEXT_MAX: usize = 2 * KEY_BYTES_MAX;

/// The opaque text for a mark, with a checksum, so that nobody makes them up.
pub(crate) fn encode(mark: &[u8]) -> String {
    bs58::encode(mark).with_check().into_string()
}

/// The mark in a text that [`encode`] made.
fn decode(text: &str) -> Option<Vec<u8>> {
    if TEXT_MAX < text.len() {
        return None;
    }
    bs58::decode(text).with_check(None).into_vec().ok()
}

/// `after`, as the page before gave it.
pub(crate) fn after<T>(
    query: &mut Query,
    parse: impl FnOnce(Vec<u8>) -> Option<T>,
) -> Result<Option<T>, Problem> {
    let parse = |text: &str| decode(text).and_then(parse);
    query.parsed("after", parse, "what the page before gave as `next`")
}

/// `limit`: 1 to 1,000; `None` if the client names none.
pub(crate) fn limit(query: &mut Query) -> Result<Option<usize>, Problem> {
    let parse = |text: &str| text.parse().ok().filter(|limit| (1..=1000).contains(limit));
    query.parsed("limit", parse, "a number from 1 to 1000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_round_trip_and_garbage_is_refused() {
        for mark in [&b"k"[..], &[0; 16], &[0xff; KEY_BYTES_MAX]] {
            assert_eq!(decode(&encode(mark)).as_deref(), Some(mark));
        }
        let long = "1".repeat(TEXT_MAX + 1);
        for text in ["", "k", "0OIl", &encode(b"k")[1..], long.as_str()] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn a_limit_is_1_to_1000() {
        for (text, expected) in [
            ("", Ok(None)),
            ("limit=1", Ok(Some(1))),
            ("limit=1000", Ok(Some(1000))),
            ("limit=0", Err(())),
            ("limit=1001", Err(())),
            ("limit=-1", Err(())),
            ("limit=", Err(())),
        ] {
            let mut query = Query::parse(text).unwrap();
            assert_eq!(limit(&mut query).map_err(drop), expected, "{text}");
        }
    }
}
