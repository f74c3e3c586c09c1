//! Real clients on the lab's client host: dig, curl, openssl s_client and the C library's resolver.

use std::{collections::BTreeSet, fmt, fs, net::IpAddr, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{Finished, Host, Lab, address};

/// IPv4 or IPv6: which way a client reaches its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The address of this family.
    pub const fn of(self, both: [&str; 2]) -> &str {
        let [v4, v6] = both;
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Which subscriber asks: the address that packets come from.
pub type Source = [&'static str; 2];

/// What dig was told.
#[derive(Debug)]
pub struct Answer {
    /// The response code's word, such as NXDOMAIN; `None` when no answer came.
    pub status: Option<String>,
    /// Header flags, as dig writes them.
    pub flags: BTreeSet<String>,
    /// Data of the records in the answer section.
    pub answer: Vec<String>,
    /// Owner and type of the records in the authority section.
    pub authority: Vec<String>,
    /// Extended DNS error (RFC 8914): code and what follows it.
    pub ede: Option<String>,
    /// All that dig said.
    pub finished: Finished,
}

/// What curl got.
#[derive(Debug)]
pub struct Fetched {
    /// curl's exit code: 0 well, 28 timed out, 35 the TLS handshake failed.
    pub code: i32,
    /// The page.
    pub body: String,
    /// All that curl said.
    pub finished: Finished,
}

/// What came of octets that were sent.
#[derive(Debug)]
pub struct Sent {
    /// A ServerHello came.
    pub answered: bool,
    /// All that the client said.
    pub finished: Finished,
}

/// What openssl s_client got.
#[derive(Debug)]
pub struct Handshake {
    /// The handshake was completed.
    pub established: bool,
    /// The connection was reset.
    pub reset: bool,
    /// All that openssl said.
    pub finished: Finished,
}

/// Longest that a TLS client waits for a server that never answers.
const HANDSHAKE_SECONDS: u32 = 3;

impl Lab {
    /// Each of these names is answered NXDOMAIN.
    ///
    /// # Errors
    /// One is not; the answer is part of the error.
    pub fn stopped(&self, names: &[&str]) -> Result<()> {
        for name in names {
            let answer = self.dig(Family::V4, address::CLIENT, name, "A", &[])?;
            ensure!(answer.status.as_deref() == Some("NXDOMAIN"), "{name}: {answer}");
        }
        Ok(())
    }

    /// Each of these names gets the name server's own answer.
    ///
    /// # Errors
    /// As [`Lab::stopped`].
    pub fn passes(&self, names: &[&str]) -> Result<()> {
        for name in names {
            let answer = self.dig(Family::V4, address::CLIENT, name, "A", &[])?;
            ensure!(answer.answer == [address::WEB[0]], "{name}: {answer}");
        }
        Ok(())
    }

    /// Asks the name server with dig; further words are options, such as `+tries=1` or `+noedns`.
    ///
    /// # Errors
    /// dig cannot be started or does not end.
    pub fn dig(&self, family: Family, source: Source, name: &str, kind: &str, options: &[&str]) -> Result<Answer> {
        self.ask(family.of(address::DNS), name, kind, &[&["-b", family.of(source)], options].concat())
    }

    /// Asks any server with dig.
    ///
    /// # Errors
    /// dig cannot be started or does not end.
    pub fn ask(&self, server: &str, name: &str, kind: &str, options: &[&str]) -> Result<Answer> {
        let server = format!("@{server}");
        let words = ["dig", &server, "-q", name, "-t", kind];
        Ok(Answer::read(self.exec(Host::Client, &[&words, options].concat())?))
    }

    /// Asks the name server over TCP with kdig: all names over one connection, each after the answer before it.
    /// Returns the response code's word for each answer that came.
    ///
    /// # Errors
    /// kdig cannot be started or does not end.
    pub fn kdig(&self, family: Family, source: Source, names: &[&str]) -> Result<Vec<String>> {
        let server = format!("@{}", family.of(address::DNS));
        let words = ["kdig", &server, "-b", family.of(source), "+tcp", "+keepopen", "+retry=0", "+time=2"];
        let finished = self.exec(Host::Client, &[&words[..], names].concat())?;
        Ok(finished.stdout.split("status: ").skip(1).map(|rest| until(rest, ';').to_owned()).collect())
    }

    /// Fetches `https://NAME/` with curl. DNS is left out: the address is given.
    ///
    /// # Errors
    /// curl cannot be started or does not end.
    pub fn curl(&self, family: Family, source: Source, name: &str) -> Result<Fetched> {
        let resolve = format!("{name}:443:{}", bracketed(family.of(address::WEB))?);
        let url = format!("https://{name}/");
        let patience = HANDSHAKE_SECONDS.to_string();
        let words = ["curl", "--silent", "--show-error", "--insecure", "--noproxy", "*", "--max-time", &patience];
        let target = ["--interface", family.of(source), "--resolve", &resolve, &url];
        let finished = self.exec(Host::Client, &[&words[..], &target].concat())?;
        Ok(Fetched { code: finished.code(), body: finished.stdout.clone(), finished })
    }

    /// Shakes hands with the web server by openssl s_client; the address is given.
    ///
    /// # Errors
    /// openssl cannot be started or does not end.
    pub fn handshake(&self, family: Family, name: &str) -> Result<Handshake> {
        self.shake(family, name, &[])
    }

    /// As [`Lab::handshake`], with a ClientHello of over 2 kB: many application protocols are offered.
    ///
    /// # Errors
    /// As [`Lab::handshake`].
    pub fn long_handshake(&self, family: Family, name: &str) -> Result<Handshake> {
        let offered: Vec<String> = (0..180).map(|number| format!("protocol-{number:03}")).collect();
        self.shake(family, name, &["-alpn", &format!("http/1.1,{}", offered.join(","))])
    }

    fn shake(&self, family: Family, name: &str, options: &[&str]) -> Result<Handshake> {
        let connect = format!("{}:443", bracketed(family.of(address::WEB))?);
        let patience = HANDSHAKE_SECONDS.to_string();
        let words = ["timeout", &patience, "openssl", "s_client", "-brief", "-connect", &connect, "-servername", name];
        let finished = self.exec(Host::Client, &[&words[..], options].concat())?;
        Ok(Handshake {
            established: finished.stderr.contains("CONNECTION ESTABLISHED"),
            // ECONNRESET is 104.
            reset: finished.stderr.contains("errno=104"),
            finished,
        })
    }

    /// Sends these octets to the web server's address, and waits for a ServerHello.
    ///
    /// # Errors
    /// The client cannot be started or does not end.
    pub fn send_tls(&self, family: Family, port: u16, octets: &[u8]) -> Result<Sent> {
        let file = self.folder().join("octets");
        fs::write(&file, octets)?;
        let web = family.of(address::WEB);
        let script =
            format!("exec 3<>/dev/tcp/{web}/{port} && cat {} >&3 && head -c 6 <&3 | od -An -tx1", file.display());
        let finished = self.exec(Host::Client, &["timeout", &HANDSHAKE_SECONDS.to_string(), "bash", "-c", &script])?;
        // A record of handshake, and in it a ServerHello.
        let octets: Vec<&str> = finished.stdout.split_whitespace().collect();
        let answered = matches!(octets[..], ["16", "03", _, _, _, "02"]);
        Ok(Sent { answered, finished })
    }

    /// Asks with kdig over an encrypted transport, `+tls` or `+https`. Returns the response code's word.
    ///
    /// # Errors
    /// kdig cannot be started or does not end.
    pub fn kdig_encrypted(&self, family: Family, transport: &str, name: &str) -> Result<Option<String>> {
        let server = format!("@{}", family.of(address::DNS));
        let words = ["kdig", &server, transport, "+retry=0", "+time=5", name];
        let finished = self.exec(Host::Client, &words)?;
        // Over HTTPS, there is a status of HTTP before it.
        let header = after(&finished.stdout, "->>HEADER<<-").unwrap_or_default();
        Ok(after(header, "status: ").map(|rest| until(rest, ';').to_owned()))
    }

    /// What the C library's resolver gives for a name, over the lab's name servers; `None` where it finds nothing.
    ///
    /// # Errors
    /// getent cannot be started, does not end, or fails otherwise than by finding nothing.
    pub fn resolve(&self, name: &str) -> Result<(Option<BTreeSet<IpAddr>>, Duration)> {
        let finished = self.exec(Host::Client, &["getent", "ahosts", name])?;
        let addresses: Result<BTreeSet<IpAddr>, _> =
            finished.stdout.lines().filter_map(|line| line.split_whitespace().next()).map(str::parse).collect();
        // getent(1): 2 where a key is not in the database.
        ensure!(matches!(finished.code(), 0 | 2), "getent: {finished}");
        let addresses = addresses.context("getent")?;
        Ok(((finished.code() == 0).then_some(addresses), finished.took))
    }
}

/// An address as it stands in URLs.
pub fn bracketed(address: &str) -> Result<String> {
    Ok(match address.parse::<IpAddr>().context("not an address")? {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    })
}

impl Answer {
    fn read(finished: Finished) -> Self {
        let mut answer = Self {
            status: None,
            flags: BTreeSet::new(),
            answer: Vec::new(),
            authority: Vec::new(),
            ede: None,
            finished,
        };
        let mut section = "";
        for line in answer.finished.stdout.lines() {
            if let Some(header) = line.strip_prefix(";; ->>HEADER<<-") {
                answer.status = after(header, "status: ").map(|rest| until(rest, ',').to_owned());
            } else if let Some(flags) = line.strip_prefix(";; flags:") {
                answer.flags = until(flags, ';').split_whitespace().map(str::to_owned).collect();
            } else if let Some(ede) = line.strip_prefix("; EDE: ") {
                answer.ede = Some(ede.to_owned());
            } else if let Some(name) = line.strip_suffix(" SECTION:") {
                section = name;
            } else if !line.starts_with(';') {
                let fields: Vec<&str> = line.split_whitespace().collect();
                match (section, &fields[..]) {
                    (";; ANSWER", [_owner, _ttl, _class, _kind, data @ ..]) => answer.answer.push(data.join(" ")),
                    (";; AUTHORITY", [owner, _ttl, _class, kind, ..]) => {
                        answer.authority.push(format!("{owner} {kind}"));
                    }
                    _ => {}
                }
            }
        }
        answer
    }
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

fn until(text: &str, end: char) -> &str {
    text.split(end).next().unwrap_or(text)
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.status {
            None => out.write_str("no answer"),
            Some(status) if status != "NOERROR" => out.write_str(status),
            Some(_) if self.answer.is_empty() => out.write_str("no such record"),
            Some(_) => out.write_str(&self.answer.join(" ")),
        }
    }
}

impl fmt::Display for Fetched {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            0 => out.write_str("page fetched"),
            28 => out.write_str("timed out"),
            35 => out.write_str("connection reset"),
            code => write!(out, "curl: exit code {code}"),
        }
    }
}

impl fmt::Display for Handshake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.established {
            "handshake done"
        } else if self.reset {
            "connection reset"
        } else {
            "timed out"
        })
    }
}
