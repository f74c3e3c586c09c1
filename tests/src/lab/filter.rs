//! The filter under test: `cordon run` on the border host, and the command line that tells about it.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use filter_common::verdict::Action;
use filter_user::control::{api::Submitted, client::Client};
use serde_json::{Value, json};

use super::{ACCESS_INTERFACE, DPI_INTERFACE, Finished, Host, Lab, Process, address, eventually, process};

/// A daemon with its own configuration, orders, state, socket and pins, all in the lab's folder.
pub struct Filter<'a> {
    lab: &'a Lab,
    program: PathBuf,
    daemon: Option<Process>,
    /// How many it was started with.
    orders: u64,
}

/// Packets by reason.
pub type Counters = BTreeMap<String, u64>;

/// Reasons that concern no name: address resolution, openings, acknowledgements and data of connections that are open anyway.
const BACKGROUND: [&str; 5] = ["not_ip", "not_watched", "no_payload", "tcp_syn", "tls_not_hello"];

/// Longest that a start of the daemon, or a change of an order file, may take to have its effect.
const PATIENCE: Duration = Duration::from_secs(30);

const CONFIGURATION: &str = "cordon.toml";
const ORDERS: &str = "orders";
const ORDERS_FILE: &str = "orders.jsonl";

impl<'a> Filter<'a> {
    /// Writes configuration and orders (a line each), starts the daemon and waits until it enforces.
    ///
    /// # Errors
    /// `cordon` was not built, or the daemon does not come up; its log is part of the error.
    pub fn start(lab: &'a Lab, orders: &[Value]) -> Result<Self> {
        let mut filter = Self::prepare(lab, orders)?;
        filter.run()?;
        Ok(filter)
    }

    /// As [`Filter::start`], with further configuration.
    ///
    /// # Errors
    /// As [`Filter::start`].
    pub fn start_with(lab: &'a Lab, orders: &[Value], further: &str) -> Result<Self> {
        let mut filter = Self::prepare(lab, orders)?;
        filter.configure(further)?;
        filter.run()?;
        Ok(filter)
    }

    /// As [`Filter::start`], but does not start the daemon yet.
    ///
    /// # Errors
    /// `cordon` was not built.
    pub fn prepare(lab: &'a Lab, orders: &[Value]) -> Result<Self> {
        let filter = Self { lab, program: beside("cordon")?, daemon: None, orders: orders.len() as u64 };
        let folder = lab.folder();
        fs::create_dir(folder.join(ORDERS)).context(ORDERS)?;
        let [scope4, scope6] = address::SCOPE;
        let configuration = format!(
            r#"[daemon]
state_dir = "{0}/state"
socket = "{0}/cordon.sock"
pin_root = "{1}/cordon"

[[interface]]
name = "{ACCESS_INTERFACE}"

[scopes]
fr = ["{scope4}", "{scope6}"]

[targets.dpi]
interface = "{DPI_INTERFACE}"
next_hop = "{2}"

[[feed]]
name = "orders"
kind = "native"
path = "{0}/{ORDERS}"

[capacity]
names = 65536
"#,
            folder.display(),
            lab.bpffs().display(),
            address::DPI[0],
        );
        fs::write(folder.join(CONFIGURATION), configuration).context(CONFIGURATION)?;
        filter.write_orders(ORDERS_FILE, orders)?;
        Ok(filter)
    }

    /// Starts the daemon and waits until it enforces.
    ///
    /// # Errors
    /// It does not come up; its log is part of the error.
    pub fn run(&mut self) -> Result<()> {
        self.launch()?;
        self.is_up()
    }

    /// Starts the daemon, and waits for nothing.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch(&mut self) -> Result<()> {
        self.daemon = Some(Process::start(&mut self.command(&["run"]), self.lab.folder()).context("cordon run")?);
        Ok(())
    }

    /// Waits until the daemon enforces.
    ///
    /// # Errors
    /// As [`Filter::run`].
    pub fn is_up(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("no daemon")?;
        let up = eventually(PATIENCE, || {
            if let Err(error) = daemon.still_runs() {
                return Ok(Err(error));
            }
            // Its exit code is of no concern here: a test may start with something wrong.
            let finished = self.cordon(&["status", "--output", "json"])?;
            let status =
                serde_json::from_str(&finished.stdout).with_context(|| format!("cordon status: {finished}"))?;
            ensure!(self.enforces(&status), "not yet: {status}");
            Ok(Ok(()))
        });
        let log = daemon.log();
        self.daemon = Some(daemon);
        up.and_then(|up| up).with_context(|| format!("cordon run: {log}"))
    }

    /// Whether the filter is attached, its orders are in the kernel and its redirect target is ready.
    fn enforces(&self, status: &Value) -> bool {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let known =
            ["in_force", "not_enforced", "waiting", "ended"].map(|state| status["orders"][state].as_u64().unwrap_or(0));
        list(&status["interfaces"]).iter().any(|one| one["interface"] == ACCESS_INTERFACE && one["program"].is_u64())
            && list(&status["targets"]).iter().all(|target| target["problem"].is_null())
            && known.iter().sum::<u64>() >= self.orders
    }

    /// Sends the daemon a signal and waits for its end.
    ///
    /// # Errors
    /// There is no daemon, or it does not end.
    pub fn stop(&mut self, signal: i32) -> Result<ExitStatus> {
        self.daemon.take().context("no daemon")?.stop(signal)
    }

    /// Sends the daemon a signal.
    ///
    /// # Errors
    /// There is no daemon.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.daemon.as_ref().context("no daemon")?.signal(signal);
        Ok(())
    }

    /// Adds to the configuration, and has the daemon read it again.
    ///
    /// # Errors
    /// There is no daemon, or the file cannot be written.
    pub fn reconfigure(&self, further: &str) -> Result<()> {
        self.configure(further)?;
        self.signal(libc::SIGHUP)
    }

    /// Adds to the configuration.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn configure(&self, further: &str) -> Result<()> {
        let path = self.lab.folder().join(CONFIGURATION);
        let mut configuration = fs::read_to_string(&path).context(CONFIGURATION)?;
        configuration.push_str(further);
        fs::write(&path, configuration).context(CONFIGURATION)
    }

    /// The folder of the order book.
    pub fn state(&self) -> PathBuf {
        self.lab.folder().join("state")
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Writes an order file, in one step as far as readers can tell.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_orders(&self, file: &str, orders: &[Value]) -> Result<()> {
        let lines: String = orders.iter().map(|order| format!("{order}\n")).collect();
        let path = self.lab.folder().join(ORDERS).join(file);
        let draft = path.with_extension("draft");
        fs::write(&draft, lines).and_then(|()| fs::rename(&draft, &path)).with_context(|| path.display().to_string())
    }

    /// The file with the orders that the daemon was started with.
    pub fn orders_file(&self) -> PathBuf {
        self.lab.folder().join(ORDERS).join(ORDERS_FILE)
    }

    /// Runs `cordon` on the border host.
    ///
    /// # Errors
    /// It cannot be started or does not end.
    pub fn cordon(&self, words: &[&str]) -> Result<Finished> {
        process::finish(&mut self.command(words), PATIENCE)
    }

    /// Runs `cordon ... --output json` and reads what it prints.
    ///
    /// # Errors
    /// It fails, or prints something else.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        let finished = self.cordon(&[words, &["--output", "json"]].concat())?;
        ensure!(finished.success(), "cordon {}: {finished}", words.join(" "));
        serde_json::from_str(&finished.stdout).with_context(|| format!("cordon {}: {finished}", words.join(" ")))
    }

    /// The daemon's control socket.
    pub fn socket(&self) -> PathBuf {
        self.lab.folder().join("cordon.sock")
    }

    /// A client of it.
    pub fn control(&self) -> Client {
        Client::new(&self.socket()).with_patience(PATIENCE)
    }

    /// Has the daemon take events, a line each; what it answers is its acknowledgement.
    ///
    /// # Errors
    /// It refuses them all, or does not answer.
    pub fn submit(&self, events: &[Value]) -> Result<Submitted> {
        let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
        Ok(self.control().post_raw("/v1/orders", lines.into())?)
    }

    /// Packets by reason, without the reasons that concern no name.
    ///
    /// # Errors
    /// `cordon stats` fails.
    pub fn counters(&self) -> Result<Counters> {
        let stats = self.json(&["stats"])?;
        let reasons = stats["reasons"].as_array().context("stats: no reasons")?;
        let counter = |reason: &Value| Some((reason["reason"].as_str()?.to_owned(), reason["packets"].as_u64()?));
        let counters: Option<Counters> = reasons.iter().map(counter).collect();
        let mut counters = counters.with_context(|| format!("stats: {stats}"))?;
        counters.retain(|reason, packets| *packets > 0 && !BACKGROUND.contains(&reason.as_str()));
        Ok(counters)
    }

    /// What the counters gain while something is done.
    ///
    /// # Errors
    /// `cordon stats` fails, or what is done.
    pub fn counting<T>(&self, action: impl FnOnce() -> Result<T>) -> Result<(T, Counters)> {
        let before = self.counters()?;
        let result = action()?;
        let mut gained = self.counters()?;
        for (reason, packets) in before {
            gained.entry(reason).and_modify(|now| *now = now.saturating_sub(packets));
        }
        gained.retain(|_, packets| *packets > 0);
        Ok((result, gained))
    }

    /// What `cordon explain` says about a name, a client and a protocol.
    ///
    /// # Errors
    /// It fails, or orders and kernel disagree.
    pub fn explain(&self, name: &str, client: &str, protocol: &str) -> Result<Value> {
        let explanation = self.json(&["explain", name, "--client", client])?;
        ensure!(explanation["agree"] == true, "orders and kernel disagree: {explanation}");
        let protocols = explanation["protocols"].as_array().context("explain: no protocols")?;
        let found = protocols.iter().find(|one| one["protocol"] == protocol);
        Ok(found.with_context(|| format!("explain: no {protocol}"))?["kernel"].clone())
    }

    /// What the kernel's tables say of a DNS query for a name, whatever the orders say.
    ///
    /// # Errors
    /// `cordon explain` fails.
    pub fn kernel_verdict(&self, name: &str) -> Result<String> {
        let shown = self.cordon(&["explain", name, "--output", "json"])?;
        let judged: Value = serde_json::from_str(&shown.stdout).with_context(|| format!("cordon explain: {shown}"))?;
        let protocols = judged["protocols"].as_array().context("explain: no protocols")?;
        let dns = protocols.iter().find(|one| one["protocol"] == "dns").context("explain: no dns")?;
        Ok(dns["kernel"]["verdict"].as_str().context("explain: no verdict")?.to_owned())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.lab.command(Host::Border, &self.program);
        command.arg("--config").arg(self.lab.folder().join(CONFIGURATION)).args(words);
        command
    }
}

/// A program of this build lies where cargo puts them: one folder above the tests, or beside the demo.
pub fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program")?;
    let program = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    program.with_context(|| format!("no `{name}` beside {}: run `cargo build`", own.display()))
}

/// An order in the native format: for every client, a subtree, in force for an hour. Further fields are set on the
/// result's `order`.
pub fn order(id: &str, names: &[&str], actions: &[(&str, &str)]) -> Value {
    let protocols: Vec<&str> = actions.iter().map(|(protocol, _)| *protocol).collect();
    let actions: BTreeMap<&str, &str> = actions.iter().copied().collect();
    let now = jiff::Timestamp::now();
    json!({"op": "put", "order": {
        "id": id,
        "issuer": "Court of the lab",
        "basis": "None",
        "reference": format!("Lab {id}"),
        "issued": "2025-03-28",
        "not_before": (now - Duration::from_secs(60)).to_string(),
        "not_after": (now + Duration::from_secs(3600)).to_string(),
        "protocols": protocols,
        "actions": actions,
        "scopes": ["all"],
        "match": "subtree",
        "names": names,
    }})
}

/// An order for each action, for DNS and TLS, named after it: `nxdomain` stops `nxdomain.example` and what is below.
pub fn order_of_each_action() -> Vec<Value> {
    Action::ALL
        .map(|action| {
            let action = action.word();
            let mut order = order(action, &[&format!("{action}.example")], &[("dns", action), ("tls", action)]);
            if action == Action::Address.word() {
                let [a, aaaa] = address::NOTICE;
                order["order"]["address"] = json!({"a": a, "aaaa": aaaa});
            }
            if action == Action::Redirect.word() {
                order["order"]["redirect"] = json!("dpi");
            }
            order
        })
        .to_vec()
}
