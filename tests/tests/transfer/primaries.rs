//! BIND and Knot, with the configuration of `examples/`.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use cordon_tests::{
    lab::eventually,
    primary::{Kind, Server, Setup, Soa, ZONE, free_address},
};

use super::support::{PATIENCE, Secondary};

const KINDS: [Kind; 2] = [Kind::Bind, Kind::Knot];

/// A primary that is started, and a secondary that is not yet.
fn pair(kind: Kind, setup: &Setup) -> Result<(Server<'static>, Secondary)> {
    let notify = free_address()?;
    let server = Server::start(kind, &Setup { notify, ..setup.clone() })?;
    let secondary = Secondary::of(&server, notify)?;
    Ok((server, secondary))
}

fn change(server: &Server<'_>, kind: Kind, add: &[&str], remove: &[&str]) -> Result<()> {
    match kind {
        Kind::Bind => {
            let add = add.iter().map(|name| format!("add {name}.{ZONE}. 60 CNAME .\n"));
            let remove = remove.iter().map(|name| format!("del {name}.{ZONE}.\n"));
            server.update(&add.chain(remove).collect::<String>())
        }
        Kind::Knot => {
            server.knotc(&["zone-begin", ZONE])?;
            for name in add {
                server.knotc(&["zone-set", ZONE, name, "60", "CNAME", "."])?;
            }
            for name in remove {
                server.knotc(&["zone-unset", ZONE, name])?;
            }
            server.knotc(&["zone-commit", ZONE])
        }
    }
}

#[test]
fn a_zone_is_transferred_and_follows_by_differences() -> Result<()> {
    for kind in KINDS {
        let (server, mut secondary) = pair(kind, &Setup::default())?;
        secondary.start();
        let first = server.serial()?;
        secondary.reaches(first, &["bad.test", "*.bad.test"])?;
        secondary.is_well()?;

        // A change is told by NOTIFY, and comes as a difference.
        change(&server, kind, &["more.test"], &["*.bad.test"])?;
        secondary.reaches(server.serial()?, &["bad.test", "more.test"])?;
        let zone = secondary.zone();
        ensure!((zone.whole, zone.incremental) == (1, 1), "{kind:?}: {zone:?}");
        ensure!(zone.notifies >= 1 && zone.notifies_refused == 0, "{kind:?}: {zone:?}");

        // Several changes come as several differences in one answer.
        secondary.stop();
        let before = server.serial()?;
        for name in ["one.test", "two.test", "three.test"] {
            change(&server, kind, &[name], &[])?;
        }
        change(&server, kind, &[], &["two.test"])?;
        ensure!(server.serial()? == before + 4, "{kind:?}");
        secondary.start();
        secondary.reaches(before + 4, &["bad.test", "more.test", "one.test", "three.test"])?;
        let zone = secondary.zone();
        ensure!((zone.whole, zone.incremental) == (0, 1), "a start goes on by differences: {kind:?}: {zone:?}");
    }
    Ok(())
}

#[test]
fn an_edited_file_comes_as_a_difference() -> Result<()> {
    for kind in KINDS {
        let mut setup = Setup::default();
        if kind == Kind::Bind {
            setup = setup.edit("allow-update { key \"cordon\"; };", "");
        }
        let (server, mut secondary) = pair(kind, &setup)?;
        secondary.start();
        let serial = server.serial()?;
        secondary.reaches(serial, &["bad.test", "*.bad.test"])?;
        server.rewrite(Soa { serial: serial + 1, ..setup.soa }, "bad.test CNAME .\nfresh.test CNAME *.\n")?;
        secondary.reaches(serial + 1, &["bad.test", "fresh.test"])?;
        let zone = secondary.zone();
        ensure!((zone.whole, zone.incremental) == (1, 1), "{kind:?}: {zone:?}");
    }
    Ok(())
}

#[test]
fn serials_wrap() -> Result<()> {
    for kind in KINDS {
        let setup = Setup { soa: Soa { serial: u32::MAX - 1, ..Setup::default().soa }, ..Setup::default() };
        let (server, mut secondary) = pair(kind, &setup)?;
        secondary.start();
        secondary.reaches(u32::MAX - 1, &["bad.test", "*.bad.test"])?;
        for name in ["one.test", "two.test", "three.test"] {
            change(&server, kind, &[name], &[])?;
        }
        let serial = server.serial()?;
        ensure!(serial < 10, "{kind:?}: it has wrapped: {serial}");
        secondary.reaches(serial, &["bad.test", "*.bad.test", "one.test", "two.test", "three.test"])?;
        let zone = secondary.zone();
        ensure!(zone.whole == 1 && zone.incremental >= 1, "{kind:?}: {zone:?}");
    }
    Ok(())
}

#[test]
fn a_primary_without_its_journal_sends_the_whole_zone() -> Result<()> {
    for kind in KINDS {
        let setup = Setup::default();
        let (mut server, mut secondary) = pair(kind, &setup)?;
        secondary.start();
        let serial = server.serial()?;
        secondary.reaches(serial, &["bad.test", "*.bad.test"])?;
        secondary.stop();
        server.stop()?;
        match kind {
            Kind::Bind => _ = fs::remove_file(server.folder().join("rpz.example.zone.jnl")),
            Kind::Knot => fs::remove_dir_all(server.folder().join("db"))?,
        }
        let text = fs::read_to_string(server.folder().join("rpz.example.zone"))?;
        let fresh = text.replace(&format!(" {serial} "), &format!(" {} ", serial + 5));
        ensure!(fresh != text, "{text}");
        fs::write(server.folder().join("rpz.example.zone"), format!("{fresh}other.test CNAME .\n"))?;
        server.run()?;
        secondary.start();
        secondary.reaches(server.serial()?, &["bad.test", "*.bad.test", "other.test"])?;
        let zone = secondary.zone();
        ensure!((zone.whole, zone.incremental) == (1, 0), "{kind:?}: {zone:?}");
    }
    Ok(())
}

#[test]
fn only_the_right_key_gets_the_zone() -> Result<()> {
    for kind in KINDS {
        let (server, mut secondary) = pair(kind, &Setup::default())?;
        let right = fs::read_to_string(secondary.secret())?;
        fs::write(secondary.secret(), "b3RoZXI=\n")?;
        secondary.start();
        let problem = secondary.complains("its secret is another (BADSIG)")?;
        ensure!(problem.starts_with(&format!("{}: ", server.address())), "{problem}");
        ensure!(!secondary.path().exists() || secondary.copy().is_err(), "{kind:?}: nothing was taken");

        // The file is read again for each connection.
        fs::write(secondary.secret(), "no secret!\n")?;
        secondary.look();
        secondary.complains("secret: not a secret in base64")?;
        fs::write(secondary.secret(), &right)?;
        secondary.look();
        secondary.reaches(server.serial()?, &["bad.test", "*.bad.test"])?;
        secondary.is_well()?;

        // A key that the primary does not know, and none at all.
        let primary = secondary.upstream.primaries[0].clone();
        let mut other = primary.clone();
        if let Some(key) = &mut other.key {
            key.name = "other".parse().map_err(|_| anyhow::anyhow!("the key's name"))?;
        }
        secondary.upstream.primaries[0] = other;
        secondary.start();
        secondary.complains("it does not know the key other")?;
        change(&server, kind, &["more.test"], &[])?;
        secondary.upstream.primaries[0].key = None;
        secondary.start();
        secondary.complains("AXFR: it answers")?;
        secondary.reaches(server.serial()? - 1, &["bad.test", "*.bad.test"])?;
        secondary.upstream.primaries[0] = primary;
        secondary.start();
        secondary.reaches(server.serial()?, &["bad.test", "*.bad.test", "more.test"])?;
    }
    Ok(())
}

#[test]
fn keys_of_sha_512_and_of_binds_own_file_work() -> Result<()> {
    let secret = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0";
    let key = format!("key \"big.key\" {{\n\talgorithm hmac-sha512;\n\tsecret \"{secret}\";\n}};\n");
    let setup = Setup::default()
        .edit(
            "# Who may have the zone.\n    allow-transfer { key \"cordon\"; };",
            "allow-transfer { key \"big.key\"; };",
        )
        .edit("zone \"rpz.example\" {", &format!("{key}zone \"rpz.example\" {{"));
    let (server, mut secondary) = pair(Kind::Bind, &setup)?;
    fs::write(secondary.secret(), &key)?;
    if let Some(known) = &mut secondary.upstream.primaries[0].key {
        known.name = "big.key".parse().map_err(|_| anyhow::anyhow!("the key's name"))?;
        known.algorithm = domain::tsig::Algorithm::Sha512;
    }
    secondary.start();
    secondary.reaches(server.serial()?, &["bad.test", "*.bad.test"])
}

#[test]
fn the_next_primary_is_asked_when_one_is_dead() -> Result<()> {
    let notify = free_address()?;
    let setup = Setup { notify, ..Setup::default() };
    let mut first = Server::start(Kind::Bind, &setup)?;
    let second = Server::start(Kind::Knot, &setup)?;
    first.stop()?;
    let mut secondary = Secondary::at(&[first.address(), second.address()], notify)?;
    secondary.start();
    secondary.reaches(second.serial()?, &["bad.test", "*.bad.test"])?;
    secondary.is_well()?;
    let zone = secondary.zone();
    let dead = zone.primaries[0].problem.clone().unwrap_or_default();
    ensure!(dead.starts_with("no connection: Connection refused"), "{zone:?}");
    ensure!(zone.primaries[1].problem.is_none() && zone.primaries[1].serial == Some(second.serial()?), "{zone:?}");

    // The first is back, and ahead of the second: what it tells is taken from it.
    first.run()?;
    change(&first, Kind::Bind, &["first.test"], &[])?;
    change(&first, Kind::Bind, &["more.test"], &[])?;
    let ahead = first.serial()?;
    secondary.reaches(ahead, &["bad.test", "*.bad.test", "first.test", "more.test"])?;
    secondary.look();
    eventually(PATIENCE, || {
        let zone = secondary.zone();
        let behind = zone.primaries[1].problem.clone().unwrap_or_default();
        ensure!(behind == format!("has serial 1, which is older than {ahead}, which is here"), "{zone:?}");
        Ok(())
    })?;
    secondary.is_well()?;

    // Both gone: the copy stays, and the feed is stale.
    drop(first);
    drop(second);
    secondary.look();
    let problem = secondary.complains("Connection refused")?;
    ensure!(problem.matches("no connection").count() == 2, "{problem}");
    ensure!(secondary.state().failing.is_some());
    secondary.reaches(ahead, &["bad.test", "*.bad.test", "first.test", "more.test"])
}

#[test]
fn refresh_and_retry_are_what_the_zone_says() -> Result<()> {
    let soa = Soa { serial: 1, refresh: 2, retry: 1, expire: 86_400 };
    let setup = Setup { soa, ..Setup::default() }.edit("notify explicit", "notify no");
    let (mut server, mut secondary) = pair(Kind::Bind, &setup)?;
    secondary.start();
    secondary.reaches(1, &["bad.test", "*.bad.test"])?;
    change(&server, Kind::Bind, &["more.test"], &[])?;
    secondary.reaches(2, &["bad.test", "*.bad.test", "more.test"])?;
    ensure!(secondary.zone().notifies == 0, "nobody told");
    server.stop()?;
    secondary.complains("no connection")?;
    server.run()?;
    secondary.is_well()
}

#[test]
fn a_zone_expires_and_comes_back() -> Result<()> {
    // Not before refresh and retry: 3 s.
    let soa = Soa { serial: 1, refresh: 2, retry: 1, expire: 1 };
    let setup = Setup { soa, ..Setup::default() };
    let (mut server, mut secondary) = pair(Kind::Knot, &setup)?;
    secondary.start();
    secondary.reaches(1, &["bad.test", "*.bad.test"])?;
    secondary.is_well()?;
    server.stop()?;
    secondary.complains("the zone has expired; its rules stay in force: ")?;
    secondary.reaches(1, &["bad.test", "*.bad.test"])?;
    // A start knows how old the copy is.
    secondary.start();
    secondary.complains("the zone has expired; its rules stay in force: ")?;
    server.run()?;
    secondary.is_well()?;
    secondary.reaches(1, &["bad.test", "*.bad.test"])
}

#[test]
fn a_damaged_copy_is_made_anew() -> Result<()> {
    let (server, mut secondary) = pair(Kind::Knot, &Setup::default())?;
    secondary.start();
    secondary.reaches(1, &["bad.test", "*.bad.test"])?;
    secondary.stop();
    fs::write(secondary.path(), "no database at all, but long enough to be taken for one".repeat(100))?;
    secondary.start();
    secondary.reaches(server.serial()?, &["bad.test", "*.bad.test"])?;
    std::thread::sleep(Duration::from_millis(10));
    secondary.is_well()
}
