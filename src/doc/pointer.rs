//! JSON Pointers (RFC 6901).

use super::{Refusal, RefusalKind};
use std::{fmt, str::FromStr};

/// The way to a place in a value: keys and indices from the root, unescaped.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer(pub Vec<String>);

impl Pointer {
    /// Whether this place holds the other one somewhere inside.
    pub fn is_above(&self, other: &Self) -> bool {
        self.0.len() < other.0.len() && other.0.starts_with(&self.0)
    }
}

/// The way to the place that a walk is at.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// One step of each open container; the last one is of the innermost.
    steps: Vec<String>,
}

impl Trail {
    /// Into a container.
    pub(super) fn enter(&mut self) {
        self.steps.push(String::new());
    }

    /// To another place of the innermost container.
    pub(super) fn step(&mut self, step: String) {
        if let Some(last) = self.steps.last_mut() {
            *last = step;
        }
    }

    /// Out of the innermost container.
    pub(super) fn leave(&mut self) {
        self.steps.pop();
    }

    /// Whether this place is `other`, or inside of it.
    pub(super) fn is_within(&self, other: &Pointer) -> bool {
        self.steps.starts_with(&other.0)
    }
}

impl fmt::Display for Trail {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(&self.steps, out)
    }
}

/// A token as the index of a list element: decimal digits without leading zeros.
///
/// `None` for anything else, also for `-`, which names the place after the last element.
pub fn list_index(token: &str) -> Option<usize> {
    let digits = token.bytes().all(|byte| byte.is_ascii_digit());
    let padded = 1 < token.len() && token.starts_with('0');
    if digits && !padded { token.parse().ok() } else { None }
}

impl FromStr for Pointer {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Some(tokens) = text.strip_prefix('/') else {
            return Err(Refusal::new(
                RefusalKind::BadPatch,
                "malformed pointer: it is empty or begins with `/`",
            ));
        };
        tokens.split('/').map(unescape).collect::<Result<_, _>>().map(Self)
    }
}

fn unescape(token: &str) -> Result<String, Refusal> {
    let mut parts = token.split('~');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (c, rest) = match part.as_bytes().first() {
            Some(b'0') => ('~', &part[1..]),
            Some(b'1') => ('/', &part[1..]),
            _ => {
                return Err(Refusal::new(
                    RefusalKind::BadPatch,
                    "malformed pointer: `~` is written `~0`, and `/` in a key `~1`",
                ));
            }
        };
        plain.push(c);
        plain.push_str(rest);
    }
    Ok(plain)
}

impl fmt::Display for Pointer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(&self.0, out)
    }
}

fn print(tokens: &[String], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    for token in tokens {
        write!(out, "/{}", token.replace('~', "~0").replace('/', "~1"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Pointer, list_index};

    #[test]
    fn the_examples_of_rfc_6901_are_read_and_printed() {
        let examples: [(&str, &[&str]); 12] = [
            ("", &[]),
            ("/foo", &["foo"]),
            ("/foo/0", &["foo", "0"]),
            ("/", &[""]),
            ("/a~1b", &["a/b"]),
            ("/c%d", &["c%d"]),
            ("/e^f", &["e^f"]),
            ("/g|h", &["g|h"]),
            ("/i\\j", &["i\\j"]),
            ("/k\"l", &["k\"l"]),
            ("/ ", &[" "]),
            ("/m~0n~01", &["m~n~1"]),
        ];
        for (text, tokens) in examples {
            let pointer: Pointer = text.parse().unwrap();
            assert_eq!(pointer.0, tokens);
            assert_eq!(pointer.to_string(), text);
        }
    }

    #[test]
    fn malformed_pointers_are_refused() {
        for text in ["a", "a/b", "#/a", "/~", "/a~", "/~2", "/a/~b", "/~~0"] {
            let refusal = text.parse::<Pointer>().unwrap_err();
            assert!(refusal.detail.starts_with("malformed pointer"), "{text}: {refusal}");
        }
    }

    #[test]
    fn an_index_has_no_sign_no_space_and_no_leading_zero() {
        assert_eq!(list_index("0"), Some(0));
        assert_eq!(list_index("10"), Some(10));
        for token in ["", "-", "-0", "+1", "00", "01", " 1", "1 ", "1e0", "1.0", "\u{0661}"] {
            assert_eq!(list_index(token), None, "{token}");
        }
        assert_eq!(list_index("99999999999999999999999999"), None);
    }

    #[test]
    fn a_place_is_above_what_it_holds_and_not_above_itself() {
        let pointer = |text: &str| text.parse::<Pointer>().unwrap();
        assert!(pointer("/a").is_above(&pointer("/a/b")));
        assert!(pointer("").is_above(&pointer("/a")));
        assert!(!pointer("/a").is_above(&pointer("/a")));
        assert!(!pointer("/a").is_above(&pointer("/ab")));
        assert!(!pointer("/a/b").is_above(&pointer("/a")));
    }
}
