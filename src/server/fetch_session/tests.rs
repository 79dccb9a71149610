//! Which partitions a request of a session looks at, and what a response says of them.

use super::*;

const NOW: Duration = Duration::from_secs(1);

/// A request: its session fields, and the partitions of one topic that it names.
#[derive(Clone, Default)]
struct Asked {
    id: i32,
    epoch: i32,
    by_topic_id: bool,
    partitions: Vec<i32>,
    forgotten: Vec<i32>,
}

/// A plan and what is to be looked at first.
#[derive(Debug)]
struct Planning {
    plan: FetchPlan,
    due: Vec<Planned>,
}

impl std::ops::Deref for Planning {
    type Target = FetchPlan;

    fn deref(&self) -> &FetchPlan {
        &self.plan
    }
}

fn cache(slots: usize, per_connection: usize) -> SessionCache {
    SessionCache::new(slots, per_connection, Budget::new(1 << 20))
}

impl SessionCache {
    fn plan(
        &mut self,
        asked: Asked,
        connection: u64,
        now: Duration,
        random: u64,
    ) -> Result<Planning, SessionError> {
        let ask = SessionAsk {
            id: asked.id,
            epoch: asked.epoch,
            by_topic_id: asked.by_topic_id,
        };
        let of_partition = PartitionAsk {
            fetch_offset: 0,
            max_bytes: 1,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
        };
        let mut naming = self.open(ask, connection, now)?;
        naming.topic("t", TopicId::ZERO);
        for index in asked.partitions {
            naming.read(index, of_partition);
        }
        for index in asked.forgotten {
            naming.forget(index);
        }
        let mut plan = self.begin(naming, now, random)?;
        let mut places = Places::new();
        while !plan.gather(&mut places, 1, usize::MAX) {}
        let due = places.iter().filter_map(|place| plan.planned(*place));
        Ok(Planning {
            due: due.collect(),
            plan,
        })
    }
}

fn ask(id: i32, epoch: i32, indexes: &[i32]) -> Asked {
    Asked {
        id,
        epoch,
        partitions: indexes.to_vec(),
        ..Asked::default()
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

fn order(plan: &Planning) -> Vec<i32> {
    plan.due.iter().map(|planned| planned.key.index).collect()
}

fn opened(cache: &mut SessionCache, indexes: &[i32]) -> Planning {
    let plan = cache.plan(ask(0, 0, indexes), 1, NOW, 77).unwrap();
    assert_ne!(plan.session_id, 0);
    plan
}

/// What the plan has for partition `index`.
fn planned(plan: &Planning, index: i32) -> &Planned {
    let is_wanted = |planned: &&Planned| planned.key.index == index;
    plan.due.iter().find(is_wanted).unwrap()
}

#[test]
fn incremental_requests_name_only_changes() {
    let mut cache = cache(10, 5);
    let plan = opened(&mut cache, &[0, 1]);
    let id = plan.session_id;
    for at in &plan.due {
        plan.is_news(at, answer(true, 5));
    }
    drop(plan);
    let plan = cache.plan(ask(id, 1, &[2]), 1, NOW, 0).unwrap();
    assert!(plan.incremental);
    assert_eq!(order(&plan), [0, 1, 2]);
    for at in &plan.due {
        plan.is_news(at, answer(true, 5));
    }
    drop(plan);
    let forget = Asked {
        forgotten: vec![1],
        ..ask(id, 2, &[])
    };
    let plan = cache.plan(forget, 1, NOW, 0).unwrap();
    assert_eq!((order(&plan), plan.asked()), (vec![0, 2], 2));
}

#[test]
fn an_answer_is_news_once() {
    let mut cache = cache(10, 5);
    let plan = opened(&mut cache, &[0, 1]);
    let first = planned(&plan, 0);
    assert!(plan.is_news(first, answer(false, 5)));
    assert!(!plan.is_news(first, answer(false, 5)));
    assert!(plan.is_news(first, answer(false, 6)));
    let error = PartitionAnswer {
        has_error: true,
        at_rest: false,
        ..answer(false, 6)
    };
    assert!(plan.is_news(first, error));
    assert!(
        plan.is_news(first, answer(false, 6)),
        "resent after an error"
    );
}

#[test]
fn who_got_data_goes_last() {
    let mut cache = cache(10, 5);
    let plan = opened(&mut cache, &[0, 1, 2]);
    let more = PartitionAnswer {
        at_rest: false,
        ..answer(false, 5)
    };
    assert!(plan.is_news(planned(&plan, 0), answer(true, 5)));
    for index in [1, 2] {
        plan.is_news(planned(&plan, index), more);
    }
    let id = plan.session_id;
    drop(plan);
    let plan = cache.plan(ask(id, 1, &[]), 1, NOW, 0).unwrap();
    assert_eq!(order(&plan), [1, 2, 0]);
}

#[test]
fn an_answer_for_a_place_is_not_taken_for_its_next_partition() {
    let mut cache = cache(10, 5);
    let first = opened(&mut cache, &[0, 1]);
    let id = first.session_id;
    let swap = Asked {
        forgotten: vec![1],
        ..ask(id, 1, &[])
    };
    drop(cache.plan(swap, 1, NOW, 0).unwrap());
    let next = cache.plan(ask(id, 2, &[9]), 1, NOW, 0).unwrap();
    let (old, new) = (planned(&first, 1), planned(&next, 9));
    assert_eq!(old.place, new.place, "the place is used again");
    assert!(next.is_news(new, answer(false, 5)));
    assert!(first.is_news(old, answer(false, 7)), "it is forgotten");
    assert!(!next.is_news(new, answer(false, 5)));
}

#[test]
fn a_partition_is_watched_once_and_no_longer_than_it_is_wanted() {
    use crate::rt::Watchers;
    let (here, moved) = (PartitionSlot::of_test(0), PartitionSlot::of_test(1));
    let mut cache = cache(10, 5);
    let plan = opened(&mut cache, &[0, 1]);
    let at = planned(&plan, 1);
    let watchers = Rc::new(Watchers::default());
    let watch = |set: &Rc<ReadySet>, place| watchers.watch(set, place);
    plan.watch(at, here, watch);
    plan.watch(at, here, |_, _| panic!("it is watched already"));
    watchers.tell();
    assert_eq!(
        (plan.ready.take(), plan.ready.take()),
        (Some(at.place), None)
    );
    plan.watch(at, moved, |set, place| {
        Rc::new(Watchers::default()).watch(set, place)
    });
    watchers.tell();
    assert!(plan.ready.is_empty(), "the partition is another one");
    plan.found_at(at, moved);
    assert_eq!(plan.planned(at.place).unwrap().slot, Some(moved));
}

#[test]
fn wrong_ids_and_epochs_are_refused() {
    let mut cache = cache(10, 5);
    let id = opened(&mut cache, &[0]).session_id;
    let refused = |cache: &mut SessionCache, ask| cache.plan(ask, 1, NOW, 0).unwrap_err();
    assert_eq!(
        refused(&mut cache, ask(id + 1, 1, &[])),
        SessionError::NotFound
    );
    assert_eq!(refused(&mut cache, ask(id, 2, &[])), SessionError::Epoch);
    let mixed = Asked {
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
    let mut cache = cache(10, 5);
    let id = opened(&mut cache, &[0]).session_id;
    cache.sessions[&id].borrow_mut().next_epoch = i32::MAX;
    cache.plan(ask(id, i32::MAX, &[]), 1, NOW, 0).unwrap();
    assert!(cache.plan(ask(id, 1, &[]), 1, NOW, 0).is_ok());
}

#[test]
fn an_emptied_session_closes() {
    let mut cache = cache(10, 5);
    let id = opened(&mut cache, &[0]).session_id;
    let forget = Asked {
        forgotten: vec![0],
        ..ask(id, 1, &[])
    };
    assert_eq!(cache.plan(forget, 1, NOW, 0).unwrap().session_id, 0);
    assert!(cache.is_empty());
}

#[test]
fn a_full_cache_refuses_until_one_is_idle() {
    let mut cache = cache(1, 5);
    let first = opened(&mut cache, &[0]).session_id;
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
    let mut cache = cache(10, 2);
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
    let mut cache = cache(10, 5);
    let plan = opened(&mut cache, &[0, 1, 2]);
    let (id, third) = (plan.session_id, planned(&plan, 2).place);
    assert!(plan.is_news(planned(&plan, 0), answer(false, 5)));
    assert!(plan.is_news(planned(&plan, 1), answer(true, 5)));
    assert!(plan.is_news(planned(&plan, 2), answer(false, 5)));
    drop(plan);
    let plan = cache.plan(ask(id, 1, &[]), 1, NOW, 0).unwrap();
    assert_eq!(order(&plan), [1], "it may have more");
    assert!(!plan.is_news(planned(&plan, 1), answer(false, 5)));
    plan.ready.tell(third);
    plan.ready.tell(99);
    drop(plan);
    let plan = cache.plan(ask(id, 2, &[]), 1, NOW, 0).unwrap();
    assert_eq!(order(&plan), [2]);
    assert!(!plan.is_news(planned(&plan, 2), answer(false, 5)));
    drop(plan);
    let plan = cache.plan(ask(id, 3, &[0]), 1, NOW, 0).unwrap();
    assert_eq!(order(&plan), [0], "the client asked anew");
}

#[test]
fn a_request_behind_another_looks_at_everything() {
    let mut cache = cache(10, 5);
    let first = opened(&mut cache, &[0, 1]);
    let id = first.session_id;
    for at in &first.due {
        first.is_news(at, answer(false, 5));
    }
    let second = cache.plan(ask(id, 1, &[]), 1, NOW, 0).unwrap();
    assert_eq!(order(&second), [0, 1]);
    drop((first, second));
    assert!(order(&cache.plan(ask(id, 2, &[]), 1, NOW, 0).unwrap()).is_empty());
}

#[test]
fn sessions_remember_no_more_than_there_is_memory_for() {
    let name = NAME_BYTES + 1;
    let memory = Budget::new(5 * SESSION_PARTITION_BYTES + 2 * name);
    let mut cache = SessionCache::new(10, 5, memory.clone());
    let first = opened(&mut cache, &[0, 1, 2]).session_id;
    assert_eq!(memory.taken(), 3 * SESSION_PARTITION_BYTES + name);
    let refused = cache.plan(ask(0, 0, &[0, 1, 2]), 1, NOW, 77).unwrap();
    assert_eq!(refused.session_id, 0, "it is served without one");
    assert_eq!(refused.refused, Some(NoSession::NoMemory));
    assert_eq!(order(&refused), [0, 1, 2]);
    assert_eq!(memory.taken(), 3 * SESSION_PARTITION_BYTES + name);
    let second = opened(&mut cache, &[7]);
    let grown = cache.plan(ask(first, 1, &[3, 4]), 1, NOW, 0);
    assert!(matches!(grown, Err(SessionError::NoMemory)));
    assert_eq!(cache.len(), 1);
    while cache.take_down(1) {}
    assert_eq!(memory.taken(), SESSION_PARTITION_BYTES + name);
    assert_ne!(
        opened(&mut cache, &[0, 1, 2]).session_id,
        0,
        "what it held is free"
    );
    drop(second);
}

#[test]
fn what_is_forgotten_is_given_back_with_its_topics_name() {
    let memory = Budget::new(1 << 20);
    let mut cache = SessionCache::new(10, 5, memory.clone());
    let id = opened(&mut cache, &[0]).session_id;
    let before = memory.taken();
    drop(cache.plan(ask(id, 1, &[1, 2, 1]), 1, NOW, 0).unwrap());
    assert_eq!(memory.taken(), before + 2 * SESSION_PARTITION_BYTES);
    let forget = Asked {
        forgotten: vec![1, 0, 7],
        ..ask(id, 2, &[])
    };
    drop(cache.plan(forget, 1, NOW, 0).unwrap());
    assert_eq!(memory.taken(), before);
    let forget = Asked {
        forgotten: vec![2],
        ..ask(id, 3, &[])
    };
    drop(cache.plan(forget, 1, NOW, 0).unwrap());
    while cache.take_down(1) {}
    assert_eq!(memory.taken(), 0);
}

#[test]
fn what_has_ended_is_taken_down_a_few_at_a_time() {
    let mut cache = cache(10, 5);
    let indexes = Vec::from_iter(0..100);
    drop(opened(&mut cache, &indexes));
    cache.close_connection(1);
    let steps = std::iter::from_fn(|| cache.take_down(30).then_some(()));
    assert_eq!(steps.count(), 3);
    assert!(cache.ended.is_empty());
    let full = cache
        .plan(ask(0, FINAL_EPOCH, &indexes), 1, NOW, 0)
        .unwrap();
    let steps = std::iter::from_fn(|| full.take_down(30).then_some(()));
    assert_eq!(steps.count(), 3);
}

#[test]
fn whoever_there_is_no_room_for_has_its_turn_next() {
    let mut cache = cache(10, 5);
    let id = opened(&mut cache, &[0, 1, 2, 3]).session_id;
    let mut naming = |epoch| {
        let ask = SessionAsk {
            id,
            epoch,
            by_topic_id: false,
        };
        let naming = cache.open(ask, 1, NOW).unwrap();
        let mut plan = cache.begin(naming, NOW, 0).unwrap();
        // Nothing was said of what the first request looked at.
        (0..4)
            .filter(|_| epoch == 1)
            .for_each(|place| plan.ready.tell(place));
        let mut places = Places::new();
        while !plan.gather(&mut places, 1, 3) {}
        places.to_vec()
    };
    assert_eq!(naming(1), [0, 1, 2]);
    assert_eq!(naming(2), [3]);
    assert!(naming(3).is_empty());
}
