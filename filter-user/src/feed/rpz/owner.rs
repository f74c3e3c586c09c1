//! Domain names as zones have them: labels of any octets, from presentation format (RFC 1035 5.1) to keys that sort as
//! a tree.
//!
//! A key has the labels from the root down, in lower case (RFC 4343), each behind its length. So the key of a name
//! begins with the key of each of its parents, and what lies below a name follows it in the order of the keys.

use thiserror::Error;

use crate::name::{MAX_LABEL, Name};

/// Why a text is not a domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum OwnerError {
    /// Two dots in a row, or one in front.
    #[error("has an empty label")]
    EmptyLabel,
    /// A label of this many octets.
    #[error("has a label of {0} octets, over the {MAX_LABEL} that RFC 1035 allows")]
    LabelTooLong(usize),
    /// With the origin, too many octets.
    #[error("is longer than the {MAX_WIRE} octets that RFC 1035 allows, the origin included")]
    TooLong,
    /// `\` and then neither three digits up to 255 nor a character.
    #[error("has a \\ with neither three digits up to 255 nor a character behind it")]
    Escape,
}

/// Appends to `key` the key of a name as a master file has it; `origin` is that of names without a dot at their end.
///
/// # Errors
/// It is no domain name. `key` may have got some of it.
pub(super) fn read(text: &[u8], origin: &[u8], key: &mut Vec<u8>) -> Result<(), OwnerError> {
    match text {
        b"@" => {
            key.extend_from_slice(origin);
            return Ok(());
        }
        b"." => return Ok(()),
        _ => {}
    }
    let mut labels = [0; MAX_WIRE];
    let mut ends = [0; MAX_LABELS];
    let (mut length, mut count, mut start, mut at) = (0, 0, 0, 0);
    while let Some(octet) = text.get(at).copied() {
        at += 1;
        let octet = match octet {
            b'.' => {
                end_label(&mut ends, &mut count, &mut start, length)?;
                continue;
            }
            b'\\' => escaped(text, &mut at)?,
            octet => octet,
        };
        *labels.get_mut(length).ok_or(OwnerError::TooLong)? = octet.to_ascii_lowercase();
        length += 1;
    }
    let is_absolute = start == length;
    if !is_absolute {
        end_label(&mut ends, &mut count, &mut start, length)?;
        key.extend_from_slice(origin);
    }
    let before = if is_absolute { 0 } else { origin.len() };
    // A length in front of each label, and the root's.
    if before + length + count + 1 > MAX_WIRE {
        return Err(OwnerError::TooLong);
    }
    let ends = ends.get(..count).unwrap_or_default();
    for (label, end) in ends.iter().enumerate().rev() {
        let start = if label == 0 { 0 } else { ends.get(label - 1).copied().unwrap_or_default() };
        key.push((end - start) as u8);
        key.extend_from_slice(labels.get(start..*end).unwrap_or_default());
    }
    Ok(())
}

fn end_label(ends: &mut [usize], count: &mut usize, start: &mut usize, length: usize) -> Result<(), OwnerError> {
    match length - *start {
        0 => return Err(OwnerError::EmptyLabel),
        1..=MAX_LABEL => {}
        octets => return Err(OwnerError::LabelTooLong(octets)),
    }
    *ends.get_mut(*count).ok_or(OwnerError::TooLong)? = length;
    (*count, *start) = (*count + 1, length);
    Ok(())
}

/// What stands behind a `\`: `\DDD` is an octet, `\X` the character itself (RFC 1035 5.1).
fn escaped(text: &[u8], at: &mut usize) -> Result<u8, OwnerError> {
    let first = *text.get(*at).ok_or(OwnerError::Escape)?;
    if !first.is_ascii_digit() {
        *at += 1;
        return Ok(first);
    }
    let digits = text.get(*at..*at + 3).ok_or(OwnerError::Escape)?;
    *at += 3;
    let value = digits.iter().try_fold(0_u16, |value, digit| {
        digit.is_ascii_digit().then(|| value * 10 + u16::from(digit - b'0')).ok_or(OwnerError::Escape)
    })?;
    u8::try_from(value).map_err(|_| OwnerError::Escape)
}

/// The labels of a key, from the root down.
pub(super) fn labels(mut key: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let mut labels = Vec::new();
    while let Some((length, rest)) = key.split_first() {
        let (label, below) = rest.split_at_checked(usize::from(*length)).unwrap_or((rest, &[]));
        labels.push(label);
        key = below;
    }
    labels.into_iter()
}

/// The first label of a key with its length, from the root down.
pub(super) fn first(key: &[u8]) -> &[u8] {
    let length = key.first().map_or(0, |length| 1 + usize::from(*length));
    key.get(..length).unwrap_or(key)
}

/// The name as a master file would have it, without a dot at its end.
pub(super) fn text(key: &[u8]) -> String {
    let mut text = String::new();
    for label in labels(key).rev() {
        if !text.is_empty() {
            text.push('.');
        }
        for octet in label {
            match octet {
                b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                    text.push('\\');
                    text.push(char::from(*octet));
                }
                0x21..=0x7e => text.push(char::from(*octet)),
                _ => text.push_str(&format!("\\{octet:03}")),
            }
        }
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

/// The host name, if it is one.
pub(super) fn host(key: &[u8]) -> Option<Name> {
    let mut text = String::with_capacity(key.len());
    for label in labels(key).rev() {
        if !text.is_empty() {
            text.push('.');
        }
        // A dot within a label would become one between two.
        if !label.is_ascii() || label.contains(&b'.') {
            return None;
        }
        text.push_str(std::str::from_utf8(label).ok()?);
    }
    // Queries are compared octet by octet, so UTS 46 must not have made it another name.
    Name::parse(&text).ok().filter(|name| name.as_str() == text)
}

/// Longest name in octets, as it goes over the wire (RFC 1035 2.3.4).
const MAX_WIRE: usize = 255;

/// Labels of a name of that length, at most.
const MAX_LABELS: usize = 127;

/// The key of `*`, the wildcard label (RFC 4592 2.1.1).
pub(super) const WILDCARD: &[u8] = b"\x01*";

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str, origin: &str) -> Result<Vec<u8>, OwnerError> {
        let (mut above, mut key) = (Vec::new(), Vec::new());
        read(origin.as_bytes(), &[], &mut above).unwrap();
        read(text.as_bytes(), &above, &mut key).map(|()| key)
    }

    #[test]
    fn names_are_read_as_rfc_1035_says() {
        assert_eq!(key("a.b", "z.").unwrap(), b"\x01z\x01b\x01a");
        assert_eq!(key("A.B.", "z.").unwrap(), b"\x01b\x01a");
        assert_eq!(key("@", "Zone.example.").unwrap(), b"\x07example\x04zone");
        assert_eq!(key(".", "z.").unwrap(), b"");
        assert_eq!(key("a\\.b.c.", "z.").unwrap(), b"\x01c\x03a.b");
        assert_eq!(key("\\065\\000.", "z.").unwrap(), b"\x02a\0");
        for (text, error) in [
            ("a..b", OwnerError::EmptyLabel),
            (".a", OwnerError::EmptyLabel),
            ("a\\", OwnerError::Escape),
            ("\\25", OwnerError::Escape),
            ("\\256", OwnerError::Escape),
            ("\\1a1", OwnerError::Escape),
            (&"a".repeat(64), OwnerError::LabelTooLong(64)),
            (&"a.".repeat(128), OwnerError::TooLong),
        ] {
            assert_eq!(key(text, "z."), Err(error), "{text}");
        }
        // 255 octets with the root's: 127 labels of one octet.
        assert_eq!(key(&"a.".repeat(127), "z.").unwrap().len(), 254);
        assert_eq!(key(&"a.".repeat(127)[..253], "z."), Err(OwnerError::TooLong));
        assert_eq!(key(&"a.".repeat(126)[..251], "z.").unwrap().len(), 254);
    }

    #[test]
    fn keys_are_written_as_they_were_read() {
        for name in ["a.b.example", "a\\.b.c", "\\000\\200x.y", "*.x", "\\@.x"] {
            assert_eq!(text(&key(&format!("{name}."), ".").unwrap()), name);
        }
        assert_eq!(text(&[]), ".");
    }

    #[test]
    fn only_host_names_are_host_names() {
        let host = |text: &str| host(&key(&format!("{text}."), ".").unwrap()).map(|name| name.to_string());
        assert_eq!(host("A_b.Example").as_deref(), Some("a_b.example"));
        assert_eq!(host("xn--mller-kva.example").as_deref(), Some("xn--mller-kva.example"));
        for text in ["a\\.b.c", "*.x", "a b", "m\\195\\188ller.example", "xn--zz--zz9.example", "1.2.3.4", ""] {
            assert_eq!(host(text), None, "{text}");
        }
    }
}
