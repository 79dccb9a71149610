//! The rules that keep acknowledged data, by name, so that a test can leave one out.
//!
//! A rule that nobody would miss is not held by its tests. Every place that enforces one asks
//! [`holds`]; without the cargo feature `planted` that is the constant `true` and costs nothing.

/// Declares [`Rule`], and the list of all of them: what tests iterate over is what there is.
macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident,)*) => {
        /// One way in which the log keeps what it has acknowledged.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Rule {
            $($(#[$doc])* $rule,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$rule,)*];
        }
    };
}

rules! {
    /// An acknowledgement waits until its own journal write has completed.
    AckWaitsForDurable,
    /// An acknowledgement waits until every earlier journal write has completed, too.
    AckWaitsForPrefix,
    /// Nothing outside the journal describes bytes that the journal does not yet hold safely.
    JournaledBeforeWriteBack,
    /// A write-back ends on a block boundary unless nothing is accepted beyond it.
    WriteBacksEndOnBlocks,
    /// After an unfinished block was written back, the next entry repeats that block's beginning.
    RepeatUnfinishedBlock,
    /// Two write-backs of one block are never in flight together.
    WriteBacksDoNotOverlap,
    /// The journal keeps every entry that reaches beyond the written-back position.
    TrimKeepsUnwritten,
    /// Replay writes nothing below the block of the written-back position.
    ReplayNotBelowMark,
    /// A journal write counts only when its checksums match.
    JournalChecksums,
    /// A broken write that a later one calls flushed is rot, never a torn tail.
    RotIsNotTorn,
    /// Journal writes and checkpoints count only within the run that made them.
    RunCheck,
    /// Of a partition only its newest owner speaks: checkpoints of earlier ones do not count.
    NewestOwnerSpeaks,
    /// Nor do entries of earlier owners, whole or lost, in the journal of the newest.
    EarlierEntriesVoid,
    /// Recovery commits the new run after everything else it writes.
    RecoveryCommitsRunLast,
    /// The newest checkpoint of the committed run is never the one that is overwritten.
    RecoveryKeepsNewestCheckpoint,
    /// A change of a checkpoint counts only behind the base that it names.
    ChangesNameTheirBase,
    /// A checkpoint is flushed before the journal forgets what it says.
    CheckpointFlushed,
    /// Whoever writes a file holds its lock, and a start waits for it.
    Locks,
    /// A log start is durable in the journal before it is answered or a file is unlinked.
    LogStartJournaled,
    /// A checkpoint names, per partition, the last log start that it includes.
    CheckpointNamesFinalMarks,
    /// A metadata change is durable before it is applied.
    MetadataDurableFirst,
    /// Files and entries of another incarnation of a topic are left alone.
    TopicIdCheck,
    /// A batch is accepted only once the journal and its segment have room for it.
    SpaceReserved,
    /// A segment's file gets its name only once the journal has everything before it.
    NameAfterJournaled,
    /// The name is durable before segment-durable passes into the segment.
    NameDurable,
    /// A start flushes journals, checkpoints, `run` and the metadata log before it reads them: after a
    /// kill they may hold writes that a power cut would still take.
    FlushBeforeRecovery,
    /// Where writes are not durable by themselves, an acknowledgement waits for the flush behind its
    /// own, not for its completion alone.
    AckWaitsForFlush,
    /// A flush covers only writes that had completed when it was submitted.
    FlushCoversCompleted,
    /// A flush covers only its own file: a commit over two files flushes both.
    FlushEveryFile,
    /// A failed flush is final: no later one makes up for it.
    FlushFailureIsFinal,
    /// Recovery makes the files that it has written, and their names, durable before checkpoints tell of
    /// them.
    RecoveryFlushesFiles,
    /// Replay swaps segments as the events say that it comes upon.
    ReplayReplacesSegments,
    /// What was written back is durable before a checkpoint tells of it.
    WriteBacksDurableFirst,
    /// What is to take the place of segments is durable before the event that says so.
    ReplacementDurableFirst,
    /// The files of segments that others replace stay until a checkpoint says so.
    ReplacedFilesStay,
    /// A gap between batches is right only in a segment that is not dense.
    GapsOnlyWhereNotDense,
}

/// Whether `rule` is kept: always, outside of tests that leave it out.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn holds(_rule: Rule) -> bool {
    true
}

#[cfg(feature = "planted")]
pub use planted::holds;

/// Leaving rules out, for tests that must notice.
#[cfg(feature = "planted")]
pub mod planted {
    use super::Rule;
    use std::cell::Cell;

    thread_local! {
        static LEFT_OUT: Cell<u64> = const { Cell::new(0) };
    }

    /// Whether `rule` is kept on this thread.
    pub fn holds(rule: Rule) -> bool {
        LEFT_OUT.get() & bit(rule) == 0
    }

    /// Leaves `rule` out on this thread until the guard is dropped.
    pub fn leave_out(rule: Rule) -> Guard {
        let before = LEFT_OUT.get();
        LEFT_OUT.set(before | bit(rule));
        Guard { before }
    }

    /// Restores what was left out before.
    #[must_use]
    #[derive(Debug)]
    pub struct Guard {
        before: u64,
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            LEFT_OUT.set(self.before);
        }
    }

    fn bit(rule: Rule) -> u64 {
        1 << rule as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_holds() {
        assert!(Rule::ALL.iter().all(|rule| holds(*rule)));
    }

    #[cfg(feature = "planted")]
    #[test]
    fn a_rule_is_left_out_as_long_as_the_guard_lives() {
        let outer = planted::leave_out(Rule::Locks);
        {
            let _inner = planted::leave_out(Rule::RunCheck);
            assert!(!holds(Rule::Locks) && !holds(Rule::RunCheck));
        }
        assert!(!holds(Rule::Locks) && holds(Rule::RunCheck));
        drop(outer);
        assert!(holds(Rule::Locks));
    }
}
