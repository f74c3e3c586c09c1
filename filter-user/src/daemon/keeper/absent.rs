//! What files end while the book cannot be written: as with a book that can be, that an order is gone is believed at a
//! second look only, and an order that is back is enforced again.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::PoisonError,
    time::Instant,
};

use super::{CONTROL_SOURCE, Keeper, end_early};
use crate::{book::Applied, daemon::engine::Message, feed::Refusal, order::Order};

impl Keeper {
    /// Ends what files end.
    pub(super) fn end_what_files_end(&mut self) {
        let looked = Instant::now();
        let (Ok((orders, refusals, _)), Ok(stored)) = (self.files.orders(&self.context), self.book.load()) else {
            return;
        };
        let listed: HashSet<&str> = orders.iter().map(|order| order.terms.id.as_str()).collect();
        let mut by_source: BTreeMap<&str, Vec<&Order>> = BTreeMap::new();
        for stored in stored.iter().filter(|stored| stored.source != CONTROL_SOURCE) {
            by_source.entry(&stored.source).or_default().push(&stored.order);
        }
        let mut gone = BTreeSet::new();
        for (source, orders) in &by_source {
            let absent = self.absent_from(source, orders, &listed, &refusals);
            gone.extend(absent.iter().cloned());
            end_early(
                self.absences.look(&(*source).into(), &absent, looked).into_iter().collect(),
                &self.ended_early,
                &self.engine,
            );
        }
        let mut early = self.ended_early.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was revoked stays so.
        let is_revoked = |id: &String| self.unwritten.iter().any(|end| end.entry.event.order_id() == id);
        self.absent.extend(early.iter().filter(|id| gone.contains(*id) && !is_revoked(id)).cloned());
        let is_back = |id: &String| listed.contains(id.as_str()) && !is_revoked(id);
        let back: BTreeSet<String> = self.absent.iter().filter(|id| is_back(id)).cloned().collect();
        self.absent.retain(|id| !back.contains(id));
        let ended: Vec<String> = early.extract_if(.., |id| back.contains(&*id)).collect();
        drop(early);
        if !ended.is_empty() {
            tracing::warn!("files put these orders again: {}", ended.join(" "));
            self.noted.retain(|id| !back.contains(id));
            self.tell(Message::Applied { applied: Applied::default(), ended, reply: None });
            self.forget_ends();
        }
    }

    /// The orders that a source had put and lacks. As a reading of the file would have it, one that is empty or holds
    /// mistakes withdraws nothing, and what the book would hold is not ended past it.
    fn absent_from(
        &self,
        source: &str,
        orders: &[&Order],
        listed: &HashSet<&str>,
        refusals: &[Refusal],
    ) -> BTreeSet<String> {
        // That a zone has no names for one part of its order any more says that others may have them.
        let is_listed = |order: &Order| order.terms.part_of.is_some() || listed.contains(order.terms.id.as_str());
        let absent: BTreeSet<String> =
            orders.iter().filter(|order| !is_listed(order)).map(|order| order.terms.id.clone()).collect();
        let limit = self.context.guards.of(source).policy.shrink;
        let is_held = limit.is_some_and(|limit| limit.is_exceeded(absent.len() as u64, orders.len() as u64));
        let is_whole = || {
            std::fs::read_to_string(source).is_ok_and(|text| !text.trim().is_empty())
                && refusals.iter().all(|refusal| *refusal.file != *source)
        };
        if absent.is_empty() || is_held || !is_whole() { BTreeSet::new() } else { absent }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::mpsc};

    use super::*;
    use crate::{
        book::{Book, PATIENCE},
        config::Config,
        daemon::{
            ends::Ends,
            keeper::{States, Which, tests::put_line},
        },
    };

    /// A keeper with a file of orders, whose book cannot be written.
    struct Lab {
        folder: tempfile::TempDir,
        keeper: Keeper,
        told: mpsc::Receiver<Message>,
    }

    impl Lab {
        fn new(ids: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("orders.jsonl");
            let text = format!(
                "[daemon]\nstate_dir = \"{}\"\n[[feed]]\nname = \"f\"\nkind = \"native\"\npath = \"{}\"\n",
                folder.path().display(),
                file.display()
            );
            let config = Config::parse(&text, Path::new("cordon.toml")).unwrap();
            let (ends, _) = Ends::open(folder.path(), &folder.path().join("run"));
            let (engine, told) = mpsc::channel();
            let book = Book::open(folder.path()).unwrap();
            let mut lab = Self { keeper: Keeper::new(book, &config, engine, States::default(), ends), told, folder };
            lab.write(ids);
            lab.keeper.sync(&Which::All);
            lab.keeper.book.set_full(true);
            assert_eq!(lab.told(), [""; 0]);
            lab
        }

        fn write(&self, ids: &[&str]) {
            let lines: String = ids.iter().map(|id| put_line(id) + "\n").collect();
            std::fs::write(self.folder.path().join("orders.jsonl"), lines).unwrap();
        }

        fn look(&mut self, ids: &[&str]) -> Vec<String> {
            self.write(ids);
            self.keeper.sync(&Which::All);
            self.told()
        }

        fn told(&self) -> Vec<String> {
            let message = |message| match message {
                Message::End(ids) => Some(format!("end {}", ids.join(" "))),
                Message::Applied { ended, .. } if !ended.is_empty() => Some(format!("restore {}", ended.join(" "))),
                _ => None,
            };
            self.told.try_iter().filter_map(message).collect()
        }

        fn noted(&self) -> Vec<String> {
            let noted = Ends::open(self.folder.path(), &self.folder.path().join("run")).1;
            noted.into_iter().map(|end| end.order).collect()
        }
    }

    fn none() -> [String; 0] {
        []
    }

    #[test]
    fn f4_with_a_full_disk_too_an_order_ends_at_the_second_look_that_lacks_it() {
        let mut lab = Lab::new(&["a", "b", "c"]);
        assert_eq!(lab.look(&["a", "b"]), none());
        // It was written in place, or the order moved to another file.
        assert_eq!(lab.look(&["a", "b", "c"]), none());
        std::thread::sleep(PATIENCE);
        assert_eq!((lab.look(&["a", "b"]), lab.noted()), (Vec::new(), Vec::new()), "its first look is over");
        std::thread::sleep(PATIENCE);
        assert_eq!((lab.look(&["a", "b"]), lab.noted()), (vec!["end c".to_owned()], vec!["c".to_owned()]));
        assert_eq!(lab.look(&["a", "b"]), none());
        // Back, it is enforced again, and no restart ends it.
        assert_eq!((lab.look(&["a", "b", "c"]), lab.noted()), (vec!["restore c".to_owned()], Vec::new()));
        assert_eq!(lab.look(&["a", "b", "c"]), none());
        // With room again, what is gone then ends at a second look as well.
        lab.keeper.book.set_full(false);
        assert_eq!(lab.look(&["a", "b"]), none());
        assert_eq!(lab.keeper.book.load().unwrap().len(), 3);
    }

    #[test]
    fn f4_an_order_that_was_revoked_does_not_come_back_with_its_file() {
        let mut lab = Lab::new(&["a", "b"]);
        lab.look(&["a"]);
        std::thread::sleep(PATIENCE);
        assert_eq!(lab.look(&["a"]), ["end b"]);
        let revoke = crate::daemon::keeper::tests::entries(&["revoke b"]);
        lab.keeper.note_unwritten("cli", revoke, &serde_json::Value::Null).unwrap();
        assert_eq!(lab.look(&["a", "b"]), none());
        assert_eq!(lab.noted(), ["b", "b"]);
    }
}
