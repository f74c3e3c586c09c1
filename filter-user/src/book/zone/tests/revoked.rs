use super::*;

#[test]
fn a_revoked_order_comes_back_as_a_whole_when_its_zone_says_something_else() {
    let mut lab = Lab::new(Policy::default());
    lab.write(&["a.example CNAME .", "b.example CNAME *."]);
    for id in ["o#nxdomain-exact", "o#nodata-exact"] {
        let event = Event::Revoke { order: id.to_owned(), why: "appeal".to_owned() };
        let applied = lab.book.apply("cli", vec![Entry { line: 1, seq: None, at: None, event }]).unwrap();
        lab.follow(applied);
    }
    assert_eq!(lab.read().changes, []);
    assert_eq!(lab.parts(), [""; 0]);
    lab.write(&["a.example CNAME .", "b.example CNAME *.", "c.example CNAME ."]);
    assert_eq!(lab.parts(), ["o#nodata-exact: b.example", "o#nxdomain-exact: a.example c.example"]);
}

#[test]
fn a_revoked_order_stays_revoked_though_its_zone_changed_by_differences() {
    let (mut lab, mut other) = (Lab::new(Policy::default()), Lab::new(Policy::default()));
    let first = ["a.example CNAME .", "b.example CNAME *."];
    lab.write(&first);
    other.write(&["a.example CNAME .", "b.example CNAME *.", "c.example CNAME ."]);
    let parts = difference(&lab, &other);
    lab.change(parts);
    assert_eq!(lab.parts(), other.parts());
    lab.revoke();
    // The whole zone says what its differences have said.
    let applied = lab.write(&["a.example CNAME .", "b.example CNAME *.", "c.example CNAME ."]);
    assert_eq!((applied.changes, lab.parts()), (vec![], vec![]));
    assert_eq!((lab.read().changes, lab.parts()), (vec![], vec![]));
    // Then something else, and all of it is back.
    lab.write(&first);
    assert_eq!(lab.parts(), ["o#nodata-exact: b.example", "o#nxdomain-exact: a.example"]);
    // By a difference, too: all of the zone is read for it.
    lab.revoke();
    let parts = difference(&Lab::new(Policy::default()), &other).split_off(1);
    assert_eq!(parts.len(), 1);
    fs::write(lab.path(), fs::read(other.path()).unwrap()).unwrap();
    lab.change(parts);
    assert_eq!(lab.parts(), other.parts());
    // What changes while nobody reads the differences is something else, too.
    let mut less = Lab::new(Policy::default());
    less.write(&first);
    let parts = difference(&lab, &less);
    lab.change(parts);
    lab.revoke();
    lab.write(&["a.example CNAME .", "d.example CNAME *."]);
    assert_eq!(lab.parts(), ["o#nodata-exact: d.example", "o#nxdomain-exact: a.example"]);
}

#[test]
fn a_revoked_order_stays_revoked_though_something_of_it_was_held() {
    let hour = Duration::from_secs(3600);
    // A name that changes its action, in a zone that is read.
    let mut lab = Lab::new(Policy::default());
    lab.write(&["a.example CNAME .", "b.example CNAME ."]);
    lab.policy.hold = hour;
    let moved = ["a.example CNAME rpz-drop.", "b.example CNAME ."];
    lab.write(&moved);
    lab.held_as(&[("o#drop-exact", "hold", "the feed's additions wait 1h", "+a.example")]);
    lab.revoke();
    for _ in 0..2 {
        assert_eq!((lab.read().changes, lab.parts()), (vec![], vec![]));
    }
    // The same by differences.
    let (mut lab, mut other) = (Lab::new(Policy::default()), Lab::new(Policy::default()));
    lab.write(&["a.example CNAME .", "b.example CNAME ."]);
    lab.policy.hold = hour;
    other.write(&moved);
    let parts = difference(&lab, &other);
    lab.change(parts);
    lab.held_as(&[("o#drop-exact", "hold", "the feed's additions wait 1h", "+a.example")]);
    lab.revoke();
    lab.write(&moved);
    for _ in 0..2 {
        assert_eq!((lab.read().changes, lab.parts()), (vec![], vec![]));
    }
    // It comes back when the zone says something else.
    lab.policy.hold = Duration::ZERO;
    lab.write(&["a.example CNAME rpz-drop.", "b.example CNAME .", "c.example CNAME ."]);
    assert_eq!(lab.parts(), ["o#drop-exact: a.example", "o#nxdomain-exact: b.example c.example"]);
}
