//! Producer ids, handed to shards in blocks so that a new producer costs no metadata record.

use super::Draft;
use super::change::{Made, ProducerIdBlock};
use super::error::ControllerError;
use crate::cluster::records::Record;
use crate::model::ProducerId;

/// Producer ids per block (as in Kafka, KIP-730).
pub const PRODUCER_ID_BLOCK_LEN: i64 = 1000;

pub(super) fn allocate(draft: &mut Draft) -> Result<Made, ControllerError> {
    let first = draft.image.next_producer_id();
    let end = first.0.checked_add(PRODUCER_ID_BLOCK_LEN).map(ProducerId);
    let end = end.ok_or(ControllerError::NoProducerIds)?;
    draft.add(Record::ProducerIdsAllocated { next: end })?;
    Ok(Made::ProducerIds(ProducerIdBlock { first, end }))
}
