//! A primary that answers as it is told.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use cordon_tests::primary::{SECRET, ZONE};
use domain::{
    base::{
        Message, MessageBuilder, Name, Rtype, Serial, Ttl,
        iana::{Class, Rcode},
        message_builder::AnswerBuilder,
    },
    rdata::{Cname, Soa, tsig::Time48},
    tsig::{Algorithm, Key, ServerSequence},
    utils::base64,
};

/// What it does next, when it is asked for the zone.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends a message with these records.
    Send(Vec<Rr>),
    /// As [`Act::Send`], without a signature.
    SendUnsigned(Vec<Rr>),
    /// As [`Act::Send`], but with one bit of this octet of the message changed.
    SendBroken(Vec<Rr>, usize),
    /// As [`Act::Send`], with so many records more, each of which says the last record's names by their place alone.
    SendPacked(Vec<Rr>, u16),
    /// Sends these octets behind a length.
    Frame(Vec<u8>),
    /// Sends these octets.
    Octets(Vec<u8>),
    /// Sends an answer without records and with this code.
    Code(Rcode),
    /// Sends nothing for so long.
    Wait(Duration),
    /// Closes the connection.
    Close,
}

/// A record.
#[derive(Clone, Debug)]
pub enum Rr {
    /// The zone's SOA record.
    Soa(u32),
    /// `NAME CNAME .`, below the zone.
    Rule(&'static str),
    /// The same, of the class CH.
    Chaos(&'static str),
    /// The same, not in the zone.
    Outside(&'static str),
}

/// What it says.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// The serial in its SOA record; none: it does not have the zone.
    pub serial: Option<u32>,
    /// The answer to AXFR.
    pub whole: Vec<Act>,
    /// The answer to IXFR.
    pub since: Vec<Act>,
    /// Its answers are signed.
    pub signs: bool,
    /// It closes the connection after each answer.
    pub closes: bool,
}

/// See the module.
pub struct Scripted {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    asked: Arc<Mutex<Vec<Rtype>>>,
}

impl Scripted {
    /// Starts it; it runs as long as the process.
    pub fn start(script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let script = Arc::new(Mutex::new(script));
        let asked = Arc::new(Mutex::new(Vec::new()));
        thread::spawn({
            let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
                    // The other end hangs up when it has had enough.
                    thread::spawn(move || _ = serve(stream, &script, &asked));
                }
            }
        });
        Ok(Self { address, script, asked })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says something else from now on.
    pub fn play(&self, script: Script) {
        *self.script.lock().unwrap() = script;
        self.asked.lock().unwrap().clear();
    }

    /// What it was asked for since.
    pub fn asked(&self) -> Vec<Rtype> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, script: &Mutex<Script>, asked: &Mutex<Vec<Rtype>>) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut octets = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut octets)?;
        let mut query = Message::from_octets(octets).map_err(io::Error::other)?;
        let Script { serial, whole, since, signs, closes } = script.lock().unwrap().clone();
        let qtype = query.qtype().ok_or_else(|| io::Error::other("no question"))?;
        asked.lock().unwrap().push(qtype);
        let mut sequence = if signs {
            ServerSequence::request(&key(), &mut query, Time48::now()).map_err(io::Error::other)?
        } else {
            None
        };
        let acts = match qtype {
            Rtype::SOA => vec![Act::Send(serial.map(Rr::Soa).into_iter().collect())],
            Rtype::AXFR => whole,
            _ => since,
        };
        for act in acts {
            match act {
                Act::Send(records) => framed(&mut stream, &signed(&query, &records, sequence.as_mut()))?,
                Act::SendUnsigned(records) => framed(&mut stream, &signed(&query, &records, None))?,
                Act::SendBroken(records, at) => {
                    let mut message = signed(&query, &records, sequence.as_mut());
                    if let Some(octet) = message.get_mut(at) {
                        *octet ^= 2;
                    }
                    framed(&mut stream, &message)?;
                }
                Act::SendPacked(records, count) => framed(&mut stream, &packed(&query, &records, count))?,
                Act::Frame(octets) => framed(&mut stream, &octets)?,
                Act::Octets(octets) => stream.write_all(&octets)?,
                Act::Code(code) => framed(&mut stream, &begun(&query, code).finish())?,
                Act::Wait(time) => thread::sleep(time),
                Act::Close => return Ok(()),
            }
        }
        if closes {
            return Ok(());
        }
    }
}

fn framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    stream.write_all(&[&(message.len() as u16).to_be_bytes(), message].concat())
}

fn begun(query: &Message<Vec<u8>>, code: Rcode) -> AnswerBuilder<Vec<u8>> {
    MessageBuilder::new_vec().start_answer(query, code).expect("a question fits")
}

fn signed(query: &Message<Vec<u8>>, records: &[Rr], sequence: Option<&mut ServerSequence<Key>>) -> Vec<u8> {
    let mut answer = begun(query, Rcode::NOERROR);
    answer.header_mut().set_aa(true);
    let (ttl, root) = (Ttl::from_secs(60), Name::root_vec());
    let name = |text: String| -> Name<Vec<u8>> { text.parse().expect("a name of the script") };
    for record in records {
        let rule = |owner: String, class| (name(owner), class, ttl, Cname::new(root.clone()));
        let pushed = match record {
            Rr::Soa(serial) => {
                let hour = Ttl::from_secs(3600);
                let soa = Soa::new(root.clone(), root.clone(), Serial(*serial), hour, hour, hour, ttl);
                answer.push((name(ZONE.to_owned()), Class::IN, ttl, soa))
            }
            Rr::Rule(owner) => answer.push(rule(format!("{owner}.{ZONE}"), Class::IN)),
            Rr::Chaos(owner) => answer.push(rule(format!("{owner}.{ZONE}"), Class::CH)),
            Rr::Outside(owner) => answer.push(rule((*owner).to_owned(), Class::IN)),
        };
        pushed.expect("the script's records fit a message");
    }
    let mut answer = answer.additional();
    if let Some(sequence) = sequence {
        sequence.answer(&mut answer, Time48::now()).expect("a signature fits");
    }
    answer.finish()
}

/// RFC 1035 4.1.4: in the place of a name stands where it is in the message.
fn packed(query: &Message<Vec<u8>>, records: &[Rr], count: u16) -> Vec<u8> {
    let mut message = signed(query, records, None);
    let known = signed(query, &records[..records.len() - 1], None).len() as u16;
    let pointer = (0xc000 | known).to_be_bytes();
    for _ in 0..count {
        // Owner, CNAME, IN, TTL, and the data: the same name.
        message.extend([&pointer[..], &[0, 5, 0, 1, 0, 0, 0, 60, 0, 2], &pointer[..]].concat());
    }
    let records = u16::from_be_bytes([message[6], message[7]]) + count;
    message[6..8].copy_from_slice(&records.to_be_bytes());
    message
}

fn key() -> Key {
    let secret: Vec<u8> = base64::decode(SECRET).expect("the tests' secret");
    Key::new(Algorithm::Sha256, &secret, "cordon".parse().expect("a name"), None, None).expect("a key")
}
