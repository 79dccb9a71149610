//! One change, decided a step at a time: of ten thousand items, each is a step, and so are every
//! thousand partitions of one.
//!
//! An example: topics A of 1 partition, B of 2,500, and A again. Three steps read the names; A, which is
//! named twice, is refused in one step; B takes a step for itself with its first 1,000 partitions, and
//! two for the others; the second A is refused. The records of all are one change still, durable
//! together.

use super::change::{Change, ChangeItem, Made, Outcome};
use super::error::ControllerError;
use super::topics::{self, MAX_NEW_PARTITIONS};
use super::{Decision, Draft, Rules, configs, node, producer_ids};
use crate::cluster::image::Image;
use crate::cluster::records::{PARTITIONS_PER_RECORD, Record};
use crate::model::{LookupMap, PartitionIndex};

/// What an item costs beside its partitions, if one of those costs 1.
const ITEM_COST: usize = 32;

/// A change that is being decided on.
pub struct Deciding<'c> {
    change: &'c Change,
    draft: Draft,
    outcome: Outcome,
    /// How many items were read through, before any is decided.
    read: usize,
    /// How often each topic is named.
    names: LookupMap<&'c str, usize>,
    /// Partitions of all new topics together.
    new_partitions: i64,
    default_partitions: i32,
    /// Partitions that topics may still grow by.
    growth_left: i64,
    /// Of the item whose partitions are being added.
    made: Option<Made>,
}

impl<'c> Deciding<'c> {
    /// Begins a decision on the image that all earlier ones lead to.
    pub fn begin(image: &Image, rules: &impl Rules, change: &'c Change) -> Self {
        Self {
            change,
            draft: Draft::new(image),
            outcome: Outcome::new(),
            read: 0,
            names: LookupMap::default(),
            new_partitions: 0,
            default_partitions: rules.default_partition_count(image),
            growth_left: i64::from(MAX_NEW_PARTITIONS),
            made: None,
        }
    }

    /// One step. Gives what it cost, in partitions, and nothing when all is decided.
    pub fn step(&mut self, rules: &impl Rules) -> Option<usize> {
        let partitions_before = self.draft.partitions;
        if self.draft.further.is_some() {
            self.add_further();
        } else if let Some(item) = self.change.item(self.read) {
            self.read_item(item);
            self.read += 1;
            return Some(1);
        } else {
            let item = self.change.item(self.outcome.len())?;
            match self.decide_item(rules, item) {
                Ok(made) if self.draft.further.is_some() => self.made = Some(made),
                decided => self.outcome.push(decided),
            }
        }
        Some(ITEM_COST + self.draft.partitions - partitions_before)
    }

    /// What was decided, when there is no further step.
    pub fn finish(self) -> Decision {
        Decision {
            records: self.draft.records,
            outcome: self.outcome,
            image: self.draft.image,
        }
    }

    /// What has to be known of all items before the first is decided.
    fn read_item(&mut self, item: ChangeItem<'c>) {
        let name = match item {
            ChangeItem::CreateTopic(new) => {
                self.new_partitions += topics::count_of(new, self.default_partitions);
                &new.name
            }
            ChangeItem::CreatePartitions(new) => &new.name,
            _ => return,
        };
        *self.names.get_or_insert_with(name, || 0) += 1;
    }

    fn decide_item(
        &mut self,
        rules: &impl Rules,
        item: ChangeItem<'_>,
    ) -> Result<Made, ControllerError> {
        match item {
            ChangeItem::CreateTopic(new) => {
                topics::check_count(self.new_partitions)?;
                self.check_named_once(&new.name)?;
                topics::create(&mut self.draft, rules, self.default_partitions, new)
            }
            ChangeItem::CreatePartitions(new) => {
                self.check_named_once(&new.name)?;
                topics::grow(&mut self.draft, new, &mut self.growth_left)
            }
            ChangeItem::StartNode(start) => node::start(&mut self.draft, start),
            ChangeItem::DeleteTopic(key) => topics::delete(&mut self.draft, rules, key),
            ChangeItem::PurgeTopic(id) => topics::purge(&mut self.draft, id),
            ChangeItem::AlterConfig(asked) => configs::alter(&mut self.draft, rules, asked),
            ChangeItem::AllocateProducerIds => producer_ids::allocate(&mut self.draft),
        }
    }

    fn check_named_once(&self, name: &str) -> Result<(), ControllerError> {
        match self.names.get(name) {
            Some(2..) => Err(ControllerError::InvalidRequest(
                "The request names the topic twice.".into(),
            )),
            _ => Ok(()),
        }
    }

    /// Adds the next partitions of the item, as many as a record holds.
    fn add_further(&mut self) {
        let Some(mut further) = self.draft.further.take() else {
            return;
        };
        let rest = further
            .states
            .split_off(further.states.len().min(PARTITIONS_PER_RECORD));
        let added = further.states.len();
        let record = Record::PartitionsAdded {
            id: further.id,
            first: PartitionIndex(i32::try_from(further.first).unwrap_or(i32::MAX)),
            partitions: further.states,
        };
        let decided = self.draft.add(record);
        if decided.is_ok() && !rest.is_empty() {
            (further.first, further.states) = (further.first + added, rest);
            self.draft.further = Some(further);
            return;
        }
        let made = self.made.take();
        self.outcome.extend(made.map(|made| decided.map(|()| made)));
    }
}
