//! Wall-clock times in the kernel's boot-time clock, and steps of the wall clock.
//!
//! The kernel compares an order's times with CLOCK_BOOTTIME, which nobody can set. How far the wall clock is ahead of
//! it changes only when the wall clock is stepped (settimeofday, a step by NTP): slewing moves both.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
};

use jiff::Timestamp;
use tokio::io::{Interest, unix::AsyncFd};

/// How far CLOCK_REALTIME is ahead of CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Nanoseconds.
    pub offset: i128,
}

impl Clock {
    /// As it is now.
    pub fn now() -> Self {
        // The wall clock is read between two readings of the other one; of three tries the closest counts, so that
        // being scheduled out in between does no harm.
        let sample = || {
            let before = read(libc::CLOCK_BOOTTIME);
            let wall = read(libc::CLOCK_REALTIME);
            let after = read(libc::CLOCK_BOOTTIME);
            (after - before, wall - (before + after) / 2)
        };
        let (_, offset) = sample().min(sample()).min(sample());
        Self { offset }
    }

    /// Boot-time nanoseconds of a wall-clock time, 0 if that was before boot.
    pub fn boot(&self, time: Timestamp) -> u64 {
        u64::try_from((time.as_nanosecond() - self.offset).max(0)).unwrap_or(u64::MAX)
    }

    /// Wall-clock time of boot-time nanoseconds (of an event).
    pub fn wall(&self, boot: u64) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(boot) + self.offset).unwrap_or(Timestamp::MAX)
    }

    /// Whether the wall clock was stepped between the two.
    pub fn stepped(&self, later: &Self) -> bool {
        (self.offset - later.offset).abs() > TOLERANCE
    }
}

/// The noise of reading two clocks stays well below this; a smaller step does not matter to an order.
const TOLERANCE: i128 = 1_000_000;

fn read(clock: libc::clockid_t) -> i128 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours. Both clocks are always there, so that the call cannot fail.
    unsafe { libc::clock_gettime(clock, &mut time) };
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// Tells of steps of the wall clock at once.
#[derive(Debug)]
pub struct ClockWatch {
    timer: AsyncFd<OwnedFd>,
}

impl ClockWatch {
    /// Begins to watch; needs a tokio runtime.
    ///
    /// # Errors
    /// If the kernel gives no timer.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_REALTIME, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        arm(&fd)?;
        // SAFETY: the descriptor is open, and nobody closes it before the AsyncFd, which owns it.
        let timer = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self { timer })
    }

    /// Waits for the next step. Safe to cancel.
    ///
    /// # Errors
    /// If the timer cannot be read.
    pub async fn step(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            let fd = ready.get_inner().as_fd().as_raw_fd();
            let mut expirations = 0u64;
            // SAFETY: the buffer is 8 octets long, which is what a timer gives.
            let got = unsafe { libc::read(fd, (&raw mut expirations).cast(), size_of::<u64>()) };
            let error = io::Error::last_os_error();
            ready.clear_ready();
            match error.raw_os_error() {
                _ if got >= 0 => {}
                // TFD_TIMER_CANCEL_ON_SET: the clock was set (timerfd_create(2)).
                Some(libc::ECANCELED) => return arm(self.timer.get_ref()),
                Some(libc::EAGAIN | libc::EINTR) => {}
                _ => return Err(error),
            }
        }
    }
}

/// A timer that never runs out, but ends when the clock is set.
fn arm(timer: &OwnedFd) -> io::Result<()> {
    let never = libc::timespec { tv_sec: libc::time_t::MAX, tv_nsec: 0 };
    let setting = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
    let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
    // SAFETY: the pointer is to an itimerspec of ours; the old setting is not asked for.
    let result = unsafe { libc::timerfd_settime(timer.as_raw_fd(), flags, &setting, std::ptr::null_mut()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_boot_are_zero_and_others_exact() {
        let clock = Clock { offset: 1_000_000_000 };
        assert_eq!(clock.boot(Timestamp::from_nanosecond(999_999_999).unwrap()), 0);
        assert_eq!(clock.boot(Timestamp::from_nanosecond(1_000_000_000).unwrap()), 0);
        assert_eq!(clock.boot(Timestamp::from_nanosecond(1_000_000_007).unwrap()), 7);
        // The year 2554 and later: no end.
        assert_eq!(clock.boot(Timestamp::MAX), u64::MAX);
        assert_eq!(clock.wall(7), Timestamp::from_nanosecond(1_000_000_007).unwrap());
        assert_eq!(clock.wall(u64::MAX).as_nanosecond(), i128::from(u64::MAX) + clock.offset);
    }

    #[test]
    fn two_readings_agree() {
        assert!(!Clock::now().stepped(&Clock::now()));
        let now = Clock::now().boot(Timestamp::now()) as i128;
        assert!((now - read(libc::CLOCK_BOOTTIME)).abs() < 1_000_000_000);
    }

    #[test]
    fn a_step_is_one_of_over_a_millisecond() {
        let clock = Clock { offset: 0 };
        assert!(!clock.stepped(&Clock { offset: 1_000_000 }));
        assert!(clock.stepped(&Clock { offset: -1_000_001 }));
    }

    #[tokio::test]
    async fn the_watch_waits_while_nothing_happens() {
        let mut watch = ClockWatch::new().unwrap();
        let waited = tokio::time::timeout(std::time::Duration::from_millis(20), watch.step()).await;
        assert!(waited.is_err());
    }
}
