//! The text in which metrics are told: OpenMetrics 1.0, and the older format of Prometheus.

use crate::metric::Distribution;
use std::fmt::{Display, Write};

/// What every name begins with.
const PREFIX: &str = "tombolo_";

/// How the text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus: a counter's family bears the name of its sample, and
    /// there are neither units nor an end.
    Prometheus,
}

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// Labels that say what something is; its value is 1.
    Info,
}

/// The unit that a name ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// None, or what is counted.
    Count,
    Bytes,
    /// Histograms hold nanoseconds of them.
    Seconds,
}

/// A page of metrics in the making.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
    dialect: Dialect,
    /// The family under way: its name, kind and unit.
    family: (&'static str, Kind, Unit),
}

/// Labels of a sample.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            text: String::with_capacity(16 << 10),
            dialect,
            family: ("", Kind::Gauge, Unit::Count),
        }
    }

    /// Begins a family. Its samples follow before another begins.
    pub(super) fn family(
        &mut self,
        name: &'static str,
        kind: Kind,
        unit: Unit,
        help: &str,
    ) -> &mut Self {
        self.family = (name, kind, unit);
        let old = self.dialect == Dialect::Prometheus;
        let (word, suffix) = match kind {
            Kind::Counter => ("counter", if old { "_total" } else { "" }),
            Kind::Gauge => ("gauge", ""),
            Kind::Histogram => ("histogram", ""),
            Kind::Info if old => ("gauge", "_info"),
            Kind::Info => ("info", ""),
        };
        self.line(format_args!("# HELP {PREFIX}{name}{suffix} {help}"));
        self.line(format_args!("# TYPE {PREFIX}{name}{suffix} {word}"));
        let unit = match unit {
            Unit::Count => return self,
            Unit::Bytes => "bytes",
            Unit::Seconds => "seconds",
        };
        if !old {
            self.line(format_args!("# UNIT {PREFIX}{name} {unit}"));
        }
        self
    }

    /// A sample of the family.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Self {
        let suffix = match self.family.1 {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.point(suffix, labels, None, value);
        self
    }

    /// A histogram of the family.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, read: &Distribution) -> &mut Self {
        let Distribution { buckets, count, sum } = read;
        for (bound, within) in buckets {
            let bound = match self.family.2 {
                Unit::Seconds => bound_text(seconds(*bound)),
                Unit::Count | Unit::Bytes => format!("{bound}.0"),
            };
            self.point("_bucket", labels, Some(&bound), within);
        }
        self.point("_bucket", labels, Some("+Inf"), count);
        self.point("_count", labels, None, count);
        match self.family.2 {
            Unit::Seconds => self.point("_sum", labels, None, seconds(*sum)),
            Unit::Count | Unit::Bytes => self.point("_sum", labels, None, sum),
        }
        self
    }

    /// The text.
    pub(super) fn end(mut self) -> String {
        if self.dialect == Dialect::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn point(
        &mut self,
        suffix: &str,
        labels: Labels<'_>,
        bound: Option<&str>,
        value: impl Display,
    ) {
        self.text.push_str(PREFIX);
        self.text.push_str(self.family.0);
        self.text.push_str(suffix);
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            self.text.push(separator);
            self.text.push_str(name);
            self.text.push_str("=\"");
            for letter in value.chars() {
                match letter {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    letter => self.text.push(letter),
                }
            }
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        self.line(format_args!(" {value}"));
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// Nanoseconds in seconds. Exact to 52 bits, which a sum leaves after 52 days of work.
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// A bound as OpenMetrics wants it, since bounds are compared as texts: `0.005`, `1.0`, `5e-05`.
fn bound_text(bound: f64) -> String {
    if bound < 1e-4 {
        let text = format!("{bound:e}");
        return text.replace("e-", "e-0");
    }
    format!("{bound:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{Histogram, TIMES_NS};

    fn page(dialect: Dialect) -> String {
        let mut page = Page::new(dialect);
        page.family("it", Kind::Info, Unit::Count, "What it is.")
            .sample(&[("say", "a\"b\\c\nd")], 1);
        page.family("eaten_bytes", Kind::Counter, Unit::Bytes, "Eaten.").sample(&[], 7);
        let times = Histogram::new(&[50_000, 1_000_000_000]);
        [50_000, 50_001, 2_000_000_000].iter().for_each(|time| times.observe(*time));
        page.family("nap_seconds", Kind::Histogram, Unit::Seconds, "Slept.")
            .histogram(&[("where", "bed")], &times.read());
        page.end()
    }

    #[test]
    fn a_page_is_written_in_either_dialect() {
        let samples = r#"tombolo_it_info{say="a\"b\\c\nd"} 1
tombolo_eaten_bytes_total 7
tombolo_nap_seconds_bucket{where="bed",le="5e-05"} 1
tombolo_nap_seconds_bucket{where="bed",le="1.0"} 2
tombolo_nap_seconds_bucket{where="bed",le="+Inf"} 3
tombolo_nap_seconds_count{where="bed"} 3
tombolo_nap_seconds_sum{where="bed"} 2.000100001
"#;
        for (dialect, comments) in [
            (
                Dialect::OpenMetrics,
                "# HELP tombolo_it What it is.\n# TYPE tombolo_it info\n\
                 # HELP tombolo_eaten_bytes Eaten.\n# TYPE tombolo_eaten_bytes counter\n\
                 # UNIT tombolo_eaten_bytes bytes\n# HELP tombolo_nap_seconds Slept.\n\
                 # TYPE tombolo_nap_seconds histogram\n# UNIT tombolo_nap_seconds seconds\n# EOF\n",
            ),
            (
                Dialect::Prometheus,
                "# HELP tombolo_it_info What it is.\n# TYPE tombolo_it_info gauge\n\
                 # HELP tombolo_eaten_bytes_total Eaten.\n\
                 # TYPE tombolo_eaten_bytes_total counter\n# HELP tombolo_nap_seconds Slept.\n\
                 # TYPE tombolo_nap_seconds histogram\n",
            ),
        ] {
            let text = page(dialect);
            let (said, told): (Vec<_>, Vec<_>) =
                text.split_inclusive('\n').partition(|line| line.starts_with('#'));
            assert_eq!(told.concat(), samples);
            assert_eq!(said.concat(), comments);
        }
    }

    #[test]
    fn bounds_are_written_as_they_are_compared() {
        let texts: Vec<String> = TIMES_NS.iter().map(|bound| bound_text(seconds(*bound))).collect();
        assert_eq!(
            texts.join(" "),
            "5e-05 0.0001 0.0002 0.0005 0.001 0.002 0.005 0.01 0.02 0.05 0.1 0.2 0.5 1.0 2.0 5.0 10.0"
        );
    }
}
