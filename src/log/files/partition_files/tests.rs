//! Tests of names and small files, also against what other programs wrote.

use proptest::prelude::*;

use super::*;

const ID: TopicId = TopicId(uuid::Uuid::from_u128(0x00112233_44556677_8899aabb_ccddeeff));

#[test]
fn partition_directories() {
    assert_eq!(partition_dir("my-topic", PartitionIndex(12)), "my-topic-12");
    let live = |topic, index| {
        Some(PartitionDir::Live {
            topic,
            index: PartitionIndex(index),
        })
    };
    assert_eq!(PartitionDir::parse("my-topic-12"), live("my-topic", 12));
    assert_eq!(PartitionDir::parse("a--0"), live("a-", 0));
    for name in [
        "",
        "-0",
        "a",
        "a-",
        "a-x",
        "a-+1",
        "a-01",
        "a-2147483648",
        "a b-0",
        "..-0",
        "a-0.log",
        "a-0.0123-delete",
        "shard-x",
        "metadata",
    ] {
        assert_eq!(PartitionDir::parse(name), None, "{name}");
    }
}

#[test]
fn deleted_directories() {
    let name = deleted_dir("t.x-delete", PartitionIndex(3), ID);
    assert_eq!(name, "t.x-delete-3.00112233445566778899aabbccddeeff-delete");
    assert_eq!(
        PartitionDir::parse(&name),
        Some(PartitionDir::Deleted {
            topic_prefix: "t.x-delete",
            index: PartitionIndex(3),
            topic_id: ID,
        })
    );
    assert_eq!(PartitionDir::parse(&name.to_uppercase()), None);
}

#[test]
fn long_names_are_shortened_to_255_bytes() {
    let topic = "t".repeat(MAX_TOPIC_NAME_BYTES);
    let name = deleted_dir(&topic, PartitionIndex(0), ID);
    assert_eq!(name.len(), 255);
    let Some(PartitionDir::Deleted { topic_prefix, .. }) = PartitionDir::parse(&name) else {
        panic!("{name}");
    };
    assert_eq!(
        topic_prefix,
        "t".repeat(255 - "-0.".len() - 32 - "-delete".len())
    );
    let fits = "t".repeat(213);
    assert!(deleted_dir(&fits, PartitionIndex(0), ID).starts_with(&format!("{fits}-0.")));
    assert!(deleted_dir(&"\u{e9}".repeat(200), PartitionIndex(0), ID).len() <= 255);
}

#[test]
fn segment_files() {
    let id = |base, generation| SegmentId {
        base_offset: Offset(base),
        generation,
    };
    let names = [
        (SegmentFile::Log, id(0, 0), "00000000000000000000.log"),
        (SegmentFile::Log, id(7, 1), "00000000000000000007.1.log"),
        (
            SegmentFile::TimeIndex,
            id(i64::MAX, 0),
            "09223372036854775807.timeindex",
        ),
        (
            SegmentFile::Index,
            id(0, u32::MAX),
            "00000000000000000000.4294967295.index",
        ),
        (
            SegmentFile::Snapshot,
            id(7, 0),
            "00000000000000000007.snapshot",
        ),
    ];
    for (file, id, name) in names {
        assert_eq!(file.name(id), name);
        assert_eq!(SegmentFile::parse(name), Some((id, file)));
    }
    assert_eq!(SegmentFile::Snapshot.name(id(7, 1)), names[4].2);
    for name in [
        "00000000000000000000.0.log",
        "00000000000000000000.01.log",
        "00000000000000000000.+1.log",
        "00000000000000000000..log",
        "00000000000000000000.1.1.log",
        "00000000000000000000.4294967296.log",
        "00000000000000000000.1.snapshot",
        "0.log",
        "00000000000000000000.logs",
        "00000000000000000000",
        "00000000000000000000.log.deleted",
        "+0000000000000000000.log",
        "-0000000000000000001.log",
        "09223372036854775808.log",
        "leader-epoch-checkpoint",
    ] {
        assert_eq!(SegmentFile::parse(name), None, "{name}");
    }
}

#[test]
fn partition_metadata() {
    let text = encode_partition_metadata(ID);
    assert_eq!(text, "version: 0\ntopic_id: ABEiM0RVZneImaq7zN3u_w");
    assert_eq!(decode_partition_metadata(text.as_bytes()), Ok(ID));
    let refused = |text: &str| decode_partition_metadata(text.as_bytes()).unwrap_err();
    assert_eq!(refused("version: 0"), SmallFileError::Missing("topic_id"));
    assert_eq!(refused("version: 1"), bad_value("version", "1"));
    assert_eq!(
        refused("\n\nversion"),
        SmallFileError::Malformed { line: 3 }
    );
    assert_eq!(
        refused("version: 0\ntopic_id: AB"),
        bad_value("topic_id", "AB")
    );
}

#[test]
fn meta_properties() {
    let meta = MetaProperties {
        cluster_id: "4L6g3nShT-eMCtK--X86sw".into(),
        node_id: NodeId(3),
        directory_id: DirectoryId(ID.0),
    };
    let text = meta.encode();
    assert_eq!(MetaProperties::decode(text.as_bytes()), Ok(meta.clone()));
    let kafkas = "#\n#Mon Jan 01 00:00:00 UTC 2024\nnode.id=3\nversion=1\n\n\
                  directory.id=ABEiM0RVZneImaq7zN3u_w\ncluster.id=4L6g3nShT-eMCtK--X86sw\n";
    assert_eq!(MetaProperties::decode(kafkas.as_bytes()), Ok(meta));
    let refused = |from: &str, to: &str| {
        MetaProperties::decode(text.replace(from, to).as_bytes()).unwrap_err()
    };
    assert_eq!(refused("version=1", "version=0"), bad_value("version", "0"));
    assert_eq!(refused("node.id=3", "node.id=x"), bad_value("node.id", "x"));
    assert_eq!(
        refused("node.id", "broker.id"),
        SmallFileError::Missing("node.id")
    );
    assert_eq!(
        refused("4L6g3nShT", "4L/g"),
        bad_value("cluster.id", "4L/g-eMCtK--X86sw")
    );
}

proptest! {
    #[test]
    fn every_topic_name_survives(topic in "[a-zA-Z0-9._-]{1,249}", index in 0..i32::MAX) {
        prop_assume!(is_topic_name(&topic));
        let index = PartitionIndex(index);
        let dir = partition_dir(&topic, index);
        // Whatever the topic is named, a live directory ends in digits.
        let live = PartitionDir::Live { topic: &topic, index };
        prop_assert_eq!(PartitionDir::parse(&dir), Some(live));
        let deleted = deleted_dir(&topic, index, ID);
        prop_assert!(deleted.len() <= 255);
        match PartitionDir::parse(&deleted) {
            Some(PartitionDir::Deleted { topic_prefix, index: found, topic_id }) => {
                prop_assert!(topic.starts_with(topic_prefix));
                prop_assert_eq!((found, topic_id), (index, ID));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn every_offset_survives(offset in 0..i64::MAX) {
        for file in SegmentFile::ALL {
            let id = SegmentId::appended(Offset(offset));
            prop_assert_eq!(SegmentFile::parse(&file.name(id)), Some((id, file)));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), name in ".{0,60}") {
        let _ = decode_partition_metadata(&bytes);
        let _ = MetaProperties::decode(&bytes);
        let _ = SegmentFile::parse(&name);
        let _ = PartitionDir::parse(&name);
    }
}
