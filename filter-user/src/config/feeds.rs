//! `[[feed]]`: where orders come from.

use std::{
    collections::BTreeSet,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use encoding_rs::{Encoding, UTF_8};
use toml::Spanned;

use super::{CONTROL_FEED, Check, Feed, raw, transfer::Keys, word};
use crate::{
    feed::{
        Column, Columns, Format, Key, Kind, List, Seal,
        rpz::{self, Serial, Zone},
    },
    name::Name,
    order::{Terms, Unfit, json::RawOrder},
};

impl Check<'_> {
    pub(super) fn feeds(&mut self, raw: Vec<raw::Feed>, state_dir: &Path, keys: &Keys) -> Vec<Feed> {
        let mut feeds: Vec<Feed> = Vec::new();
        for feed in raw {
            let name = feed.name.get_ref();
            if let Err(why) = word(name) {
                self.wrong(&feed.name, why);
            } else if name == CONTROL_FEED {
                self.wrong(&feed.name, "`control` is what the control socket was given");
            } else if feeds.iter().any(|known| known.name == *name) {
                self.wrong(&feed.name, "two feeds of this name");
            } else {
                let orders: BTreeSet<String> = feeds.iter().filter_map(listed_order).collect();
                feeds.extend(self.feed(feed, state_dir, &orders, keys));
            }
        }
        feeds
    }

    /// `orders`: those that other lists are bound to.
    fn feed(&mut self, feed: raw::Feed, state_dir: &Path, orders: &BTreeSet<String>, keys: &Keys) -> Option<Feed> {
        self.strange_keys(&feed);
        let raw::Feed { name, kind, path, url, http, signature, format, charset, csv, tickets, zone, order, .. } = feed;
        let raw::Feed { primaries, transfer, expire, dns, guards, hold, deadline, .. } = feed;
        let transferred = primaries.map(|primaries| raw::Transferred { primaries, transfer, expire, dns });
        let mut policy = self.policy(name.get_ref(), raw::Guarding { guards, hold, deadline });
        let kind = *kind.get_ref();
        let seal = signature.and_then(|signature| match Key::parse(signature.key.get_ref()) {
            Ok(key) => Some(Seal { key, newest: state_dir.join("feeds").join(format!("{}.signed", name.get_ref())) }),
            Err(why) => {
                self.wrong(&signature.key, why);
                None
            }
        });
        let (read_as, tickets) = match kind {
            raw::FeedKind::Native => (Kind::Native, None),
            raw::FeedKind::List => {
                let format = self.format(format, csv);
                let charset = self.charset(charset);
                let Some(order) = order else {
                    self.wrong(&name, "a list has names only: [feed.order] must say which order they belong to");
                    return None;
                };
                (Kind::List(Arc::new(self.list(order, format, charset, orders)?)), None)
            }
            raw::FeedKind::Tickets => {
                // A ticket comes whole: to enforce it is to have the names come at once.
                policy.is_new_growth = true;
                (Kind::Native, Some(Arc::new(self.tickets(&name, tickets, order)?)))
            }
            raw::FeedKind::Rpz => {
                let Some(order) = order else {
                    self.wrong(&name, "a zone has no order's dates: [feed.order] must say which order it belongs to");
                    return None;
                };
                let Some(zone) = zone else {
                    self.wrong(&name, "`zone` must say which zone it is, such as \"rpz.example\"");
                    return None;
                };
                let newest = Serial(state_dir.join("feeds").join(format!("{}.serial", name.get_ref())));
                // A transfer compares serials itself.
                let newest = transferred.is_none().then_some(newest);
                (Kind::Rpz(Arc::new(self.zone(order, &zone, newest, orders)?)), None)
            }
        };
        let upstream = match (transferred, &read_as) {
            (Some(transferred), Kind::Rpz(zone)) => Some(self.upstream(zone.apex(), transferred, keys)?),
            _ => None,
        };
        let (path, remote) = match (path, url) {
            _ if upstream.is_some() => (fetched(state_dir, name.get_ref(), kind, None), None),
            (Some(path), None) if tickets.is_some() => {
                self.wrong(&path, "tickets come from a platform: give its `url`");
                return None;
            }
            (Some(path), None) => {
                if path.get_ref().as_os_str().is_empty() {
                    self.wrong(&path, "an empty path");
                }
                if let Some(http) = http {
                    self.wrong(&http, "`http` belongs to a feed with a `url`");
                }
                (self.folder.join(path.into_inner()), None)
            }
            (None, Some(url)) => {
                let remote = self.remote(&url, http, kind, seal.is_some())?;
                (fetched(state_dir, name.get_ref(), kind, seal.as_ref()), Some(remote))
            }
            (None, None) => {
                let primaries = if kind == raw::FeedKind::Rpz { " nor `primaries`" } else { "" };
                self.wrong(&name, format!("the feed has neither a `path` nor a `url`{primaries}"));
                return None;
            }
            (Some(_), Some(url)) => {
                self.wrong(&url, "the feed has a `path`, too");
                return None;
            }
        };
        let kind = if remote.as_ref().is_some_and(|remote| remote.incremental) { Kind::Log } else { read_as };
        Some(Feed { name: name.into_inner(), path, remote, upstream, kind, tickets, seal, policy })
    }

    /// Keys that belong to feeds of another kind.
    fn strange_keys(&mut self, feed: &raw::Feed) {
        let kind = *feed.kind.get_ref();
        let (is_list, is_zone) = (kind == raw::FeedKind::List, kind == raw::FeedKind::Rpz);
        let (is_native, is_tickets) = (kind == raw::FeedKind::Native, kind == raw::FeedKind::Tickets);
        let says_itself = "belongs to lists; the native format says this itself";
        let of_lists = if is_native { says_itself } else { "belongs to lists" };
        let signature = feed.signature.as_ref().map(|signature| signature.key.span());
        let primaries = feed.primaries.as_ref().map(Spanned::span);
        let is_transferred = is_zone && primaries.is_some();
        let is_alone = !is_transferred;
        let (of_transfers, of_others) = ("belongs to a feed with `primaries`", "belongs to a feed without `primaries`");
        for (span, word, belongs, why) in [
            (feed.format.as_ref().map(Spanned::span), "format", is_list, of_lists),
            (feed.charset.as_ref().map(Spanned::span), "charset", is_list, of_lists),
            (feed.csv.as_ref().map(Spanned::span), "csv", is_list, of_lists),
            (feed.order.as_ref().map(Spanned::span), "order", !is_native, says_itself),
            (feed.tickets.as_ref().map(Spanned::span), "tickets", is_tickets, "belongs to `kind = \"tickets\"`"),
            (feed.zone.as_ref().map(Spanned::span), "zone", is_zone, "belongs to `kind = \"rpz\"`"),
            (signature, "signature", !is_tickets, "belongs to files; a platform answers as it is asked"),
            (primaries, "primaries", is_zone, "belongs to `kind = \"rpz\"`"),
            (feed.transfer.as_ref().map(Spanned::span), "transfer", is_transferred, of_transfers),
            (feed.expire.as_ref().map(Spanned::span), "expire", is_transferred, of_transfers),
            (feed.dns.as_ref().map(Spanned::span), "dns", is_transferred, of_transfers),
            (feed.path.as_ref().map(Spanned::span), "path", is_alone, of_others),
            (feed.url.as_ref().map(Spanned::span), "url", is_alone, of_others),
            (feed.http.as_ref().map(Spanned::span), "http", is_alone, of_others),
            (feed.signature.as_ref().map(|key| key.key.span()), "signature", is_alone, of_others),
        ] {
            if let Some(span) = span.filter(|_| !belongs) {
                self.mistakes.push(self.source.at(span, format!("`{word}` {why}")));
            }
        }
    }

    fn format(&mut self, format: Option<Spanned<raw::ListFormat>>, csv: Option<Spanned<raw::Csv>>) -> Option<Format> {
        let format = match (format, csv) {
            (Some(format), None) if *format.get_ref() == raw::ListFormat::Csv => {
                self.wrong(&format, "needs `csv = { name = \"TITLE\" }`, which says where the names stand");
                return None;
            }
            (Some(format), Some(csv)) if *format.get_ref() != raw::ListFormat::Csv => {
                self.wrong(&csv, "`csv` belongs to `format = \"csv\"`");
                return None;
            }
            (_, Some(csv)) => return self.columns(csv.into_inner()).map(Format::Csv),
            (format, None) => format?,
        };
        match format.get_ref() {
            raw::ListFormat::Plain => Some(Format::Plain),
            raw::ListFormat::Hosts => Some(Format::Hosts),
            raw::ListFormat::Dnsmasq => Some(Format::Dnsmasq),
            raw::ListFormat::Adblock => Some(Format::Adblock),
            raw::ListFormat::Csv => None,
        }
    }

    fn columns(&mut self, raw: raw::Csv) -> Option<Columns> {
        let delimiter = match raw.delimiter {
            None => b',',
            Some(text) => match text.get_ref().as_bytes() {
                [octet] if octet.is_ascii() && !matches!(octet, b'"' | b'\r' | b'\n') => *octet,
                _ => {
                    self.wrong(&text, "a delimiter is one ASCII character");
                    return None;
                }
            },
        };
        let header = raw.header.unwrap_or(true);
        let name = match raw.name.get_ref() {
            raw::Column::Number(0) => {
                self.wrong(&raw.name, "columns are counted from 1");
                return None;
            }
            raw::Column::Title(_) if !header => {
                self.wrong(&raw.name, "without a header no column has a title; give its number");
                return None;
            }
            raw::Column::Number(number) => Column::Number(*number),
            raw::Column::Title(title) => Column::Title(title.clone()),
        };
        Some(Columns { name, delimiter, header })
    }

    fn charset(&mut self, charset: Option<Spanned<String>>) -> &'static Encoding {
        let Some(charset) = charset else { return UTF_8 };
        Encoding::for_label_no_replacement(charset.get_ref().as_bytes()).unwrap_or_else(|| {
            self.wrong(&charset, "not a character set; known are those of the WHATWG Encoding Standard");
            UTF_8
        })
    }

    fn list(
        &mut self,
        order: Spanned<RawOrder>,
        format: Option<Format>,
        charset: &'static Encoding,
        orders: &BTreeSet<String>,
    ) -> Option<List> {
        let (terms, except) = self.bound(order, "the names come from the list", orders, |raw| raw.terms())?;
        Some(List { terms, except, format, charset })
    }

    fn zone(
        &mut self,
        order: Spanned<RawOrder>,
        apex: &Spanned<String>,
        newest: Option<Serial>,
        orders: &BTreeSet<String>,
    ) -> Option<Zone> {
        let span = order.span();
        let (terms, except) = self.bound(order, "the names come from the zone", orders, RawOrder::zone_terms)?;
        if terms.id.len() > rpz::MAX_ID {
            let why = format!(
                "the id of a zone's order has at most {} octets, since its parts have longer ones",
                rpz::MAX_ID
            );
            self.unfit(&span, Unfit { text: terms.id.clone(), why });
            return None;
        }
        Zone::new(apex.get_ref(), terms, except, newest).map_err(|why| self.wrong(apex, why)).ok()
    }

    /// The order that a list or zone is bound to.
    fn bound(
        &mut self,
        order: Spanned<RawOrder>,
        names: &str,
        orders: &BTreeSet<String>,
        terms: impl FnOnce(RawOrder) -> Result<Terms, Vec<Unfit>>,
    ) -> Option<(Arc<Terms>, BTreeSet<Name>)> {
        let span = order.span();
        let raw = order.into_inner();
        let mut wrong = Vec::new();
        if orders.contains(raw.id()) {
            wrong.push(Unfit { text: raw.id().to_owned(), why: "another list is bound to this order".to_owned() });
        }
        self.order_of_feed(raw, &span, names, wrong, terms)
    }

    /// What `[feed.order]` says, but for names, which come from the feed.
    pub(super) fn order_of_feed(
        &mut self,
        mut raw: RawOrder,
        span: &Range<usize>,
        names: &str,
        mut wrong: Vec<Unfit>,
        terms: impl FnOnce(RawOrder) -> Result<Terms, Vec<Unfit>>,
    ) -> Option<(Arc<Terms>, BTreeSet<Name>)> {
        if raw.names.take().is_some() {
            wrong.insert(0, Unfit { text: "names".to_owned(), why: names.to_owned() });
        }
        let except = raw.except.take().unwrap_or_default();
        wrong.extend(except.refused.into_iter().map(|row| {
            let why = row.error.map_or_else(|| "is not a string".to_owned(), |error| error.to_string());
            Unfit { text: row.text, why: format!("in `except`: {why}") }
        }));
        let terms = terms(raw).map_err(|errors| wrong.extend(errors)).ok();
        wrong.into_iter().for_each(|unfit| self.unfit(span, unfit));
        Some((Arc::new(terms?), except.names.into_iter().collect()))
    }

    pub(super) fn unfit(&mut self, span: &Range<usize>, unfit: Unfit) {
        let mut mistake = self.source.at(span.clone(), unfit.why);
        mistake.text = unfit.text;
        self.mistakes.push(mistake);
    }
}

/// Where the last good answer of a server is kept. Another key begins anew: what it has not signed is not taken.
fn fetched(state_dir: &Path, feed: &str, kind: raw::FeedKind, seal: Option<&Seal>) -> PathBuf {
    let kind = match kind {
        raw::FeedKind::Native => "jsonl",
        raw::FeedKind::List => "list",
        raw::FeedKind::Tickets => "tickets.jsonl",
        raw::FeedKind::Rpz => "zone",
    };
    let key = seal.map_or(String::new(), |seal| format!(".{}", seal.key.short()));
    state_dir.join("feeds").join(format!("{feed}{key}.{kind}"))
}

/// The order that a feed's list or zone is bound to.
fn listed_order(feed: &Feed) -> Option<String> {
    match &feed.kind {
        Kind::List(list) => Some(list.terms.id.clone()),
        Kind::Rpz(zone) => Some(zone.order_id().to_owned()),
        Kind::Native | Kind::Log => None,
    }
}
