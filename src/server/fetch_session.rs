//! Incremental fetch sessions (KIP-227), as a pure state machine.
//!
//! A session remembers which partitions a consumer reads and what it was last told about each, so
//! that a request names only what changed and a response only what is news. Refusing a session
//! (id 0) is always legal: the client then sends full requests.
//!
//! A shard is a broker of its own, so it has a cache of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::TopicId;

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
    Name(String),
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

/// What to serve: every partition to look at, in order, and under which session.
#[derive(Debug)]
pub struct FetchPlan {
    /// Session id for the response, 0 for none.
    pub session_id: i32,
    /// Whether the response names only what is news.
    pub incremental: bool,
    /// The partitions, in the order they are to be filled.
    pub partitions: Vec<Planned>,
}

/// Where a session keeps a partition; it gets another one when it goes to the end of the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u64);

/// A partition to look at.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Which.
    pub key: PartitionKey,
    /// What is asked of it.
    pub ask: PartitionAsk,
    /// For [`SessionCache::is_news`]: a search by key for each partition of a thousand costs more
    /// than reading them.
    pub place: Place,
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
    next_place: Place,
    places: BTreeMap<PartitionKey, Place>,
    partitions: BTreeMap<Place, Remembered>,
}

#[derive(Debug)]
struct Remembered {
    key: PartitionKey,
    ask: PartitionAsk,
    high_watermark: i64,
    log_start: i64,
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
                let session = self.sessions.get(&session_id);
                let planned = |(key, ask)| Planned {
                    place: session.map_or(Place(0), |session| session.place_of(&key)),
                    key,
                    ask,
                };
                Ok(FetchPlan {
                    session_id,
                    incremental: false,
                    partitions: ask.partitions.into_iter().map(planned).collect(),
                })
            }
            _ => self.go_on(ask, now),
        }
    }

    /// Whether the response of session `id` must name this partition; remembers what it says.
    pub fn is_news(&mut self, id: i32, place: Place, answer: PartitionAnswer) -> bool {
        match self.sessions.get_mut(&id) {
            Some(session) => session.is_news(place, answer),
            None => true,
        }
    }

    /// Forgets the sessions of a connection that ended.
    pub fn close_connection(&mut self, connection: u64) {
        self.sessions
            .retain(|_, session| session.connection != connection);
    }

    /// Changes the number of slots; sessions above it stay until they end.
    pub fn set_slots(&mut self, slots: usize) {
        self.slots = slots;
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
            next_place: Place(0),
            places: BTreeMap::new(),
            partitions: BTreeMap::new(),
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
        let partitions: Vec<_> = session
            .partitions
            .iter()
            .map(|(place, entry)| Planned {
                key: entry.key.clone(),
                ask: entry.ask,
                place: *place,
            })
            .collect();
        let session_id = if partitions.is_empty() {
            self.sessions.remove(&ask.id);
            0
        } else {
            ask.id
        };
        Ok(FetchPlan {
            session_id,
            incremental: true,
            partitions,
        })
    }
}

impl Session {
    fn remember(&mut self, key: PartitionKey, ask: PartitionAsk) {
        if let Some(entry) = self
            .places
            .get(&key)
            .and_then(|place| self.partitions.get_mut(place))
        {
            entry.ask = ask;
            return;
        }
        let entry = Remembered {
            key,
            ask,
            high_watermark: -1,
            log_start: -1,
        };
        self.put_last(entry);
    }

    fn put_last(&mut self, entry: Remembered) {
        self.places.insert(entry.key.clone(), self.next_place);
        self.partitions.insert(self.next_place, entry);
        self.next_place.0 += 1;
    }

    fn forget(&mut self, key: &PartitionKey) {
        if let Some(place) = self.places.remove(key) {
            self.partitions.remove(&place);
        }
    }

    fn place_of(&self, key: &PartitionKey) -> Place {
        self.places.get(key).copied().unwrap_or_default()
    }

    fn is_news(&mut self, place: Place, answer: PartitionAnswer) -> bool {
        let Some(entry) = self.partitions.get_mut(&place) else {
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
        if answer.has_records
            && let Some(entry) = self.partitions.remove(&place)
        {
            // Who got data goes last, so that a small response size starves nobody.
            self.put_last(entry);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn key(index: i32) -> PartitionKey {
        PartitionKey {
            topic: TopicKey::Name("t".into()),
            index,
        }
    }

    fn asks(indexes: &[i32]) -> Vec<(PartitionKey, PartitionAsk)> {
        let ask = PartitionAsk {
            fetch_offset: 0,
            max_bytes: 1,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
        };
        indexes.iter().map(|index| (key(*index), ask)).collect()
    }

    fn ask(id: i32, epoch: i32, indexes: &[i32]) -> SessionAsk {
        let partitions = asks(indexes);
        SessionAsk {
            id,
            epoch,
            by_topic_id: false,
            partitions,
            forgotten: vec![],
        }
    }

    fn answer(has_records: bool, high_watermark: i64) -> PartitionAnswer {
        PartitionAnswer {
            has_records,
            has_error: false,
            high_watermark,
            log_start: 0,
        }
    }

    fn order(plan: &FetchPlan) -> Vec<i32> {
        plan.partitions
            .iter()
            .map(|planned| planned.key.index)
            .collect()
    }

    fn opened(cache: &mut SessionCache, indexes: &[i32]) -> i32 {
        cache
            .plan(ask(0, 0, indexes), 1, NOW, 77)
            .unwrap()
            .session_id
    }

    #[test]
    fn incremental_requests_name_only_changes() {
        let mut cache = SessionCache::new(10, 5);
        let id = opened(&mut cache, &[0, 1]);
        assert_ne!(id, 0);
        let plan = cache.plan(ask(id, 1, &[2]), 1, NOW, 0).unwrap();
        assert!(plan.incremental);
        assert_eq!(order(&plan), [0, 1, 2]);
        let forget = SessionAsk {
            forgotten: vec![key(1)],
            ..ask(id, 2, &[])
        };
        assert_eq!(order(&cache.plan(forget, 1, NOW, 0).unwrap()), [0, 2]);
    }

    #[test]
    fn an_answer_is_news_once() {
        let mut cache = SessionCache::new(10, 5);
        let id = opened(&mut cache, &[0, 1]);
        assert!(cache.is_news(id, Place(0), answer(false, 5)));
        assert!(!cache.is_news(id, Place(0), answer(false, 5)));
        assert!(cache.is_news(id, Place(0), answer(false, 6)));
        let error = PartitionAnswer {
            has_error: true,
            ..answer(false, 6)
        };
        assert!(cache.is_news(id, Place(0), error));
        assert!(
            cache.is_news(id, Place(0), answer(false, 6)),
            "resent after an error"
        );
    }

    #[test]
    fn who_got_data_goes_last() {
        let mut cache = SessionCache::new(10, 5);
        let id = opened(&mut cache, &[0, 1, 2]);
        assert!(cache.is_news(id, Place(0), answer(true, 5)));
        assert_eq!(
            order(&cache.plan(ask(id, 1, &[]), 1, NOW, 0).unwrap()),
            [1, 2, 0]
        );
    }

    #[test]
    fn wrong_ids_and_epochs_are_refused() {
        let mut cache = SessionCache::new(10, 5);
        let id = opened(&mut cache, &[0]);
        let refused = |cache: &mut SessionCache, ask| cache.plan(ask, 1, NOW, 0).unwrap_err();
        assert_eq!(
            refused(&mut cache, ask(id + 1, 1, &[])),
            SessionError::NotFound
        );
        assert_eq!(refused(&mut cache, ask(id, 2, &[])), SessionError::Epoch);
        let mixed = SessionAsk {
            by_topic_id: true,
            ..ask(id, 1, &[])
        };
        assert_eq!(refused(&mut cache, mixed), SessionError::TopicIds);
        assert!(
            cache.plan(ask(id, 1, &[]), 1, NOW, 0).is_ok(),
            "errors do not end it"
        );
    }

    #[test]
    fn the_epoch_wraps_to_one() {
        let mut cache = SessionCache::new(10, 5);
        let id = opened(&mut cache, &[0]);
        cache.sessions.get_mut(&id).unwrap().next_epoch = i32::MAX;
        cache.plan(ask(id, i32::MAX, &[]), 1, NOW, 0).unwrap();
        assert!(cache.plan(ask(id, 1, &[]), 1, NOW, 0).is_ok());
    }

    #[test]
    fn an_emptied_session_closes() {
        let mut cache = SessionCache::new(10, 5);
        let id = opened(&mut cache, &[0]);
        let forget = SessionAsk {
            forgotten: vec![key(0)],
            ..ask(id, 1, &[])
        };
        assert_eq!(cache.plan(forget, 1, NOW, 0).unwrap().session_id, 0);
        assert!(cache.is_empty());
    }

    #[test]
    fn a_full_cache_refuses_until_one_is_idle() {
        let mut cache = SessionCache::new(1, 5);
        let first = opened(&mut cache, &[0]);
        assert_eq!(
            cache.plan(ask(0, 0, &[1]), 2, NOW, 5).unwrap().session_id,
            0
        );
        let later = NOW + EVICTION_MIN_IDLE;
        let second = cache.plan(ask(0, 0, &[1]), 2, later, 5).unwrap().session_id;
        assert!(second != 0 && second != first);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn one_connection_cannot_take_every_slot() {
        let mut cache = SessionCache::new(10, 2);
        for at in 0..5 {
            cache
                .plan(ask(0, 0, &[0]), 1, Duration::from_secs(at), at)
                .unwrap();
        }
        assert_eq!(cache.len(), 2);
        cache.close_connection(1);
        assert!(cache.is_empty());
    }
}
