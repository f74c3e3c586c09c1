//! The serial of the zone that was taken last, so that an older one does not take its place.

use std::{fs, io, path::PathBuf};

use crate::feed::spool;

/// Where the serial is noted: a file that need not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serial(pub PathBuf);

impl Serial {
    /// Whether a zone of this serial may take the place of the last.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, serial: u32) -> Result<(), String> {
        let Some(last) = self.last() else { return Ok(()) };
        if serial == last || is_newer(serial, last) {
            return Ok(());
        }
        Err(format!(
            "its serial {serial} is older (RFC 1982) than {last}, the last that was taken; if that is meant, `cordon feed \
             sync` with the feed's name takes it"
        ))
    }

    /// Notes that a zone of this serial was taken.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn taken(&self, serial: u32) -> io::Result<()> {
        if self.last() == Some(serial) {
            return Ok(());
        }
        if let Some(folder) = self.0.parent() {
            fs::create_dir_all(folder)?;
        }
        spool::replace(&self.0, format!("{serial}\n").as_bytes())
    }

    /// Any serial is taken next.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(crate) fn forget(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn last(&self) -> Option<u32> {
        fs::read_to_string(&self.0).ok()?.trim().parse().ok()
    }
}

/// Whether a serial comes after another (RFC 1982 3.2).
pub(crate) fn is_newer(serial: u32, last: u32) -> bool {
    (1..1 << 31).contains(&serial.wrapping_sub(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_compared_as_rfc_1982_says() {
        for (serial, last, expected) in [
            (2, 1, true),
            (1, 1, false),
            (1, 2, false),
            (0, u32::MAX, true),
            (u32::MAX, 0, false),
            ((1 << 31) - 1, 0, true),
            (1 << 31, 0, false),
            (0, 1 << 31, false),
        ] {
            assert_eq!(is_newer(serial, last), expected, "{serial} after {last}");
        }
    }
}
