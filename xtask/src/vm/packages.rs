//! Kernels and qemu out of Debian packages, unpacked and not installed.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::sh;

/// A kernel to boot.
pub struct Kernel {
    /// Its `vmlinuz`.
    pub image: PathBuf,
}

/// Debian 12 has both series. The host's own lists stay as they are.
const SOURCES: &str = "\
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian-security bookworm-security main
";

impl Kernel {
    /// Of this series: the one that is there, or Debian's newest.
    pub fn find(folder: &Path, series: &str) -> Result<Self> {
        let unpacked = folder.join(format!("linux-{series}"));
        if let Some(image) = image(&unpacked) {
            println!("vm: {} is there.", image.display());
            return Ok(Self { image });
        }
        let unreachable = || {
            format!(
                "unreachable package: linux-image-{series}*-cloud-amd64 of Debian 12; \
                 put its /boot/vmlinuz-* into {}/boot by hand and run this again",
                unpacked.display()
            )
        };
        let apt = Apt::new(&folder.join("apt"))?;
        sh::run(apt.command("apt-get").args(["update", "-q"])).with_context(unreachable)?;
        let prefix = format!("linux-image-{series}.");
        let names = sh::read(apt.command("apt-cache").args(["pkgnames", &prefix])).with_context(unreachable)?;
        let newest = newest(&names).context("Debian has none").with_context(unreachable)?;
        let package = apt.folder.join("debs").join(newest);
        fresh(&package)?;
        sh::run(apt.command("apt-get").args(["download", "-q", newest]).current_dir(&package))
            .with_context(unreachable)?;
        unpack(&package, &unpacked)?;
        let image = image(&unpacked).with_context(|| format!("{newest} has no boot/vmlinuz-*"))?;
        Ok(Self { image })
    }
}

/// The kernel in an unpacked package.
fn image(unpacked: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(unpacked.join("boot")).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    entries.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")))
}

/// Of packages' names that with the highest version.
fn newest(names: &str) -> Option<&str> {
    let numbers = |name: &str| -> Vec<u32> {
        name.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
    };
    names.lines().filter(|name| name.ends_with("-cloud-amd64")).max_by_key(|name| numbers(name))
}

/// apt with sources, lists and a cache of its own.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: &Path) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial", "debs"] {
            fs::create_dir_all(folder.join(part)).with_context(|| folder.display().to_string())?;
        }
        let sources = folder.join("sources.list");
        fs::write(&sources, SOURCES).with_context(|| sources.display().to_string())?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = sh::command::<&str>(program, []);
        for (setting, part) in
            [("Dir::Etc::SourceList", "sources.list"), ("Dir::State::Lists", "lists"), ("Dir::Cache", "cache")]
        {
            command.arg("-o").arg(assignment(setting, &self.folder.join(part)));
        }
        // Its own user could not write here.
        command.args(["-o", "Dir::Etc::SourceParts=/dev/null", "-o", "APT::Sandbox::User=root"]);
        command
    }
}

fn assignment(setting: &str, path: &Path) -> OsString {
    let mut words = OsString::from(setting);
    words.push("=");
    words.push(path);
    words
}

/// The emulator.
pub enum Qemu {
    /// In the search path.
    Installed,
    /// Unpacked here.
    Unpacked(PathBuf),
}

const QEMU: &str = "qemu-system-x86_64";
const QEMU_PACKAGE: &str = "qemu-system-x86";

impl Qemu {
    /// Installed or unpacked; if neither, it is unpacked with the libraries that the host has not. To install it could
    /// remove what else of qemu, of another version, the host has.
    pub fn find(folder: &Path) -> Result<Self> {
        let unpacked = folder.join("qemu");
        if sh::found(QEMU) {
            return Ok(Self::Installed);
        }
        if unpacked.join("usr/bin").join(QEMU).is_file() {
            return Ok(Self::Unpacked(unpacked));
        }
        let unreachable = || {
            format!(
                "unreachable package: {QEMU_PACKAGE}; install it by hand (apt-get install {QEMU_PACKAGE}) and run this again"
            )
        };
        let packages = folder.join("qemu-debs");
        fresh(&packages.join("partial"))?;
        sh::run(&mut sh::as_root("apt-get", ["update", "-q"])?).with_context(unreachable)?;
        let words = ["install", "-q", "-y", "--download-only", "--no-install-recommends", QEMU_PACKAGE, "-o"];
        let words = words.map(OsString::from).into_iter().chain([
            assignment("Dir::Cache::Archives", &packages),
            "-o".into(),
            "APT::Sandbox::User=root".into(),
        ]);
        sh::run(&mut sh::as_root("apt-get", words)?).with_context(unreachable)?;
        unpack(&packages, &unpacked)?;
        ensure!(unpacked.join("usr/bin").join(QEMU).is_file(), "{QEMU_PACKAGE} was unpacked, yet {QEMU} is missing");
        Ok(Self::Unpacked(unpacked))
    }

    /// qemu's command, after `before`.
    pub fn command(&self, before: &[&str]) -> Command {
        let mut words = before.iter().map(OsString::from);
        let first = words.next();
        let program = match self {
            Self::Installed => QEMU.into(),
            Self::Unpacked(folder) => folder.join("usr/bin").join(QEMU).into_os_string(),
        };
        let mut command = match first {
            Some(first) => sh::command(first, words.chain([program])),
            None => sh::command::<&str>(program, []),
        };
        if let Self::Unpacked(folder) = self {
            let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|part| folder.join(part));
            command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).expect("the path has no colon"));
            for firmware in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
                command.arg("-L").arg(folder.join(firmware));
            }
        }
        command
    }
}

/// An empty folder.
fn fresh(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())
}

/// Unpacks every package of a folder; the target has all of them or does not exist.
fn unpack(packages: &Path, target: &Path) -> Result<()> {
    let unfinished = target.with_extension("unfinished");
    fresh(&unfinished)?;
    for entry in fs::read_dir(packages).with_context(|| packages.display().to_string())? {
        let path = entry.with_context(|| packages.display().to_string())?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            sh::run(&mut sh::command("dpkg-deb", ["-x".as_ref(), path.as_os_str(), unfinished.as_os_str()]))?;
        }
    }
    fresh(target)?;
    fs::rename(&unfinished, target).with_context(|| target.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_that_with_the_highest_numbers() {
        let names = "linux-image-6.12.9+deb12-cloud-amd64\nlinux-image-6.12.117+deb12-cloud-amd64\n\
                     linux-image-6.12.118+deb12-cloud-amd64-dbg\nlinux-image-6.12.100+deb12-cloud-amd64\n";
        assert_eq!(newest(names), Some("linux-image-6.12.117+deb12-cloud-amd64"));
        let names = "linux-image-6.1.0-56-cloud-amd64\nlinux-image-6.1.0-9-cloud-amd64\n";
        assert_eq!(newest(names), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(newest("linux-image-6.1.0-56-amd64\n"), None);
    }
}
