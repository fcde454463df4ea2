//! The README: every command in it is run, in order, and says what the README says that it says.

use super::process::signal;
use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    net::TcpListener,
    os::unix::{fs::symlink, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
};

/// Where the README's node listens.
const README_URL: &str = "http://127.0.0.1:7420";
/// What begins a line of output.
const OUTPUT: &str = "#=> ";
/// Anything, within a line of output.
const ANYTHING: char = '…';
/// What separates the outputs of commands; no command prints it.
const MARK: char = '\u{1e}';
/// Ends the line, if one is open, and prints the mark.
const PRINT_MARK: &str = "printf '\\n\\036'\n";

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// A fenced block.
#[derive(Debug, PartialEq)]
struct Block<'a> {
    language: &'a str,
    /// The last line before it that is not blank.
    before: &'a str,
    /// The number and text of each of its lines.
    lines: Vec<(usize, &'a str)>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let (mut open, mut before) = (None, "");
    for (number, line) in (1..).zip(text.lines()) {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some(Block { language, before, lines: Vec::new() }),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.lines.push((number, line)),
            (None, None) if line.is_empty() => {}
            (None, None) => before = line,
        }
    }
    assert!(open.is_none(), "the last block has no end");
    blocks
}

/// What the README says that comes out, and the line at which it says so.
#[derive(Debug, PartialEq)]
struct Said<'a> {
    line: usize,
    output: Vec<&'a str>,
}

/// The commands of blocks as one script, which prints a mark wherever the README says what came
/// out, and at the end of each block: what comes out and is not shown is found there.
fn script<'a>(blocks: &[&Block<'a>]) -> (String, Vec<Said<'a>>) {
    let (mut script, mut said) = (String::new(), Vec::new());
    for block in blocks {
        let mut output = Vec::new();
        for (index, (line, text)) in block.lines.iter().enumerate() {
            match text.strip_prefix(OUTPUT) {
                Some(shown) => output.push(shown),
                None => writeln!(script, "{text}").unwrap(),
            }
            let next = block.lines.get(index + 1);
            if next.is_none_or(|(_, next)| !output.is_empty() && !next.starts_with(OUTPUT)) {
                said.push(Said { line: *line, output: std::mem::take(&mut output) });
                script += PRINT_MARK;
            }
        }
    }
    (script, said)
}

/// What is wrong between what came out and what the README says.
fn faults(printed: &str, said: &[Said<'_>]) -> String {
    let mut faults = String::new();
    let mut parts = printed.split(MARK);
    for Said { line, output } in said {
        let Some(part) = parts.next() else { break };
        let lines: Vec<&str> = part.lines().filter(|line| !line.is_empty()).collect();
        let same = lines.len() == output.len()
            && lines.iter().zip(output).all(|(line, pattern)| matches(line, pattern));
        if !same {
            let (said, came) = (output.join("\n  "), lines.join("\n  "));
            write!(faults, "\nREADME.md:{line} says\n  {said}\nbut this came\n  {came}\n").unwrap();
        }
    }
    faults
}

/// Whether a line is what the pattern says, in which `…` is anything.
fn matches(line: &str, pattern: &str) -> bool {
    let Some((head, tail)) = pattern.split_once(ANYTHING) else { return line == pattern };
    let Some(rest) = line.strip_prefix(head) else { return false };
    let mut ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    ends.any(|at| matches(&rest[at..], tail))
}

/// A shell whose children end with it.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        // Its group is the shell and what it left behind.
        signal("KILL", &format!("-{}", self.0.id()));
        let _ = self.0.wait();
    }
}

/// Runs a script in a folder that looks like a clone with everything built.
fn run(folder: &Path, url: &str, script: &str) -> (bool, String, String) {
    let release = folder.join("target/release");
    fs::create_dir_all(&release).unwrap();
    symlink(env!("CARGO_BIN_EXE_tombolo"), release.join("tombolo")).unwrap();
    // No command of the README waits longer than this.
    fs::write(folder.join(".curlrc"), "max-time = 30\n").unwrap();
    fs::write(folder.join("script"), script).unwrap();
    let output = |name: &str| fs::File::create(folder.join(name)).unwrap();
    let mut command = Command::new("bash");
    command.args(["-eu", "-o", "pipefail", "script"]).current_dir(folder).process_group(0);
    let inherited = ["PATH", "LD_LIBRARY_PATH"].map(|name| (name, std::env::var_os(name)));
    let inherited = inherited.into_iter().filter_map(|(name, value)| Some((name, value?)));
    command.env_clear().envs(inherited).env("HOME", folder);
    command.env("TOMBOLO_LISTEN", url.strip_prefix("http://").unwrap()).env("TOMBOLO_URL", url);
    command.stdin(Stdio::null()).stdout(output("out")).stderr(output("talk"));
    let mut shell = Shell(command.spawn().unwrap());
    let ended_well = shell.0.wait().unwrap().success();
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    (ended_well, read("out"), read("talk"))
}

/// An address that nobody has, and that no client is given: clients' ports are above 32,768.
fn free_url() -> String {
    let mut random = fastrand::Rng::with_seed(u64::from(std::process::id()));
    std::iter::repeat_with(|| random.u16(20_000..32_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .map(|port| format!("http://127.0.0.1:{port}"))
        .unwrap()
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "SKIPPED: needs the feature rocksdb")]
fn every_command_of_the_readme_does_what_the_readme_says() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        // Past the harness, which keeps what tests print to itself.
        writeln!(io::stderr(), "SKIPPED: the README's commands: there is no curl").unwrap();
        return;
    }
    let text = readme();
    let blocks = blocks(&text);
    let of = |language| blocks.iter().filter(move |block| block.language == language);
    let folder = tempfile::tempdir().unwrap();
    let url = free_url();

    let settings: Vec<_> = of("toml").flat_map(|block| &block.lines).map(|line| line.1).collect();
    assert!(!settings.is_empty(), "the README shows a configuration");
    fs::write(folder.path().join("tombolo.toml"), settings.join("\n")).unwrap();

    let commands: Vec<_> = of("sh").collect();
    let (script, said) = script(&commands);
    // The first node is what `make run` starts; the newest node is the one that was started last.
    let setting = format!(
        "target/release/tombolo serve 2> node.log &\n\
         curl -s --retry 5 --retry-connrefused -o /dev/null {README_URL}/readyz\n\
         pgrep() {{ [ \"$*\" = '-nx tombolo' ] && echo $!; }}\n"
    );
    let script = (setting + &script).replace(README_URL, &url);
    let (ended_well, out, talk) = run(folder.path(), &url, &script);
    let faults = faults(&out, &said);
    assert!(ended_well && faults.is_empty(), "{faults}\n{talk}\nended well: {ended_well}");
    assert!(20 < said.len(), "{} outputs are compared", said.len());
}

#[test]
fn a_block_is_run_or_says_why_not() {
    for block in blocks(&readme()) {
        match block.language {
            "sh" | "toml" => {}
            "console" => {
                assert!(block.before.starts_with("<!-- not run by the test: "), "{block:?}");
            }
            // `tests/js/readme.test.js` runs the one that there is.
            "js" => assert!(block.before.starts_with("<!-- run by `make clients`"), "{block:?}"),
            _ => panic!("neither sh, toml, js nor console: {block:?}"),
        }
    }
}

#[test]
fn what_comes_out_is_held_against_what_is_said() {
    let text = "why\n\n```sh\na\n#=> 1\n#=> {…}\nb\n```\n```toml\nx\n```\n";
    let found = blocks(text);
    assert_eq!((found[0].language, found[0].before, found.len()), ("sh", "why", 2));
    let (script, said) = script(&[&found[0]]);
    assert_eq!(script, format!("a\n{PRINT_MARK}b\n{PRINT_MARK}"));
    assert_eq!(said[0], Said { line: 6, output: vec!["1", "{…}"] });
    assert_eq!(said[1], Said { line: 7, output: vec![] });
    for (printed, fault) in [
        ("1\n{2}\n\u{1e}\n\u{1e}", ""),
        ("1\n{2\n\u{1e}\n\u{1e}", "README.md:6"),
        ("1\n\u{1e}\n\u{1e}", "README.md:6"),
        ("1\n{2}\n3\n\u{1e}\n\u{1e}", "README.md:6"),
        ("1\n{2}\n\u{1e}more\n\u{1e}", "README.md:7"),
        ("1\n{2}\n\u{1e}broken off", "README.md:7"),
        ("", "README.md:6"),
    ] {
        let found = faults(printed, &said);
        assert!(
            found.contains(fault) && found.is_empty() == fault.is_empty(),
            "{printed}: {found}"
        );
    }
    for (line, pattern, same) in [
        ("abc", "a…c", true),
        ("abc", "…", true),
        ("", "…", true),
        ("abcb", "a…b", true),
        ("abc", "a…b", false),
        ("abc", "ab", false),
        ("aXbXc", "a…b…c", true),
    ] {
        assert_eq!(matches(line, pattern), same, "{line} {pattern}");
    }
}
