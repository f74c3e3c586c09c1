//! The octets of a stream, put in order: what comes in order is read at once, what comes early waits.

use super::{
    NoName,
    hello::{Hello, Progress},
};
use crate::name::Name;

/// A stream that begins with a ClientHello.
#[derive(Debug)]
pub struct Stream {
    hello: Hello,
    /// Octets that are read.
    next: u32,
    /// What waits, in the stream's order, without overlaps, all of it behind `next`.
    waiting: Vec<Piece>,
    limit: u32,
}

#[derive(Debug)]
struct Piece {
    at: u32,
    octets: Box<[u8]>,
}

impl Piece {
    fn end(&self) -> u32 {
        self.at + self.octets.len() as u32
    }
}

/// What is known after some octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The name is still to come.
    Nothing,
    /// The name.
    Name(Name),
    /// There is none.
    NoName(NoName),
}

impl Stream {
    /// At its first octet; not read beyond `limit` octets.
    pub fn new(hello: Hello, limit: u32) -> Self {
        Self::at(0, hello, limit)
    }

    /// Behind octets that are read already.
    pub fn at(next: u32, hello: Hello, limit: u32) -> Self {
        Self { hello, next, waiting: Vec::new(), limit }
    }

    /// Octets that wait, and what keeping them takes.
    pub fn weight(&self) -> usize {
        self.waiting.iter().map(|piece| piece.octets.len() + size_of::<Piece>()).sum()
    }

    /// Whether an Encrypted Client Hello was read.
    pub fn has_ech(&self) -> bool {
        self.hello.has_ech()
    }

    /// Takes octets that begin at `at`. Where octets came before, the first ones count. Called again with the same, it
    /// reads on behind the name, to the end of the extensions.
    pub fn put(&mut self, at: u32, octets: &[u8]) -> Known {
        let Some(end) = at.checked_add(octets.len() as u32).filter(|end| *end <= self.limit) else {
            return Known::NoName(NoName::TooLong);
        };
        if at > self.next {
            return if self.keep(at, octets) { Known::Nothing } else { Known::NoName(NoName::TooLong) };
        }
        loop {
            // Up to what came before, then that.
            let until = self.waiting.first().map_or(end, |piece| piece.at.min(end));
            let new = octets.get((self.next - at) as usize..until.saturating_sub(at) as usize).unwrap_or_default();
            let mut known = self.read(new);
            if known == Known::Nothing && self.waiting.first().is_some_and(|piece| piece.at <= self.next) {
                let piece = self.waiting.remove(0);
                known = self.read(&piece.octets);
            } else if self.next >= end {
                return known;
            }
            if known != Known::Nothing {
                return known;
            }
        }
    }

    fn read(&mut self, octets: &[u8]) -> Known {
        self.next += octets.len() as u32;
        match self.hello.read(octets) {
            Progress::More => Known::Nothing,
            Progress::Name(name) => Known::Name(name),
            Progress::Nothing(reason) => Known::NoName(NoName::Hello(reason)),
        }
    }

    /// Keeps the octets that do not wait already; false if there would be too many pieces.
    fn keep(&mut self, mut at: u32, octets: &[u8]) -> bool {
        let (begin, end) = (at, at + octets.len() as u32);
        let mut index = self.waiting.partition_point(|piece| piece.end() <= at);
        while at < end {
            let next = self.waiting.get(index).map(|piece| (piece.at, piece.end()));
            let until = next.map_or(end, |(next, _)| next.min(end));
            if at < until {
                if self.waiting.len() >= MAX_PIECES {
                    return false;
                }
                let octets = octets.get((at - begin) as usize..(until - begin) as usize).unwrap_or_default().into();
                self.waiting.insert(index, Piece { at, octets });
                index += 1;
            }
            let Some((_, next_end)) = next else { break };
            at = at.max(next_end);
            index += 1;
        }
        true
    }
}

/// Browsers cut a ClientHello into some dozens of CRYPTO frames at most.
const MAX_PIECES: usize = 256;

#[cfg(test)]
mod tests {
    use filter_common::verdict::Reason;
    use proptest::prelude::*;

    use super::*;

    /// A ClientHello for this name, bare, with some extensions around server_name.
    fn hello(name: &str) -> Vec<u8> {
        let extension =
            |kind: u16, data: &[u8]| [&kind.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat();
        let len = name.len() as u16;
        let sni = [&(len + 3).to_be_bytes()[..], &[0], &len.to_be_bytes(), name.as_bytes()].concat();
        let extensions =
            [extension(0x1a1a, &[]), extension(51, &[7; 1200]), extension(0, &sni), extension(43, &[2, 3, 4])].concat();
        let mut body = vec![3, 3];
        body.extend([9; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        [&[1][..], &(body.len() as u32).to_be_bytes()[1..], &body].concat()
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_and_overlapping_give_the_name(
            cuts in prop::collection::vec((0..1400_usize, 1..400_usize), 0..40), shuffle in any::<u64>()
        ) {
            let octets = hello("www.example.com");
            let mut pieces: Vec<(usize, usize)> =
                cuts.into_iter().map(|(at, len)| (at.min(octets.len()), (at + len).min(octets.len()))).collect();
            let middle = (shuffle % octets.len() as u64) as usize;
            pieces.push((0, middle));
            pieces.insert((shuffle >> 32) as usize % pieces.len(), (middle, octets.len()));
            let mut stream = Stream::new(Hello::bare(), 65_536);
            let last = pieces.into_iter().map(|(from, to)| stream.put(from as u32, &octets[from..to])).find(|known| *known != Known::Nothing);
            prop_assert_eq!(last, Some(Known::Name(Name::parse("www.example.com").unwrap())));
        }

        #[test]
        fn anything_survives(pieces in prop::collection::vec((0..2000_u32, prop::collection::vec(any::<u8>(), 0..300)), 0..60)) {
            for hello in [Hello::bare(), Hello::in_records()] {
                let mut stream = Stream::new(hello, 2048);
                for (at, octets) in &pieces {
                    if stream.put(*at, octets) != Known::Nothing {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_octets_count() {
        let [one, other] = ["www.example.com", "www.example.org"].map(hello);
        let mut stream = Stream::new(Hello::bare(), 65_536);
        assert_eq!(stream.put(1000, &one[1000..]), Known::Nothing);
        assert_eq!(stream.put(0, &other), Known::Name(Name::parse("www.example.com").unwrap()));
    }

    #[test]
    fn pieces_and_octets_are_bounded() {
        let octets = hello("www.example.com");
        let mut stream = Stream::new(Hello::bare(), 65_536);
        let last = (1..=MAX_PIECES as u32 + 1).map(|piece| stream.put(2 * piece, &[7])).last();
        assert_eq!(last, Some(Known::NoName(NoName::TooLong)));
        assert_eq!(Stream::new(Hello::bare(), 65_536).put(65_530, &octets), Known::NoName(NoName::TooLong));
        assert_eq!(Stream::new(Hello::bare(), 65_536).put(u32::MAX, &octets), Known::NoName(NoName::TooLong));
    }

    #[test]
    fn t12b_a_second_server_name_is_no_name() {
        let mut octets = hello("www.example.com");
        // supported_versions becomes an empty server_name.
        let at = octets.len() - 7;
        octets[at + 1] = 0;
        let known = Stream::new(Hello::bare(), 65_536).put(0, &octets);
        assert_eq!(known, Known::NoName(NoName::Hello(Reason::TlsSniDuplicate)));
    }

    #[test]
    fn t12b_what_is_no_host_name_is_no_name() {
        for name in ["", ".", "a..b", "a b", "a/b", "\0", "é.example", &"a".repeat(64)] {
            let known = Stream::new(Hello::bare(), 65_536).put(0, &hello(name));
            assert_eq!(known, Known::NoName(NoName::Hello(Reason::TlsSniInvalid)), "{name}");
        }
        let known = Stream::new(Hello::bare(), 65_536).put(0, &hello("WWW.Example_1.com."));
        assert_eq!(known, Known::Name(Name::parse("www.example_1.com").unwrap()));
        // 255 octets in DNS.
        let longest = "a.".repeat(127);
        let known = Stream::new(Hello::bare(), 65_536).put(0, &hello(&longest));
        assert_eq!(known, Known::Name(Name::parse(&longest).unwrap()));
    }
}
