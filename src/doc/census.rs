//! How much foreign bytes claim to hold, counted without parsing it: 79 bytes can claim 10^12
//! operations, which keeps Automerge's parser busy for years.
//!
//! Operations stand in columns, each run-length encoded: the sum of a column's runs is how many
//! rows it has. A group column counts, for each row, its items in the columns of its group.
//!
//! ```text
//! change     dependencies (counted, 32 bytes each), actor (counted), seq, first operation, time
//!            (signed), message (counted), other actors (counted list), columns, their bytes, rest
//! document   actors (counted list), heads (counted, 32 bytes each), columns of changes, columns
//!            of operations, bytes of the former, bytes of the latter, rest
//! columns    counted list of: kind, length
//! kind       number × 16, deflated × 8, type: 0 group, 1 actor, 2 number, 3 difference,
//!            4 boolean, 5 string, 6 length and type of a value, 7 bytes of values
//! run        n × value (n > 0), −n values (n < 0), as many nothings as follow (n = 0)
//! ```
//!
//! Source: the binary format of Automerge, <https://automerge.org/automerge-binary-format-spec/>.

use super::{
    chunk::{Inflation, bad},
    leb::Reader,
    refusal::{Refusal, RefusalKind},
};
use std::borrow::Cow;

/// Most items of groups for each operation that is allowed: predecessors, successors.
const ITEMS_PER_OPERATION: u64 = 4;
/// The column that says what operations do.
const ACTION: u32 = 0x42;
/// What makes a container: an object, a list, a text, a table.
const MAKERS: [u64; 4] = [0, 2, 4, 6];

/// What bytes claim to hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// Operations: rows of the longest column.
    pub(super) operations: u64,
    /// Bytes of all keys and values, written out.
    pub(super) expanded: u64,
    /// Whether some operation makes a container.
    pub(super) makes: bool,
}

impl Census {
    /// At most so many bytes does a document's JSON grow by it.
    pub(super) fn most(&self) -> usize {
        usize::try_from(self.expanded + 8 * self.operations).unwrap_or(usize::MAX)
    }
}

/// Counts what a change holds, whose body this is.
///
/// # Errors
/// `TooLarge`: more than `operations_max` operations, or `expanded_max` bytes written out.
/// `BadChanges`: not a change.
pub(super) fn of_change(
    body: &[u8],
    operations_max: u64,
    expanded_max: u64,
) -> Result<Census, Refusal> {
    let mut reader = Reader::new(body);
    let columns = change_columns(&mut reader).ok_or_else(|| bad("not the body of a change"))?;
    let mut counter = Counter::new(operations_max, expanded_max);
    for (kind, length) in columns {
        let bytes = reader.bytes(length).ok_or_else(|| bad("a column that ends too soon"))?;
        if kind & DEFLATED != 0 {
            return Err(bad("a deflated column in a change"));
        }
        counter.column(kind, bytes)?;
    }
    counter.end()
}

/// Counts what a document holds, whose body this is. All that is deflated is inflated once.
///
/// # Errors
/// As [`of_change`], for its operations and for its changes; `Heavy`: it inflates to more than that.
pub(super) fn of_document(
    body: &[u8],
    operations_max: u64,
    expanded_max: u64,
    inflation: &mut Inflation,
) -> Result<Census, Refusal> {
    let mut reader = Reader::new(body);
    let heads = document_head(&mut reader).ok_or_else(|| bad("not the body of a document"))?;
    let mut totals = [Census::default(); 2];
    // What changes tell of themselves is never written out.
    let bounds = [u64::MAX, expanded_max];
    for ((columns, total), expanded_max) in heads.into_iter().zip(&mut totals).zip(bounds) {
        let mut counter = Counter::new(operations_max, expanded_max);
        for (kind, length) in columns {
            let bytes = reader.bytes(length).ok_or_else(|| bad("a column that ends too soon"))?;
            let bytes = if kind & DEFLATED == 0 {
                Cow::Borrowed(bytes)
            } else {
                Cow::Owned(inflation.inflate(bytes, RefusalKind::Heavy)?)
            };
            counter.column(kind & !DEFLATED, &bytes)?;
        }
        *total = counter.end()?;
    }
    let [changes, mut operations] = totals;
    // A change without operations is one more thing to take in.
    operations.operations = operations.operations.max(changes.operations);
    Ok(operations)
}

const DEFLATED: u32 = 8;

type Columns = Vec<(u32, usize)>;

/// The columns of a change, up to which it is read.
fn change_columns(reader: &mut Reader<'_>) -> Option<Columns> {
    hashes(reader)?;
    reader.counted()?;
    reader.uleb()?;
    reader.uleb()?;
    reader.leb()?;
    reader.counted()?;
    actors(reader)?;
    columns(reader)
}

/// The columns of a document's changes and of its operations.
fn document_head(reader: &mut Reader<'_>) -> Option<[Columns; 2]> {
    actors(reader)?;
    hashes(reader)?;
    Some([columns(reader)?, columns(reader)?])
}

fn hashes(reader: &mut Reader<'_>) -> Option<()> {
    let bytes = reader.uleb()?.checked_mul(32)?;
    reader.bytes(usize::try_from(bytes).ok()?).map(drop)
}

fn actors(reader: &mut Reader<'_>) -> Option<()> {
    // Each takes a byte at least, so the bytes end before a number that lies does.
    for _ in 0..reader.uleb()? {
        reader.counted()?;
    }
    Some(())
}

fn columns(reader: &mut Reader<'_>) -> Option<Columns> {
    let mut columns = Vec::new();
    for _ in 0..reader.uleb()? {
        let kind = u32::try_from(reader.uleb()?).ok()?;
        columns.push((kind, usize::try_from(reader.uleb()?).ok()?));
    }
    Some(columns)
}

/// Counts over the columns of one table.
struct Counter {
    operations_max: u64,
    expanded_max: u64,
    census: Census,
    /// The numbers of group columns: what has one of them holds items, not rows.
    groups: Vec<u32>,
    /// Bytes that values should have, by the column that tells their lengths.
    lengths: u64,
    values: u64,
}

impl Counter {
    fn new(operations_max: u64, expanded_max: u64) -> Self {
        let census = Census::default();
        Self { operations_max, expanded_max, census, groups: Vec::new(), lengths: 0, values: 0 }
    }

    fn column(&mut self, kind: u32, bytes: &[u8]) -> Result<(), Refusal> {
        let number = kind >> 4;
        let mut reader = Reader::new(bytes);
        let reader = &mut reader;
        let items_max = self.operations_max.saturating_mul(ITEMS_PER_OPERATION);
        let in_group = self.groups.contains(&number);
        let rows_max = if in_group { items_max } else { self.operations_max };
        let mut sum = Sum { rows: 0, rows_max };
        match kind & 7 {
            0 => {
                self.groups.push(number);
                let mut items = Sum { rows: 0, rows_max: items_max };
                runs(reader, &mut sum, |reader, times| {
                    items.add(times.saturating_mul(number_of(reader.uleb())?))
                })?;
            }
            1 => runs(reader, &mut sum, |reader, _| number_of(reader.uleb()).map(drop))?,
            2 => {
                let mut makes = false;
                runs(reader, &mut sum, |reader, _| {
                    makes |= MAKERS.contains(&number_of(reader.uleb())?);
                    Ok(())
                })?;
                self.census.makes |= makes && kind == ACTION;
            }
            3 => runs(reader, &mut sum, |reader, _| number_of(reader.leb()).map(drop))?,
            4 => {
                while !reader.is_empty() {
                    sum.add(number_of(reader.uleb())?)?;
                }
            }
            5 => {
                let mut expanded = self.census.expanded;
                runs(reader, &mut sum, |reader, times| {
                    let length = number_of(reader.counted())?.len() as u64;
                    expanded = expanded.saturating_add(times.saturating_mul(length));
                    Ok(())
                })?;
                self.census.expanded = expanded;
            }
            6 => {
                let mut lengths = self.lengths;
                runs(reader, &mut sum, |reader, times| {
                    let length = number_of(reader.uleb())? >> 4;
                    lengths = lengths.saturating_add(times.saturating_mul(length));
                    Ok(())
                })?;
                self.lengths = lengths;
            }
            _ => {
                self.values += bytes.len() as u64;
                self.census.expanded = self.census.expanded.saturating_add(bytes.len() as u64);
            }
        }
        if self.expanded_max < self.census.expanded {
            let detail = format!("more than {} bytes, written out", self.expanded_max);
            return Err(Refusal::new(RefusalKind::TooLarge, detail));
        }
        if !in_group {
            self.census.operations = self.census.operations.max(sum.rows);
        }
        Ok(())
    }

    fn end(self) -> Result<Census, Refusal> {
        if self.values < self.lengths {
            Err(bad("values that end too soon"))
        } else {
            Ok(self.census)
        }
    }
}

/// A sum with a bound.
struct Sum {
    rows: u64,
    rows_max: u64,
}

impl Sum {
    fn add(&mut self, rows: u64) -> Result<(), Refusal> {
        self.rows = self.rows.saturating_add(rows);
        if self.rows <= self.rows_max {
            return Ok(());
        }
        let detail = format!("more than {} operations, or what belongs to them", self.rows_max);
        Err(Refusal::new(RefusalKind::TooLarge, detail))
    }
}

/// Reads a column of runs. `value` reads one value, and is told how often it stands there.
fn runs<'a>(
    reader: &mut Reader<'a>,
    sum: &mut Sum,
    mut value: impl FnMut(&mut Reader<'a>, u64) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    while !reader.is_empty() {
        let run = number_of(reader.leb())?;
        let times = run.unsigned_abs();
        match run {
            0 => sum.add(number_of(reader.uleb())?)?,
            1.. => {
                sum.add(times)?;
                value(reader, times)?;
            }
            _ => {
                sum.add(times)?;
                for _ in 0..times {
                    value(reader, 1)?;
                }
            }
        }
    }
    Ok(())
}

fn number_of<T>(read: Option<T>) -> Result<T, Refusal> {
    read.ok_or_else(|| bad("a column that does not decode"))
}
