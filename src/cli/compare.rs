//! `tombolo compare`: names the documents that differ between two nodes.
//!
//! ```text
//! hello        what both would tell of, and the sums of all of it: equal, nearly always
//! cells        of both, twice as many each time, until their difference is read whole;
//!              where more differ than a sketch tells, of slices of the ids
//!              and the same again after a pause: what differs alike is no write on its way
//! names        of the documents at these positions, and their versions
//! ```

use super::{
    args::{Compare, Format, Voice},
    cluster::Cluster,
    failure::Failure,
    listing::Listing,
    onlooker::{Onlooker, Seen, refused},
    output,
};
use crate::{
    ident::{Name, Version},
    sync::{Peeled, Scope, SetId, Sketch, Slice, between},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time;

/// How long a difference has to last.
const PATIENCE: Duration = Duration::from_secs(2);
/// Cells of which a few differences are read.
const CELLS_FIRST: usize = 64;
/// The same of a slice, whose cells a node sums up anew for each question.
const CELLS_FIRST_OF_SLICE: usize = 2048;

/// Runs the command.
pub(crate) async fn run(line: &Compare, voice: Voice) -> anyhow::Result<()> {
    let secret = Cluster { secret_file: line.cluster_secret_file.clone() }.secret()?;
    let onlooker = Onlooker::new(&secret);
    let pair = Pair::meet(&onlooker, line).await?;
    let (differing, whole) = pair.lasting().await?;
    let rows = pair.rows(&differing).await?;
    list(&rows, voice.format())?;
    let cost = onlooker.wire.sum();
    let bytes = cost.bytes_sent + cost.bytes_received;
    let cost = format!("{} requests, {bytes} bytes", cost.requests);
    if rows.is_empty() && whole {
        if !voice.quiet {
            let documents = pair.a.hello.documents;
            output::talk(&format!("no difference, of {documents} documents ({cost})"));
        }
        return Ok(());
    }
    let least = if whole { "" } else { "at least " };
    let documents = if rows.len() == 1 { "document differs" } else { "documents differ" };
    Err(Failure::Refused(format!("{least}{} {documents} ({cost})", rows.len())).into())
}

fn list(rows: &[Row], format: Format) -> anyhow::Result<()> {
    let mut list = Listing::new(format, Row::HEAD);
    for row in rows {
        list.row(&serde_json::to_vec(row)?, Row::cells)?;
    }
    list.end()
}

/// Both nodes, and what they are compared in.
struct Pair<'a> {
    onlooker: &'a Onlooker,
    a: Seen<'a>,
    b: Seen<'a>,
    set: SetId,
}

/// Positions that differ, and by how much.
type Differences = BTreeMap<u64, u64>;

impl<'a> Pair<'a> {
    /// Says hello to both, and is told of all collections.
    async fn meet(onlooker: &'a Onlooker, line: &'a Compare) -> Result<Self, Failure> {
        let all = Scope::All;
        let (a, b) =
            tokio::try_join!(onlooker.greet(&line.a, &all), onlooker.greet(&line.b, &all))?;
        if a.hello.incarnation == b.hello.incarnation {
            return Err(Failure::Usage(format!("{} and {} are one node", line.a, line.b)));
        }
        for seen in [&a, &b] {
            if seen.hello.key != onlooker.key.id() {
                return Err(refused(seen.url, "it sums up under other keys"));
            }
        }
        let set = all.set(&onlooker.key);
        for seen in [&a, &b] {
            if seen.hello.beat.set != set {
                return Err(refused(seen.url, "it does not tell of all collections"));
            }
        }
        Ok(Self { onlooker, a, b, set })
    }

    /// What differs for longer than a write is on its way, and whether that is all.
    async fn lasting(&self) -> Result<(Differences, bool), Failure> {
        if self.a.hello.beat.root == self.b.hello.beat.root {
            return Ok((Differences::new(), true));
        }
        let (mut found, whole) = self.differences().await?;
        if found.is_empty() {
            return Ok((found, whole));
        }
        time::sleep(PATIENCE).await;
        let (again, whole) = self.differences().await?;
        found.retain(|position, by| again.get(position) == Some(by));
        Ok((found, whole))
    }

    /// What differs now, and whether that is all.
    async fn differences(&self) -> Result<(Differences, bool), Failure> {
        let (mut all, mut whole) = (Differences::new(), true);
        // Slices that are yet to be looked at, the next one last.
        let mut slices = vec![Slice::whole()];
        while let Some(slice) = slices.pop() {
            let peeled = self.look(&slice).await?;
            let parts: Vec<Slice> = slice.parts().collect();
            if !peeled.whole && !parts.is_empty() {
                slices.extend(parts.into_iter().rev());
                continue;
            }
            whole &= peeled.whole;
            all.extend(peeled.found);
        }
        Ok((all, whole))
    }

    /// What can be read of a slice.
    async fn look(&self, slice: &Slice) -> Result<Peeled, Failure> {
        let Self { onlooker, a, b, set, .. } = self;
        let mut count = if slice.is_whole() { CELLS_FIRST } else { CELLS_FIRST_OF_SLICE };
        loop {
            let (one, two) = tokio::try_join!(
                onlooker.cells(a, *set, slice, count),
                onlooker.cells(b, *set, slice, count)
            )?;
            let peeled = between(&one, &two, &onlooker.key);
            let all = one.len().min(two.len()) < count || Sketch::CELLS_MAX <= count;
            if peeled.whole || all {
                return Ok(peeled);
            }
            count *= 2;
        }
    }

    /// The documents at these positions that differ. Where none does, it was settled meanwhile.
    async fn rows(&self, differing: &Differences) -> Result<Vec<Row>, Failure> {
        let positions: Vec<u64> = differing.keys().copied().collect();
        let (a, b) = tokio::try_join!(
            self.onlooker.names(&self.a, self.set, &positions),
            self.onlooker.names(&self.b, self.set, &positions)
        )?;
        let [a, b]: [BTreeMap<Name, Version>; 2] = [a, b].map(BTreeMap::from_iter);
        let names: BTreeSet<&Name> = a.keys().chain(b.keys()).collect();
        let differ = names.into_iter().filter(|name| a.get(name) != b.get(name));
        Ok(differ.map(|name| Row::new(name, a.get(name), b.get(name))).collect())
    }
}

/// A document that differs; no version: it is not there.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    collection: String,
    key: String,
    what: String,
    a: Option<Vec<String>>,
    b: Option<Vec<String>>,
}

impl Row {
    const HEAD: &[&str] = &["COLLECTION", "KEY", "WHAT", "A", "B"];

    fn new(name: &Name, a: Option<&Version>, b: Option<&Version>) -> Self {
        let heads = |version: &Version| version.hashes().iter().map(ToString::to_string).collect();
        let what = match (a, b) {
            (Some(_), None) => "only in A",
            (None, _) => "only in B",
            (Some(_), Some(_)) => "differs",
        };
        Self {
            collection: name.collection().to_string(),
            key: name.key().to_string(),
            what: what.to_owned(),
            a: a.map(heads),
            b: b.map(heads),
        }
    }

    fn cells(self) -> Vec<String> {
        let heads = |heads: Option<Vec<String>>| {
            let heads = heads.unwrap_or_default();
            heads.iter().map(|head| output::short(head)).collect::<Vec<_>>().join(".")
        };
        let key = output::shown(&self.key);
        vec![self.collection, key, self.what, heads(self.a), heads(self.b)]
    }
}
