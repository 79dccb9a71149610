//! Decisions and their consequences, singly and in random sequences.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::controller::*;
use super::*;
use crate::model::{
    BrokerId, LeaderEpoch, NodeId, PartitionId, PartitionIndex, ProducerId, ShardIndex, TopicId,
};

const NODE: NodeId = NodeId(0);

/// Takes every key but `bad`; `list` is a list.
struct Rules;

impl ConfigRules for Rules {
    fn check_topic(&self, configs: &BTreeMap<String, String>) -> Result<(), String> {
        if configs.contains_key("bad") {
            Err("bad is bad".into())
        } else {
            Ok(())
        }
    }

    fn check_broker(&self, _: Option<NodeId>, changes: &ConfigChanges) -> Result<(), String> {
        if changes.contains_key("bad") {
            Err("bad is bad".into())
        } else {
            Ok(())
        }
    }

    fn inherited_list(&self, _: ConfigTarget<'_>, key: &str) -> Option<String> {
        (key == "list").then(|| "a".to_string())
    }
}

fn id(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

/// An image with one node of so many shards.
fn started(shards: u16) -> Image {
    let first = Record::ClusterCreated {
        cluster_id: "cluster".into(),
    };
    let image = Image::default().apply(&first).expect("applies");
    image
        .apply_all(&start_run(&image, NODE, shards, true).expect("starts"))
        .expect("applies")
}

fn topic(name: &str, number: u128, partition_count: i32) -> NewTopic {
    NewTopic {
        name: name.into(),
        id: id(number),
        partition_count,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: BTreeMap::new(),
    }
}

fn create(image: &Image, new: NewTopic) -> Result<Image, ControllerError> {
    let records = create_topic(image, &Rules, 2, new)?;
    Ok(image.apply_all(&records).expect("applies"))
}

fn shards_of(image: &Image, name: &str) -> Vec<u16> {
    let topic = image.topic(name).expect("exists");
    topic
        .partitions
        .iter()
        .map(|state| state.placement.shard.0)
        .collect()
}

#[test]
fn partitions_are_dealt_out_in_turns_from_where_there_are_fewest() {
    let image = create(&started(3), topic("a", 1, 4)).expect("created");
    assert_eq!(shards_of(&image, "a"), [0, 1, 2, 0]);
    let image = create(&image, topic("b", 2, -1)).expect("created");
    assert_eq!(shards_of(&image, "b"), [1, 2]);
    let image = create(&image, topic("c", 3, 1)).expect("created");
    assert_eq!(shards_of(&image, "c"), [0]);
    assert_eq!(
        image
            .partitions_of(image.shards().next().expect("a shard"))
            .count(),
        3
    );
}

#[test]
fn names_are_kafkas() {
    let image = started(1);
    let refused = |name: &str| create(&image, topic(name, 1, 1)).is_err();
    for bad in [
        "",
        ".",
        "..",
        "shard",
        "a/b",
        "ä",
        "a b",
        "a\0",
        &"x".repeat(250),
    ] {
        assert!(refused(bad), "{bad:?}");
    }
    for good in ["...", "shards", "shard-0", "A.b_c-9", &"x".repeat(249)] {
        assert!(!refused(good), "{good:?}");
    }
    let image = create(&image, topic("a.b_c", 1, 1)).expect("created");
    let collides = create(&image, topic("a_b.c", 2, 1)).expect_err("collides");
    assert!(
        matches!(collides, ControllerError::InvalidTopic(_)),
        "{collides}"
    );
    let exists = create(&image, topic("a.b_c", 2, 1)).expect_err("exists");
    assert_eq!(exists, ControllerError::TopicExists("a.b_c".into()));
}

#[test]
fn counts_are_checked() {
    let image = started(2);
    let with = |partitions, replicas| {
        let new = NewTopic {
            replication_factor: replicas,
            ..topic("t", 1, partitions)
        };
        create(&image, new).err()
    };
    assert_eq!(with(1, 1), None);
    assert!(matches!(
        with(0, 1),
        Some(ControllerError::InvalidPartitions(_))
    ));
    assert!(matches!(
        with(-2, 1),
        Some(ControllerError::InvalidPartitions(_))
    ));
    assert!(matches!(
        with(i32::MAX, 1),
        Some(ControllerError::PolicyViolation(_))
    ));
    for replicas in [0, -2, 2, i16::MAX] {
        assert!(matches!(
            with(1, replicas),
            Some(ControllerError::InvalidReplicationFactor(_))
        ));
    }
    let nowhere = create(&Image::default(), topic("t", 1, 1));
    assert_eq!(nowhere, Err(ControllerError::NoShards));
}

#[test]
fn assignments_name_existing_brokers_without_gaps() {
    let image = started(2);
    let assign = |given: &[(i32, &[i32])]| {
        let assignment = |(index, brokers): &(i32, &[i32])| Assignment {
            index: PartitionIndex(*index),
            brokers: brokers.iter().map(|broker| BrokerId(*broker)).collect(),
        };
        let assignments = given.iter().map(assignment).collect();
        create(
            &image,
            NewTopic {
                assignments,
                ..topic("t", 1, -1)
            },
        )
    };
    let image_after = assign(&[(1, &[0]), (0, &[1000])]).expect("created");
    assert_eq!(shards_of(&image_after, "t"), [1, 0]);
    let gap = assign(&[(0, &[0]), (2, &[0])]);
    assert!(matches!(gap, Err(ControllerError::InvalidAssignment(_))));
    let double = assign(&[(0, &[0]), (0, &[0])]);
    assert!(matches!(double, Err(ControllerError::InvalidAssignment(_))));
    assert!(matches!(
        assign(&[(0, &[])]),
        Err(ControllerError::InvalidAssignment(_))
    ));
    assert_eq!(
        assign(&[(0, &[7])]),
        Err(ControllerError::UnknownReplica(BrokerId(7)))
    );
    let two = assign(&[(0, &[0, 1000])]);
    assert!(matches!(
        two,
        Err(ControllerError::InvalidReplicationFactor(_))
    ));
}

#[test]
fn topics_grow_but_do_not_shrink() {
    let image = create(&started(3), topic("t", 1, 2)).expect("created");
    let grow = |total_count, assignments: Option<Vec<Vec<BrokerId>>>| {
        let new = NewPartitions {
            name: "t".into(),
            total_count,
            assignments,
        };
        add_partitions(&image, &new).map(|records| image.apply_all(&records).expect("applies"))
    };
    assert_eq!(
        shards_of(&grow(5, None).expect("grows"), "t"),
        [0, 1, 2, 0, 1]
    );
    let placed = grow(3, Some(vec![vec![BrokerId(1000)]])).expect("grows");
    assert_eq!(shards_of(&placed, "t"), [0, 1, 1]);
    for count in [i32::MIN, -1, 0, 1, 2] {
        assert!(matches!(
            grow(count, None),
            Err(ControllerError::InvalidPartitions(_))
        ));
    }
    assert!(matches!(
        grow(i32::MAX, None),
        Err(ControllerError::PolicyViolation(_))
    ));
    assert!(matches!(
        grow(3, Some(vec![])),
        Err(ControllerError::InvalidAssignment(_))
    ));
}

#[test]
fn a_name_is_free_only_when_its_files_are_gone() {
    let image = create(&started(1), topic("t", 1, 1)).expect("created");
    let image = image
        .apply_all(&delete_topic(&image, id(1)).expect("deletes"))
        .expect("applies");
    assert!(image.topic("t").is_none() && image.topic_by_id(id(1)).is_none());
    assert_eq!(
        create(&image, topic("t", 2, 1)),
        Err(ControllerError::TopicExists("t".into()))
    );
    assert_eq!(image.leaving_topics().count(), 1);
    let image = image
        .apply_all(&purge_topic(&image, id(1)).expect("purges"))
        .expect("applies");
    assert!(create(&image, topic("t", 2, 1)).is_ok());
    assert_eq!(
        delete_topic(&image, id(1)),
        Err(ControllerError::UnknownTopicId(id(1)))
    );
    assert_eq!(
        purge_topic(&image, id(1)),
        Err(ControllerError::UnknownTopicId(id(1)))
    );
}

#[test]
fn settings_are_replaced_or_altered_one_by_one() {
    let image = create(&started(1), topic("t", 1, 1)).expect("created");
    let target = ConfigTarget::Topic("t");
    let alter = |image: &Image, steps: &[(&str, AlterOp, Option<&str>)]| {
        let step = |(key, op, value): &(&str, AlterOp, Option<&str>)| Alteration {
            key: key.to_string(),
            op: *op,
            value: value.map(str::to_string),
        };
        let steps: Vec<_> = steps.iter().map(step).collect();
        let records = incremental_alter_configs(image, &Rules, target, &steps)?;
        Ok::<_, ControllerError>(image.apply_all(&records).expect("applies"))
    };
    let shown = |image: &Image| format!("{:?}", image.topic("t").expect("exists").configs);
    let image = alter(
        &image,
        &[
            ("k", AlterOp::Set, Some("1")),
            ("list", AlterOp::Append, Some("b, a")),
        ],
    );
    let image = image.expect("altered");
    assert_eq!(shown(&image), r#"{"k": "1", "list": "a,b"}"#);
    let next = alter(
        &image,
        &[
            ("k", AlterOp::Delete, None),
            ("list", AlterOp::Subtract, Some("a")),
        ],
    );
    assert_eq!(shown(&next.expect("altered")), r#"{"list": "b"}"#);
    let refused = |steps: &[_]| alter(&image, steps).expect_err("refused");
    assert!(matches!(
        refused(&[("k", AlterOp::Set, None)]),
        ControllerError::InvalidRequest(_)
    ));
    assert!(matches!(
        refused(&[("k", AlterOp::Append, Some("x"))]),
        ControllerError::InvalidConfig(_)
    ));
    assert!(matches!(
        refused(&[("bad", AlterOp::Set, Some("x"))]),
        ControllerError::InvalidConfig(_)
    ));
    let twice = [("k", AlterOp::Set, Some("x")), ("k", AlterOp::Delete, None)];
    assert!(matches!(
        refused(&twice),
        ControllerError::InvalidRequest(_)
    ));

    let replaced = alter_configs(&image, &Rules, target, &[("new".into(), Some("2".into()))]);
    let image = image
        .apply_all(&replaced.expect("replaces"))
        .expect("applies");
    assert_eq!(shown(&image), r#"{"new": "2"}"#);
    let same = alter_configs(&image, &Rules, target, &[("new".into(), Some("2".into()))]);
    assert_eq!(same, Ok(vec![]), "nothing changes, nothing is written");
    let elsewhere = alter_configs(&image, &Rules, ConfigTarget::Broker(Some(NodeId(9))), &[]);
    assert_eq!(elsewhere, Err(ControllerError::UnknownNode(NodeId(9))));
}

#[test]
fn an_unclean_start_raises_the_leader_epochs() {
    let image = create(&started(2), topic("t", 1, 3)).expect("created");
    let epochs = |image: &Image| {
        let partitions = &image.topic("t").expect("exists").partitions;
        partitions
            .iter()
            .map(|state| state.leader_epoch.0)
            .collect::<Vec<_>>()
    };
    let again = |image: &Image, clean| {
        image
            .apply_all(&start_run(image, NODE, 2, clean).expect("starts"))
            .expect("applies")
    };
    assert_eq!(epochs(&again(&image, true)), [0, 0, 0]);
    assert_eq!(epochs(&again(&again(&image, false), false)), [2, 2, 2]);
}

#[test]
fn another_number_of_shards_deals_partitions_out_anew() {
    let mut image = started(2);
    for number in 0..6 {
        image = create(&image, topic(&format!("t{number}"), number + 1, 3)).expect("created");
    }
    for shards in [1, 3, 2] {
        let before = image.clone();
        let records = start_run(&image, NODE, shards, false).expect("starts");
        image = image.apply_all(&records).expect("applies");
        for shard in 0..shards {
            let owner = Placement {
                node: NODE,
                shard: ShardIndex(shard),
            };
            assert_eq!(image.partitions_of(owner).count(), 18 / usize::from(shards));
        }
        for (topic, index, state) in image.shards().flat_map(|owner| image.partitions_of(owner)) {
            let partition = PartitionId {
                topic: topic.id,
                index,
            };
            let old = before.partition(partition).expect("existed");
            let moved = old.placement != state.placement;
            assert_eq!(state.owner_epoch, old.owner_epoch + u32::from(moved));
            let risen = old.leader_epoch.0 + 1 + i32::from(moved);
            assert_eq!(state.leader_epoch, LeaderEpoch(risen));
        }
    }
}

#[test]
fn records_that_do_not_follow_are_refused() {
    let image = create(&started(2), topic("t", 1, 1)).expect("created");
    let moved = |leader_epoch, owner_epoch, index| Record::PartitionsMoved {
        moves: vec![Move {
            topic: id(1),
            index: PartitionIndex(index),
            placement: Placement {
                node: NODE,
                shard: ShardIndex(1),
            },
            leader_epoch: LeaderEpoch(leader_epoch),
            owner_epoch,
        }],
    };
    assert!(image.apply(&moved(1, 1, 0)).is_ok());
    let stale = ApplyError::StaleEpoch(id(1), PartitionIndex(0));
    assert_eq!(image.apply(&moved(0, 1, 0)), Err(stale.clone()));
    assert_eq!(image.apply(&moved(1, 0, 0)), Err(stale));
    for index in [-1, 1, i32::MAX] {
        let wrong = ApplyError::WrongPartition(id(1), PartitionIndex(index));
        assert_eq!(image.apply(&moved(1, 1, index)), Err(wrong));
    }
    let again = Record::ClusterCreated {
        cluster_id: "other".into(),
    };
    assert_eq!(image.apply(&again), Err(ApplyError::ClusterExists));
    let first = PartitionIndex(0);
    let gap = Record::PartitionsAdded {
        id: id(1),
        first,
        partitions: vec![],
    };
    assert_eq!(
        image.apply(&gap),
        Err(ApplyError::WrongPartition(id(1), first))
    );
    let other = Record::TopicDeleted { id: id(2) };
    assert_eq!(image.apply(&other), Err(ApplyError::UnknownTopic(id(2))));
}

#[test]
fn producer_ids_come_in_blocks() {
    let image = started(1);
    let (record, block) = allocate_producer_ids(&image).expect("some left");
    assert_eq!((block.first, block.end), (ProducerId(0), ProducerId(1000)));
    let image = image.apply(&record).expect("applies");
    assert!(image.apply(&record).is_err(), "never twice");
    let (_, block) = allocate_producer_ids(&image).expect("some left");
    assert_eq!(block.first, ProducerId(1000));
    let full = Record::ProducerIdsAllocated {
        next: ProducerId(i64::MAX),
    };
    let full = image.apply(&full).expect("applies");
    assert_eq!(
        allocate_producer_ids(&full),
        Err(ControllerError::NoProducerIds)
    );
}

/// A request of any kind, some of which are refused.
#[derive(Clone, Debug)]
enum Ask {
    Create(u8, i32),
    Grow(u8, i32),
    Delete(u8),
    Purge,
    ConfigureTopic(u8, String, Option<String>),
    ConfigureBroker(bool, String, Option<String>),
    Producers,
    Restart(u16, bool),
}

fn ask() -> impl Strategy<Value = Ask> {
    let value = || proptest::option::of("[0-9]{1,3}");
    prop_oneof![
        4 => (0..12u8, -1..6i32).prop_map(|(topic, count)| Ask::Create(topic, count)),
        2 => (0..12u8, 0..9i32).prop_map(|(topic, count)| Ask::Grow(topic, count)),
        2 => (0..12u8).prop_map(Ask::Delete),
        2 => Just(Ask::Purge),
        2 => (0..12u8, "[a-c]", value()).prop_map(|(t, k, v)| Ask::ConfigureTopic(t, k, v)),
        1 => (any::<bool>(), "[a-c]", value()).prop_map(|(n, k, v)| Ask::ConfigureBroker(n, k, v)),
        1 => Just(Ask::Producers),
        1 => (1..5u16, any::<bool>()).prop_map(|(shards, clean)| Ask::Restart(shards, clean)),
    ]
}

fn decide(image: &Image, number: u128, ask: &Ask) -> Option<Vec<Record>> {
    let name = |topic: &u8| format!("t{topic}");
    let alteration = |key: &String, value: &Option<String>| Alteration {
        key: key.clone(),
        op: if value.is_some() {
            AlterOp::Set
        } else {
            AlterOp::Delete
        },
        value: value.clone(),
    };
    match ask {
        Ask::Create(t, count) => {
            create_topic(image, &Rules, 2, topic(&name(t), number, *count)).ok()
        }
        Ask::Grow(t, total_count) => {
            let new = NewPartitions {
                name: name(t),
                total_count: *total_count,
                assignments: None,
            };
            add_partitions(image, &new).ok()
        }
        Ask::Delete(t) => delete_topic(image, image.topic(&name(t))?.id).ok(),
        Ask::Purge => purge_topic(image, image.leaving_topics().next()?.id).ok(),
        Ask::ConfigureTopic(t, key, value) => {
            let steps = [alteration(key, value)];
            incremental_alter_configs(image, &Rules, ConfigTarget::Topic(&name(t)), &steps).ok()
        }
        Ask::ConfigureBroker(of_node, key, value) => {
            let target = ConfigTarget::Broker(of_node.then_some(NODE));
            incremental_alter_configs(image, &Rules, target, &[alteration(key, value)]).ok()
        }
        Ask::Producers => allocate_producer_ids(image)
            .ok()
            .map(|(record, _)| vec![record]),
        Ask::Restart(shards, clean) => start_run(image, NODE, *shards, *clean).ok(),
    }
}

fn check_consistent(image: &Image) -> Result<(), TestCaseError> {
    let owned: usize = image
        .shards()
        .map(|owner| image.partitions_of(owner).count())
        .sum();
    let all: usize = image.topics().map(|topic| topic.partitions.len()).sum();
    prop_assert_eq!(owned, all, "every partition has an owner that exists");
    prop_assert_eq!(image.load.values().sum::<usize>(), all);
    prop_assert_eq!(image.by_id.len(), image.by_name.len());
    for topic in image.topics() {
        prop_assert_eq!(image.topic_by_id(topic.id), Some(topic));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is accepted applies; log and snapshot give the same image; every record survives
    /// being stored.
    #[test]
    fn replay_and_snapshot_agree(
        asks in proptest::collection::vec(ask(), 1..80),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut image = started(2);
        let mut log = image.to_records();
        let mut images = vec![(log.len(), image.clone())];
        for (number, ask) in asks.iter().enumerate() {
            let records = decide(&image, number as u128 + 1, ask).unwrap_or_default();
            image = image.apply_all(&records).expect("what is decided applies");
            log.extend(records);
            images.push((log.len(), image.clone()));
            check_consistent(&image)?;
        }
        let stored: Vec<_> = log.iter().map(Record::encode).collect();
        let read: Result<Vec<_>, _> = stored.iter().map(|bytes| Record::decode(bytes)).collect();
        prop_assert_eq!(read.as_ref(), Ok(&log));
        prop_assert_eq!(&Image::default().apply_all(&log).expect("replays"), &image);
        let (at, then) = &images[cut.index(images.len())];
        let snapshot = Image::default().apply_all(&then.to_records()).expect("replays");
        prop_assert_eq!(&snapshot, then);
        prop_assert_eq!(&snapshot.apply_all(&log[*at..]).expect("goes on"), &image);
    }

    #[test]
    fn hostile_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(record) = Record::decode(&bytes) {
            let _ = started(2).apply(&record);
        }
    }

    #[test]
    fn damaged_records_do_no_harm(
        ask in ask(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let image = create(&started(2), topic("t1", 7, 2)).expect("created");
        for record in decide(&image, 9, &ask).unwrap_or_default() {
            let mut bytes = record.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(record) = Record::decode(&bytes) {
                let _ = image.apply(&record);
            }
        }
    }
}

#[test]
fn records_of_other_formats_are_refused() {
    assert!(matches!(
        Record::decode(&[]),
        Err(RecordError::Unsupported(0))
    ));
    assert_eq!(
        Record::decode(&[0x08, 0x02]),
        Err(RecordError::Unsupported(2))
    );
    assert!(matches!(
        Record::decode(&[0x08, 0x01]),
        Err(RecordError::Malformed(_))
    ));
    let long = vec![0; MAX_RECORD_BYTES + 1];
    assert_eq!(
        Record::decode(&long),
        Err(RecordError::TooLong(MAX_RECORD_BYTES + 1))
    );
}

/// The stored form is on users' disks: it must not change.
#[test]
fn the_stored_form_stays() {
    let record = Record::TopicCreated {
        name: "t".into(),
        id: id(0x0102),
        partitions: vec![PartitionState {
            placement: Placement {
                node: NodeId(3),
                shard: ShardIndex(2),
            },
            leader_epoch: LeaderEpoch(5),
            owner_epoch: 4,
        }],
        configs: BTreeMap::from([("k".into(), "v".into())]),
    };
    let expected: &[u8] = &[
        0x08, 0x01, // format version 1
        0x22, 0x20, // TopicCreated
        0x0a, 0x01, b't', // name
        0x12, 0x09, 0x11, 0x02, 0x01, 0, 0, 0, 0, 0, 0, // id: the upper half is 0, left out
        0x1a, 0x08, 0x08, 3, 0x10, 2, 0x18, 5, 0x20, 4, // partition
        0x22, 0x06, 0x0a, 0x01, b'k', 0x12, 0x01, b'v', // config
    ];
    assert_eq!(record.encode(), expected);
    assert_eq!(Record::decode(expected), Ok(record));
}
