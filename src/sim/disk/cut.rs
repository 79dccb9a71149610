//! What a power cut leaves of writes that were not durable.

use crate::sim::rng::{Rng, mix};

/// Decides, for one power cut, what survives.
///
/// All writes fare alike in some cuts (everything lost, everything kept: the two cases that hide
/// most from a coin per sector); in the others each write has a fate of its own.
pub(super) struct Fates {
    rng: Rng,
    salt: u64,
    common: Option<Fate>,
    may_shred: bool,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Lost,
    Whole,
    SomeBlocks,
    SomeSectors,
    Shredded,
}

/// What is left of one write in one block.
pub(super) struct BlockFate {
    /// The sectors that reached the medium.
    pub(super) sectors: u8,
    /// Whether the write's sectors of this block are garbage.
    pub(super) is_shredded: bool,
}

impl Fates {
    pub(super) fn new(mut rng: Rng, may_shred: bool) -> Self {
        let common = match rng.below(8) {
            0 => Some(Fate::Lost),
            1 => Some(Fate::Whole),
            _ => None,
        };
        Self {
            salt: rng.next_u64(),
            common,
            may_shred,
            rng,
        }
    }

    pub(super) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// How many of `pending` ordered changes survive.
    pub(super) fn prefix(&mut self, pending: usize) -> usize {
        match self.common {
            Some(Fate::Lost) => 0,
            Some(_) => pending,
            None => self.rng.index(pending + 1),
        }
    }

    /// What is left in the next block of the write with this number.
    pub(super) fn of_block(&mut self, write: u64) -> BlockFate {
        let kept = |is_kept: bool| if is_kept { u8::MAX } else { 0 };
        let (sectors, is_shredded) = match self.of_write(write) {
            Fate::Lost => (0, false),
            Fate::Whole => (u8::MAX, false),
            Fate::SomeBlocks => (kept(self.rng.coin()), false),
            Fate::SomeSectors => (self.rng.next_u64() as u8, false),
            Fate::Shredded => (kept(self.rng.coin()), self.rng.one_in(3)),
        };
        BlockFate {
            sectors,
            is_shredded,
        }
    }

    fn of_write(&self, write: u64) -> Fate {
        if let Some(common) = self.common {
            return common;
        }
        let draw = mix(self.salt ^ write) % if self.may_shred { 5 } else { 4 };
        match draw {
            0 => Fate::Lost,
            1 => Fate::Whole,
            2 => Fate::SomeBlocks,
            3 => Fate::SomeSectors,
            _ => Fate::Shredded,
        }
    }
}
