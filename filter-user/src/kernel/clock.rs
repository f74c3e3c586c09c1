//! Wall-clock times in the kernel's boot-time clock, and steps of the wall clock.

use std::io;

use jiff::Timestamp;

/// How far CLOCK_REALTIME is ahead of CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Nanoseconds.
    pub offset: i128,
}

impl Clock {
    /// As it is now.
    pub fn now() -> Self {
        todo!()
    }

    /// Boot-time nanoseconds of a wall-clock time, 0 if that was before boot.
    pub fn boot(&self, _time: Timestamp) -> u64 {
        todo!()
    }

    /// Wall-clock time of boot-time nanoseconds (of an event).
    pub fn wall(&self, _boot: u64) -> Timestamp {
        todo!()
    }
}

/// Tells of steps of the wall clock (settimeofday, NTP step, resume), at once.
#[derive(Debug)]
pub struct ClockWatch {}

impl ClockWatch {
    /// Begins to watch; needs a tokio runtime.
    ///
    /// # Errors
    /// If the kernel gives no timer.
    pub fn new() -> io::Result<Self> {
        todo!()
    }

    /// Waits for the next step.
    ///
    /// # Errors
    /// If the timer cannot be read.
    pub async fn step(&mut self) -> io::Result<()> {
        todo!()
    }
}
