//! Addresses of public resolvers, and files of them.

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use super::mistake::{Mistake, Mistakes, shortened};

/// Those that are known to everybody.
const SHIPPED: &str = include_str!("../../data/resolvers.tsv");

/// The addresses that Cordon knows by itself.
pub(super) fn shipped() -> BTreeSet<IpAddr> {
    let parsed = parse(SHIPPED, Path::new("data/resolvers.tsv"));
    debug_assert!(parsed.is_ok(), "the shipped list is in order");
    parsed.unwrap_or_default()
}

/// An address as packets have it.
pub(super) fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse::<IpAddr>().map(|address| address.to_canonical()).map_err(|_| "not an IP address")
}

/// A file of addresses, one a line; what follows on the line tells the reader whose it is, and `#` begins a comment.
pub(super) fn read(file: &Path) -> Result<BTreeSet<IpAddr>, Vec<Mistake>> {
    let text = std::fs::read_to_string(file).map_err(|error| Mistakes::unreadable(file, &error).0)?;
    parse(&text, file)
}

fn parse(text: &str, file: &Path) -> Result<BTreeSet<IpAddr>, Vec<Mistake>> {
    let (mut addresses, mut mistakes) = (BTreeSet::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or_default();
        let Some(word) = content.split_whitespace().next() else { continue };
        match address(word) {
            Ok(address) => {
                addresses.insert(address);
            }
            Err(why) => mistakes.push(Mistake {
                file: file.to_owned(),
                line: at + 1,
                text: shortened(word),
                why: why.to_owned(),
            }),
        }
    }
    if mistakes.is_empty() { Ok(addresses) } else { Err(mistakes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shipped_address_has_an_operator_and_a_source() {
        let lines = SHIPPED.lines().filter(|line| !line.starts_with('#'));
        let mut count = 0;
        for line in lines {
            let columns: Vec<&str> = line.split('\t').collect();
            let [address, operator, source] = columns[..] else { panic!("{line}") };
            assert!(super::address(address).is_ok() && !operator.is_empty(), "{line}");
            assert!(source.starts_with("https://"), "{line}");
            count += 1;
        }
        // None of them twice.
        assert_eq!(shipped().len(), count);
    }
}
