//! Producer ids, handed to shards in blocks so that a new producer costs no metadata record.

use super::Draft;
use super::change::Made;
use super::error::ControllerError;
use crate::cluster::records::Record;
use crate::model::ProducerId;

/// Producer ids per block (as in Kafka, KIP-730).
pub const PRODUCER_ID_BLOCK_LEN: i64 = 1000;

/// Ids for one shard to give out, once the record is durable. What a crash leaves of them is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first of them.
    pub first: ProducerId,
    /// Behind the last of them.
    pub end: ProducerId,
}

pub(super) fn allocate(draft: &mut Draft) -> Result<Made, ControllerError> {
    let first = draft.image.next_producer_id();
    let end = first.0.checked_add(PRODUCER_ID_BLOCK_LEN).map(ProducerId);
    let end = end.ok_or(ControllerError::NoProducerIds)?;
    draft.add(Record::ProducerIdsAllocated { next: end })?;
    Ok(Made::ProducerIds(ProducerIdBlock { first, end }))
}
