//! Forged Initials.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::Result;

/// As fast as one thread can send them, each under ids of its own: nothing but their headers is right. Tells how many
/// there were.
pub fn run(from: IpAddr, to: SocketAddr, time: Duration) -> Result<()> {
    let socket = UdpSocket::bind((from, 0))?;
    let begun = Instant::now();
    let mut sent = 0_u64;
    while begun.elapsed() < time {
        let id = sent.to_be_bytes();
        // Version 1, no token, and a length that takes all the rest (RFC 9000 17.2.2).
        let mut datagram = [&[0xc3, 0, 0, 0, 1, 8][..], &id, &[8], &id, &[0, 0x44, 0x96]].concat();
        datagram.resize(1200, 0xa7);
        // What does not fit the queue is lost, as on any path.
        sent += u64::from(socket.send_to(&datagram, to).is_ok());
    }
    println!("{sent}");
    Ok(())
}
