//! What the platform is answered about each item: that it is enforced, once the kernel has it, or why it is not.
//!
//! What is to be answered is compared with what was answered last. So whatever was cut short is done at the next
//! question, and what was told is not told again, but where the daemon was killed between the platform's receipt and
//! the ledger.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use serde_json::{Map, Value};
use tokio::task::JoinSet;

use super::{
    Asked, Standing,
    ledger::{Given, Ledger, Ticket},
    orders::{Fate, Judge},
    platform::{Platform, Reason, State},
    session::{Post, Session, is_unauthorised},
};
use crate::{feed::http::Failure, guard::Guard, name::Name};

/// What an item is answered that is enforced.
pub(super) const PROCESSED: &str = "processed";

/// Items without an answer, or with one that is true no longer.
#[derive(Default)]
pub(super) struct Open {
    /// Those whose answer the order book and the kernel have, by order.
    asked: BTreeMap<String, BTreeSet<Name>>,
    /// What is answered, if they say that this name is enforced.
    items: Vec<(Option<Name>, Given)>,
}

/// What came of a round of answers.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The platform did not take these, and why.
    pub(super) refused: Vec<String>,
    /// Some are left for the next round.
    pub(super) is_cut_short: bool,
    /// Why it ended early.
    pub(super) failure: Option<Failure>,
}

/// Which items are open.
pub(super) fn open(ledger: &Ledger, judge: &Judge<'_>) -> Open {
    let mut open = Open::default();
    for (id, ticket) in ledger.tickets().iter().filter(|(_, ticket)| takes_answers(ticket, judge.platform)) {
        let of_ticket = ticket.items.iter().filter(|(_, entry)| !entry.is_gone && !entry.is_revoked);
        for (item, entry) in of_ticket {
            let given = |answer, why| Given { ticket: id.clone(), item: item.clone(), answer, why };
            match judge.fate(item) {
                Fate::Not(reason, _) if entry.answer.as_deref() == Some(reason.word()) => {}
                Fate::Not(reason, why) => open.items.push((None, given(reason.word(), why))),
                // Both say that it is stopped; by which order may change.
                Fate::Ordered(_) if matches!(entry.answer.as_deref(), Some(PROCESSED | ALREADY_BLOCKED)) => {}
                Fate::Ordered(name) => {
                    open.asked.entry(judge.platform.order_id(id)).or_default().insert(name.clone());
                    open.items.push((Some(name), given(PROCESSED, String::new())));
                }
            }
        }
    }
    open
}

/// Whether the platform waits for answers about a ticket.
fn takes_answers(ticket: &Ticket, platform: &Platform) -> bool {
    ticket.is_in_force(platform) && ticket.state != State::Closed
}

impl Open {
    /// What the order book and the kernel are to be asked, in parts: the kernel's thread has other work, too.
    pub(super) fn asked(&self) -> Vec<Vec<Asked>> {
        let all: Vec<(&String, &Name)> =
            self.asked.iter().flat_map(|(order, names)| names.iter().map(move |name| (order, name))).collect();
        let part = |part: &[(&String, &Name)]| {
            let of_one = part.chunk_by(|(one, _), (next, _)| one == next);
            let asked = of_one.map(|names| Asked {
                order: names.first().map_or_else(String::new, |(order, _)| (*order).clone()),
                names: names.iter().map(|(_, name)| (*name).clone()).collect(),
            });
            asked.collect()
        };
        all.chunks(ASKED_AT_ONCE).map(part).collect()
    }

    /// What is to be answered, by what they say. What neither is enforced nor has a reason waits.
    pub(super) fn answers(
        self,
        standing: &HashMap<(String, Name), Standing>,
        ledger: &Ledger,
        platform: &Platform,
    ) -> Vec<Given> {
        let answer = |(name, given): (Option<Name>, Given)| {
            let Some(name) = name else { return Some(given) };
            let ticket = ledger.tickets().get(&given.ticket)?;
            let (reason, why) = match standing.get(&(platform.order_id(&given.ticket), name))? {
                Standing::Waits | Standing::Held(Guard::Window, _) => return None,
                Standing::Enforced { also } => {
                    let is_earlier = |order: &&String| match ticket_of(order, platform) {
                        Some(other) => ledger.tickets().get(other).is_some_and(|other| other.number < ticket.number),
                        None => true,
                    };
                    let Some(order) = also.iter().find(is_earlier) else { return Some(given) };
                    (Reason::AlreadyBlocked, format!("order {order} has it"))
                }
                Standing::Allowed => (Reason::AllowListed, "the provider's allow list has it".to_owned()),
                Standing::Held(_, why) => (Reason::Guard, why.clone()),
                Standing::Revoked => (Reason::Withdrawn, "the provider has revoked the order".to_owned()),
            };
            let known = ticket.items.get(&given.item)?.answer.as_deref();
            (known != Some(reason.word())).then(|| Given { answer: reason.word(), why, ..given })
        };
        self.items.into_iter().filter_map(answer).collect()
    }
}

/// The ticket whose order it is, if it is one of this platform's.
fn ticket_of<'o>(order: &'o str, platform: &Platform) -> Option<&'o str> {
    order.strip_prefix(platform.terms.id.as_str())
}

/// Sends answers, several at once, until a time. `taken` is told of those that the platform has, and fails if they
/// cannot be noted; then no more are sent.
pub(super) async fn send(
    session: &mut Session,
    platform: &Arc<Platform>,
    answers: Vec<Given>,
    until: Instant,
    mut taken: impl FnMut(&[Given]) -> Result<(), String>,
) -> Round {
    let mut round = Round::default();
    let mut is_renewed = false;
    let mut left = answers;
    while !left.is_empty() {
        if Instant::now() >= until {
            round.is_cut_short = true;
            return round;
        }
        let batch: Vec<Given> = left.drain(..left.len().min(BATCH)).collect();
        let results = match send_batch(session, platform, batch).await {
            Ok(results) => results,
            Err(failure) => return Round { failure: Some(failure), ..round },
        };
        let (mut given, mut again, mut failure) = (Vec::new(), Vec::new(), None);
        for (answer, result) in results {
            match result {
                Ok(()) => given.push(answer),
                Err(error) if is_unauthorised(&error) && !is_renewed => again.push(answer),
                Err(error) if is_refusal(&error) => {
                    round.refused.push(format!("ticket {}: {}: {error}", answer.ticket, answer.item.value));
                }
                Err(error) => failure = Some(error),
            }
        }
        if let Err(why) = taken(&given) {
            return Round { failure: Some(Failure::new(why)), ..round };
        }
        if let Some(failure) = failure {
            return Round { failure: Some(failure), ..round };
        }
        if !again.is_empty() {
            is_renewed = true;
            left.splice(0..0, again);
            if let Err(failure) = session.renew().await {
                return Round { failure: Some(failure), ..round };
            }
        }
    }
    round
}

async fn send_batch(
    session: &mut Session,
    platform: &Platform,
    batch: Vec<Given>,
) -> Result<Vec<(Given, Result<(), Failure>)>, Failure> {
    let mut waiting: Vec<(Given, Post)> = Vec::new();
    for given in batch {
        let path = if given.answer == PROCESSED { &platform.paths.processed } else { &platform.paths.unprocessed };
        let post = session.post(path, &body(platform, &given)).await?;
        waiting.push((given, post));
    }
    let (mut results, mut under_way) = (Vec::new(), JoinSet::new());
    let mut waiting = waiting.into_iter();
    loop {
        while under_way.len() < platform.at_once
            && let Some((given, post)) = waiting.next()
        {
            under_way.spawn(async move { (given, post.send().await) });
        }
        match under_way.join_next().await {
            None => return Ok(results),
            Some(Ok(result)) => results.push(result),
            Some(Err(error)) => return Err(Failure::new(error)),
        }
    }
}

fn body(platform: &Platform, given: &Given) -> Map<String, Value> {
    let fields = &platform.fields;
    let reason = Reason::ALL.into_iter().find(|reason| reason.word() == given.answer);
    let mut body = Map::new();
    let mut field = |name: &String, value: &str| {
        if !name.is_empty() {
            body.insert(name.clone(), value.into());
        }
    };
    field(&fields.answer_ticket, &given.ticket);
    field(&fields.answer_item, &given.item.value);
    if let Some(reason) = reason {
        field(&fields.answer_reason, platform.reasons.get(&reason).map_or(reason.word(), String::as_str));
        field(&fields.answer_text, &given.why);
    }
    body
}

/// Whether the platform has understood and does not take it: the next one may be taken.
fn is_refusal(failure: &Failure) -> bool {
    let waits = [408, 425, 429, 401, 403];
    failure.status.is_some_and(|status| status.is_client_error() && !waits.contains(&status.as_u16()))
}

/// What is noted at a time. What was noted last is all that may be answered twice.
const BATCH: usize = 64;

/// Names that are asked about at a time.
const ASKED_AT_ONCE: usize = 256;

const ALREADY_BLOCKED: &str = Reason::AlreadyBlocked.word();
