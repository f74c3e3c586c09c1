//! Ordinary traffic beside a flood: datagrams that a server sends back.

use std::{
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use cordon_tests::lab::{Host, address};

use super::{border::Border, threads};
use crate::spread::Spread;

/// What became of the datagrams.
pub struct Echo {
    /// Percent that did not come back.
    pub loss: f64,
    /// Microseconds to and fro: the median, and what 99 of 100 are below.
    pub times: [f64; 2],
}

/// Sends a datagram a millisecond for so long, while `flood` goes on.
pub fn beside(border: &Border, time: Duration, flood: impl FnOnce() -> Result<()> + Send) -> Result<Echo> {
    let server = border.lab().within(Host::Server, || Ok(UdpSocket::bind((address::DNS[0], PORT))?))?;
    let client = border.lab().within(Host::Client, || {
        let socket = UdpSocket::bind((address::CLIENT[0], 0))?;
        socket.connect((address::DNS[0], PORT))?;
        Ok(socket)
    })?;
    server.set_read_timeout(Some(WAIT))?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let answering = scope.spawn(|| answer(&server, border.other_cpu(), &is_over));
        let asking = scope.spawn(|| ask(&client, border.other_cpu(), time));
        let flooded = flood();
        let asked = asking.join();
        is_over.store(true, Ordering::Relaxed);
        let answered = answering.join();
        flooded?;
        answered.map_err(|_| anyhow!("the answering thread panicked"))??;
        asked.map_err(|_| anyhow!("the asking thread panicked"))?
    })
}

fn answer(socket: &UdpSocket, cpu: usize, is_over: &AtomicBool) -> Result<()> {
    threads::run_on(0, cpu)?;
    threads::run_first(0)?;
    let mut datagram = [0; SIZE];
    while !is_over.load(Ordering::Relaxed) {
        // Nothing came within the time.
        let Ok((octets, from)) = socket.recv_from(&mut datagram) else { continue };
        socket.send_to(datagram.get(..octets).unwrap_or_default(), from)?;
    }
    Ok(())
}

fn ask(socket: &UdpSocket, cpu: usize, time: Duration) -> Result<Echo> {
    threads::run_on(0, cpu)?;
    threads::run_first(0)?;
    let begun = Instant::now();
    let count = (time.as_nanos() / STEP.as_nanos()) as u32;
    let (mut sent, mut times) = (0, Vec::new());
    let mut datagram = [0; SIZE];
    while sent < count || begun.elapsed() < time + PATIENCE {
        let due = if sent < count { STEP * sent } else { time + PATIENCE };
        let wait = due.saturating_sub(begun.elapsed());
        if wait.is_zero() {
            let now = begun.elapsed().as_nanos() as u64;
            socket.send(&now.to_be_bytes()).context("sending a datagram")?;
            sent += 1;
            continue;
        }
        socket.set_read_timeout(Some(wait))?;
        if let Ok(SIZE) = socket.recv(&mut datagram) {
            let then = Duration::from_nanos(u64::from_be_bytes(datagram));
            times.push(begun.elapsed().saturating_sub(then).as_nanos() as f64 / 1000.0);
        }
        if times.len() == sent as usize && sent == count {
            break;
        }
    }
    ensure!(sent > 0, "no datagram was sent");
    let loss = 100.0 * (1.0 - times.len() as f64 / f64::from(sent));
    let times = Spread::of(times);
    Ok(Echo { loss, times: [times.median(), times.part(0.99)] })
}

/// Echo (RFC 862).
const PORT: u16 = 7;

/// Octets of a datagram: when it was sent.
const SIZE: usize = 8;

const STEP: Duration = Duration::from_millis(1);

/// After which a datagram is lost.
const PATIENCE: Duration = Duration::from_millis(200);

const WAIT: Duration = Duration::from_millis(50);
