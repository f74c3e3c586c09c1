//! Events that came after a whole answer: each has a number, greater than that of the one before.

use serde::Deserialize;

/// What is to be taken of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    /// The lines that are new, each with its LF.
    pub(super) lines: Vec<u8>,
    /// The number of the last of them.
    pub(super) seq: u64,
}

#[derive(Deserialize)]
struct Numbered {
    seq: Option<u64>,
}

/// What of `content` comes after event `since`. A line that cannot be read goes along, so that it is refused where the
/// others are taken; but an answer of which no line can be numbered is not taken.
pub(super) fn after(since: u64, content: &[u8]) -> Result<Option<News>, String> {
    let mut news = News { lines: Vec::new(), seq: since };
    let (mut last, mut unnumbered) = (None, None);
    for (index, line) in content.split(|octet| *octet == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let seq = match serde_json::from_slice::<Numbered>(line) {
            Ok(Numbered { seq: Some(seq) }) => seq,
            Ok(Numbered { seq: None }) => return Err(format!("line {}: an event without `seq`", index + 1)),
            Err(_) => {
                unnumbered.get_or_insert(index + 1);
                news.lines.extend([line, b"\n"].concat());
                continue;
            }
        };
        if last.is_some_and(|last| seq <= last) {
            return Err(format!("line {}: `seq` {seq} does not come after the one before", index + 1));
        }
        last = Some(seq);
        if seq > since {
            news.seq = seq;
            news.lines.extend([line, b"\n"].concat());
        }
    }
    match unnumbered {
        Some(line) if news.seq == since => Err(format!("line {line}: not an event")),
        _ if news.seq == since => Ok(None),
        _ => Ok(Some(news)),
    }
}

/// The greatest number in a whole answer.
pub(super) fn last(content: &[u8]) -> Option<u64> {
    let numbered = |line: &[u8]| serde_json::from_slice::<Numbered>(line).ok()?.seq;
    content.split(|octet| *octet == b'\n').filter_map(numbered).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_passed_over_and_disorder_is_refused() {
        let lines = |numbers: &[u64]| numbers.iter().map(|seq| format!("{{\"seq\":{seq}}}\n")).collect::<String>();
        let news = |since, numbers: &[u64]| after(since, lines(numbers).as_bytes());
        let is_new = |numbers: &[u64]| News { lines: lines(numbers).into_bytes(), seq: *numbers.last().unwrap() };
        assert_eq!(news(3, &[4, 5, 9]), Ok(Some(is_new(&[4, 5, 9]))));
        assert_eq!(news(3, &[2, 3, 4]), Ok(Some(is_new(&[4]))));
        assert_eq!(news(3, &[1, 2, 3]), Ok(None));
        assert_eq!(news(3, &[]), Ok(None));
        assert_eq!(news(3, &[5, 4]), Err("line 2: `seq` 4 does not come after the one before".to_owned()));
        assert_eq!(after(3, b"{\"op\":\"put\"}\n"), Err("line 1: an event without `seq`".to_owned()));
        assert_eq!(after(3, b"\n<html>\n"), Err("line 2: not an event".to_owned()));
        let broken = b"junk\n{\"seq\":4}\n";
        assert_eq!(after(3, broken), Ok(Some(News { lines: broken.to_vec(), seq: 4 })));
        assert_eq!(last(lines(&[3, 7, 5]).as_bytes()), Some(7));
    }
}
