//! Log starts that several raise at once.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::*;

/// No removal hangs on a log start that a power cut may take back.
#[test]
fn nobody_is_ahead_of_who_makes_the_log_start_safe() {
    for is_retention in [false, true] {
        let mut scene = Scene::with_batches(40);
        scene.options.durability = Durability::Written;
        scene.live(async |rt, shard| {
            let log = shard.partition(id(1)).unwrap();
            let moment = || rt.sleep(Duration::from_micros(1));
            let second = async {
                while log.marks().log_start < Offset(390) {
                    moment().await;
                }
                match is_retention {
                    true => log.enforce_retention(0).await.map(drop).unwrap(),
                    false => log.delete_records(Offset(390)).await.map(drop).unwrap(),
                }
            };
            let removed = async {
                let segments = log.sealed_segments();
                while log.sealed_segments() == segments {
                    moment().await;
                }
                log.0.safe_log_start.get()
            };
            let first = log.delete_records(Offset(390));
            let (first, (), safe) = futures_util::join!(first, second, removed);
            assert_eq!((first.unwrap(), safe), (Offset(390), Offset(390)));
        });
    }
}

/// Whoever raised it went away before it was safe.
#[test]
fn what_was_raised_and_not_made_safe_is_made_safe_by_the_next() {
    let mut scene = Scene::with_batches(40);
    scene.options.durability = Durability::Written;
    scene.live(async |rt, shard| {
        let log = shard.partition(id(1)).unwrap();
        {
            let first = pin!(log.delete_records(Offset(390)));
            let raised = pin!(async {
                while log.marks().log_start < Offset(390) {
                    rt.sleep(Duration::from_micros(1)).await;
                }
            });
            assert!(matches!(select(first, raised).await, Either::Right(_)));
        }
        assert!(log.0.safe_log_start.get() < Offset(390));
        log.enforce_retention(0).await.unwrap();
        assert_eq!(log.0.safe_log_start.get(), Offset(390));
        assert_eq!(log.sealed_segments(), []);
    });
}
