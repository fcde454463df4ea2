//! WebSockets of offline-first clients: frames, pings and the end; what is said is the node's affair.

use super::{Api, extract::Call, problem::Problem, reply::Answer};
use crate::{
    ident::{AUTOMERGE, Collection},
    node::{Frames, Node, Spoken},
};
use axum::{
    extract::{
        FromRequestParts, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket},
    },
    http::header,
};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use std::time::Duration;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{self, Instant, MissedTickBehavior},
};

/// How often a client is asked whether it is there.
const PING: Duration = Duration::from_secs(20);
/// A client of which nothing is heard for so long, or that takes nothing, is gone. Busy tabs are silent
/// for many seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// How long nothing is sent before the end: stock clients lose what they write while a close comes behind
/// data.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a client has to answer a close.
const FAREWELL: Duration = Duration::from_secs(2);
/// Frames that wait for the node.
const FRAMES_MAX: usize = 4;

/// Frames that wait for the client; of their bytes, too, so many may wait.
const UNSENT_MAX: usize = 64;

/// Closing codes (RFC 6455, section 7.4.1).
const GOING_AWAY: u16 = 1001;
const UNSUPPORTED_DATA: u16 = 1003;

/// GET `/v1/_sync`: documents that clients make go into the collection `automerge`.
pub(crate) async fn connect(call: Call) -> Answer {
    let collection = AUTOMERGE.parse().map_err(|_| Problem::defect("a collection has no name"))?;
    connect_to(call, collection).await
}

/// GET `/v1/_sync/{collection}`: into that one.
pub(crate) async fn connect_to(mut call: Call, collection: Collection) -> Answer {
    let upgrade = WebSocketUpgrade::from_request_parts(&mut call.head, &()).await;
    let upgrade = upgrade.map_err(|_| {
        Problem::header(&header::UPGRADE, "`websocket`, version 13: this is a route of WebSockets")
    })?;
    let bytes_max = call.api.options().changes_bytes_max;
    let upgrade = upgrade.max_message_size(bytes_max).max_frame_size(bytes_max);
    let Call { api, .. } = call;
    Ok(upgrade.on_upgrade(move |socket| carry(socket, api, collection)))
}

/// Carries one connection to its end.
async fn carry(socket: WebSocket, api: Api, collection: Collection) {
    let (sink, stream) = socket.split();
    let (to_node, incoming) = mpsc::channel(FRAMES_MAX);
    let (outgoing, from_node) = mpsc::channel(UNSENT_MAX);
    let over = Notify::new();
    let reader = Reader { stream, to_node, say: outgoing.clone(), ending: api.ending() };
    let node: &Node = api.node();
    tokio::join!(
        node.converse(collection, Frames { incoming, outgoing }),
        reader.run(&over),
        write(sink, from_node, &over),
    );
}

/// What comes from the client.
struct Reader {
    stream: SplitStream<WebSocket>,
    to_node: mpsc::Sender<Bytes>,
    /// For what is said without the node.
    say: mpsc::Sender<Spoken>,
    ending: watch::Receiver<bool>,
}

impl Reader {
    /// Reads until the client is gone, or nothing is said to it any more.
    async fn run(self, over: &Notify) {
        let Self { mut stream, to_node, say, mut ending } = self;
        // Whoever is gone hears nothing.
        let close = async |code, reason| drop(say.send(Spoken::Close(code, reason)).await);
        loop {
            let message = tokio::select! {
                biased;
                () = over.notified() => return drain(stream).await,
                () = ended(&mut ending) => {
                    close(GOING_AWAY, "the node stops").await;
                    over.notified().await;
                    return drain(stream).await;
                }
                message = time::timeout(SILENCE, stream.next()) => message,
            };
            match message {
                Ok(Some(Ok(Message::Binary(frame)))) => {
                    // A node that has ended the conversation closes it soon.
                    let _ = to_node.send(frame).await;
                }
                Ok(Some(Ok(Message::Text(_)))) => {
                    close(UNSUPPORTED_DATA, "messages are binary frames of CBOR").await;
                }
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) | Err(_) => return,
            }
        }
    }
}

/// Waits until the node stops.
async fn ended(ending: &mut watch::Receiver<bool>) {
    // Without a sender, too, it stops.
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Waits a while for the client to close, too.
async fn drain(mut stream: SplitStream<WebSocket>) {
    let gone = async { while let Some(Ok(_)) = stream.next().await {} };
    let _ = time::timeout(FAREWELL, gone).await;
}

/// What goes to the client.
async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut from_node: mpsc::Receiver<Spoken>,
    over: &Notify,
) {
    let mut pings = time::interval_at(Instant::now() + PING, PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let spoken = tokio::select! {
            spoken = from_node.recv() => spoken,
            _ = pings.tick() => {
                if send(&mut sink, Message::Ping(Bytes::new())).await { continue } else { break }
            }
        };
        match spoken {
            Some(Spoken::Frame(frame, permit)) => {
                if !send(&mut sink, Message::Binary(frame.into())).await {
                    break;
                }
                drop(permit);
            }
            Some(Spoken::Close(code, reason)) => {
                time::sleep(PAUSE).await;
                let frame = CloseFrame { code, reason: reason.into() };
                send(&mut sink, Message::Close(Some(frame))).await;
                break;
            }
            None => break,
        }
    }
    over.notify_one();
}

/// Sends a message; whether the client has taken it in time.
async fn send(sink: &mut SplitSink<WebSocket, Message>, message: Message) -> bool {
    matches!(time::timeout(SILENCE, sink.send(message)).await, Ok(Ok(())))
}
