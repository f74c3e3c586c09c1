//! What the platform is answered about each item: that it is enforced, once the kernel has it, or why it is not.
//!
//! What is to be answered is compared with what was answered last. So whatever was cut short is done at the next
//! question, and what was told is not told again, but where the daemon was killed between the platform's receipt and
//! the ledger.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tokio::{task::JoinSet, time::timeout_at};

use super::{
    Asked, Standing,
    ledger::{Given, Ledger, Ticket},
    listing::Item,
    orders::{Fate, Judge},
    platform::{Platform, Reason, State},
    session::{Session, is_unauthorised},
};
use crate::{feed::http::Failure, guard::Guard, name::Name};

/// What an item is answered that is enforced.
pub(super) const PROCESSED: &str = "processed";

/// Items without an answer, or with one that may be true no longer.
#[derive(Default)]
pub(super) struct Open {
    /// Those whose answer the order book and the kernel have, by order.
    asked: BTreeMap<String, BTreeSet<Name>>,
    /// The same of those that were said to be stopped: is it true still?
    asked_again: BTreeMap<String, BTreeSet<Name>>,
    /// What is answered, if they say of this name that it is enforced; or that it is not, where that is answered.
    items: Vec<(Option<Name>, Given)>,
}

/// What is known of earlier rounds.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// The platform has taken these, and the ledger could not.
    unnoted: Vec<Given>,
    /// These could not be sent: others come first.
    failed: BTreeSet<(String, Item)>,
    /// Before this time the platform wants none.
    resume: Option<Instant>,
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
                // It may have been stopped, and be so still.
                Fate::Not(reason, why) => {
                    let name = Name::parse(&item.value).ok();
                    if let Some(name) = &name {
                        open.asked.entry(judge.platform.order_id(id)).or_default().insert(name.clone());
                    }
                    open.items.push((name, given(reason.word(), why)));
                }
                Fate::Ordered(name) => {
                    let is_told = matches!(entry.answer.as_deref(), Some(PROCESSED | ALREADY_BLOCKED));
                    let asked = if is_told { &mut open.asked_again } else { &mut open.asked };
                    asked.entry(judge.platform.order_id(id)).or_default().insert(name.clone());
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
        let asked = self.asked.iter().chain(&self.asked_again);
        let all: Vec<(&String, &Name)> =
            asked.flat_map(|(order, names)| names.iter().map(move |name| (order, name))).collect();
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
            let known = ticket.items.get(&given.item)?.answer.as_deref();
            let standing = standing.get(&(platform.order_id(&given.ticket), name))?;
            if given.answer != PROCESSED {
                return (!matches!(standing, Standing::Enforced { .. })).then_some(given);
            }
            let (reason, why) = match standing {
                Standing::Waits | Standing::Held(Guard::Window, _) => return None,
                // Both say that it is stopped; by which order may change.
                Standing::Enforced { .. } if matches!(known, Some(PROCESSED | ALREADY_BLOCKED)) => return None,
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
            (known != Some(reason.word())).then(|| Given { answer: reason.word(), why, ..given })
        };
        self.items.into_iter().filter_map(answer).collect()
    }
}

/// The ticket whose order it is, if it is one of this platform's.
fn ticket_of<'o>(order: &'o str, platform: &Platform) -> Option<&'o str> {
    order.strip_prefix(platform.terms.id.as_str())
}

impl Rounds {
    /// Has `taken` note what the platform has, if that failed before: else it would be told again.
    pub(super) fn note(&mut self, taken: impl FnOnce(&[Given]) -> Result<(), String>) -> Result<(), Failure> {
        if !self.unnoted.is_empty() {
            taken(&self.unnoted).map_err(Failure::new)?;
            self.unnoted.clear();
        }
        Ok(())
    }

    /// Sends answers, several at once, until a time. `taken` is told of those that the platform has, and fails if they
    /// cannot be noted; then no more are sent.
    pub(super) async fn send(
        &mut self,
        session: &mut Session,
        platform: &Platform,
        mut answers: Vec<Given>,
        until: Instant,
        mut taken: impl FnMut(&[Given]) -> Result<(), String>,
    ) -> Round {
        let mut round = Round::default();
        if self.resume.is_some_and(|resume| Instant::now() < resume) {
            let why = "the server wishes to be left alone for now";
            return Round { failure: (!answers.is_empty()).then(|| Failure::new(why)), ..round };
        }
        // One that always fails keeps no other waiting.
        answers.sort_by_key(|answer| self.failed.contains(&key(answer)));
        self.failed.clear();
        let mut is_renewed = false;
        let mut left = VecDeque::from(answers);
        while !left.is_empty() && round.failure.is_none() {
            if Instant::now() >= until {
                round.is_cut_short = true;
                return round;
            }
            let mut results = Vec::new();
            let sent = timeout_at(until.into(), send_batch(session, platform, &mut left, &mut results)).await;
            round.is_cut_short = sent.is_err();
            round.failure = sent.ok().and_then(Result::err);
            let (mut given, mut again) = (Vec::new(), Vec::new());
            for (answer, result) in results {
                match result {
                    Ok(()) => given.push(answer),
                    Err(error) if is_unauthorised(&error) && !is_renewed => again.push(answer),
                    Err(error) if is_refusal(&error) => {
                        round.refused.push(format!("ticket {}: {}: {error}", answer.ticket, answer.item.value));
                    }
                    Err(error) => {
                        _ = self.failed.insert(key(&answer));
                        self.resume = error.retry_after.map(|wait| Instant::now() + wait.min(LONGEST_WISH));
                        round.failure = Some(error);
                    }
                }
            }
            if let Err(why) = taken(&given) {
                self.unnoted = given;
                round.failure = Some(Failure::new(why));
            }
            if round.is_cut_short || round.failure.is_some() {
                return round;
            }
            if !again.is_empty() {
                is_renewed = true;
                again.into_iter().rev().for_each(|answer| left.push_front(answer));
                round.failure = session.renew().await.err();
            }
        }
        round
    }
}

fn key(answer: &Given) -> (String, Item) {
    (answer.ticket.clone(), answer.item.clone())
}

/// Sends the first answers that are left, but none after one that fails for no fault of its own.
async fn send_batch(
    session: &mut Session,
    platform: &Platform,
    left: &mut VecDeque<Given>,
    results: &mut Vec<(Given, Result<(), Failure>)>,
) -> Result<(), Failure> {
    let (mut under_way, mut room, mut failure) = (JoinSet::new(), BATCH, None);
    let mut is_well = true;
    loop {
        while is_well
            && under_way.len() < platform.at_once.min(room)
            && let Some(given) = left.pop_front()
        {
            let path = if given.answer == PROCESSED { &platform.paths.processed } else { &platform.paths.unprocessed };
            match session.post(path, &body(platform, &given)).await {
                Ok(post) => _ = under_way.spawn(async move { (given, post.send().await) }),
                Err(why) => (is_well, failure) = (false, Some(why)),
            }
        }
        match under_way.join_next().await {
            None => return failure.map_or(Ok(()), Err),
            Some(Ok((given, result))) => {
                room -= 1;
                is_well &= result.as_ref().err().is_none_or(is_refusal);
                results.push((given, result));
            }
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

/// Answers that the platform has, for the history.
pub(super) fn told(feed: &str, given: &[Given], platform: &Platform) -> Value {
    let answer = |Given { ticket, item, answer, why }: &Given| {
        let mut told = json!({
            "ticket": ticket, "order": platform.order_id(ticket), "item": item.value, "answer": answer,
        });
        if !why.is_empty() {
            told["why"] = why.as_str().into();
        }
        told
    };
    json!({"feed": feed, "answers": given.iter().map(answer).collect::<Vec<Value>>()})
}

/// Whether the platform has understood and does not take it: the next one may be taken.
fn is_refusal(failure: &Failure) -> bool {
    let waits = [408, 425, 429, 401, 403];
    failure.status.is_some_and(|status| status.is_client_error() && !waits.contains(&status.as_u16()))
}

/// What is noted at a time. What was noted last is all that may be answered twice.
const BATCH: usize = 64;

/// Longest time for which a platform can wish for no answers.
const LONGEST_WISH: Duration = Duration::from_secs(3600);

/// Names that are asked about at a time.
const ASKED_AT_ONCE: usize = 256;

const ALREADY_BLOCKED: &str = Reason::AlreadyBlocked.word();
