//! When a server is asked again.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use super::Remote;

/// See the module.
pub(in crate::feed) struct Pace {
    interval: Duration,
    jitter: u32,
    long_poll: Option<Duration>,
    failures: u32,
}

impl Pace {
    pub(in crate::feed) fn new(remote: &Remote) -> Self {
        let Remote { interval, jitter, long_poll, .. } = *remote;
        Self { interval, jitter, long_poll, failures: 0 }
    }

    /// The wait after an answer. `held`: how long the server took for it, if it was asked to hold the question. One that
    /// does not hold it is asked no more often than any other.
    pub(in crate::feed) fn after_answer(&mut self, is_new: bool, held: Option<Duration>) -> Duration {
        self.failures = 0;
        match (self.long_poll, held) {
            (Some(wait), Some(held)) if is_new || held >= wait / 2 => AT_ONCE,
            _ => self.varied(self.interval),
        }
    }

    /// The wait after a failure: twice the last one, up to the interval or five minutes, whichever is longer.
    pub(in crate::feed) fn after_failure(&mut self, retry_after: Option<Duration>) -> Duration {
        let longest = self.interval.max(LONGEST);
        let wait = FIRST.min(self.interval).saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures += 1;
        self.varied(wait).max(retry_after.unwrap_or_default().min(LONGEST_WISH))
    }

    /// The wait, longer or shorter by up to the jitter.
    fn varied(&self, wait: Duration) -> Duration {
        let mut octets = [0; 4];
        // Without a random number all wait as long; that is no reason to fail.
        let random = SystemRandom::new()
            .fill(&mut octets)
            .map_or(0.5, |()| f64::from(u32::from_ne_bytes(octets)) / f64::from(u32::MAX));
        wait.mul_f64(1.0 + f64::from(self.jitter) / 100.0 * (2.0 * random - 1.0))
    }
}

/// Between two answers of a server that holds questions.
const AT_ONCE: Duration = Duration::from_millis(20);

/// After the first failure.
const FIRST: Duration = Duration::from_secs(2);

/// After many failures.
const LONGEST: Duration = Duration::from_secs(300);

/// Longest wait that a server may wish for.
const LONGEST_WISH: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(interval: u64, long_poll: Option<u64>) -> Pace {
        let seconds = Duration::from_secs;
        Pace { interval: seconds(interval), jitter: 10, long_poll: long_poll.map(seconds), failures: 0 }
    }

    #[test]
    fn it_varies_about_the_interval() {
        let mut pace = pace(100, None);
        let waits: Vec<Duration> = (0..100).map(|_| pace.after_answer(true, None)).collect();
        assert!(waits.iter().all(|wait| (90.0..=110.0).contains(&wait.as_secs_f64())), "{waits:?}");
        assert!(waits.iter().max() > waits.iter().min());
    }

    #[test]
    fn it_backs_off_and_comes_back() {
        let mut pace = Pace { jitter: 0, ..pace(60, None) };
        let waits: Vec<u64> = (0..10).map(|_| pace.after_failure(None).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(pace.after_failure(Some(Duration::from_secs(900))).as_secs(), 900);
        assert_eq!(pace.after_failure(Some(Duration::from_secs(1 << 40))).as_secs(), 3600);
        assert_eq!(pace.after_answer(false, None).as_secs(), 60);
        assert_eq!(pace.after_failure(None).as_secs(), 2);
    }

    #[test]
    fn a_server_that_holds_the_question_is_asked_again_at_once() {
        let mut pace = Pace { jitter: 0, ..pace(60, Some(30)) };
        let seconds = Duration::from_secs;
        assert_eq!(pace.after_answer(false, Some(seconds(30))), AT_ONCE);
        assert_eq!(pace.after_answer(true, Some(seconds(1))), AT_ONCE);
        assert_eq!(pace.after_answer(false, Some(seconds(1))), seconds(60), "it does not hold it");
        assert_eq!(pace.after_answer(true, None), seconds(60), "it was not asked to");
    }
}
