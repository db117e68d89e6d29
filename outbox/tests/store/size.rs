//! The bound of the disk: past it the oldest settled events go sooner than their retention, never one that is owed.

use crate::fixture::*;
use posthaste_outbox::*;
use std::time::Duration;

const BODY: usize = 2_000;

/// Records 200 events, of which every tenth stays owed, sweeps, and says which are still shown.
async fn shown_within(stores: Stores, retention_max: u64) -> Vec<bool> {
    let generation = GenerationLimits { events_max: 10, ..GenerationLimits::default() };
    let f = stores.open_with(Limits { retention_max, free_min: 0, generation, ..Limits::default() });
    let (ids, _) = f.enroll(&["owed", "settled"]).await;
    let mut recorded = Vec::new();
    for n in 0..200 {
        let whom = if n % 10 == 0 { ids[0] } else { ids[1] };
        recorded.push(f.record(vec![event(&"x".repeat(BODY), &[whom])]).await[0].id);
    }
    for leased in f.claim(ids[1], 1_000).await.deliveries {
        f.settle(&leased, Then::Delivered).await;
    }
    f.record_one(&[]).await;
    for _ in 0..100 {
        if !f.outbox.sweep(Duration::from_secs(1)).await.unwrap().more {
            break;
        }
        f.record_one(&[]).await;
    }
    let mut shown = Vec::new();
    for id in recorded {
        shown.push(f.outbox.event(id).await.unwrap().is_some());
    }
    shown
}

#[test]
fn past_the_size_the_oldest_settled_events_go_sooner_and_owed_ones_stay() {
    for stores in [Stores::Simulated, Stores::Sled] {
        run(async {
            let shown = shown_within(stores, 1).await;
            assert!(shown.iter().step_by(10).all(|owed| *owed), "{stores:?}: an owed one is gone");
            let settled = shown.iter().enumerate().filter(|(n, _)| n % 10 != 0).map(|(_, shown)| *shown);
            let kept: Vec<bool> = settled.collect();
            let gone = kept.iter().filter(|kept| !**kept).count();
            assert!(gone >= 100, "{stores:?}: only {gone} are gone");
            assert!(kept.is_sorted(), "{stores:?}: a younger one went before an older one");
        });
    }
}

#[test]
fn within_the_size_nothing_goes_before_its_time() {
    run(async {
        let shown = shown_within(Stores::Simulated, 1 << 30).await;
        assert!(shown.iter().all(|shown| *shown));
    });
}
