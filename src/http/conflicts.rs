//! The places of a document that hold values beside the one that shows.

use super::{
    extract::Call,
    media, paging,
    problem::{Code, Problem},
    reply::{self, Answer, Text},
    version,
};
use crate::{
    doc::{Author, Conflict, Form},
    ident::{Hash, Name},
};
use axum::http::StatusCode;
use serde::Serialize;

/// GET `_conflicts`: every such place, in the view's order, a page at a time.
pub(crate) async fn list(call: Call, name: Name) -> Answer {
    let mut query = call.query()?;
    let limit = paging::limit(&mut query)?.unwrap_or(paging::LIMIT_DEFAULT);
    let after = paging::after_place(&mut query)?;
    query.end()?;
    media::choose(&call.head.headers, &[media::JSON])?;

    version::check_parents(&call.api, &call.head.headers, &name).await?;
    let work = call.api.node().conflicts(&name);
    let (version, places) = call.api.within(Code::NotReady, work).await?;
    let (page, next) = paging::places(&places, after, limit, |place| &place.path);
    let body = reply::page("conflicts", page, append_place, &next)?;
    let mut response = reply::raw(StatusCode::OK, media::JSON, body.into());
    let count = u32::try_from(places.len()).unwrap_or(u32::MAX);
    reply::describe(response.headers_mut(), &name, &version, count);
    Ok(response)
}

fn append_place(body: &mut Vec<u8>, place: &Conflict) -> Result<(), Problem> {
    body.extend_from_slice(br#"{"path":"#);
    body.append(&mut reply::to_json(&place.path)?);
    body.extend_from_slice(br#","values":["#);
    for (index, value) in place.values.iter().enumerate() {
        if 0 < index {
            body.push(b',');
        }
        let Author { change, actor, time_seconds, .. } = &value.author;
        let source =
            Source { change: Text(*change), actor, time: *time_seconds, winner: value.winner };
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

    #[test]
    fn a_place_is_written_with_its_values_spliced_in() {
        let value = crate::doc::ConflictingValue {
            value: crate::doc::Value::Int(1),
            author: Author {
                change: Hash::from_bytes([0xab; 32]),
                actor: "0c".into(),
                time_seconds: 7,
                message: None,
            },
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
