//! The gateway's numbers. Labels come from closed sets alone: no name, address or text that somebody else chose.

use std::{sync::OnceLock, time::Duration};

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

use crate::refusal::RefusalCode;

/// Where the numbers are kept, once per process.
static NUMBERS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Begins to keep numbers. Harmless when called again; without effect if the process counts elsewhere already.
pub fn install() -> Option<PrometheusHandle> {
    NUMBERS
        .get_or_init(|| match recorder() {
            Ok(handle) => Some(handle),
            Err(error) => {
                tracing::warn!("no metrics: {error}");
                None
            }
        })
        .clone()
}

fn recorder() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
    describe();
    counter!("doorward_break_glass_total").absolute(0);
    for code in RefusalCode::ALL {
        counter!("doorward_refusals_total", "code" => code.as_str()).absolute(0);
    }
    Ok(handle)
}

fn describe() {
    metrics::describe_counter!("doorward_requests_total", "requests by route and status class");
    metrics::describe_counter!("doorward_refusals_total", "refusals by code");
    metrics::describe_counter!(
        "doorward_tls_handshakes_failed_total",
        "TLS handshakes that failed, by reason"
    );
    metrics::describe_counter!(
        "doorward_connections_gave_way_total",
        "unauthenticated connections that gave way"
    );
    metrics::describe_counter!(
        "doorward_accept_errors_total",
        "connections that the system would not give us"
    );
    metrics::describe_counter!("doorward_keys_fetched_total", "fetches of the issuer's keys by result");
    metrics::describe_counter!(
        "doorward_break_glass_total",
        "sessions let in while recordings could not be stored"
    );
    metrics::describe_gauge!("doorward_sessions", "sessions that are open");
    metrics::describe_gauge!(
        "doorward_records_backlog_bytes",
        "bytes of recordings that the object store lacks"
    );
    metrics::describe_gauge!(
        "doorward_records_backlog_age_seconds",
        "how long the oldest of them has waited"
    );
    metrics::describe_gauge!(
        "doorward_records_conflicts",
        "recordings that the object store has with other content"
    );
    metrics::describe_gauge!(
        "doorward_records_held_back",
        "recordings that are due by a clock that is doubted"
    );
    metrics::describe_gauge!(
        "doorward_records_clock_apart_seconds",
        "by how much the clock differs from what is believed, while it is doubted"
    );
    metrics::describe_gauge!(
        "doorward_export_lag_events",
        "durable events of the journal that a sink has not taken"
    );
    metrics::describe_gauge!(
        "doorward_export_lag_seconds",
        "age of the oldest event that a sink lacks"
    );
    metrics::describe_gauge!(
        "doorward_export_sessions",
        "sessions, open ones included, whose recordings a sink has not taken whole"
    );
    metrics::describe_counter!("doorward_export_events_total", "events that a sink has taken");
    metrics::describe_counter!("doorward_export_failures_total", "attempts that a sink has not taken");
    metrics::describe_gauge!("doorward_links", "links to agents that stand");
    metrics::describe_gauge!(
        "doorward_connections_unauthenticated",
        "connections that have not proved who they are"
    );
    metrics::describe_gauge!("doorward_keys_age_seconds", "age of the issuer's keys");
    metrics::describe_histogram!("doorward_identify_seconds", "time to check a token");
}

/// An answer was given.
pub fn answered(route: &'static str, status: u16) {
    let class = match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    counter!("doorward_requests_total", "route" => route, "status" => class).increment(1);
}

/// What the object store lacks.
pub fn backlog(backlog: crate::record::Backlog) {
    gauge!("doorward_records_backlog_bytes").set(backlog.bytes as f64);
    gauge!("doorward_records_backlog_age_seconds").set(backlog.age.as_secs_f64());
    gauge!("doorward_records_conflicts").set(backlog.conflicts as f64);
}

/// Whether deletion waits for the clock.
pub fn doubt(doubt: Option<crate::record::Doubt>) {
    let apart = doubt.map_or(Duration::ZERO, |doubt| doubt.apart);
    gauge!("doorward_records_held_back").set(doubt.map_or(0, |doubt| doubt.held_back) as f64);
    gauge!("doorward_records_clock_apart_seconds").set(apart.as_secs_f64());
}

/// What a sink lacks. Sinks are named in the configuration.
pub fn export_lag(sink: &str, events: u64, age: Duration, sessions: u64) {
    gauge!("doorward_export_lag_events", "sink" => sink.to_owned()).set(events as f64);
    gauge!("doorward_export_lag_seconds", "sink" => sink.to_owned()).set(age.as_secs_f64());
    gauge!("doorward_export_sessions", "sink" => sink.to_owned()).set(sessions as f64);
}

/// A sink has taken events.
pub fn exported(sink: &str, events: u64) {
    counter!("doorward_export_events_total", "sink" => sink.to_owned()).increment(events);
}

/// A sink has not taken what it was given.
pub fn export_failed(sink: &str) {
    counter!("doorward_export_failures_total", "sink" => sink.to_owned()).increment(1);
}

/// Something was refused.
pub fn refused(code: RefusalCode) {
    counter!("doorward_refusals_total", "code" => code.as_str()).increment(1);
}

/// A TLS handshake failed: `refused` or `timeout`.
pub fn handshake_failed(reason: &'static str) {
    counter!("doorward_tls_handshakes_failed_total", "reason" => reason).increment(1);
}

/// An unauthenticated connection gave way to a newer one.
pub fn gave_way() {
    counter!("doorward_connections_gave_way_total").increment(1);
}

/// accept(2) failed for want of something of ours.
pub fn accept_failed() {
    counter!("doorward_accept_errors_total").increment(1);
}

/// The issuer's keys were asked for.
pub fn keys_fetched(good: bool) {
    counter!("doorward_keys_fetched_total", "result" => if good { "good" } else { "failed" }).increment(1);
}

/// The age of the keys that are believed.
pub fn keys_age(age: Duration) {
    gauge!("doorward_keys_age_seconds").set(age.as_secs_f64());
}

/// A token was checked.
pub fn identified(took: Duration) {
    histogram!("doorward_identify_seconds").record(took.as_secs_f64());
}

/// How many links to agents stand.
pub fn links(count: usize) {
    gauge!("doorward_links").set(count as f64);
}

/// How many connections have not proved who they are.
pub fn unauthenticated(count: usize) {
    gauge!("doorward_connections_unauthenticated").set(count as f64);
}

/// Somebody was let in while recordings could not be stored.
pub fn glass_broken() {
    counter!("doorward_break_glass_total").increment(1);
}

/// How many sessions are open.
pub fn sessions(count: usize) {
    gauge!("doorward_sessions").set(count as f64);
}

/// Bounds of every histogram, in seconds.
const BUCKETS: [f64; 12] = [
    0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0,
];
