//! The row of a subscription, which stands in snapshots too.
//!
//! Version 2 tells also how it fares, where it stands, whether it was deleted, and up to which event it was ever owed one; version 1 is read
//! still.

use super::*;
use crate::ledger::Noted;

/// The version in which subscriptions are written.
const VERSION: u8 = 2;
/// A mark: whoever made it took it away.
const DELETED: u8 = 1;
/// A mark: it stands among the definitions that the outbox keeps, not in the configuration.
const KEPT: u8 = 2;

/// A subscription as it was written first.
#[derive(Serialize, Deserialize)]
pub(crate) struct SubscriptionV1 {
    name: String,
    unlisted_since: Option<u64>,
    standing: StandingV1,
    backlog_max: u64,
    held: Held,
}

#[derive(Serialize, Deserialize)]
enum StandingV1 {
    Active,
    Paused,
    Disabled(String),
}

/// A subscription as it is written, in rows and in snapshots.
#[derive(Serialize, Deserialize)]
pub(crate) struct SubscriptionV2 {
    first: SubscriptionV1,
    noted: Noted,
    /// [`DELETED`] and [`KEPT`].
    marks: u8,
    last_owed: u64,
}

impl From<&Account> for SubscriptionV2 {
    fn from(account: &Account) -> Self {
        let first = SubscriptionV1 {
            name: account.name.to_string(),
            unlisted_since: account.unlisted_since,
            standing: match &account.standing {
                Standing::Active => StandingV1::Active,
                Standing::Paused => StandingV1::Paused,
                Standing::Disabled(reason) => StandingV1::Disabled(reason.clone()),
            },
            backlog_max: account.backlog_max,
            held: account.held.clone(),
        };
        let marks = if account.deleted { DELETED } else { 0 } | if account.kept { KEPT } else { 0 };
        Self { first, noted: account.noted, marks, last_owed: account.last_owed }
    }
}

impl From<SubscriptionV1> for SubscriptionV2 {
    fn from(first: SubscriptionV1) -> Self {
        // Nobody noted it: it may be owed any event that there is.
        Self { first, noted: Noted::default(), marks: 0, last_owed: u64::MAX }
    }
}

impl From<SubscriptionV2> for Account {
    fn from(written: SubscriptionV2) -> Self {
        let SubscriptionV2 { first, noted, marks, last_owed } = written;
        let mut account = Self::new(first.name, first.backlog_max);
        account.unlisted_since = first.unlisted_since;
        account.standing = match first.standing {
            StandingV1::Active => Standing::Active,
            StandingV1::Paused => Standing::Paused,
            StandingV1::Disabled(reason) => Standing::Disabled(reason),
        };
        account.held = first.held;
        (account.noted, account.last_owed) = (noted, last_owed);
        (account.deleted, account.kept) = (marks & DELETED != 0, marks & KEPT != 0);
        account
    }
}

/// The row of a subscription.
pub(crate) fn write_subscription(id: SubscriptionId, account: &Account) -> Row {
    let key = subscription_key(id);
    let sealed = envelope::seal(&key, Kind::Subscription as u8, VERSION, &encode(&SubscriptionV2::from(account)));
    (key, sealed)
}

/// Reads the row of a subscription, of either version.
pub(crate) fn read_subscription(key: &[u8], sealed: &Bytes) -> Result<(SubscriptionId, Account), DiskError> {
    let id = key.get(1..5).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    let id = id.ok_or_else(|| damaged("a subscription's key is too short"))?;
    let written: SubscriptionV2 = match open(key, sealed)? {
        (1, body) => decode::<SubscriptionV1>(&body)?.into(),
        (VERSION, body) => decode(&body)?,
        (version, _) => return Err(unknown(key, version)),
    };
    Ok((SubscriptionId(id), written.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_comes_back_as_it_was() {
        let mut account = Account::new("orders", 77);
        account.unlisted_since = Some(5);
        account.standing = Standing::Disabled("410".into());
        account.noted = Noted { failing_since: Some(3), failures: 12, held_until: 99, open_until: Some(100) };
        (account.deleted, account.kept, account.last_owed) = (true, true, 41);
        account.held.turn(false, 6);
        let (key, sealed) = write_subscription(SubscriptionId(9), &account);
        assert_eq!(read_subscription(&key, &sealed).unwrap(), (SubscriptionId(9), account));
    }

    #[test]
    fn a_subscription_of_the_first_version_is_read_as_one_that_fares_well() {
        let held = Held::default();
        let standing = StandingV1::Paused;
        let first = SubscriptionV1 { name: "orders".into(), unlisted_since: None, standing, backlog_max: 77, held };
        let key = subscription_key(SubscriptionId(9));
        let sealed = envelope::seal(&key, Kind::Subscription as u8, 1, &encode(&first));
        let (_, account) = read_subscription(&key, &sealed).unwrap();
        let mut expected = Account::new("orders", 77);
        (expected.standing, expected.last_owed) = (Standing::Paused, u64::MAX);
        assert_eq!(account, expected);
    }
}
