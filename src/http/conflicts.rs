//! The places of a document that hold values beside the one that shows.

use super::{
    extract::Call,
    media, paging,
    problem::{Code, Problem},
    reply::{self, Answer, Text},
};
use crate::{
    doc::{Conflict, Form},
    ident::{Hash, Name},
};
use axum::http::StatusCode;
use serde::Serialize;

/// Bytes of a mark.
const MARK: usize = 16;

/// GET `_conflicts`: every such place, in the view's order, a page at a time.
pub(crate) async fn list(call: Call, name: Name) -> Answer {
    let mut query = call.query()?;
    let limit = paging::limit(&mut query)?.unwrap_or(paging::LIMIT_DEFAULT);
    let after = paging::after(&mut query, |mark| <[u8; MARK]>::try_from(mark).ok())?;
    query.end()?;
    media::choose(&call.head.headers, &[media::JSON])?;

    let work = call.api.node().conflicts(&name);
    let (version, places) = call.api.within(Code::NotReady, work).await?;
    let rest = after.map_or(places.as_slice(), |after| rest(&places, after));
    let (page, more) = rest.split_at(limit.min(rest.len()));
    let next = page.last().filter(|_| !more.is_empty()).map(|place| paging::encode(&mark(place)));

    let body = reply::page("conflicts", page, append_place, &next)?;
    let mut response = reply::raw(StatusCode::OK, media::JSON, body.into());
    let count = u32::try_from(places.len()).unwrap_or(u32::MAX);
    reply::describe(response.headers_mut(), &name, &version, count);
    Ok(response)
}

/// What the next page remembers of the last place of this one. Pointers may be longer than a URL.
fn mark(place: &Conflict) -> [u8; MARK] {
    let mut mark = [0; MARK];
    mark.copy_from_slice(&blake3::hash(place.path.as_bytes()).as_bytes()[..MARK]);
    mark
}

/// What follows the marked place. If somebody settled that place in the meantime, everything:
/// better a place twice than a place missed.
fn rest(places: &[Conflict], after: [u8; MARK]) -> &[Conflict] {
    let seen = places.iter().position(|place| mark(place) == after);
    seen.and_then(|index| places.get(index + 1..)).unwrap_or(places)
}

fn append_place(body: &mut Vec<u8>, place: &Conflict) -> Result<(), Problem> {
    body.extend_from_slice(br#"{"path":"#);
    body.append(&mut reply::to_json(&place.path)?);
    body.extend_from_slice(br#","values":["#);
    for (index, value) in place.values.iter().enumerate() {
        if 0 < index {
            body.push(b',');
        }
        let source = Source {
            change: Text(value.change),
            actor: &value.actor,
            time: value.time_seconds,
            winner: value.winner,
        };
        reply::append(body, &source, Some(&value.value.to_json(Form::Plain)))?;
    }
    body.extend_from_slice(br#"],"values_total":"#);
    body.append(&mut reply::to_json(&place.values_total)?);
    body.push(b'}');
    Ok(())
}

#[derive(Serialize)]
struct Source<'a> {
    change: Text<Hash>,
    actor: &'a str,
    time: i64,
    winner: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Conflict {
        Conflict { path: path.into(), values: Vec::new(), values_total: 0 }
    }

    #[test]
    fn a_page_goes_on_after_its_mark_and_begins_again_if_that_is_gone() {
        let places = [place("/a"), place("/b"), place("/c")];
        assert_eq!(rest(&places, mark(&place("/b"))), &places[2..]);
        assert_eq!(rest(&places, mark(&place("/c"))), &[]);
        assert_eq!(rest(&places, mark(&place("/settled"))), &places);
    }

    #[test]
    fn a_place_is_written_with_its_values_spliced_in() {
        let value = crate::doc::ConflictingValue {
            value: crate::doc::Value::Int(1),
            change: Hash::from_bytes([0xab; 32]),
            actor: "0c".into(),
            time_seconds: 7,
            winner: true,
        };
        let place = Conflict { path: "/a\"b".into(), values: vec![value], values_total: 40 };
        let mut body = Vec::new();
        append_place(&mut body, &place).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"path": "/a\"b", "values_total": 40, "values": [{
                "value": 1, "change": "ab".repeat(32), "actor": "0c", "time": 7, "winner": true,
            }]})
        );
    }
}
