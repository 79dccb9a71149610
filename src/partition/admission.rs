//! The gateway of Produce: from bytes off the wire to a batch that the log takes as it is.
//!
//! Pure. Header and records are checked; with `corelane.validate.records=false`, for measuring, records
//! are opened only where the topic wants another codec.

use std::borrow::Cow;

use super::admission_error::AdmissionError;
use super::opener::BatchOpener;
use crate::compress::Level;
use crate::config::{BrokerConfig, CompressionType, TimestampType, TopicConfig};
use crate::model::Codec;
use crate::model::batch::{
    BatchError, BatchView, InvalidBatch, ProduceRules, RecordRules, check_produced,
    set_log_append_time, set_max_timestamp,
};
use crate::rt::Permit;

/// What a topic asks of the batches produced to it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdmissionRules {
    max_batch_bytes: usize,
    /// The codec in which batches are stored; none as they were sent.
    stored_as: Option<Level>,
    log_append_time: bool,
    before_max_ms: i64,
    after_max_ms: i64,
    validate_records: bool,
}

/// A batch that keeps the topic's rules.
#[derive(Debug)]
pub struct Admitted<'a> {
    /// Exactly one batch, with offsets still counting from 0.
    pub batch: Cow<'a, [u8]>,
    /// The time that all its records now have; none where they keep their own.
    pub log_append_time_ms: Option<i64>,
    /// What the batch takes where it is not the producer's bytes.
    _memory: Option<Permit>,
}

impl AdmissionRules {
    /// The rules that follow from a topic's and the broker's configuration.
    pub fn new(topic: &TopicConfig, broker: &BrokerConfig) -> Self {
        Self {
            max_batch_bytes: usize::try_from(topic.max_message_bytes).unwrap_or(0),
            stored_as: stored_as(topic),
            log_append_time: topic.message_timestamp_type == TimestampType::LogAppendTime,
            before_max_ms: topic.message_timestamp_before_max_ms,
            after_max_ms: topic.message_timestamp_after_max_ms,
            validate_records: broker.corelane_validate_records,
        }
    }

    /// Checks a partition's records of a Produce request and rewrites what the topic wants otherwise or
    /// the producer got wrong. Waits while there is no memory for what is rewritten; `pause` lets the
    /// shard's other tasks run where a batch takes long.
    pub async fn admit<'a, P: AsyncFn()>(
        &self,
        records: &'a [u8],
        is_zstd_allowed: bool,
        opener: &BatchOpener,
        now_ms: i64,
        pause: &P,
    ) -> Result<Admitted<'a>, AdmissionError> {
        let rules = ProduceRules {
            max_batch_bytes: self.max_batch_bytes,
            is_zstd_allowed,
        };
        let sent = check_produced(records, rules)?;
        let level = self.stored_as;
        let level = level.filter(|level| level.codec() != sent.compression());
        let mut admitted = Admitted {
            batch: Cow::Borrowed(sent.bytes()),
            log_append_time_ms: self.log_append_time.then_some(now_ms),
            _memory: None,
        };
        let mut max_timestamp_ms = sent.max_timestamp_ms();
        if level.is_some() || self.validate_records {
            let rules = self.record_rules(now_ms);
            let opened = opener.check(&sent, &rules, pause).await?;
            max_timestamp_ms = opened.facts.max_timestamp_ms;
            if let Some(level) = level {
                let limit_bytes = self.max_batch_bytes;
                let made = opener.recompressed(&sent, &opened, level, limit_bytes, pause);
                let (batch, memory) = made.await?;
                (admitted.batch, admitted._memory) = (Cow::Owned(batch), Some(memory));
            }
        } else if !self.log_append_time {
            self.check_header_times(&sent, now_ms)?;
        }
        let is_changed = self.log_append_time || max_timestamp_ms != sent.max_timestamp_ms();
        if is_changed {
            if admitted._memory.is_none() {
                admitted._memory = Some(opener.memory(records.len()).await);
            }
            admitted
                .set_timestamp(max_timestamp_ms)
                .map_err(|_| InvalidBatch::Truncated)?;
        }
        Ok(admitted)
    }

    /// What the header says of the times, where nobody looks at the records: enough to refuse a
    /// future that would pin retention.
    fn check_header_times(&self, sent: &BatchView<'_>, now_ms: i64) -> Result<(), AdmissionError> {
        let (first_ms, last_ms) = self.allowed_times(now_ms);
        for timestamp_ms in [sent.base_timestamp_ms(), sent.max_timestamp_ms()] {
            if timestamp_ms != -1 && !(first_ms..=last_ms).contains(&timestamp_ms) {
                return Err(AdmissionError::Timestamp {
                    timestamp_ms,
                    first_ms,
                    last_ms,
                });
            }
        }
        Ok(())
    }

    fn allowed_times(&self, now_ms: i64) -> (i64, i64) {
        (
            now_ms.saturating_sub(self.before_max_ms),
            now_ms.saturating_add(self.after_max_ms),
        )
    }

    fn record_rules(&self, now_ms: i64) -> RecordRules {
        let (first_ms, last_ms) = self.allowed_times(now_ms);
        let timestamps_ms = (!self.log_append_time).then_some(first_ms..=last_ms);
        RecordRules {
            is_key_required: false,
            timestamps_ms,
        }
    }
}

impl Admitted<'_> {
    /// Old clients leave the max timestamp unset; lookups by time and retention go by it.
    fn set_timestamp(&mut self, max_timestamp_ms: i64) -> Result<(), BatchError> {
        let batch = self.batch.to_mut();
        match self.log_append_time_ms {
            Some(now_ms) => set_log_append_time(batch, now_ms),
            None => set_max_timestamp(batch, max_timestamp_ms),
        }
    }
}

fn stored_as(topic: &TopicConfig) -> Option<Level> {
    let CompressionType::Codec(codec) = topic.compression_type else {
        return None;
    };
    let number = match codec {
        Codec::None | Codec::Snappy => 0,
        Codec::Gzip => topic.compression_gzip_level,
        Codec::Lz4 => topic.compression_lz4_level,
        Codec::Zstd => topic.compression_zstd_level,
    };
    Some(Level::new(codec, number).unwrap_or(Level::default_of(codec)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;
    use crate::compress::Codecs;
    use crate::model::batch::{BatchBuilder, BatchFields, Records};
    use crate::rt::{Aside, Runtime};

    const NOW_MS: i64 = 1_700_000_000_000;

    fn broker() -> BrokerConfig {
        let host = crate::config::Host::probe();
        let (settings, _) = crate::config::Sources::default().load(&host).unwrap();
        settings.resolve(&Default::default()).unwrap()
    }

    fn rules(overrides: &[(&str, &str)]) -> AdmissionRules {
        let overrides: BTreeMap<_, _> = overrides
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        let broker = broker();
        AdmissionRules::new(&TopicConfig::resolve(&broker, &overrides).unwrap(), &broker)
    }

    fn sample(timestamp_ms: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for _ in 0..50 {
            builder
                .append(timestamp_ms, Some(b"key"), Some(&[b'v'; 100]), &[])
                .unwrap();
        }
        let mut batch = Vec::new();
        builder.append_batch(&mut batch).unwrap();
        batch
    }

    fn admit<'a>(rules: &AdmissionRules, batch: &'a [u8]) -> Result<Admitted<'a>, AdmissionError> {
        let opener = BatchOpener::new(1 << 20, Aside::at_once());
        let admitted = rules.admit(batch, true, &opener, NOW_MS, &async || {});
        admitted.now_or_never().expect("nobody is in the way")
    }

    #[test]
    fn by_default_batches_stay_as_sent() {
        let batch = sample(NOW_MS);
        let admitted = admit(&rules(&[]), &batch).unwrap();
        assert!(matches!(admitted.batch, Cow::Borrowed(bytes) if bytes == batch));
        assert_eq!(admitted.log_append_time_ms, None);
    }

    #[test]
    fn the_topics_codec_is_applied_and_records_stay() {
        let batch = sample(NOW_MS);
        for codec in ["gzip", "snappy", "lz4", "zstd"] {
            let admitted = admit(&rules(&[("compression.type", codec)]), &batch).unwrap();
            let view = BatchView::first_verified(&admitted.batch).unwrap();
            assert_eq!(view.compression().name(), codec);
            assert!(view.bytes().len() < batch.len());
            let mut plain = Vec::new();
            Codecs::new()
                .decompress(view.compression(), view.records(), &mut plain, 1 << 20)
                .unwrap();
            assert_eq!(Records::new(&plain, view.record_count()).count(), 50);
            let back = admit(
                &rules(&[("compression.type", "uncompressed")]),
                &admitted.batch,
            );
            assert_eq!(back.unwrap().batch, batch);
        }
    }

    #[test]
    fn the_size_is_checked_again_after_recompression() {
        let batch = sample(NOW_MS);
        let small = admit(&rules(&[("compression.type", "zstd")]), &batch).unwrap();
        let limits = [
            ("max.message.bytes", "1000"),
            ("compression.type", "uncompressed"),
        ];
        let error = admit(&rules(&limits), &small.batch).unwrap_err();
        assert!(
            matches!(error, AdmissionError::Batch(InvalidBatch::TooLarge { .. })),
            "{error}"
        );
    }

    #[test]
    fn log_append_time_is_the_brokers() {
        let batch = sample(5);
        let rules = rules(&[("message.timestamp.type", "LogAppendTime")]);
        let admitted = admit(&rules, &batch).unwrap();
        assert_eq!(admitted.log_append_time_ms, Some(NOW_MS));
        let view = BatchView::first_verified(&admitted.batch).unwrap();
        assert_eq!(view.max_timestamp_ms(), NOW_MS);
    }

    /// A batch of two records, 40 ms apart, whose header was changed after it was made.
    fn changed(change: impl FnOnce(&mut BatchFields)) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for timestamp_ms in [NOW_MS, NOW_MS + 40] {
            builder.append(timestamp_ms, None, Some(b"v"), &[]).unwrap();
        }
        let mut fields = builder.fields().unwrap();
        change(&mut fields);
        let mut batch = Vec::new();
        fields.append(builder.records(), &mut batch).unwrap();
        batch
    }

    #[test]
    fn a_max_timestamp_that_the_records_contradict_is_corrected() {
        let right = changed(|_| {});
        for wrong_ms in [-1, NOW_MS, NOW_MS + 41, i64::MAX] {
            let sent = changed(|fields| fields.max_timestamp_ms = wrong_ms);
            let admitted = admit(&rules(&[]), &sent).unwrap();
            assert_eq!(admitted.batch, right, "{wrong_ms}");
        }
        let no_times = changed(|fields| {
            (fields.base_timestamp_ms, fields.max_timestamp_ms) = (-41, -41);
        });
        let admitted = admit(&rules(&[]), &no_times).unwrap();
        let view = BatchView::first_verified(&admitted.batch).unwrap();
        assert_eq!(view.max_timestamp_ms(), -1);
    }

    #[test]
    fn batches_that_consumers_could_not_read_are_refused() {
        let counts_3 = changed(|fields| {
            (fields.record_count, fields.last_offset_delta) = (3, 2);
        });
        let counts_1 = changed(|fields| {
            (fields.record_count, fields.last_offset_delta) = (1, 0);
        });
        for lie in [counts_3, counts_1] {
            let error = admit(&rules(&[]), &lie).unwrap_err();
            assert!(matches!(error, AdmissionError::Records(_)), "{error}");
        }
        for codec in Codec::COMPRESSING {
            let claims = changed(|fields| fields.compression = codec);
            for topic in [&[][..], &[("compression.type", "uncompressed")]] {
                let error = admit(&rules(topic), &claims).unwrap_err();
                let is_final = matches!(
                    &error,
                    AdmissionError::Decompress(error) if !error.is_too_large()
                );
                assert!(is_final, "{codec}: {error}");
            }
        }
    }

    #[test]
    fn a_transaction_that_does_not_exist_is_refused() {
        let claims = changed(|fields| fields.is_transactional = true);
        let error = admit(&rules(&[]), &claims).unwrap_err();
        assert!(
            matches!(error, AdmissionError::Batch(InvalidBatch::Transactional)),
            "{error}"
        );
    }

    /// One record of `bytes` zeros.
    fn zeros(bytes: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        builder
            .append(NOW_MS, None, Some(&vec![0; bytes]), &[])
            .unwrap();
        let fields = BatchFields {
            compression: Codec::Zstd,
            ..builder.fields().unwrap()
        };
        let mut packed = Vec::new();
        Codecs::new()
            .compress(
                Level::default_of(Codec::Zstd),
                builder.records(),
                &mut packed,
            )
            .unwrap();
        let mut batch = Vec::new();
        fields.append(&packed, &mut batch).unwrap();
        batch
    }

    #[test]
    fn a_batch_may_expand_as_far_as_it_likes() {
        const PLAIN_BYTES: usize = 40 << 20;
        let batch = zeros(PLAIN_BYTES);
        assert!(batch.len() < PLAIN_BYTES / 5_000);
        let opener = BatchOpener::new(1 << 20, Aside::at_once());
        for topic in [&[][..], &[("compression.type", "lz4")]] {
            let pauses = Cell::new(0);
            let pause = async || pauses.set(pauses.get() + 1);
            let rules = rules(topic);
            let admitted = rules.admit(&batch, true, &opener, NOW_MS, &pause);
            let admitted = admitted.now_or_never().expect("nobody is in the way");
            let admitted = admitted.unwrap();
            let view = BatchView::first_verified(&admitted.batch).unwrap();
            let mut plain = Vec::new();
            Codecs::new()
                .decompress(
                    view.compression(),
                    view.records(),
                    &mut plain,
                    PLAIN_BYTES + 100,
                )
                .unwrap();
            let mut records = Records::new(&plain, 1);
            let value = records.next().unwrap().unwrap().value.unwrap();
            assert!(value == vec![0; PLAIN_BYTES]);
            // The core is given away at least every half mebibyte.
            assert!(pauses.get() > PLAIN_BYTES >> 19, "{}", pauses.get());
        }
        // Where it cannot be stored, clients are told to split it.
        let plain = rules(&[("compression.type", "uncompressed")]);
        let error = admit(&plain, &batch).unwrap_err();
        assert!(
            matches!(error, AdmissionError::Batch(InvalidBatch::TooLarge { .. })),
            "{error}"
        );
        assert_eq!(opener.taken_bytes(), 0);
    }

    #[test]
    fn empty_pieces_take_their_time_too() {
        const EMPTY: usize = 20_000;
        let mut builder = BatchBuilder::new();
        builder.append(NOW_MS, None, Some(b"v"), &[]).unwrap();
        let fields = BatchFields {
            compression: Codec::Gzip,
            ..builder.fields().unwrap()
        };
        let level = Level::default_of(Codec::Gzip);
        let packed = |plain: &[u8]| {
            let mut packed = Vec::new();
            Codecs::new().compress(level, plain, &mut packed).unwrap();
            packed
        };
        let records = [packed(&[]).repeat(EMPTY), packed(builder.records())].concat();
        let mut batch = Vec::new();
        fields.append(&records, &mut batch).unwrap();
        let opener = BatchOpener::new(1 << 20, Aside::at_once());
        let pauses = Cell::new(0);
        let pause = async || pauses.set(pauses.get() + 1);
        let rules = rules(&[("compression.type", "uncompressed")]);
        let admitted = rules.admit(&batch, true, &opener, NOW_MS, &pause);
        let admitted = admitted.now_or_never().expect("nobody is in the way");
        let plain = admitted.unwrap();
        let view = BatchView::first_verified(&plain.batch).unwrap();
        assert_eq!(view.records(), builder.records());
        // A KiB each: 256 a step of the check, 1,024 a step of what is made.
        let expected = EMPTY / 256 + EMPTY / 1_024;
        assert!(pauses.get() >= expected, "{} of {expected}", pauses.get());
    }

    /// A batch as librdkafka frames snappy, one block, which is decoded whole; and its records.
    fn raw_snappy(bytes: usize) -> (Vec<u8>, Vec<u8>) {
        let mut builder = BatchBuilder::new();
        let value: Vec<u8> = (0..bytes).map(|at| (at * at / 7) as u8).collect();
        builder.append(NOW_MS, None, Some(&value), &[]).unwrap();
        let fields = BatchFields {
            compression: Codec::Snappy,
            ..builder.fields().unwrap()
        };
        let packed = snap::raw::Encoder::new().compress_vec(builder.records());
        let mut batch = Vec::new();
        fields.append(&packed.unwrap(), &mut batch).unwrap();
        (batch, builder.records().to_vec())
    }

    #[test]
    fn what_cannot_be_cut_into_steps_is_done_aside() {
        let is_aside = |topic: &[(&str, &str)], bytes: usize| {
            let (batch, plain) = raw_snappy(bytes);
            let rules = rules(&[topic, &[("max.message.bytes", "10000000")]].concat());
            let waited = crate::rt::run_one(1 << 20, async move |rt| {
                let opener = BatchOpener::new(1 << 20, rt.aside().clone());
                let admit = rules.admit(&batch, true, &opener, NOW_MS, &async || {});
                let mut admit = pin!(admit);
                // Without a pause, only the thread can keep it waiting, and does while that is kept busy.
                let (go_on, gate) = std::sync::mpsc::channel::<()>();
                let mut busy = pin!(rt.aside().run(move || gate.recv().is_ok()));
                assert!(busy.as_mut().now_or_never().is_none());
                let (waits, admitted) = match admit.as_mut().now_or_never() {
                    Some(admitted) => (false, admitted),
                    None => {
                        drop(go_on);
                        let context_bytes = rules
                            .stored_as
                            .map_or(0, |level| level.context_bytes(plain.len()));
                        assert!(opener.taken_bytes() >= context_bytes + batch.len());
                        (true, admit.await)
                    }
                };
                let admitted = admitted.unwrap();
                let view = BatchView::first_verified(&admitted.batch).unwrap();
                let mut out = Vec::new();
                let (codec, limit) = (view.compression(), plain.len());
                let mut codecs = Codecs::new();
                codecs
                    .decompress(codec, view.records(), &mut out, limit)
                    .unwrap();
                assert!(out == plain);
                let held_bytes = admitted._memory.as_ref().map_or(0, Permit::amount);
                assert_eq!(opener.taken_bytes(), held_bytes);
                let made_bytes = match &admitted.batch {
                    Cow::Owned(batch) => batch.capacity(),
                    Cow::Borrowed(_) => 0,
                };
                assert_eq!(held_bytes, made_bytes);
                waits
            });
            waited.unwrap()
        };
        let zstd = |level| {
            [
                ("compression.type", "zstd"),
                ("compression.zstd.level", level),
            ]
        };
        let gzip = |level| {
            [
                ("compression.type", "gzip"),
                ("compression.gzip.level", level),
            ]
        };
        assert!(!is_aside(&[], 1_000_000));
        assert!(is_aside(&[], 2 << 20), "a block of 2 MiB");
        assert!(!is_aside(&zstd("5"), 200_000));
        assert!(is_aside(&zstd("6"), 200_000));
        assert!(!is_aside(&zstd("19"), 900), "a step");
        assert!(!is_aside(&gzip("7"), 200_000));
        assert!(is_aside(&gzip("8"), 200_000));
    }

    #[test]
    fn memory_of_what_is_made_is_waited_for() {
        let batch = sample(NOW_MS);
        let rules = rules(&[("compression.type", "uncompressed")]);
        let packed = admit(&self::rules(&[("compression.type", "zstd")]), &batch).unwrap();
        let opener = BatchOpener::new(2 * batch.len(), Aside::at_once());
        let pause = async || {};
        let admit = || rules.admit(&packed.batch, true, &opener, NOW_MS, &pause);
        let held: Vec<_> = (0..2)
            .map(|_| admit().now_or_never().expect("there is room").unwrap())
            .collect();
        assert!(opener.taken_bytes() <= 2 * batch.len());
        let mut third = Box::pin(admit());
        assert!((&mut third).now_or_never().is_none(), "there is no room");
        // What stays as it was sent waits for nobody.
        let as_sent = AdmissionRules {
            stored_as: None,
            ..rules.clone()
        };
        let as_sent = as_sent.admit(&packed.batch, true, &opener, NOW_MS, &pause);
        as_sent.now_or_never().expect("no wait").unwrap();
        drop(held);
        let third = third.now_or_never().expect("there is room again").unwrap();
        assert_eq!(third.batch, batch);
        drop(third);
        assert_eq!(opener.taken_bytes(), 0);
    }

    #[test]
    fn times_far_in_the_future_are_refused() {
        let batch = sample(NOW_MS + 3_600_001);
        let error = admit(&rules(&[]), &batch).unwrap_err();
        assert_eq!(error.rejected_records().count(), 16, "{error}");
        let unseen = AdmissionRules {
            validate_records: false,
            ..rules(&[])
        };
        let error = admit(&unseen, &batch).unwrap_err();
        assert!(matches!(error, AdmissionError::Timestamp { .. }), "{error}");
        let admitted = rules(&[("message.timestamp.before.max.ms", "10")]);
        assert!(admit(&admitted, &sample(NOW_MS - 11)).is_err());
        assert!(admit(&admitted, &sample(NOW_MS - 9)).is_ok());
    }
}
