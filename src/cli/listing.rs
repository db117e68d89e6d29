//! `posthaste events`, `deliveries`, `subscriptions`: look at them, and change what a person may change.

use super::client::Client;
use super::output::{self, Output, plain};
use super::render::{Column, table, thing};
use super::{Daemon, Failure, written};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// How many rows are listed where nothing is said.
const LIMIT_DEFAULT: u32 = 100;
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
pub(super) struct Events {
    #[command(flatten)]
    asking: Asking,
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
pub(super) struct Deliveries {
    #[command(flatten)]
    asking: Asking,
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
pub(super) struct Subscriptions {
    #[command(flatten)]
    asking: Asking,
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
    /// Send one event to a subscription now, and print the attempt.
    Test(Test),
    /// Make a subscription.
    Create(written::Write),
    /// Change a subscription that was made so.
    Update(written::Write),
    /// Remove subscriptions that were made so; what they are owed is cancelled.
    Delete(written::Delete),
    /// Put a new secret first; those before it count for a while.
    RotateSecret(written::Rotate),
    /// Deliver again, or for the first time, what was recorded before.
    Replay(written::Replay),
}

#[derive(Debug, Args)]
struct Test {
    /// The subscription's name.
    #[arg(value_name = "NAME")]
    name: String,
    /// The catalogue's example of this type, instead of posthaste:test.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
}

/// What may stand before and behind the word of a command alike.
#[derive(Debug, Args)]
pub(super) struct Asking {
    /// One JSON object a line.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) daemon: Daemon,
}

#[derive(Debug, Args)]
struct Paging {
    /// Rows at most; 100 where nothing is said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Go on behind this cursor.
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

impl Paging {
    const fn is_given(&self) -> bool {
        self.limit.is_some() || self.after.is_some()
    }
}

#[derive(Debug, Args)]
struct Show {
    /// Its id or name.
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, Args)]
struct Change {
    /// Which, one or more.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// The options of a listing stand behind its word, where there is one: before it they would be lost.
fn unless_lost(word: bool, given: bool) -> Result<(), Failure> {
    if word && given {
        let why = "options of a listing stand behind the word `list`; before it stand --url, --token and --json only";
        return Err(Failure::Usage(why.to_owned()));
    }
    Ok(())
}

pub(super) async fn events(events: Events, output: &mut Output) -> Result<(), Failure> {
    let Events { asking, what, list } = events;
    let filtered = [&list.event_type, &list.tenant, &list.since, &list.until].iter().any(|f| f.is_some());
    unless_lost(what.is_some(), filtered || list.page.is_given())?;
    match what {
        Some(EventsWhat::Show(one)) => show("events", &one, &asking, output).await,
        Some(EventsWhat::List(list)) => list_events(list, &asking, output).await,
        None => list_events(list, &asking, output).await,
    }
}

async fn list_events(wanted: ListEvents, asking: &Asking, output: &mut Output) -> Result<(), Failure> {
    let ListEvents { event_type, tenant, since, until, page } = wanted;
    let filters = [("type", event_type), ("tenant", tenant), ("since", since), ("until", until)];
    Listing::of("events", &filters, asking)?.print(&page, &EVENT_COLUMNS, output).await
}

pub(super) async fn deliveries(deliveries: Deliveries, output: &mut Output) -> Result<(), Failure> {
    let Deliveries { asking, what, list } = deliveries;
    let filtered = [&list.state, &list.subscription, &list.since].iter().any(|f| f.is_some());
    unless_lost(what.is_some(), filtered || list.page.is_given())?;
    match what {
        Some(DeliveriesWhat::Show(one)) => show("deliveries", &one, &asking, output).await,
        Some(DeliveriesWhat::Retry(them)) => change("deliveries", &them, "retry", &asking, output).await,
        Some(DeliveriesWhat::Cancel(them)) => change("deliveries", &them, "cancel", &asking, output).await,
        Some(DeliveriesWhat::List(list)) => list_deliveries(list, &asking, output).await,
        None => list_deliveries(list, &asking, output).await,
    }
}

async fn list_deliveries(wanted: ListDeliveries, asking: &Asking, output: &mut Output) -> Result<(), Failure> {
    let ListDeliveries { state, subscription, since, page } = wanted;
    let filters = [("state", state), ("subscription", subscription), ("since", since)];
    Listing::of("deliveries", &filters, asking)?.print(&page, &DELIVERY_COLUMNS, output).await
}

pub(super) async fn subscriptions(them: Subscriptions, output: &mut Output) -> Result<(), Failure> {
    let Subscriptions { asking, what, list } = them;
    unless_lost(what.is_some(), list.is_given())?;
    let page = match what {
        Some(SubscriptionsWhat::Show(one)) => return show("subscriptions", &one, &asking, output).await,
        Some(SubscriptionsWhat::Pause(them)) => return change("subscriptions", &them, "pause", &asking, output).await,
        Some(SubscriptionsWhat::Resume(them)) => {
            return change("subscriptions", &them, "resume", &asking, output).await;
        }
        Some(SubscriptionsWhat::Test(test)) => return try_out(&test, &asking, output).await,
        Some(SubscriptionsWhat::Create(write)) => return written::create(&write, &asking, output).await,
        Some(SubscriptionsWhat::Update(write)) => return written::update(&write, &asking, output).await,
        Some(SubscriptionsWhat::Delete(them)) => return written::delete(&them, &asking, output).await,
        Some(SubscriptionsWhat::RotateSecret(rotate)) => return written::rotate(&rotate, &asking, output).await,
        Some(SubscriptionsWhat::Replay(replay)) => return written::replay(&replay, &asking, output).await,
        Some(SubscriptionsWhat::List(page)) => page,
        None => list,
    };
    Listing::of("subscriptions", &[], &asking)?.print(&page, &SUBSCRIPTION_COLUMNS, output).await
}

/// A listing of a daemon's, read page by page.
struct Listing<'a> {
    client: Client,
    what: &'a str,
    filters: Vec<(&'static str, String)>,
    json: bool,
}

impl<'a> Listing<'a> {
    fn of(what: &'a str, filters: &[(&'static str, Option<String>)], asking: &Asking) -> Result<Self, Failure> {
        let filters = filters.iter().filter_map(|(name, value)| Some((*name, value.clone()?))).collect();
        Ok(Self { client: Client::new(&asking.daemon)?, what, filters, json: asking.json })
    }

    /// The rows of a page, and the cursor behind them.
    async fn page(&self, limit: usize, after: Option<String>) -> Result<(Vec<Value>, Option<String>), Failure> {
        let mut query: Vec<(&str, String)> = self.filters.clone();
        query.push(("limit", limit.min(PAGE_MAX).to_string()));
        query.extend(after.map(|cursor| ("after", cursor)));
        let mut answer = self.client.get(&["v1", self.what], &query).await?;
        let Some(Value::Array(data)) = answer.get_mut("data").map(Value::take) else {
            return Err(self.client.strange("a listing without data"));
        };
        Ok((data, answer.get("next").and_then(Value::as_str).map(str::to_owned)))
    }

    /// Whether a row stands behind a cursor. A page may be empty and still have a next one.
    async fn follows(&self, cursor: &str) -> Result<bool, Failure> {
        let mut after = Some(cursor.to_owned());
        for _ in 0..EMPTY_PAGES_MAX {
            let (data, next) = self.page(1, after).await?;
            if !data.is_empty() || next.is_none() {
                return Ok(!data.is_empty());
            }
            after = next;
        }
        Ok(true)
    }

    /// Reads page after page until enough rows are there. As JSON each row is printed when it comes; a table needs all
    /// of them for its widths.
    async fn print(&self, page: &Paging, columns: &[Column<'_>], output: &mut Output) -> Result<(), Failure> {
        let mut after = page.after.clone();
        let mut left = usize::try_from(page.limit.unwrap_or(LIMIT_DEFAULT)).unwrap_or(usize::MAX);
        let mut rows = Vec::new();
        let mut empty = 0;
        loop {
            let (data, next) = self.page(left, after).await?;
            empty = if data.is_empty() { empty + 1 } else { 0 };
            left = left.saturating_sub(data.len());
            if self.json {
                data.iter().try_for_each(|row| output.line(&row.to_string()))?;
            } else {
                rows.extend(data);
            }
            after = next;
            if left == 0 || after.is_none() || empty > EMPTY_PAGES_MAX {
                break;
            }
        }
        if !self.json {
            table(&rows, columns).iter().try_for_each(|line| output.line(line))?;
        }
        if let Some(cursor) = after
            // A daemon that fails to say so may have more.
            && self.follows(&cursor).await.unwrap_or(true)
        {
            output::complain(&format!("there are more: --after {}", plain(&cursor)));
        }
        Ok(())
    }
}

async fn show(what: &str, one: &Show, asking: &Asking, output: &mut Output) -> Result<(), Failure> {
    let value = Client::new(&asking.daemon)?.get(&["v1", what, &one.id], &[]).await?;
    if asking.json {
        output.line(&value.to_string())?;
    } else {
        thing(&value).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(())
}

/// Has one event sent, and tells what came of it; fails where it did not arrive.
async fn try_out(test: &Test, asking: &Asking, output: &mut Output) -> Result<(), Failure> {
    let body = test.event_type.as_ref().map(|name| json!({ "type": name }).to_string().into_bytes());
    let client = Client::new(&asking.daemon)?;
    let attempt = client.post(&["v1", "subscriptions", &test.name, "test"], body.unwrap_or_default()).await?;
    if asking.json {
        output.line(&attempt.to_string())?;
    } else {
        thing(&attempt).iter().try_for_each(|line| output.line(line))?;
    }
    match attempt.get("outcome").and_then(Value::as_str) {
        Some("delivered") => Ok(()),
        Some(_) => Err(Failure::Failed("it did not arrive".to_owned())),
        None => Err(client.strange("an attempt without outcome")),
    }
}

/// Asks for the same change of each; goes on behind one that is refused, and fails in the end.
async fn change(what: &str, them: &Change, verb: &str, asking: &Asking, output: &mut Output) -> Result<(), Failure> {
    let client = Client::new(&asking.daemon)?;
    let mut refused = false;
    for id in &them.ids {
        match client.post(&["v1", what, id, verb], Vec::new()).await {
            Ok(said) if asking.json => output.line(&said.to_string())?,
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

/// Whether a listing would say that there are more behind a cursor.
#[cfg(test)]
pub(super) async fn more_behind(cursor: &str, them: &Deliveries) -> bool {
    Listing::of("deliveries", &[], &them.asking).unwrap().follows(cursor).await.unwrap()
}
