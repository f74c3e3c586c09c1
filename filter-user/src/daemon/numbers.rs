//! Which number each scope and each redirect target has in the kernel's tables.
//!
//! A name keeps its number as long as it is configured, over restarts too: while a new state is written, orders of
//! the old one are still in force, and their numbers must not mean other clients or another next hop.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use filter_common::layout::MAX_SCOPES;
use serde::{Deserialize, Serialize};

use crate::{
    config::Config,
    kernel::{Capacity, TargetSpec},
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
    /// Those of the last time, with what the configuration has added.
    pub fn load(folder: &Path, config: &Config) -> io::Result<Self> {
        let path = path(folder);
        let known = match fs::read(&path) {
            // A damaged file costs no more than what a first start costs.
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => return Err(error),
        };
        let numbers = known.with(config);
        if numbers != known {
            let draft = path.with_extension("new");
            fs::write(&draft, serde_json::to_vec(&numbers)?)?;
            fs::rename(&draft, &path)?;
        }
        Ok(numbers)
    }

    fn with(&self, config: &Config) -> Self {
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
        assert_eq!(Numbers::load(folder.path(), &first).unwrap().scopes, ["m"]);
        let second = config("[scopes]\na = [\"192.0.2.0/24\"]\nm = [\"192.0.2.0/24\"]");
        let numbers = Numbers::load(folder.path(), &second).unwrap();
        assert_eq!((numbers.scopes.join(" "), numbers.targets.join(" ")), ("m a".into(), "t".into()));
        assert_eq!(numbers.target_specs(&second)[0].interface, "");
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(Numbers::load(folder.path(), &second).unwrap().scopes, ["a", "m"]);
    }
}
