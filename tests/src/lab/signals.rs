//! The lab goes when its process is told to end.
//!
//! The handler only writes to a pipe; a thread reads it, waits until no lab is half made or half removed, removes all
//! labs of this process and exits.

use std::{
    ffi::c_int,
    io::Read,
    os::fd::{IntoRawFd, OwnedFd},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
};

use anyhow::{Result, anyhow, ensure};

use super::{files, namespaces, process};

/// Held while labs are made or removed.
static CHANGING: Mutex<()> = Mutex::new(());

/// The pipe's end that the handler writes to.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// Until the returned guard is dropped, a signal does not begin to remove labs.
pub fn quiet() -> MutexGuard<'static, ()> {
    CHANGING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Handles SIGINT, SIGTERM and SIGHUP from now on.
pub fn install() -> Result<()> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| handle().map_err(|error| format!("{error:#}"))).clone().map_err(|error| anyhow!(error))
}

fn handle() -> Result<()> {
    let (mut reader, writer) = std::io::pipe()?;
    WAKE.store(OwnedFd::from(writer).into_raw_fd(), Ordering::Relaxed);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut signal = [0];
        if reader.read_exact(&mut signal).is_ok() {
            let _guard = quiet();
            eprintln!("\nremoving the lab");
            process::kill_children();
            namespaces::remove_own();
            files::remove_own();
            // As a shell reports a program that a signal ended.
            std::process::exit(128 + i32::from(signal[0]));
        }
    })?;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let handler = on_signal as extern "C" fn(c_int);
        // SAFETY: the handler does nothing but an atomic load and a write(2), both of which are async-signal-safe.
        let previous = unsafe { libc::signal(signal, handler as libc::sighandler_t) };
        ensure!(previous != libc::SIG_ERR, "cannot handle signal {signal}");
    }
    Ok(())
}

extern "C" fn on_signal(signal: c_int) {
    let byte = signal as u8;
    // SAFETY: the descriptor is the pipe's and is never closed; one byte is read from a live variable. A pipe that is
    // full or closed needs no further byte.
    unsafe { libc::write(WAKE.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
}
