//! The layout's lock: `filter-common/layout.lock` notes a hash of layout.rs and the version that it was taken at, so
//! that nobody changes what lies in pinned maps without raising LAYOUT_VERSION.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::sh;

const SOURCE: &str = "filter-common/src/layout.rs";
const LOCK: &str = "filter-common/layout.lock";

/// Compares the lock with the source, or (`accept`) writes it anew.
pub fn run(accept: bool) -> Result<()> {
    let source = sh::workspace().join(SOURCE);
    let now = State::of_source(&fs::read_to_string(source).context(SOURCE)?)?;
    let path = sh::workspace().join(LOCK);
    let locked = match fs::read_to_string(&path) {
        Ok(text) => Some(State::from_lock(&text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context(LOCK),
    };
    match check(locked, now) {
        Standing::Current => println!("layout: version {}, as locked.", now.version),
        Standing::VersionStays => bail!(
            "{SOURCE} has changed since version {} was locked: raise LAYOUT_VERSION, then `cargo xtask layout --accept`. \
             Where no version {0} was ever in use, delete {LOCK} first instead.",
            now.version
        ),
        Standing::Stale if accept => {
            fs::write(&path, now.lock()).context(LOCK)?;
            println!("layout: version {} is locked.", now.version);
        }
        Standing::Stale => bail!("{LOCK} is missing or out of date: `cargo xtask layout --accept`, and commit it"),
    }
    Ok(())
}

/// A layout: its version, and a hash of all else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    version: u32,
    hash: u64,
}

#[derive(PartialEq, Eq, Debug)]
enum Standing {
    Current,
    /// The layout has changed, its version has not.
    VersionStays,
    /// The version has changed, or there is no lock.
    Stale,
}

fn check(locked: Option<State>, now: State) -> Standing {
    match locked {
        Some(locked) if locked == now => Standing::Current,
        Some(locked) if locked.version == now.version => Standing::VersionStays,
        _ => Standing::Stale,
    }
}

impl State {
    fn of_source(source: &str) -> Result<Self> {
        let code = code(source);
        let version = code
            .split_once("LAYOUT_VERSION: u32 =")
            .and_then(|(_, rest)| rest.split(';').next()?.trim().parse().ok())
            .with_context(|| format!("{SOURCE} has no LAYOUT_VERSION"))?;
        Ok(Self { version, hash: fnv1a(&code) })
    }

    fn from_lock(text: &str) -> Result<Self> {
        let value = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("{LOCK}: no line `{key}...`"))
        };
        Ok(Self {
            version: value("version ")?.parse().with_context(|| format!("{LOCK}: version"))?,
            hash: u64::from_str_radix(value("hash ")?, 16).with_context(|| format!("{LOCK}: hash"))?,
        })
    }

    fn lock(self) -> String {
        format!(
            "# Of layout.rs, by `cargo xtask layout --accept`.\nversion {}\nhash {:016x}\n",
            self.version, self.hash
        )
    }
}

/// The source without comments and with each run of white space as one space. The source has no string that holds `//`.
fn code(source: &str) -> String {
    let lines = source.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "/// Version.\npub const LAYOUT_VERSION: u32 = 7;\npub struct Node {\n    at: u32,\n}\n";

    fn state(source: &str) -> State {
        State::of_source(source).unwrap()
    }

    #[test]
    fn comments_and_white_space_do_not_count() {
        let other = "//! A module.\npub const LAYOUT_VERSION: u32 = 7;\npub struct Node { at: u32, } // node\n";
        assert_eq!(check(Some(state(SOURCE)), state(other)), Standing::Current);
        assert_eq!(state(SOURCE).version, 7);
    }

    #[test]
    fn a_changed_layout_needs_another_version() {
        let changed = SOURCE.replace("at: u32", "at: u64");
        assert_eq!(check(Some(state(SOURCE)), state(&changed)), Standing::VersionStays);
        let raised = changed.replace("= 7", "= 8");
        assert_eq!(check(Some(state(SOURCE)), state(&raised)), Standing::Stale);
        assert_eq!(check(None, state(SOURCE)), Standing::Stale);
    }

    #[test]
    fn the_lock_is_read_back() {
        assert_eq!(State::from_lock(&state(SOURCE).lock()).unwrap(), state(SOURCE));
        assert!(State::from_lock("version 7\nhash wrong\n").is_err());
        assert!(State::from_lock("").is_err());
    }
}
