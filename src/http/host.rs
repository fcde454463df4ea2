//! For whom a request is, and which page made it: `Host`, `Origin`, `Sec-Fetch-Site`.
//!
//! Whoever reaches the port reads and writes all, and a browser lets every page reach ports of its
//! own machine. These fields are what a page cannot forge (Fetch standard, "forbidden request-header"):
//!
//! - `Host` is the name that the page used. A stranger may let a name of his own point at 127.0.0.1
//!   (DNS rebinding); then the browser takes page and node for one origin, and only the name tells.
//! - `Origin` is the page's own origin; browsers send it with all but plain reads (Fetch standard,
//!   "append a request `Origin` header"). There is no CORS here: another origin is refused, before
//!   it could do more than ask (a preflight, too, is a request with `Origin`).
//! - `Sec-Fetch-Site` (Fetch Metadata) tells of the rest, such as an image whose source is a node.
//!   A link that somebody follows is no harm.
//!
//! Clients that are no browsers send none of these but `Host`.

use super::problem::{Code, Problem};
use axum::http::{HeaderMap, HeaderName, Method, Version, header, request::Parts};
use std::{
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The hosts that a node answers as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hosts {
    /// Whatever it is called.
    Any,
    /// Loopback by every name, and these.
    Only(Vec<Host>),
}

impl Default for Hosts {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl Hosts {
    /// The hosts of a node that listens on an address. Where other machines reach it, nobody knows
    /// by which names, unless there are some given.
    pub fn of(listen: IpAddr, named: Vec<Host>) -> Self {
        let open = named.is_empty() && !listen.to_canonical().is_loopback();
        if open { Self::Any } else { Self::Only(named) }
    }

    fn include(&self, host: &Host) -> bool {
        match self {
            Self::Any => true,
            Self::Only(named) => host.is_loopback() || named.contains(host),
        }
    }
}

/// A host as URLs name it, without its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// An IP address.
    Address(IpAddr),
    /// A name, in lower case and without the dot that may end it.
    Name(Box<str>),
}

/// A text that names no host.
#[derive(Debug, thiserror::Error)]
#[error("no name or address of a host, without a port")]
pub struct HostError;

impl Host {
    fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.to_canonical().is_loopback(),
            Self::Name(name) => &**name == "localhost" || name.ends_with(".localhost"),
        }
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            let address: Ipv6Addr = inner.parse().map_err(|_| HostError)?;
            return Ok(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || !name.bytes().all(is_of_name) {
            return Err(HostError);
        }
        Ok(name.parse().map_or_else(
            |_| Self::Name(name.to_ascii_lowercase().into()),
            |address| Self::Address(IpAddr::V4(address)),
        ))
    }
}

/// What names of hosts are made of: those of DNS, and the `_` of some networks. RFC 3986 knows
/// more, which nothing resolves.
const fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

/// A host and its port, as `Host` and URLs write them (RFC 3986, 3.2; never with a user).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority {
    host: Host,
    port: Option<u16>,
}

impl Authority {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (text, ""),
        };
        let port = match port {
            "" => None,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            _ => return None,
        };
        Some(Self { host: host.parse().ok()?, port })
    }

    /// Whether this is where a page of that origin came from.
    fn serves(&self, origin: &str) -> bool {
        let Some((scheme, rest)) = origin.split_once("://") else { return false };
        let default = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        let port = |of: &Self| of.port.unwrap_or(default);
        Self::parse(rest).is_some_and(|page| page.host == self.host && port(&page) == port(self))
    }
}

/// Refuses a request that is for another host, or that a page of another origin made.
pub(crate) fn check(head: &Parts, hosts: &Hosts) -> Result<(), Problem> {
    let target = target(head)?;
    if target.as_ref().is_some_and(|target| !hosts.include(&target.host)) {
        let detail = "this node does not answer as that host; its setting `hosts` may name it";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    if is_foreign(head, target.as_ref()) {
        let detail = "a web page of another origin made this request";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    Ok(())
}

/// For whom a request is; `None` if it is of HTTP/1.0 and does not say.
///
/// A target that names a host outweighs `Host` in HTTP/1.1, which must be there all the same (RFC
/// 9112, 3.2); in HTTP/2 the two may not differ (RFC 9113, 8.3.1).
fn target(head: &Parts) -> Result<Option<Authority>, Problem> {
    let refused = |detail| Problem::header(&header::HOST, detail);
    let parse = |text| Authority::parse(text).ok_or_else(|| refused("a host, and maybe a port"));
    let mut lines = head.headers.get_all(header::HOST).iter();
    let field = lines.next().map(|line| parse(line.to_str().unwrap_or_default())).transpose()?;
    if lines.next().is_some() {
        return Err(refused("at most one"));
    }
    let target = head.uri.authority().map(|target| parse(target.as_str())).transpose()?;
    let (multiplexed, old) = (head.version == Version::HTTP_2, head.version < Version::HTTP_11);
    match (target, field) {
        (Some(target), Some(field)) if multiplexed && target != field => {
            Err(refused("another than `:authority`"))
        }
        (Some(target), _) if multiplexed || old => Ok(Some(target)),
        (None, None) if old => Ok(None),
        (_, None) => Err(refused("has to be there")),
        (target, field) => Ok(target.or(field)),
    }
}

/// Whether a page made the request that did not come from its target.
fn is_foreign(head: &Parts, target: Option<&Authority>) -> bool {
    let mut origins = head.headers.get_all(header::ORIGIN).iter().peekable();
    if origins.peek().is_some() {
        // `null` is the origin of what has none to show, such as a page in a sandbox.
        let own = |origin| target.is_some_and(|target| target.serves(origin));
        return !origins.all(|origin| origin.to_str().is_ok_and(own));
    }
    let says = |name, value| says(&head.headers, &name, value);
    let elsewhere = says(SEC_FETCH_SITE, "cross-site") || says(SEC_FETCH_SITE, "same-site");
    let followed = says(SEC_FETCH_MODE, "navigate") && says(SEC_FETCH_DEST, "document");
    let reads = head.method == Method::GET || head.method == Method::HEAD;
    elsewhere && !(followed && reads)
}

fn says(headers: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    headers.get_all(name).iter().any(|line| line == value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn head(version: Version, line: &str, fields: &[(&str, &str)]) -> Parts {
        let (verb, target) = line.split_once(' ').unwrap();
        let mut request = Request::builder().version(version).method(verb).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn status(head: &Parts, hosts: &Hosts) -> u16 {
        check(head, hosts)
            .map_or_else(|problem| problem.into_response().status().as_u16(), |()| 200)
    }

    fn hosts(listen: &str, named: &[&str]) -> Hosts {
        let named = named.iter().map(|name| name.parse().unwrap());
        Hosts::of(listen.parse().unwrap(), named.collect())
    }

    #[test]
    fn a_node_on_loopback_answers_as_loopback_and_as_it_is_told() {
        let local = hosts("127.0.0.1", &[]);
        let proxied = hosts("::1", &["db.Example.com", "192.0.2.7", "[2001:DB8::7]"]);
        let reached = hosts("0.0.0.0", &[]);
        let strict = hosts("0.0.0.0", &["db.example.com"]);
        let every = [&local, &proxied, &reached, &strict];
        for (host, expected) in [
            ("localhost", [200; 4]),
            ("LocalHost.:7420", [200; 4]),
            ("a.b.localhost:1", [200; 4]),
            ("127.0.0.1", [200; 4]),
            ("127.255.255.254:65535", [200; 4]),
            ("127.0.0.1.", [200; 4]),
            ("[::1]", [200; 4]),
            ("[0:0:0:0:0:0:0:1]:7420", [200; 4]),
            ("[::ffff:127.0.0.1]:7420", [200; 4]),
            ("db.example.com", [403, 200, 200, 200]),
            ("DB.example.com.:443", [403, 200, 200, 200]),
            ("192.0.2.7:80", [403, 200, 200, 403]),
            ("[2001:db8:0::7]", [403, 200, 200, 403]),
            ("evil.example.com", [403, 403, 200, 403]),
            ("db.example.com.evil.com", [403, 403, 200, 403]),
            ("localhost.evil.com", [403, 403, 200, 403]),
            ("evillocalhost", [403, 403, 200, 403]),
            ("127.0.0.1.evil.com", [403, 403, 200, 403]),
            ("128.0.0.1", [403, 403, 200, 403]),
            ("127.1", [403, 403, 200, 403]),
            ("0x7f000001", [403, 403, 200, 403]),
            ("0.0.0.0", [403, 403, 200, 403]),
        ] {
            let head = head(Version::HTTP_11, "GET /livez", &[("host", host)]);
            assert_eq!(every.map(|hosts| status(&head, hosts)), expected, "{host}");
        }
    }

    #[test]
    fn what_names_no_host_is_refused_by_every_node() {
        for host in [
            "",
            ".",
            ":",
            ":80",
            "a:b",
            "a:65536",
            "a:1:2",
            "a:+1",
            "a b",
            "a/b",
            "a@localhost",
            "http://localhost",
            "localhost,localhost",
            "::1",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1%25lo]",
            "[127.0.0.1]",
            "[v1.x]",
            "[]",
            "ä",
        ] {
            for hosts in [hosts("127.0.0.1", &[]), hosts("0.0.0.0", &[])] {
                let head = head(Version::HTTP_11, "GET /livez", &[("host", host)]);
                assert_eq!(status(&head, &hosts), 400, "{host:?}");
            }
        }
        for name in ["a:80", "[::1]:80", "", "a b"] {
            assert!(name.parse::<Host>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn each_version_of_http_says_in_its_way_for_whom_a_request_is() {
        let (own, other) = (("host", "localhost:1"), ("host", "evil.com"));
        let to_own = "GET http://localhost:1/livez";
        let to_other = "GET http://evil.com/livez";
        for (version, line, fields, expected) in [
            (Version::HTTP_10, "GET /livez", &[][..], 200),
            (Version::HTTP_10, "GET /livez", &[other], 403),
            (Version::HTTP_10, "GET /livez", &[own, own], 400),
            (Version::HTTP_10, to_own, &[], 200),
            (Version::HTTP_11, "GET /livez", &[], 400),
            (Version::HTTP_11, "GET /livez", &[own], 200),
            (Version::HTTP_11, "GET /livez", &[own, own], 400),
            (Version::HTTP_11, "GET /livez", &[own, other], 400),
            (Version::HTTP_11, to_own, &[], 400),
            (Version::HTTP_11, to_own, &[other], 200),
            (Version::HTTP_11, to_other, &[own], 403),
            (Version::HTTP_11, "GET http://a@localhost/livez", &[own], 400),
            (Version::HTTP_2, "GET /livez", &[], 400),
            (Version::HTTP_2, "GET /livez", &[own], 200),
            (Version::HTTP_2, to_own, &[], 200),
            (Version::HTTP_2, to_own, &[("host", "LOCALHOST:1")], 200),
            (Version::HTTP_2, to_own, &[("host", "localhost:2")], 400),
            (Version::HTTP_2, to_own, &[other], 400),
            (Version::HTTP_2, to_other, &[], 403),
        ] {
            let head = head(version, line, fields);
            assert_eq!(status(&head, &Hosts::default()), expected, "{version:?} {line} {fields:?}");
        }
    }

    #[test]
    fn a_page_of_another_origin_is_refused_whatever_it_asks() {
        for (host, origin, expected) in [
            ("localhost:7420", "http://localhost:7420", 200),
            ("LOCALHOST:7420", "http://localhost:7420", 200),
            ("[::1]:7420", "http://[::1]:7420", 200),
            ("localhost", "http://localhost", 200),
            ("localhost:80", "http://localhost", 200),
            ("localhost:443", "https://localhost", 200),
            ("localhost", "https://localhost", 200),
            ("localhost:80", "https://localhost", 403),
            ("localhost:7420", "http://localhost", 403),
            ("localhost:7420", "http://localhost:3000", 403),
            ("localhost:7420", "http://127.0.0.1:7420", 403),
            ("localhost:7420", "http://evil.com", 403),
            ("localhost:7420", "http://evil.com:7420", 403),
            ("localhost:7420", "ftp://localhost:7420", 403),
            ("localhost:7420", "localhost:7420", 403),
            ("localhost:7420", "http://localhost:7420/", 403),
            ("localhost:7420", "http://localhost:7420 http://localhost:7420", 403),
            ("localhost:7420", "null", 403),
            ("localhost:7420", "", 403),
        ] {
            for verb in ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"] {
                let fields = [("host", host), ("origin", origin)];
                let head = head(Version::HTTP_11, &format!("{verb} /v1/notes/a"), &fields);
                assert_eq!(status(&head, &Hosts::default()), expected, "{verb} {fields:?}");
            }
        }
        let (own, other) = (("origin", "http://localhost"), ("origin", "http://evil.com"));
        let two = [("host", "localhost"), own, other];
        assert_eq!(status(&head(Version::HTTP_11, "GET /", &two), &Hosts::default()), 403);
        assert_eq!(status(&head(Version::HTTP_10, "GET /", &[own]), &Hosts::default()), 403);
    }

    #[test]
    fn what_a_page_loads_without_an_origin_is_refused_and_a_link_is_not() {
        for (verb, site, mode, dest, expected) in [
            ("GET", "none", "navigate", "document", 200),
            ("GET", "same-origin", "no-cors", "image", 200),
            ("GET", "cross-site", "navigate", "document", 200),
            ("HEAD", "same-site", "navigate", "document", 200),
            ("GET", "cross-site", "no-cors", "image", 403),
            ("GET", "same-site", "no-cors", "script", 403),
            ("GET", "cross-site", "navigate", "iframe", 403),
            ("GET", "cross-site", "", "", 403),
            ("POST", "cross-site", "navigate", "document", 403),
        ] {
            let fields = [
                ("host", "localhost"),
                ("sec-fetch-site", site),
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", dest),
            ];
            let head = head(Version::HTTP_11, &format!("{verb} /v1/notes/a"), &fields);
            assert_eq!(status(&head, &Hosts::default()), expected, "{verb} {fields:?}");
        }
    }
}
