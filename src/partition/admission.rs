//! The gateway of Produce: from bytes off the wire to a batch that the log takes as it is.
//!
//! Pure. Header and records are checked; with `corelane.validate.records=false`, for measuring, records
//! are opened only where the topic wants another codec.

use std::borrow::Cow;

use crate::compress::{Codec, Codecs, CompressError, DecompressError, Level, output_limit_bytes};
use crate::config::{BrokerConfig, CompressionType, TimestampType, TopicConfig};
use crate::model::batch::{
    BatchFields, BatchView, Compression, InvalidBatch, InvalidRecords, ProduceRules, RecordFacts,
    RecordRules, RejectedRecord, SealError, check_produced, check_records, recompress,
    set_log_append_time, set_max_timestamp,
};

/// What a topic asks of the batches produced to it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdmissionRules {
    max_batch_bytes: usize,
    stored_as: StoredAs,
    log_append_time: bool,
    before_max_ms: i64,
    after_max_ms: i64,
    validate_records: bool,
}

/// Codec in which batches are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
enum StoredAs {
    /// As the producer sent them.
    Sent,
    /// Not compressed.
    Plain,
    /// With this codec and level.
    Compressed(Level),
}

/// A batch that keeps the topic's rules.
#[derive(Debug)]
pub struct Admitted<'a> {
    /// Exactly one batch, with offsets still counting from 0.
    pub batch: Cow<'a, [u8]>,
    /// The time that all its records now have; none where they keep their own.
    pub log_append_time_ms: Option<i64>,
}

/// Why a batch is refused; nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// Its header breaks a rule.
    #[error(transparent)]
    Batch(#[from] InvalidBatch),
    /// Its records break a rule.
    #[error(transparent)]
    Records(#[from] InvalidRecords),
    /// Its timestamps lie outside what the topic allows.
    #[error("timestamp {timestamp_ms} is not within {first_ms} to {last_ms}")]
    Timestamp {
        /// The offending time.
        timestamp_ms: i64,
        /// Earliest that is allowed.
        first_ms: i64,
        /// Latest that is allowed.
        last_ms: i64,
    },
    /// Its records do not decompress.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// The topic's codec failed.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// Recompressed, it does not fit a batch.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl AdmissionError {
    /// The records that made the whole batch fail, as far as they are known (KIP-467).
    pub fn rejected_records(&self) -> impl Iterator<Item = &RejectedRecord> {
        match self {
            Self::Records(InvalidRecords::Rejected(rejected)) => rejected.as_slice(),
            _ => &[],
        }
        .iter()
    }
}

impl AdmissionRules {
    /// The rules that follow from a topic's and the broker's configuration.
    pub fn new(topic: &TopicConfig, broker: &BrokerConfig) -> Self {
        Self {
            max_batch_bytes: usize::try_from(topic.max_message_bytes).unwrap_or(0),
            stored_as: StoredAs::of(topic),
            log_append_time: topic.message_timestamp_type == TimestampType::LogAppendTime,
            before_max_ms: topic.message_timestamp_before_max_ms,
            after_max_ms: topic.message_timestamp_after_max_ms,
            validate_records: broker.corelane_validate_records,
        }
    }

    /// Checks a partition's records of a Produce request and rewrites what the topic wants otherwise.
    pub fn admit<'a>(
        &self,
        records: &'a [u8],
        is_zstd_allowed: bool,
        codecs: &mut Codecs,
        now_ms: i64,
    ) -> Result<Admitted<'a>, AdmissionError> {
        let rules = ProduceRules {
            max_batch_bytes: self.max_batch_bytes,
            is_zstd_allowed,
        };
        let sent = check_produced(records, rules)?;
        let (mut batch, facts) = self.stored(&sent, codecs, now_ms)?;
        let log_append_time_ms = self.log_append_time.then_some(now_ms);
        if let Some(now_ms) = log_append_time_ms {
            set_log_append_time(batch.to_mut(), now_ms).map_err(|_| InvalidBatch::Truncated)?;
        } else if let Some(facts) = facts {
            // Old clients leave it unset; lookups by time and retention go by it.
            if facts.max_timestamp_ms != sent.max_timestamp_ms() {
                set_max_timestamp(batch.to_mut(), facts.max_timestamp_ms)
                    .map_err(|_| InvalidBatch::Truncated)?;
            }
        } else {
            self.check_header_times(&sent, now_ms)?;
        }
        // Recompressed, it may have grown.
        if batch.len() > self.max_batch_bytes {
            let (batch_bytes, limit_bytes) = (batch.len(), self.max_batch_bytes);
            return Err(InvalidBatch::TooLarge {
                batch_bytes,
                limit_bytes,
            }
            .into());
        }
        Ok(Admitted {
            batch,
            log_append_time_ms,
        })
    }

    /// The batch in the topic's codec, and what its records say where they were opened.
    fn stored<'a>(
        &self,
        sent: &BatchView<'a>,
        codecs: &mut Codecs,
        now_ms: i64,
    ) -> Result<(Cow<'a, [u8]>, Option<RecordFacts>), AdmissionError> {
        let target = match self.stored_as {
            StoredAs::Sent => None,
            StoredAs::Plain => Some(Compression::None),
            StoredAs::Compressed(level) => Some(number_of(level.codec())),
        };
        let target = target.filter(|target| *target != sent.compression());
        if target.is_none() && !self.validate_records {
            return Ok((Cow::Borrowed(sent.bytes()), None));
        }
        let plain = decompressed(sent, codecs)?;
        let facts = check_records(&plain, sent, &self.record_rules(now_ms))?;
        let Some(target) = target else {
            return Ok((Cow::Borrowed(sent.bytes()), Some(facts)));
        };
        let mut batch = Vec::with_capacity(plain.len().min(self.max_batch_bytes));
        BatchFields::reserve(&mut batch);
        match self.stored_as {
            StoredAs::Compressed(level) => codecs.compress(level, &plain, &mut batch)?,
            _ => batch.extend_from_slice(&plain),
        }
        recompress(sent, target, &mut batch)?;
        Ok((Cow::Owned(batch), Some(facts)))
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

impl StoredAs {
    fn of(topic: &TopicConfig) -> Self {
        let (codec, level) = match topic.compression_type {
            CompressionType::Producer => return Self::Sent,
            CompressionType::Uncompressed => return Self::Plain,
            CompressionType::Gzip => (Codec::Gzip, topic.compression_gzip_level),
            CompressionType::Snappy => (Codec::Snappy, 0),
            CompressionType::Lz4 => (Codec::Lz4, topic.compression_lz4_level),
            CompressionType::Zstd => (Codec::Zstd, topic.compression_zstd_level),
        };
        Self::Compressed(codec.level(level).unwrap_or(codec.default_level()))
    }
}

fn decompressed<'a>(
    batch: &BatchView<'a>,
    codecs: &mut Codecs,
) -> Result<Cow<'a, [u8]>, DecompressError> {
    let Some(codec) = Codec::from_number(batch.compression() as u8) else {
        return Ok(Cow::Borrowed(batch.records()));
    };
    let mut plain = Vec::new();
    let limit_bytes = output_limit_bytes(batch.records().len());
    codecs.decompress(codec, batch.records(), &mut plain, limit_bytes)?;
    Ok(Cow::Owned(plain))
}

fn number_of(codec: Codec) -> Compression {
    match codec {
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::batch::{BatchBuilder, Records};
    use std::collections::BTreeMap;

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
        rules.admit(batch, true, &mut Codecs::new(), NOW_MS)
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
            let plain = decompressed(&view, &mut Codecs::new()).unwrap();
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
        for codec in Codec::ALL {
            let claims = changed(|fields| fields.compression = number_of(codec));
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
