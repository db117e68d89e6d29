//! The promises about order by key.

use crate::fixture::*;
use crate::listings::all_deliveries;
use posthaste_events::{Facts, Prepared, SubscriptionId};
use posthaste_outbox::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// An event of this entity.
pub(crate) fn of(key: Option<&str>, owed: &[SubscriptionId]) -> Prepared {
    let event = event("{}", owed);
    let facts = Facts { key: key.map(str::to_owned), ..(*event.facts).clone() };
    Prepared { facts: Arc::new(facts), ..event }
}

impl Fixture {
    /// Lists one subscription, whose deliveries go by key or as they come.
    pub(crate) async fn enroll_one(&self, ordered: bool) -> SubscriptionId {
        let wanted = Enrolment { name: "a".into(), backlog_max: 1_000_000, ordered, kept: false };
        let roll = self.outbox.enroll(vec![wanted]).await.unwrap();
        roll.subscriptions[0].id
    }

    /// Records an event for each of these keys, in this order; the sequences of the events.
    async fn record_of(&self, id: SubscriptionId, keys: &[&str]) -> Vec<u64> {
        let key = |key: &str| (!key.is_empty()).then(|| key.to_owned());
        let events = keys.iter().map(|k| of(key(k).as_deref(), &[id])).collect();
        self.record(events).await.iter().map(|recorded| recorded.id.sequence()).collect()
    }

    /// Claims everything that may be given out now, as a scheduler does: again while more is due.
    async fn claim_all(&self, id: SubscriptionId) -> Vec<Leased> {
        let mut all = Vec::new();
        loop {
            let claimed = self.claim(id, 3).await;
            let more = claimed.next_due == Some(Duration::ZERO);
            all.extend(claimed.deliveries);
            if !more {
                return all;
            }
        }
    }
}

fn sequences(leased: &[Leased]) -> Vec<u64> {
    leased.iter().map(|l| l.delivery.event.sequence()).collect()
}

pub(crate) async fn of_each_key_one_is_out_and_the_next_follows_once_it_is_settled(stores: Stores) {
    let f = stores.open();
    let id = f.enroll_one(true).await;
    let s = f.record_of(id, &["x", "x", "y", "x", "y", "x"]).await;
    let first = f.claim_all(id).await;
    assert_eq!(sequences(&first), [s[0], s[2]]);
    assert_eq!(f.claim(id, 10).await.next_due, None, "what waits for another is not due");
    assert_eq!(f.outbox.health().owed, 6);
    f.settle(&first[0], Then::Delivered).await;
    let second = f.claim_all(id).await;
    assert_eq!(sequences(&second), [s[1]]);
    f.settle(&second[0], Then::Dead("no".into())).await;
    let third = f.claim_all(id).await;
    assert_eq!(sequences(&third), [s[3]], "a dead one steps aside");
    f.outbox.ask(third[0].delivery, Wish::Cancel).await.unwrap();
    assert!(f.claim_all(id).await.is_empty(), "its attempt is still under way");
    f.settle(&third[0], Then::Dead("no".into())).await;
    assert_eq!(sequences(&f.claim_all(id).await), [s[5]]);
    f.settle(&first[1], Then::Delivered).await;
    assert_eq!(sequences(&f.claim_all(id).await), [s[4]]);
}

pub(crate) async fn what_waits_for_a_retry_keeps_its_key_waiting_and_no_other(stores: Stores) {
    let f = stores.open();
    let id = f.enroll_one(true).await;
    let s = f.record_of(id, &["x", "x", "y", "y"]).await;
    let first = f.claim_all(id).await;
    f.settle(&first[0], Then::RetryIn(60 * SECOND)).await;
    f.settle(&first[1], Then::Delivered).await;
    let second = f.claim_all(id).await;
    assert_eq!(sequences(&second), [s[3]]);
    f.settle(&second[0], Then::Delivered).await;
    let more = f.record_of(id, &["x", "z"]).await;
    let third = f.claim_all(id).await;
    assert_eq!(sequences(&third), [more[1]]);
    f.settle(&third[0], Then::Delivered).await;
    let idle = f.claim(id, 10).await;
    assert_eq!((idle.deliveries.len(), idle.next_due), (0, Some(60 * SECOND)), "no sooner than the first of the key");
    f.clock.forward(60 * SECOND);
    let again = f.claim_all(id).await;
    assert_eq!(sequences(&again), [s[0]]);
    assert_eq!(again[0].attempt, 2);
}

pub(crate) async fn events_without_a_key_go_as_they_come_beside_those_with_one(stores: Stores) {
    let f = stores.open();
    let id = f.enroll_one(true).await;
    let s = f.record_of(id, &["", "x", "", "x", ""]).await;
    assert_eq!(sequences(&f.claim_all(id).await), [s[0], s[1], s[2], s[4]]);
}

pub(crate) async fn a_lease_that_ends_without_an_answer_puts_the_first_of_its_key_back_in_front(stores: Stores) {
    let f = stores.open();
    let id = f.enroll_one(true).await;
    let s = f.record_of(id, &["x", "x", "y"]).await;
    let first = f.claim_all(id).await;
    f.settle(&first[0], Then::Release).await;
    assert_eq!(sequences(&f.claim_all(id).await), [s[0]]);
    f.clock.forward(30 * SECOND);
    assert_eq!(sequences(&f.claim_all(id).await), [s[0], s[2]]);
}

pub(crate) async fn an_older_one_that_is_asked_for_again_goes_before_the_newer_ones_of_its_key(stores: Stores) {
    let f = stores.open();
    let id = f.enroll_one(true).await;
    let s = f.record_of(id, &["x", "x", "x", "y"]).await;
    let first = f.claim_all(id).await;
    f.settle(&first[0], Then::Dead("no".into())).await;
    f.settle(&first[1], Then::Dead("no".into())).await;
    let second = f.claim_all(id).await;
    assert_eq!(sequences(&second), [s[1]]);
    assert_eq!(f.outbox.ask(first[0].delivery, Wish::Retry).await.unwrap(), Answer::Done);
    assert_eq!(f.outbox.ask(first[1].delivery, Wish::Retry).await.unwrap(), Answer::Done);
    assert_eq!(sequences(&f.claim_all(id).await), [s[3]], "another of its key is out");
    f.settle(&second[0], Then::RetryIn(SECOND)).await;
    f.clock.forward(SECOND);
    let third = f.claim_all(id).await;
    assert_eq!(sequences(&third), [s[0]]);
    f.settle(&third[0], Then::Delivered).await;
    assert_eq!(sequences(&f.claim_all(id).await), [s[1]]);
}

pub(crate) async fn cancelling_moves_the_line_up_wherever_it_is_done(stores: Stores) {
    let f = stores.open();
    let id = f.enroll_one(true).await;
    let told: Arc<Mutex<Vec<SubscriptionId>>> = Arc::default();
    let s = f.record_of(id, &["x", "x", "x", "x"]).await;
    let shown = f.outbox.deliveries(all_deliveries()).await.unwrap().rows;
    let delivery = |n: usize| shown.iter().find(|row| row.id.event.sequence() == s[n]).unwrap().id;
    let first = f.claim_all(id).await;
    f.settle(&first[0], Then::RetryIn(60 * SECOND)).await;
    let tell = Arc::clone(&told);
    f.outbox.on_due(Box::new(move |ids| tell.lock().unwrap().extend(ids)));
    assert_eq!(f.outbox.ask(delivery(1), Wish::Cancel).await.unwrap(), Answer::Done);
    assert!(f.claim_all(id).await.is_empty());
    told.lock().unwrap().clear();
    assert_eq!(f.outbox.ask(delivery(0), Wish::Cancel).await.unwrap(), Answer::Done);
    assert!(told.lock().unwrap().contains(&id), "the next one is due");
    let third = f.claim_all(id).await;
    assert_eq!(sequences(&third), [s[2]]);
    told.lock().unwrap().clear();
    f.settle(&third[0], Then::Delivered).await;
    assert_eq!(*told.lock().unwrap(), [id], "the next one is due");
    assert_eq!(f.outbox.cancel_owed(id, "off".into()).await.unwrap().count, 1);
    assert_eq!((f.claim_all(id).await.len(), f.outbox.health().owed), (0, 0));
    let later = f.record_of(id, &["x"]).await;
    assert_eq!(sequences(&f.claim_all(id).await), later);
}

pub(crate) async fn order_can_be_switched_on_and_off_while_deliveries_are_out(stores: Stores) {
    let f = stores.open();
    let id = f.enroll_one(false).await;
    let s = f.record_of(id, &["x", "x", "y", "x", "y"]).await;
    let out = f.claim(id, 2).await.deliveries;
    assert_eq!(sequences(&out), [s[0], s[1]]);
    f.enroll_one(true).await;
    assert_eq!(sequences(&f.claim_all(id).await), [s[2]]);
    f.settle(&out[0], Then::Delivered).await;
    assert!(f.claim_all(id).await.is_empty(), "a second one of the key is still out");
    f.settle(&out[1], Then::RetryIn(SECOND)).await;
    f.clock.forward(SECOND);
    let again = f.claim_all(id).await;
    assert_eq!(sequences(&again), [s[1]]);
    f.enroll_one(false).await;
    assert_eq!(sequences(&f.claim_all(id).await), [s[3], s[4]]);
    f.settle(&again[0], Then::Delivered).await;
    f.enroll_one(true).await;
    f.record_of(id, &["x"]).await;
    assert!(f.claim_all(id).await.is_empty());
}

pub(crate) async fn a_line_of_any_length_is_claimed_past_in_pieces(stores: Stores) {
    let f = stores.open();
    let id = f.enroll_one(true).await;
    let mut keys = vec!["x"; 1_500];
    keys.push("y");
    let s = f.record_of(id, &keys).await;
    assert_eq!(sequences(&f.claim_all(id).await), [s[0], s[1_500]]);
    assert_eq!(f.claim(id, 10).await.next_due, None);
}

pub(crate) async fn a_claim_keeps_room_for_what_was_never_tried_however_many_retries_are_due(stores: Stores) {
    let f = stores.open();
    for ordered in [false, true] {
        let id = f.enroll_one(ordered).await;
        let keys: Vec<String> = (0..12).map(|n| format!("key-{n}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let old = f.record_of(id, &keys[..8]).await;
        for leased in f.claim_all(id).await {
            f.settle(&leased, Then::RetryIn(SECOND)).await;
        }
        f.clock.forward(2 * SECOND);
        let new = f.record_of(id, &keys[8..]).await;
        let claim = async |count, fresh_min| {
            let want = Want { count, fresh_min, bytes: usize::MAX, lease: Duration::from_secs(30) };
            sequences(&f.outbox.claim(id, want).await.unwrap().deliveries)
        };
        assert_eq!(claim(3, 0).await, [old[0], old[1], old[2]], "without room kept, retries go first");
        assert_eq!(claim(2, 1).await, [old[3], new[0]], "in turn");
        assert_eq!(claim(1, 1).await, [new[1]]);
        assert_eq!(claim(3, 2).await, [new[2], old[4], new[3]], "beginning with what is to be more");
        assert_eq!(claim(9, 5).await, [old[5], old[6], old[7]], "what nobody needs is not kept");
        let _all_of_it = f.outbox.cancel_owed(id, "over".into()).await.unwrap();
        f.clock.forward(60 * SECOND);
    }
}

pub(crate) async fn what_leases_put_back_that_ran_out_is_given_though_its_keys_were_never_learnt(stores: Stores) {
    let f = stores.open();
    let id = f.enroll_one(false).await;
    f.record_of(id, &["", "x", "y"]).await;
    let out = f.claim(id, 3).await.deliveries;
    f.enroll_one(true).await;
    f.settle(&out[0], Then::Release).await;
    f.settle(&out[1], Then::RetryIn(Duration::ZERO)).await;
    f.clock.forward(60 * SECOND);
    // The third lease ends by this very claim.
    assert_eq!(f.claim(id, 1).await.deliveries.len(), 1);
}
