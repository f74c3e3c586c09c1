//! A feed's `url` and `[feed.http]`.

use std::{net::IpAddr, str::FromStr, time::Duration};

use jiff::SignedDuration;
use reqwest::Url;
use toml::Spanned;

use super::{Check, raw};
use crate::feed::http::Remote;

impl Check<'_> {
    pub(super) fn remote(
        &mut self,
        url: &Spanned<String>,
        http: Option<Spanned<raw::Http>>,
        kind: raw::FeedKind,
        is_signed: bool,
    ) -> Option<Remote> {
        let parsed = match Url::parse(url.get_ref()) {
            Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => parsed,
            Ok(_) => return self.refuse(url, "neither http nor https"),
            Err(error) => return self.refuse(url, error.to_string()),
        };
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return self.refuse(url, "has a user name in it; what the server asks for belongs in [feed.http] `token`");
        }
        let is_secure = parsed.scheme() == "https";
        let raw = http.map(Spanned::into_inner).unwrap_or_default();
        if let Some(token) = raw.token.as_ref().filter(|_| !is_secure) {
            self.wrong(token, "everybody on the way could read the token: it needs https");
        }
        let certificate = match (raw.certificate, raw.key) {
            (Some(certificate), Some(key)) => {
                Some((self.folder.join(certificate.into_inner()), self.folder.join(key.into_inner())))
            }
            (Some(alone), None) => {
                self.wrong(&alone, "a certificate needs its `key`");
                None
            }
            (None, Some(alone)) => {
                self.wrong(&alone, "a key needs its `certificate`");
                None
            }
            (None, None) => None,
        };
        if let Some(incremental) = raw.incremental.as_ref().filter(|incremental| *incremental.get_ref()) {
            if matches!(kind, raw::FeedKind::List | raw::FeedKind::Rpz) {
                self.wrong(incremental, "a list or zone has no events; it is always whole");
            }
            if is_signed {
                self.wrong(incremental, "answers that are made as they are asked for cannot be signed beforehand");
            }
        }
        let is_of_tickets = kind == raw::FeedKind::Tickets;
        for (given, word) in [
            (raw.incremental.as_ref().map(Spanned::span), "incremental"),
            (raw.long_poll.as_ref().map(Spanned::span), "long_poll"),
            (raw.token.as_ref().map(Spanned::span), "token"),
        ] {
            if let Some(span) = given.filter(|_| is_of_tickets) {
                self.mistakes.push(self.source.at(span, format!("`{word}` does not go with tickets")));
            }
        }
        if is_of_tickets && !is_secure && !is_loopback(&parsed) {
            self.wrong(url, "everybody on the way could read the password: it needs https");
        }
        let long_poll = raw.long_poll.map(|text| self.time(Some(text), 1, 0));
        Some(Remote {
            url: parsed,
            interval: self.time(raw.interval, 1, if is_of_tickets { 60 } else { 300 }),
            jitter: self.at_most(raw.jitter, 100, 10),
            long_poll,
            connect_timeout: self.time(raw.connect_timeout, 1, 10),
            stall_timeout: self.time(raw.stall_timeout, 1, 30),
            timeout: self.time(raw.timeout, 1, 900),
            max_size: self.at_most(raw.max_size, 1 << 40, 256 << 20),
            max_unpacked: self.at_most(raw.max_unpacked, 1 << 40, 1 << 30),
            ca: raw.ca.map(|path| self.folder.join(path)),
            certificate,
            token: raw.token.map(|path| self.folder.join(path.into_inner())),
            incremental: raw.incremental.is_some_and(Spanned::into_inner),
        })
    }

    fn refuse(&mut self, url: &Spanned<String>, why: impl Into<String>) -> Option<Remote> {
        self.wrong(url, why);
        None
    }

    /// A time as people write it; `least` and `default` in seconds.
    pub(super) fn time(&mut self, text: Option<Spanned<String>>, least: u64, default: u64) -> Duration {
        const MOST: Duration = Duration::from_secs(7 * 24 * 3600);
        let Some(text) = text else { return Duration::from_secs(default) };
        let parsed = SignedDuration::from_str(text.get_ref()).ok().and_then(|time| Duration::try_from(time).ok());
        parsed.filter(|time| (Duration::from_secs(least)..=MOST).contains(time)).unwrap_or_else(|| {
            self.wrong(&text, "not a time between 1 s and 7 days, such as \"30s\" or \"5m\"");
            Duration::from_secs(default)
        })
    }

    pub(super) fn at_most<T: Copy + PartialOrd + std::fmt::Display>(
        &mut self,
        value: Option<Spanned<T>>,
        most: T,
        default: T,
    ) -> T {
        let Some(value) = value else { return default };
        if *value.get_ref() > most {
            self.wrong(&value, format!("over {most}"));
        }
        value.into_inner()
    }
}

/// Whether what is sent there stays on this host.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
