//! The rows of many subscriptions: what a generation says of all of them at its head.
//!
//! Each holds as many as fit a row, and says how many rows there are, so that one that is gone is missed. They are
//! written by one batch; a subscription that changes later in the same generation has a row of its own, which counts.

use super::*;

/// The version in which they are written; it goes with that of the subscriptions in them.
const VERSION: u8 = 1;
/// The bytes of a key.
const KEY: usize = 5;
/// What a body takes beside its subscriptions, at most: two numbers.
const BESIDE: u64 = 10;

/// Many subscriptions, as a row holds them.
#[derive(Serialize, Deserialize)]
struct PackV1 {
    of: u32,
    subscriptions: Vec<(u32, SubscriptionV2)>,
}

/// What one row tells.
#[derive(Debug, PartialEq)]
pub(crate) struct Pack {
    /// How many such rows were written with it, itself included.
    pub(crate) of: u32,
    pub(crate) subscriptions: Vec<(SubscriptionId, Account)>,
}

/// The rows of these subscriptions, as few as they fit.
pub(crate) fn write_packs<'a>(all: impl Iterator<Item = (SubscriptionId, &'a Account)>, into: &mut Vec<Row>) {
    let mut packs: Vec<Vec<(u32, SubscriptionV2)>> = Vec::new();
    let mut left = 0;
    for (id, account) in all {
        let one = (id.0, SubscriptionV2::from(account));
        let length = encoded_len(&one);
        if length > left {
            packs.push(Vec::new());
            left = (body_max(KEY) as u64).saturating_sub(BESIDE);
        }
        left = left.saturating_sub(length);
        if let Some(pack) = packs.last_mut() {
            pack.push(one);
        }
    }
    let of = u32::try_from(packs.len()).unwrap_or(u32::MAX);
    for (number, subscriptions) in (0_u32..).zip(packs) {
        let mut key = vec![Kind::Pack as u8];
        key.put_u32(number);
        let sealed = envelope::seal(&key, Kind::Pack as u8, VERSION, &encode(&PackV1 { of, subscriptions }));
        into.push((key, sealed));
    }
}

/// Reads the row of many subscriptions.
pub(crate) fn read_pack(key: &[u8], sealed: &Bytes) -> Result<Pack, DiskError> {
    let PackV1 { of, subscriptions } = decode(&open_first(key, sealed)?)?;
    let subscriptions = subscriptions.into_iter().map(|(id, written)| (SubscriptionId(id), written.into()));
    Ok(Pack { of, subscriptions: subscriptions.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::VALUE_MAX;
    use proptest::prelude::*;

    fn account(name: &str, paused_times: u64) -> Account {
        let mut account = Account::new(name, 77);
        for n in 0..paused_times {
            account.held.turn(false, 1_700_000_000_000 + n * 1_000_000);
            account.held.turn(true, 1_700_000_000_000 + n * 1_000_000 + 500_000);
        }
        (account.last_owed, account.kept) = (paused_times, true);
        account
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
        #[test]
        fn however_long_they_are_all_come_back_from_rows_that_a_keyspace_takes(
            all in prop::collection::vec(("[a-z]{1,64}", 0_u64..130), 0..400),
        ) {
            let all: Vec<Account> = all.iter().map(|(name, paused)| account(name, *paused)).collect();
            let numbered: Vec<(SubscriptionId, Account)> = (7..).map(SubscriptionId).zip(all).collect();
            let mut rows = Vec::new();
            write_packs(numbered.iter().map(|(id, account)| (*id, account)), &mut rows);
            let packs: Vec<Pack> = rows.iter().map(|(key, sealed)| read_pack(key, sealed).unwrap()).collect();
            prop_assert!(rows.iter().all(|(_, sealed)| sealed.len() <= VALUE_MAX));
            prop_assert!(packs.iter().all(|pack| pack.of as usize == rows.len()));
            let back: Vec<_> = packs.into_iter().flat_map(|pack| pack.subscriptions).collect();
            prop_assert_eq!(back, numbered);
        }
    }

    #[test]
    fn ten_thousand_take_a_row_for_each_hundred_or_so() {
        let names: Vec<Account> = (0..10_000).map(|n| account(&format!("customer-{n}"), 0)).collect();
        let mut rows = Vec::new();
        write_packs((0..).map(SubscriptionId).zip(&names), &mut rows);
        assert!(rows.len() < 100, "{} rows", rows.len());
    }
}
