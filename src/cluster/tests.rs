//! What records add up to, singly and in random sequences. Decisions have scripts of their own
//! (`controller/testdata/`).

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::controller::script::TestRules;
use super::controller::*;
use super::*;
use crate::model::{
    LeaderEpoch, NodeId, PartitionId, PartitionIndex, ProducerId, ShardIndex, TopicId,
};

const NODE: NodeId = NodeId(0);

fn id(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

fn start(shards: u16, after_clean_stop: bool) -> Change {
    Change::StartNode(NodeStart {
        cluster_id: "cluster".into(),
        node: NODE,
        shards,
        after_clean_stop,
    })
}

/// An image with one node of so many shards.
fn started(shards: u16) -> Image {
    decide(&Image::default(), &TestRules, &start(shards, true)).image
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

fn create(image: &Image, new: NewTopic) -> Image {
    decide(image, &TestRules, &Change::CreateTopics(vec![new])).image
}

/// Many partitions are several records, in the log and in a snapshot, and one topic.
#[test]
fn a_large_topic_is_recorded_in_pieces() {
    let image = create(&started(3), topic("t", 1, 2500));
    let records: Vec<_> = image.to_records().collect();
    let pieces = records.iter().filter_map(|record| match record {
        Record::TopicCreated { partitions, .. } => Some((0, partitions.len())),
        Record::PartitionsAdded {
            first, partitions, ..
        } => Some((first.0, partitions.len())),
        _ => None,
    });
    assert!(pieces.eq([(0, 1000), (1000, 1000), (2000, 500)]));
    assert_eq!(Image::default().apply_all(&records), Ok(image.clone()));
    assert_eq!(image.partitions_of(owner(0)).count(), 834);
}

fn owner(shard: u16) -> Placement {
    Placement {
        node: NODE,
        shard: ShardIndex(shard),
    }
}

#[test]
fn what_belongs_to_another_node_is_nobody_elses() {
    assert_eq!(
        Image::default().owner_other_than(NODE),
        None,
        "the first start"
    );
    let image = create(&started(2), topic("a", 1, 3));
    assert_eq!(image.owner_other_than(NODE), None);
    assert_eq!(image.owner_other_than(NodeId(5)), Some(NODE));
}

#[test]
fn another_number_of_shards_deals_partitions_out_anew() {
    let mut image = started(2);
    for number in 0..6 {
        image = create(&image, topic(&format!("t{number}"), number + 1, 3));
    }
    for shards in [1, 3, 2] {
        let before = image.clone();
        image = decide(&image, &TestRules, &start(shards, false)).image;
        for shard in 0..shards {
            let owned = image.partitions_of(owner(shard)).count();
            assert_eq!(owned, 18 / usize::from(shards));
        }
        for (topic, index, state) in image.shards().flat_map(|owner| image.partitions_of(owner)) {
            let partition = PartitionId {
                topic: topic.id,
                index,
            };
            let old = before.partition(partition).expect("existed");
            let (from, to) = (&old.replicas[0], &state.replicas[0]);
            let moved = from.placement != to.placement;
            assert_eq!(to.owner_epoch, from.owner_epoch + u32::from(moved));
            assert_eq!(state.leader, Some(to.placement));
            assert_eq!(*state.isr, [to.placement]);
            let risen = 1 + i32::from(moved);
            assert_eq!(state.leader_epoch.0, old.leader_epoch.0 + risen);
            assert_eq!(state.partition_epoch, old.partition_epoch + risen as u32);
        }
    }
}

#[test]
fn records_that_do_not_follow_are_refused() {
    let image = create(&started(2), topic("t", 1, 1));
    let moved = |leader_epoch, owner_epoch, index| Record::PartitionsMoved {
        moves: vec![Move {
            topic: id(1),
            index: PartitionIndex(index),
            placement: owner(1),
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

fn change(image: &Image, number: u128, ask: &Ask) -> Change {
    let name = |topic: &u8| format!("t{topic}");
    let altered = |target, key: &String, value: &Option<String>| {
        let op = match value {
            Some(_) => AlterOp::Set,
            None => AlterOp::Delete,
        };
        let step = Alteration {
            key: key.clone(),
            op,
            value: value.clone(),
        };
        let edit = ConfigEdit::Steps(vec![step]);
        Change::AlterConfigs(vec![ConfigAlteration { target, edit }])
    };
    match ask {
        Ask::Create(t, count) => Change::CreateTopics(vec![topic(&name(t), number, *count)]),
        Ask::Grow(t, total_count) => Change::CreatePartitions(vec![NewPartitions {
            name: name(t),
            total_count: *total_count,
            assignments: None,
        }]),
        Ask::Delete(t) => Change::DeleteTopics(vec![TopicKey::Name(name(t))]),
        Ask::Purge => Change::PurgeTopics(
            image
                .leaving_topics()
                .take(1)
                .map(|topic| topic.id)
                .collect(),
        ),
        Ask::ConfigureTopic(t, key, value) => altered(ConfigTarget::Topic(name(t)), key, value),
        Ask::ConfigureBroker(of_node, key, value) => {
            altered(ConfigTarget::Broker(of_node.then_some(NODE)), key, value)
        }
        Ask::Producers => Change::AllocateProducerIds,
        Ask::Restart(shards, clean) => start(*shards, *clean),
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
    prop_assert_eq!(image.owned.values().sum::<usize>(), all);
    for topic in image.topics() {
        prop_assert_eq!(image.topic_by_id(topic.id), Some(topic));
    }
    Ok(())
}

/// No shard gets more partitions of a topic than was said before.
fn check_most(before: &Image, change: &Change, after: &Image) -> Result<(), TestCaseError> {
    if !matches!(
        change,
        Change::CreateTopics(_) | Change::CreatePartitions(_)
    ) {
        return Ok(());
    }
    let mut needed = RoomNeeded::on(before);
    let default_count = TestRules.default_partition_count(before);
    new_partition_counts(before, default_count, change).for_each(|new| needed.add(new));
    let most: BTreeMap<_, _> = needed.per_topic().into_iter().collect();
    for owner in after.shards() {
        for topic in after.topics_of(owner) {
            let count = |image: &Image| image.owned.get(&(owner, topic.id)).copied().unwrap_or(0);
            let most = most.get(&topic.name).copied().unwrap_or(0);
            prop_assert!(count(after) - count(before) <= most, "{}", topic.name);
        }
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
        let mut log: Vec<_> = image.to_records().collect();
        let mut images = vec![(log.len(), image.clone())];
        for (number, ask) in asks.iter().enumerate() {
            let change = change(&image, number as u128 + 1, ask);
            let decision = decide(&image, &TestRules, &change);
            check_most(&image, &change, &decision.image)?;
            image = image.apply_all(&decision.records).expect("what is decided applies");
            prop_assert_eq!(&image, &decision.image);
            log.extend(decision.records);
            images.push((log.len(), image.clone()));
            check_consistent(&image)?;
        }
        let stored: Vec<_> = log.iter().map(Record::encode).collect();
        let read: Result<Vec<_>, _> = stored.iter().map(|bytes| Record::decode(bytes)).collect();
        prop_assert_eq!(read.as_ref(), Ok(&log));
        prop_assert_eq!(&Image::default().apply_all(&log).expect("replays"), &image);
        let (at, then) = &images[cut.index(images.len())];
        let snapshot = Image::default().apply_all(&then.to_records().collect::<Vec<_>>()).expect("replays");
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
        let image = create(&started(2), topic("t1", 7, 2));
        for record in decide(&image, &TestRules, &change(&image, 9, &ask)).records {
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
        Record::decode(&[0x08, 0x01]),
        Err(RecordError::Unsupported(1))
    );
    assert!(matches!(
        Record::decode(&[0x08, 0x02]),
        Err(RecordError::Malformed(_))
    ));
    let long = vec![0; MAX_RECORD_BYTES + 1];
    assert_eq!(
        Record::decode(&long),
        Err(RecordError::TooLong(MAX_RECORD_BYTES + 1))
    );
}

/// The stored form is on users' disks: it must not change. Each line of the fixture is a record as this
/// version wrote it, in hexadecimal digits.
#[test]
fn the_stored_form_stays() {
    let fixture = include_str!("../../tests/fixtures/metadata-records-v2.hex");
    let written: Vec<_> = one_of_each()
        .iter()
        .map(|record| record.encode())
        .map(|bytes| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        })
        .collect();
    assert_eq!(fixture.lines().collect::<Vec<_>>(), written);
    for record in one_of_each() {
        assert_eq!(Record::decode(&record.encode()), Ok(record));
    }
}

/// A record of each kind, with every field at a value that is not its default.
fn one_of_each() -> Vec<Record> {
    let changes = || ConfigChanges::from([("k".into(), Some("v".into())), ("gone".into(), None)]);
    let place = |node, shard| Placement {
        node: NodeId(node),
        shard: ShardIndex(shard),
    };
    let replica = |placement, owner_epoch| Replica {
        placement,
        owner_epoch,
    };
    let state = PartitionState {
        replicas: [replica(place(3, 2), 4), replica(place(5, 0), 6)].into(),
        leader: Some(place(5, 0)),
        isr: [place(5, 0), place(3, 2)].into(),
        leader_epoch: LeaderEpoch(7),
        partition_epoch: 8,
    };
    let leaderless = PartitionState {
        leader: None,
        isr: [].into(),
        ..state.clone()
    };
    vec![
        Record::ClusterCreated {
            cluster_id: "c".into(),
        },
        Record::RunStarted {
            node: NodeId(3),
            shards: 2,
            after_clean_stop: true,
        },
        Record::TopicCreated {
            name: "t".into(),
            id: id(0x0102),
            partitions: vec![state.clone(), leaderless],
            configs: BTreeMap::from([("k".into(), "v".into())]),
        },
        Record::PartitionsAdded {
            id: id(0x0102),
            first: PartitionIndex(2),
            partitions: vec![state],
        },
        Record::PartitionsMoved {
            moves: vec![Move {
                topic: id(0x0102),
                index: PartitionIndex(1),
                placement: place(3, 1),
                leader_epoch: LeaderEpoch(8),
                owner_epoch: 5,
            }],
        },
        Record::TopicDeleted { id: id(0x0102) },
        Record::TopicPurged { id: id(0x0102) },
        Record::TopicConfigChanged {
            id: id(0x0102),
            changes: changes(),
        },
        Record::BrokerConfigChanged {
            node: Some(NodeId(3)),
            changes: changes(),
        },
        Record::BrokerConfigChanged {
            node: None,
            changes: changes(),
        },
        Record::ProducerIdsAllocated {
            next: ProducerId(1000),
        },
    ]
}

/// What each step of a decision costs, and what is decided.
fn decide_in_steps(image: &Image, change: &Change) -> (Vec<usize>, Decision) {
    let mut deciding = Deciding::begin(image, &TestRules, change);
    let steps = std::iter::from_fn(|| deciding.step(&TestRules)).collect();
    (steps, deciding.finish())
}

#[test]
fn no_step_of_a_decision_grows_with_the_change() {
    let image = started(2);
    let many = (0..10_000).map(|at| topic(&format!("many-{at}"), at + 1, 1));
    let many = Change::CreateTopics(many.collect());
    let (steps, decided) = decide_in_steps(&image, &many);
    assert_eq!(decided.records.len(), 10_000);
    assert!(steps.len() >= 20_000 && steps.iter().all(|cost| *cost <= 33));

    let image = decided.image;
    let large = Change::CreateTopics(vec![topic("large", 20_000, 9_500)]);
    let (steps, decided) = decide_in_steps(&image, &large);
    assert_eq!(decided.records.len(), 10);
    assert_eq!(steps.iter().max(), Some(&1032));
    let partitions = decided.records.iter().map(|record| match record {
        Record::TopicCreated { partitions, .. } => partitions.len(),
        Record::PartitionsAdded {
            first, partitions, ..
        } => {
            assert_eq!(first.0 % 1000, 0);
            partitions.len()
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(partitions.sum::<usize>(), 9_500);
    let topic = decided.image.topic("large").expect("it is there");
    assert_eq!(topic.partition_count(), 9_500);
    let made = decided.outcome[0].as_ref().expect("it is made");
    assert!(matches!(
        made,
        Made::Topic {
            partition_count: 9_500,
            ..
        }
    ));
}
