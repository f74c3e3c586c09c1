//! What the order book knows of names of orders; the engine then says what the kernel has.

use std::collections::{BTreeMap, HashMap};

use tokio::sync::oneshot;

use super::Keeper;
use crate::{
    book::{Book, BookError, ItemKind},
    daemon::engine::Message,
    feed::tickets::{Asked, Standing, Standings},
    guard::Guard,
};

impl Keeper {
    pub(super) fn standing(&self, asked: Vec<Asked>, reply: oneshot::Sender<Standings>) {
        match of_book(&self.book, &asked) {
            Ok(known) => self.tell(Message::Standing { asked, known, reply }),
            // Whoever asks gets no answer, and asks again.
            Err(error) => tracing::error!("what has become of tickets: {error}"),
        }
    }
}

/// Of names that the kernel does not stop: what the book has to say about that.
fn of_book(book: &Book, asked: &[Asked]) -> Result<Standings, BookError> {
    let mut held: HashMap<&str, BTreeMap<String, (Guard, String)>> = HashMap::new();
    let changes = book.held(usize::MAX)?;
    for change in &changes {
        let of_order = held.entry(change.order.as_str()).or_default();
        for item in change.items.iter().filter(|item| item.kind == ItemKind::Added) {
            let why = if item.why.is_empty() { &change.why } else { &item.why };
            let why = match &change.rejected {
                Some(_) => format!("{}; the provider has rejected it", why),
                None => why.clone(),
            };
            of_order.insert(item.name.clone(), (change.guard, why));
        }
    }
    let mut standings = Standings::new();
    for Asked { order, names } in asked {
        let is_revoked = book.revoked(order)?;
        let held = held.get(order.as_str());
        for name in names {
            let standing = match held.and_then(|held| held.get(name.as_str())) {
                _ if is_revoked => Standing::Revoked,
                Some((guard, why)) => Standing::Held(*guard, why.clone()),
                None => Standing::Waits,
            };
            standings.insert((order.clone(), name.clone()), standing);
        }
    }
    Ok(standings)
}
