//! `tombolo demo`: three nodes in this process that are written apart, and become one again.
//!
//! They are whole nodes, but that they keep nothing: the memory engine, real HTTP on ports of this
//! machine, and links that are cut and healed by the connector that their clients are given. Every
//! line that claims something is printed after it was checked; the first claim that does not hold ends
//! it with exit code 1.

mod island;
mod water;

use super::{
    args::{Document, Voice},
    output,
};
use crate::{
    node::{Ambient, Secret},
    store::MemoryEngine,
};
use anyhow::{Context, ensure};
use island::{All, Island};
use serde_json::{Value, json};
use std::{fmt::Write as _, ops::Range, sync::Arc, time::Duration};
use tokio::time::{self, Instant};

const NAMES: [&str; 3] = ["juist", "baltrum", "spiekeroog"];
/// Documents that each island writes alone.
const ALONE: usize = 500;
/// Documents that are written while an island is down.
const MISSED: usize = 100;
/// Longest until all are equal, once nothing is in the way.
const EQUAL_TIME_MAX: Duration = Duration::from_secs(20);
/// How often it is looked whether they are.
const LOOK: Duration = Duration::from_millis(10);
/// After they have met, until each knows whom the others tell.
const SETTLE: Duration = Duration::from_secs(1);

/// What each island does to the one document that all of them share, and the same for people.
const EDITS: [(&str, &str); 3] = [
    (
        r#"[{"op":"add","path":"/captain","value":"Bo"},{"op":"increment","path":"/guests","by":5},
            {"op":"add","path":"/pier","value":"west"}]"#,
        "captain is Bo, 5 guests more, to pier west",
    ),
    (
        r#"[{"op":"increment","path":"/guests","by":7},{"op":"add","path":"/pier","value":"east"}]"#,
        "7 guests more, to pier east",
    ),
    (
        r#"[{"op":"add","path":"/wind","value":"NW"},{"op":"increment","path":"/guests","by":-2}]"#,
        "wind is NW, 2 guests fewer",
    ),
];

/// Runs the command.
pub(crate) async fn run(voice: Voice) -> anyhow::Result<()> {
    let mut demo = Demo::begin(voice).await?;
    demo.meet().await?;
    demo.write_together().await?;
    demo.write_apart().await?;
    demo.heal().await?;
    demo.show_what_merged().await?;
    demo.restart_one().await?;
    demo.end().await
}

/// The islands, and what is known of them.
#[derive(Debug)]
struct Demo {
    quiet: bool,
    began: Instant,
    islands: Vec<Island>,
    /// The document that all of them edit.
    ferry: Document,
    /// What each has written alone, by name and number.
    written: Vec<(&'static str, Range<usize>)>,
}

impl Demo {
    async fn begin(voice: Voice) -> anyhow::Result<Self> {
        // Nobody else on this machine is a member.
        let secret = Secret(Ambient::machine().node_id().to_bytes().to_vec());
        let mut islands = Vec::new();
        for name in NAMES {
            islands.push(Island::start(name, &secret, Arc::new(MemoryEngine::new()), 0).await?);
        }
        let ferry = Document { collection: "ferries".parse()?, key: "frisia".parse()? };
        let (quiet, began) = (voice.quiet, Instant::now());
        Ok(Self { quiet, began, islands, ferry, written: Vec::new() })
    }

    /// Prints a line of the story.
    fn tell(&self, line: &str) -> anyhow::Result<()> {
        if !self.quiet {
            output::data(line.as_bytes())?;
        }
        Ok(())
    }

    /// How many documents there are.
    fn documents(&self) -> u64 {
        let alone: usize = self.written.iter().map(|(_, entries)| entries.len()).sum();
        alone as u64 + 1
    }

    /// Has an island write documents of its own.
    async fn write_alone(&mut self, island: usize, entries: Range<usize>) -> anyhow::Result<()> {
        let island = &self.islands[island];
        island.bulk(lines(island.name, entries.clone())).await?;
        self.written.push((island.name, entries));
        Ok(())
    }

    async fn meet(&mut self) -> anyhow::Result<()> {
        self.tell("Three islands. Each is a whole database: a node that reads and writes alone.")?;
        let all: Vec<_> = self.islands.iter().map(|island| (island.name, island.port)).collect();
        for island in &mut self.islands {
            let others = all.iter().filter(|(name, _)| *name != island.name);
            island.join(&others.copied().collect::<Vec<_>>())?;
        }
        self.all_reached().await?;
        for island in &self.islands {
            self.tell(&format!("  {:<11} {}", island.name, island.url))?;
        }
        self.tell("Each tells both others what is written on it. Nobody leads, no clock decides.")
    }

    /// Waits until each reaches each.
    async fn all_reached(&self) -> anyhow::Result<()> {
        let until = Instant::now() + EQUAL_TIME_MAX;
        while !self.islands.iter().all(Island::reaches_all) {
            ensure!(Instant::now() < until, "the islands do not reach each other");
            time::sleep(LOOK).await;
        }
        time::sleep(SETTLE).await;
        Ok(())
    }

    async fn write_together(&self) -> anyhow::Result<()> {
        self.tell("\nLow water: all are connected.")?;
        let json = r#"{"captain":"Ann","guests":{"$counter":10},"pier":"north"}"#;
        let began = Instant::now();
        let reply = self.islands[0].put(&self.ferry, json).await?;
        let version = reply.headers.get("version").and_then(|version| version.to_str().ok());
        let version = version.context("a write without a version")?;
        self.tell(&format!("  {:<11} writes ferries/frisia: {json}", self.islands[0].name))?;
        for island in &self.islands[1..] {
            let read = island.await_version(&self.ferry, version).await?;
            let read: Value = serde_json::from_slice(&read.body)?;
            ensure!(read["guests"] == 10, "{} reads {read}", island.name);
            let took = began.elapsed().as_millis();
            self.tell(&format!("  {:<11} reads it {took} ms after it was sent", island.name))?;
        }
        Ok(())
    }

    async fn write_apart(&mut self) -> anyhow::Result<()> {
        for island in &self.islands {
            island.ways.set_open(false);
        }
        self.tell(
            "\nHigh water: all six links are cut. Everybody goes on writing, the same ferry too:",
        )?;
        for (island, (patch, what)) in self.islands.iter().zip(EDITS) {
            island.patch(&self.ferry, patch).await?;
            self.tell(&format!("  {:<11} {what}", island.name))?;
        }
        let began = Instant::now();
        for island in 0..self.islands.len() {
            self.write_alone(island, 0..ALONE).await?;
        }
        let (took, all) = (began.elapsed().as_millis(), self.documents() - 1);
        self.tell(&format!("  and each writes {ALONE} documents of its own: {all} in {took} ms"))?;
        for island in &self.islands {
            let there = island.all(false).await?.len();
            ensure!(there == ALONE + 1, "{} holds {there} documents while cut off", island.name);
        }
        self.tell(&format!("  each holds {} documents of {} now", ALONE + 1, self.documents()))
    }

    async fn heal(&self) -> anyhow::Result<()> {
        let before = self.cost();
        for island in &self.islands {
            island.ways.set_open(true);
        }
        self.tell("\nLow water again: all links are back.")?;
        let took = self.equal().await?;
        let (bytes, rounds) = self.cost();
        let (bytes, rounds) = (bytes - before.0, rounds - before.1);
        let (documents, seconds) = (self.documents(), took.as_secs_f64());
        // Each of those that one island wrote was lacked by two.
        let each = bytes / (2 * (documents - 1)).max(1);
        self.tell(&format!("  all hold the same {documents} documents {seconds:.1} s later"))?;
        let kilobytes = bytes / 1000;
        self.tell(&format!(
            "  messages of {kilobytes} KB, {each} bytes for each document that an island lacked"
        ))?;
        self.tell(&format!("  rounds of comparing what they hold: {rounds}"))
    }

    /// Waits until all hold the same, and as many documents as were written; gives how long that took.
    async fn equal(&self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        loop {
            let mut counts = self.islands.iter().map(Island::documents);
            if counts.all(|count| count == self.documents()) && self.same().await? {
                return Ok(began.elapsed());
            }
            ensure!(began.elapsed() < EQUAL_TIME_MAX, "the islands do not become equal");
            time::sleep(LOOK).await;
        }
    }

    /// Whether all hold the same versions.
    async fn same(&self) -> anyhow::Result<bool> {
        let first = self.islands[0].all(false).await?;
        for island in &self.islands[1..] {
            if island.all(false).await? != first {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Bytes of messages, and rounds, of all islands.
    fn cost(&self) -> (u64, u64) {
        let costs = self.islands.iter().map(Island::cost);
        costs.fold((0, 0), |all, cost| (all.0 + cost.0, all.1 + cost.1))
    }

    async fn show_what_merged(&self) -> anyhow::Result<()> {
        let all = self.check_all().await?;
        let row = all.get(&("ferries".into(), "frisia".into())).context("the ferry is lost")?;
        let (ferry, pier) = (&row["value"], &row["value"]["pier"]);
        let merged = json!({"captain": "Bo", "guests": 20, "wind": "NW", "pier": pier});
        ensure!(*ferry == merged && row["conflicts"] == 1, "the ferry is {row}");
        self.tell("\nNobody wrote conflict code. The ferry is now, on all three:")?;
        self.tell(&format!("  {ferry}"))?;
        self.tell("  captain, wind  each was set on one island: both stand")?;
        self.tell("  guests         10 + 5 + 7 - 2 = 20: a counter adds up")?;
        for island in &self.islands {
            let conflicts = island.conflicts(&self.ferry).await?;
            let place = &conflicts["conflicts"][0];
            let values = place["values"].as_array().context("a conflict without values")?;
            let mut values: Vec<&Value> = values.iter().map(|value| &value["value"]).collect();
            values.sort_by_key(ToString::to_string);
            let both = [json!("east"), json!("west")];
            let fine = place["path"] == "/pier" && values == both.iter().collect::<Vec<_>>();
            ensure!(fine, "{} lists {conflicts}", island.name);
        }
        self.tell(&format!("  pier           set on two at once: {pier} shows on all three, and"))?;
        self.tell(
            "                 GET /v1/ferries/frisia/_conflicts lists both until one is chosen",
        )
    }

    /// Checks that all hold the same, values and conflicts too, and everything that was written. Gives it.
    async fn check_all(&self) -> anyhow::Result<All> {
        let first = self.islands[0].all(true).await?;
        for island in &self.islands[1..] {
            ensure!(island.all(true).await? == first, "{} holds something else", island.name);
        }
        ensure!(first.len() as u64 == self.documents(), "{} documents", first.len());
        for (island, entries) in &self.written {
            for entry in entries.clone() {
                let row = first.get(&("logs".to_owned(), key(island, entry)));
                let wrote = json!({"entry": entry, "on": island});
                ensure!(row.is_some_and(|row| row["value"] == wrote), "{island} {entry} is lost");
            }
        }
        Ok(first)
    }

    async fn restart_one(&mut self) -> anyhow::Result<()> {
        let last = self.islands.pop().context("no island is left")?;
        let (name, others) = (
            last.name,
            [0, 1].map(|other| {
                let island: &Island = &self.islands[other];
                (island.name, island.port)
            }),
        );
        let halted = last.stop().await;
        self.write_alone(0, ALONE..ALONE + MISSED).await?;
        self.tell(&format!("\n{name} goes down; {} writes {MISSED} documents more.", NAMES[0]))?;
        let mut back = halted.start().await?;
        ensure!(back.documents() < self.documents(), "{name} holds what it was not told");
        back.join(&others)?;
        self.islands.push(back);
        let seconds = self.equal().await?.as_secs_f64();
        self.check_all().await?;
        let documents = self.documents();
        self.tell(&format!("  started again, it holds all {documents} {seconds:.1} s later"))
    }

    async fn end(self) -> anyhow::Result<()> {
        let (documents, seconds) = (self.documents(), self.began.elapsed().as_secs_f64());
        for island in self.islands {
            island.stop().await;
        }
        let last = format!(
            "Checked: {documents} documents on 3 islands, equal in version, value and conflicts; \
             no write lost. {seconds:.1} s"
        );
        let gap = if self.quiet { "" } else { "\n" };
        Ok(output::data(format!("{gap}{last}").as_bytes())?)
    }
}

/// The key of what an island writes alone.
fn key(island: &str, entry: usize) -> String {
    format!("{island}-{entry:04}")
}

/// A bulk write of such documents.
fn lines(island: &str, entries: Range<usize>) -> String {
    entries.fold(String::new(), |mut lines, entry| {
        let value = json!({"entry": entry, "on": island});
        let line =
            json!({"op": "put", "collection": "logs", "key": key(island, entry), "value": value});
        // Writing to a String does not fail.
        let _ = writeln!(lines, "{line}");
        lines
    })
}
