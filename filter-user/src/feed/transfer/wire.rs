//! DNS over TCP with a primary (RFC 7766, RFC 5936), signed where there is a key (RFC 8945).

use std::{io, time::Duration};

use domain::{
    base::{
        Message, MessageBuilder, Rtype, Serial, Ttl,
        iana::{Class, Opcode, Rcode},
        message_builder::{AdditionalBuilder, PushError},
        name::Name,
    },
    rdata::{Soa as WireSoa, tsig::Time48},
    tsig::{ClientSequence, Key, ValidationError},
};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{Apex, Primary, Upstream};

/// A connection to a primary.
pub(super) struct Connection {
    stream: TcpStream,
    key: Option<Key>,
    stall: Duration,
    /// It has brought an answer.
    is_used: bool,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// The zone's SOA record.
    Soa,
    /// The whole zone.
    Axfr,
    /// What changed since this serial.
    Ixfr(u32),
}

/// The messages of an answer.
pub(super) struct Answer<'c> {
    connection: &'c mut Connection,
    apex: &'c Apex,
    question: Question,
    id: u16,
    sequence: Option<ClientSequence<Key>>,
    until: Instant,
    /// Octets that may still come.
    room: u64,
    limit: u64,
    is_first: bool,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It does not know how to answer this question, or does not want to (its code).
    Code(Rcode),
    /// It had answered on this connection before, and has closed it before it answered this question. It may do so (RFC
    /// 7766 6.2.4), and is to be asked again on another one.
    Closed,
    /// Whatever else.
    Failed(String),
}

impl Connection {
    /// Connects to a primary.
    ///
    /// # Errors
    /// It cannot be reached, or its key cannot be read.
    pub(super) async fn open(primary: &Primary, upstream: &Upstream) -> Result<Self, String> {
        let key = primary.key.as_ref().map(|key| key.read()).transpose()?;
        let connected = timeout(upstream.connect_timeout, TcpStream::connect(primary.address)).await;
        let stream = connected
            .map_err(|_| format!("no connection within {} s", upstream.connect_timeout.as_secs_f64()))?
            .map_err(|error| format!("no connection: {error}"))?;
        // A question is a write of its own.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { stream, key, stall: upstream.stall_timeout, is_used: false })
    }

    /// Asks, and has the answer read by what this gives.
    ///
    /// # Errors
    /// It cannot be sent.
    pub(super) async fn ask<'c>(
        &'c mut self,
        apex: &'c Apex,
        question: Question,
        upstream: &Upstream,
    ) -> Result<Answer<'c>, Refused> {
        let mut id = [0; 2];
        SystemRandom::new().fill(&mut id).map_err(|_| "there are no random numbers".to_owned())?;
        let id = u16::from_be_bytes(id);
        let mut message = query(apex, question, id).map_err(|_| "the question is too long".to_owned())?;
        let sequence = match self.key.clone() {
            Some(key) => Some(
                ClientSequence::request(key, &mut message, Time48::now())
                    .map_err(|_| "the question is too long".to_owned())?,
            ),
            None => None,
        };
        let message = message.finish();
        let mut framed = (message.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(&message);
        let sent = timeout(self.stall, self.stream.write_all(&framed)).await;
        if let Err(error) = sent.map_err(|_| stalled(self.stall))? {
            return Err(self.broken(&error));
        }
        let until = Instant::now() + upstream.timeout;
        let limit = upstream.max_size;
        let connection = self;
        Ok(Answer { connection, apex, question, id, sequence, until, room: limit, limit, is_first: true })
    }

    fn broken(&self, error: &io::Error) -> Refused {
        let is_closed = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
        if is_closed && self.is_used { Refused::Closed } else { format!("the connection broke: {error}").into() }
    }

    /// The next message; `is_first`: of an answer.
    async fn read(&mut self, is_first: bool, until: Instant) -> Result<Vec<u8>, Refused> {
        let mut length = [0; 2];
        self.fill(&mut length, is_first, until).await?;
        let mut octets = vec![0; u16::from_be_bytes(length).into()];
        self.fill(&mut octets, false, until).await?;
        Ok(octets)
    }

    async fn fill(&mut self, octets: &mut [u8], is_first: bool, until: Instant) -> Result<(), Refused> {
        let mut filled = 0;
        while let Some(rest) = octets.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let left = until.saturating_duration_since(Instant::now());
            let read = timeout(self.stall.min(left), self.stream.read(rest)).await;
            let read =
                read.map_err(|_| if left < self.stall { "it took too long".into() } else { stalled(self.stall) })?;
            let is_begun = !is_first || filled > 0;
            match read {
                Ok(0) if !is_begun && self.is_used => return Err(Refused::Closed),
                Ok(0) => return Err("the connection was closed before the answer's end".to_owned().into()),
                Ok(read) => filled += read,
                Err(error) if is_begun => return Err(format!("the connection broke: {error}").into()),
                Err(error) => return Err(self.broken(&error)),
            }
        }
        Ok(())
    }
}

impl Answer<'_> {
    /// The next message, checked: it answers the question, and is signed as it should be.
    ///
    /// # Errors
    /// It is not, or does not come; nothing that came before counts then.
    pub(super) async fn next(&mut self) -> Result<Message<Vec<u8>>, Refused> {
        let octets = self.connection.read(self.is_first, self.until).await?;
        self.room = self
            .room
            .checked_sub(octets.len() as u64)
            .ok_or_else(|| format!("it is longer than {} octets", self.limit))?;
        let mut message = Message::from_octets(octets).map_err(|_| "a message of it is too short".to_owned())?;
        if let Some(sequence) = &mut self.sequence {
            sequence.answer(&mut message, Time48::now()).map_err(|error| {
                // A server that refuses may have nothing to sign with.
                match (&error, message.header().rcode()) {
                    (ValidationError::ServerUnsigned, rcode) if rcode != Rcode::NOERROR => {
                        format!("it answers {rcode}, and that is not signed")
                    }
                    _ => unsigned(&error, sequence.key()),
                }
            })?;
        }
        self.check(&message)?;
        self.is_first = false;
        Ok(message)
    }

    /// Tells that the last message has come.
    ///
    /// # Errors
    /// The last message is not signed.
    pub(super) fn done(self) -> Result<(), Refused> {
        self.connection.is_used = true;
        let Some(sequence) = self.sequence else { return Ok(()) };
        let key = sequence.key().clone();
        sequence.done().map_err(|error| unsigned(&error, &key).into())
    }

    fn check(&self, message: &Message<Vec<u8>>) -> Result<(), Refused> {
        let (header, counts) = (message.header(), message.header_counts());
        if !header.qr() || header.opcode() != Opcode::QUERY || header.id() != self.id {
            return Err("a message of it is not an answer to what was asked".to_owned().into());
        }
        if header.rcode() != Rcode::NOERROR {
            return Err(Refused::Code(header.rcode()));
        }
        if header.tc() {
            return Err("a message of it was cut off".to_owned().into());
        }
        // RFC 5936 2.2.1: in the first message the question stands, in further ones it may.
        if self.is_first && counts.qdcount() != 1 || counts.qdcount() > 1 {
            return Err("a message of it has not the question that was asked".to_owned().into());
        }
        for question in message.question() {
            let question = question.map_err(|error| format!("a message of it cannot be read: {error}"))?;
            let is_same = *question.qname() == *self.apex
                && question.qtype() == self.question.rtype()
                && question.qclass() == Class::IN;
            if !is_same {
                return Err("a message of it has another question than was asked".to_owned().into());
            }
        }
        Ok(())
    }
}

impl Question {
    pub(super) const fn rtype(self) -> Rtype {
        match self {
            Self::Soa => Rtype::SOA,
            Self::Axfr => Rtype::AXFR,
            Self::Ixfr(_) => Rtype::IXFR,
        }
    }
}

fn query(apex: &Apex, question: Question, id: u16) -> Result<AdditionalBuilder<Vec<u8>>, PushError> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    let mut builder = builder.question();
    builder.push((apex, question.rtype()))?;
    let mut builder = builder.authority();
    if let Question::Ixfr(since) = question {
        // Of this record only the serial counts (RFC 1995 3).
        let (root, zero) = (Name::root_vec(), Ttl::ZERO);
        let soa = WireSoa::new(root.clone(), root, Serial(since), zero, zero, zero, zero);
        builder.push((apex, Class::IN, zero, soa))?;
    }
    Ok(builder.additional())
}

fn stalled(time: Duration) -> String {
    format!("nothing came for {} s", time.as_secs_f64())
}

/// Why a signature does not hold, in words (RFC 8945 5.2, 5.3).
fn unsigned(error: &ValidationError, key: &Key) -> String {
    let key = key.name();
    match error {
        ValidationError::ServerUnsigned => format!("its answer is not signed, and should be by the key {key}"),
        ValidationError::ServerBadKey => format!("it does not know the key {key}, or not with this algorithm"),
        ValidationError::ServerBadSig => {
            format!("it does not take our signature by the key {key}: its secret is another (BADSIG)")
        }
        ValidationError::ServerBadTime { .. } => {
            "it does not take our signature, since its clock and ours differ (BADTIME)".into()
        }
        ValidationError::BadSig => format!("the signature of its answer by the key {key} is wrong"),
        ValidationError::BadTime => "its answer was signed at a time too far from ours".into(),
        ValidationError::BadKey => format!("its answer is signed by another key than {key}"),
        ValidationError::BadTrunc => format!("the signature of its answer by the key {key} is too short"),
        ValidationError::TooManyUnsigned => format!("its answer ends without a signature by the key {key}"),
        ValidationError::BadAlg | ValidationError::BadOther | ValidationError::FormErr => {
            "the signature of its answer cannot be read".into()
        }
    }
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(out, "it answers {code}"),
            Self::Closed => out.write_str("the connection was closed before the answer's end"),
            Self::Failed(why) => out.write_str(why),
        }
    }
}
