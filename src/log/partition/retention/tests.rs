//! Tests of retention against a naive model.

use proptest::prelude::*;

use super::*;

/// Segments of ten offsets each, from (bytes, largest timestamp).
fn log(segments: &[(u64, i64)]) -> Vec<KeptSegment> {
    let facts = |(at, &(size_bytes, largest_timestamp_ms)): (i64, &(u64, i64))| KeptSegment {
        base_offset: Offset(at * 10),
        end_offset: Offset(at * 10 + 10),
        size_bytes,
        largest_timestamp_ms,
        last_modified_ms: 500,
    };
    (0..).zip(segments).map(facts).collect()
}

fn planned(
    segments: &[(u64, i64)],
    marks: (i64, i64),
    retention_ms: i64,
    retention_bytes: i64,
) -> (usize, bool, i64) {
    let limits = RetentionLimits {
        retention_ms,
        retention_bytes,
    };
    let (start, high_watermark) = (Offset(marks.0), Offset(marks.1));
    let plan = plan_retention(&log(segments), start, high_watermark, &limits, 1000);
    (
        plan.segment_count,
        plan.roll_active,
        plan.log_start_offset.0,
    )
}

#[test]
fn without_limits_nothing_goes() {
    assert_eq!(planned(&[(5, 0), (5, 0)], (3, 20), -1, -1), (0, false, 3));
    assert_eq!(planned(&[], (3, 3), 0, 0), (0, false, 3));
}

#[test]
fn what_is_older_than_retention_goes_from_the_head() {
    let segments = [(5, 100), (5, 200), (5, 900), (5, 100)];
    assert_eq!(planned(&segments, (0, 40), 800, -1), (1, false, 10));
    assert_eq!(planned(&segments, (0, 40), 799, -1), (2, false, 20));
}

#[test]
fn a_timestamp_from_the_future_keeps_its_segment_and_those_behind() {
    assert_eq!(planned(&[(5, 9999), (5, 0)], (0, 20), 0, -1), (0, false, 0));
}

#[test]
fn without_timestamps_the_last_append_counts() {
    assert_eq!(
        planned(&[(5, -1), (5, 900)], (0, 20), 499, -1),
        (1, false, 10)
    );
    assert_eq!(
        planned(&[(5, -1), (5, 900)], (0, 20), 500, -1),
        (0, false, 0)
    );
}

#[test]
fn by_size_at_least_retention_bytes_stay() {
    let segments = [(5, 0), (5, 0), (5, 0)];
    assert_eq!(planned(&segments, (0, 30), -1, 10), (1, false, 10));
    assert_eq!(planned(&segments, (0, 30), -1, 11), (0, false, 0));
    assert_eq!(planned(&segments, (0, 30), -1, 15), (0, false, 0));
    assert_eq!(planned(&segments, (0, 30), -1, 16), (0, false, 0));
}

#[test]
fn nothing_beyond_the_high_watermark_goes() {
    assert_eq!(planned(&[(5, 0), (5, 0)], (0, 19), 0, -1), (1, false, 10));
    assert_eq!(planned(&[(5, 0), (5, 0)], (0, 9), 0, 0), (0, false, 0));
}

#[test]
fn when_all_goes_the_active_segment_is_rolled_first() {
    assert_eq!(planned(&[(5, 0), (5, 0)], (0, 20), 0, -1), (2, true, 20));
    assert_eq!(planned(&[(5, 0)], (0, 10), -1, 0), (1, true, 10));
}

#[test]
fn an_empty_active_segment_stays() {
    assert_eq!(planned(&[(5, 0), (0, -1)], (0, 20), 0, 0), (1, false, 10));
}

#[test]
fn segments_before_the_log_start_go_and_the_start_never_falls() {
    assert_eq!(
        planned(&[(5, 0), (5, 0), (5, 0)], (25, 30), -1, -1),
        (2, false, 25)
    );
    assert_eq!(planned(&[(5, 0), (5, 0)], (20, 20), -1, -1), (1, false, 20));
}

proptest! {
    #[test]
    fn goes_on_exactly_while_a_rule_says_so(
        sizes in prop::collection::vec((0..10u64, -1..1500i64), 1..8),
        high_watermark in 0..90i64, start in 0..90i64, retention_ms in -1..1200i64, retention_bytes in -1..60i64,
    ) {
        let segments = log(&sizes);
        let (high_watermark, start) = (high_watermark.min(sizes.len() as i64 * 10), start.min(high_watermark));
        let (count, roll, new_start) = planned(&sizes, (start, high_watermark), retention_ms, retention_bytes);
        let total = |from: usize| segments[from..].iter().map(|s| s.size_bytes as i64).sum::<i64>();

        prop_assert!(new_start >= start && new_start <= start.max(high_watermark));
        prop_assert_eq!(new_start, start.max(count as i64 * 10));
        prop_assert_eq!(roll, count == segments.len());
        for (at, gone) in segments[..count].iter().enumerate() {
            let since = if gone.largest_timestamp_ms < 0 { 500 } else { gone.largest_timestamp_ms };
            let old = retention_ms >= 0 && 1000 - since > retention_ms;
            let surplus = retention_bytes >= 0 && total(at + 1) >= retention_bytes;
            prop_assert!(old || surplus || gone.end_offset.0 <= start);
            prop_assert!(gone.end_offset.0 <= high_watermark);
        }
        if let Some(kept) = segments.get(count) {
            let free = kept.end_offset.0 <= high_watermark && (count + 1 < segments.len() || kept.size_bytes > 0);
            let surplus = retention_bytes >= 0 && total(count + 1) >= retention_bytes;
            prop_assert!(!(free && surplus), "kept though surplus");
            prop_assert!(!(free && count + 1 < segments.len() && kept.end_offset.0 <= start), "kept though before the start");
        }
        // Planning again on what is left goes no further by size.
        if retention_ms < 0 && count < segments.len() {
            let limits = RetentionLimits { retention_ms, retention_bytes };
            let again = plan_retention(&segments[count..], Offset(new_start), Offset(high_watermark), &limits, 1000);
            prop_assert_eq!(again.segment_count, 0);
        }
    }
}

#[test]
fn a_clock_that_jumps_ahead_is_waited_out() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let at = Duration::from_secs;
    let mut clock = RetentionClock::new(at(100), 1_000_000, None);
    assert_eq!(clock.look(at(110), 1_010_000), (1_010_000, None));
    assert_eq!(clock.look(at(120), 1_025_000), (1_025_000, None), "slewed");
    let ahead_ms = 8 * DAY_MS;
    let jumped = clock.look(at(130), 1_035_000 + ahead_ms);
    let news = Some(ClockNews::JumpedAhead { ahead_ms });
    assert_eq!(jumped, (1_035_000, news));
    let later = clock.look(at(3_000), 3_905_000 + ahead_ms);
    assert_eq!(later, (3_905_000, None), "said once");
    // It was put right again.
    let over = clock.look(at(3_010), 3_915_000);
    assert_eq!(over, (3_915_000, Some(ClockNews::Over)));
    // One that stands is believed, and time goes on from there.
    clock.look(at(4_000), 4_905_000 + ahead_ms);
    let stands = clock.look(at(4_000) + JUMP_STANDS, 8_505_000 + ahead_ms);
    assert_eq!(stands, (8_505_000 + ahead_ms, Some(ClockNews::Believed)));
    assert_eq!(
        clock.look(at(7_610), 8_515_000 + ahead_ms),
        (8_515_000 + ahead_ms, None)
    );
    // Back at once: that removes nothing.
    assert_eq!(clock.look(at(7_620), 8_525_000), (8_525_000, None));
}

#[test]
fn a_clock_that_is_wrong_at_a_start_is_waited_out() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let (monday_ms, now) = (10 * DAY_MS, Duration::from_secs(5));
    let friday_ms = monday_ms + 4 * DAY_MS;
    let passed = Duration::from_secs(60);
    let mut clock = RetentionClock::new(now, friday_ms, Some(monday_ms));
    assert!(clock.waits());
    let (soon_ms, _) = clock.look(now + passed, friday_ms + 60_000);
    assert_eq!(soon_ms, monday_ms + 60_000);
    // It is put right.
    let right_ms = monday_ms + 100_000;
    let right = clock.look(now + passed, right_ms);
    assert_eq!(right, (right_ms, Some(ClockNews::Over)));
    // It was right.
    let mut clock = RetentionClock::new(now, friday_ms, Some(monday_ms));
    let later_ms = friday_ms + JUMP_STANDS.as_millis() as i64;
    let stood = clock.look(now + JUMP_STANDS, later_ms);
    assert_eq!(stood, (later_ms, Some(ClockNews::Believed)));
    // Nothing to compare it with, or nothing to be seen.
    for written_ms in [None, Some(friday_ms - 1_000_000), Some(friday_ms + DAY_MS)] {
        let mut clock = RetentionClock::new(now, friday_ms, written_ms);
        assert!(!clock.waits(), "{written_ms:?}");
        assert_eq!(clock.look(now, friday_ms), (friday_ms, None));
    }
}
