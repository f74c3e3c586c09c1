//! What becomes of orders while the clock is known to be wrong.

use jiff::{SignedDuration, Timestamp};

use crate::policy::OrderSlot;

/// An entry of the book further ahead of the clock was more likely written under a wrong clock itself.
const FURTHEST_AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// There was no Cordon before this: an earlier clock is wrong whatever the book says. (2025-01-01)
const EARLIEST: Timestamp = Timestamp::constant(1_735_689_600, 0);

/// The time that orders are judged by instead of the clock's, which is behind the book's newest entry; `None` if the
/// entry is to be trusted less than the clock.
pub(super) fn held_at(newest: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let is_trusted = now < EARLIEST || newest.duration_since(now) < FURTHEST_AHEAD;
    is_trusted.then_some(newest)
}

/// While the clock is wrong, what was in force at the book's newest entry stays in force, and nothing else is. Ends
/// stay as they are, for the case that no daemon is there when they come: the clock is behind, so none comes early.
pub(super) fn hold(order: &mut OrderSlot, newest: Option<Timestamp>) {
    if let Some(newest) = newest {
        let in_force = order.start <= newest && order.end.is_none_or(|end| newest < end);
        order.start = if in_force { Timestamp::MIN } else { Timestamp::MAX };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Clock;

    #[test]
    fn under_a_wrong_clock_orders_neither_start_nor_end() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let newest = time("2025-06-01T00:00:00Z");
        let (before, after) = (time("2025-05-01T00:00:00Z"), time("2025-07-01T00:00:00Z"));
        let clock = Clock { offset: 0 };
        for (start, end, in_force) in [
            (before, None, true),
            (before, Some(after), true),
            (newest, Some(after), true),
            (before, Some(newest), false),
            (after, None, false),
        ] {
            let mut slot = OrderSlot {
                id: "a".to_owned(),
                start,
                end,
                scopes: 1,
                actions: [0; 4],
                target: 0,
                ede: 16,
                text: String::new(),
                a: None,
                aaaa: None,
            };
            let as_it_is = slot.clone();
            hold(&mut slot, None);
            assert_eq!(slot, as_it_is);
            hold(&mut slot, Some(newest));
            // At any time of the kernel's clock.
            let held = slot.to_layout(|time| clock.boot(time));
            assert_eq!((held.start == 0, slot.end), (in_force, end), "{start} {end:?}");
            assert_eq!(held.start == u64::MAX, !in_force, "{start} {end:?}");
        }
    }

    #[test]
    fn an_entry_of_the_far_future_holds_nothing() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let newest = time("2026-06-02T00:00:00Z");
        for (now, is_held) in [
            ("2026-06-01T23:59:59Z", true),
            ("2026-06-01T00:00:01Z", true),
            ("2026-06-01T00:00:00Z", false),
            ("2025-01-01T00:00:00Z", false),
            // A machine whose clock has no battery.
            ("1970-01-01T00:00:10Z", true),
        ] {
            assert_eq!(held_at(newest, time(now)), is_held.then_some(newest), "{now}");
        }
    }
}
