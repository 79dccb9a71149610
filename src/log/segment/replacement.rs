//! Sealed segments whose place others take: what a rewrite has made of them. Pure.
//!
//! An example. A log has the segments 0 to 40 and 40 to 100, both sealed, and 100, which is appended to.
//! A rewrite drops what nobody needs of the first two, and leaves 300 bytes: the batches at 10 and at 70.
//! They become one segment, 0 to 100, of generation 1, which is not dense. In the log it stands where the
//! two stood, and ends where the second ended, so that the next one still follows on it.
//!
//! ```text
//! inputs: count u32, then base offset i64 and generation u32 each
//! outputs: count u32, then `SegmentFacts::encode` each
//! ```

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Buf, BufMut, TryGetError};

use crate::log::files::partition_files::SegmentId;
use crate::log::segment::facts::SegmentFacts;
use crate::model::Offset;

const ID_BYTES: usize = 12;

/// Which segments make place for which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// What was read, one behind the other in the log.
    pub inputs: Vec<SegmentId>,
    /// What was written instead: from where the first of them begins to where the last one ends, each
    /// going on where the one before ends.
    pub outputs: Vec<SegmentFacts>,
}

impl Replacement {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32(self.inputs.len() as u32);
        for input in &self.inputs {
            out.put_i64(input.base_offset.0);
            out.put_u32(input.generation);
        }
        out.put_u32(self.outputs.len() as u32);
        for output in &self.outputs {
            output.encode(&mut out);
        }
        out
    }

    /// Reads what [`Replacement::encode`] wrote, and nothing behind it. None for anything else.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let read = Self::read(&mut bytes).ok()?;
        bytes.is_empty().then_some(read)
    }

    fn read(bytes: &mut &[u8]) -> Result<Self, TryGetError> {
        let room = |bytes: &mut &[u8], each: usize| {
            let count = bytes.try_get_u32()? as usize;
            Ok::<_, TryGetError>(count.min(bytes.remaining() / each + 1))
        };
        let mut inputs = Vec::new();
        for _ in 0..room(bytes, ID_BYTES)? {
            inputs.push(SegmentId {
                base_offset: Offset(bytes.try_get_i64()?),
                generation: bytes.try_get_u32()?,
            });
        }
        let mut outputs = Vec::new();
        for _ in 0..room(bytes, SegmentFacts::BYTES)? {
            outputs.push(SegmentFacts::decode(bytes)?);
        }
        Ok(Self { inputs, outputs })
    }

    /// Puts the outputs in the place of the inputs. Nothing happens, and false comes back, where these
    /// are not all among the sealed segments, which end at `sealed_end`, or the outputs would not fit in.
    pub fn apply(&self, segments: &mut VecDeque<SegmentFacts>, sealed_end: Offset) -> bool {
        let Some(place) = find(&self.inputs, segments, sealed_end) else {
            return false;
        };
        let last = place.clone().last().and_then(|last| segments.get(last));
        if !self.fits(last.map(|facts| facts.end_offset)) {
            return false;
        }
        let behind = segments.split_off(place.end);
        segments.truncate(place.start);
        segments.extend(self.outputs.iter().copied().chain(behind));
        true
    }

    /// Whether the outputs go from where the inputs begin to `end`, without gaps between them, under
    /// names that no segment of the log has had.
    fn fits(&self, end: Option<Offset>) -> bool {
        let highest = self.inputs.iter().map(|input| input.generation).max();
        let mut next = self.inputs.first().map(|input| input.base_offset);
        let goes_on = |output: &SegmentFacts| {
            next.replace(output.end_offset) == Some(output.base_offset)
                && output.base_offset < output.end_offset
                && Some(output.generation) > highest
        };
        self.outputs.iter().all(goes_on) && !self.outputs.is_empty() && next == end
    }
}

/// Where these segments are among `segments`, the sealed ones of which end at `sealed_end`: none where
/// some are gone, not sealed, rewritten, or not one behind the other.
pub fn find(
    ids: &[SegmentId],
    segments: &VecDeque<SegmentFacts>,
    sealed_end: Offset,
) -> Option<Range<usize>> {
    let first = ids.first()?.base_offset;
    let start = segments.partition_point(|facts| facts.base_offset < first);
    let end = start.checked_add(ids.len())?;
    let found = segments.iter().take(end).skip(start);
    let sealed = found.filter(|facts| facts.end_offset <= sealed_end);
    sealed
        .map(SegmentFacts::id)
        .eq(ids.iter().copied())
        .then_some(start..end)
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn facts(base: i64, end: i64, generation: u32) -> SegmentFacts {
        SegmentFacts {
            generation,
            dense: generation == 0,
            end_offset: Offset(end),
            size_bytes: 300,
            ..SegmentFacts::empty(Offset(base), 7)
        }
    }

    fn log() -> VecDeque<SegmentFacts> {
        VecDeque::from([facts(0, 40, 0), facts(40, 100, 0), facts(100, 120, 0)])
    }

    fn example() -> Replacement {
        Replacement {
            inputs: vec![facts(0, 40, 0).id(), facts(40, 100, 0).id()],
            outputs: vec![facts(0, 100, 1)],
        }
    }

    const SEALED_END: Offset = Offset(100);

    #[test]
    fn two_make_place_for_one() {
        let mut segments = log();
        assert!(example().apply(&mut segments, SEALED_END));
        assert_eq!(segments, [facts(0, 100, 1), facts(100, 120, 0)]);
        assert!(!example().apply(&mut segments, SEALED_END), "once");
        let back = Replacement {
            inputs: vec![facts(0, 100, 1).id()],
            outputs: vec![facts(0, 70, 2), facts(70, 100, 2)],
        };
        assert!(back.apply(&mut segments, SEALED_END));
        let expected = [facts(0, 70, 2), facts(70, 100, 2), facts(100, 120, 0)];
        assert_eq!(segments, expected);
    }

    #[test]
    fn nothing_happens_where_it_does_not_fit() {
        type Break = fn(&mut Replacement);
        let breaks: [Break; 11] = [
            |r| r.inputs[0].generation = 1,
            |r| r.inputs[1].base_offset = Offset(41),
            |r| r.inputs.swap(0, 1),
            |r| r.inputs.truncate(1),
            |r| r.inputs.clear(),
            |r| r.inputs.push(facts(100, 120, 0).id()),
            |r| r.outputs.clear(),
            |r| r.outputs[0].end_offset = Offset(99),
            |r| r.outputs[0].base_offset = Offset(1),
            |r| r.outputs[0].generation = 0,
            |r| r.outputs.push(facts(100, 100, 1)),
        ];
        for (number, broken) in breaks.into_iter().enumerate() {
            let (mut replacement, mut segments) = (example(), log());
            broken(&mut replacement);
            assert!(!replacement.apply(&mut segments, SEALED_END), "{number}");
            assert_eq!(segments, log(), "{number}");
        }
        let mut gone = VecDeque::from([facts(40, 100, 0), facts(100, 120, 0)]);
        assert!(!example().apply(&mut gone, SEALED_END));
        assert!(!example().apply(&mut log(), Offset(99)), "not sealed");
    }

    #[test]
    fn bytes_and_back() {
        let bytes = example().encode();
        assert_eq!(Replacement::decode(&bytes), Some(example()));
        for end in 0..bytes.len() {
            assert_eq!(Replacement::decode(&bytes[..end]), None, "{end}");
        }
        assert_eq!(Replacement::decode(&[&bytes[..], &[0]].concat()), None);
    }
}
