//! What the room counts: connections, requests by route, bytes of bodies.

use super::TABLE;
use crate::metric::{Counter, Gauge, Histogram, TIMES_NS};
use axum::http::{Method, StatusCode};
use std::time::Duration;

/// The verbs that are told apart; every other counts as the last.
pub(super) const VERBS: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
/// The classes of statuses, by their first digit less one.
pub(super) const CLASSES: &[&str] = &["1xx", "2xx", "3xx", "4xx", "5xx"];
/// What stands for the route of a path that has none.
pub(super) const NO_ROUTE: &str = "none";

/// Counts of one interface. Hand it to [`serve`](super::serve) too, which counts connections.
#[derive(Debug)]
pub struct Traffic {
    pub(super) connections: Gauge,
    pub(super) accepted: Counter,
    /// Closed at once, because their address has too many.
    pub(super) refused: Counter,
    /// Requests whose answers are not out.
    pub(super) in_flight: Gauge,
    pub(super) bytes_in: Counter,
    pub(super) bytes_out: Counter,
    /// Handlers that met a defect.
    pub(super) panics: Counter,
    /// By the site's place in the table; the last is for paths without a route.
    sites: Box<[SiteTraffic]>,
}

/// What happens at one path of the table.
#[derive(Debug)]
pub(super) struct SiteTraffic {
    /// By verb, then by class of status.
    requests: [[Counter; CLASSES.len()]; VERBS.len()],
    /// From a request's head to its answer's.
    pub(super) answer_ns: Histogram,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            connections: Gauge::default(),
            accepted: Counter::default(),
            refused: Counter::default(),
            in_flight: Gauge::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            panics: Counter::default(),
            sites: (0..=TABLE.paths().count()).map(|_| SiteTraffic::new()).collect(),
        }
    }
}

impl Traffic {
    /// Counts an answer, by the place of its path in the table.
    pub(super) fn answered(
        &self,
        place: Option<usize>,
        method: &Method,
        status: StatusCode,
        time: Duration,
    ) {
        let Some(site) = self.sites.get(place.unwrap_or(self.sites.len() - 1)) else { return };
        let verb = VERBS.iter().position(|verb| *verb == method.as_str());
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        let counter =
            site.requests.get(verb.unwrap_or(VERBS.len() - 1)).and_then(|row| row.get(class));
        if let Some(counter) = counter {
            counter.increment();
        }
        site.answer_ns.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Every path with what happened there, as the table has them.
    pub(super) fn sites(&self) -> impl Iterator<Item = (&'static str, &SiteTraffic)> {
        TABLE.paths().chain([NO_ROUTE]).zip(&self.sites)
    }
}

impl SiteTraffic {
    fn new() -> Self {
        Self { requests: Default::default(), answer_ns: Histogram::new(TIMES_NS) }
    }

    /// Verb, class and count of all requests that there were.
    pub(super) fn requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let rows = VERBS.iter().zip(&self.requests);
        let cells = rows.flat_map(|(verb, row)| {
            CLASSES.iter().zip(row).map(|(class, count)| (*verb, *class, count.value()))
        });
        cells.filter(|(_, _, count)| *count != 0)
    }
}
