//! How records are shown.

mod format;
mod json;

pub(super) use format::RecordFormat;
pub(super) use json::write_json;

use crate::model::batch::RecordRef;

/// A record as it was read.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Unix milliseconds.
    pub(super) timestamp_ms: i64,
    pub(super) record: &'a RecordRef<'a>,
}
