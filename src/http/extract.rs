//! What a request brings, and its query, parsed at the rim.

use super::{Api, Hosts, problem::Problem, trace::Ids};
use axum::{body::Body, http::request::Parts};
use std::{borrow::Cow, path::PathBuf, time::Duration};

/// One request on its way to its handler.
#[derive(Debug)]
pub(crate) struct Call {
    /// The room's state.
    pub(crate) api: Api,
    /// Who asks, for the log.
    pub(crate) ids: Ids,
    /// Everything before the body.
    pub(crate) head: Parts,
    /// The body, unread.
    pub(crate) body: Body,
}

impl Call {
    /// The query's parameters.
    pub(crate) fn query(&self) -> Result<Query, Problem> {
        Query::parse(self.head.uri.query().unwrap_or_default())
    }
}

/// How the room bounds what it is sent.
#[derive(Debug, Clone)]
pub struct Options {
    /// Largest body of a request, as it comes and decoded.
    pub body_bytes_max: usize,
    /// Largest body of changes, which may be a whole document with its history.
    pub changes_bytes_max: usize,
    /// Slowest body, in bytes a second, once `answer_time` is over.
    pub body_bytes_per_second_min: u32,
    /// Longest from the end of a request to the first byte of its answer.
    pub answer_time: Duration,
    /// Largest head of a request.
    pub header_bytes_max: usize,
    /// Most header fields of a request.
    pub header_count_max: usize,
    /// The hosts that requests may be for.
    pub hosts: Hosts,
    /// Whether other nodes of the cluster are answered.
    pub peers: bool,
    /// Where backups that are asked for over the network go; `None`: nowhere.
    pub backup_directory: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_bytes_max: 8 << 20,
            changes_bytes_max: 64 << 20,
            body_bytes_per_second_min: 1 << 10,
            answer_time: Duration::from_secs(30),
            header_bytes_max: 16 << 10,
            header_count_max: 64,
            hosts: Hosts::default(),
            peers: true,
            backup_directory: None,
        }
    }
}

/// The parameters of a query. Each is taken once; what is left over is refused.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let refused = |_| Problem::query(name, "UTF-8, percent-encoded");
            let decoded = form_decode(name).and_then(|name| Ok((name, form_decode(value)?)));
            let (name, value) = decoded.map_err(refused)?;
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(Problem::query(&name, "stands twice"));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// The parameter's value, if it is there.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(index).1)
    }

    /// The parameter, parsed.
    pub(crate) fn parsed<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        expected: &str,
    ) -> Result<Option<T>, Problem> {
        let parse = |text: String| parse(&text).ok_or_else(|| Problem::query(name, expected));
        self.take(name).map(parse).transpose()
    }

    /// Refuses what no one has taken.
    pub(crate) fn end(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::query(name, "no parameter of this route")),
        }
    }
}

/// Text as HTML forms and `URLSearchParams` write it: there, and only there, `+` is a space.
fn form_decode(text: &str) -> Result<String, Malformed> {
    let spaced = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { text.into() };
    percent_decode(spaced.as_bytes()).ok_or(Malformed)
}

#[derive(Debug)]
struct Malformed;

/// The text that percent-encoding hides; `None` for a broken `%` and for what is not UTF-8.
pub(crate) fn percent_decode(text: &[u8]) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            _ => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone_exactly() {
        for (text, decoded) in [
            ("a%2Fb", Some("a/b")),
            ("a%2fb", Some("a/b")),
            ("a+b", Some("a+b")),
            ("%c3%A9", Some("é")),
            ("é", Some("é")),
            ("%2541", Some("%41")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%+4", None),
            ("%ff", None),
            ("%ed%a0%80", None),
        ] {
            assert_eq!(percent_decode(text.as_bytes()).as_deref(), decoded, "{text}");
        }
    }

    #[test]
    fn a_query_is_taken_whole_or_refused() {
        let mut query = Query::parse("prefix=a+b%2B&&limit=7&values").unwrap();
        assert_eq!(query.take("prefix").as_deref(), Some("a b+"));
        let limit = query.parsed("limit", |text| text.parse().ok(), "a number");
        assert_eq!(limit.unwrap(), Some(7));
        assert_eq!(query.take("values").as_deref(), Some(""));
        assert_eq!(query.take("limit"), None);
        query.end().unwrap();
        assert!(Query::parse("a=1&a=1").is_err());
        assert!(Query::parse("a=%ff").is_err());
        assert!(Query::parse("a=1").unwrap().end().is_err());
        let number = |text: &str| text.parse::<u8>().ok();
        assert!(Query::parse("a=x").unwrap().parsed("a", number, "a number").is_err());
    }
}
