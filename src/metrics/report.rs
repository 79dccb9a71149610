//! The figures of a shard, as it tells them when it stops.

use serde_json::{Map, Value, json};

use super::histogram::Quantiles;
use super::requests::RequestMetrics;

/// How long a shard's core stayed with one task: steps are single polls of a task. What the
/// operating system took from the core meanwhile is part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepFigures {
    /// In nanoseconds.
    pub times: Quantiles,
    /// How many were above 1 ms, which none should be.
    pub above_1ms: u64,
}

/// Tells the figures of a shard: as one line of JSON at level info, and a line for each histogram
/// that holds something at level debug. `steps` are those of each part of the shard's life, where the
/// runtime measures them.
pub fn tell(shard: usize, requests: &RequestMetrics, steps: &[(&str, Option<StepFigures>)]) {
    let figures = figures(requests, steps);
    tracing::info!(target: "corelane::metrics", shard, %figures, "what was measured");
    for (api, counts) in requests.apis.used() {
        let counts = counts.all();
        tracing::debug!(target: "corelane::metrics", shard, "{api}: {counts:?}");
    }
    let times = requests.times.all();
    for (kind, stage, times) in times.filter(|(_, _, times)| times.count() > 0) {
        tracing::debug!(target: "corelane::metrics", shard, "{kind} {stage}: {}", line(times.quantiles()));
    }
    for (part, StepFigures { times, above_1ms }) in measured(steps) {
        let line = line(times);
        tracing::debug!(target: "corelane::metrics", shard, "steps {part}: {line}, above 1 ms {above_1ms}");
    }
}

fn measured<'a>(
    steps: &'a [(&'a str, Option<StepFigures>)],
) -> impl Iterator<Item = (&'a str, StepFigures)> {
    steps
        .iter()
        .filter_map(|(part, steps)| Some((*part, (*steps)?)))
}

/// `{"requests": {API: {requests, refused, errors, bytes_in, bytes_out}}, "requests_ns": {KIND: {STAGE: {count, p50, p99, p999, longest}}}, "steps_ns": {PART: {…,
/// above_1ms}}}`, without what never came.
fn figures(requests: &RequestMetrics, steps: &[(&str, Option<StepFigures>)]) -> Value {
    let mut apis = Map::new();
    for (api, counts) in requests.apis.used() {
        apis.insert(api.to_owned(), counts.all().into_iter().collect());
    }
    let mut kinds = Map::new();
    for (kind, stage, times) in requests
        .times
        .all()
        .filter(|(_, _, times)| times.count() > 0)
    {
        let of_kind = kinds.entry(kind).or_insert_with(|| json!({}));
        of_kind[stage] = as_json(times.quantiles());
    }
    let mut parts = Map::new();
    for (part, StepFigures { times, above_1ms }) in measured(steps) {
        let mut of_part = as_json(times);
        of_part["above_1ms"] = above_1ms.into();
        parts.insert(part.to_owned(), of_part);
    }
    json!({ "requests": apis, "requests_ns": kinds, "steps_ns": parts })
}

fn as_json(times: Quantiles) -> Value {
    let Quantiles {
        count,
        p50,
        p99,
        p999,
        longest,
    } = times;
    json!({ "count": count, "p50": p50, "p99": p99, "p999": p999, "longest": longest })
}

fn line(times: Quantiles) -> String {
    let us = |ns: u64| ns as f64 / 1e3;
    format!(
        "{} times, p50 {:.1}, p99 {:.1}, p99.9 {:.1}, longest {:.1} µs",
        times.count,
        us(times.p50),
        us(times.p99),
        us(times.p999),
        us(times.longest),
    )
}
