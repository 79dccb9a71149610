//! What is read from disk, which is hostile after bit rot: journal writes, checkpoints, metadata
//! records, producer snapshots, indexes and small files. The first byte chooses the reader.

#![no_main]

use corelane::cluster::Record;
use corelane::log::files::partition_files::{
    MetaProperties, PartitionDir, SegmentFile, decode_partition_metadata,
};
use corelane::log::journal::{JournalStart, read_write};
use corelane::log::partition::checkpoint_content::Content;
use corelane::log::partition::producers::ProducerStates;
use corelane::log::segment::index::SegmentIndex;
use corelane::model::Offset;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((reader, bytes)) = bytes.split_first() else {
        return;
    };
    match reader % 8 {
        0 => drop(read_write(bytes)),
        1 => {
            if let Ok(content) = Content::decode(bytes) {
                let again = Content::decode(&content.encode()).expect("what was written is read");
                assert_eq!(again.encode(), content.encode());
            }
        }
        2 => {
            if let Ok(record) = Record::decode(bytes) {
                assert_eq!(Record::decode(&record.encode()), Ok(record));
            }
        }
        3 => drop(ProducerStates::decode_kafka(bytes, 100, 0)),
        4 => drop(ProducerStates::decode_full(bytes, 100)),
        5 => {
            let (offsets, times) = bytes.split_at(bytes.len() / 2);
            let index = SegmentIndex::load(Offset(7), Offset(1 << 30), 1 << 30, offsets, times);
            index.floor_offset(Offset(99));
            index.floor_timestamp(99, Offset(7));
        }
        6 => {
            let _ = decode_partition_metadata(bytes);
            let _ = MetaProperties::decode(bytes);
            let _ = JournalStart::decode(bytes);
        }
        _ => {
            let name = String::from_utf8_lossy(bytes);
            let _ = PartitionDir::parse(&name);
            let _ = SegmentFile::parse(&name);
        }
    }
});
