//! The end of a segment and the beginning of the next.

use std::rc::Rc;

use crate::log::error::AppendError;
use crate::log::partition::roll_plan::{IncomingBatch, RollLimits, should_roll};
use crate::log::partition::state::{ActiveSegment, LogInner, RolledSegment};
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::position::{Boundary, Position};
use crate::model::Offset;
use crate::model::batch::BatchView;
use crate::rt::Runtime;

impl<R: Runtime> LogInner<R> {
    /// Whether the active segment must end before `batch`.
    pub(in crate::log) fn rolls_for(&self, batch: &BatchView<'_>, now_ms: i64) -> bool {
        let state = self.state.borrow();
        let active = &state.active;
        let index_full = active.index.is_full(state.config.segment_index_bytes);
        let incoming = IncomingBatch {
            last_offset: state
                .marks
                .log_end
                .plus(i64::from(batch.last_offset_delta())),
            max_timestamp_ms: batch.max_timestamp_ms(),
            size_bytes: batch.bytes().len() as u64,
        };
        let limits = RollLimits {
            segment_bytes: state.config.segment_bytes,
            segment_ms: state.config.segment_ms,
            jitter_ms: self.jitter_ms(active.facts.base_offset, state.config.segment_jitter_ms),
        };
        should_roll(
            &active.facts.for_rolling(index_full),
            &incoming,
            &limits,
            now_ms,
        )
        .is_some()
    }

    /// A segment's share of `segment.jitter.ms`: the same whenever it is asked for, and different from
    /// those of other segments and partitions.
    fn jitter_ms(&self, base_offset: Offset, limit_ms: i64) -> i64 {
        let (high, low) = self.id.topic.0.as_u64_pair();
        let drawn = [low, self.id.index.0 as u64, base_offset.0 as u64]
            .iter()
            .fold(high, |drawn, word| {
                (drawn.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            });
        let span = u64::try_from(limit_ms).unwrap_or(0).saturating_add(1);
        i64::try_from((drawn >> 1) % span).unwrap_or(0)
    }

    /// Begins the next segment. Its name is the log end, so everything below must be journaled
    /// first: no file may tell of what the journal does not hold.
    pub(in crate::log) async fn roll(self: &Rc<Self>, now_ms: i64) -> Result<(), AppendError> {
        self.wait_own_entries().await?;
        let end = self.state.borrow().marks.log_end;
        let created = self.core.files.create((self.id, end), &self.dir).await;
        created.map_err(|error| self.core.failed(error))?;
        self.check_usable()?;
        {
            let mut state = self.state.borrow_mut();
            let next = ActiveSegment::new(SegmentFacts::empty(end, now_ms));
            let before = std::mem::replace(&mut state.active, next);
            let snapshot = state.producers.encode_kafka();
            state.rolled.push_back(RolledSegment {
                facts: before.facts,
                index: before.index,
                indexed: before.indexed,
                snapshot,
            });
            state.tail.start_segment(end);
            let at = Boundary {
                offset: end,
                at: Position::new(end, 0),
            };
            (state.completed, state.journaled) = (at, at);
        }
        self.request_move(crate::log::partition::move_plan::Urgency::Everything);
        Ok(())
    }

    /// Waits until every entry of this partition is safely in the journal.
    async fn wait_own_entries(&self) -> Result<(), AppendError> {
        if self.core.needs_flush() {
            self.core
                .journal
                .flush()
                .await
                .map_err(crate::log::StorageError::from)?;
        }
        let look = || match self.check_usable() {
            Err(error) => Some(Err(error)),
            Ok(()) => {
                let state = self.state.borrow();
                (state.completed.offset == state.marks.log_end).then_some(Ok(()))
            }
        };
        Ok(self.core.progress.wait_until(look).await?)
    }
}
