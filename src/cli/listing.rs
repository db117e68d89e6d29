//! `posthaste events`, `deliveries`, `subscriptions`: look at them, and change what a person may change.

use super::client::Client;
use super::output::{self, Output, plain};
use super::render::{Column, table, thing};
use super::{Daemon, Failure};
use clap::{Args, Subcommand};
use serde_json::Value;

/// How many rows one request asks for at most.
const PAGE_MAX: usize = 1000;
/// How many pages without a row are read before a listing is taken to be stuck.
const EMPTY_PAGES_MAX: usize = 10_000;

const EVENT_COLUMNS: [Column<'static>; 5] =
    [("ID", "id"), ("TYPE", "type"), ("KEY", "key"), ("TENANT", "tenant"), ("RECORDED", "recorded_at")];
const DELIVERY_COLUMNS: [Column<'static>; 7] = [
    ("ID", "id"),
    ("TYPE", "type"),
    ("SUBSCRIPTION", "subscription"),
    ("STATE", "state"),
    ("ATTEMPTS", "attempt_count"),
    ("NEXT", "next_attempt_at"),
    ("REASON", "reason"),
];
const SUBSCRIPTION_COLUMNS: [Column<'static>; 6] = [
    ("NAME", "name"),
    ("DELIVEREE", "deliveree"),
    ("STATE", "state"),
    ("BACKLOG", "backlog"),
    ("URL", "url"),
    ("REASON", "reason"),
];

/// `posthaste events`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Events {
    #[command(subcommand)]
    what: Option<EventsWhat>,
    #[command(flatten)]
    list: ListEvents,
}

#[derive(Debug, Subcommand)]
enum EventsWhat {
    /// List events, the newest first (what happens without a word too).
    List(ListEvents),
    /// Show one event with its deliveries and their attempts.
    Show(Show),
}

#[derive(Debug, Args)]
struct ListEvents {
    /// Of this type only.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Of this tenant only.
    #[arg(long)]
    tenant: Option<String>,
    /// Recorded at or after this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Recorded before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    page: Paging,
}

/// `posthaste deliveries`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Deliveries {
    #[command(subcommand)]
    what: Option<DeliveriesWhat>,
    #[command(flatten)]
    list: ListDeliveries,
}

#[derive(Debug, Subcommand)]
enum DeliveriesWhat {
    /// List deliveries, those of the newest event first (what happens without a word too).
    List(ListDeliveries),
    /// Show one delivery with its attempts.
    Show(Show),
    /// Try a delivery again now.
    Retry(Change),
    /// Never try a delivery again.
    Cancel(Change),
}

#[derive(Debug, Args)]
struct ListDeliveries {
    /// In this state only: pending, held, delivered, dead, cancelled.
    #[arg(long)]
    state: Option<String>,
    /// Of this subscription only.
    #[arg(long, value_name = "NAME")]
    subscription: Option<String>,
    /// Created at or after this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    page: Paging,
}

/// `posthaste subscriptions`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Subscriptions {
    #[command(subcommand)]
    what: Option<SubscriptionsWhat>,
    #[command(flatten)]
    list: Paging,
}

#[derive(Debug, Subcommand)]
enum SubscriptionsWhat {
    /// List subscriptions (what happens without a word too).
    List(Paging),
    /// Show one subscription.
    Show(Show),
    /// Hold what a subscription is owed.
    Pause(Change),
    /// End a pause, or a disabling.
    Resume(Change),
}

#[derive(Debug, Args)]
struct Paging {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Rows at most.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on behind this cursor.
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, Args)]
struct Show {
    /// Its id or name.
    #[arg(value_name = "ID")]
    id: String,
    /// As one JSON object on a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, Args)]
struct Change {
    /// Which, one or more.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    daemon: Daemon,
}

pub(super) async fn events(events: Events, output: &mut Output) -> Result<(), Failure> {
    match events.what {
        Some(EventsWhat::Show(one)) => show("events", &one, output).await,
        Some(EventsWhat::List(list)) => list_events(list, output).await,
        None => list_events(events.list, output).await,
    }
}

async fn list_events(wanted: ListEvents, output: &mut Output) -> Result<(), Failure> {
    let ListEvents { event_type, tenant, since, until, page } = wanted;
    let filters = [("type", event_type), ("tenant", tenant), ("since", since), ("until", until)];
    list("events", &filters, &page, &EVENT_COLUMNS, output).await
}

pub(super) async fn deliveries(deliveries: Deliveries, output: &mut Output) -> Result<(), Failure> {
    match deliveries.what {
        Some(DeliveriesWhat::Show(one)) => show("deliveries", &one, output).await,
        Some(DeliveriesWhat::Retry(them)) => change("deliveries", &them, "retry", output).await,
        Some(DeliveriesWhat::Cancel(them)) => change("deliveries", &them, "cancel", output).await,
        Some(DeliveriesWhat::List(list)) => list_deliveries(list, output).await,
        None => list_deliveries(deliveries.list, output).await,
    }
}

async fn list_deliveries(wanted: ListDeliveries, output: &mut Output) -> Result<(), Failure> {
    let ListDeliveries { state, subscription, since, page } = wanted;
    let filters = [("state", state), ("subscription", subscription), ("since", since)];
    list("deliveries", &filters, &page, &DELIVERY_COLUMNS, output).await
}

pub(super) async fn subscriptions(them: Subscriptions, output: &mut Output) -> Result<(), Failure> {
    match them.what {
        Some(SubscriptionsWhat::Show(one)) => show("subscriptions", &one, output).await,
        Some(SubscriptionsWhat::Pause(them)) => change("subscriptions", &them, "pause", output).await,
        Some(SubscriptionsWhat::Resume(them)) => change("subscriptions", &them, "resume", output).await,
        Some(SubscriptionsWhat::List(page)) => list("subscriptions", &[], &page, &SUBSCRIPTION_COLUMNS, output).await,
        None => list("subscriptions", &[], &them.list, &SUBSCRIPTION_COLUMNS, output).await,
    }
}

/// Reads page after page until enough rows are there. As JSON each row is printed when it comes; a table needs all of
/// them for its widths.
async fn list(
    what: &str,
    filters: &[(&'static str, Option<String>)],
    page: &Paging,
    columns: &[Column<'_>],
    output: &mut Output,
) -> Result<(), Failure> {
    let client = Client::new(&page.daemon)?;
    let mut after = page.after.clone();
    let mut left = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    let mut empty = 0;
    loop {
        let given = filters.iter().filter_map(|(name, value)| Some((*name, value.clone()?)));
        let mut query: Vec<(&str, String)> = given.collect();
        query.push(("limit", left.min(PAGE_MAX).to_string()));
        query.extend(after.take().map(|cursor| ("after", cursor)));
        let mut answer = client.get(&["v1", what], &query).await?;
        let Some(Value::Array(data)) = answer.get_mut("data").map(Value::take) else {
            return Err(client.strange("a listing without data"));
        };
        empty = if data.is_empty() { empty + 1 } else { 0 };
        left = left.saturating_sub(data.len());
        if page.json {
            data.iter().try_for_each(|row| output.line(&row.to_string()))?;
        } else {
            rows.extend(data);
        }
        after = answer.get("next").and_then(Value::as_str).map(str::to_owned);
        if left == 0 || after.is_none() || empty > EMPTY_PAGES_MAX {
            break;
        }
    }
    if !page.json {
        table(&rows, columns).iter().try_for_each(|line| output.line(line))?;
    }
    if let Some(cursor) = after {
        output::complain(&format!("there are more: --after {}", plain(&cursor)));
    }
    Ok(())
}

async fn show(what: &str, one: &Show, output: &mut Output) -> Result<(), Failure> {
    let value = Client::new(&one.daemon)?.get(&["v1", what, &one.id], &[]).await?;
    if one.json {
        output.line(&value.to_string())?;
    } else {
        thing(&value).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(())
}

/// Asks for the same change of each; goes on behind one that is refused, and fails in the end.
async fn change(what: &str, them: &Change, verb: &str, output: &mut Output) -> Result<(), Failure> {
    let client = Client::new(&them.daemon)?;
    let mut refused = false;
    for id in &them.ids {
        match client.post(&["v1", what, id, verb], Vec::new()).await {
            Ok(said) => {
                let state = said.get("state").and_then(Value::as_str).unwrap_or("done");
                output.line(&format!("{}  {}", plain(id), plain(state)))?;
            }
            Err(Failure::Failed(why)) => {
                output::complain(&format!("error: {}: {why}", plain(id)));
                refused = true;
            }
            Err(other) => return Err(other),
        }
    }
    if refused { Err(Failure::Told(1)) } else { Ok(()) }
}
