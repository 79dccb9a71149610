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
//! A request may name a hundred thousand partitions, and a session end that has as many. Both are done
//! with a few at a time ([`Naming`], [`FetchPlan::gather`], [`SessionCache::take_down`]), so that
//! whoever calls can let others have a turn. What a session remembers is charged before it is there.
//!
//! A shard is a broker of its own, so it has a cache of its own.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::model::{LookupMap, PartitionSlot, TopicId};
use crate::rt::{Budget, Permit, ReadySet, Watch};

/// Epoch of a request that opens a session (or renews one).
pub const INITIAL_EPOCH: i32 = 0;
/// Epoch of a request that wants none and closes the one it names.
pub const FINAL_EPOCH: i32 = -1;
/// A full cache gives up a session only after it was idle this long (Kafka: `min.incremental.fetch.session.eviction.ms`).
const EVICTION_MIN_IDLE: Duration = Duration::from_secs(120);
/// What a partition takes in a session: its entry, its key once more, its place in the map, the list
/// of those awake, and its watch.
const SESSION_PARTITION_BYTES: usize = 320;
/// What a topic's name takes beside its bytes.
const NAME_BYTES: usize = 64;
/// What a partition takes of a request that names it in no session: its entry, its watch, and two
/// lists' rows.
pub const REQUEST_PARTITION_BYTES: usize = size_of::<Option<Entry>>() + 48;

/// Places of partitions. Few, for most requests.
pub type Places = SmallVec<[u32; 8]>;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionAsk {
    /// Session id, 0 for none.
    pub id: i32,
    /// Session epoch.
    pub epoch: i32,
    /// Whether topics are named by id.
    pub by_topic_id: bool,
}

impl SessionAsk {
    /// Whether it names all that it is about, in no session or as the beginning of one.
    pub fn is_full(&self) -> bool {
        matches!(self.epoch, INITIAL_EPOCH | FINAL_EPOCH)
    }

    /// What each partition takes that is not charged to a session.
    pub fn bytes_of_request(&self) -> usize {
        match self.epoch {
            FINAL_EPOCH => REQUEST_PARTITION_BYTES,
            _ => 0,
        }
    }
}

/// Why a request's session fields cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// FETCH_SESSION_ID_NOT_FOUND.
    #[error("no fetch session has this id")]
    NotFound,
    /// FETCH_SESSION_ID_NOT_FOUND as well: the client opens another one, and is told by that
    /// whether there is room for it.
    #[error("the fetch session has outgrown the memory for sessions")]
    NoMemory,
    /// INVALID_FETCH_SESSION_EPOCH.
    #[error("the fetch session is at another epoch")]
    Epoch,
    /// FETCH_SESSION_TOPIC_ID_ERROR.
    #[error("the fetch session names topics the other way (by name or by id)")]
    TopicIds,
}

/// Why a client that asked for a session gets none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSession {
    /// There are as many as there may be, none of them idle.
    #[error("max.incremental.fetch.session.cache.slots sessions are in use")]
    NoSlot,
    /// Sessions remember as much as corelane.memory has room for.
    #[error("fetch sessions hold all the memory that corelane.memory has for them")]
    NoMemory,
}

/// A request whose partitions are being named, one after the other; [`SessionCache::begin`] ends that.
#[derive(Debug)]
pub struct Naming {
    session: Rc<RefCell<Session>>,
    /// The session that goes on; 0 for a new one.
    id: i32,
    /// Whether it names all that it is about.
    is_full: bool,
    /// Of a new session: whether it is to be found again.
    is_kept: bool,
    refused: Option<NoSession>,
    topic: TopicKey,
    memory: Budget,
}

/// What to serve: which partitions to look at, and under which session.
#[derive(Debug)]
pub struct FetchPlan {
    /// Session id for the response, 0 for none.
    pub session_id: i32,
    /// Whether the response names only what is news.
    pub incremental: bool,
    /// Why the client was refused a session that it asked for.
    pub refused: Option<NoSession>,
    /// Where partitions that are watched report news, under their places.
    pub ready: Rc<ReadySet>,
    /// Of a request without a session, one that nobody finds again.
    session: Rc<RefCell<Session>>,
    /// Where it looks at everything: the next place to have a look at.
    next_of_all: Option<u32>,
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
    /// What their partitions are charged to, in bytes.
    memory: Budget,
    sessions: BTreeMap<i32, Rc<RefCell<Session>>>,
    /// Those that have ended, until they are taken down.
    ended: Vec<Rc<RefCell<Session>>>,
}

#[derive(Debug)]
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
    /// The names of its topics, and how many partitions it has of each.
    names: LookupMap<Rc<str>, (Rc<str>, usize)>,
    next_turn: u64,
    next_generation: u64,
    /// Who is to be looked at by the next request, in the order of their turns. One whose turn has
    /// changed since stands here a second time.
    awake: BinaryHeap<Reverse<(u64, u32)>>,
    ready: Rc<ReadySet>,
    /// Requests that were planned and not answered. A client has one under way; if it sends more,
    /// each looks at everything, as the first has yet to say what is at rest.
    under_way: usize,
    /// What a session that is found again is charged with.
    memory: Permit,
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
    /// A cache of `slots` sessions, of which one connection holds at most `per_connection`, and whose
    /// partitions are charged to `memory`.
    pub fn new(slots: usize, per_connection: usize, memory: Budget) -> Self {
        Self {
            slots,
            per_connection,
            memory,
            sessions: BTreeMap::new(),
            ended: Vec::new(),
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

    /// Applies a request's session fields. Its partitions are to be named next.
    pub fn open(
        &mut self,
        ask: SessionAsk,
        connection: u64,
        now: Duration,
    ) -> Result<Naming, SessionError> {
        let session = match ask.is_full() {
            true => {
                self.end(ask.id);
                let memory = self.memory.charge(0);
                let session = Session::new(connection, ask.by_topic_id, now, memory);
                Rc::new(RefCell::new(session))
            }
            false => self.go_on(ask, now)?,
        };
        Ok(Naming {
            session,
            id: if ask.is_full() { 0 } else { ask.id },
            is_full: ask.is_full(),
            is_kept: ask.epoch != FINAL_EPOCH,
            refused: None,
            topic: TopicKey::Id(TopicId::ZERO),
            memory: self.memory.clone(),
        })
    }

    /// All partitions are named: what to serve. `random` seeds the id of a session that
    /// [`INITIAL_EPOCH`] opens.
    pub fn begin(
        &mut self,
        mut naming: Naming,
        now: Duration,
        random: u64,
    ) -> Result<FetchPlan, SessionError> {
        let is_empty = naming.session.borrow().held == 0;
        let connection = naming.session.borrow().connection;
        if !naming.is_full && naming.refused.is_some() {
            self.end(naming.id);
            return Err(SessionError::NoMemory);
        }
        if !naming.is_full && is_empty {
            self.end(naming.id);
            naming.id = 0;
        }
        if naming.is_full && naming.is_kept && !is_empty {
            match self.free_id(connection, now, random) {
                Some(id) => {
                    self.sessions.insert(id, naming.session.clone());
                    naming.id = id;
                }
                None => naming.refuse(NoSession::NoSlot),
            }
        }
        Ok(FetchPlan::begin(naming))
    }

    /// Forgets the sessions of a connection that ended.
    pub fn close_connection(&mut self, connection: u64) {
        let is_its =
            |_: &i32, session: &mut Rc<RefCell<Session>>| session.borrow().connection == connection;
        let closed = self.sessions.extract_if(.., is_its);
        self.ended.extend(closed.map(|(_, session)| session));
    }

    /// Takes down up to so many partitions of sessions that have ended, and says whether there are
    /// more of them.
    pub fn take_down(&mut self, partitions: usize) -> bool {
        let Some(last) = self.ended.last() else {
            return false;
        };
        // A request that is about it still takes it down itself.
        let is_asked = Rc::strong_count(last) > 1;
        if is_asked || !last.borrow_mut().take_down(partitions) {
            self.ended.pop();
        }
        !self.ended.is_empty()
    }

    fn end(&mut self, id: i32) {
        self.ended.extend(self.sessions.remove(&id));
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
        oldest.into_iter().for_each(|id| self.end(id));
    }

    fn go_on(
        &mut self,
        ask: SessionAsk,
        now: Duration,
    ) -> Result<Rc<RefCell<Session>>, SessionError> {
        let found = self.sessions.get(&ask.id).ok_or(SessionError::NotFound)?;
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
        Ok(found.clone())
    }
}

impl Naming {
    /// So many partitions are named, of which there is room for all that there is memory for.
    pub fn expect(&mut self, partitions: usize) {
        let free = self.memory.total().saturating_sub(self.memory.taken());
        let kept = partitions.min(free / SESSION_PARTITION_BYTES);
        let mut session = self.session.borrow_mut();
        session.entries.reserve_exact(partitions);
        session.awake.reserve_exact(partitions);
        if self.is_kept {
            session.places.reserve(kept);
        }
    }

    /// Those that are named next are of this topic.
    pub fn topic(&mut self, name: &str, id: TopicId) {
        let session = self.session.borrow();
        self.topic = match session.names.get(name) {
            _ if session.by_topic_id => TopicKey::Id(id),
            Some((known, _)) => TopicKey::Name(known.clone()),
            None => TopicKey::Name(name.into()),
        };
    }

    /// A partition to read.
    pub fn read(&mut self, index: i32, ask: PartitionAsk) {
        let key = PartitionKey {
            topic: self.topic.clone(),
            index,
        };
        let mut session = self.session.borrow_mut();
        if !self.is_kept {
            // Nobody comes back to ask for it by name.
            session.add(key, ask);
            return;
        }
        if session.ask_again(&key, ask) || self.refused.is_some() {
            return;
        }
        match session.charge(&self.memory, &key) {
            true => session.remember(key, ask),
            false if self.is_full => {
                session.add(key, ask);
                drop(session);
                self.refuse(NoSession::NoMemory);
            }
            false => {
                drop(session);
                self.refuse(NoSession::NoMemory);
            }
        }
    }

    /// A partition that leaves the session.
    pub fn forget(&mut self, index: i32) {
        let key = PartitionKey {
            topic: self.topic.clone(),
            index,
        };
        self.session.borrow_mut().forget(&key);
    }

    /// It is served without a session.
    fn refuse(&mut self, why: NoSession) {
        self.refused = Some(why);
        if self.is_full {
            self.is_kept = false;
            let mut session = self.session.borrow_mut();
            session.memory.shrink_to(0);
            (session.places, session.names) = Default::default();
        }
    }
}

impl FetchPlan {
    fn begin(naming: Naming) -> Self {
        let mut session = naming.session.borrow_mut();
        session.under_way += 1;
        let (ready, looks_at_all) = (session.ready.clone(), session.under_way > 1);
        drop(session);
        Self {
            session_id: naming.id,
            incremental: !naming.is_full,
            refused: naming.refused,
            ready,
            session: naming.session,
            next_of_all: looks_at_all.then_some(0),
        }
    }

    /// How many partitions the request is about, those at rest included.
    pub fn asked(&self) -> usize {
        self.session.borrow().held
    }

    /// Gathers the places of the partitions to look at, in the order in which they are to be filled:
    /// those that are not at rest, and no more than `most`. Says when that is done, after so many steps
    /// at most.
    pub fn gather(&mut self, due: &mut Places, steps: usize, most: usize) -> bool {
        let mut session = self.session.borrow_mut();
        for _ in 0..steps {
            if due.len() >= most {
                return true;
            } else if let Some(place) = self.next_of_all {
                session.wake(place);
                let next = place + 1;
                self.next_of_all = ((next as usize) < session.entries.len()).then_some(next);
            } else if let Some(place) = self.ready.take() {
                session.wake(place);
            } else if let Some(Reverse((turn, place))) = session.awake.pop() {
                if let Some(entry) = session.entry_mut(place)
                    && entry.turn == turn
                    && std::mem::take(&mut entry.is_awake)
                {
                    due.push(place);
                }
            } else {
                return true;
            }
        }
        false
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

    /// Where nobody comes back to what the request named: takes down up to so many of its partitions,
    /// and says whether there are more.
    pub fn take_down(&self, partitions: usize) -> bool {
        let is_last = Rc::strong_count(&self.session) == 1;
        is_last && self.session.borrow_mut().take_down(partitions)
    }
}

impl Drop for FetchPlan {
    /// The request is answered, or nobody wants the answer any more.
    fn drop(&mut self) {
        let mut session = self.session.borrow_mut();
        session.under_way = session.under_way.saturating_sub(1);
    }
}

impl Session {
    fn new(connection: u64, by_topic_id: bool, now: Duration, memory: Permit) -> Self {
        Self {
            connection,
            next_epoch: 1,
            by_topic_id,
            last_used: now,
            entries: Vec::new(),
            held: 0,
            free: Vec::new(),
            places: LookupMap::default(),
            names: LookupMap::default(),
            next_turn: 0,
            next_generation: 0,
            awake: BinaryHeap::new(),
            ready: Rc::default(),
            under_way: 0,
            memory,
        }
    }

    /// Takes the memory for another partition, if it is there.
    fn charge(&mut self, memory: &Budget, key: &PartitionKey) -> bool {
        let taken = memory.try_acquire(self.bytes_of(key));
        let has_room = taken.is_some();
        taken.into_iter().for_each(|more| self.memory.join(more));
        has_room
    }

    /// What a partition that the session does not have adds to it, or the last one of its topic
    /// leaves free.
    fn bytes_of(&self, key: &PartitionKey) -> usize {
        let name = match &key.topic {
            TopicKey::Name(name) if self.names.get(name).is_none() => NAME_BYTES + name.len(),
            TopicKey::Name(_) | TopicKey::Id(_) => 0,
        };
        SESSION_PARTITION_BYTES + name
    }

    /// Drops up to so many partitions, and says whether there are more.
    fn take_down(&mut self, partitions: usize) -> bool {
        let left = self.entries.len().saturating_sub(partitions);
        self.entries.truncate(left);
        left > 0
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
            let turn = entry.turn;
            self.awake.push(Reverse((turn, place)));
        }
    }

    /// Takes what is asked of a partition that the session has. False where it has none.
    fn ask_again(&mut self, key: &PartitionKey, ask: PartitionAsk) -> bool {
        let Some(place) = self.places.get(key).copied() else {
            return false;
        };
        if let Some(entry) = self.entry_mut(place) {
            entry.ask = ask;
        }
        self.wake(place);
        true
    }

    /// Takes a partition that the session does not have.
    fn remember(&mut self, key: PartitionKey, ask: PartitionAsk) {
        if let TopicKey::Name(name) = &key.topic {
            let known = || (name.clone(), 0);
            self.names.get_or_insert_with(name.clone(), known).1 += 1;
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
        if self
            .entries
            .get_mut(place as usize)
            .and_then(Option::take)
            .is_some()
        {
            self.held -= 1;
            self.free.push(place);
        }
        if let TopicKey::Name(name) = &key.topic
            && let Some((_, partitions)) = self.names.get_mut(name)
        {
            *partitions -= 1;
            if *partitions == 0 {
                self.names.remove(name);
            }
        }
        let left = self.memory.amount().saturating_sub(self.bytes_of(key));
        self.memory.shrink_to(left);
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
            let was_awake = std::mem::take(&mut entry.is_awake);
            self.next_turn += 1;
            if was_awake {
                self.wake(planned.place);
            }
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
