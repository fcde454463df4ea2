//! Keeping the type of a value that plain JSON cannot say.

use super::{
    Value,
    place::{Shown, Slot},
    timestamp,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::borrow::Cow;

/// `new` in the type of what shows at `old`, where plain JSON fits it: an integer over a counter,
/// a string over a text, RFC 3339 over a timestamp, base64 over bytes.
pub(super) fn retype<'v>(old: Option<&Slot>, new: &'v Value) -> Cow<'v, Value> {
    let typed = match (old.map(Slot::shown), new) {
        (Some(Shown::Scalar(Value::Counter(_))), Value::Int(number)) => {
            Some(Value::Counter(*number))
        }
        (Some(Shown::Text(_)), Value::String(text)) => Some(Value::Text(text.clone())),
        (Some(Shown::Scalar(Value::Timestamp(_))), Value::String(text)) => {
            timestamp::parse(text).map(Value::Timestamp)
        }
        (Some(Shown::Scalar(Value::Bytes(_))), Value::String(text)) => {
            STANDARD.decode(text).ok().map(Value::Bytes)
        }
        _ => None,
    };
    typed.map_or(Cow::Borrowed(new), Cow::Owned)
}
