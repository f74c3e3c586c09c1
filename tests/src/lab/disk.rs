//! A small disk of its own for a folder of the lab: ext4 in a file.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    mem::ManuallyDrop,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{Lab, process};
use crate::bpffs;

/// The disk, mounted until this is dropped.
pub struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

impl Lab {
    /// A disk of so many MB, mounted on a folder of the lab.
    ///
    /// # Errors
    /// mkfs.ext4 or mount fails.
    pub fn disk(&self, name: &str, folder: &Path, megabytes: u64) -> Result<Disk> {
        let image = self.folder().join(format!("{name}.ext4"));
        File::create(&image)?.set_len(megabytes << 20)?;
        process::done(Command::new("mkfs.ext4").args(["-q", "-m", "0", "-b", "4096"]).arg(&image))?;
        Disk::share(folder)?;
        Disk::mount(image, folder)
    }
}

impl Disk {
    fn mount(image: PathBuf, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        process::done(Command::new("mount").args(["-o", "loop,errors=remount-ro"]).arg(&image).arg(folder))?;
        Ok(Self { image, mounted: folder.to_owned() })
    }

    /// Lets what is unmounted from a folder be unmounted in other mount namespaces as well. Programs of a lab's client
    /// have one of their own, those of other labs too, and a file system that is left in one of them is not let go of.
    fn share(folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        process::done(Command::new("mount").arg("--bind").args([folder, folder]))?;
        process::done(Command::new("mount").arg("--make-shared").arg(folder))
    }

    /// Fills it to the last octet.
    ///
    /// # Errors
    /// It cannot be written for another reason.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::create(self.mounted.join(BALLAST))?;
        for size in [1 << 20, 1 << 12, 1] {
            let octets = vec![b'x'; size];
            loop {
                match ballast.write(&octets) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("filling the disk"),
                }
            }
        }
        // What is allocated late is allocated now.
        match ballast.sync_all() {
            Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(error).context("filling the disk"),
            _ => Ok(()),
        }
    }

    /// Makes room again.
    ///
    /// # Errors
    /// It was not filled.
    pub fn empty(&self) -> Result<()> {
        fs::remove_file(self.mounted.join(BALLAST)).context("emptying the disk")
    }

    /// Has the kernel find an error in the file system, upon which nothing can be written to it any more.
    ///
    /// # Errors
    /// The kernel does not let it.
    pub fn fail(&self) -> Result<()> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let on = |line: &&str| line.split(' ').nth(1) == self.mounted.to_str();
        // The last, which lies over what was there before.
        let device = mounts.lines().rfind(on).and_then(|line| line.split(' ').next()).context("not mounted")?;
        let device = device.strip_prefix("/dev/").filter(|device| device.starts_with("loop"));
        let trigger = Path::new("/sys/fs/ext4").join(device.context("not ours")?).join("trigger_fs_error");
        fs::write(&trigger, "1").with_context(|| trigger.display().to_string())?;
        let probe = File::create(self.mounted.join("probe"));
        ensure!(probe.is_err_and(|error| error.raw_os_error() == Some(libc::EROFS)), "the disk can still be written");
        Ok(())
    }

    /// Makes it whole again after [`Disk::fail`], with nobody using it.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn repair(self) -> Result<Self> {
        // Not detached: its device must be free.
        process::done(Command::new("umount").arg(&self.mounted))?;
        let this = ManuallyDrop::new(self);
        let (image, mounted) = (this.image.clone(), this.mounted.clone());
        // 1: errors were corrected.
        let checked = Command::new("fsck.ext4").arg("-y").arg(&image).output()?;
        ensure!(checked.status.code().is_some_and(|code| code <= 1), "fsck.ext4: {checked:?}");
        Self::mount(image, &mounted)
    }

    /// What would be there had the power failed now: a copy of what the file system has handed on to its device,
    /// mounted on another folder.
    ///
    /// # Errors
    /// It cannot be copied or mounted.
    pub fn after_power_cut(&self, image: &Path, folder: &Path) -> Result<Self> {
        let from = File::open(&self.image)?;
        let to = File::create(image)?;
        let mut block = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            match from.read_at(&mut block, at)? {
                0 => break,
                read => {
                    to.write_all_at(block.get(..read).unwrap_or_default(), at)?;
                    at += read as u64;
                }
            }
        }
        Self::share(folder)?;
        Self::mount(image.to_owned(), folder)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = bpffs::unmount(&self.mounted) {
            eprintln!("warning: {}: {error}", self.mounted.display());
        }
    }
}

/// Unmounts whatever is mounted below a folder, the innermost first.
pub(super) fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(OsStr::new).map(Path::new);
    let below: Vec<_> = points.filter(|point| point.starts_with(folder)).collect();
    for point in below.iter().rev() {
        if let Err(error) = bpffs::unmount(point) {
            eprintln!("warning: {}: {error}", point.display());
        }
    }
}

const BALLAST: &str = "ballast";
