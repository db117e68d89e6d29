//! The rows of a replay, and of a delivery that only a replay made.

use super::*;
use crate::replays::Ordered;
use crate::{Replay, ReplayId, ReplayOrder, ReplayState};
use posthaste_events::Pattern;

/// The version in which both are written.
const VERSION: u8 = 1;

/// A replay as it is written, in rows and in snapshots.
#[derive(Serialize, Deserialize)]
pub(crate) struct ReplayV1 {
    id: u64,
    subscription: u32,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    state: Option<State>,
    event_type: Option<String>,
    tenant: Option<String>,
    /// Running, done, cancelled.
    stands: u8,
    replayed: u64,
    at: Timestamp,
    ended_at: Option<Timestamp>,
    cursor: u64,
    end: u64,
    changes: u64,
}

const STANDS: [ReplayState; 3] = [ReplayState::Running, ReplayState::Done, ReplayState::Cancelled];

impl From<&Ordered> for ReplayV1 {
    fn from(ordered: &Ordered) -> Self {
        let Replay { id, order, state, replayed, at, ended_at } = &ordered.replay;
        Self {
            id: id.0,
            subscription: order.subscription.0,
            since: order.since,
            until: order.until,
            state: order.state,
            event_type: order.event_type.as_ref().map(|pattern| pattern.as_str().to_owned()),
            tenant: order.tenant.clone(),
            stands: STANDS.iter().position(|s| s == state).unwrap_or(0) as u8,
            replayed: *replayed,
            at: *at,
            ended_at: *ended_at,
            cursor: ordered.cursor,
            end: ordered.end,
            changes: ordered.changes,
        }
    }
}

impl TryFrom<ReplayV1> for Ordered {
    type Error = DiskError;

    fn try_from(written: ReplayV1) -> Result<Self, DiskError> {
        let pattern = |text: &str| Pattern::parse(text).map_err(|e| damaged(format!("the types of a replay: {e}")));
        let order = ReplayOrder {
            subscription: SubscriptionId(written.subscription),
            since: written.since,
            until: written.until,
            state: written.state,
            event_type: written.event_type.as_deref().map(pattern).transpose()?,
            tenant: written.tenant,
        };
        let state = STANDS.get(usize::from(written.stands)).copied();
        let replay = Replay {
            id: ReplayId(written.id),
            order,
            state: state.ok_or_else(|| damaged("how a replay stands"))?,
            replayed: written.replayed,
            at: written.at,
            ended_at: written.ended_at,
        };
        Ok(Self { replay, cursor: written.cursor, end: written.end, changes: written.changes })
    }
}

/// The row of a change of a replay, or of a copy of what is known of it.
pub(crate) fn write_replay(kind: Kind, ordered: &Ordered) -> Row {
    let mut key = event_key(kind, ordered.replay.id.0);
    if kind == Kind::ReplayChange {
        key.put_u64(ordered.changes);
    }
    let sealed = envelope::seal(&key, kind as u8, VERSION, &encode(&ReplayV1::from(ordered)));
    (key, sealed)
}

/// Reads the row of a replay, of either kind.
pub(crate) fn read_replay(key: &[u8], sealed: &Bytes) -> Result<Ordered, DiskError> {
    decode::<ReplayV1>(&open_first(key, sealed)?)?.try_into()
}

/// The row that says that a replay owes an event to a subscription to which it was never owed.
pub(crate) fn write_adoption(sequence: u64, subscription: SubscriptionId) -> Row {
    let mut key = event_key(Kind::Adopted, sequence);
    key.put_u32(subscription.0);
    let sealed = envelope::seal(&key, Kind::Adopted as u8, VERSION, &[]);
    (key, sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_comes_back_as_it_was() {
        let order = ReplayOrder {
            subscription: SubscriptionId(4),
            since: Some(Timestamp::from_millis(5)),
            until: None,
            state: Some(State::Dead),
            event_type: Pattern::parse("a:**").ok(),
            tenant: Some("acme".into()),
        };
        for state in STANDS {
            let (at, ended_at) = (Timestamp::from_millis(6), Some(Timestamp::from_millis(7)));
            let replay = Replay { id: ReplayId(9), order: order.clone(), state, replayed: 8, at, ended_at };
            let ordered = Ordered { replay, cursor: 1, end: 2, changes: 3 };
            for kind in [Kind::Replay, Kind::ReplayChange] {
                let (key, sealed) = write_replay(kind, &ordered);
                assert_eq!(read_replay(&key, &sealed).unwrap(), ordered);
            }
        }
    }
}
