//! A feed server on the border host that is ill, in the way that a test says.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;

use super::{Host, Lab, prober::inside};

/// See the module. It ends when this is dropped.
pub struct Server {
    port: u16,
    answer: Arc<Mutex<Reply>>,
    ended: Arc<AtomicBool>,
}

/// How each request is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// With this, whole.
    Content(String),
    /// The events since a number with the second, all the rest with the first.
    Increments(String, String),
    /// Not at all.
    Stall,
    /// With the first half of what was announced.
    Truncate(String),
    /// With the way to itself.
    Redirect,
    /// With 10 GB, as announced.
    Huge,
    /// With octets without end, unannounced.
    Endless,
}

impl Lab {
    /// Starts a server on the border host's 127.0.0.1.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn feed_server(&self, answer: Reply) -> Result<Server> {
        self.read(Host::Border, &["ip", "link", "set", "lo", "up"])?;
        let listener = inside(&self.namespaces.path(Host::Border), || TcpListener::bind(("127.0.0.1", 0)))?;
        let port = listener.local_addr()?.port();
        let (answer, ended) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicBool::new(false)));
        listener.set_nonblocking(true)?;
        thread::Builder::new().name("feed server".to_owned()).spawn({
            let (answer, ended) = (Arc::clone(&answer), Arc::clone(&ended));
            move || {
                while !ended.load(Ordering::Relaxed) {
                    let Ok((stream, _)) = listener.accept() else {
                        thread::sleep(Duration::from_millis(5));
                        continue;
                    };
                    let (answer, ended) = (Arc::clone(&answer), Arc::clone(&ended));
                    // Whoever asked may have left.
                    thread::spawn(move || drop(serve(stream, &answer, &ended)));
                }
            }
        })?;
        Ok(Server { port, answer, ended })
    }
}

impl Server {
    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/feed", self.port)
    }

    /// How it answers from now on.
    pub fn answer(&self, answer: Reply) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn serve(stream: TcpStream, answer: &Mutex<Reply>, ended: &AtomicBool) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while !request.ends_with("\r\n\r\n") {
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
    }
    let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut stream = stream;
    let mut content = |length: usize, body: &str| {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    };
    match answer {
        Reply::Content(body) => content(body.len(), &body),
        Reply::Increments(whole, since) => {
            let body = if request.lines().next().is_some_and(|line| line.contains("since=")) { since } else { whole };
            if body.is_empty() {
                return write!(stream, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            }
            content(body.len(), &body)
        }
        Reply::Stall => {
            while !ended.load(Ordering::Relaxed) && stream.peek(&mut [0]).is_err() {}
            Ok(())
        }
        Reply::Truncate(body) => content(2 * body.len(), &body),
        Reply::Redirect => {
            write!(stream, "HTTP/1.1 302 Found\r\nLocation: /feed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        Reply::Huge => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", 10_u64 << 30)?;
            flood(&mut stream, |stream, octets| stream.write_all(octets))
        }
        Reply::Endless => {
            write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")?;
            flood(&mut stream, |stream, octets| {
                write!(stream, "{:x}\r\n", octets.len())?;
                stream.write_all(octets)?;
                stream.write_all(b"\r\n")
            })
        }
    }
}

/// Sends 10 GB, or as much as is taken.
fn flood(
    stream: &mut TcpStream,
    mut send: impl FnMut(&mut TcpStream, &[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let octets = vec![b'#'; 1 << 16];
    (0..(10_u64 << 30) / octets.len() as u64).try_for_each(|_| send(stream, &octets))
}

/// Longest wait for whoever asks.
const PATIENCE: Duration = Duration::from_secs(60);
