//! The order files of `examples/judgments`: what each stops, for whom, and what it leaves alone.
//!
//! The files are read as feeds are. Where a season has passed, the order's dates are moved to today, and the file's own
//! are checked by themselves.

use std::{fs, path::Path};

use cordon_tests::{
    harness::{Filter, Setup},
    order::TestOrder,
    packet::{
        Hello, Ip, Packet, Query,
        quic::{Client, crypto},
    },
    tiered::{Tiered, datagram_over},
};
use filter_common::{
    layout::Hits,
    verdict::Reason::{
        self, AnsweredAddress, AnsweredNxdomain, AnsweredRefused, Dropped, NotListed, Observed, OtherClient,
        OtherProtocol, OtherTime, QuicCopied, Reset,
    },
};
use filter_user::{
    feed::{Context, Event, native},
    guard::Guards,
    order::Order,
};
use jiff::Timestamp;

/// Clients: in France, in France and mobile, elsewhere.
const FRENCH: &str = "192.0.2.10";
const MOBILE: &str = "192.0.2.130";
const FOREIGN: &str = "198.18.0.10";

/// What a client asks.
#[derive(Clone, Copy, Debug)]
enum Asks {
    Dns,
    Tls,
    /// An Initial, and the same once the deferred tier has read its name. One that is not stopped passes, copied again.
    Quic,
}
use Asks::{Dns, Quic, Tls};

/// A client asks for a name, and the reason of its packet's verdict.
type Row = (Asks, &'static str, &'static str, Reason);

/// The orders of a file.
fn orders(file: &str) -> Vec<Order> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/judgments").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let context =
        Context { scopes: Some(["fr", "mobile"].map(str::to_owned).into()), targets: None, guards: Guards::all() };
    let read = native::read(file, text.as_bytes(), &context).expect("text");
    assert_eq!(read.refusals, [], "{file}");
    let order = |entry: filter_user::feed::Entry| match entry.event {
        Event::Put(order) => order,
        event => panic!("{file}: {event:?}"),
    };
    read.entries.into_iter().map(order).collect()
}

fn tiered<'a>(orders: impl IntoIterator<Item = &'a TestOrder>) -> Tiered {
    let nets = |text: &str| text.split(' ').map(|net| net.parse().expect("a prefix")).collect();
    let scopes = vec![("fr", nets("192.0.2.0/24 2001:db8:1::/48")), ("mobile", nets("192.0.2.128/25"))];
    Tiered::over(Filter::with(Setup { scopes, ..Setup::default() }, orders))
}

/// Judges what a client sends, and gives the last packet's reason.
fn judge(border: &mut Tiered, asks: Asks, client: &str, name: &str) -> Reason {
    let mut ip = Ip::v4();
    ip.set_source(client.parse().expect("an address"));
    border.forget();
    match asks {
        Dns => border.run(&Packet::dns(ip, &Query::new(name)).build()),
        Tls => border.run(&Packet::tls(ip, &Hello::new(name)).build()),
        Quic => {
            let mut connection = Client::new(&[0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08], &[0xa1; 8]);
            let first = datagram_over(ip, &connection.initial(&crypto(0, &Hello::new(name).handshake())));
            assert_eq!(border.run(&first), QuicCopied, "{name}: the name is read in userspace");
            border.run(&first)
        }
    }
}

/// Checks the verdicts of one file's orders in force, and the hits of each order: decided, concerned.
#[track_caller]
fn check(file: &str, rows: &[Row], hits: &[(&str, u64, u64)]) {
    let orders: Vec<TestOrder> = orders(file)
        .into_iter()
        .map(|order| {
            let is_over = order.terms.not_after.is_some_and(|end| end < Timestamp::now());
            let order = TestOrder::of(order);
            if is_over { order.until("2100-01-01T00:00:00Z".parse().expect("a time")) } else { order }
        })
        .collect();
    let mut border = tiered(&orders);
    for (asks, client, name, reason) in rows {
        assert_eq!(judge(&mut border, *asks, client, name), *reason, "{file}: {asks:?} {client} {name}");
    }
    for (order, decided, concerned) in hits {
        let expected = Hits { decided: *decided, concerned: *concerned };
        assert_eq!(border.filter.hits(order), expected, "{file}: {order}");
    }
}

#[test]
fn cologne_stops_resolution_alone_of_two_names_for_everybody() {
    let rows = [
        (Dns, FRENCH, "music.example", AnsweredNxdomain),
        (Dns, FOREIGN, "www.music.example", AnsweredNxdomain),
        (Dns, FRENCH, "cdn.music.example", NotListed),
        (Dns, FRENCH, "example", NotListed),
        (Tls, FRENCH, "music.example", OtherProtocol),
        (Quic, FRENCH, "music.example", QuicCopied),
        (Tls, FRENCH, "cdn.music.example", NotListed),
    ];
    check("cologne-dns-only.jsonl", &rows, &[("lg-koeln-dns", 2, 2)]);
}

#[test]
fn paris_binds_clients_in_france_by_every_protocol_until_the_season_ends() {
    let rows = [
        (Dns, FRENCH, "stream.example", AnsweredNxdomain),
        (Dns, FRENCH, "hd.live.example", AnsweredNxdomain),
        (Tls, FRENCH, "stream.example", Reset),
        (Quic, FRENCH, "hd.stream.example", Dropped),
        (Dns, FOREIGN, "stream.example", OtherClient),
        (Tls, FOREIGN, "stream.example", OtherClient),
        (Quic, FOREIGN, "stream.example", QuicCopied),
        (Tls, FRENCH, "mystream.example", NotListed),
        (Quic, FRENCH, "mystream.example", QuicCopied),
    ];
    check("paris-clients-in-france.jsonl", &rows, &[("tj-paris-season", 4, 4)]);

    let [order] = &orders("paris-clients-in-france.jsonl")[..] else { panic!("one order") };
    let time = |text: &str| text.parse::<Timestamp>().expect("a time");
    assert_eq!(order.terms.not_before, time("2025-03-28T00:00:00Z"));
    assert_eq!(order.terms.not_after, Some(time("2025-11-17T00:00:00Z")));
    // The season is over.
    let mut border = tiered([&TestOrder::of(order.clone())]);
    for (asks, reason) in [(Dns, OtherTime), (Tls, OtherTime), (Quic, QuicCopied)] {
        assert_eq!(judge(&mut border, asks, FRENCH, "stream.example"), reason, "{asks:?}");
    }
    assert_eq!(border.filter.hits("tj-paris-season"), Hits::default());
}

#[test]
fn a_split_order_has_parts_of_their_own_reach_clients_and_time() {
    let rows = [
        (Dns, FOREIGN, "books.example", AnsweredRefused),
        (Dns, MOBILE, "old.books.example", AnsweredRefused),
        (Tls, MOBILE, "books.example", Dropped),
        (Quic, MOBILE, "www.books.example", Dropped),
        (Tls, FRENCH, "books.example", OtherClient),
        (Quic, FRENCH, "www.books.example", QuicCopied),
        // Part 1 covers it, by DNS only; part 2 does not reach it.
        (Tls, MOBILE, "old.books.example", OtherProtocol),
    ];
    check("split.jsonl", &rows, &[("split-dns", 2, 2), ("split-sni", 2, 2)]);
    let [dns, sni] = &orders("split.jsonl")[..] else { panic!("two orders") };
    assert_eq!((dns.terms.not_after, sni.terms.not_before), (None, "2025-03-01T00:00:00Z".parse().expect("a time")));
}

#[test]
fn italy_leads_to_a_notice_and_drops_connections() {
    let rows = [
        (Dns, FRENCH, "events.example", AnsweredAddress),
        (Dns, FOREIGN, "tv.events.example", AnsweredAddress),
        (Tls, FOREIGN, "events.example", Dropped),
        (Quic, FOREIGN, "tv.events.example", Dropped),
        (Tls, FOREIGN, "events.example.org", NotListed),
    ];
    check("italy-notice.jsonl", &rows, &[("agcom-notice", 4, 4)]);
    let order = TestOrder::of(orders("italy-notice.jsonl").remove(0));
    let filter = Filter::new([&order]);
    let addresses = |qtype| -> Vec<String> {
        let query = Packet::dns(Ip::v4(), &Query::new("events.example").qtype(qtype));
        let answer = filter.expect_answer(&query, AnsweredAddress);
        answer.addresses.into_iter().map(|(owner, _, address)| format!("{owner} {address}")).collect()
    };
    assert_eq!(addresses(1), ["events.example 198.51.100.99"]);
    assert_eq!(addresses(28), ["events.example 2001:db8:2::99"]);
    // Other types have no records.
    filter.expect(&Packet::dns(Ip::v4(), &Query::new("events.example").qtype(16)), Reason::AnsweredNodata);
}

#[test]
fn a_trial_stops_nothing_and_counts_everything() {
    let rows = [
        (Dns, FRENCH, "trial.example", Observed),
        (Dns, FOREIGN, "www.trial.example", Observed),
        (Tls, FOREIGN, "trial.example", Observed),
        (Quic, FOREIGN, "trial.example", Observed),
        (Dns, FRENCH, "trials.example", NotListed),
    ];
    check("observe-trial.jsonl", &rows, &[("trial", 4, 4)]);
}

#[test]
fn one_of_many_on_a_host_is_stopped_and_the_host_is_not() {
    let rows = [
        // An exact rule, without insisting: caches would take NXDOMAIN for all below it (RFC 8020).
        (Dns, FRENCH, "fakes.shops.example", Reason::AnsweredNodata),
        (Tls, FRENCH, "fakes.shops.example", Reset),
        (Quic, FOREIGN, "fakes.shops.example", Dropped),
        (Dns, FRENCH, "shops.example", NotListed),
        (Tls, FRENCH, "honest.shops.example", NotListed),
        (Tls, FRENCH, "www.fakes.shops.example", NotListed),
        (Dns, FRENCH, "pages.example", NotListed),
        (Tls, FRENCH, "pages.example", NotListed),
        (Dns, FRENCH, "pirate.pages.example", AnsweredNxdomain),
        (Tls, FRENCH, "a.pirate.pages.example", Reset),
        (Dns, FRENCH, "help.pages.example", NotListed),
        (Tls, FRENCH, "en.help.pages.example", NotListed),
    ];
    check("host-of-many.jsonl", &rows, &[("one-shop", 3, 3), ("user-pages", 2, 2)]);
}
