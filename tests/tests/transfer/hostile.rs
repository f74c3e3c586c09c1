//! A primary that is ill: nothing of what it sends is taken, the state says why, and the copy stays.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cordon_tests::primary::free_address;
use domain::base::{Rtype, iana::Rcode};

use super::{
    scripted::{
        Act::{self, Close, Code, Frame, Octets, Send, SendBroken, SendPacked, SendUnsigned, Wait},
        Rr::{Chaos, Outside, Rule, Soa},
        Script, Scripted,
    },
    support::Secondary,
};

const HERE: [&str; 2] = ["bad.test", "other.test"];

/// Some 130 octets.
const LONG: &str = "a-label-that-is-as-long-as-labels-may-be-and-not-one-octet-more.a-label-that-is-as-long-as-labels-may-be-and-not-one-octet-more";

/// Serial 1, which every test begins with.
fn first() -> Script {
    let whole = vec![Send(vec![Soa(1), Rule(HERE[0]), Rule(HERE[1]), Soa(1)])];
    Script { serial: Some(1), whole, ..Script::default() }
}

/// Serial 2, as it should be.
fn good() -> Script {
    Script { serial: Some(2), whole: vec![Send(vec![Soa(2), Rule("fresh.test"), Soa(2)])], ..Script::default() }
}

fn begin(script: Script) -> Result<(Scripted, Secondary)> {
    let signs = script.signs;
    let primary = Scripted::start(script)?;
    let mut secondary = Secondary::at(&[primary.address()], free_address()?)?;
    if !signs {
        secondary.upstream.primaries[0].key = None;
    }
    secondary.upstream.stall_timeout = Duration::from_secs(1);
    secondary.upstream.timeout = Duration::from_secs(4);
    secondary.upstream.max_size = 4096;
    secondary.start();
    secondary.reaches(1, &HERE)?;
    // What is new is told, too.
    secondary.is_well()?;
    Ok((primary, secondary))
}

#[test]
fn f4_nothing_partial_is_taken() -> Result<()> {
    let (primary, mut secondary) = begin(first())?;
    secondary.upstream.incremental = false;
    secondary.start();
    let send = |records: &[super::scripted::Rr]| vec![Send(records.to_vec())];
    let cut = |acts: Vec<Act>| [acts, vec![Close]].concat();
    let part = send(&[Soa(2), Rule("fresh.test")]);
    let cases: Vec<(&str, Vec<Act>, &str)> = vec![
        ("closed at once", vec![Close], "the connection was closed before the answer's end"),
        ("without its closing SOA", cut(part.clone()), "the connection was closed before the answer's end"),
        ("cut in a message", cut([part.clone(), vec![Octets(vec![1, 0, 7, 7])]].concat()), "before the answer's end"),
        ("stalls", [part.clone(), vec![Wait(Duration::from_secs(3))]].concat(), "nothing came for 1 s"),
        (
            "trickles",
            std::iter::once(Octets(vec![3, 0]))
                .chain((0..20).flat_map(|_| [Octets(vec![0]), Wait(Duration::from_millis(400))]))
                .collect(),
            "it took too long",
        ),
        ("no message", vec![Frame(vec![1, 2, 3])], "a message of it is too short"),
        ("junk", vec![Frame(vec![7; 100])], "a message of it is not an answer to what was asked"),
        ("refused", vec![Code(Rcode::REFUSED)], "AXFR: it answers REFUSED"),
        ("not begun by an SOA", send(&[Rule("fresh.test"), Soa(2)]), "it does not begin with the zone's SOA record"),
        (
            "another closing SOA",
            send(&[Soa(2), Rule("fresh.test"), Soa(3)]),
            "it begins with serial 2 and has another SOA record, of serial 3",
        ),
        ("goes on", send(&[Soa(2), Soa(2), Rule("fresh.test")]), "it goes on behind the SOA record that closes it"),
        ("an older serial", send(&[Soa(0), Rule("fresh.test"), Soa(0)]), "it sends serial 0, which is no newer than 1"),
        ("the same serial", send(&[Soa(1), Rule("fresh.test"), Soa(1)]), "it sends serial 1, which is no newer than 1"),
        ("out of the zone", send(&[Soa(2), Outside("fresh.test"), Soa(2)]), "fresh.test, which is not in the zone"),
        ("class CH", send(&[Soa(2), Chaos("fresh.test"), Soa(2)]), "has the class CH"),
        (
            "too large",
            std::iter::once(Send(vec![Soa(2)]))
                .chain((0..200).map(|_| Send(vec![Rule("fresh.test"), Rule("more.test")])))
                .collect(),
            "it is longer than 4096 octets",
        ),
        (
            "large, in a small message",
            vec![SendPacked(vec![Soa(2), Rule(LONG)], 100)],
            "its records take more than 4096 octets",
        ),
        ("with TC", vec![SendBroken(vec![Soa(2), Rule("fresh.test"), Soa(2)], 2)], "a message of it was cut off"),
        // In the length of the rule's data.
        ("a broken record", vec![SendBroken(vec![Soa(2), Rule("fresh.test"), Soa(2)], 107)], "cannot be read"),
    ];
    for (what, acts, why) in cases {
        primary.play(Script { serial: Some(2), whole: acts, ..Script::default() });
        secondary.look();
        secondary.complains(why).with_context(|| what.to_owned())?;
        secondary.reaches(1, &HERE).with_context(|| what.to_owned())?;
        ensure!(secondary.state().failing.is_some(), "{what}");
        // So that the next case's problem is its own.
        primary.play(first());
        secondary.look();
        secondary.is_well().with_context(|| what.to_owned())?;
    }
    ensure!(secondary.news() == 1, "nothing but the first zone was told");
    primary.play(good());
    secondary.look();
    secondary.reaches(2, &["fresh.test"])?;
    secondary.is_well()
}

#[test]
fn f4_a_primary_without_the_zone_changes_nothing() -> Result<()> {
    let (primary, secondary) = begin(first())?;
    primary.play(Script::default());
    secondary.look();
    secondary.complains("it does not have the zone rpz.example")?;
    primary.play(Script { serial: Some(0), ..Script::default() });
    secondary.look();
    secondary.complains("has serial 0, which is older than 1, which is here")?;
    // Half of all serials away, neither comes after the other (RFC 1982 3.2).
    primary.play(Script { serial: Some(1 + (1 << 31)), ..Script::default() });
    secondary.look();
    secondary.complains("has serial 2147483649, which is older than 1, which is here")?;
    ensure!(primary.asked() == [Rtype::SOA], "{:?}", primary.asked());
    secondary.reaches(1, &HERE)
}

#[test]
fn f4_differences_that_do_not_fit_are_not_taken() -> Result<()> {
    let cases: [(&str, Vec<Act>); 10] = [
        ("from another serial", vec![Send(vec![Soa(2), Soa(0), Rule(HERE[0]), Soa(2), Soa(2)])]),
        ("to another serial", vec![Send(vec![Soa(2), Soa(1), Rule(HERE[0]), Soa(3), Soa(2)])]),
        ("a gap", vec![Send(vec![Soa(4), Soa(1), Rule(HERE[0]), Soa(2), Soa(3), Soa(4), Soa(4)])]),
        ("what goes is not here", vec![Send(vec![Soa(2), Soa(1), Rule("else.test"), Soa(2), Soa(2)])]),
        ("what comes is here", vec![Send(vec![Soa(2), Soa(1), Soa(2), Rule(HERE[0]), Soa(2)])]),
        ("not closed", vec![Send(vec![Soa(2), Soa(1), Rule(HERE[0]), Soa(2)]), Close]),
        ("newer, and nothing follows", vec![Send(vec![Soa(2)]), Close]),
        ("nothing new after all", vec![Send(vec![Soa(1)])]),
        ("not implemented", vec![Code(Rcode::NOTIMP)]),
        ("stalls", vec![Send(vec![Soa(2), Soa(1)]), Wait(Duration::from_secs(3))]),
    ];
    for (what, since) in cases {
        let (primary, secondary) = begin(first())?;
        primary.play(Script { since, ..good() });
        secondary.look();
        // The whole zone is asked for, and taken.
        secondary.reaches(2, &["fresh.test"]).with_context(|| what.to_owned())?;
        ensure!(primary.asked() == [Rtype::SOA, Rtype::IXFR, Rtype::AXFR], "{what}: {:?}", primary.asked());
        secondary.is_well()?;
    }
    // A server may answer with the whole zone.
    let (primary, secondary) = begin(first())?;
    primary.play(Script { since: good().whole, whole: vec![Close], ..good() });
    secondary.look();
    secondary.reaches(2, &["fresh.test"])?;
    let zone = secondary.zone();
    ensure!((zone.whole, zone.incremental) == (2, 0), "{zone:?}");
    Ok(())
}

#[test]
fn a_primary_may_close_the_connection_after_each_answer() -> Result<()> {
    let closing = |script: Script| Script { closes: true, ..script };
    let (primary, secondary) = begin(closing(first()))?;
    ensure!(primary.asked() == [Rtype::SOA, Rtype::AXFR], "{:?}", primary.asked());
    // What changed is asked for, and not all of it.
    let since = vec![Send(vec![Soa(2), Soa(1), Rule(HERE[0]), Soa(2), Rule("fresh.test"), Soa(2)])];
    primary.play(closing(Script { serial: Some(2), since, ..Script::default() }));
    secondary.look();
    secondary.reaches(2, &["fresh.test", HERE[1]])?;
    ensure!(primary.asked() == [Rtype::SOA, Rtype::IXFR], "{:?}", primary.asked());
    secondary.is_well()?;
    // One that closes it without an answer is asked twice for the zone, and no more.
    primary.play(Script { serial: Some(3), since: vec![Close], whole: vec![Close], ..Script::default() });
    secondary.look();
    secondary.complains("AXFR: the connection was closed before the answer's end")?;
    let asked = [Rtype::SOA, Rtype::IXFR, Rtype::IXFR, Rtype::AXFR];
    ensure!(primary.asked() == asked, "{:?}", primary.asked());
    secondary.reaches(2, &["fresh.test", HERE[1]])
}

#[test]
fn f4_what_is_not_signed_as_it_should_be_is_not_taken() -> Result<()> {
    let signed = |script: Script| Script { signs: true, ..script };
    let (primary, mut secondary) = begin(signed(first()))?;
    secondary.upstream.incremental = false;
    secondary.start();
    let parts = |last: Act| vec![Send(vec![Soa(2)]), SendUnsigned(vec![Rule("fresh.test")]), last];
    let cases: [(&str, Vec<Act>, &str); 4] = [
        ("not signed", vec![SendUnsigned(vec![Soa(2), Rule("fresh.test"), Soa(2)])], "its answer is not signed"),
        ("changed on the way", vec![SendBroken(vec![Soa(2), Rule("fresh.test"), Soa(2)], 60)], "is wrong"),
        ("the last one is not signed", parts(SendUnsigned(vec![Soa(2)])), "ends without a signature by the key cordon"),
        ("one in the middle was changed", parts(SendBroken(vec![Soa(2)], 60)), "is wrong"),
    ];
    for (what, whole, why) in cases {
        primary.play(signed(Script { serial: Some(2), whole, ..Script::default() }));
        secondary.look();
        secondary.complains(why).with_context(|| what.to_owned())?;
        secondary.reaches(1, &HERE)?;
        primary.play(signed(first()));
        secondary.look();
        secondary.is_well().with_context(|| what.to_owned())?;
    }
    primary.play(signed(good()));
    secondary.look();
    secondary.reaches(2, &["fresh.test"])?;
    secondary.is_well()
}
