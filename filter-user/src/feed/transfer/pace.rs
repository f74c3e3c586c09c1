//! When a zone is looked at again, by the times in its SOA record (RFC 1035 3.3.13).

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};

use super::{kept::Version, records::Soa};

/// See the module.
pub(super) struct Pace {
    soa: Option<Soa>,
    /// From when on the zone is too old; by the clock that nobody sets.
    expiry: Option<Instant>,
    /// That it is was told.
    is_told: bool,
    /// Not before this is it told.
    not_before: Instant,
    failures: u32,
    /// NOTIFYs that are followed at once, and when that was.
    free: f64,
    counted: Instant,
}

impl Pace {
    pub(super) fn new(version: Option<Version>) -> Self {
        let now = Instant::now();
        let mut pace = Self {
            soa: None,
            expiry: None,
            is_told: false,
            not_before: now,
            failures: 0,
            free: FREE_NOTIFIES,
            counted: now,
        };
        if let Some(version) = version {
            // A clock that went back says nothing about the zone's age.
            let age = Duration::try_from(Timestamp::now().duration_since(version.checked)).unwrap_or_default();
            pace.soa = Some(version.soa);
            pace.expiry = Some(Instant::now() + expire(&version.soa).saturating_sub(age));
        }
        pace
    }

    /// The wait after a primary has confirmed the zone, or sent it.
    pub(super) fn after_answer(&mut self, version: Option<Version>, is_new: bool) -> Duration {
        (self.failures, self.is_told) = (0, false);
        if is_new {
            self.free = (self.free + 1.0).min(FREE_NOTIFIES);
        }
        let Some(soa) = version.map(|version| version.soa) else { return FIRST };
        self.soa = Some(soa);
        self.expiry = Some(Instant::now() + expire(&soa));
        // Sooner, so that many secondaries do not ask at once.
        refresh(&soa).mul_f64(1.0 - JITTER * random())
    }

    /// The wait after a failure: the zone's retry time, then twice as long each time, up to its refresh time. Without a
    /// zone it begins at two seconds and ends at five minutes.
    pub(super) fn after_failure(&mut self) -> Duration {
        let (first, most) = match &self.soa {
            Some(soa) => (retry(soa), refresh(soa).max(retry(soa))),
            None => (FIRST, LONGEST_FIRST),
        };
        let wait = first.saturating_mul(1 << self.failures.min(16)).min(most);
        self.failures += 1;
        wait.mul_f64(1.0 - JITTER * random())
    }

    /// The wait after a NOTIFY: none, but where many were for nothing, so that who forges them cannot have a primary asked
    /// more than once a second.
    pub(super) fn after_notify(&mut self) -> Duration {
        let now = Instant::now();
        let rested = now.duration_since(self.counted).as_secs_f64();
        self.counted = now;
        self.free = (self.free + rested).min(FREE_NOTIFIES) - 1.0;
        Duration::from_secs_f64((-self.free).clamp(0.0, 1.0))
    }

    /// The time until it is to be told that the zone is too old; for ever, if it was told, or if there is none.
    pub(super) fn until_expiry(&self) -> Duration {
        match self.expiry {
            Some(expiry) if !self.is_told => expiry.max(self.not_before).saturating_duration_since(Instant::now()),
            _ => Duration::MAX,
        }
    }

    /// Has it told again in a while, since what is to be done then could not be.
    pub(super) fn put_off_expiry(&mut self) {
        self.not_before = Instant::now() + EXPIRY_AGAIN;
    }

    /// Notes that it was told.
    pub(super) fn told_expiry(&mut self) {
        self.is_told = true;
    }

    pub(super) fn is_expired(&self) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= Instant::now())
    }

    /// A problem, and what it has come to. `is_dropped`: the zone's rules have gone.
    pub(super) fn told(&self, why: &str, is_dropped: bool) -> String {
        match is_dropped {
            _ if !self.is_expired() => why.to_owned(),
            false => format!("the zone has expired; its rules stay in force: {why}"),
            true => format!("the zone has expired; its rules are dropped: {why}"),
        }
    }
}

/// When a copy is too old.
pub(super) fn expires(version: &Version) -> Option<Timestamp> {
    let expire = SignedDuration::try_from(expire(&version.soa)).ok()?;
    version.checked.checked_add(expire).ok()
}

fn refresh(soa: &Soa) -> Duration {
    seconds(soa.refresh)
}

fn retry(soa: &Soa) -> Duration {
    seconds(soa.retry)
}

/// Not before a primary was asked for the second time.
fn expire(soa: &Soa) -> Duration {
    seconds(soa.expire).max(refresh(soa) + retry(soa))
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into()).clamp(SHORTEST, LONGEST)
}

fn random() -> f64 {
    let mut octets = [0; 4];
    // Without a random number all wait as long; that is no reason to fail.
    SystemRandom::new().fill(&mut octets).map_or(0.5, |()| f64::from(u32::from_ne_bytes(octets)) / f64::from(u32::MAX))
}

/// Until it is tried again to drop a zone's rules.
const EXPIRY_AGAIN: Duration = Duration::from_secs(10);

/// Part by which a wait may be shorter than it should.
const JITTER: f64 = 0.1;

/// Whatever an SOA record says.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(28 * 24 * 3600);

/// After the first failure, without a zone.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST_FIRST: Duration = Duration::from_secs(300);

/// NOTIFYs for nothing that are followed at once, and then one a second: each of several primaries sends them, and again.
const FREE_NOTIFIES: f64 = 16.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn version(refresh: u32, retry: u32, expire: u32, age: u64) -> Version {
        let checked = Timestamp::now() - SignedDuration::from_secs(age as i64);
        Version { soa: Soa { serial: 1, refresh, retry, expire }, changed: checked, checked, is_dropped: false }
    }

    /// Whole seconds, jitter taken out.
    fn waits(pace: &mut Pace, count: usize) -> Vec<f64> {
        (0..count).map(|_| pace.after_failure().as_secs_f64()).collect()
    }

    fn near(wait: f64, expected: f64) -> bool {
        (expected * 0.9..=expected).contains(&wait)
    }

    #[test]
    fn it_waits_as_the_soa_record_says() {
        let version = version(3600, 600, 86_400, 0);
        let mut pace = Pace::new(Some(version));
        for (wait, expected) in waits(&mut pace, 6).into_iter().zip([600.0, 1200.0, 2400.0, 3600.0, 3600.0, 3600.0]) {
            assert!(near(wait, expected), "{wait} {expected}");
        }
        assert!(near(pace.after_answer(Some(version), true).as_secs_f64(), 3600.0));
        assert!(near(pace.after_failure().as_secs_f64(), 600.0), "from the beginning");
    }

    #[test]
    fn without_a_zone_it_backs_off() {
        let mut pace = Pace::new(None);
        for (wait, expected) in waits(&mut pace, 9).into_iter().zip([2., 4., 8., 16., 32., 64., 128., 256., 300.]) {
            assert!(near(wait, expected), "{wait} {expected}");
        }
        assert_eq!(pace.until_expiry(), Duration::MAX);
    }

    #[test]
    fn no_soa_record_makes_it_ask_without_a_pause() {
        let mut pace = Pace::new(Some(version(0, 0, 0, 0)));
        assert!(near(pace.after_failure().as_secs_f64(), 1.0));
        assert!(near(pace.after_answer(Some(version(0, 0, 0, 0)), false).as_secs_f64(), 1.0));
        let longest = u32::MAX;
        assert!(near(pace.after_answer(Some(version(longest, longest, longest, 0)), false).as_secs_f64(), 2_419_200.0));
    }

    #[test]
    fn a_zone_expires_by_its_age() {
        let left = |pace: &Pace| pace.until_expiry().as_secs();
        assert!((86_398..=86_400).contains(&left(&Pace::new(Some(version(3600, 600, 86_400, 0))))));
        assert!((46_398..=46_400).contains(&left(&Pace::new(Some(version(3600, 600, 86_400, 40_000))))));
        assert!(
            (4198..=4200).contains(&left(&Pace::new(Some(version(3600, 600, 1, 0))))),
            "not before it was looked at"
        );
        let mut pace = Pace::new(Some(version(3600, 600, 86_400, 90_000)));
        assert_eq!(left(&pace), 0);
        assert_eq!(pace.told("x", false), "the zone has expired; its rules stay in force: x");
        assert_eq!(pace.told("x", true), "the zone has expired; its rules are dropped: x");
        pace.put_off_expiry();
        assert!((8..=10).contains(&left(&pace)), "it is tried again");
        pace.told_expiry();
        assert_eq!(pace.until_expiry(), Duration::MAX);
        pace.after_answer(Some(version(3600, 600, 86_400, 0)), false);
        assert!(left(&pace) > 86_000);
        assert_eq!(pace.told("x", false), "x");
        let from_the_future = Pace::new(Some(Version { checked: Timestamp::MAX, ..version(60, 60, 600, 0) }));
        assert!((598..=600).contains(&left(&from_the_future)));
    }

    #[test]
    fn of_many_notifies_for_nothing_one_a_second_is_followed() {
        let mut pace = Pace::new(None);
        let at_once = |pace: &mut Pace| (0..16).filter(|_| pace.after_notify().is_zero()).count();
        assert_eq!(at_once(&mut pace), 16);
        assert!(pace.after_notify() > Duration::from_millis(900));
        pace.counted -= Duration::from_secs(60);
        assert_eq!(at_once(&mut pace), 16, "rested");
        // What brought something new costs nothing.
        let version = version(3600, 600, 86_400, 0);
        for _ in 0..100 {
            pace.after_answer(Some(version), true);
            assert_eq!(pace.after_notify(), Duration::ZERO);
        }
    }
}
