//! What becomes of orders while the clock is known to be wrong.

use jiff::Timestamp;

use crate::policy::OrderSlot;

/// While the clock is wrong, what was in force at the book's newest entry stays in force, and nothing else is.
pub(super) fn hold(order: &mut OrderSlot, newest: Option<Timestamp>) {
    if let Some(newest) = newest {
        let in_force = order.start <= newest && order.end.is_none_or(|end| newest < end);
        order.start = if in_force { Timestamp::MIN } else { Timestamp::MAX };
        order.end = None;
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
            assert_eq!((held.start == 0, held.end), (in_force, u64::MAX), "{start} {end:?}");
            assert_eq!(held.start == u64::MAX, !in_force, "{start} {end:?}");
        }
    }
}
