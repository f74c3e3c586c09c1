//! The folder of pins: `<pin root>/v<LAYOUT_VERSION>/`, with each map under its name, `program`, and `links/`.

use std::{
    ffi::CString,
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::BorrowedFd,
        unix::{ffi::OsStrExt as _, fs::DirBuilderExt as _},
    },
    path::{Path, PathBuf},
};

use filter_common::layout::LAYOUT_VERSION;

use super::{error::Error, sys};

/// Our layout version's folder.
pub fn folder(pin_root: &Path) -> PathBuf {
    pin_root.join(format!("v{LAYOUT_VERSION}"))
}

/// Makes our folder, and keeps other processes of ours from preparing it at the same time until the file is closed.
pub fn prepare(pin_root: &Path) -> Result<(PathBuf, File), Error> {
    make_root(pin_root)?;
    let folder = folder(pin_root);
    let make = || {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let lock = File::open(&folder)?;
        lock.lock()?;
        Ok(lock)
    };
    let lock = make().map_err(Error::system(format!("making {}", folder.display())))?;
    Ok((folder, lock))
}

/// Makes the pin root, which must be on a BPF file system.
///
/// # Errors
/// If it is elsewhere, or cannot be made.
pub fn make_root(pin_root: &Path) -> Result<(), Error> {
    let existing = pin_root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let on_bpffs = is_bpffs(existing).map_err(Error::system(format!("looking at {}", existing.display())))?;
    if !on_bpffs {
        let what = format!("{} is not on a BPF file system (`mount -t bpf bpf /sys/fs/bpf`)", pin_root.display());
        return Err(Error::System { what, source: io::ErrorKind::Unsupported.into() });
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(pin_root);
    made.map_err(Error::system(format!("making {}", pin_root.display())))
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: a C string and a buffer that live over the call.
    if unsafe { libc::statfs(path.as_ptr(), stat.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: integers, zeroed and then filled in.
    Ok(unsafe { stat.assume_init() }.f_type == libc::BPF_FS_MAGIC)
}

/// Pins in place of what is there.
pub fn replace(fd: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
    let fresh = path.with_file_name("fresh");
    let pin = || {
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        sys::pin(fd, &fresh)?;
        fs::rename(&fresh, path)
    };
    pin().map_err(Error::system(format!("pinning {}", path.display())))
}

/// The folders of all layout versions under the root.
pub fn layouts(pin_root: &Path) -> Result<Vec<(u32, PathBuf)>, Error> {
    let read = || -> io::Result<Vec<_>> {
        let mut layouts = Vec::new();
        for entry in fs::read_dir(pin_root)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(version) = name.to_str().and_then(|name| name.strip_prefix('v')?.parse().ok()) {
                layouts.push((version, entry.path()));
            }
        }
        layouts.sort();
        Ok(layouts)
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(Error::system(format!("reading {}", pin_root.display()))),
    }
}

/// An interface's name as a file name: a BPF file system takes no dots (kernel/bpf/inode.c, bpf_lookup).
pub fn encode(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

/// The inverse of [`encode`].
pub fn decode(file: &str) -> String {
    file.replace("%2e", ".").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_survive_as_file_names() {
        for name in ["eth0", "eth0.100", "a%b.c", "%2e", "%252e.."] {
            let file = encode(name);
            assert!(!file.contains('.'));
            assert_eq!(decode(&file), name);
        }
    }

    #[test]
    fn other_folders_are_no_layouts() {
        let root = tempfile::tempdir().unwrap();
        for name in ["v1", "v12", "vx", "w3"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        assert_eq!(layouts(root.path()).unwrap(), [(1, root.path().join("v1")), (12, root.path().join("v12"))]);
        assert_eq!(layouts(&root.path().join("none")).unwrap(), []);
    }

    #[test]
    fn a_root_on_another_file_system_is_refused_before_anything_is_made() {
        let root = tempfile::tempdir().unwrap();
        let error = prepare(&root.path().join("cordon")).unwrap_err().to_string();
        assert!(error.contains("is not on a BPF file system"), "{error}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
