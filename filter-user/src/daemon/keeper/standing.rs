//! What the order book knows of names of orders; the engine then says what the kernel has.

use tokio::sync::oneshot;

use super::Keeper;
use crate::{
    book::{Book, BookError},
    daemon::engine::Message,
    feed::tickets::{Asked, Standing, Standings},
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
    let mut standings = Standings::new();
    for Asked { order, names } in asked {
        let is_revoked = book.revoked(order)?;
        for name in names {
            let standing = match book.held_name(order, name)? {
                _ if is_revoked => Standing::Revoked,
                Some((guard, why)) => Standing::Held(guard, why),
                None => Standing::Waits,
            };
            standings.insert((order.clone(), name.clone()), standing);
        }
    }
    Ok(standings)
}
