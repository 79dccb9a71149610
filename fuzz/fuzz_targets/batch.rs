//! Record batches from a Produce request, a segment or a Fetch response.

#![no_main]

use corelane::model::batch::{
    BatchFields, BatchView, Batches, ProduceRules, RecordCheck, RecordRules, Records,
    check_produced, check_records, set_log_append_time,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for (_, batch) in Batches::new(bytes).flatten() {
        read(&batch);
    }
    // Few inputs get past a CRC by chance: reseal what frames.
    let mut sealed = bytes.to_vec();
    if let Ok(batch) = BatchView::first(bytes) {
        sealed.truncate(batch.bytes().len());
        let fields = BatchFields::of(&batch);
        fields
            .seal(&mut sealed)
            .expect("a batch has room for its header");
        assert_eq!(
            BatchFields::of(&BatchView::first_verified(&sealed).unwrap()),
            fields
        );
    }
    let rules = ProduceRules {
        max_batch_bytes: 1 << 20,
        is_zstd_allowed: true,
    };
    if let Ok(batch) = check_produced(&sealed, rules) {
        assert_eq!(batch.bytes().len(), sealed.len());
        let rules = RecordRules {
            is_key_required: true,
            timestamps_ms: Some(0..=i64::MAX),
        };
        let whole = check_records(batch.records(), &batch, &rules);
        let all_are_read = Records::new(batch.records(), batch.record_count()).all(|r| r.is_ok());
        assert!(all_are_read || whole.is_err());
        // In pieces of a length that the input chooses, the walk finds the same.
        let piece_bytes = 1 + usize::from(*bytes.last().unwrap_or(&0));
        let mut check = RecordCheck::new(&batch, &rules);
        let mut pieces = batch.records().chunks(piece_bytes);
        let pushed = pieces.try_for_each(|piece| check.push(piece));
        let in_pieces = pushed.and_then(|()| check.finish());
        assert_eq!(in_pieces.is_ok(), whole.is_ok());
        if whole.is_ok() {
            assert_eq!(in_pieces, whole);
        }
        set_log_append_time(&mut sealed, 7).expect("a checked batch can be rewritten");
        assert!(BatchView::first_verified(&sealed).is_ok());
    }
});

fn read(batch: &BatchView<'_>) {
    let mut records_bytes = 0;
    for record in Records::new(batch.records(), batch.record_count()).flatten() {
        let _ = (batch.offset_of(&record), batch.timestamp_ms_of(&record));
        records_bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        for header in record.headers {
            records_bytes += header.key.len() + header.value.map_or(0, <[u8]>::len);
        }
    }
    assert!(records_bytes <= batch.records().len());
    let _ = (
        batch.last_sequence(),
        batch.end_offset(),
        batch.compression(),
    );
}
