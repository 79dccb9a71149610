//! Where a partition stands, in offsets.

use crate::model::Offset;

/// The marks of a partition: `log start ≤ durable ≤ log end`, `segment-durable ≤ durable`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// First offset that may be read.
    pub log_start: Offset,
    /// Everything below is durably in segment files.
    pub segment_durable: Offset,
    /// Everything below is as safe as the durability level promises. With one replica this is the
    /// high watermark.
    pub durable: Offset,
    /// Next offset to be assigned.
    pub log_end: Offset,
}

impl Marks {
    /// Whether the marks stand in their order.
    pub fn in_order(&self) -> bool {
        self.log_start <= self.durable
            && self.segment_durable <= self.durable
            && self.durable <= self.log_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_out_of_order_are_noticed() {
        let good = Marks {
            log_start: Offset(1),
            segment_durable: Offset(0),
            durable: Offset(3),
            log_end: Offset(3),
        };
        assert!(good.in_order());
        let bad = [
            Marks {
                log_start: Offset(4),
                ..good
            },
            Marks {
                segment_durable: Offset(4),
                ..good
            },
            Marks {
                durable: Offset(4),
                ..good
            },
        ];
        assert!(bad.iter().all(|marks| !marks.in_order()));
    }
}
