//! What outlives the daemon beside the book: which order each slot of the kernel's tables was, and the hits of slots
//! that were given away. The kernel goes on counting while no daemon runs; with this, the next one knows for whom.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::observe::{Directory, HitTotals};

const FILE: &str = "hits.json";

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    pub slots: Directory,
    pub totals: HitTotals,
}

impl Memory {
    /// What the last daemon wrote; nothing if there is nothing that can be read.
    pub fn load(folder: &Path) -> Self {
        let text = fs::read(folder.join(FILE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes it in one step.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        let path = folder.join(FILE);
        let draft = path.with_extension("new");
        fs::write(&draft, serde_json::to_vec(self)?)?;
        fs::rename(&draft, &path)
    }
}

#[cfg(test)]
mod tests {
    use filter_common::layout::Hits;

    use super::*;

    #[test]
    fn it_outlives_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Memory::load(folder.path()), Memory::default());
        let mut memory = Memory::default();
        memory.slots.set_order(7, "a");
        memory.totals.keep("b", Hits { decided: 1, concerned: 2 });
        memory.save(folder.path()).unwrap();
        assert_eq!(Memory::load(folder.path()), memory);
        fs::write(folder.path().join(FILE), "{\"slots\":").unwrap();
        assert_eq!(Memory::load(folder.path()), Memory::default());
    }
}
