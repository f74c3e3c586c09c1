//! Ends that are in force and that the book does not have yet, kept where they outlive the daemon though the disk is
//! full: else the next start would enforce again what has ended.
//!
//! State: a file in the state folder, whose room is taken beforehand, so that writing in it takes no more. Where it
//! cannot be written all the same (a disk that is read-only, or copies what is written), a file in the folder of the
//! control socket takes its place: mostly memory, which outlives the daemon, but not the machine.
//!
//! A record is a line. One that a crash has cut off is passed over: nobody was told of it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::feed::{Entry, Event};

/// An end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// Order id.
    pub order: String,
    /// When it took effect.
    pub time: Timestamp,
    /// The newest entry of the history then: what is put later is not ended by it. A clock may be stepped. None where the
    /// book could not be read.
    #[serde(default)]
    pub entry: Option<i64>,
    /// The event that ends it; none: a file puts the order no longer.
    pub revoke: Option<Revoke>,
}

/// See [`End::revoke`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Revoke {
    /// Who gave it.
    pub source: String,
    line: u64,
    seq: Option<u64>,
    at: Option<Timestamp>,
    why: String,
    by: Value,
}

/// The files. See the module.
pub(super) struct Ends {
    reserve: PathBuf,
    spare: PathBuf,
    /// The reserve, and how much of it is written.
    open: Option<(File, u64)>,
}

impl End {
    /// An end by an event, if the event is one; `by` is who gave it, for the history.
    pub fn by(source: &str, entry: &Entry, by: &Value, (time, upto): (Timestamp, Option<i64>)) -> Option<Self> {
        let Event::Revoke { order, why } = &entry.event else { return None };
        let Entry { line, seq, at, .. } = *entry;
        let revoke = Revoke { source: source.to_owned(), line, seq, at, why: why.clone(), by: by.clone() };
        Some(Self { order: order.clone(), time, entry: upto, revoke: Some(revoke) })
    }

    /// An end because a file puts the order no longer.
    pub fn by_absence(order: String, (time, entry): (Timestamp, Option<i64>)) -> Self {
        Self { order, time, entry, revoke: None }
    }

    /// Its source, the event, and who gave it.
    pub fn event(&self) -> Option<(&str, Entry, Value)> {
        let Revoke { source, line, seq, at, why, by } = self.revoke.as_ref()?;
        let event = Event::Revoke { order: self.order.clone(), why: why.clone() };
        Some((source, Entry { line: *line, seq: *seq, at: *at, event }, by.clone()))
    }
}

impl Ends {
    /// Takes the room in the state folder, and gives what an earlier daemon has noted there and in the other.
    pub fn open(state: &Path, spare: &Path) -> (Self, Vec<End>) {
        let mut ends = Self { reserve: state.join(FILE), spare: spare.join(FILE), open: None };
        let mut noted = read(&ends.reserve);
        noted.extend(read(&ends.spare));
        noted.sort_by_key(|end| end.time);
        if let Err(error) = ends.reserve() {
            tracing::warn!("{}: no room for ends while the disk is full: {error}", ends.reserve.display());
        }
        (ends, noted)
    }

    /// Notes ends: they are on the disk when this returns.
    ///
    /// # Errors
    /// They could be noted in neither file. The error is that of the state folder's.
    pub fn note(&mut self, ends: &[End]) -> io::Result<()> {
        let mut lines = Vec::new();
        for end in ends {
            serde_json::to_writer(&mut lines, end)?;
            lines.push(b'\n');
        }
        let Err(error) = self.note_in_reserve(&lines) else { return Ok(()) };
        let noted = || {
            let file = OpenOptions::new().create(true).append(true).open(&self.spare)?;
            io::Write::write_all(&mut &file, &lines)?;
            file.sync_data()
        };
        noted().map_err(|_| error)
    }

    /// The book has them all.
    pub fn forget(&mut self) {
        let blank = |(file, used): &mut (File, u64)| {
            if *used > 0 {
                file.write_all_at(&vec![b'\n'; *used as usize], 0)?;
                file.sync_data()?;
                *used = 0;
            }
            io::Result::Ok(())
        };
        // What stays is older than whatever is put after it, so it ends nothing more.
        if let Some(Err(error)) = self.open.as_mut().map(blank) {
            tracing::warn!("{}: what the order book has by now stays noted: {error}", self.reserve.display());
        }
        if let Err(error) = std::fs::remove_file(&self.spare)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{}: what the order book has by now stays noted: {error}", self.spare.display());
        }
    }

    fn note_in_reserve(&mut self, lines: &[u8]) -> io::Result<()> {
        let (file, used) = self.reserve()?;
        if *used + lines.len() as u64 > ROOM {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the room for ends is used up"));
        }
        file.write_all_at(lines, *used)?;
        file.sync_data()?;
        *used += lines.len() as u64;
        Ok(())
    }

    /// The file, of its full length and without holes.
    fn reserve(&mut self) -> io::Result<&mut (File, u64)> {
        if self.open.is_none() {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.reserve)?;
            let length = file.metadata()?.len();
            if length < ROOM {
                file.write_all_at(&vec![b'\n'; (ROOM - length) as usize], length)?;
                file.sync_all()?;
            }
            let mut content = Vec::new();
            (&file).read_to_end(&mut content)?;
            // A line that was cut off keeps its place.
            let used = content.iter().rposition(|octet| *octet != b'\n').map_or(0, |last| last as u64 + 2);
            self.open = Some((file, used));
        }
        self.open.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn read(path: &Path) -> Vec<End> {
    let content = std::fs::read(path).unwrap_or_default();
    content.split(|octet| *octet == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

const FILE: &str = "ends.jsonl";

/// Octets that are kept for ends: some thousands of them.
const ROOM: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn end(order: &str, seconds: i64) -> End {
        let event = Event::Revoke { order: order.to_owned(), why: "settled\n".to_owned() };
        let entry = Entry { line: 3, seq: Some(7), at: None, event };
        let when = (Timestamp::from_second(seconds).unwrap(), Some(seconds));
        End::by("cli", &entry, &json!({"user": "root"}), when).unwrap()
    }

    #[test]
    fn ends_outlive_the_daemon_and_are_forgotten_when_the_book_has_them() {
        let (state, spare) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = || Ends::open(state.path(), spare.path());
        let (mut ends, noted) = open();
        assert_eq!(noted, []);
        let file = state.path().join(FILE);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), ROOM);
        ends.note(&[end("a", 1)]).unwrap();
        ends.note(&[End::by_absence("b".to_owned(), (Timestamp::from_second(2).unwrap(), None)), end("c", 3)]).unwrap();
        let (_, noted) = open();
        assert_eq!(noted.iter().map(|end| end.order.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(noted[0], end("a", 1));
        let (source, entry, by) = noted[0].event().unwrap();
        assert_eq!((source, entry.line, entry.seq, entry.event.order_id()), ("cli", 3, Some(7), "a"));
        assert_eq!(by, json!({"user": "root"}));
        assert_eq!(noted[1].event(), None);

        // A crash cuts the last one off; what follows it is whole.
        let content = std::fs::read(&file).unwrap();
        let last = content.iter().rposition(|octet| *octet != b'\n').unwrap();
        OpenOptions::new().write(true).open(&file).unwrap().write_all_at(b"\n\n\n", last as u64 - 2).unwrap();
        let (mut again, noted) = open();
        assert_eq!(noted.len(), 2);
        again.note(&[end("d", 4)]).unwrap();
        assert_eq!(open().1.iter().map(|end| end.order.clone()).collect::<Vec<_>>(), ["a", "b", "d"]);
        let (mut ends, _) = open();
        ends.forget();
        assert_eq!(open().1, []);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), ROOM, "its room stays taken");
    }

    #[test]
    fn where_the_disk_cannot_be_written_the_other_folder_takes_them() {
        let (state, spare) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // A folder where the file should be: root may write whatever has no write permission.
        std::fs::create_dir(state.path().join(FILE)).unwrap();
        let (mut ends, _) = Ends::open(state.path(), spare.path());
        ends.note(&[end("a", 1)]).unwrap();
        ends.note(&[end("b", 2)]).unwrap();
        let (mut ends, noted) = Ends::open(state.path(), spare.path());
        assert_eq!(noted, [end("a", 1), end("b", 2)]);
        ends.forget();
        assert_eq!(Ends::open(state.path(), spare.path()).1, []);

        std::fs::create_dir(spare.path().join(FILE)).unwrap();
        let error = ends.note(&[end("c", 3)]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory, "{error}");
    }

    #[test]
    fn more_than_there_is_room_for_goes_to_the_other_folder() {
        let (state, spare) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut ends, _) = Ends::open(state.path(), spare.path());
        let many: Vec<End> = (0..10_000).map(|number| end(&format!("order-{number}"), number)).collect();
        for part in many.chunks(1000) {
            ends.note(part).unwrap();
        }
        assert!(spare.path().join(FILE).exists());
        assert_eq!(Ends::open(state.path(), spare.path()).1, many);
    }
}
