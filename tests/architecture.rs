//! House rules that neither rustc nor clippy can hold: who may import whom, which room may name
//! which crate, and how long files and functions may grow.
//!
//! Files are read as token trees, so a rule sees into macros and braces and never into strings or
//! comments. Items under `#[cfg(test)]` may import and name what they like, and do not count in
//! lengths. Each rule is tested on a fault planted below.

#![expect(clippy::unwrap_used, reason = "a source tree that cannot be read stops the test")]

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use std::{collections::BTreeMap, fs, path::Path};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

struct Room {
    name: &'static str,
    /// Knows no disk, network, clock, randomness, logging or async.
    pure: bool,
    /// May be imported here; every one of them stands above in [`ROOMS`].
    imports: &'static [&'static str],
}

/// The table of the design, bottom up. The order makes the graph acyclic.
const ROOMS: &[Room] = &[
    Room { name: "ident", pure: true, imports: &[] },
    Room { name: "metric", pure: true, imports: &[] },
    Room { name: "doc", pure: true, imports: &["ident"] },
    Room { name: "sync", pure: true, imports: &["ident"] },
    Room { name: "automerge_repo", pure: true, imports: &["ident", "doc"] },
    Room { name: "store", pure: false, imports: &["ident", "metric"] },
    Room { name: "peer", pure: false, imports: &["ident", "sync", "metric"] },
    Room {
        name: "node",
        pure: false,
        imports: &["ident", "metric", "doc", "sync", "automerge_repo", "store", "peer"],
    },
    Room { name: "http", pure: false, imports: &["ident", "doc", "node", "metric"] },
    Room {
        name: "cli",
        pure: false,
        imports: &[
            "ident",
            "metric",
            "doc",
            "sync",
            "automerge_repo",
            "store",
            "peer",
            "node",
            "http",
        ],
    },
    Room { name: "main", pure: false, imports: &["cli"] },
    Room { name: "lib", pure: false, imports: &[] },
];

/// What may be named only in files that begin with one of the listed prefixes.
const CONFINED: &[(&str, &[&str])] = &[
    ("rocksdb", &["store/rocks.rs", "store/error.rs"]),
    ("axum", &["http/"]),
    ("automerge", &["doc/", "automerge_repo/"]),
    ("anyhow", &["cli/", "main.rs"]),
    ("rand", &["node/ambient.rs"]),
    ("getrandom", &["node/ambient.rs"]),
    ("fastrand", &["node/ambient.rs"]),
    ("std::time::Instant::now", &["node/ambient.rs"]),
    ("std::time::SystemTime::now", &["node/ambient.rs"]),
    ("uuid::Uuid::new_v", &["node/ambient.rs"]),
    ("uuid::Uuid::now_v", &["node/ambient.rs"]),
];

/// What no pure room names.
const IMPURE: &[&str] = &[
    "tokio",
    "tracing",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Imports that would hide what they bring in.
const OPAQUE: &[&str] = &["std", "std::*", "std::time", "std::time::*"];

const NAMELESS: &[&str] =
    &["common", "helper", "helpers", "manager", "misc", "shared", "types", "util", "utils"];
const BANNED_MACROS: &[&str] = &["dbg", "todo", "unimplemented"];
const BANNED_WORDS: &[&str] = &["FIXME", "TODO", "XXX"];

/// Files, or functions as `file::name`, that are longer than the rule; each with its reason.
const LONG: &[(&str, &str)] = &[];

#[test]
fn the_house_is_in_order() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let mut report = Report::default();
    for path in &files {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        check(&name, &fs::read_to_string(path).unwrap(), LONG, &mut report);
    }
    for (name, _) in LONG {
        if !report.exceptions.iter().any(|used| used == name) {
            report.faults.push(format!("{name}: is not long any more; take it off the list"));
        }
    }
    assert!(report.faults.is_empty(), "\n{}\n", report.faults.join("\n"));
}

#[test]
fn rooms_import_only_rooms_that_stand_above_them_in_the_table() {
    for (index, room) in ROOMS.iter().enumerate() {
        for import in room.imports {
            let found = ROOMS[..index].iter().find(|below| below.name == *import);
            let found = found.unwrap_or_else(|| panic!("{} lists {import}", room.name));
            assert!(found.pure || !room.pure, "{}, a pure room, lists {import}", room.name);
        }
    }
}

#[derive(Default)]
struct Report {
    faults: Vec<String>,
    /// The entries of [`LONG`] that were needed.
    exceptions: Vec<String>,
}

fn collect(dir: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // A room's folder of tests is `#[cfg(test)]` as a whole.
        if path.is_dir() && path.file_name().is_some_and(|name| name == "tests") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn check(name: &str, text: &str, long: &[(&str, &str)], report: &mut Report) {
    let mut fault = |line: usize, what: String| {
        let at = if line == 0 { name.to_owned() } else { format!("{name}:{line}") };
        report.faults.push(format!("{at}: {what}"));
    };
    for (line, what) in text_faults(name, text) {
        fault(line, what);
    }
    let Some(room) = ROOMS.iter().find(|room| room.name == module_of(name)[0]) else {
        return fault(0, "this room is not in the table".to_owned());
    };
    let Ok(stream) = text.parse::<TokenStream>() else {
        return fault(0, "is not Rust".to_owned());
    };
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);

    for (line, what) in attribute_faults(&tokens).into_iter().chain(macro_faults(&tokens)) {
        fault(line, what);
    }
    let all_paths = paths(&tokens, &module_of(name));
    for (line, what) in super_and_glob_faults(&all_paths) {
        fault(line, what);
    }
    let test_lines = remove_tests(&mut tokens);
    for (line, what) in path_faults(name, room, &paths(&tokens, &module_of(name))) {
        fault(line, what);
    }
    let mut lengths = vec![(name.to_owned(), text.lines().count() - test_lines, FILE_LINES_MAX)];
    for (function, lines) in functions(&tokens) {
        lengths.push((format!("{name}::{function}"), lines, FUNCTION_LINES_MAX));
    }
    for (what, lines, lines_max) in lengths.into_iter().filter(|(_, lines, max)| max < lines) {
        if long.iter().any(|(known, _)| *known == what) {
            report.exceptions.push(what);
        } else {
            report.faults.push(format!("{what} has {lines} lines, at most {lines_max}"));
        }
    }
}

fn text_faults(name: &str, text: &str) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    let header = text.lines().next().and_then(|first| first.strip_prefix("//! "));
    if header.is_none_or(|header| header.trim().is_empty()) {
        faults.push((0, "wants a one-line `//!` header first".to_owned()));
    }
    for part in name.trim_end_matches(".rs").split('/').filter(|part| NAMELESS.contains(part)) {
        faults.push((0, format!("`{part}` says nothing; name the thing")));
    }
    for (index, line) in text.lines().enumerate() {
        for word in BANNED_WORDS.iter().filter(|word| line.contains(*word)) {
            faults.push((index + 1, format!("{word} is banned")));
        }
    }
    faults
}

/// The module path of a file, its room first.
fn module_of(name: &str) -> Vec<String> {
    let path = name.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

// ---- tokens ----

struct Token {
    /// A word, a punctuation character, `::`, a bracket, or nothing for a literal.
    text: String,
    line: usize,
    /// Of an opening bracket: the index of its closing one.
    close: usize,
}

fn flatten(stream: TokenStream, out: &mut Vec<Token>) {
    let mut joint_colon = false;
    for tree in stream {
        let line = tree.span().start().line;
        let token = |text: String| Token { text, line, close: 0 };
        match tree {
            TokenTree::Ident(ident) => out.push(token(ident.to_string())),
            TokenTree::Literal(_) => out.push(token(String::new())),
            TokenTree::Punct(punct) if joint_colon && punct.as_char() == ':' => {
                out.last_mut().unwrap().text.push(':');
                joint_colon = false;
                continue;
            }
            TokenTree::Punct(punct) => {
                out.push(token(punct.as_char().to_string()));
                joint_colon = punct.as_char() == ':' && punct.spacing() == Spacing::Joint;
                continue;
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Parenthesis | Delimiter::None => ("(", ")"),
                };
                let opening = out.len();
                out.push(token(open.to_owned()));
                flatten(group.stream(), out);
                out[opening].close = out.len();
                let line = group.span_close().end().line;
                out.push(Token { text: close.to_owned(), line, close: 0 });
            }
        }
        joint_colon = false;
    }
}

fn text(tokens: &[Token], index: usize) -> &str {
    tokens.get(index).map_or("", |token| &token.text)
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The index after the item that begins at `index`: after its `;`, or after its braces.
fn item_end(tokens: &[Token], mut index: usize) -> usize {
    while index < tokens.len() {
        match text(tokens, index) {
            ";" => return index + 1,
            "{" => return tokens[index].close + 1,
            "(" | "[" => index = tokens[index].close + 1,
            _ => index += 1,
        }
    }
    index
}

/// Takes `#[cfg(test)]` items out; the number of lines that they had.
fn remove_tests(tokens: &mut [Token]) -> usize {
    let mut ranges = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let words: Vec<&str> = (index..index + 6).map(|at| text(tokens, at)).collect();
        if words == ["#", "[", "cfg", "(", "test", ")"] {
            let end = item_end(tokens, tokens[index + 1].close + 1);
            ranges.push(index..end);
            index = end;
        } else {
            index += 1;
        }
    }
    let lines =
        |range: &std::ops::Range<usize>| tokens[range.end - 1].line - tokens[range.start].line + 1;
    let removed = ranges.iter().map(lines).sum();
    // Emptied and not removed, because brackets know their partner by index.
    for range in ranges {
        tokens[range].iter_mut().for_each(|token| token.text.clear());
    }
    removed
}

// ---- paths ----

struct NamedPath {
    line: usize,
    /// As written, braces multiplied out, the first word replaced by what a `use` says it is.
    segments: Vec<String>,
    /// Where it leads in this crate, from its root; `None` for a path into another crate.
    inside: Option<Vec<String>>,
    /// How often it says `super`.
    supers: usize,
    /// A `super` that leaves the room of its file.
    leaves: bool,
    /// Said by `pub use`.
    public: bool,
}

/// Every path in a file, in `use` and elsewhere.
fn paths(tokens: &[Token], file: &[String]) -> Vec<NamedPath> {
    let mut raw: Vec<(usize, Vec<String>, Vec<String>, bool)> = Vec::new();
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut modules: Vec<(String, usize)> = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        modules.retain(|(_, close)| index < *close);
        let module = || file.iter().cloned().chain(modules.iter().map(|it| it.0.clone()));
        if text(tokens, index) == "mod" && text(tokens, index + 2) == "{" {
            modules.push((text(tokens, index + 1).to_owned(), tokens[index + 2].close));
            index += 3;
        } else if text(tokens, index) == "use" && text(tokens, index + 1) != "<" {
            let public =
                index.checked_sub(1).is_some_and(|at| ["pub", ")"].contains(&text(tokens, at)));
            let mut leaves = Vec::new();
            let first = index + 1 + usize::from(text(tokens, index + 1) == "::");
            index = expand(tokens, first, &[], &mut leaves);
            for (line, path, name) in leaves {
                names.insert(name, path.clone());
                raw.push((line, path, module().collect(), public));
            }
        } else if begins_path(tokens, index) {
            let mut leaves = Vec::new();
            let line = tokens[index].line;
            index = expand(tokens, index, &[], &mut leaves);
            raw.extend(
                leaves.into_iter().map(|(_, path, _)| (line, path, module().collect(), false)),
            );
        } else {
            index += 1;
        }
    }
    raw.into_iter()
        .map(|(line, path, module, public)| resolve(line, path, module, public, &names))
        .collect()
}

fn begins_path(tokens: &[Token], index: usize) -> bool {
    let before = index.checked_sub(1).map_or("", |at| text(tokens, at));
    let after_crate = before == "crate" && 1 < index && text(tokens, index - 2) == "extern";
    is_word(text(tokens, index))
        && before != "::"
        && (text(tokens, index + 1) == "::" || after_crate)
}

/// Multiplies out the path that begins at `index`: its paths, each with the name that it brings.
/// Gives the index after it.
fn expand(
    tokens: &[Token],
    mut index: usize,
    prefix: &[String],
    out: &mut Vec<(usize, Vec<String>, String)>,
) -> usize {
    let mut path = prefix.to_vec();
    let line = tokens.get(index).map_or(0, |token| token.line);
    loop {
        match text(tokens, index) {
            "{" => {
                let close = tokens[index].close;
                index += 1;
                while index < close {
                    index = expand(tokens, index, &path, out).max(index + 1);
                }
                return close + 1;
            }
            "self" if !prefix.is_empty() => {}
            word if is_word(word) || word == "*" => path.push(word.to_owned()),
            _ => return index,
        }
        index += 1;
        if text(tokens, index) != "::" {
            break;
        }
        index += 1;
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if text(tokens, index) == "as" {
        name = text(tokens, index + 1).to_owned();
        index += 2;
    }
    out.push((line, path, name));
    index
}

fn resolve(
    line: usize,
    written: Vec<String>,
    mut module: Vec<String>,
    public: bool,
    names: &BTreeMap<String, Vec<String>>,
) -> NamedPath {
    let supers = written.iter().take_while(|word| *word == "super").count();
    let mut segments = written;
    // One step: an imported name stands for its path.
    if let Some(path) = names.get(&segments[0]).filter(|path| path[0] != segments[0]) {
        segments.splice(0..1, path.iter().cloned());
    }
    let mut leaves = false;
    let inside = match segments[0].as_str() {
        "crate" => Some(segments[1..].to_vec()),
        "self" => Some(module.iter().chain(&segments[1..]).cloned().collect()),
        "super" => {
            let ups = segments.iter().take_while(|word| *word == "super").count();
            leaves = module.len() <= ups;
            module.truncate(module.len().saturating_sub(ups));
            Some(module.iter().chain(&segments[ups..]).cloned().collect())
        }
        "tombolo" => Some(segments[1..].to_vec()),
        _ => None,
    };
    NamedPath { line, segments, inside, supers, leaves, public }
}

fn super_and_glob_faults(paths: &[NamedPath]) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    for path in paths {
        if 1 < path.supers {
            faults.push((path.line, "`super::super` is banned".to_owned()));
        } else if path.leaves {
            faults.push((path.line, "`super` leaves its room; say `crate::`".to_owned()));
        }
        if path.public && path.segments.last().is_some_and(|last| last == "*") {
            faults.push((path.line, "a glob is re-exported; name the items".to_owned()));
        }
    }
    faults
}

fn path_faults(file: &str, room: &Room, paths: &[NamedPath]) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    for path in paths {
        let written = path.segments.join("::");
        if let Some(inside) = &path.inside {
            if let Some(what) = import_fault(room, inside) {
                faults.push((path.line, what));
            }
            continue;
        }
        for (name, homes) in CONFINED {
            if covers(name, &written) && !homes.iter().any(|home| file.starts_with(home)) {
                faults.push((path.line, format!("{name} is confined to {}", homes.join(", "))));
            }
        }
        if room.pure && IMPURE.iter().any(|name| covers(name, &written)) {
            faults.push((path.line, format!("{} is pure and may not name {written}", room.name)));
        }
        if OPAQUE.contains(&written.as_str()) {
            faults.push((path.line, format!("{written} hides what it brings in; name the items")));
        }
    }
    faults
}

/// Whether a rule for `name` speaks of `path`: a prefix that ends where a segment ends, or in a
/// version number such as `new_v4`.
fn covers(name: &str, path: &str) -> bool {
    let Some(rest) = path.strip_prefix(name) else { return false };
    rest.is_empty() || rest.starts_with("::") || name.ends_with("_v")
}

fn import_fault(room: &Room, inside: &[String]) -> Option<String> {
    let target = inside.first()?;
    if target == room.name || room.imports.contains(&target.as_str()) {
        return None;
    }
    if room.name == "lib" && ROOMS.iter().any(|known| known.name == target) {
        return None;
    }
    Some(format!("{} may not import {target}", room.name))
}

// ---- attributes, macros, functions ----

fn attribute_faults(tokens: &[Token]) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let bang = usize::from(text(tokens, index + 1) == "!");
        let open = index + 1 + bang;
        if token.text != "#" || text(tokens, open) != "[" {
            continue;
        }
        let words = &tokens[open + 1..tokens[open].close];
        let calls =
            |name: &str| words.windows(2).any(|pair| pair[0].text == name && pair[1].text == "(");
        if calls("allow") {
            faults.push((token.line, "`allow` is banned; `expect` with a reason".to_owned()));
        }
        if calls("expect") && !words.iter().any(|word| word.text == "reason") {
            faults.push((token.line, "`expect` wants a reason".to_owned()));
        }
    }
    faults
}

fn macro_faults(tokens: &[Token]) -> Vec<(usize, String)> {
    let called = tokens.windows(2).filter(|pair| pair[1].text == "!");
    let banned = called.filter(|pair| BANNED_MACROS.contains(&pair[0].text.as_str()));
    banned.map(|pair| (pair[0].line, format!("{}! is banned", pair[0].text))).collect()
}

/// Functions with a body: name and lines, the signature among them.
fn functions(tokens: &[Token]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let name = text(tokens, index + 1);
        if token.text == "fn" && is_word(name) {
            let last = item_end(tokens, index) - 1;
            found.push((name.to_owned(), tokens[last].line - token.line + 1));
        }
    }
    found
}

// ---- the rules, tested ----

#[test]
fn every_rule_catches_its_fault() {
    let long_file = format!("//! x\n{}", "// y\n".repeat(FILE_LINES_MAX));
    let long_function = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(FUNCTION_LINES_MAX));
    let faults = [
        ("doc/a.rs", "use std::fmt;\n", "header"),
        ("doc/a.rs", "//! \nuse std::fmt;\n", "header"),
        ("doc/a.rs", "/// x\nuse std::fmt;\n", "header"),
        ("doc/a.rs", "//! x\nfn f( {\n", "not Rust"),
        ("doc/utils.rs", "//! x\n", "says nothing"),
        ("http/helper/a.rs", "//! x\n", "says nothing"),
        ("attic/a.rs", "//! x\n", "not in the table"),
        // Imports.
        ("doc/a.rs", "//! x\nuse crate::store::Store;\n", "doc may not import store"),
        ("doc/a.rs", "//! x\nuse crate::{ident::Key, node::{Node, Row}};\n", "may not import node"),
        ("doc/a.rs", "//! x\nfn f() { crate::node::run() }\n", "may not import node"),
        ("doc/a.rs", "//! x\nfn f() { select! { _ = crate::node::run() => 1 } }\n", "import node"),
        ("doc/a.rs", "//! x\nmacro_rules! m { () => { $crate::http::f() } }\n", "import http"),
        ("doc/a.rs", "//! x\npub use crate::node;\n", "may not import node"),
        ("doc/a.rs", "//! x\nuse crate::*;\n", "may not import *"),
        ("ident.rs", "//! x\nuse crate::doc::Value;\n", "ident may not import doc"),
        ("sync/a.rs", "//! x\nuse crate::doc::Value;\n", "sync may not import doc"),
        ("http/a.rs", "//! x\nuse crate::store::Store;\n", "http may not import store"),
        ("node/a.rs", "//! x\nuse crate::http::serve;\n", "node may not import http"),
        ("main.rs", "//! x\nfn main() { tombolo::node::run() }\n", "main may not import node"),
        // `super` that leaves its room, also where the direction would be allowed.
        ("node/mod.rs", "//! x\nuse super::doc::Value;\n", "leaves its room"),
        ("peer.rs", "//! x\nuse super::metric::Count;\n", "leaves its room"),
        ("node/a.rs", "//! x\nuse super::super::doc::Value;\n", "super::super"),
        ("doc/a.rs", "//! x\nmod b { use super::super::c; }\n", "super::super"),
        // Confinement.
        ("http/a.rs", "//! x\nuse rocksdb::DB;\n", "rocksdb is confined"),
        ("store/a.rs", "//! x\nuse rocksdb as r;\n", "rocksdb is confined"),
        ("store/a.rs", "//! x\nextern crate rocksdb;\n", "rocksdb is confined"),
        ("node/a.rs", "//! x\nuse ::axum::{Router, body::Body};\n", "axum is confined"),
        ("store/a.rs", "//! x\nfn f(_: automerge::Change) {}\n", "automerge is confined"),
        ("node/a.rs", "//! x\nfn f() -> anyhow::Result<()> { Ok(()) }\n", "anyhow is confined"),
        ("node/a.rs", "//! x\nfn f() { fastrand::u8(..); }\n", "fastrand is confined"),
        ("node/a.rs", "//! x\nfn f() { rand::random() }\n", "rand is confined"),
        ("node/a.rs", "//! x\nfn f() { getrandom::fill(b) }\n", "getrandom is confined"),
        (
            "store/a.rs",
            "//! x\nfn f() { std::time::Instant::now(); }\n",
            "Instant::now is confined",
        ),
        (
            "store/a.rs",
            "//! x\nuse std::time::Instant as I;\nfn f() { I::now(); }\n",
            "Instant::now",
        ),
        (
            "http/a.rs",
            "//! x\nuse std::time::SystemTime;\nfn f() { SystemTime::now(); }\n",
            "now is",
        ),
        ("http/a.rs", "//! x\nuse uuid::Uuid;\nfn f() { Uuid::now_v7(); }\n", "now_v is confined"),
        ("http/a.rs", "//! x\nfn f() { uuid::Uuid::new_v4(); }\n", "new_v is confined"),
        ("http/a.rs", "//! x\nuse std::time;\n", "hides what it brings in"),
        ("http/a.rs", "//! x\nuse std::time::*;\n", "hides what it brings in"),
        // Purity.
        ("sync/a.rs", "//! x\nuse tokio::sync::mpsc;\n", "sync is pure"),
        ("doc/a.rs", "//! x\nfn f() { tracing::warn!(1); }\n", "doc is pure"),
        ("doc/a.rs", "//! x\nuse std::{fmt, fs::{self, File}};\n", "may not name std::fs"),
        ("metric.rs", "//! x\nuse std::time::{Duration, Instant};\n", "std::time::Instant"),
        ("ident.rs", "//! x\nfn f() { std::env::var(x); }\n", "std::env::var"),
        ("automerge_repo/a.rs", "//! x\nuse std::net::IpAddr;\n", "std::net::IpAddr"),
        ("doc/a.rs", "//! x\nuse std::thread;\n", "std::thread"),
        // Text.
        ("node/a.rs", "//! x\nfn f() { dbg!(1); }\n", "dbg! is banned"),
        ("node/a.rs", "//! x\nfn f() { todo!() }\n", "todo! is banned"),
        ("node/a.rs", "//! x\nfn f() { unimplemented!() }\n", "unimplemented! is banned"),
        ("node/a.rs", "//! x\n// FIXME\n", "FIXME is banned"),
        ("node/a.rs", "//! x\n// TODO: later\n", "TODO is banned"),
        ("node/a.rs", "//! x\n#[allow(unused)]\nfn f() {}\n", "`allow` is banned"),
        ("node/a.rs", "//! x\n#![allow(unused)]\n", "`allow` is banned"),
        ("node/a.rs", "//! x\n#[cfg_attr(test, allow(unused))]\nfn f() {}\n", "`allow` is banned"),
        ("node/a.rs", "//! x\n#[expect(unused)]\nfn f() {}\n", "wants a reason"),
        ("node/mod.rs", "//! x\nmod a;\npub use a::*;\n", "glob is re-exported"),
        ("node/mod.rs", "//! x\npub(crate) use self::a::{B, c::*};\n", "glob is re-exported"),
        // Sizes.
        ("node/a.rs", &long_file, "node/a.rs has 601 lines"),
        ("node/a.rs", &format!("//! x\n{long_function}"), "node/a.rs::f has 72 lines"),
        ("node/a.rs", &format!("//! x\nmod b {{\n{long_function}}}\n"), "::f has 72 lines"),
    ];
    for (name, text, expected) in faults {
        let mut report = Report::default();
        check(name, text, &[], &mut report);
        assert!(!report.faults.is_empty(), "not caught in {name}:\n{text}");
        for fault in report.faults {
            assert!(fault.contains(expected), "{name}: {fault}\n{text}");
        }
    }
}

#[test]
fn no_rule_finds_fault_with_these() {
    let long_tests = format!(
        "//! x\n#[cfg(test)]\nmod tests {{\n    use super::*;\n    fn f() {{\n{}}}\n}}\n",
        "    g();\n".repeat(FILE_LINES_MAX)
    );
    let innocent = [
        ("doc/a.rs", "//! x\nuse super::{Value, b::C};\nuse crate::{doc::D, ident::Key};\n"),
        ("doc/b/a.rs", "//! x\nmod c { use super::d; }\nuse self::c::e;\n"),
        ("doc/a.rs", "//! x\nuse std::time::Duration;\nuse automerge::Automerge;\n"),
        ("store/rocks.rs", "//! x\nuse rocksdb::DB;\n"),
        ("node/ambient.rs", "//! x\nfn f() { std::time::Instant::now(); uuid::Uuid::new_v4(); }\n"),
        ("node/a.rs", "//! x\nuse tokio::time::Instant;\nfn f() { Instant::now(); }\n"),
        ("doc/a.rs", "//! x\n//! `use crate::store`, todo!()\nconst A: &str = \"tokio::spawn\";\n"),
        ("doc/a.rs", "//! x\nuse super::brand::rand_free;\nfn f() { axumatic::g() }\n"),
        (
            "doc/a.rs",
            "//! x\n#[cfg(test)]\nmod tests {\n    use std::fs;\n    use tokio::spawn;\n}\n",
        ),
        ("doc/a.rs", "//! x\n#[cfg(test)]\nuse crate::store::Store;\n"),
        ("node/a.rs", "//! x\n#[expect(unused, reason = \"y\")]\nfn f() { g.expect(1) }\n"),
        ("main.rs", "//! x\nfn main() -> anyhow::Result<()> { tombolo::cli::run() }\n"),
        ("lib.rs", "//! x\npub mod doc;\npub use crate::doc::Value;\n"),
        ("doc/a.rs", &long_tests),
    ];
    for (name, text) in innocent {
        let mut report = Report::default();
        check(name, text, &[], &mut report);
        assert!(report.faults.is_empty(), "{:?}\n{text}", report.faults);
    }
}

#[test]
fn a_named_exception_may_be_long() {
    let text = format!("//! x\n{}", "// y\n".repeat(FILE_LINES_MAX));
    let mut report = Report::default();
    check("node/a.rs", &text, &[("node/a.rs", "a table")], &mut report);
    assert!(report.faults.is_empty());
    assert_eq!(report.exceptions, ["node/a.rs"]);
}
