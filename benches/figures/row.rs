//! What a figure gives: rows of a table, each judged by its bars.

use std::fmt::Write as _;

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    figure: String,
    unit: &'static str,
    ours: f64,
    floor: Option<f64>,
    ratio: Option<f64>,
    bars: Vec<Bar>,
}

/// What a number should be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bar {
    of: Of,
    way: Way,
    bar: f64,
    aim: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Ours,
    Ratio,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Up,
    Down,
}

/// Ours and the floor, measured in turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    /// The median of ours.
    pub(crate) ours: f64,
    /// The median of the floor.
    pub(crate) floor: f64,
    /// The median of the ratios of rounds that stood beside each other.
    pub(crate) ratio: f64,
}

impl Pair {
    /// From the rounds, in the order in which they were run.
    pub(crate) fn of(rounds: &[(f64, f64)]) -> Self {
        Self {
            ours: median(rounds.iter().map(|round| round.0)),
            floor: median(rounds.iter().map(|round| round.1)),
            ratio: median(rounds.iter().map(|round| round.0 / round.1)),
        }
    }
}

impl Bar {
    /// Our number is at least this.
    pub(crate) fn at_least(bar: f64) -> Self {
        Self { of: Of::Ours, way: Way::Up, bar, aim: None }
    }

    /// Our number is at most this.
    pub(crate) fn at_most(bar: f64) -> Self {
        Self { of: Of::Ours, way: Way::Down, bar, aim: None }
    }

    /// The ratio is at least this.
    pub(crate) fn ratio_at_least(bar: f64) -> Self {
        Self { of: Of::Ratio, ..Self::at_least(bar) }
    }

    /// The ratio is at most this.
    pub(crate) fn ratio_at_most(bar: f64) -> Self {
        Self { of: Of::Ratio, ..Self::at_most(bar) }
    }

    /// What it should become.
    pub(crate) fn aim(self, aim: f64) -> Self {
        Self { aim: Some(aim), ..self }
    }

    fn holds(&self, row: &Row, bound: f64) -> bool {
        let number = match self.of {
            Of::Ours => row.ours,
            Of::Ratio => row.ratio.unwrap_or(f64::NAN),
        };
        match self.way {
            Way::Up => bound <= number,
            Way::Down => number <= bound,
        }
    }

    fn show(&self, row: &Row, bound: f64) -> String {
        let sign = match self.way {
            Way::Up => '≥',
            Way::Down => '≤',
        };
        match self.of {
            Of::Ours => format!("{sign} {}", quantity(bound, row.unit)),
            Of::Ratio => format!("ratio {sign} {bound}"),
        }
    }
}

impl Row {
    /// A number of ours that stands alone.
    pub(crate) fn alone(figure: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self { figure: figure.into(), unit, ours, floor: None, ratio: None, bars: Vec::new() }
    }

    /// A number of ours beside its floor, measured in turns with it.
    pub(crate) fn pair(figure: impl Into<String>, unit: &'static str, pair: Pair) -> Self {
        let row = Self::alone(figure, unit, pair.ours);
        Self { floor: Some(pair.floor), ratio: Some(pair.ratio), ..row }
    }

    /// A number of ours beside one that was not measured in turns with it.
    pub(crate) fn beside(
        figure: impl Into<String>,
        unit: &'static str,
        ours: f64,
        floor: f64,
    ) -> Self {
        Self::pair(figure, unit, Pair { ours, floor, ratio: ours / floor })
    }

    /// Judges it by one more bar.
    pub(crate) fn bar(mut self, bar: Bar) -> Self {
        self.bars.push(bar);
        self
    }

    fn verdict(&self) -> String {
        let missed: Vec<String> = self
            .bars
            .iter()
            .filter(|bar| !bar.holds(self, bar.bar))
            .map(|bar| bar.show(self, bar.bar))
            .collect();
        if !missed.is_empty() {
            return format!("**missed** {}", missed.join(", "));
        }
        let aims = || self.bars.iter().filter_map(|bar| Some((bar, bar.aim?)));
        match () {
            () if self.bars.is_empty() => "",
            () if aims().next().is_none() => "met",
            () if aims().all(|(bar, aim)| bar.holds(self, aim)) => "met, and the aim",
            () => "met",
        }
        .to_owned()
    }

    /// The row as a line of Markdown.
    pub(crate) fn line(&self) -> String {
        let floor = self.floor.map_or_else(String::new, |floor| quantity(floor, self.unit));
        let ratio = self.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let bars: Vec<String> = self.bars.iter().map(|bar| bar.show(self, bar.bar)).collect();
        let aims = self.bars.iter().filter_map(|bar| Some(bar.show(self, bar.aim?)));
        let aims: Vec<String> = aims.collect();
        format!(
            "| {} | {} | {floor} | {ratio} | {} | {} | {} |",
            self.figure,
            quantity(self.ours, self.unit),
            bars.join(", "),
            aims.join(", "),
            self.verdict()
        )
    }
}

/// A table of Markdown whose floor is called `floor`.
pub(crate) fn table(rows: &[Row], floor: &str) -> String {
    let mut out = format!("| figure | ours | {floor} | ratio | bar | aim | verdict |\n");
    out.push_str("|---|---:|---:|---:|---|---|---|\n");
    for row in rows {
        writeln!(out, "{}", row.line()).unwrap();
    }
    out
}

/// The middle one; of an even number, the greater of two.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// A number with three digits that count, and its unit.
pub(crate) fn quantity(number: f64, unit: &str) -> String {
    let decimals = match number.abs() {
        size if 100.0 <= size || size == 0.0 => 0,
        size if 10.0 <= size => 1,
        size if 1.0 <= size => 2,
        _ => 3,
    };
    let plain = format!("{number:.decimals$}");
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let fraction = fraction.trim_end_matches('0');
    let mut shown = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index != 0 && (whole.len() - index) % 3 == 0 && digit.is_ascii_digit() {
            shown.push(',');
        }
        shown.push(digit);
    }
    if !fraction.is_empty() {
        shown = format!("{shown}.{fraction}");
    }
    match unit {
        "" => shown,
        unit if unit.starts_with(['/', '×']) => shown + unit,
        unit => format!("{shown} {unit}"),
    }
}
