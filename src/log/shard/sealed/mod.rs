//! What becomes of sealed segments: they go at the front of a log, or others take their place.
//!
//! | file | what |
//! |---|---|
//! | `log_start` | the log start rises and segments go |
//! | `swap` | segments are rewritten, and the new ones take the place of the old |

pub(in crate::log) mod log_start;
pub(in crate::log) mod swap;
