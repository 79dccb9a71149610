//! Memory for what a Fetch request says of its partitions, from before it is there until the request is
//! answered: a request of 2 MB may name 100,000, each of which takes ten times as much here.

use crate::rt::{Budget, Permit};

/// Requests that need no more than this have a part of their own: a consumer of some partitions does
/// not wait until one of thousands is answered.
const SMALL_BYTES: usize = 16 << 10;
/// That part of the whole.
const SMALL_SHARE: usize = 4;

/// The memory of one shard. Clones are the same one.
#[derive(Clone, Debug)]
pub struct FetchMemory {
    large: Budget,
    small: Budget,
}

/// A request needs more than there will ever be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its partitions need {needed_bytes} bytes, of {} that corelane.memory has for them: set it to \
     at least {} times what it is, or fetch fewer partitions at a time", .all_bytes, .needed_bytes / .all_bytes + 1
)]
pub struct FetchTooLarge {
    needed_bytes: usize,
    all_bytes: usize,
}

impl FetchMemory {
    /// So many bytes, all together.
    pub fn new(bytes: usize) -> Self {
        let small = bytes / SMALL_SHARE;
        Self {
            large: Budget::new(bytes - small),
            small: Budget::new(small),
        }
    }

    /// The most that one request gets.
    pub fn most_bytes(&self) -> usize {
        self.large.total()
    }

    /// Waits for the memory of one request, holding nothing of it.
    pub async fn acquire(&self, bytes: usize) -> Result<Permit, FetchTooLarge> {
        let budget = match bytes <= SMALL_BYTES {
            true => &self.small,
            false => &self.large,
        };
        let all_bytes = budget.total();
        if bytes > all_bytes {
            return Err(FetchTooLarge {
                needed_bytes: bytes,
                all_bytes,
            });
        }
        Ok(budget.acquire(bytes).await)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn small_requests_do_not_wait_for_large_ones_and_none_is_larger_than_the_whole() {
        let memory = FetchMemory::new(8 << 20);
        let acquire = |bytes| memory.acquire(bytes).now_or_never();
        let held = acquire(5 << 20).unwrap().unwrap();
        assert!(acquire(2 << 20).is_none(), "it waits");
        let small = acquire(SMALL_BYTES).unwrap().unwrap();
        assert_eq!(memory.small.taken(), small.amount());
        let refused = acquire(7 << 20).unwrap().unwrap_err();
        assert!(
            refused.to_string().contains("at least 2 times"),
            "{refused}"
        );
        drop(held);
        assert!(acquire(6 << 20).is_some_and(|taken| taken.is_ok()));
    }
}
