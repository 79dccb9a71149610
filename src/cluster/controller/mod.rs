//! Decisions: from the image and a change to records, and to what becomes of each item of it.
//!
//! [`decide`] changes nothing. Whoever asks for it makes the records durable, applies them, and
//! answers; a change that is only to be checked stops after the decision.
//!
//! The scripts in `testdata/` show what is decided, change by change: commands, and below each the
//! records and the outcome. `UPDATE_SCRIPTS=1 cargo test` writes them anew, for a diff to be read.

mod change;
mod configs;
mod deciding;
mod error;
mod names;
mod node;
mod placement;
mod producer_ids;
mod rules;
#[cfg(test)]
pub(super) mod script;
mod topics;

pub use change::{
    AlterOp, Alteration, Assignment, Change, ConfigAlteration, ConfigEdit, ConfigTarget, Made,
    NewPartitions, NewTopic, NodeStart, Outcome, ProducerIdBlock, TopicKey,
};
pub use deciding::Deciding;
pub use error::ControllerError;
pub use names::check_topic_name;
pub use producer_ids::PRODUCER_ID_BLOCK_LEN;
pub use rules::Rules;
pub use topics::{
    MAX_NEW_PARTITIONS, MAX_PARTITIONS, NewPartitionCount, RoomNeeded, new_partition_counts,
};

use super::image::Image;
use super::records::{MAX_RECORD_BYTES, Record};
use super::topic::PartitionState;
use crate::model::TopicId;

/// What a change comes to.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What is to be made durable, in order; nothing where nothing changes.
    pub records: Vec<Record>,
    /// What becomes of each item, once it is.
    pub outcome: Outcome,
    /// The image that the records lead to.
    pub image: Image,
}

/// Decides on a change, on the image that all earlier ones lead to. What is refused changes nothing.
/// [`Deciding`] is the same a step at a time.
pub fn decide(image: &Image, rules: &impl Rules, change: &Change) -> Decision {
    let mut deciding = Deciding::begin(image, rules, change);
    while deciding.step(rules).is_some() {}
    deciding.finish()
}

/// The records of a decision so far and the image that they lead to.
struct Draft {
    image: Image,
    records: Vec<Record>,
    /// Partitions that were made.
    partitions: usize,
    /// What the item that was decided last still has to add.
    further: Option<Further>,
}

/// Partitions of one topic that are to be added from an index on.
struct Further {
    id: TopicId,
    first: usize,
    states: Vec<PartitionState>,
}

impl Draft {
    fn new(image: &Image) -> Self {
        Self {
            image: image.clone(),
            records: Vec::new(),
            partitions: 0,
            further: None,
        }
    }

    /// Leaves partitions of a topic to be added from an index on.
    fn leave(&mut self, id: TopicId, first: usize, states: Vec<PartitionState>) {
        if !states.is_empty() {
            self.further = Some(Further { id, first, states });
        }
    }

    /// One record more. One that could not be read again, or does not apply, is refused.
    fn add(&mut self, record: Record) -> Result<(), ControllerError> {
        if record.estimated_bytes() > MAX_RECORD_BYTES / 2 {
            return Err(ControllerError::PolicyViolation(
                "That is more than one change can hold.".into(),
            ));
        }
        let applied = self.image.apply(&record);
        self.image = applied.map_err(|error| ControllerError::Inconsistent(error.to_string()))?;
        self.partitions += match &record {
            Record::TopicCreated { partitions, .. }
            | Record::PartitionsAdded { partitions, .. } => partitions.len(),
            _ => 0,
        };
        self.records.push(record);
        Ok(())
    }
}
