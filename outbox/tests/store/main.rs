//! The stores from outside: every promise of the `Outbox` trait on every store; the generations over a disk that fails.

#![expect(clippy::unwrap_used, reason = "tests")]

mod cancelling;
mod definitions;
mod faults;
mod fixture;
mod full;
mod lines;
mod listings;
mod model;
mod opened;
mod ordering;
mod promises;
mod recovery;
mod replayed;
mod replays;
mod size;
mod spare;
mod starts;
mod stepped;
mod versions;
mod vitals;
mod wishes;
mod world;

use fixture::Stores;

/// Every promise, wherever it stands.
mod all {
    pub(crate) use crate::cancelling::*;
    pub(crate) use crate::definitions::*;
    pub(crate) use crate::listings::*;
    pub(crate) use crate::ordering::*;
    pub(crate) use crate::promises::*;
    pub(crate) use crate::replays::*;
    pub(crate) use crate::vitals::*;
    pub(crate) use crate::wishes::*;
}

/// Makes each promise a test of each store.
macro_rules! conformance {
    ($($store:ident: $make:expr,)* => $($promise:ident,)*) => {
        conformance!(@stores [$($promise)*] $($store: $make,)*);
    };
    (@stores $promises:tt $($store:ident: $make:expr,)*) => {
        $(conformance!(@one $store, $make, $promises);)*
    };
    (@one $store:ident, $make:expr, [$($promise:ident)*]) => {
        mod $store {
            use super::*;
            $(
                #[test]
                fn $promise() {
                    fixture::run(all::$promise($make));
                }
            )*
        }
    };
}

conformance! {
    memory: Stores::Memory,
    sled: Stores::Sled,
    simulated: Stores::Simulated,
    small_generations: Stores::Small,
    =>
    a_known_name_keeps_its_number_and_an_older_epoch_is_refused,
    what_is_recorded_is_claimed_in_order_with_its_payloads,
    ids_ascend_as_text_and_sequences_grow,
    a_payload_of_any_length_comes_back_as_it_was,
    a_repeated_key_answers_what_the_first_answered,
    a_key_is_forgotten_once_its_time_is_over,
    one_conflicting_key_refuses_the_whole_array,
    whoever_asked_is_told_what_was_dead_at_birth,
    a_delivery_beyond_the_backlog_is_dead_at_birth_and_can_be_asked_for,
    a_claim_is_bounded_by_count_and_by_bytes_but_gives_at_least_one,
    a_claim_keeps_room_for_what_was_never_tried_however_many_retries_are_due,
    a_leased_delivery_is_offered_to_nobody_until_its_lease_ends,
    a_lease_can_be_prolonged_until_it_is_lost,
    a_delivered_one_is_never_offered_again,
    a_retry_is_due_when_it_was_said_to_be_and_comes_before_what_was_never_tried,
    a_dead_one_keeps_its_reason_and_attempts,
    a_released_one_is_as_if_it_had_never_been_given_out,
    a_settlement_with_a_foreign_lease_changes_nothing,
    a_subscription_that_takes_nothing_holds_what_it_is_owed,
    held_time_does_not_count_as_owed,
    an_unlisted_subscription_is_held_for_its_grace_and_goes_on_when_listed_again,
    what_is_owed_past_the_grace_is_cancelled,
    everything_that_a_subscription_is_owed_can_be_cancelled_and_nothing_of_another,
    more_than_a_piece_of_what_is_owed_is_cancelled_piece_by_piece,
    a_lease_on_what_was_cancelled_with_all_goes_on_and_an_arrival_wins,
    an_event_with_either_payload_or_none_comes_back_as_it_was,
    a_person_can_have_a_dead_one_tried_again,
    a_person_can_cancel_what_is_owed_even_while_it_is_tried,
    what_comes_of_the_attempt_at_a_cancelled_one_is_kept_and_an_arrival_wins,
    a_cancelled_one_stays_so_when_its_lease_runs_out,
    a_wish_gives_no_second_lease_while_the_first_is_held,
    what_arrived_is_not_tried_again_though_a_person_asked_for_it_meanwhile,
    wishes_for_what_is_not_there_or_not_possible_say_so,
    events_are_listed_newest_first_in_pages_that_miss_none,
    deliveries_are_listed_newest_first_in_pages_that_miss_none,
    an_event_is_shown_with_its_deliveries_and_attempts,
    whoever_asked_is_told_what_became_due,
    health_counts_what_is_owed_and_leased,
    settled_events_go_after_their_retention_and_owed_ones_stay,
    a_leap_of_the_wall_clock_moves_nothing_that_is_due,
    claims_from_many_threads_never_share_a_delivery,
    a_closed_store_says_so,
    definitions_are_kept_by_name_and_changed_in_order,
    definitions_beyond_the_bounds_are_refused_and_change_nothing,
    a_name_that_was_deleted_begins_anew_when_it_comes_again,
    one_that_is_being_removed_is_neither_resumed_nor_disabled_for_another_reason,
    a_name_that_somebody_else_takes_begins_anew_with_nothing_of_what_was_owed,
    how_a_subscription_fares_is_told_as_it_was_noted_and_its_times_go_on,
    an_attempt_is_shown_with_how_it_went_on_the_wire,
    one_subscription_is_told_as_the_roll_tells_of_it,
    those_that_are_owed_something_or_take_nothing_are_told_as_the_roll_tells_of_them,
    a_replay_makes_whatever_is_settled_or_never_was_owed_due_once_more,
    a_delivery_that_only_a_replay_made_is_shown_like_any_other,
    a_replay_goes_by_time_type_tenant_and_state,
    of_a_page_only_what_is_handed_back_is_made_due_and_a_step_taken_twice_counts_once,
    a_replay_waits_for_room_in_the_backlog,
    a_replay_ends_when_a_person_cancels_it_or_its_subscription_is_gone,
    a_replayed_one_is_owed_since_then_and_hints_that_it_is_due,
    what_a_replay_made_due_goes_past_its_retention_like_anything_owed,
    of_each_key_one_is_out_and_the_next_follows_once_it_is_settled,
    what_waits_for_a_retry_keeps_its_key_waiting_and_no_other,
    events_without_a_key_go_as_they_come_beside_those_with_one,
    a_lease_that_ends_without_an_answer_puts_the_first_of_its_key_back_in_front,
    an_older_one_that_is_asked_for_again_goes_before_the_newer_ones_of_its_key,
    cancelling_moves_the_line_up_wherever_it_is_done,
    order_can_be_switched_on_and_off_while_deliveries_are_out,
    a_line_of_any_length_is_claimed_past_in_pieces,
}
