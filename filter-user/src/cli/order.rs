//! `cordon order`.

use std::{
    fs,
    io::{self, Read, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use hyper::StatusCode;
use jiff::{Span, Timestamp, civil::Date, tz::TimeZone};
use serde_json::{Map, Value, json};

use super::{Global, feed::held_line, output::table};
use crate::{
    control::{
        api::{OrderDetail, OrderState, OrderSummary, Submitted},
        client::{Client, ClientError, escaped},
    },
    feed::{Context, Event, native},
    guard::Guards,
};

#[derive(Debug, Subcommand)]
pub(super) enum Order {
    /// Puts one order
    Add(Box<Add>),
    /// All orders that are not revoked
    List {
        /// Those alone that end within this time, such as 24h or 7d, the next first
        #[arg(long, value_name = "TIME", value_parser = moment_in)]
        ending: Option<Timestamp>,
    },
    /// One order, and its history
    Show {
        /// Order id
        id: String,
    },
    /// Ends one order at once; the exit code is 1 if there is none of this id
    Revoke {
        /// Order id
        id: String,
        /// The reason, for the order book
        #[arg(long)]
        why: String,
    },
    /// Reads events in the native format: JSON Lines; `-` is standard input
    Import {
        /// Files
        #[arg(required = true)]
        file: Vec<PathBuf>,
    },
    /// Writes all orders that are not revoked in the native format
    Export,
}

/// Puts one order. Whatever has more fields is imported as a file.
#[derive(Args, Debug)]
pub(super) struct Add {
    /// Identity of the order
    #[arg(long)]
    id: String,
    /// Takes the place of another order of this id, or puts one in force again that was revoked
    #[arg(long)]
    replace: bool,
    /// Who ordered
    #[arg(long)]
    issuer: String,
    /// Legal basis
    #[arg(long)]
    basis: String,
    /// Public reference; goes out with answers
    #[arg(long, default_value = "")]
    reference: String,
    /// Date of the judgment or decision, such as 2025-03-28
    #[arg(long)]
    issued: Date,
    /// In force from this time on [default: now]
    #[arg(long, value_name = "TIME")]
    not_before: Option<Timestamp>,
    /// In force up to this time, or `none`
    #[arg(long, value_name = "TIME")]
    not_after: String,
    /// What is done, as PROTOCOL=ACTION, such as dns=nxdomain
    #[arg(long, value_name = "PROTOCOL=ACTION", required = true, value_delimiter = ',')]
    action: Vec<String>,
    /// Clients, by the configuration's scopes; `all` is every client
    #[arg(long, required = true, value_delimiter = ',')]
    scope: Vec<String>,
    /// How far each name reaches: exact, subtree, below
    #[arg(long = "match")]
    reach: String,
    /// Names that the order leaves out
    #[arg(long, value_delimiter = ',')]
    except: Vec<String>,
    /// IPv4 address for the action address
    #[arg(long)]
    a: Option<String>,
    /// IPv6 address for the action address
    #[arg(long)]
    aaaa: Option<String>,
    /// Target for the action redirect
    #[arg(long)]
    redirect: Option<String>,
    /// Names to stop
    #[arg(required = true)]
    name: Vec<String>,
}

impl Add {
    /// The event in the native format, so that the daemon checks it as it checks a file.
    fn event(&self) -> Result<Value> {
        let mut actions = Map::new();
        for action in &self.action {
            let Some((protocol, action)) = action.split_once('=') else {
                bail!("--action {action}: not PROTOCOL=ACTION");
            };
            if actions.insert(protocol.to_owned(), action.into()).is_some() {
                bail!("--action: two actions for {protocol}");
            }
        }
        let not_before = self.not_before.unwrap_or_else(Timestamp::now);
        let mut order = json!({
            "id": self.id, "issuer": self.issuer, "basis": self.basis, "reference": self.reference,
            "issued": self.issued, "not_before": not_before, "not_after": self.not_after,
            "protocols": actions.keys().collect::<Vec<_>>(), "actions": actions, "scopes": self.scope,
            "match": self.reach, "names": self.name, "except": self.except,
        });
        if self.a.is_some() || self.aaaa.is_some() {
            let given = [("a", &self.a), ("aaaa", &self.aaaa)];
            let address: Map<_, _> =
                given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?.into()))).collect();
            order["address"] = address.into();
        }
        if let Some(target) = &self.redirect {
            order["redirect"] = target.clone().into();
        }
        Ok(json!({ "op": "put", "order": order }))
    }

    fn run(&self, client: &Client) -> Result<Submitted> {
        let event = self.event()?;
        if !self.replace {
            match client.get::<OrderDetail>(&format!("/v1/orders/{}", escaped(&self.id))) {
                Ok(known) => self.refuse_to_replace(&known, &event)?,
                Err(ClientError::Refused { status: StatusCode::NOT_FOUND, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(client.post_raw("/v1/orders", event.to_string().into())?)
    }

    fn refuse_to_replace(&self, known: &OrderDetail, event: &Value) -> Result<()> {
        let id = &self.id;
        if known.state == OrderState::Revoked {
            bail!("order {id} was revoked; --replace puts it in force again");
        }
        if order_of(&json!({ "op": "put", "order": known.order })) != order_of(event) {
            bail!("another order {id} is there, see `cordon order show {id}`; --replace puts this one in its place");
        }
        Ok(())
    }
}

/// What an event puts, if it puts anything; the daemon says what is wrong with it.
fn order_of(event: &Value) -> Option<crate::order::Order> {
    let context = Context { scopes: None, targets: None, guards: Guards::none() };
    let read = native::read("", event.to_string().as_bytes(), &context).ok()?;
    read.entries.into_iter().find_map(|entry| match entry.event {
        Event::Put(order) => Some(order),
        _ => None,
    })
}

impl Order {
    pub fn run(self, global: &Global) -> Result<ExitCode> {
        let client = global.client()?;
        match self {
            Self::Add(add) => submitted(global, &add.run(&client)?),
            Self::Import { file } => {
                let mut code = ExitCode::SUCCESS;
                for file in file {
                    let done: Submitted = client.post_raw("/v1/orders", read(&file)?.into())?;
                    if submitted(global, &done)? != ExitCode::SUCCESS {
                        code = ExitCode::FAILURE;
                    }
                }
                Ok(code)
            }
            Self::Revoke { id, why } => {
                let path = format!("/v1/orders/{}?why={}", escaped(&id), escaped(&why));
                let done: Submitted = client.delete(&path)?;
                let code = submitted(global, &done)?;
                let is_unknown = done.outcomes.iter().any(|outcome| outcome.what == "revoked_unknown");
                Ok(if is_unknown { ExitCode::FAILURE } else { code })
            }
            Self::List { ending } => {
                let mut orders: Vec<OrderSummary> = client.get("/v1/orders")?;
                if let Some(until) = ending {
                    keep_ending(&mut orders, Timestamp::now(), until);
                }
                global.output.print(&orders, |orders| list_text(orders))?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Show { id } => {
                let order: OrderDetail = client.get(&format!("/v1/orders/{}", escaped(&id)))?;
                global.output.print(&order, detail_text)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Export => {
                io::stdout().lock().write_all(&client.get_raw("/v1/export")?)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// The moment after a time from now on.
fn moment_in(time: &str) -> Result<Timestamp, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{why}; a time is 30m, 24h, 7d or 2w, for example");
    let span: Span = time.parse().map_err(|error: jiff::Error| wrong(&error))?;
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    let until = now.checked_add(span).map_err(|error| wrong(&error))?;
    if until <= now { Err(wrong(&"it is not in the future")) } else { Ok(until.timestamp()) }
}

/// Leaves those that end from now on, up to a moment, in the order of their ends.
fn keep_ending(orders: &mut Vec<OrderSummary>, now: Timestamp, until: Timestamp) {
    orders.retain(|order| order.not_after.is_some_and(|end| now < end && end <= until));
    orders.sort_by_key(|order| order.not_after);
}

fn read(file: &PathBuf) -> Result<Vec<u8>> {
    if file.as_os_str() == "-" {
        let mut lines = Vec::new();
        io::stdin().lock().read_to_end(&mut lines).context("standard input")?;
        return Ok(lines);
    }
    fs::read(file).with_context(|| file.display().to_string())
}

pub(super) fn submitted(global: &Global, done: &Submitted) -> Result<ExitCode> {
    global.output.print(done, |done| {
        let mut text = String::new();
        for outcome in &done.outcomes {
            text.push_str(&format!("{}: {}\n", outcome.order, outcome.what.replace('_', " ")));
        }
        for refusal in &done.refusals {
            text.push_str(&format!("refused: {refusal}\n"));
        }
        text.extend(done.held.iter().map(held_line));
        for problem in &done.problems {
            text.push_str(&format!("problem: {problem}\n"));
        }
        text
    })?;
    let is_done = done.refusals.is_empty() && done.problems.is_empty() && done.held.is_empty();
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list_text(orders: &[OrderSummary]) -> String {
    let header = ["order", "state", "from", "to", "names", "scopes", "actions", "issuer"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for order in orders {
        let actions: Vec<String> =
            order.actions.iter().map(|(protocol, action)| format!("{protocol}={action}")).collect();
        rows.push(vec![
            order.id.clone(),
            match (&order.problem, order.state) {
                (Some(_), OrderState::InForce) => "NOT ENFORCED".to_owned(),
                (Some(_), state) => format!("{}, PROBLEM", state.word()),
                (None, state) => state.word().to_owned(),
            },
            format!("{:.0}", order.not_before),
            order.not_after.map_or("no end".to_owned(), |end| format!("{end:.0}")),
            order.names.to_string(),
            order.scopes.join(","),
            actions.join(","),
            order.issuer.clone(),
        ]);
    }
    let mut text = table(&rows);
    for problem in orders.iter().filter_map(|order| order.problem.as_ref()) {
        text.push_str(&format!("\n{problem}"));
    }
    text
}

fn detail_text(detail: &OrderDetail) -> String {
    let order = serde_json::to_string_pretty(&detail.order).unwrap_or_default();
    let mut text = format!("{order}\n\nstate     {}\nput by    {}\n", detail.state.word(), detail.source);
    text.push_str(&format!("received  {:.0}\n", detail.received));
    if let Some(revoked) = detail.revoked {
        text.push_str(&format!("revoked   {revoked:.0}\n"));
    }
    if !detail.parts.is_empty() {
        let mut rows = vec![["part", "state", "names", "left out", "match", "actions"].map(str::to_owned).to_vec()];
        for part in &detail.parts {
            let actions = part.actions.iter().map(|(protocol, action)| format!("{protocol}={action}"));
            rows.push(vec![
                part.id.clone(),
                part.state.word().to_owned(),
                part.names.to_string(),
                part.except.to_string(),
                part.reach.clone(),
                actions.collect::<Vec<_>>().join(","),
            ]);
        }
        text.push('\n');
        text.push_str(&table(&rows));
    }
    text.push('\n');
    let mut rows = vec![["entry", "time", "event", "source", "what"].map(str::to_owned).to_vec()];
    for entry in &detail.history {
        let source = if entry.line > 0 { format!("{}:{}", entry.source, entry.line) } else { entry.source.clone() };
        let time = format!("{:.0}", entry.time);
        let what = match &entry.part {
            Some(part) => format!("{part} {}", entry.detail),
            None => entry.detail.to_string(),
        };
        rows.push(vec![entry.number.to_string(), time, entry.op.clone(), source, what]);
    }
    text.push_str(&table(&rows));
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        add: Add,
    }

    fn add(words: &str) -> Result<Add, clap::Error> {
        let always = "add --id o --issuer Court --basis Law --issued 2025-03-28 --not-before 2025-04-01T00:00:00Z";
        let line = format!("{always} --not-after none {words}");
        Line::try_parse_from(line.split(' ')).map(|line| line.add)
    }

    #[test]
    fn how_far_an_order_reaches_is_said_not_guessed() {
        for (words, missing) in [
            ("--action dns=drop --match subtree a.example", "--scope <SCOPE>"),
            ("--action dns=drop --scope all a.example", "--match <REACH>"),
        ] {
            let error = add(words).unwrap_err().to_string();
            assert!(error.contains("required arguments were not provided") && error.contains(missing), "{error}");
        }
        let twice = add("--action dns=drop,dns=nxdomain --scope all --match exact a.example").unwrap();
        assert_eq!(twice.event().unwrap_err().to_string(), "--action: two actions for dns");
    }

    #[test]
    fn an_order_without_an_end_says_so() {
        let line =
            "add --id o --issuer Court --basis Law --issued 2025-03-28 --action dns=drop --scope all --match exact a.x";
        let error = Line::try_parse_from(line.split(' ')).unwrap_err().to_string();
        assert!(
            error.contains("required arguments were not provided") && error.contains("--not-after <TIME>"),
            "{error}"
        );
        let line = line.replace("add ", "add --not-after none ");
        let event = Line::try_parse_from(line.split(' ')).unwrap().add.event().unwrap();
        assert_eq!(event["order"]["not_after"], "none");
    }

    #[test]
    fn orders_that_end_soon_come_in_the_order_of_their_ends() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let order = |id: &str, end: Option<&str>| OrderSummary {
            id: id.to_owned(),
            part_of: None,
            issuer: String::new(),
            reference: String::new(),
            state: OrderState::InForce,
            enforced: true,
            not_before: Timestamp::UNIX_EPOCH,
            not_after: end.map(time),
            actions: std::collections::BTreeMap::new(),
            scopes: Vec::new(),
            names: 1,
            problem: None,
        };
        let mut orders = vec![
            order("never", None),
            order("last", Some("2026-01-02T00:00:00Z")),
            order("later", Some("2026-01-02T00:00:01Z")),
            order("first", Some("2026-01-01T00:00:01Z")),
            order("over", Some("2026-01-01T00:00:00Z")),
        ];
        keep_ending(&mut orders, time("2026-01-01T00:00:00Z"), time("2026-01-02T00:00:00Z"));
        assert_eq!(orders.iter().map(|order| order.id.as_str()).collect::<Vec<_>>(), ["first", "last"]);
        let before = Timestamp::now();
        for (text, hours) in [("24h", 24), ("7d", 168), ("2w", 336), ("90m", 1)] {
            let passed = moment_in(text).unwrap().duration_since(before);
            assert_eq!(passed.as_hours(), hours, "{text}");
        }
        for wrong in ["", "24", "soon", "-1h", "0s"] {
            let error = moment_in(wrong).unwrap_err();
            assert!(error.ends_with("; a time is 30m, 24h, 7d or 2w, for example"), "{error}");
        }
    }

    #[test]
    fn another_order_is_replaced_only_when_told() {
        let words = "--action dns=drop --scope all --match exact";
        let put = add(&format!("{words} A.example b.example")).unwrap();
        let mut event = put.event().unwrap();
        let mut known = OrderDetail {
            order: event["order"].take(),
            state: OrderState::InForce,
            source: "cli".to_owned(),
            received: Timestamp::UNIX_EPOCH,
            revoked: None,
            history: Vec::new(),
            parts: Vec::new(),
        };
        let same = add(&format!("{words} b.example a.example")).unwrap();
        same.refuse_to_replace(&known, &same.event().unwrap()).unwrap();
        let other = add(&format!("{words} b.example")).unwrap();
        let error = other.refuse_to_replace(&known, &other.event().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("another order o is there"), "{error}");
        known.state = OrderState::Revoked;
        let error = same.refuse_to_replace(&known, &same.event().unwrap()).unwrap_err().to_string();
        assert_eq!(error, "order o was revoked; --replace puts it in force again");
    }
}
