//! Whose turn it is to claim: shared between tenants, then between a tenant's subscriptions, by bytes.
//!
//! Everyone has a virtual time: the bytes that it was given. The one that is furthest behind is next, and is charged
//! what its claim brought, which is known only afterwards. Plain deficit round robin was tried first; its rounds go by
//! while one is away with a claim, and then favour whoever takes the largest pieces. Decides the order alone; whether a
//! claim fits is the window's matter.

use posthaste_events::SubscriptionId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How far one may be ahead of the others when it joins again, in bytes: nobody is shut out for longer than the others
/// take for that much.
const AHEAD_MAX: u64 = 4 * 1024 * 1024;
/// What a delivery costs beside its payload, in bytes: the work is not free however short the payload is.
const DELIVERY_COST: u64 = 1_024;

/// Whose subscription it is.
pub(super) type Tenant = Option<Arc<str>>;

/// Those who want to claim, in turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    tenants: Line<Tenant>,
    subscriptions: BTreeMap<Tenant, Line<SubscriptionId>>,
}

/// One level: who waits, by virtual time.
#[derive(Debug)]
struct Line<K> {
    waiting: BTreeSet<(u64, K)>,
    members: BTreeMap<K, Member>,
    /// The virtual time of the last one that was chosen: nobody who joins starts further behind, so that being idle
    /// saves nothing up.
    floor: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Member {
    time: u64,
    waits: bool,
}

impl<K> Default for Line<K> {
    fn default() -> Self {
        Self { waiting: BTreeSet::new(), members: BTreeMap::new(), floor: 0 }
    }
}

impl<K: Ord + Clone> Line<K> {
    fn join(&mut self, key: &K) {
        let member = self.members.entry(key.clone()).or_default();
        if !member.waits {
            member.time = member.time.clamp(self.floor, self.floor.saturating_add(AHEAD_MAX));
            member.waits = true;
            self.waiting.insert((member.time, key.clone()));
        }
    }

    fn first(&self) -> Option<K> {
        self.waiting.first().map(|(_, key)| key.clone())
    }

    fn step_out(&mut self, key: &K) {
        if let Some(member) = self.members.get_mut(key)
            && std::mem::take(&mut member.waits)
        {
            self.waiting.remove(&(member.time, key.clone()));
            self.floor = self.floor.max(member.time);
        }
    }

    fn charge(&mut self, key: &K, cost: u64) {
        let Some(member) = self.members.get_mut(key) else { return };
        let before = member.time;
        member.time = before.saturating_add(cost);
        if member.waits && self.waiting.remove(&(before, key.clone())) {
            self.waiting.insert((member.time, key.clone()));
        }
    }

    fn leave(&mut self, key: &K) {
        self.step_out(key);
        self.members.remove(key);
    }
}

impl Turns {
    /// Wants a turn; once is enough.
    pub(super) fn join(&mut self, tenant: &Tenant, subscription: SubscriptionId) {
        self.subscriptions.entry(tenant.clone()).or_default().join(&subscription);
        self.tenants.join(tenant);
    }

    /// Takes the next one out of the line; `None` where nobody wants a turn.
    pub(super) fn next(&mut self) -> Option<SubscriptionId> {
        let tenant = self.tenants.first()?;
        let line = self.subscriptions.get_mut(&tenant)?;
        let chosen = line.first()?;
        line.step_out(&chosen);
        if line.waiting.is_empty() {
            self.tenants.step_out(&tenant);
        }
        Some(chosen)
    }

    /// Says what a turn brought.
    pub(super) fn charge(&mut self, tenant: &Tenant, subscription: SubscriptionId, count: usize, bytes: usize) {
        let cost = (bytes as u64).saturating_add((count as u64).saturating_mul(DELIVERY_COST));
        self.tenants.charge(tenant, cost);
        if let Some(line) = self.subscriptions.get_mut(tenant) {
            line.charge(&subscription, cost);
        }
    }

    /// Forgets a subscription that is gone.
    pub(super) fn leave(&mut self, tenant: &Tenant, subscription: SubscriptionId) {
        let Some(line) = self.subscriptions.get_mut(tenant) else { return };
        line.leave(&subscription);
        if line.waiting.is_empty() {
            self.tenants.step_out(tenant);
        }
        if line.members.is_empty() {
            self.subscriptions.remove(tenant);
            self.tenants.leave(tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        Some(Arc::from(name))
    }

    /// Lets everyone claim `rounds` times in all, each always wanting more, and counts bytes.
    fn served(claimants: &[(Tenant, SubscriptionId, usize)], rounds: usize) -> BTreeMap<SubscriptionId, usize> {
        let (mut turns, mut got) = (Turns::default(), BTreeMap::new());
        for (tenant, id, _) in claimants {
            turns.join(tenant, *id);
        }
        for _ in 0..rounds {
            let id = turns.next().unwrap();
            let (tenant, _, bytes) = claimants.iter().find(|c| c.1 == id).unwrap();
            turns.charge(tenant, id, 1, *bytes);
            *got.entry(id).or_default() += bytes;
            turns.join(tenant, id);
        }
        got
    }

    #[test]
    fn subscriptions_share_by_bytes_however_long_their_payloads_are() {
        let got = served(&[(None, SubscriptionId(1), 500_000), (None, SubscriptionId(2), 50_000)], 10_000);
        let ratio = got[&SubscriptionId(1)] as f64 / got[&SubscriptionId(2)] as f64;
        assert!((0.8..1.25).contains(&ratio), "{got:?}");
    }

    #[test]
    fn a_tenant_with_many_subscriptions_gets_no_more_than_one_with_a_single_one() {
        let mut claimants: Vec<_> = (0..50).map(|n| (tenant("many"), SubscriptionId(n), 100_000)).collect();
        claimants.push((tenant("one"), SubscriptionId(99), 100_000));
        let got = served(&claimants, 10_000);
        let one = got[&SubscriptionId(99)] as f64;
        let many: usize = (0..50).filter_map(|n| got.get(&SubscriptionId(n))).sum();
        assert!((0.8..1.25).contains(&(one / many as f64)), "{one} {many}");
    }

    #[test]
    fn who_left_gets_no_turn() {
        let mut turns = Turns::default();
        turns.join(&tenant("a"), SubscriptionId(1));
        turns.join(&tenant("a"), SubscriptionId(2));
        turns.join(&None, SubscriptionId(3));
        turns.leave(&tenant("a"), SubscriptionId(1));
        turns.leave(&None, SubscriptionId(3));
        assert_eq!((turns.next(), turns.next()), (Some(SubscriptionId(2)), None));
    }

    #[test]
    fn one_alone_never_waits() {
        let mut turns = Turns::default();
        for _ in 0..100 {
            turns.join(&None, SubscriptionId(1));
            assert_eq!(turns.next(), Some(SubscriptionId(1)));
            turns.charge(&None, SubscriptionId(1), 256, 10_000_000);
        }
    }

    #[test]
    fn who_was_idle_has_saved_nothing_up() {
        let (one, two) = (SubscriptionId(1), SubscriptionId(2));
        let mut turns = Turns::default();
        for _ in 0..1_000 {
            turns.join(&None, one);
            turns.next();
            turns.charge(&None, one, 1, 100_000);
        }
        let mut got = [0, 0];
        for _ in 0..100 {
            turns.join(&None, one);
            turns.join(&None, two);
            let id = turns.next().unwrap();
            turns.charge(&None, id, 1, 100_000);
            got[usize::from(id == two)] += 1;
        }
        assert!(got[0] >= 45, "{got:?}");
    }
}
