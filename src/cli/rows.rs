//! Text as rows: one a line, or the elements of one array, none of which is held longer than needed.

use std::io::{self, BufRead};

/// Longest row, which is as long as a node takes them by default.
pub(crate) const ROW_BYTES_MAX: usize = 8 << 20;

/// The rows of a text.
pub(crate) struct Rows<R> {
    text: R,
    shape: Shape,
    /// The line that is read, from 1.
    line: u64,
}

/// How a text holds rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Nothing was read yet.
    Unknown,
    Lines,
    /// An array, of which an element begins.
    Array,
    /// The array has ended, or there was nothing.
    End,
}

/// A row that was found, whole or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// The line on which it begins.
    pub(crate) line: u64,
    /// What is wrong with it, if it is not whole.
    pub(crate) fault: Option<&'static str>,
}

const TOO_LONG: &str = "longer than 8 MiB";
const BROKEN_STRING: &str = "a string goes on over the end of its line";
const MISSING: &str = "an element is missing before this comma or the end";

impl<R: BufRead> Rows<R> {
    pub(crate) fn new(text: R) -> Self {
        Self { text, shape: Shape::Unknown, line: 1 }
    }

    /// The next row: its bytes, without line feeds, take the place of what `row` holds.
    ///
    /// # Errors
    /// The text cannot be read on, or ends in the middle of its array. What was read of a row by then
    /// is none.
    pub(crate) fn next(&mut self, row: &mut Vec<u8>) -> io::Result<Option<Found>> {
        row.clear();
        if self.shape == Shape::Unknown {
            self.shape = match self.peek()? {
                Some(b'[') => {
                    self.text.consume(1);
                    if self.peek()? == Some(b']') {
                        self.text.consume(1);
                        Shape::End
                    } else {
                        Shape::Array
                    }
                }
                Some(_) => Shape::Lines,
                None => Shape::End,
            };
        }
        match self.shape {
            Shape::Unknown | Shape::End => self.end(),
            Shape::Lines => self.line(row),
            Shape::Array => self.element(row).map(Some),
        }
    }

    /// The next byte that is no space, which is not taken.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let bytes = self.text.fill_buf()?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let blank = bytes.iter().take_while(|byte| is_blank(**byte)).count();
            let next = bytes.get(blank).copied();
            self.line += bytes[..blank].iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
            self.text.consume(blank);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    fn line(&mut self, row: &mut Vec<u8>) -> io::Result<Option<Found>> {
        loop {
            row.clear();
            let line = self.line;
            let (mut length, mut ended) = (0, false);
            while !ended {
                let bytes = self.text.fill_buf()?;
                if bytes.is_empty() {
                    break;
                }
                let end = memchr::memchr(b'\n', bytes);
                let part = &bytes[..end.unwrap_or(bytes.len())];
                length += part.len();
                if length <= ROW_BYTES_MAX {
                    row.extend_from_slice(part);
                }
                ended = end.is_some();
                let taken = part.len() + usize::from(ended);
                self.text.consume(taken);
            }
            self.line += u64::from(ended);
            let fault = (ROW_BYTES_MAX < length).then_some(TOO_LONG);
            if fault.is_some() || !row.trim_ascii().is_empty() {
                // What ends it in files of other systems is no part of it.
                row.truncate(row.trim_ascii_end().len());
                return Ok(Some(Found { line, fault }));
            }
            if !ended {
                return Ok(None);
            }
        }
    }

    /// An element, up to the comma or bracket behind it, which is taken.
    fn element(&mut self, row: &mut Vec<u8>) -> io::Result<Found> {
        self.peek()?;
        let line = self.line;
        let mut scan = Scan::default();
        let mut length = 0;
        let closed = loop {
            let bytes = self.text.fill_buf()?;
            if bytes.is_empty() {
                let what = "ends in the middle of its array";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
            }
            let end = bytes.iter().position(|byte| scan.ends_at(*byte));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            length += part.len();
            if length <= ROW_BYTES_MAX {
                row.extend_from_slice(part);
            }
            let closed = end.map(|end| bytes[end] == b']');
            let taken = part.len() + usize::from(end.is_some());
            self.text.consume(taken);
            if let Some(closed) = closed {
                break closed;
            }
        };
        self.line += scan.lines;
        if closed {
            self.shape = Shape::End;
        }
        if 0 < scan.lines {
            // What holds a value in one line: outside of strings all blanks are the same.
            row.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        }
        row.truncate(row.trim_ascii_end().len());
        let fault = match () {
            () if ROW_BYTES_MAX < length => Some(TOO_LONG),
            () if scan.broken_string => Some(BROKEN_STRING),
            () if row.is_empty() => Some(MISSING),
            () => None,
        };
        Ok(Found { line, fault })
    }

    /// Behind the array nothing more may come.
    fn end(&mut self) -> io::Result<Option<Found>> {
        match self.peek()? {
            None => Ok(None),
            Some(_) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("line {}: something comes behind the array", self.line),
            )),
        }
    }
}

/// Where in an element a byte stands.
#[derive(Debug, Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Line feeds in it.
    lines: u64,
    /// A string holds a line feed, which JSON does not know.
    broken_string: bool,
}

impl Scan {
    /// Whether the element ends before this byte.
    fn ends_at(&mut self, byte: u8) -> bool {
        if byte == b'\n' {
            self.lines += 1;
            self.broken_string |= self.in_string;
        }
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b',' | b']' if self.depth == 0 => return true,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        false
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    type Row = (u64, Result<String, &'static str>);

    /// The rows of a text that comes in pieces of so many bytes, and whether it ended well.
    fn rows(text: &str, piece: usize) -> (Vec<Row>, bool) {
        let mut rows = Rows::new(BufReader::with_capacity(piece, text.as_bytes()));
        let (mut found, mut row) = (Vec::new(), Vec::new());
        loop {
            match rows.next(&mut row) {
                Ok(None) => return (found, true),
                Err(_) => return (found, false),
                Ok(Some(Found { line, fault })) => {
                    let text = String::from_utf8(row.clone()).unwrap();
                    found.push((line, fault.map_or(Ok(text), Err)));
                }
            }
        }
    }

    #[test]
    fn a_text_is_lines_or_the_elements_of_an_array() {
        let row = |line, text: &str| (line, Ok(text.to_owned()));
        for (text, expected, ends_well) in [
            ("", vec![], true),
            (" \n\n", vec![], true),
            ("{}", vec![row(1, "{}")], true),
            ("{}\r\n\n x \ny", vec![row(1, "{}"), row(3, " x"), row(4, "y")], true),
            ("\n\n{\"a\":[1]}\n", vec![row(3, "{\"a\":[1]}")], true),
            ("[]", vec![], true),
            (" [ \n ] \n", vec![], true),
            ("[1,2]", vec![row(1, "1"), row(1, "2")], true),
            (
                "[\n{\"a\":1},\n{\"b\":[2,\n3]} ]\n",
                vec![row(2, "{\"a\":1}"), row(3, "{\"b\":[2, 3]}")],
                true,
            ),
            (
                r#"[{"a":"]},\"["},"\\",3]"#,
                vec![row(1, r#"{"a":"]},\"["}"#), row(1, r#""\\""#), row(1, "3")],
                true,
            ),
            ("[1,,2]", vec![row(1, "1"), (1, Err(MISSING)), row(1, "2")], true),
            ("[1,\n]", vec![row(1, "1"), (2, Err(MISSING))], true),
            ("[\"a\nb\",1]", vec![(1, Err(BROKEN_STRING)), row(2, "1")], true),
            ("[1,2", vec![row(1, "1")], false),
            ("[", vec![], false),
            ("[1] 2", vec![row(1, "1")], false),
            ("[1]]", vec![row(1, "1")], false),
            ("[]1", vec![], false),
        ] {
            for piece in [1, 2, 3, 7, 1000] {
                let (found, ended_well) = rows(text, piece);
                assert_eq!((&found, ended_well), (&expected, ends_well), "{text:?} by {piece}");
            }
        }
    }

    #[test]
    fn a_row_that_is_too_long_is_passed_over() {
        let long = format!("\"{}\"", "x".repeat(ROW_BYTES_MAX));
        for text in [format!("1\n{long}\n2"), format!("[1\n,{long}\n,2]")] {
            let (found, ended_well) = rows(&text, 1 << 16);
            assert!(ended_well);
            let lengths: Vec<_> = found.iter().map(|(line, row)| (*line, row.is_ok())).collect();
            assert_eq!(lengths, [(1, true), (2, false), (3, true)]);
        }
    }
}
