//! NOTIFY: who may send it, and what becomes of it.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cordon_tests::{
    lab::eventually,
    primary::{SECRET, ZONE, free_address},
};
use domain::{
    base::{
        Message, MessageBuilder, Name, Rtype,
        iana::{Opcode, Rcode},
        message_builder::AdditionalBuilder,
    },
    rdata::tsig::Time48,
    tsig::{Algorithm, ClientTransaction, Key},
    utils::base64,
};

use super::{
    scripted::{
        Act::Send,
        Rr::{Rule, Soa},
        Script, Scripted,
    },
    support::{PATIENCE, Secondary},
};

/// From an address that is no primary's.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

fn notify(zone: &str, opcode: Opcode) -> AdditionalBuilder<Vec<u8>> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(4711);
    builder.header_mut().set_opcode(opcode);
    builder.header_mut().set_aa(true);
    let mut builder = builder.question();
    let zone: Name<Vec<u8>> = zone.parse().expect("a name");
    builder.push((zone, Rtype::SOA)).expect("it fits");
    builder.additional()
}

fn key(name: &str, secret: &str) -> Key {
    let secret: Vec<u8> = base64::decode(secret).expect("base64");
    Key::new(Algorithm::Sha256, &secret, name.parse().expect("a name"), None, None).expect("a key")
}

fn over_udp(from: Ipv4Addr, to: SocketAddr, message: &[u8]) -> Result<Message<Vec<u8>>> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.send_to(message, to)?;
    let mut buffer = vec![0; 4096];
    let length = socket.recv(&mut buffer).context("no answer")?;
    buffer.truncate(length);
    Message::from_octets(buffer).ok().context("no message")
}

fn over_tcp(to: SocketAddr, message: &[u8]) -> Result<Message<Vec<u8>>> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&[&(message.len() as u16).to_be_bytes(), message].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut octets = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut octets)?;
    Message::from_octets(octets).ok().context("no message")
}

#[test]
fn a_notify_counts_from_a_primary_only_and_only_has_it_looked_at() -> Result<()> {
    let whole = vec![Send(vec![Soa(1), Rule("bad.test"), Soa(1)])];
    let script = Script { serial: Some(1), whole, signs: true, ..Script::default() };
    let primary = Scripted::start(script.clone())?;
    let listen = free_address()?;
    let mut secondary = Secondary::at(&[primary.address()], listen)?;
    secondary.start();
    secondary.reaches(1, &["bad.test"])?;
    eventually(PATIENCE, || TcpStream::connect(listen).map(drop).map_err(Into::into))?;
    let counts = |notifies, refused| -> Result<()> {
        let zone = secondary.zone();
        ensure!((zone.notifies, zone.notifies_refused) == (notifies, refused), "{zone:?}");
        Ok(())
    };
    let is = |answer: &Message<Vec<u8>>, code: Rcode| -> Result<()> {
        let header = answer.header();
        ensure!(header.id() == 4711 && header.qr() && header.rcode() == code, "{header:?}, expected {code}");
        Ok(())
    };
    primary.play(script);

    // Of strangers: refused, counted, and the primary is not bothered.
    let plain = notify(ZONE, Opcode::NOTIFY).finish();
    is(&over_udp(STRANGER, listen, &plain)?, Rcode::REFUSED)?;
    counts(0, 1)?;
    let signed = |key: Key| -> Result<(Vec<u8>, ClientTransaction<Key>)> {
        let mut message = notify(ZONE, Opcode::NOTIFY);
        let transaction = ClientTransaction::request(key, &mut message, Time48::now()).ok().context("no signature")?;
        Ok((message.finish(), transaction))
    };
    for wrong in [key("cordon", "b3RoZXI="), key("other", SECRET)] {
        let (message, _) = signed(wrong)?;
        is(&over_udp(STRANGER, listen, &message)?, Rcode::NOTAUTH)?;
        // A wrong signature counts for nothing, also from where a primary is.
        is(&over_udp(Ipv4Addr::LOCALHOST, listen, &message)?, Rcode::NOTAUTH)?;
    }
    counts(0, 5)?;
    is(&over_udp(Ipv4Addr::LOCALHOST, listen, &notify("else.example", Opcode::NOTIFY).finish())?, Rcode::NOTAUTH)?;
    is(&over_udp(Ipv4Addr::LOCALHOST, listen, &notify(ZONE, Opcode::QUERY).finish())?, Rcode::NOTIMP)?;
    // An answer is not answered, nor is what is no message.
    let mut answer = plain.clone();
    answer[2] |= 0x80;
    for silent in [&answer[..], b"junk", b""] {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        socket.send_to(silent, listen)?;
        ensure!(socket.recv(&mut [0; 64]).is_err(), "{silent:?} is answered");
    }
    counts(0, 5)?;
    ensure!(primary.asked().is_empty(), "{:?}", primary.asked());

    // By the primary's address, and by its key from anywhere; over TCP, too.
    let looked = |times: usize| {
        eventually(PATIENCE, || {
            let asked = primary.asked();
            ensure!(asked == vec![Rtype::SOA; times], "{asked:?}");
            Ok(())
        })
    };
    is(&over_udp(Ipv4Addr::LOCALHOST, listen, &plain)?, Rcode::NOERROR)?;
    looked(1)?;
    let (message, transaction) = signed(key("cordon", SECRET))?;
    let mut answer = over_udp(STRANGER, listen, &message)?;
    ensure!(transaction.answer(&mut answer, Time48::now()).is_ok(), "the answer is signed");
    is(&answer, Rcode::NOERROR)?;
    looked(2)?;
    is(&over_tcp(listen, &plain)?, Rcode::NOERROR)?;
    looked(3)?;
    counts(3, 5)?;
    ensure!(secondary.zone().whole == 1, "{:?}", secondary.zone());
    secondary.reaches(1, &["bad.test"])
}

#[test]
fn a_flood_of_notifies_does_not_become_one_of_questions() -> Result<()> {
    let whole = vec![Send(vec![Soa(1), Rule("bad.test"), Soa(1)])];
    let primary = Scripted::start(Script { serial: Some(1), whole, ..Script::default() })?;
    let listen = free_address()?;
    let mut secondary = Secondary::at(&[primary.address()], listen)?;
    secondary.upstream.primaries[0].key = None;
    secondary.start();
    secondary.reaches(1, &["bad.test"])?;
    let plain = notify(ZONE, Opcode::NOTIFY).finish();
    eventually(PATIENCE, || over_udp(Ipv4Addr::LOCALHOST, listen, &plain).map(drop))?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    for _ in 0..2000 {
        socket.send_to(&plain, listen)?;
        std::thread::sleep(Duration::from_micros(500));
    }
    let asked = primary.asked().len();
    ensure!((2..40).contains(&asked), "{asked} questions for 2,000 NOTIFYs");
    secondary.is_well()
}
