//! One segment: what is known of it, where in it an offset or a time is, its files.
//!
//! | file | what |
//! |---|---|
//! | `damage` | what reads have found damaged, to be told once |
//! | `facts` | what is known of a segment without reading it |
//! | `replacement` | sealed segments whose place others take |
//! | `position` | a byte of a log, a boundary between batches |
//! | `index/`, `index_cache`, `index_files` | where in a segment an offset or a time is |
//! | `open_files` | segment files that are open |
//! | `open_segment` | a segment that is not sealed |
//! | `output` | a segment that is written as a whole |
//! | `recent` | values by key, the least recently used of which goes first |
//! | `walk` | batch after batch through a file |

pub(in crate::log) mod damage;
pub(in crate::log) mod facts;
pub mod index;
pub(in crate::log) mod index_cache;
pub(in crate::log) mod index_files;
pub(in crate::log) mod open_files;
pub(in crate::log) mod open_segment;
pub(in crate::log) mod output;
pub mod position;
mod recent;
pub mod replacement;
pub(in crate::log) mod walk;
