//! Any sequence of changes leaves the same ledger as enrolling the whole set each time, and what a model says of it.

use super::*;
use crate::ledger::Names;
use proptest::prelude::*;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Something that happens.
#[derive(Debug, Clone)]
enum Step {
    /// A change of a few; whether it is taken back.
    Amend(Vec<Amend>, bool),
    /// Whoever made it takes it away, or makes it anew.
    Mark(&'static str, bool),
    /// The one of that number is owed something.
    Owe(u32),
    /// The upkeep of that many milliseconds later.
    Forget(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = prop::sample::select(NAMES.to_vec());
    let list = (name.clone(), 1_u64..3, any::<bool>(), any::<bool>());
    let list = list.prop_map(|(name, backlog_max, ordered, kept)| {
        Amend::List(Enrolment { name: name.to_owned(), backlog_max, ordered, kept })
    });
    let amend = prop_oneof![2 => list, 1 => name.clone().prop_map(|name| Amend::Unlist(name.to_owned()))];
    let step = prop_oneof![
        6 => (prop::collection::vec(amend, 0..4), prop::bool::weighted(0.3)).prop_map(|(a, back)| Step::Amend(a, back)),
        2 => (name, any::<bool>()).prop_map(|(name, deleted)| Step::Mark(name, deleted)),
        2 => (0_u32..12).prop_map(Step::Owe),
        1 => (0_u64..3).prop_map(Step::Forget),
    ];
    prop::collection::vec(step, 1..30)
}

/// A subscription as the model knows it.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    id: u32,
    name: String,
    listed: bool,
    deleted: bool,
    kept: bool,
    backlog_max: u64,
    ordered: bool,
}

#[derive(Debug, Clone, Default)]
struct Model {
    known: Vec<Known>,
    next: u32,
}

impl Model {
    /// The whole set that is listed.
    fn listed(&self) -> Vec<Enrolment> {
        let listed = self.known.iter().filter(|k| k.listed);
        let wanted = |k: &Known| Enrolment {
            name: k.name.clone(),
            backlog_max: k.backlog_max,
            ordered: k.ordered,
            kept: k.kept,
        };
        listed.map(wanted).collect()
    }

    /// What is to be listed after these changes.
    fn wanted(&self, changes: &[Amend]) -> Vec<Enrolment> {
        let mut wanted = self.listed();
        for change in changes {
            wanted.retain(|e| e.name != change.name());
            wanted.extend(match change {
                Amend::List(enrolment) => Some(enrolment.clone()),
                Amend::Unlist(_) => None,
            });
        }
        wanted
    }

    fn enroll(&mut self, wanted: &[Enrolment]) {
        let before = self.clone();
        for known in &mut self.known {
            known.listed = false;
        }
        for Enrolment { name, backlog_max, ordered, kept } in wanted.iter().cloned() {
            let mut of_name = before.known.iter().filter(|k| k.name == name && !(k.deleted && !k.listed));
            let holder = of_name.clone().find(|k| k.listed).or(of_name.next_back());
            let (listed, deleted) = (true, false);
            match holder {
                Some(holder) if holder.kept == kept => {
                    let id = holder.id;
                    for known in self.known.iter_mut().filter(|k| k.id == id) {
                        *known = Known { id, name: name.clone(), listed, deleted, kept, backlog_max, ordered };
                    }
                }
                holder => {
                    let given_away = holder.map(|h| h.id);
                    self.known.iter_mut().filter(|k| Some(k.id) == given_away).for_each(|k| k.deleted = true);
                    self.known.push(Known { id: self.next, name, listed, deleted, kept, backlog_max, ordered });
                    self.next += 1;
                }
            }
        }
    }

    /// As it was before; what is new has its number still, and its name where nobody else has.
    fn take_back(&mut self, before: Self) {
        let new: Vec<Known> = self.known.iter().filter(|k| k.id >= before.next).cloned().collect();
        self.known = before.known;
        for mut known in new {
            known.listed = false;
            known.deleted = self.known.iter().any(|k| k.name == known.name && !(k.deleted && !k.listed));
            self.known.push(known);
        }
    }

    fn mark(&mut self, name: &str, deleted: bool) {
        let of_name = self.known.iter_mut().filter(|k| k.name == name && (deleted || k.listed));
        of_name.for_each(|k| k.deleted = deleted);
    }
}

fn shown(ledger: &Ledger) -> Vec<Known> {
    let known = |(id, account): (SubscriptionId, &Account)| Known {
        id: id.0,
        name: account.name.to_string(),
        listed: account.unlisted_since.is_none(),
        deleted: account.deleted,
        kept: account.kept,
        backlog_max: account.backlog_max,
        ordered: account.is_ordered(),
    };
    ledger.accounts().map(known).collect()
}

/// Every account stands under its name, and nothing else does.
fn check_names(ledger: &Ledger) {
    let mut by_hand = Names::default();
    ledger.accounts().for_each(|(id, account)| by_hand.add(&account.name, id));
    assert_eq!(ledger.names, by_hand);
    for name in NAMES {
        let of_roll = ledger.roll(9).subscriptions.into_iter().filter(|s| s.name == name);
        let of_roll: Vec<Subscribed> = of_roll.collect();
        let subscribed = ledger.subscribed(name, 9);
        assert_eq!(subscribed.is_some(), !of_roll.is_empty());
        assert!(subscribed.is_none_or(|s| of_roll.contains(&s) && (s.listed || of_roll.iter().all(|s| !s.listed))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn changes_of_a_few_leave_what_enrolling_all_of_them_leaves_also_where_they_are_taken_back(steps in steps()) {
        let (mut amended, mut enrolled, mut model) = (Ledger::new(1), Ledger::new(1), Model::default());
        for (now, step) in (1_u64..).zip(steps) {
            match step {
                Step::Amend(changes, back) => {
                    let (wanted, before) = (model.wanted(&changes), model.clone());
                    let epoch = amended.epoch();
                    let of_few = amended.amend(&changes, now);
                    let of_all = enrolled.enroll(wanted.clone(), now);
                    prop_assert_eq!(&of_few.changed, &of_all.changed);
                    prop_assert!(of_few.before.len() <= 2 * changes.len());
                    model.enroll(&wanted);
                    let roll = amended.roll_of(&changes, now);
                    let mut expected = amended.roll(now);
                    expected.subscriptions.retain(|s| changes.iter().any(|change| change.name() == s.name));
                    prop_assert_eq!(roll, expected);
                    if back {
                        amended.take_back(&of_few, now);
                        enrolled.take_back(&of_all, now);
                        model.take_back(before);
                        prop_assert_eq!(amended.epoch(), epoch);
                    }
                }
                // One that is listed is spared: to enrol it with all others is to make it anew, to change another is not.
                Step::Mark(name, deleted) if !(deleted && model.known.iter().any(|k| k.listed && k.name == name)) => {
                    let marks = HashMap::from([(name.to_owned(), deleted)]);
                    prop_assert_eq!(amended.mark_deleted(&marks), enrolled.mark_deleted(&marks));
                    model.mark(name, deleted);
                }
                Step::Mark(..) => {}
                Step::Owe(id) => {
                    let id = SubscriptionId(id);
                    for ledger in [&mut amended, &mut enrolled] {
                        if ledger.account(id).is_some_and(|account| account.unlisted_since.is_none()) {
                            ledger.owe(id, now);
                        }
                    }
                }
                Step::Forget(age) => {
                    for ledger in [&mut amended, &mut enrolled] {
                        ledger.forget_subscriptions(now, age + 5, u64::MAX);
                    }
                    model.known.retain(|k| amended.account(SubscriptionId(k.id)).is_some());
                }
            }
            prop_assert_eq!(shown(&amended), model.known.clone());
            prop_assert_eq!(&amended, &enrolled);
            check_names(&amended);
        }
    }
}

#[test]
fn a_name_that_was_taken_over_and_given_back_is_that_of_whoever_had_it() {
    let mut ledger = Ledger::new(1);
    let of = |kept| Enrolment { name: "a".to_owned(), backlog_max: 1, ordered: false, kept };
    ledger.enroll(vec![of(false)], 1);
    let taken_over = ledger.amend(&[Amend::List(of(true))], 2);
    ledger.take_back(&taken_over, 3);
    ledger.amend(&[Amend::Unlist("a".to_owned())], 4);
    ledger.amend(&[Amend::List(of(false))], 5);
    assert_eq!(ledger.roll(6).subscriptions.iter().map(|s| s.id.0).collect::<Vec<_>>(), [0]);
    // What says that it took over may be read again after a start: it stays known as deleted until then.
    ledger.forget_subscriptions(7, 1_000, u64::MAX - 1);
    assert!(ledger.account(SubscriptionId(1)).is_some_and(|account| account.deleted));
}

#[test]
fn a_change_of_another_makes_nobody_anew_who_is_being_taken_away() {
    let mut ledger = Ledger::new(1);
    let of = |name: &str| Enrolment { name: name.to_owned(), backlog_max: 1, ordered: false, kept: true };
    ledger.enroll(vec![of("a"), of("b")], 1);
    ledger.mark_deleted(&HashMap::from([("a".to_owned(), true)]));
    ledger.amend(&[Amend::List(of("c"))], 2);
    assert!(ledger.account(SubscriptionId(0)).is_some_and(|account| account.deleted));
    ledger.amend(&[Amend::Unlist("a".to_owned())], 3);
    ledger.amend(&[Amend::List(of("a"))], 4);
    assert_eq!(ledger.subscribed("a", 5).map(|s| s.id), Some(SubscriptionId(3)));
}
