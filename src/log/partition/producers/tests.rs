//! Tests of the sequence rules against a naive model, and of both stored forms.

use proptest::prelude::*;

use super::*;

const NOW_MS: i64 = 1_700_000_000_000;

fn batch(epoch: i16, first_sequence: i32, records: i32) -> ProducerBatch {
    ProducerBatch {
        producer_id: ProducerId(7),
        producer_epoch: ProducerEpoch(epoch),
        first_sequence,
        last_offset_delta: records - 1,
        max_timestamp_ms: 1000 + i64::from(first_sequence),
        is_control: false,
    }
}

/// A log that grows by what is accepted.
#[derive(Default)]
struct Log {
    states: ProducerStates,
    end_offset: i64,
}

impl Log {
    fn produce(&mut self, batch: ProducerBatch) -> Result<Verdict, ProducerError> {
        let verdict = self.states.check(&batch)?;
        if verdict == Verdict::Append {
            self.states.apply(&batch, Offset(self.end_offset), NOW_MS);
            self.end_offset += i64::from(batch.last_offset_delta) + 1;
        }
        Ok(verdict)
    }

    fn accepts(&mut self, batch: ProducerBatch) {
        assert_eq!(self.produce(batch), Ok(Verdict::Append), "{batch:?}");
    }
}

fn out_of_order(expected: i32, got: i32) -> Result<Verdict, ProducerError> {
    Err(ProducerError::OutOfOrderSequence {
        producer_id: ProducerId(7),
        expected,
        got,
    })
}

#[test]
fn a_retry_of_any_of_the_last_five_is_a_duplicate_with_its_first_numbers() {
    let mut log = Log::default();
    (0..6).for_each(|n| log.accepts(batch(0, n * 10, 10)));
    for n in 1..6 {
        assert_eq!(
            log.produce(batch(0, n * 10, 10)),
            Ok(Verdict::Duplicate {
                base_offset: Offset(i64::from(n) * 10),
                last_offset: Offset(i64::from(n) * 10 + 9),
                timestamp_ms: 1000 + i64::from(n) * 10,
            })
        );
    }
    assert_eq!(log.produce(batch(0, 0, 10)), out_of_order(60, 0));
}

#[test]
fn only_the_exact_range_is_a_duplicate() {
    let mut log = Log::default();
    log.accepts(batch(0, 0, 10));
    assert_eq!(log.produce(batch(0, 0, 9)), out_of_order(10, 0));
    assert_eq!(log.produce(batch(0, 1, 9)), out_of_order(10, 1));
}

#[test]
fn a_retry_is_recognised_before_the_order_is_checked() {
    let mut log = Log::default();
    log.accepts(batch(0, 0, 1));
    log.accepts(batch(0, 1, 1));
    assert!(matches!(
        log.produce(batch(0, 0, 1)),
        Ok(Verdict::Duplicate { .. })
    ));
}

#[test]
fn an_unknown_producer_may_begin_anywhere() {
    let mut log = Log::default();
    log.accepts(batch(3, 4711, 5));
    assert_eq!(log.produce(batch(3, 4717, 1)), out_of_order(4716, 4717));
    log.accepts(batch(3, 4716, 1));
}

#[test]
fn a_new_epoch_begins_at_zero_and_forgets_the_old_batches() {
    let mut log = Log::default();
    log.accepts(batch(0, 0, 5));
    assert_eq!(log.produce(batch(1, 5, 1)), out_of_order(0, 5));
    log.accepts(batch(1, 0, 5));
    assert_eq!(log.states.get(ProducerId(7)).unwrap().batches().count(), 1);
}

#[test]
fn an_older_epoch_is_refused_even_for_a_batch_once_accepted() {
    let mut log = Log::default();
    log.accepts(batch(1, 0, 1));
    log.accepts(batch(2, 0, 1));
    assert_eq!(
        log.produce(batch(1, 0, 1)),
        Err(ProducerError::InvalidProducerEpoch {
            producer_id: ProducerId(7),
            epoch: ProducerEpoch(1),
            current: ProducerEpoch(2),
        })
    );
}

#[test]
fn after_the_largest_sequence_comes_zero() {
    let mut log = Log::default();
    log.accepts(batch(0, i32::MAX - 1, 2));
    log.accepts(batch(0, 0, 1));
    assert_eq!(
        log.produce(batch(0, i32::MIN, 1)),
        out_of_order(1, i32::MIN)
    );
}

#[test]
fn a_batch_may_wrap_within() {
    let mut log = Log::default();
    let wrapping = batch(0, i32::MAX, 3);
    assert_eq!(wrapping.last_sequence(), 1);
    log.accepts(wrapping);
    assert!(matches!(
        log.produce(wrapping),
        Ok(Verdict::Duplicate { .. })
    ));
    log.accepts(batch(0, 2, 1));
}

#[test]
fn after_a_gap_the_missing_batch_is_still_accepted() {
    let mut log = Log::default();
    log.accepts(batch(0, 0, 1));
    assert_eq!(log.produce(batch(0, 2, 1)), out_of_order(1, 2));
    log.accepts(batch(0, 1, 1));
    log.accepts(batch(0, 2, 1));
}

#[test]
fn an_expired_producer_may_go_on_with_any_sequence() {
    let mut log = Log::default();
    log.accepts(batch(0, 0, 1));
    assert_eq!(log.states.remove_expired(NOW_MS + 99, 100), 0);
    assert_eq!(log.states.remove_expired(NOW_MS + 100, 100), 1);
    log.accepts(batch(0, 900, 1));
}

#[test]
fn an_open_transaction_does_not_expire() {
    let mut log = Log::default();
    log.accepts(batch(0, 0, 1));
    let entry = log.states.producers.get_mut(&ProducerId(7)).unwrap();
    entry.set_txn_first_offset(Some(Offset(0)));
    assert_eq!(log.states.remove_expired(i64::MAX, 100), 0);
}

#[test]
fn beyond_the_bound_the_least_recent_producers_go() {
    let mut states = ProducerStates::new(32);
    let of = |id| ProducerBatch {
        producer_id: ProducerId(id),
        ..batch(0, 0, 1)
    };
    (0..32).for_each(|id| states.apply(&of(id), Offset(id), NOW_MS));
    let again = ProducerBatch {
        first_sequence: 1,
        ..of(0)
    };
    states.apply(&again, Offset(32), NOW_MS);
    states.apply(&of(32), Offset(33), NOW_MS);
    // One for the newcomer and two, a sixteenth, ahead of time.
    let known: Vec<_> = states.iter().map(|(id, _)| id.0).collect();
    assert_eq!(known, std::iter::once(0).chain(4..=32).collect::<Vec<_>>());
}

#[test]
fn what_is_known_of_a_producer_is_small_and_counted() {
    assert_eq!(size_of::<ProducerEntry>(), 40);
    let mut states = ProducerStates::default();
    for n in 0..40 {
        let of = ProducerBatch {
            producer_id: ProducerId(n % 7),
            ..batch((n / 21) as i16, n as i32, 1)
        };
        states.apply(&of, Offset(n), NOW_MS + n);
        let sum = |states: &ProducerStates| -> usize {
            let entries = states.iter().map(|(_, entry)| entry.memory_bytes());
            FIRST_NODE_BYTES + entries.sum::<usize>()
        };
        assert_eq!(states.memory_bytes(), sum(&states));
        let last = states.get(of.producer_id).unwrap().last_append_ms();
        assert_eq!(last, NOW_MS + n);
    }
    states.forget(ProducerId(3));
    states.forget(ProducerId(99));
    assert_eq!(states.len(), 6);
    states.remove_expired(i64::MAX, 1);
    assert_eq!(states.memory_bytes(), 0);
}

#[test]
fn a_sample_is_of_those_that_are_known() {
    let mut states = ProducerStates::default();
    assert_eq!(states.sample(5), None);
    let of = |id| ProducerBatch {
        producer_id: ProducerId(id),
        ..batch(0, 0, 1)
    };
    for id in [3, 900, 901] {
        states.apply(&of(id), Offset(id), NOW_MS + id);
    }
    let mut drawn: Vec<_> = (0..2000)
        .filter_map(|random| states.sample(random))
        .collect();
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn, [3, 900, 901].map(|id| (ProducerId(id), NOW_MS + id)));
}

#[test]
fn a_marker_raises_the_epoch_and_carries_no_sequence() {
    let mut log = Log::default();
    log.accepts(batch(0, 0, 3));
    log.accepts(ProducerBatch {
        is_control: true,
        ..batch(1, NO_SEQUENCE, 1)
    });
    assert_eq!(log.produce(batch(1, 3, 1)), out_of_order(0, 3));
    log.accepts(batch(1, 0, 1));
}

#[test]
fn replay_takes_what_is_there() {
    let mut states = ProducerStates::default();
    let odd = [
        (batch(5, 3, 1), 0),
        (batch(2, -1, 4), i64::MAX - 1),
        (batch(2, i32::MAX, i32::MAX), 0),
    ];
    for (batch, base_offset) in odd {
        states.apply(&batch, Offset(base_offset), NOW_MS);
    }
    assert_eq!(states.len(), 1);
}

#[test]
fn replay_from_before_the_known_end_changes_nothing() {
    let mut log = Log::default();
    let batches: Vec<_> = (0..8).map(|n| batch(n / 4, i32::from(n % 4), 1)).collect();
    batches.iter().for_each(|batch| log.accepts(*batch));
    for from in 0..batches.len() {
        let mut states = log.states.clone();
        for (offset, batch) in (0..).zip(&batches).skip(from) {
            states.apply(batch, Offset(offset), NOW_MS);
        }
        assert_eq!(states, log.states, "from {from}");
    }
}

#[test]
fn kafkas_snapshot_has_kafkas_bytes() {
    let mut log = Log::default();
    log.accepts(batch(2, 0, 3));
    log.accepts(batch(2, 3, 2));
    let bytes = log.states.encode_kafka();
    let entry = [
        &7i64.to_be_bytes()[..],
        &2i16.to_be_bytes(),
        &4i32.to_be_bytes(),
        &4i64.to_be_bytes(),
        &1i32.to_be_bytes(),
        &1003i64.to_be_bytes(),
        &(-1i32).to_be_bytes(),
        &(-1i64).to_be_bytes(),
    ]
    .concat();
    let body = [&1i32.to_be_bytes()[..], &entry].concat();
    let crc = crc32c::crc32c(&body).to_be_bytes();
    assert_eq!(bytes, [&1i16.to_be_bytes()[..], &crc, &body].concat());
}

#[test]
fn kafkas_snapshot_keeps_the_last_batch_alone() {
    let mut log = Log::default();
    (0..5).for_each(|n| log.accepts(batch(0, n, 1)));
    let bytes = log.states.encode_kafka();
    log.states = ProducerStates::decode_kafka(&bytes, 10, NOW_MS).unwrap();
    assert!(matches!(
        log.produce(batch(0, 4, 1)),
        Ok(Verdict::Duplicate { .. })
    ));
    assert_eq!(log.produce(batch(0, 3, 1)), out_of_order(5, 3));
    log.accepts(batch(0, 5, 1));
}

fn sealed(version: i16, body: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c(body).to_be_bytes();
    [&version.to_be_bytes()[..], &crc, body].concat()
}

#[test]
fn hostile_counts_are_refused_before_anything_is_allocated() {
    for count in [i32::MAX, -1, 1] {
        let bytes = sealed(1, &count.to_be_bytes());
        assert!(ProducerStates::decode_kafka(&bytes, 10, 0).is_err());
        let full = sealed(
            101,
            &[&0i64.to_be_bytes()[..], &count.to_be_bytes()].concat(),
        );
        assert!(ProducerStates::decode_full(&full, 10).is_err());
    }
}

fn steps() -> impl Strategy<Value = Vec<(i64, i16, i32, i32)>> {
    // Sequences near the wrap and few producers, so that order, retries and wraps all happen.
    let sequence = prop_oneof![0..6i32, i32::MAX - 5..=i32::MAX];
    prop::collection::vec((0..3i64, 0..3i16, sequence, 1..4i32), 0..300)
}

/// The rules said once more, over the whole history instead of a window.
#[derive(Default)]
struct Naive(Vec<(ProducerBatch, i64)>);

impl Naive {
    fn check(&self, new: &ProducerBatch) -> Result<Verdict, ProducerError> {
        let of_producer = || {
            let id = new.producer_id;
            self.0.iter().filter(move |(old, _)| old.producer_id == id)
        };
        let Some((last, _)) = of_producer().next_back() else {
            return Ok(Verdict::Append);
        };
        let same_epoch = |old: &ProducerBatch| old.producer_epoch == new.producer_epoch;
        let recent = of_producer().rev().take_while(|(old, _)| same_epoch(old));
        for (old, base_offset) in recent.take(5) {
            if old.first_sequence == new.first_sequence
                && old.last_offset_delta == new.last_offset_delta
            {
                return Ok(Verdict::Duplicate {
                    base_offset: Offset(*base_offset),
                    last_offset: Offset(base_offset + i64::from(old.last_offset_delta)),
                    timestamp_ms: old.max_timestamp_ms,
                });
            }
        }
        if new.producer_epoch < last.producer_epoch {
            return Err(ProducerError::InvalidProducerEpoch {
                producer_id: new.producer_id,
                epoch: new.producer_epoch,
                current: last.producer_epoch,
            });
        }
        let after = i64::from(last.first_sequence) + i64::from(last.last_offset_delta) + 1;
        let expected = if same_epoch(last) {
            (after % (1 << 31)) as i32
        } else {
            0
        };
        if new.first_sequence == expected {
            return Ok(Verdict::Append);
        }
        Err(ProducerError::OutOfOrderSequence {
            producer_id: new.producer_id,
            expected,
            got: new.first_sequence,
        })
    }
}

proptest! {
    #[test]
    fn agrees_with_the_rules_over_the_whole_history(steps in steps(), restart_every in 1..40usize) {
        let (mut log, mut naive) = (Log::default(), Naive::default());
        for (n, (id, epoch, sequence, records)) in steps.into_iter().enumerate() {
            // Half of the batches continue where the producer stands, or nothing would get far.
            let next = log.states.get(ProducerId(id)).map(|entry| (entry.epoch().0, entry.last_sequence()));
            let (epoch, sequence) = match next {
                Some((epoch, last)) if n % 2 == 0 => (epoch, last.wrapping_add(1) & i32::MAX),
                _ => (epoch, sequence),
            };
            let new = ProducerBatch { producer_id: ProducerId(id), ..batch(epoch, sequence, records) };
            let base_offset = log.end_offset;
            let verdict = log.produce(new);
            prop_assert_eq!(verdict, naive.check(&new));
            if verdict == Ok(Verdict::Append) {
                naive.0.push((new, base_offset));
            }
            if n % restart_every == 0 {
                let end_offset = Offset(log.end_offset);
                let bytes = log.states.encode_full(end_offset);
                let (at, states) = ProducerStates::decode_full(&bytes, DEFAULT_MAX_PRODUCERS).unwrap();
                prop_assert_eq!((at, &states), (end_offset, &log.states));
                log.states = states;
            }
        }
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed(steps in steps(), at in any::<prop::sample::Index>()) {
        let mut log = Log::default();
        for (id, epoch, sequence, records) in steps {
            let _ = log.produce(ProducerBatch { producer_id: ProducerId(id), ..batch(epoch, sequence, records) });
        }
        for bytes in [log.states.encode_kafka(), log.states.encode_full(Offset(log.end_offset))] {
            let mut flipped = bytes.clone();
            let bit = at.index(bytes.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            let cut = &bytes[..at.index(bytes.len())];
            for wrong in [&flipped[..], cut] {
                prop_assert!(ProducerStates::decode_kafka(wrong, 10, 0).is_err());
                prop_assert!(ProducerStates::decode_full(wrong, 10).is_err());
            }
        }
    }

    #[test]
    fn arbitrary_content_under_a_right_checksum_never_panics(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = ProducerStates::decode_kafka(&sealed(1, &body), 10, 0);
        let bytes = sealed(101, &body);
        if let Ok((end_offset, states)) = ProducerStates::decode_full(&bytes, 10) {
            prop_assert_eq!(states.encode_full(end_offset).len(), bytes.len());
        }
    }
}
