//! Which number each scope and each redirect target has in the kernel's tables.
//!
//! A name keeps its number as long as it is configured, over restarts too: while a new state is written, orders of
//! the old one are still in force, and their numbers must not mean other clients or another next hop.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Result;
use filter_common::layout::MAX_SCOPES;
use serde::{Deserialize, Serialize};

use crate::{
    config::Config,
    kernel::{self, Capacity, TargetSpec},
};

const FILE: &str = "numbers.json";

/// Names by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Numbers {
    /// Scopes from bit 1 on. Some may be configured no longer.
    pub scopes: Vec<String>,
    /// Redirect targets from slot 0 on. Some may be configured no longer.
    pub targets: Vec<String>,
}

impl Numbers {
    /// Those of the last time, with what the configuration has added. Where they are lost, new ones are given out, but
    /// not while orders of an earlier daemon are in the tables: these hold the old ones.
    pub fn load(
        folder: &Path,
        config: &Config,
        are_tables_in_use: impl FnOnce() -> Result<bool, kernel::Error>,
    ) -> Result<Self> {
        let path = path(folder);
        let text = fs::read(&path);
        let is_there = text.is_ok();
        let known = match text {
            Ok(text) => serde_json::from_slice(&text).map_err(anyhow::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error.into()),
            Err(error) => return Err(error.into()),
        };
        let known: Self = match known {
            Err(error) if are_tables_in_use()? => {
                return Err(error.context(format!(
                    "{} is lost, and with it which clients the orders in the kernel are for; these stay in force as \
                     they are: put the file back, or detach all interfaces and remove {}",
                    path.display(),
                    config.daemon.pin_root.display()
                )));
            }
            known => known.unwrap_or_default(),
        };
        let numbers = known.with(config);
        if numbers != known {
            numbers.save(folder)?;
        } else if !is_there && let Err(error) = numbers.save(folder) {
            // Also where nothing has a number: that the file is not there is to say that it was lost.
            tracing::warn!("{}: {error}; the next start will take it for lost", path.display());
        }
        Ok(numbers)
    }

    /// Writes them in one step.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        let path = path(folder);
        let draft = path.with_extension("new");
        let mut file = fs::File::create(&draft)?;
        io::Write::write_all(&mut file, &serde_json::to_vec(self)?)?;
        // On the disk before it has the name: with an empty one no daemon starts on the tables that there are.
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        fs::File::open(folder)?.sync_all()
    }

    /// These, and numbers for what the configuration has beside them.
    pub fn with(&self, config: &Config) -> Self {
        let scopes: Vec<&str> = config.scopes.keys().map(String::as_str).collect();
        let targets: Vec<&str> = config.targets.iter().map(|target| target.name.as_str()).collect();
        Self {
            scopes: assign(&self.scopes, &scopes, MAX_SCOPES - 1),
            targets: assign(&self.targets, &targets, Capacity::default().targets as usize),
        }
    }

    /// The targets by slot. A slot whose target is configured no longer is never ready.
    pub fn target_specs(&self, config: &Config) -> Vec<TargetSpec> {
        let spec = |name: &String| {
            let found = config.targets.iter().find(|target| target.name == *name);
            found.cloned().unwrap_or_else(|| TargetSpec {
                name: name.clone(),
                interface: String::new(),
                next_hop: None,
                fallback_pass: false,
            })
        };
        self.targets.iter().map(spec).collect()
    }
}

/// New names at the end, or, where there is no more room, in the place of names that are gone.
fn assign(known: &[String], configured: &[&str], most: usize) -> Vec<String> {
    let mut names = known.to_vec();
    for name in configured {
        if names.iter().any(|known| known == name) {
            continue;
        }
        if names.len() < most {
            names.push((*name).to_owned());
        } else if let Some(gone) = names.iter_mut().find(|known| !configured.contains(&known.as_str())) {
            *gone = (*name).to_owned();
        }
    }
    names
}

fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_numbers() {
        let known = ["b", "c"].map(str::to_owned);
        assert_eq!(assign(&known, &["a", "b"], 63), ["b", "c", "a"]);
        assert_eq!(assign(&known, &["a", "b"], 2), ["b", "a"]);
        assert_eq!(assign(&known, &[], 2), ["b", "c"]);
    }

    #[test]
    fn they_outlive_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let config = |text: &str| Config::parse(text, Path::new("/etc/cordon/cordon.toml")).unwrap();
        let first = config("[scopes]\nm = [\"192.0.2.0/24\"]\n[targets.t]\ninterface = \"e\"");
        let load = |config, in_use| Numbers::load(folder.path(), config, || Ok(in_use));
        assert_eq!(load(&first, false).unwrap().scopes, ["m"]);
        let second = config("[scopes]\na = [\"192.0.2.0/24\"]\nm = [\"192.0.2.0/24\"]");
        let numbers = load(&second, true).unwrap();
        assert_eq!((numbers.scopes.join(" "), numbers.targets.join(" ")), ("m a".into(), "t".into()));
        assert_eq!(numbers.target_specs(&second)[0].interface, "");
    }

    #[test]
    fn where_nothing_has_a_number_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse("", Path::new("/etc/cordon/cordon.toml")).unwrap();
        let load = |in_use| Numbers::load(folder.path(), &config, || Ok(in_use));
        assert_eq!(load(false).unwrap(), Numbers::default());
        assert_eq!(load(true).unwrap(), Numbers::default());
    }

    #[test]
    fn lost_ones_are_not_given_out_again_under_orders_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[scopes]\na = [\"192.0.2.0/24\"]\nm = [\"192.0.2.0/24\"]";
        let config = Config::parse(text, Path::new("/etc/cordon/cordon.toml")).unwrap();
        let load = |in_use| Numbers::load(folder.path(), &config, || Ok(in_use));
        assert!(load(true).unwrap_err().to_string().contains("numbers.json is lost"));
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(load(true).unwrap_err().to_string().contains("numbers.json is lost"));
        assert_eq!(fs::read(folder.path().join(FILE)).unwrap(), b"{");
        assert_eq!(load(false).unwrap().scopes, ["a", "m"]);
        assert_eq!(load(true).unwrap().scopes, ["a", "m"]);
    }
}
