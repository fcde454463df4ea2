//! The HTTP client that talks to other nodes: bytes out, bytes in, and what went wrong on the way.
//!
//! - Every request and every answer carries a seal; an answer without one is no answer.
//! - Large bodies go in zstd, both ways.
//! - Every answer has a bound in bytes and in time. No redirect is followed.
//! - What is said is the room `sync`'s; when, to whom, and how often again is the room `node`'s.

mod client;
mod coding;
mod error;
mod wire;

pub use client::{ANSWER_BYTES_MAX, Client, ENVELOPE, MESSAGE, Post, SEAL, Url, UrlError};
pub use error::Error;
pub use wire::{Messages, Wire};
