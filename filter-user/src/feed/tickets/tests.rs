//! Against a platform on loopback, with a real order book; what the book has counts as enforced.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use self::platform::Server;
use super::*;
use crate::{
    book::{Book, ItemKind, Stored},
    feed::{
        Context, Entry, Event,
        file::{Files, Which},
        input::{Input, Kind},
        native,
    },
    guard::{Policy, Protected},
    order::json::RawOrder,
};

mod hostile;
mod life;
mod platform;

/// A platform, and a poller with its order book.
struct Lab {
    folder: TempDir,
    server: Server,
    platform: Platform,
    policy: Policy,
    book: Arc<Mutex<Book>>,
    /// What the book has is enforced.
    enforces: Arc<AtomicBool>,
    /// The kernel stops whatever it was ever asked to.
    is_late: Arc<AtomicBool>,
    /// Orders that have ended past the ledger.
    ended: Arc<Mutex<Vec<String>>>,
    /// What the history is told: the word, and the rest.
    noted: Arc<Mutex<Vec<(&'static str, Value)>>>,
    /// What was approved of the allow list.
    approved: Arc<Mutex<Option<String>>>,
    poller: Option<Poller>,
}

impl Lab {
    async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    async fn with(change: impl FnOnce(&mut Platform, &mut Policy)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start().await;
        std::fs::write(folder.path().join("user"), "isp@example.org\n").unwrap();
        std::fs::write(folder.path().join("password"), "pass word\n").unwrap();
        let mut raw: RawOrder = serde_json::from_value(json!({
            "id": "shield:", "issuer": "AGCOM", "basis": "Law 93/2023", "reference": "AGCOM {ticket}",
            "issued": "2024-02-01", "not_before": "2024-02-01T00:00:00Z", "not_after": "none",
            "protocols": ["dns"], "actions": {"dns": "nxdomain"}, "scopes": ["all"], "match": "subtree",
        }))
        .unwrap();
        raw.names = None;
        let mut platform = Platform {
            terms: Arc::new(raw.terms().unwrap()),
            except: BTreeSet::new(),
            user: folder.path().join("user"),
            password: folder.path().join("password"),
            paths: Paths::default(),
            fields: Fields::default(),
            states: TicketState::default_words(),
            reasons: Reason::default_words(),
            enforces_pending: false,
            absent_is_over: false,
            at_once: 4,
        };
        let mut policy = Policy { feed: "shield".to_owned(), is_new_growth: true, ..Policy::default() };
        change(&mut platform, &mut policy);
        let book = Arc::new(Mutex::new(Book::open(&folder.path().join("book")).unwrap()));
        book.lock().unwrap().set_patience(Duration::ZERO);
        let (enforces, is_late) = (Arc::new(AtomicBool::new(true)), Arc::default());
        let (ended, noted) = (Arc::default(), Arc::default());
        let approved = Arc::default();
        let mut lab =
            Self { folder, server, platform, policy, book, enforces, is_late, ended, noted, approved, poller: None };
        lab.restart();
        lab
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("feeds/shield.tickets.jsonl")
    }

    fn guards(&self) -> Guards {
        Guards::new(Protected::shipped(), vec![(self.path(), self.policy.clone())])
    }

    /// As a start of the daemon: nothing but the files is known.
    fn restart(&mut self) {
        self.book.lock().unwrap().set_guards(self.guards());
        let seconds = Duration::from_secs;
        let remote = Remote {
            url: self.server.url.parse().unwrap(),
            interval: seconds(60),
            jitter: 0,
            long_poll: None,
            connect_timeout: seconds(30),
            stall_timeout: seconds(30),
            timeout: seconds(60),
            max_size: 1 << 20,
            max_unpacked: 1 << 20,
            ca: None,
            certificate: None,
            token: None,
            incremental: false,
        };
        let task = Task {
            feed: "shield".to_owned(),
            remote,
            platform: Arc::new(self.platform.clone()),
            path: self.path(),
            guards: self.guards(),
        };
        let input = Input { path: self.path(), kind: Kind::Native, seal: None, is_fetched: true, transferred: None };
        let files = Files::new(vec![input]);
        let context = Context { scopes: None, targets: None, guards: self.guards() };
        let (book, enforces, ended) = (self.book.clone(), self.enforces.clone(), self.ended.clone());
        let (is_late, noted) = (self.is_late.clone(), self.noted.clone());
        let tell: Tell = Arc::new(move |told| {
            let mut book = book.lock().unwrap();
            match told {
                Told::Read(Fetched::File(path)) => {
                    let applied = files.sync(&mut book, &context, &Which::Only([path].into())).unwrap();
                    assert_eq!(applied.refusals, []);
                }
                Told::Read(Fetched::Events { path, lines }) => {
                    let source = path.to_string_lossy();
                    let read = native::read_log(&source, &lines[..], &context).unwrap();
                    assert_eq!(read.refusals, []);
                    assert_eq!(book.apply(&source, read.entries).unwrap().refusals, []);
                    let applied = files.sync(&mut book, &context, &Which::Only([path.clone()].into())).unwrap();
                    assert_eq!(applied.refusals, []);
                }
                Told::Read(Fetched::Later) => {
                    files.sync(&mut book, &context, &Which::Only(BTreeSet::new())).unwrap();
                }
                Told::Read(Fetched::Record { what, .. }) => noted.lock().unwrap().push(("fetch", what)),
                Told::Answered { what, .. } => noted.lock().unwrap().push(("answer", what)),
                Told::Read(Fetched::Unwritten { .. } | Fetched::Zone { .. }) => {}
                Told::Ask(asked, reply) => {
                    let mut standings = standings(&book, &asked, &enforces);
                    if is_late.load(Ordering::Relaxed) {
                        standings.values_mut().for_each(|standing| *standing = Standing::Enforced { also: Vec::new() });
                    }
                    drop(reply.send(standings));
                }
                Told::End { orders, .. } => *ended.lock().unwrap() = orders.into_iter().collect(),
            }
        });
        self.poller = Some(Poller::new(task, tell, self.approved.clone()));
    }

    async fn poll(&mut self) -> Result<Done, Failure> {
        self.poller.as_mut().unwrap().poll().await
    }

    /// Asks once, and all is well.
    async fn poll_well(&mut self) {
        let done = self.poll().await.unwrap();
        assert_eq!((done.problems, done.is_cut_short), (Vec::<String>::new(), false));
    }

    /// Asks once; gives what is wrong, be it all or a part.
    async fn poll_ill(&mut self) -> String {
        match self.poll().await {
            Ok(done) => done.problems.join("; "),
            Err(failure) => failure.to_string(),
        }
    }

    fn set(&self, tickets: impl IntoIterator<Item = Value>) {
        self.server.shared.lock().tickets = tickets.into_iter().collect();
    }

    /// What the platform was answered since the last time: ticket, item, and `processed` or the reason.
    fn answers(&self) -> Vec<(String, String, String)> {
        let mut answers: Vec<_> = self.answers_with_texts().into_iter().map(|(t, i, what, _)| (t, i, what)).collect();
        answers.sort();
        answers
    }

    fn answers_with_texts(&self) -> Vec<(String, String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let answer = |answer: Value| {
            let is_processed = answer["path"] == "processed";
            assert_eq!(is_processed, answer.get("reason").is_none(), "{answer}");
            let what = if is_processed { "processed".to_owned() } else { text(&answer["reason"]) };
            (text(&answer["ticket_id"]), text(&answer["value"]), what, text(&answer["note"]))
        };
        self.server.shared.lock().answers.drain(..).map(answer).collect()
    }

    /// What is stopped: order, and names.
    fn orders(&self) -> Vec<(String, Vec<String>)> {
        let names = |stored: &Stored| stored.order.names.iter().map(|name| name.as_str().to_owned()).collect();
        let orders = self.book.lock().unwrap().load().unwrap();
        orders.iter().map(|stored| (stored.order.terms.id.clone(), names(stored))).collect()
    }

    fn order(&self, id: &str) -> Stored {
        self.book.lock().unwrap().order(id).unwrap().unwrap()
    }
}

fn standings(book: &Book, asked: &[Asked], enforces: &AtomicBool) -> Standings {
    let stored = book.load().unwrap();
    let held = book.held(usize::MAX).unwrap();
    let mut standings = Standings::new();
    for Asked { order, names } in asked {
        for name in names {
            let has = |stored: &&Stored| stored.order.names.contains(name);
            let of: Vec<String> = stored.iter().filter(has).map(|stored| stored.order.terms.id.clone()).collect();
            let is_item = |item: &crate::book::Item| item.kind == ItemKind::Added && item.name == name.as_str();
            let held = held.iter().find(|held| held.order == *order && held.items.iter().any(is_item));
            let standing = if book.revoked(order).unwrap() {
                Standing::Revoked
            } else if let Some(held) = held {
                Standing::Held(held.guard, held.why.clone())
            } else if of.contains(order) && enforces.load(Ordering::Relaxed) {
                Standing::Enforced { also: of.into_iter().filter(|id| id != order).collect() }
            } else {
                Standing::Waits
            };
            standings.insert((order.clone(), name.clone()), standing);
        }
    }
    standings
}

fn ticket(id: &str, status: &str, names: &[&str]) -> Value {
    json!({"ticket_id": id, "status": status, "fqdn": names, "ipv4": [], "ipv6": []})
}

fn told(answers: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    answers.iter().map(|(t, i, what)| ((*t).to_owned(), (*i).to_owned(), (*what).to_owned())).collect()
}

fn stopped(orders: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    orders.iter().map(|(id, list)| ((*id).to_owned(), names(list))).collect()
}
