//! Decisions: from the image and a change to records, and to what becomes of each item of it.
//!
//! [`decide`] changes nothing. Whoever asks for it makes the records durable, applies them, and
//! answers; a change that is only to be checked stops after the decision.
//!
//! The scripts in `testdata/` show what is decided, change by change: commands, and below each the
//! records and the outcome. `UPDATE_SCRIPTS=1 cargo test` writes them anew, for a diff to be read.

mod change;
mod configs;
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
pub use error::ControllerError;
pub use names::check_topic_name;
pub use producer_ids::PRODUCER_ID_BLOCK_LEN;
pub use rules::Rules;
pub use topics::{MAX_NEW_PARTITIONS, MAX_PARTITIONS, most_per_shard};

use super::image::Image;
use super::records::{MAX_RECORD_BYTES, Record};

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
pub fn decide(image: &Image, rules: &impl Rules, change: &Change) -> Decision {
    let mut draft = Draft {
        image: image.clone(),
        records: Vec::new(),
    };
    let outcome = match change {
        Change::StartNode(start) => vec![node::start(&mut draft, start)],
        Change::CreateTopics(topics) => topics::create_all(&mut draft, rules, topics),
        Change::CreatePartitions(asked) => topics::grow_all(&mut draft, asked),
        Change::DeleteTopics(keys) => each(keys, |key| topics::delete(&mut draft, rules, key)),
        Change::PurgeTopics(ids) => each(ids, |id| topics::purge(&mut draft, *id)),
        Change::AlterConfigs(asked) => each(asked, |one| configs::alter(&mut draft, rules, one)),
        Change::AllocateProducerIds => vec![producer_ids::allocate(&mut draft)],
    };
    let Draft { image, records } = draft;
    Decision {
        records,
        outcome,
        image,
    }
}

fn each<T>(items: &[T], decide: impl FnMut(&T) -> Result<Made, ControllerError>) -> Outcome {
    items.iter().map(decide).collect()
}

/// The records of a decision so far and the image that they lead to.
struct Draft {
    image: Image,
    records: Vec<Record>,
}

impl Draft {
    /// One record more. One that could not be read again, or does not apply, is refused.
    fn add(&mut self, record: Record) -> Result<(), ControllerError> {
        if record.estimated_bytes() > MAX_RECORD_BYTES / 2 {
            return Err(ControllerError::PolicyViolation(
                "That is more than one change can hold.".into(),
            ));
        }
        let applied = self.image.apply(&record);
        self.image = applied.map_err(|error| ControllerError::Inconsistent(error.to_string()))?;
        self.records.push(record);
        Ok(())
    }
}
