//! What other nodes of the cluster ask: sealed messages in, sealed messages out.

use super::{
    extract::Call,
    problem::{Code, Problem},
    reply::{self, Answer},
};
use crate::node::{PEER_ENVELOPE, PEER_MESSAGE, PEER_SEAL};
use axum::http::{HeaderName, StatusCode};

const ENVELOPE: HeaderName = HeaderName::from_static(PEER_ENVELOPE);
/// Most bytes of a message: one change of the largest that there are, and what else may be with it. The limits
/// of clients are no limits of members.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
const SEAL: HeaderName = HeaderName::from_static(PEER_SEAL);

/// POST `/_peer/…`: whatever a member of the cluster asks.
pub(crate) async fn answer(mut call: Call) -> Answer {
    call.query()?.end()?;
    if !call.api.options().peers {
        let detail = "nodes of other machines need a secret: see `cluster.secret_file`";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    let envelope = call.head.headers.get(&ENVELOPE).and_then(|field| field.to_str().ok());
    let unsealed = |detail: String| Problem::new(Code::Unauthenticated, detail);
    let envelope = envelope.ok_or_else(|| unsealed(format!("a request has a {ENVELOPE}")))?;
    let envelope = envelope.to_owned();
    let what = call.head.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    let (body, _turn) = call.whole(MESSAGE_BYTES_MAX).await?;
    let answered = call.api.node().answer_peer(&what, &envelope, body).await;
    let answered = answered.map_err(|error| unsealed(error.to_string()))?;
    let mut response = reply::raw(StatusCode::OK, PEER_MESSAGE, answered.body.into());
    let seal = blake3::Hash::from_bytes(answered.seal).to_string();
    response.headers_mut().insert(SEAL, reply::value(seal));
    Ok(response)
}
