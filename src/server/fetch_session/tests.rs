//! Which partitions a request of a session looks at, and what a response says of them.

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
        at_rest: !has_records,
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
    cache.end(id);
    let plan = cache.plan(ask(id, 1, &[2]), 1, NOW, 0).unwrap();
    cache.end(id);
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
    assert!(cache.is_news(id, &key(0), answer(false, 5)));
    assert!(!cache.is_news(id, &key(0), answer(false, 5)));
    assert!(cache.is_news(id, &key(0), answer(false, 6)));
    let error = PartitionAnswer {
        has_error: true,
        at_rest: false,
        ..answer(false, 6)
    };
    assert!(cache.is_news(id, &key(0), error));
    assert!(
        cache.is_news(id, &key(0), answer(false, 6)),
        "resent after an error"
    );
}

#[test]
fn who_got_data_goes_last() {
    let mut cache = SessionCache::new(10, 5);
    let id = opened(&mut cache, &[0, 1, 2]);
    assert!(cache.is_news(id, &key(0), answer(true, 5)));
    cache.end(id);
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

#[test]
fn partitions_at_rest_are_left_alone_until_something_changes() {
    let mut cache = SessionCache::new(10, 5);
    let id = opened(&mut cache, &[0, 1, 2]);
    assert!(cache.is_news(id, &key(0), answer(false, 5)));
    assert!(cache.is_news(id, &key(1), answer(true, 5)));
    assert!(cache.is_news(id, &key(2), answer(false, 5)));
    cache.end(id);
    let plan = cache.plan(ask(id, 1, &[]), 1, NOW, 0).unwrap();
    assert_eq!(order(&plan), [1], "it may have more");
    assert!(!cache.is_news(id, &key(1), answer(false, 5)));
    cache.end(id);
    plan.changes.tell(key(2));
    plan.changes.tell(key(9));
    let plan = cache.plan(ask(id, 2, &[]), 1, NOW, 0).unwrap();
    assert_eq!(order(&plan), [2]);
    assert!(!cache.is_news(id, &key(2), answer(false, 5)));
    cache.end(id);
    let plan = cache.plan(ask(id, 3, &[0]), 1, NOW, 0).unwrap();
    assert_eq!(order(&plan), [0], "the client asked anew");
}

#[test]
fn a_request_behind_another_looks_at_everything() {
    let mut cache = SessionCache::new(10, 5);
    let id = opened(&mut cache, &[0, 1]);
    for index in [0, 1] {
        cache.is_news(id, &key(index), answer(false, 5));
    }
    let plan = cache.plan(ask(id, 1, &[]), 1, NOW, 0).unwrap();
    assert_eq!(order(&plan), [0, 1]);
    cache.end(id);
    cache.end(id);
    assert!(order(&cache.plan(ask(id, 2, &[]), 1, NOW, 0).unwrap()).is_empty());
}
