//! The demonstration: it tells its story, checks what it claims, and ends.

use crate::process::tombolo;

#[test]
fn the_demonstration_ends_well_and_in_time() {
    let began = tokio::time::Instant::now();
    let (ended_well, out, talk) = tombolo(&["demo"]);
    assert!(ended_well, "{out}\n{talk}");
    let lines: Vec<&str> = out.lines().filter(|line| !line.is_empty()).collect();
    assert!((20..=40).contains(&lines.len()), "{} lines:\n{out}", lines.len());
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{out}");
    for said in
        ["= 20: a counter adds up", "lists both until one is chosen", "again, it holds all 1601"]
    {
        assert!(out.contains(said), "{said}:\n{out}");
    }
    assert!(lines.last().unwrap().starts_with("Checked: 1601 documents on 3 islands"), "{out}");
    assert!(began.elapsed().as_secs() < 50, "{out}");
}

#[test]
fn a_quiet_demonstration_says_how_it_ended() {
    let (ended_well, out, talk) = tombolo(&["demo", "-q"]);
    assert!(
        ended_well && out.starts_with("Checked: ") && out.lines().count() == 1,
        "{out}\n{talk}"
    );
}
