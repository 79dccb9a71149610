//! Memory for what is known of idempotent producers: one bound for all partitions of a shard.
//!
//! Kafka has no bound but `producer.id.expiration.ms`: programs that take a new id for each run fill the
//! heap within a day. Here whoever has been silent for long makes room. It is told nothing, and needs not
//! be: a partition that does not know a producer takes any sequence (KIP-360), and what is lost
//! is that a retry of a batch from before is not recognised. To refuse the new one would stop a
//! program that does nothing wrong, in favour of one that is probably gone.
//!
//! Who goes is found by sampling, as a list in the order of the last append would cost as much as half
//! of what it orders: of 16 producers drawn at random the one that has been silent for longest. With
//! 16 MiB there is room for 170,000 producers that have written once, to one of few partitions. When the
//! next one comes, and 1,000 of them have written within the last minute and the others before, the 16
//! are all from that minute once in 10^35 draws.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use super::ProducerStates;
use crate::model::ProducerId;
use crate::rt::{Budget, Permit};

/// How many producers are drawn before one goes.
const DRAWN: usize = 16;
/// How many go at most for one batch: more than it adds, be it the first producer of its partition.
const GO_AT_ONCE: usize = 8;

/// Who knows producers: a partition's log. Nobody may hold its state when the memory asks.
pub trait KnowsProducers {
    /// What it knows.
    fn with_producers<T>(&self, look: impl FnOnce(&ProducerStates) -> T) -> T;
    /// Forgets one of them.
    fn forget_producer(&self, producer: ProducerId);
    /// What it has taken.
    fn account(&self) -> &ProducerAccount;
}

/// The memory, and who uses it.
pub struct ProducerMemory<P> {
    budget: Budget,
    users: RefCell<Vec<Weak<P>>>,
    random: Cell<u64>,
    has_told: Cell<bool>,
}

/// What a partition has taken of it.
pub struct ProducerAccount {
    taken: RefCell<Permit>,
    is_listed: Cell<bool>,
}

impl<P: KnowsProducers> ProducerMemory<P> {
    pub fn new(bytes: usize) -> Self {
        Self {
            budget: Budget::new(bytes),
            users: RefCell::default(),
            random: Cell::new(0x9e37_79b9_7f4a_7c15),
            has_told: Cell::new(false),
        }
    }

    /// The memory itself, for whatever else is to be remembered of producers.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// An account of a partition that has taken nothing yet.
    pub fn account(&self) -> ProducerAccount {
        ProducerAccount {
            taken: RefCell::new(self.budget.charge(0)),
            is_listed: Cell::new(false),
        }
    }

    /// Has producers go that have been silent for long until there is room again.
    pub fn make_room(&self) {
        for _ in 0..GO_AT_ONCE {
            if self.budget.taken() <= self.budget.total() || !self.let_one_go() {
                return;
            }
        }
    }

    fn let_one_go(&self) -> bool {
        let drawn = (0..DRAWN).filter_map(|_| self.draw());
        let Some((_, partition, producer)) =
            drawn.min_by_key(|(last_append_ms, ..)| *last_append_ms)
        else {
            return false;
        };
        if !self.has_told.replace(true) {
            let limit_bytes = self.budget.total();
            tracing::warn!(
                limit_bytes,
                "more idempotent producers than fit their share of memory: \
                those that have been silent for longest are forgotten"
            );
        }
        partition.forget_producer(producer);
        self.count(&partition);
        true
    }

    /// Some producer of some partition, and when it has appended last.
    fn draw(&self) -> Option<(i64, Rc<P>, ProducerId)> {
        let mut users = self.users.borrow_mut();
        let count = u64::try_from(users.len()).ok().filter(|count| *count > 0)?;
        let at = (self.next_random() % count) as usize;
        let Some(partition) = users[at].upgrade() else {
            users.swap_remove(at);
            return None;
        };
        let random = self.next_random();
        let (is_empty, sample) =
            partition.with_producers(|known| (known.is_empty(), known.sample(random)));
        if is_empty {
            users.swap_remove(at);
            partition.account().is_listed.set(false);
        }
        let (producer, last_append_ms) = sample?;
        Some((last_append_ms, partition, producer))
    }

    /// A partition knows more of its producers, or less: they are charged for what they take now.
    pub fn count(&self, partition: &Rc<P>) {
        let bytes = partition.with_producers(ProducerStates::memory_bytes);
        let account = partition.account();
        account.taken.borrow_mut().set_amount(bytes);
        if bytes > 0 && !account.is_listed.replace(true) {
            self.list(partition);
        }
    }

    fn list(&self, partition: &Rc<P>) {
        let mut users = self.users.borrow_mut();
        if users.len() == users.capacity() {
            users.retain(|user| user.strong_count() > 0);
        }
        users.push(Rc::downgrade(partition));
    }

    /// The next number of an xorshift generator: whom it draws matters little, that a simulation
    /// can be repeated does.
    fn next_random(&self) -> u64 {
        let mut number = self.random.get();
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        self.random.set(number);
        number
    }
}
