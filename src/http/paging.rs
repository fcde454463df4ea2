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

/// Bytes of the mark of a place.
const PLACE_BYTES: usize = 16;

/// What the next page remembers of the last place of this one. Pointers may be longer than a URL.
pub(crate) type Place = [u8; PLACE_BYTES];

fn place(path: &str) -> Place {
    let mut place = [0; PLACE_BYTES];
    place.copy_from_slice(&blake3::hash(path.as_bytes()).as_bytes()[..PLACE_BYTES]);
    place
}

/// `after`, where the page before ended at a place of a document.
pub(crate) fn after_place(query: &mut Query) -> Result<Option<Place>, Problem> {
    after(query, |mark| mark.try_into().ok())
}

/// The page that comes after a place, and from where the one behind it goes on. If somebody took that
/// place away in the meantime, it is the first page: better a place twice than a place missed.
pub(crate) fn places<T>(
    all: &[T],
    after: Option<Place>,
    limit: usize,
    path: impl Fn(&T) -> &str,
) -> (&[T], Option<String>) {
    let seen = after.and_then(|after| all.iter().position(|item| place(path(item)) == after));
    let rest = seen.and_then(|index| all.get(index + 1..)).unwrap_or(all);
    let (page, more) = rest.split_at(limit.min(rest.len()));
    let next = page.last().filter(|_| !more.is_empty()).map(|last| encode(&place(path(last))));
    (page, next)
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
    fn a_page_goes_on_after_its_mark_and_begins_again_if_that_is_gone() {
        let all = ["/a", "/b", "/c"];
        let page = |after: Option<Place>, limit| places(&all, after, limit, |path| *path);
        assert_eq!(page(None, 2), (&all[..2], Some(encode(&place("/b")))));
        assert_eq!(page(Some(place("/b")), 2), (&all[2..], None));
        assert_eq!(page(Some(place("/c")), 2), (&[][..], None));
        assert_eq!(page(Some(place("/gone")), 3), (&all[..], None));
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
