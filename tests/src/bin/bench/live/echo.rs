//! Ordinary traffic beside a flood: datagrams that a server sends back.

use std::{
    net::UdpSocket,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use cordon_tests::{
    cpu,
    lab::{CLIENT_INTERFACE, Host, address},
};
use filter_user::kernel::{Frames, Pace};

use super::{
    Programs, Size,
    border::{Border, SERVER_INTERFACE},
    first, threads,
};
use crate::{
    Run,
    packets::grouped,
    report::{Report, Table},
    spread::Spread,
};

/// Measures.
pub fn measure(
    border: &Border,
    flood: &Frames,
    programs: &Programs,
    run: &Run,
    size: &Size,
    report: &mut Report,
) -> Result<()> {
    border.install_on(Host::Server, SERVER_INTERFACE, Some(&programs.drop))?;
    border.install_on(Host::Client, CLIENT_INTERFACE, Some(&programs.empty))?;
    let cases = [
        ("no flood, empty program", false, Some(&programs.empty)),
        ("no flood, Cordon", false, Some(&programs.cordon.program)),
        ("flood, no program", true, None),
        ("flood, empty program", true, Some(&programs.empty)),
        ("flood, Cordon", true, Some(&programs.cordon.program)),
    ];
    let mut echoes = cases.map(|_| Vec::new());
    let pace = Pace::Rows { burst: BURST, rate: RATE };
    for round in 0..run.size.rounds {
        for ((_, is_flooded, program), echoes) in cases.iter().zip(&mut echoes) {
            border.install(program.map(PathBuf::as_path))?;
            echoes.push(beside(border, size.ordinary, || {
                if *is_flooded { border.send(flood, first(round), pace, size.ordinary) } else { Ok(0) }
            })?);
        }
    }
    border.install(None)?;
    let text = format!(
        "A datagram a millisecond from the client to the server and back, beside up to {} queries a second for listed \
         names, {BURST} at a time; where Cordon does not drop them they are routed to the server, whose own program drops \
         them. Medians of {} runs of {} ms.",
        grouped(RATE as usize),
        run.size.rounds,
        size.ordinary.as_millis(),
    );
    let table = report.table(Table::new("live-echo", "Live: ordinary traffic beside a flood", &ECHOES).text(text));
    for ((title, ..), echoes) in cases.iter().zip(&echoes) {
        let columns: [fn(&Echo) -> f64; 4] =
            [|echo| echo.flood * 1e-6, |echo| echo.loss, |echo| echo.median, |echo| echo.late];
        table.row(*title, columns.map(|column| Spread::of(echoes.iter().map(column).collect())));
    }
    Ok(())
}

/// What became of the datagrams of one run.
struct Echo {
    /// Queries a second beside them.
    flood: f64,
    /// Percent that did not come back.
    loss: f64,
    /// Microseconds to and fro: the median.
    median: f64,
    /// What 99 of 100 are below.
    late: f64,
}

/// Sends a datagram a millisecond for so long, while `flood` goes on.
fn beside(border: &Border, time: Duration, flood: impl FnOnce() -> Result<u64> + Send) -> Result<Echo> {
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
        answered.map_err(|_| anyhow!("the answering thread panicked"))??;
        let asked = asked.map_err(|_| anyhow!("the asking thread panicked"))??;
        Ok(Echo { flood: flooded? as f64 / time.as_secs_f64(), ..asked })
    })
}

fn answer(socket: &UdpSocket, cpu: usize, is_over: &AtomicBool) -> Result<()> {
    cpu::run_on(0, cpu)?;
    threads::run_first(0)?;
    let mut datagram = [0; OCTETS];
    while !is_over.load(Ordering::Relaxed) {
        // Nothing came within the time.
        let Ok((octets, from)) = socket.recv_from(&mut datagram) else { continue };
        socket.send_to(datagram.get(..octets).unwrap_or_default(), from)?;
    }
    Ok(())
}

fn ask(socket: &UdpSocket, cpu: usize, time: Duration) -> Result<Echo> {
    cpu::run_on(0, cpu)?;
    threads::run_first(0)?;
    let begun = Instant::now();
    let count = (time.as_nanos() / STEP.as_nanos()) as u32;
    let (mut sent, mut times) = (0, Vec::new());
    let mut datagram = [0; OCTETS];
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
        if let Ok(OCTETS) = socket.recv(&mut datagram) {
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
    Ok(Echo { flood: 0.0, loss, median: times.median(), late: times.part(0.99) })
}

/// Echo (RFC 862).
const PORT: u16 = 7;

/// Octets of a datagram: when it was sent.
const OCTETS: usize = 8;

const ECHOES: [&str; 4] = ["flood, million/s", "lost, %", "round trip, µs", "99 of 100 below, µs"];

/// Queries of the flood a second, if it may be.
const RATE: u64 = 1_000_000;

/// Queries in a row.
const BURST: u32 = 32;

/// From one datagram to the next.
const STEP: Duration = Duration::from_millis(1);

/// After which a datagram is lost.
const PATIENCE: Duration = Duration::from_millis(200);

const WAIT: Duration = Duration::from_millis(50);
