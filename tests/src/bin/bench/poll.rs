//! A feed server that holds each question until there is something new.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Instant,
};

use anyhow::Result;

/// See the module. It ends with this process.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The latest events.
    lines: Vec<u8>,
    /// Number of the last of them.
    seq: u64,
    /// Somebody waits for those after it.
    is_asked: bool,
}

impl Server {
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming().flatten() {
                    let shared = Arc::clone(&shared);
                    // Whoever asked may have left.
                    thread::spawn(move || drop(serve(stream, &shared)));
                }
            }
        });
        Ok(Self { address, shared })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/feed", self.address)
    }

    /// Whether somebody waits for what comes next.
    pub fn is_asked(&self) -> bool {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).is_asked
    }

    /// Sends events, a line each, as soon as somebody waits for them; tells when.
    pub fn send(&self, lines: &[String]) -> Result<Instant> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.is_asked {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.lines.clear();
        for line in lines {
            state.seq += 1;
            let mut event: serde_json::Value = serde_json::from_str(line)?;
            event["seq"] = state.seq.into();
            writeln!(state.lines, "{event}")?;
        }
        state.is_asked = false;
        let begun = Instant::now();
        self.shared.changed.notify_all();
        Ok(begun)
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            if reader.read_line(&mut request)? == 0 {
                return Ok(());
            }
        }
        let lines = if request.lines().next().is_some_and(|line| line.contains("since=")) {
            let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.is_asked = true;
            shared.changed.notify_all();
            while state.is_asked {
                state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.lines.clone()
        } else {
            // The whole: an order that ended long ago.
            FIRST.as_bytes().to_vec()
        };
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", lines.len())?;
        stream.write_all(&lines)?;
    }
}

const FIRST: &str = "{\"op\":\"revoke\",\"order\":\"nothing\",\"why\":\"\",\"seq\":0}\n";
