//! The scheduling priority of the thread that reads copies.
//!
//! It competes with the packets' own way to the server and back, so it goes before every ordinary thread (SCHED_FIFO,
//! which takes CAP_SYS_NICE). What it reads is anyone's to send, so it does so for a share of the time only: what takes
//! longer goes on at ordinary priority until the period is over.

use std::{
    io,
    time::{Duration, Instant},
};

/// The priority of the thread that made it.
#[derive(Debug)]
pub(super) struct Priority {
    share: Share,
    is_raised: bool,
}

impl Priority {
    /// Raises it, unless the kernel forbids that: then the thread stays at its ordinary priority.
    pub fn raise() -> Self {
        let raised = set(libc::SCHED_FIFO, LOWEST);
        if let Err(error) = &raised {
            tracing::warn!(
                "the deferred tier runs at ordinary priority ({error}; it takes CAP_SYS_NICE): on a busy host names in \
                 QUIC are found later"
            );
        }
        Self { share: Share::new(Instant::now(), used()), is_raised: raised.is_ok() }
    }

    /// Keeps it raised for its share of the time only.
    pub fn bound(&mut self) {
        if !self.is_raised {
            return;
        }
        let (policy, priority) = match self.share.turn(Instant::now(), used()) {
            Turn::Stay => return,
            Turn::Lower => (libc::SCHED_OTHER, 0),
            Turn::Raise => (libc::SCHED_FIFO, LOWEST),
        };
        if let Err(error) = set(policy, priority) {
            tracing::warn!("the deferred tier's priority: {error}");
            self.is_raised = false;
        }
    }
}

/// How much of a period is used.
#[derive(Debug)]
struct Share {
    began: Instant,
    /// Processor time of the thread at the period's beginning.
    used: Duration,
    is_over: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Stay,
    Lower,
    Raise,
}

impl Share {
    fn new(began: Instant, used: Duration) -> Self {
        Self { began, used, is_over: false }
    }

    fn turn(&mut self, now: Instant, used: Duration) -> Turn {
        // First, so that work without a pause over a period's end is bounded, too.
        if !self.is_over && used.saturating_sub(self.used) >= MOST {
            *self = Self { began: now, used, is_over: true };
            return Turn::Lower;
        }
        if now.saturating_duration_since(self.began) < PERIOD {
            return Turn::Stay;
        }
        let was_over = self.is_over;
        *self = Self::new(now, used);
        if was_over { Turn::Raise } else { Turn::Stay }
    }
}

/// Over ordinary threads, below everything else of its class.
const LOWEST: libc::c_int = 1;
const PERIOD: Duration = Duration::from_millis(20);
/// A quarter of a core: over a thousand Initials in each period.
const MOST: Duration = Duration::from_millis(5);

/// Sets the policy of this thread.
fn set(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: the pointer is to a parameter of ours; 0 is the thread that calls.
    let result = unsafe { libc::sched_setscheduler(0, policy | libc::SCHED_RESET_ON_FORK, &raw const parameter) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Processor time of this thread.
fn used() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours. The clock is always there, so that the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_bounded_in_each_period() {
        let began = Instant::now();
        let mut share = Share::new(began, Duration::ZERO);
        let mut at = |after: u64, used| share.turn(began + Duration::from_millis(after), Duration::from_millis(used));
        assert_eq!([at(1, 1), at(5, 4), at(6, 5), at(12, 11)], [Turn::Stay, Turn::Stay, Turn::Lower, Turn::Stay]);
        // What is used at ordinary priority counts for nothing.
        assert_eq!([at(26, 12), at(28, 14), at(36, 17)], [Turn::Raise, Turn::Stay, Turn::Lower]);
        // Little is used, over many periods.
        assert_eq!([at(56, 17), at(80, 20), at(120, 24)], [Turn::Raise, Turn::Stay, Turn::Stay]);
        // Without a pause.
        assert_eq!([at(200, 90), at(210, 95), at(220, 99)], [Turn::Lower, Turn::Stay, Turn::Raise]);
    }

    #[test]
    fn a_thread_goes_before_ordinary_ones_if_it_may() {
        std::thread::spawn(|| {
            let mut priority = Priority::raise();
            // SAFETY: no pointers.
            let policy = || unsafe { libc::sched_getscheduler(0) } & !libc::SCHED_RESET_ON_FORK;
            assert_eq!(policy(), if priority.is_raised { libc::SCHED_FIFO } else { libc::SCHED_OTHER });
            let was_raised = priority.is_raised;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(5) && !priority.share.is_over {
                priority.bound();
                if !was_raised {
                    break;
                }
            }
            assert_eq!(priority.share.is_over, was_raised);
            assert_eq!(policy(), libc::SCHED_OTHER);
        })
        .join()
        .unwrap();
    }
}
