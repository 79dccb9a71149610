//! Incremental fetch sessions (KIP-227), as a pure state machine.
//!
//! A session remembers which partitions a consumer reads and what it was last told about each, so
//! that a request names only what changed and a response only what is news. Refusing a session
//! (id 0) is always legal: the client then sends full requests.
//!
//! It also knows which partitions are *at rest*: nothing was left to read when they were looked at,
//! and nothing was reported of them since. A request looks at the others alone, so that a consumer
//! of ten thousand partitions costs as much as those of them that are written to.
//!
//! A partition has a *place* in its session, by which it reports news and is found without a name:
//! partitions 7, 8 and 9 take the places 0, 1 and 2; the client forgets 8, and 12 takes place 1 under
//! another generation, so that an answer that was on its way for 8 is not taken for 12's.
//!
//! A shard is a broker of its own, so it has a cache of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::model::{LookupMap, PartitionSlot, TopicId};
use crate::rt::{ReadySet, Watch};

/// Epoch of a request that opens a session (or renews one).
pub const INITIAL_EPOCH: i32 = 0;
/// Epoch of a request that wants none and closes the one it names.
pub const FINAL_EPOCH: i32 = -1;
/// A full cache gives up a session only after it was idle this long (Kafka: `min.incremental.fetch.session.eviction.ms`).
const EVICTION_MIN_IDLE: Duration = Duration::from_secs(120);

/// A topic as the request names it: by name up to Fetch v12, by id from v13 on (KIP-516).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicKey {
    /// Fetch v4–v12.
    Name(Rc<str>),
    /// Fetch v13 and later.
    Id(TopicId),
}

/// A partition of a fetch request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartitionKey {
    pub topic: TopicKey,
    pub index: i32,
}

/// What a request asks of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionAsk {
    /// First offset wanted.
    pub fetch_offset: i64,
    /// At most this many bytes of records (the first batch is whole all the same).
    pub max_bytes: i32,
    /// The leader epoch the client believes in; −1 for none.
    pub current_leader_epoch: i32,
    /// Epoch of the last record the client has; −1 for none.
    pub last_fetched_epoch: i32,
}

/// What a response is about to say of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionAnswer {
    /// Whether it carries records.
    pub has_records: bool,
    /// Whether it carries an error or a diverging epoch.
    pub has_error: bool,
    pub high_watermark: i64,
    /// Log start offset.
    pub log_start: i64,
    /// Whether everything there is was read before: until a change is reported, nobody needs to
    /// look again.
    pub at_rest: bool,
}

/// The session fields of a request.
#[derive(Debug)]
pub struct SessionAsk {
    /// Session id, 0 for none.
    pub id: i32,
    /// Session epoch.
    pub epoch: i32,
    /// Whether topics are named by id.
    pub by_topic_id: bool,
    /// Partitions named, in the request's order.
    pub partitions: Vec<(PartitionKey, PartitionAsk)>,
    /// Partitions to drop from the session.
    pub forgotten: Vec<PartitionKey>,
}

/// Why a request's session fields cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// FETCH_SESSION_ID_NOT_FOUND.
    #[error("no fetch session has this id")]
    NotFound,
    /// INVALID_FETCH_SESSION_EPOCH.
    #[error("the fetch session is at another epoch")]
    Epoch,
    /// FETCH_SESSION_TOPIC_ID_ERROR.
    #[error("the fetch session names topics the other way (by name or by id)")]
    TopicIds,
}

/// What to serve: the partitions to look at, in order, and under which session.
#[derive(Debug)]
pub struct FetchPlan {
    /// Session id for the response, 0 for none.
    pub session_id: i32,
    /// Whether the response names only what is news.
    pub incremental: bool,
    /// The partitions to look at, in the order they are to be filled.
    pub partitions: Vec<Planned>,
    /// How many partitions the request is about, those at rest included.
    pub asked: usize,
    /// Where partitions that are watched report news, under their places.
    pub ready: Rc<ReadySet>,
    /// Of a request without a session, one that nobody finds again.
    session: Rc<RefCell<Session>>,
}

/// A partition to look at.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Which.
    pub key: PartitionKey,
    /// What is asked of it.
    pub ask: PartitionAsk,
    /// Where it stands in the session.
    pub place: u32,
    /// Where it stood on its shard when it was found last.
    pub slot: Option<PartitionSlot>,
    generation: u64,
}

/// All sessions of one shard.
#[derive(Debug)]
pub struct SessionCache {
    slots: usize,
    per_connection: usize,
    partitions_max: usize,
    sessions: BTreeMap<i32, Rc<RefCell<Session>>>,
}

#[derive(Debug, Default)]
struct Session {
    connection: u64,
    next_epoch: i32,
    by_topic_id: bool,
    last_used: Duration,
    entries: Vec<Option<Entry>>,
    /// How many of the places hold an entry.
    held: usize,
    free: Vec<u32>,
    places: LookupMap<PartitionKey, u32>,
    next_turn: u64,
    next_generation: u64,
    /// Places to be looked at by the next request, each once.
    awake: Vec<u32>,
    ready: Rc<ReadySet>,
    /// Requests that were planned and not answered. A client has one under way; if it sends more,
    /// each looks at everything, as the first has yet to say what is at rest.
    under_way: usize,
}

#[derive(Debug)]
struct Entry {
    key: PartitionKey,
    ask: PartitionAsk,
    high_watermark: i64,
    log_start: i64,
    /// Its place in the order; who got data goes last.
    turn: u64,
    generation: u64,
    is_awake: bool,
    slot: Option<PartitionSlot>,
    watch: Option<(PartitionSlot, Watch)>,
}

impl SessionCache {
    /// A cache of `slots` sessions, of which one connection holds at most `per_connection`.
    pub fn new(slots: usize, per_connection: usize) -> Self {
        Self {
            slots,
            per_connection,
            partitions_max: usize::MAX,
            sessions: BTreeMap::new(),
        }
    }

    /// All sessions together remember at most so many partitions.
    pub fn partitions_max(self, partitions_max: usize) -> Self {
        Self {
            partitions_max,
            ..self
        }
    }

    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Applies a request's session fields and says what to serve. `random` seeds the id of a
    /// session that [`INITIAL_EPOCH`] opens.
    pub fn plan(
        &mut self,
        ask: SessionAsk,
        connection: u64,
        now: Duration,
        random: u64,
    ) -> Result<FetchPlan, SessionError> {
        match ask.epoch {
            INITIAL_EPOCH | FINAL_EPOCH => {
                self.sessions.remove(&ask.id);
                let partitions = ask.partitions.len();
                let has_room = self.remembered() + partitions <= self.partitions_max;
                let opens = ask.epoch == INITIAL_EPOCH && partitions > 0 && has_room;
                let id = match opens {
                    true => self.free_id(connection, now, random),
                    false => None,
                };
                let mut session = Session::new(connection, ask.by_topic_id, now);
                for (key, ask) in ask.partitions {
                    match id {
                        Some(_) => session.remember(key, ask),
                        // Nobody comes back to ask for it by name.
                        None => _ = session.add(key, ask),
                    }
                }
                let session = Rc::new(RefCell::new(session));
                if let Some(id) = id {
                    self.sessions.insert(id, session.clone());
                }
                Ok(FetchPlan::begin(session, id.unwrap_or(0), false))
            }
            _ => self.go_on(ask, now),
        }
    }

    /// Forgets the sessions of a connection that ended.
    pub fn close_connection(&mut self, connection: u64) {
        self.sessions
            .retain(|_, session| session.borrow().connection != connection);
    }

    /// How many partitions all sessions remember.
    fn remembered(&self) -> usize {
        let held = self.sessions.values().map(|session| session.borrow().held);
        held.sum()
    }

    /// An id for another session, if there is room for one.
    fn free_id(&mut self, connection: u64, now: Duration, random: u64) -> Option<i32> {
        self.make_room(connection, now);
        if self.sessions.len() >= self.slots {
            return None;
        }
        let mut id = (random as i32 & i32::MAX).max(1);
        while self.sessions.contains_key(&id) {
            id = (id.wrapping_add(1) & i32::MAX).max(1);
        }
        Some(id)
    }

    fn make_room(&mut self, connection: u64, now: Duration) {
        let of_connection = self
            .sessions
            .values()
            .filter(|session| session.borrow().connection == connection)
            .count();
        if of_connection >= self.per_connection {
            self.evict(|session| session.connection == connection);
        }
        if self.sessions.len() >= self.slots {
            self.evict(|session| now.saturating_sub(session.last_used) >= EVICTION_MIN_IDLE);
        }
    }

    /// Drops the longest-unused session among those that `may` go.
    fn evict(&mut self, may: impl Fn(&Session) -> bool) {
        let oldest = self
            .sessions
            .iter()
            .filter(|(_, session)| may(&session.borrow()))
            .min_by_key(|(_, session)| session.borrow().last_used)
            .map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.sessions.remove(&id);
        }
    }

    fn go_on(&mut self, ask: SessionAsk, now: Duration) -> Result<FetchPlan, SessionError> {
        let found = self.sessions.get(&ask.id).ok_or(SessionError::NotFound)?;
        let found = found.clone();
        let mut session = found.borrow_mut();
        if session.next_epoch != ask.epoch {
            return Err(SessionError::Epoch);
        }
        if session.by_topic_id != ask.by_topic_id {
            return Err(SessionError::TopicIds);
        }
        session.last_used = now;
        session.next_epoch = if ask.epoch == i32::MAX {
            1
        } else {
            ask.epoch + 1
        };
        let held_before = session.held;
        for key in &ask.forgotten {
            session.forget(key);
        }
        for (key, ask) in ask.partitions {
            session.remember(key, ask);
        }
        let id = match session.places.is_empty() {
            true => {
                self.sessions.remove(&ask.id);
                0
            }
            false => ask.id,
        };
        let has_grown = session.held > held_before;
        drop(session);
        if has_grown && self.remembered() > self.partitions_max {
            // The client opens another one, and is refused it if that is too large.
            self.sessions.remove(&ask.id);
            return Err(SessionError::NotFound);
        }
        Ok(FetchPlan::begin(found, id, true))
    }
}

impl FetchPlan {
    fn begin(session: Rc<RefCell<Session>>, session_id: i32, incremental: bool) -> Self {
        let (partitions, ready) = session.borrow_mut().begin();
        let asked = session.borrow().held;
        Self {
            session_id,
            incremental,
            partitions,
            asked,
            ready,
            session,
        }
    }

    /// What is asked of the partition at a place, if there is still one.
    pub fn planned(&self, place: u32) -> Option<Planned> {
        let session = self.session.borrow();
        session.entry(place).map(|entry| entry.planned(place))
    }

    /// A partition was found at `slot`: the next look finds it there.
    pub fn found_at(&self, planned: &Planned, slot: PartitionSlot) {
        if let Some(entry) = self.session.borrow_mut().entry_of(planned) {
            entry.slot = Some(slot);
        }
    }

    /// Has the partition at `slot` watched from now on, unless it is already.
    pub fn watch(
        &self,
        planned: &Planned,
        slot: PartitionSlot,
        watch: impl FnOnce(&Rc<ReadySet>, u32) -> Watch,
    ) {
        let mut session = self.session.borrow_mut();
        let Some(entry) = session.entry_of(planned) else {
            return;
        };
        if entry.watch.as_ref().is_none_or(|(at, _)| *at != slot) {
            entry.watch = Some((slot, watch(&self.ready, planned.place)));
        }
    }

    /// Whether the response must name this partition; remembers what it says.
    pub fn is_news(&self, planned: &Planned, answer: PartitionAnswer) -> bool {
        self.session.borrow_mut().is_news(planned, answer)
    }

    /// The request is answered.
    pub fn end(&self) {
        let mut session = self.session.borrow_mut();
        session.under_way = session.under_way.saturating_sub(1);
    }
}

impl Session {
    fn new(connection: u64, by_topic_id: bool, now: Duration) -> Self {
        Self {
            connection,
            next_epoch: 1,
            by_topic_id,
            last_used: now,
            ..Self::default()
        }
    }

    /// A request is under way from now on; gives the partitions that it must look at, in their order:
    /// those that are not at rest.
    fn begin(&mut self) -> (Vec<Planned>, Rc<ReadySet>) {
        for place in self.ready.take() {
            self.wake(place);
        }
        let mut due = std::mem::take(&mut self.awake);
        for place in &due {
            match self.entry_mut(*place) {
                Some(entry) => entry.is_awake = false,
                None => self.free.push(*place),
            }
        }
        if self.under_way > 0 {
            due = (0..self.entries.len() as u32).collect();
        }
        self.under_way += 1;
        let entry = |place: u32| Some((self.entry(place)?, place));
        let mut due: Vec<_> = due.into_iter().filter_map(entry).collect();
        due.sort_unstable_by_key(|(entry, _)| entry.turn);
        let planned = due.into_iter().map(|(entry, place)| entry.planned(place));
        (planned.collect(), self.ready.clone())
    }

    fn entry(&self, place: u32) -> Option<&Entry> {
        self.entries.get(place as usize)?.as_ref()
    }

    fn entry_mut(&mut self, place: u32) -> Option<&mut Entry> {
        self.entries.get_mut(place as usize)?.as_mut()
    }

    fn entry_of(&mut self, planned: &Planned) -> Option<&mut Entry> {
        let entry = self.entry_mut(planned.place)?;
        (entry.generation == planned.generation).then_some(entry)
    }

    /// The next request must look at a place.
    fn wake(&mut self, place: u32) {
        if let Some(entry) = self.entry_mut(place)
            && !std::mem::replace(&mut entry.is_awake, true)
        {
            self.awake.push(place);
        }
    }

    fn remember(&mut self, key: PartitionKey, ask: PartitionAsk) {
        let known = self.places.get(&key).copied();
        if let Some(place) = known
            && let Some(entry) = self.entry_mut(place)
        {
            entry.ask = ask;
            return self.wake(place);
        }
        let place = self.add(key.clone(), ask);
        self.places.insert(key, place);
    }

    /// Gives a partition a place.
    fn add(&mut self, key: PartitionKey, ask: PartitionAsk) -> u32 {
        let entry = Entry {
            key,
            ask,
            high_watermark: -1,
            log_start: -1,
            turn: self.next_turn,
            generation: self.next_generation,
            is_awake: false,
            slot: None,
            watch: None,
        };
        self.next_turn += 1;
        self.next_generation += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            (self.entries.len() - 1) as u32
        });
        self.entries[place as usize] = Some(entry);
        self.held += 1;
        self.wake(place);
        place
    }

    fn forget(&mut self, key: &PartitionKey) {
        let Some(place) = self.places.remove(key) else {
            return;
        };
        let gone = self.entries.get_mut(place as usize).and_then(Option::take);
        self.held -= usize::from(gone.is_some());
        // A place that is still in the list of those awake is free when it leaves that.
        if gone.is_some_and(|entry| !entry.is_awake) {
            self.free.push(place);
        }
    }

    fn is_news(&mut self, planned: &Planned, answer: PartitionAnswer) -> bool {
        let next_turn = self.next_turn;
        let Some(entry) = self.entry_of(planned) else {
            return true;
        };
        let news = answer.has_records
            || answer.has_error
            || entry.high_watermark != answer.high_watermark
            || entry.log_start != answer.log_start;
        entry.log_start = answer.log_start;
        // After an error the next answer is news whatever it says: the client dropped its state.
        entry.high_watermark = if answer.has_error {
            -1
        } else {
            answer.high_watermark
        };
        if answer.has_records {
            // Who got data goes last, so that a small response size starves nobody.
            entry.turn = next_turn;
            self.next_turn += 1;
        }
        if !answer.at_rest {
            self.wake(planned.place);
        }
        news
    }
}

impl Entry {
    fn planned(&self, place: u32) -> Planned {
        Planned {
            key: self.key.clone(),
            ask: self.ask,
            place,
            slot: self.slot,
            generation: self.generation,
        }
    }
}

#[cfg(test)]
mod tests;
