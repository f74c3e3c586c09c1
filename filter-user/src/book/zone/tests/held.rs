use super::*;

#[test]
fn an_exception_waits_for_the_rule_that_it_leaves_the_name_to() {
    let first = ["*.x.example CNAME .", "a.example CNAME ."];
    let with = ["*.x.example CNAME .", "a.example CNAME .", "www.x.example CNAME rpz-drop.", "*.c.x.example CNAME ."];
    let why = "the feed's additions wait 1h";
    let held = [("o#drop-exact", "hold", why, "+www.x.example"), ("o#nxdomain-below-2", "hold", why, "+c.x.example")];
    let except = |lab: &Lab| lab.copy["o#nxdomain-below"].except.iter().map(Name::to_string).collect::<Vec<_>>();
    for by_differences in [false, true] {
        let (mut lab, mut other) = (Lab::new(Policy::default()), Lab::new(Policy::default()));
        lab.write(&first);
        lab.policy.hold = Duration::from_secs(3600);
        if by_differences {
            other.write(&with);
            let parts = difference(&lab, &other);
            lab.change(parts);
            fs::write(lab.path(), fs::read(other.path()).unwrap()).unwrap();
        } else {
            lab.write(&with);
        }
        lab.held_as(&held);
        // They are stopped as before.
        assert_eq!(except(&lab), [""; 0]);
        assert_eq!(lab.read().changes, []);
        assert_eq!(except(&lab), [""; 0]);
        lab.held_as(&held);
        // An exception without a rule, or one that a new rule needs, does not wait.
        let passes = [&with[..], &["ok.x.example CNAME rpz-passthru."]].concat();
        lab.write(&passes);
        assert_eq!(except(&lab), ["ok.x.example"]);
        // Their time has come.
        let (applied, again) = lab.book.release(Timestamp::now() + Duration::from_secs(3601)).unwrap();
        lab.follow(applied);
        assert_eq!(again.len(), 1);
        lab.read();
        assert_eq!(except(&lab), ["c.x.example", "ok.x.example", "www.x.example"]);
        assert_eq!(
            lab.parts(),
            [
                "o#drop-exact: www.x.example",
                "o#nxdomain-below: x.example",
                "o#nxdomain-below-2: c.x.example",
                "o#nxdomain-exact: a.example",
            ]
        );
        lab.held_as(&[]);
        assert_eq!(lab.read().changes, []);
    }
}

#[test]
fn an_exception_that_a_new_rule_needs_does_not_wait() {
    let mut lab = Lab::new(Policy::default());
    lab.write(&["*.x.example CNAME ."]);
    // Its own rule is held, since somebody has protected the name; nothing else may stop it either.
    lab.write(&["*.x.example CNAME .", "*.large.example CNAME .", "www.large.example CNAME rpz-drop."]);
    lab.held_as(&[("o#drop-exact", "protected", "a rule would stop a protected name", "+www.large.example")]);
    assert_eq!(lab.parts(), ["o#nxdomain-below: large.example x.example"]);
    assert_eq!(lab.copy["o#nxdomain-below"].except.iter().map(Name::as_str).collect::<Vec<_>>(), ["www.large.example"]);
}

#[test]
fn a_rule_stays_until_all_that_take_its_place_are_let_through() {
    let mut lab = Lab::new(Policy::default());
    lab.write(&["x.example CNAME .", "*.x.example CNAME .", "a.example CNAME .", "b.example CNAME *."]);
    // What is below x is to be dropped, and waits; x alone is let through at once.
    lab.policy.hold = Duration::from_secs(3600);
    lab.write(&["x.example CNAME .", "*.x.example CNAME rpz-drop.", "a.example CNAME .", "b.example CNAME *."]);
    let exact = lab.book.held(usize::MAX).unwrap().into_iter().filter(|held| held.order == "o#nxdomain-exact");
    let (applied, _) = lab.book.approve(&exact.collect::<Vec<_>>(), &json!({"user": "alice"})).unwrap();
    lab.follow(applied);
    lab.read();
    assert_eq!(
        lab.parts(),
        ["o#nodata-exact: b.example", "o#nxdomain-exact: a.example x.example", "o#nxdomain-subtree: x.example",]
    );
    lab.approve();
    assert_eq!(
        lab.parts(),
        ["o#drop-below: x.example", "o#nodata-exact: b.example", "o#nxdomain-exact: a.example x.example",]
    );
}
