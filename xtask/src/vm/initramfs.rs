//! A cpio archive as the kernel unpacks it: `newc`, by the kernel's Documentation/driver-api/early-userspace/
//! buffer-format.rst. Uncompressed, since it is in memory already.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// An archive under way.
#[derive(Default)]
pub struct Archive {
    octets: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub fn folder(&mut self, name: &str) {
        self.entry(name, 0o040_755, (0, 0), &[]);
    }

    pub fn file(&mut self, name: &str, content: Vec<u8>) {
        self.entry(name, 0o100_644, (0, 0), &content);
    }

    pub fn program(&mut self, name: &str, content: Vec<u8>) {
        self.entry(name, 0o100_755, (0, 0), &content);
    }

    /// The device 5:1.
    pub fn console(&mut self, name: &str) {
        self.entry(name, 0o020_600, (5, 1), &[]);
    }

    /// A folder with all that is in it, under another name.
    pub fn tree(&mut self, folder: &Path, name: &str) -> Result<()> {
        self.folder(name);
        let listed = || folder.display().to_string();
        for entry in fs::read_dir(folder).with_context(listed)? {
            let path = entry.with_context(listed)?.path();
            let shown = || path.display().to_string();
            let own = path.file_name().and_then(|name| name.to_str()).with_context(shown)?;
            let name = format!("{name}/{own}");
            if path.is_dir() {
                self.tree(&path, &name)?;
            } else {
                self.file(&name, fs::read(&path).with_context(shown)?);
            }
        }
        Ok(())
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.octets
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        // Inode, mode, owner, group, links, time, size, device (two), device if it is one (two), length of the name
        // with its NUL, checksum.
        let size = u32::try_from(content.len()).expect("a test is smaller than 4 GiB");
        let length = u32::try_from(name.len() + 1).expect("a name is short");
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, length, 0];
        self.octets.extend(b"070701");
        for field in fields {
            self.octets.extend(format!("{field:08x}").bytes());
        }
        self.octets.extend(name.bytes().chain([0]));
        self.pad();
        self.octets.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_begin_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.file("plan", b"words".to_vec());
        let octets = archive.finish();
        // 110 octets of header, 5 of the name, 1 of padding; 5 of content, 3 of padding.
        assert_eq!(&octets[..14], b"07070100000001");
        assert_eq!(&octets[54..62], b"00000005");
        assert_eq!(&octets[110..116], b"plan\0\0");
        assert_eq!(&octets[116..124], b"words\0\0\0");
        assert_eq!(&octets[124..130], b"070701");
        assert_eq!(octets.len() % 4, 0);
    }
}
