//! Counts at 100,000 names.

use super::*;

#[test]
fn a_hundred_thousand_names_and_one_more() {
    const NAMES: usize = 100_000;
    let mut big = order("big", &[]);
    big.names = (0..NAMES).map(|n| name(&format!("name-{n}.zone-{}.net", n % 1000))).collect();
    let mut compiler = compiler();
    compiler.put(&big).unwrap();
    let changes = compiler.commit().unwrap();
    assert_eq!((changes.insert.len(), changes.policies.len(), changes.orders.len()), (NAMES, 1, 1));
    assert_eq!(changes.depths, [0b1000, 0]);

    compiler.add_names("big", &[name("one.more.net")]).unwrap();
    let changes = compiler.commit().unwrap();
    assert_eq!((changes.insert.len(), changes.update.len(), changes.delete.len()), (1, 0, 0));

    compiler.put(&order("zone", &["zone-7.net"])).unwrap();
    let changes = compiler.commit().unwrap();
    assert_eq!((changes.insert.len(), changes.update.len(), changes.policies.len()), (1, NAMES / 1000, 2));

    compiler.revoke("big").unwrap();
    let changes = compiler.commit().unwrap();
    assert_eq!((changes.delete.len(), changes.retired_orders.len()), (NAMES + 1, 1));

    // What is left, and what takes the freed places, has its own name.
    let left = compiler.whole();
    assert_eq!(left.insert.iter().map(|(name, _)| name).collect::<Vec<_>>(), [&name("zone-7.net")]);
    compiler.put(&big).unwrap();
    let mut names: Vec<_> = compiler.commit().unwrap().insert.into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert!(names.iter().eq(&big.names));
}
