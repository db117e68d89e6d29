//! The ledger as bytes: what a start begins with, so that it need not read the whole backlog.
//!
//! Leases are not in it: a delivery that is given out is written as it was before, since a crash ends all leases.

use super::{Account, Ledger, Progress, Waiting};
use crate::disk::DiskError;
use crate::rows::{self, SubscriptionV1, SubscriptionV2};
use posthaste_events::SubscriptionId;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct LedgerOf<S> {
    epoch: u64,
    next_subscription: u32,
    accounts: Vec<AccountOf<S>>,
}

#[derive(Serialize, Deserialize)]
struct AccountOf<S> {
    id: u32,
    subscription: S,
    fresh: serde_bytes::ByteBuf,
    /// Sequence, due, progress.
    waiting: Vec<(u64, u64, Progress)>,
}

impl Ledger {
    /// The ledger as bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let accounts = self.accounts().map(|(id, account)| self.account_v2(id, account)).collect();
        let ledger = LedgerOf { epoch: self.last_epoch, next_subscription: self.next_subscription, accounts };
        rows::encode(&ledger)
    }

    fn account_v2(&self, id: SubscriptionId, account: &Account) -> AccountOf<SubscriptionV2> {
        let mut waiting: Vec<_> = account.waiting.iter().map(|(s, w)| (*s, w.due, w.progress)).collect();
        let mut fresh = account.fresh.clone();
        for (sequence, key) in &account.leased {
            match self.leases.get(key).and_then(|lease| Some((lease.due?, lease.progress))) {
                Some((due, progress)) => waiting.push((*sequence, due, progress)),
                None => {
                    fresh.insert(*sequence);
                }
            }
        }
        AccountOf { id: id.0, subscription: account.into(), fresh: serde_bytes::ByteBuf::from(bitmap(&fresh)), waiting }
    }

    /// The ledger of these bytes, as a snapshot of this version wrote them; `first_lease` as for [`Ledger::new`].
    pub(crate) fn from_bytes(bytes: &[u8], version: u8, first_lease: u64) -> Result<Self, DiskError> {
        if version == 1 {
            return Self::of(rows::decode::<LedgerOf<SubscriptionV1>>(bytes)?, first_lease);
        }
        Self::of(rows::decode::<LedgerOf<SubscriptionV2>>(bytes)?, first_lease)
    }

    fn of<S: Into<SubscriptionV2>>(written: LedgerOf<S>, first_lease: u64) -> Result<Self, DiskError> {
        let mut ledger = Self::new(first_lease);
        ledger.restore_counters(written.epoch, written.next_subscription);
        for account in written.accounts {
            let id = SubscriptionId(account.id);
            ledger.restore(id, Account::from(account.subscription.into()));
            let Some(open) = ledger.accounts.get_mut(&id) else { continue };
            open.fresh = read_bitmap(&account.fresh)?;
            open.fresh_count = open.fresh.len();
            for (sequence, due, progress) in account.waiting {
                open.put_waiting(sequence, Waiting { due, progress }, None);
            }
        }
        Ok(ledger)
    }
}

/// A set of sequences as bytes.
pub(crate) fn bitmap(set: &RoaringTreemap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(set.serialized_size());
    // Writing into memory has no way to fail.
    let _ = set.serialize_into(&mut bytes);
    bytes
}

/// The set of sequences of these bytes.
pub(crate) fn read_bitmap(bytes: &[u8]) -> Result<RoaringTreemap, DiskError> {
    RoaringTreemap::deserialize_from(bytes).map_err(|e| rows::damaged(format!("a set of sequences: {e}")))
}
