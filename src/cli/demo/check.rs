//! Every record that is read, compared with what was sent.

use super::corpus::Corpus;
use crate::cli::{CliError, Exit, counted};
use crate::model::batch::RecordRef;

/// Follows one reader through all partitions of a topic.
pub(super) struct Checker<'c> {
    corpus: &'c Corpus,
    topic: String,
    /// How many records of each partition were read; the next must have that offset.
    read: Vec<usize>,
    records: u64,
}

impl<'c> Checker<'c> {
    /// Nothing read yet.
    pub(super) fn new(corpus: &'c Corpus, topic: &str) -> Self {
        Self {
            corpus,
            topic: topic.to_owned(),
            read: vec![0; corpus.partitions().len()],
            records: 0,
        }
    }

    /// Takes the next record of a partition: offset, timestamp, key, value and headers must be what
    /// was sent at that place.
    pub(super) fn take(
        &mut self,
        partition: i32,
        offset: i64,
        timestamp_ms: i64,
        record: &RecordRef<'_>,
    ) -> Result<(), CliError> {
        let index = partition as usize;
        let (Some(read), Some(lines)) = (
            self.read.get_mut(index),
            self.corpus.partitions().get(index),
        ) else {
            return Err(self.wrong(partition, offset, "no such partition was written"));
        };
        let at = *read;
        if offset != at as i64 {
            return Err(self.wrong(partition, offset, &format!("offset {at} was due")));
        }
        let Some(line) = lines.get(at) else {
            return Err(self.wrong(partition, offset, "was never sent"));
        };
        *read += 1;
        self.records += 1;
        let expected = self.corpus.expected(*line as usize);
        match expected.difference(timestamp_ms, record) {
            None => Ok(()),
            Some(part) => Err(self.wrong(
                partition,
                offset,
                &format!("{part} differs from line {line}"),
            )),
        }
    }

    /// Whether all of a partition was read.
    pub(super) fn has_all_of(&self, partition: i32) -> bool {
        let index = partition as usize;
        let lines = self.corpus.partitions().get(index).map(Vec::len);
        self.read.get(index).copied() >= lines
    }

    /// Whether everything was read.
    pub(super) fn is_complete(&self) -> bool {
        self.records == self.corpus.records() as u64
    }

    /// Says what is missing.
    pub(super) fn missing(&self, why: &str) -> CliError {
        let missing = self.corpus.records() as u64 - self.records;
        CliError::new(
            Exit::Failure,
            format!(
                "{}: {} did not come back: {why}",
                self.topic,
                counted(missing, "record")
            ),
        )
    }

    fn wrong(&self, partition: i32, offset: i64, reason: &str) -> CliError {
        let what = format!("{}-{partition} at offset {offset}: {reason}", self.topic);
        CliError::new(Exit::Failure, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::batch::{BatchBuilder, Header, Records};

    fn corpus() -> Corpus {
        let lines: String = (0..4000)
            .map(|n| format!("host{} line {n}\n", n % 7))
            .collect();
        Corpus::of(lines.into_bytes(), 3, 1_000_000)
    }

    /// Reads back what `change` makes of the records, given as partition, offset and line.
    fn read(change: impl Fn(&mut Vec<(i32, i64, usize)>)) -> Result<bool, CliError> {
        let corpus = corpus();
        let mut sent = Vec::new();
        for (partition, lines) in corpus.partitions().iter().enumerate() {
            let lines = lines.iter().enumerate();
            sent.extend(lines.map(|(at, line)| (partition as i32, at as i64, *line as usize)));
        }
        change(&mut sent);
        let mut checker = Checker::new(&corpus, "topic");
        for (partition, offset, line) in sent {
            let expected = corpus.expected(line);
            let mut headers = [Header {
                key: b"",
                value: None,
            }; 2];
            let record = expected.record(&mut headers);
            let mut batch = BatchBuilder::new();
            batch
                .append(
                    record.timestamp_ms,
                    record.key,
                    record.value,
                    record.headers,
                )
                .unwrap();
            let read = Records::new(batch.records(), 1).next().unwrap().unwrap();
            checker.take(partition, offset, expected.timestamp_ms, &read)?;
        }
        Ok(checker.is_complete())
    }

    #[test]
    fn what_comes_back_as_sent_is_complete() {
        assert_eq!(read(|_| {}), Ok(true));
        assert_eq!(read(|sent| sent.truncate(sent.len() - 1)), Ok(false));
    }

    #[test]
    fn losses_repeats_and_swaps_are_seen() {
        assert!(
            read(|sent| sent.retain(|(_, offset, _)| *offset != 5)).is_err(),
            "a gap"
        );
        assert!(
            read(|sent| sent.insert(5, sent[4])).is_err(),
            "an offset twice"
        );
        let swap = |sent: &mut Vec<(i32, i64, usize)>| {
            let line = sent[5].2;
            sent[5].2 = sent[6].2;
            sent[6].2 = line;
        };
        assert!(read(swap).is_err(), "two records swapped");
        let more = |sent: &mut Vec<(i32, i64, usize)>| {
            let (partition, offset, line) = sent[sent.len() - 1];
            sent.push((partition, offset + 1, line));
        };
        assert!(read(more).is_err(), "a record twice");
    }

    #[test]
    fn every_part_of_a_record_counts() {
        let corpus = corpus();
        let line = (0..4000)
            .find(|line| line % 16 == 0 && line % 4 != 3)
            .unwrap();
        let expected = corpus.expected(line);
        let mut headers = [Header {
            key: b"",
            value: None,
        }; 2];
        let sent = expected.record(&mut headers);
        let differs = |timestamp, key, value, headers: &[Header<'_>]| {
            let mut batch = BatchBuilder::new();
            batch.append(timestamp, key, value, headers).unwrap();
            let read = Records::new(batch.records(), 1).next().unwrap().unwrap();
            expected.difference(timestamp, &read)
        };
        let (timestamp, key, value) = (sent.timestamp_ms, sent.key, sent.value);
        assert_eq!(differs(timestamp, key, value, sent.headers), None);
        assert_eq!(
            differs(timestamp + 1, key, value, sent.headers),
            Some("timestamp")
        );
        assert_eq!(differs(timestamp, None, value, sent.headers), Some("key"));
        assert_eq!(differs(timestamp, key, None, sent.headers), Some("value"));
        assert_eq!(
            differs(timestamp, key, value, &sent.headers[..1]),
            Some("headers")
        );
    }
}
