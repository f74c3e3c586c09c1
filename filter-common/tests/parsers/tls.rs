use filter_common::{
    tls::{Extensions, MAX_EXTENSIONS, Step},
    verdict::Reason,
};
use proptest::prelude::*;

use crate::Framed;

/// A ClientHello with these extensions, in one record.
pub fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (kind, data) in extensions {
        block.extend(kind.to_be_bytes());
        block.extend((data.len() as u16).to_be_bytes());
        block.extend(*data);
    }
    let mut body = vec![3, 3];
    body.extend([0x5a; 32]);
    body.push(0);
    body.extend([0, 2, 0x13, 1, 1, 0]);
    body.extend((block.len() as u16).to_be_bytes());
    body.extend(block);
    records(&handshake(&body), &[])
}

pub fn handshake(body: &[u8]) -> Vec<u8> {
    [&[1][..], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

/// In records, the first ones of so many octets.
pub fn records(handshake: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = handshake;
    for length in lengths.iter().copied().chain([usize::MAX]) {
        let (record, after) = rest.split_at(length.min(rest.len()));
        octets.extend([22, 3, 1]);
        octets.extend((record.len() as u16).to_be_bytes());
        octets.extend(record);
        rest = after;
    }
    octets
}

pub fn server_name(name: &[u8]) -> Vec<u8> {
    let len = name.len() as u16;
    [&(len + 3).to_be_bytes()[..], &[0], &len.to_be_bytes(), name].concat()
}

/// The first server name.
fn read(segment: &[u8]) -> Result<Vec<u8>, Reason> {
    // The octet before the payload is read along.
    let framed = Framed::new(segment);
    let bytes = framed.bytes();
    let mut extensions = Extensions::begin(&bytes, &framed.payload())?;
    for _ in 0..MAX_EXTENSIONS {
        match extensions.step(&bytes) {
            Step::More => {}
            Step::ServerName(name) => {
                let name = extensions.host_name(&bytes, &name)?;
                return Ok(framed.0[name.start as usize..name.end as usize].to_vec());
            }
            Step::Stop(reason) => return Err(reason),
        }
    }
    Err(Reason::TlsExtensions)
}

#[test]
fn server_name_among_others() {
    let name = server_name(b"www.example.com");
    for extensions in [
        vec![(0, &name[..])],
        vec![(0x1a1a, &[][..]), (0, &name), (0xfafa, &[0])],
        vec![(16, &b"\x00\x03\x02h2"[..]), (43, &[2, 3, 4]), (0, &name)],
    ] {
        assert_eq!(read(&hello(&extensions)), Ok(b"www.example.com".to_vec()));
    }
    assert_eq!(read(&hello(&[(16, b"\x00\x03\x02h2")])), Err(Reason::TlsNoSni));
    assert_eq!(read(&hello(&[])), Err(Reason::TlsNoSni));
}

#[test]
fn no_extensions_at_all() {
    let mut body = vec![3, 3];
    body.extend([0; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    assert_eq!(read(&records(&handshake(&body), &[])), Err(Reason::TlsNoSni));
    // One octet where the length of the extensions would be.
    body.push(0);
    assert_eq!(read(&records(&handshake(&body), &[])), Err(Reason::TlsMalformed));
}

#[test]
fn t12_trailing_dot() {
    assert_eq!(read(&hello(&[(0, &server_name(b"example.com."))])), Ok(b"example.com".to_vec()));
    assert_eq!(read(&hello(&[(0, &server_name(b"."))])), Ok(Vec::new()));
}

#[test]
fn t12b_server_names_that_are_none() {
    let two = [&server_name(b"a")[..], &[0, 0, 1, b'b']].concat();
    let mut two_right = two.clone();
    two_right[1] += 4;
    let mut other_type = server_name(b"abc");
    other_type[2] = 1;
    let long = vec![b'a'; 255];
    for data in [
        &[][..],
        &[0],
        &[0, 0],
        &[0, 3, 0, 0, 0],
        &two,
        &two_right,
        &other_type,
        &server_name(b""),
        &server_name(&long),
    ] {
        for after in [None, Some((16, &[0; 9][..]))] {
            let extensions: Vec<_> = [(0, data)].into_iter().chain(after).collect();
            assert_eq!(read(&hello(&extensions)), Err(Reason::TlsSniInvalid), "{data:02x?}");
        }
    }
    assert_eq!(read(&hello(&[(0, &server_name(&long[1..]))])), Ok(long[1..].to_vec()));
}

#[test]
fn t01_extensions_are_counted() {
    let name = server_name(b"a.example");
    let hello = |others: usize| {
        let mut extensions = vec![(0x4444, &[1, 2][..]); others];
        extensions.push((0, &name));
        read(&hello(&extensions))
    };
    assert_eq!(hello(127), Ok(b"a.example".to_vec()));
    assert_eq!(hello(128), Err(Reason::TlsExtensions));
}

#[test]
fn t20_cut_at_every_octet() {
    let whole = hello(&[(16, b"\x00\x03\x02h2"), (0, &server_name(b"example.com")), (43, &[2, 3, 4])]);
    let end = whole.len() - 7;
    for octets in 1..=whole.len() {
        let expected = if octets < end { Err(Reason::TlsIncomplete) } else { Ok(b"example.com".to_vec()) };
        assert_eq!(read(&whole[..octets]), expected, "{octets}");
    }
}

#[test]
fn t10_name_behind_the_first_record() {
    let one = hello(&[(16, b"\x00\x03\x02h2"), (0, &server_name(b"example.com")), (43, &[2, 3, 4])]);
    let handshake = &one[5..];
    let end = handshake.len() - 7;
    for first in 1..handshake.len() {
        let expected = if first < end { Err(Reason::TlsIncomplete) } else { Ok(b"example.com".to_vec()) };
        assert_eq!(read(&records(handshake, &[first])), expected, "{first}");
    }
}

#[test]
fn t01_second_hello_behind_a_change_cipher_spec() {
    let hello = hello(&[(0, &server_name(b"example.com"))]);
    let behind = |head: &[u8], octets: usize| read(&[head, &hello[..octets]].concat());
    let change = [20, 3, 3, 0, 1, 1];
    assert_eq!(behind(&change, hello.len()), Ok(b"example.com".to_vec()));
    assert_eq!(behind(&change, hello.len() - 1), Err(Reason::TlsIncomplete));
    assert_eq!(behind(&change, 1), Err(Reason::TlsIncomplete));
    assert_eq!(behind(&change, 0), Err(Reason::TlsNotHello));
    assert_eq!(behind(&change[..5], hello.len()), Err(Reason::TlsNotHello));
    assert_eq!(behind(&[20, 3, 3, 0, 2, 1], hello.len()), Err(Reason::TlsNotHello));
    assert_eq!(behind(&[20, 3, 3, 0, 1, 1, 0], hello.len()), Err(Reason::TlsNotHello));
}

#[test]
fn o04_other_records_and_messages() {
    let whole = hello(&[(0, &server_name(b"example.com"))]);
    for (at, octets) in [(0, 0..22), (0, 23..255), (1, 0..3), (1, 4..255), (5, 2..255), (5, 0..1)] {
        for octet in octets {
            let mut other = whole.clone();
            other[at] = octet;
            assert_eq!(read(&other), Err(Reason::TlsNotHello), "{octet} at {at}");
        }
    }
}

proptest! {
    /// Whatever the octets: a name that is found lies in the segment and is at most 254 octets long.
    #[test]
    fn t20_changed_hellos(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut segment = hello(&[(16, b"\x00\x03\x02h2"), (0, &server_name(b"www.example.com")), (43, &[2, 3, 4])]);
        for (at, octet) in changes {
            let at = at.index(segment.len());
            segment[at] = octet;
        }
        segment.truncate(1 + cut.index(segment.len()));
        if let Ok(name) = read(&segment) {
            prop_assert!(name.len() <= 254);
            prop_assert!(name.is_empty() || segment.windows(name.len()).any(|window| window == name));
        }
    }
}
