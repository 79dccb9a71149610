//! How corelane works, where no single file of code can say it.
//!
//! | chapter | what |
//! |---|---|
//! | [`files`] | every file on disk: who writes it, when, and its bytes |
//! | [`durability`] | levels, the rules that keep what was acknowledged, recovery, known limits |
//! | [`ordering`] | what is promised about order, and about retries |
//! | [`decisions`] | what was decided, what was rejected, and the figures behind it |
//!
//! The chapters are true of the code beside them: who changes the one changes the other.

pub mod decisions;
pub mod durability;
pub mod files;
pub mod ordering;
