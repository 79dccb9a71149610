//! Incremental fetch sessions (KIP-227), as a pure state machine.
//!
//! A session remembers which partitions a consumer reads and what it was last told about each, so
//! that a request names only what changed and a response only what is news. Refusing a session
//! (id 0) is always legal: the client then sends full requests.
//!
//! It also knows which partitions are *at rest*: nothing was left to read when they were looked at,
//! and nothing was reported of them since. A request looks at the others alone, so that a consumer
//! of a thousand partitions costs as much as those of them that are written to.
//!
//! A shard is a broker of its own, so it has a cache of its own.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::model::TopicId;
use crate::rt::Changes;

/// Epoch of a request that opens a session (or renews one).
pub const INITIAL_EPOCH: i32 = 0;
/// Epoch of a request that wants none and closes the one it names.
pub const FINAL_EPOCH: i32 = -1;
/// A full cache gives up a session only after it was idle this long (Kafka: `min.incremental.fetch.session.eviction.ms`).
const EVICTION_MIN_IDLE: Duration = Duration::from_secs(120);

/// A topic as the request names it: by name up to Fetch v12, by id from v13 on (KIP-516).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKey {
    /// Fetch v4–v12.
    Name(Rc<str>),
    /// Fetch v13 and later.
    Id(TopicId),
}

/// A partition of a fetch request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionKey {
    /// Its topic.
    pub topic: TopicKey,
    /// Its index.
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
    /// High watermark.
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
    /// The partitions, in the order they are to be filled.
    pub partitions: Vec<Planned>,
    /// Where partitions that were looked at report that there is news.
    pub changes: Rc<Changes<PartitionKey>>,
}

/// A partition to look at.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Which.
    pub key: PartitionKey,
    /// What is asked of it.
    pub ask: PartitionAsk,
}

/// All sessions of one shard.
#[derive(Debug)]
pub struct SessionCache {
    slots: usize,
    per_connection: usize,
    sessions: BTreeMap<i32, Session>,
}

#[derive(Debug)]
struct Session {
    connection: u64,
    next_epoch: i32,
    by_topic_id: bool,
    last_used: Duration,
    partitions: BTreeMap<PartitionKey, Remembered>,
    next_turn: u64,
    /// Partitions that are not at rest.
    awake: BTreeSet<PartitionKey>,
    changes: Rc<Changes<PartitionKey>>,
    /// Requests that were planned and not answered. A client has one under way; if it sends more,
    /// each looks at everything, as the first has yet to say what is at rest.
    under_way: usize,
}

#[derive(Debug)]
struct Remembered {
    ask: PartitionAsk,
    high_watermark: i64,
    log_start: i64,
    /// Its place in the order; who got data goes last.
    turn: u64,
}

impl SessionCache {
    /// A cache of `slots` sessions, of which one connection holds at most `per_connection`.
    pub fn new(slots: usize, per_connection: usize) -> Self {
        Self {
            slots,
            per_connection,
            sessions: BTreeMap::new(),
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

    /// Applies a request's session fields and says what to serve. `random` seeds a new id.
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
                let session_id = if ask.epoch == INITIAL_EPOCH && !ask.partitions.is_empty() {
                    self.open(&ask, connection, now, random)
                } else {
                    0
                };
                let changes = match self.sessions.get_mut(&session_id) {
                    Some(session) => session.begin(),
                    None => Rc::default(),
                };
                let planned = |(key, ask)| Planned { key, ask };
                Ok(FetchPlan {
                    session_id,
                    incremental: false,
                    partitions: ask.partitions.into_iter().map(planned).collect(),
                    changes,
                })
            }
            _ => self.go_on(ask, now),
        }
    }

    /// What session `id` asks of a partition, if it still does.
    pub fn planned(&self, id: i32, key: &PartitionKey) -> Option<Planned> {
        let ask = self.sessions.get(&id)?.partitions.get(key)?.ask;
        let key = key.clone();
        Some(Planned { key, ask })
    }

    /// Whether the response of session `id` must name this partition; remembers what it says.
    pub fn is_news(&mut self, id: i32, key: &PartitionKey, answer: PartitionAnswer) -> bool {
        match self.sessions.get_mut(&id) {
            Some(session) => session.is_news(key, answer),
            None => true,
        }
    }

    /// A request of session `id` is answered.
    pub fn end(&mut self, id: i32) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.under_way = session.under_way.saturating_sub(1);
        }
    }

    /// Forgets the sessions of a connection that ended.
    pub fn close_connection(&mut self, connection: u64) {
        self.sessions
            .retain(|_, session| session.connection != connection);
    }

    fn open(&mut self, ask: &SessionAsk, connection: u64, now: Duration, random: u64) -> i32 {
        self.make_room(connection, now);
        if self.sessions.len() >= self.slots {
            return 0;
        }
        let mut id = (random as i32 & i32::MAX).max(1);
        while self.sessions.contains_key(&id) {
            id = (id.wrapping_add(1) & i32::MAX).max(1);
        }
        let mut session = Session {
            connection,
            next_epoch: 1,
            by_topic_id: ask.by_topic_id,
            last_used: now,
            partitions: BTreeMap::new(),
            next_turn: 0,
            awake: BTreeSet::new(),
            changes: Rc::default(),
            under_way: 0,
        };
        for (key, ask) in &ask.partitions {
            session.remember(key.clone(), *ask);
        }
        self.sessions.insert(id, session);
        id
    }

    fn make_room(&mut self, connection: u64, now: Duration) {
        let of_connection = self
            .sessions
            .values()
            .filter(|s| s.connection == connection)
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
            .filter(|(_, session)| may(session))
            .min_by_key(|(_, session)| session.last_used)
            .map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.sessions.remove(&id);
        }
    }

    fn go_on(&mut self, ask: SessionAsk, now: Duration) -> Result<FetchPlan, SessionError> {
        let session = self
            .sessions
            .get_mut(&ask.id)
            .ok_or(SessionError::NotFound)?;
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
        for key in &ask.forgotten {
            session.forget(key);
        }
        for (key, ask) in ask.partitions {
            session.remember(key, ask);
        }
        let partitions = session.due();
        let changes = session.begin();
        let session_id = if session.partitions.is_empty() {
            self.sessions.remove(&ask.id);
            0
        } else {
            ask.id
        };
        Ok(FetchPlan {
            session_id,
            incremental: true,
            partitions,
            changes,
        })
    }
}

impl Session {
    /// A request is under way from now on.
    fn begin(&mut self) -> Rc<Changes<PartitionKey>> {
        self.under_way += 1;
        self.changes.clone()
    }

    /// The partitions that are not at rest, in their order.
    fn due(&mut self) -> Vec<Planned> {
        let came = self.changes.take().into_iter();
        let came = came.filter(|key| self.partitions.contains_key(key));
        self.awake.extend(came);
        let all = match self.under_way {
            0 => None,
            _ => Some(self.partitions.keys().cloned().collect()),
        };
        let keys = all.as_ref().unwrap_or(&self.awake);
        let mut due: Vec<_> = keys
            .iter()
            .filter_map(|key| Some((self.partitions.get(key)?, key)))
            .collect();
        due.sort_unstable_by_key(|(entry, _)| entry.turn);
        let planned = |(entry, key): (&Remembered, &PartitionKey)| Planned {
            key: key.clone(),
            ask: entry.ask,
        };
        due.into_iter().map(planned).collect()
    }

    fn remember(&mut self, key: PartitionKey, ask: PartitionAsk) {
        self.awake.insert(key.clone());
        match self.partitions.entry(key) {
            Entry::Occupied(mut entry) => entry.get_mut().ask = ask,
            Entry::Vacant(entry) => {
                entry.insert(Remembered {
                    ask,
                    high_watermark: -1,
                    log_start: -1,
                    turn: self.next_turn,
                });
                self.next_turn += 1;
            }
        }
    }

    fn forget(&mut self, key: &PartitionKey) {
        self.partitions.remove(key);
        self.awake.remove(key);
    }

    fn is_news(&mut self, key: &PartitionKey, answer: PartitionAnswer) -> bool {
        let Some(entry) = self.partitions.get_mut(key) else {
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
            entry.turn = self.next_turn;
            self.next_turn += 1;
        }
        match answer.at_rest {
            true => self.awake.remove(key),
            false => self.awake.insert(key.clone()),
        };
        news
    }
}

#[cfg(test)]
mod tests;
