//! From a path to its route: split first, then decoded, and nothing normalised.

use super::{
    extract::{self, Call},
    problem::{Code, Problem},
    reply::{self, Answer},
    wait::Awaited,
};
use crate::ident::{Collection, Key, Name, PeerName, QuarantineId};
use axum::http::{Method, StatusCode, header};
use std::{pin::Pin, str::FromStr};

/// An answer on its way.
pub(crate) type Pending = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Who answers, and which names of the path it is given.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Handler {
    /// A path without names.
    Node(fn(Call) -> Pending),
    /// A path with a collection.
    Collection(fn(Call, Collection) -> Pending),
    /// A path with a collection and a key.
    Document(fn(Call, Name) -> Pending),
    /// A path with the id of something in quarantine.
    Entry(fn(Call, QuarantineId) -> Pending),
    /// A path with the name of a peer.
    Peer(fn(Call, PeerName) -> Pending),
}

/// A handler of a path without names, for the table.
macro_rules! node {
    ($answer:path) => {
        $crate::http::route::Handler::Node(|call| Box::pin($answer(call)))
    };
}

/// A handler of a path with a collection, for the table.
macro_rules! collection {
    ($answer:path) => {
        $crate::http::route::Handler::Collection(|call, name| Box::pin($answer(call, name)))
    };
}

/// A handler of a path with a collection and a key, for the table.
macro_rules! document {
    ($answer:path) => {
        $crate::http::route::Handler::Document(|call, name| Box::pin($answer(call, name)))
    };
}

/// A handler of a path with the id of something in quarantine, for the table.
macro_rules! entry {
    ($answer:path) => {
        $crate::http::route::Handler::Entry(|call, id| Box::pin($answer(call, id)))
    };
}

/// A handler of a path with the name of a peer, for the table.
macro_rules! peer {
    ($answer:path) => {
        $crate::http::route::Handler::Peer(|call, name| Box::pin($answer(call, name)))
    };
}

pub(crate) use {collection, document, entry, node, peer};

/// One line of the table: verb, path, handler. GET answers HEAD too.
pub(crate) type Line = (&'static str, &'static str, Handler);

/// Most segments of a path that may be a route.
const SEGMENTS_MAX: usize = 8;

/// The table, read once.
#[derive(Debug)]
pub(crate) struct Table(Vec<Site>);

/// A path and its verbs.
#[derive(Debug)]
pub(crate) struct Site {
    /// Where it stands in the table.
    place: usize,
    path: &'static str,
    segments: Vec<Segment>,
    verbs: Vec<(&'static str, Handler)>,
    /// The value of `Allow`.
    allow: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment {
    Word(&'static str),
    Collection,
    Key,
    Id,
    Peer,
}

/// A path's site, and the names in it.
pub(crate) type Found<'a> = (&'static Site, Names<'a>);

/// The names in a path, still encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Names<'a> {
    collection: &'a str,
    key: &'a str,
    id: &'a str,
    peer: &'a str,
}

impl Table {
    /// The table of these lines. Lines of one path stand together.
    pub(crate) fn new(lines: &[Line]) -> Self {
        let mut sites: Vec<Site> = Vec::new();
        for &(verb, path, handler) in lines {
            match sites.last_mut().filter(|site| site.path == path) {
                Some(site) => site.verbs.push((verb, handler)),
                None => sites.push(Site::new(path, verb, handler)),
            }
        }
        for (place, site) in sites.iter_mut().enumerate() {
            site.place = place;
            site.allow = site.allowed();
        }
        Self(sites)
    }

    /// Every path, in the order of the table.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|site| site.path)
    }

    /// Answers a request for what was found at its path, or says why that cannot.
    pub(crate) async fn answer(call: Call, found: Option<Found<'_>>) -> Answer {
        let (site, names) = found.ok_or_else(no_route)?;
        let method = &call.head.method;
        if method == Method::OPTIONS {
            let mut response = reply::empty(StatusCode::NO_CONTENT);
            response.headers_mut().insert(header::ALLOW, reply::value(site.allow.clone()));
            return Ok(response);
        }
        let Some(handler) = site.handler(method) else {
            let detail = format!("this route takes {}", site.allow);
            return Err(Problem::new(Code::MethodNotAllowed, detail)
                .hint(header::ALLOW, site.allow.as_str()));
        };
        match handler {
            Handler::Node(answer) => answer(call),
            Handler::Collection(answer) => {
                let collection = parse(names.collection)?;
                answer(call, collection)
            }
            Handler::Document(answer) => {
                let name = Name::new(parse(names.collection)?, parse::<Key>(names.key)?)?;
                match Awaited::of(&call.head.headers)? {
                    None => answer(call, name),
                    Some(awaited) => Box::pin(awaited.then(call, name, answer)),
                }
            }
            Handler::Entry(answer) => {
                let id = names.id.parse().map_err(|_| no_route())?;
                answer(call, id)
            }
            Handler::Peer(answer) => {
                let name = parse(names.peer)?;
                answer(call, name)
            }
        }
        .await
    }

    /// What is at a path.
    pub(crate) fn find<'a>(&self, path: &'a str) -> Option<(&Site, Names<'a>)> {
        let mut segments = [""; SEGMENTS_MAX];
        let mut count = 0;
        for segment in path.strip_prefix('/')?.split('/') {
            *segments.get_mut(count)? = segment;
            count += 1;
        }
        let segments = segments.get(..count)?;
        self.0.iter().find_map(|site| Some((site, site.names(segments)?)))
    }
}

impl Site {
    fn new(path: &'static str, verb: &'static str, handler: Handler) -> Self {
        let segments = path.trim_start_matches('/').split('/').map(|segment| match segment {
            "{collection}" => Segment::Collection,
            "{key}" => Segment::Key,
            "{id}" => Segment::Id,
            "{peer}" => Segment::Peer,
            word => Segment::Word(word),
        });
        let segments = segments.collect();
        Self { place: 0, path, segments, verbs: vec![(verb, handler)], allow: String::new() }
    }

    /// Where it stands in the table.
    pub(crate) fn place(&self) -> usize {
        self.place
    }

    /// The path as the table has it.
    pub(crate) fn path(&self) -> &'static str {
        self.path
    }

    fn allowed(&self) -> String {
        let mut verbs: Vec<&str> = Vec::new();
        for (verb, _) in &self.verbs {
            verbs.push(verb);
            if *verb == "GET" {
                verbs.push("HEAD");
            }
        }
        verbs.push("OPTIONS");
        verbs.join(", ")
    }

    fn handler(&self, method: &Method) -> Option<Handler> {
        let verb = if method == Method::HEAD { "GET" } else { method.as_str() };
        self.verbs.iter().find(|(known, _)| *known == verb).map(|(_, handler)| *handler)
    }

    /// The names that the path holds, if it is one of this site's.
    ///
    /// An empty segment is no name, and a name that begins with `_` is the system's: where the
    /// table does not know it, there is no such route.
    fn names<'a>(&self, segments: &[&'a str]) -> Option<Names<'a>> {
        if segments.len() != self.segments.len() {
            return None;
        }
        let mut names = Names::default();
        for (expected, segment) in self.segments.iter().zip(segments) {
            let named = !segment.is_empty() && !segment.starts_with('_');
            match expected {
                Segment::Word(word) if word == segment => {}
                Segment::Collection if named => names.collection = segment,
                Segment::Key if named => names.key = segment,
                Segment::Id if named => names.id = segment,
                Segment::Peer if named => names.peer = segment,
                Segment::Word(_)
                | Segment::Collection
                | Segment::Key
                | Segment::Id
                | Segment::Peer => return None,
            }
        }
        Some(names)
    }
}

fn no_route() -> Problem {
    Problem::new(
        Code::NotFound,
        "nothing is at this path; a document is at `/v1/{collection}/{key}`",
    )
}

/// A name from its segment.
fn parse<T>(segment: &str) -> Result<T, Problem>
where
    T: FromStr,
    Problem: From<T::Err>,
{
    let refused = || Problem::new(Code::BadKey, "a name is UTF-8, percent-encoded");
    Ok(extract::percent_decode(segment.as_bytes()).ok_or_else(refused)?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Handler = Handler::Node(|_| Box::pin(async { Err(no_route()) }));

    fn table() -> Table {
        Table::new(&[
            ("GET", "/v1/{collection}/{key}", NONE),
            ("PUT", "/v1/{collection}/{key}", NONE),
            ("POST", "/v1/{collection}", NONE),
            ("GET", "/v1/_collections", NONE),
            ("GET", "/v1/{collection}/{key}/_conflicts", NONE),
            ("GET", "/v1", NONE),
        ])
    }

    #[test]
    fn a_path_has_one_route_or_none() {
        let table = table();
        for (path, found) in [
            ("/v1", Some(("/v1", "", ""))),
            ("/v1/notes", Some(("/v1/{collection}", "notes", ""))),
            ("/v1/_collections", Some(("/v1/_collections", "", ""))),
            ("/v1/notes/a", Some(("/v1/{collection}/{key}", "notes", "a"))),
            ("/v1/notes/a%2Fb", Some(("/v1/{collection}/{key}", "notes", "a%2Fb"))),
            ("/v1/notes/%5Fx", Some(("/v1/{collection}/{key}", "notes", "%5Fx"))),
            ("/v1/notes/.", Some(("/v1/{collection}/{key}", "notes", "."))),
            ("/v1/notes/a/_conflicts", Some(("/v1/{collection}/{key}/_conflicts", "notes", "a"))),
            ("", None),
            ("*", None),
            ("/", None),
            ("//", None),
            ("/v1/", None),
            ("//v1", None),
            ("/V1", None),
            ("/%76%31", None),
            ("/v1/notes/", None),
            ("/v1//a", None),
            ("/v1/notes/a/", None),
            ("/v1/notes//a", None),
            ("/v1/notes/a/b", None),
            ("/v1/_notes", None),
            ("/v1/_notes/a", None),
            ("/v1/notes/_a", None),
            ("/v1/notes/_a/_conflicts", None),
            ("/v1/notes/a/%5Fconflicts", None),
            ("/v1/_collections/", None),
            ("/a/b/c/d/e/f/g/h/i/j", None),
        ] {
            let site = table.find(path);
            let site = site.map(|(site, names)| (site.path, names.collection, names.key));
            assert_eq!(site, found, "{path}");
        }
    }

    #[test]
    fn a_site_allows_its_verbs_with_head_and_options() {
        let table = table();
        let (site, _) = table.find("/v1/notes/a").unwrap();
        assert_eq!(site.allow, "GET, HEAD, PUT, OPTIONS");
        let (site, _) = table.find("/v1/notes").unwrap();
        assert_eq!(site.allow, "POST, OPTIONS");
        assert!(site.handler(&Method::HEAD).is_none());
    }
}
