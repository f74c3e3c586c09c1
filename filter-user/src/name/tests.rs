use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Result<String, NameError> {
    Name::parse(text).map(|name| name.as_str().to_owned())
}

#[test]
fn t12_canonical_form() {
    for (text, canonical) in [
        ("example.com", "example.com"),
        ("Example.COM.", "example.com"),
        ("com", "com"),
        ("_dmarc.Example.com", "_dmarc.example.com"),
        ("r3---sn-4g5e6nez.googlevideo.com", "r3---sn-4g5e6nez.googlevideo.com"),
        ("-a-.example.com", "-a-.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example.", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        // Non-transitional: the sharp s is a letter of its own.
        ("faß.de", "xn--fa-hia.de"),
        ("例え。テスト。", "xn--r8jz45g.xn--zckzah"),
        ("ｅｘａｍｐｌｅ.com", "example.com"),
        ("_sip.bücher.example", "_sip.xn--bcher-kva.example"),
        ("☃.net", "xn--n3h.net"),
        ("1.2.3", "1.2.3"),
        ("1.2.3.4.in-addr.arpa", "1.2.3.4.in-addr.arpa"),
    ] {
        assert_eq!(parsed(text).as_deref(), Ok(canonical), "{text}");
    }
}

#[test]
fn t12_longest_name_and_label() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    assert_eq!(longest.len(), 253);
    assert_eq!(parsed(&longest), Ok(longest.clone()));
    assert_eq!(parsed(&format!("{longest}.")), Ok(longest.clone()));
    assert_eq!(parsed(&format!("{longest}b")), Err(NameError::TooLong(254)));
    assert_eq!(parsed(&format!("{label}a.com")), Err(NameError::LabelTooLong(64)));
    assert_eq!(parsed(&format!("com.{label}a")), Err(NameError::LabelTooLong(64)));
    let deepest = vec!["a"; 127].join(".");
    assert_eq!(Name::parse(&deepest).map(|name| name.depth()), Ok(127));
}

#[test]
fn f1_what_is_not_a_host_name_is_refused_with_its_reason() {
    for (text, error) in [
        ("", NameError::Empty),
        (".", NameError::Empty),
        ("。", NameError::Empty),
        ("https://example.com/", NameError::Url),
        ("https://exa*mple.com/?a=b", NameError::Url),
        ("example.com/path", NameError::Url),
        ("example.com?x", NameError::Url),
        ("192.0.2.1", NameError::Address),
        ("192.0.2.1.", NameError::Address),
        ("192.0.2.0/24", NameError::Address),
        ("192.0.2.1:443", NameError::Address),
        ("2001:db8::1", NameError::Address),
        ("2001:db8::/32", NameError::Address),
        ("[2001:db8::1]", NameError::Address),
        ("[2001:db8::1]:443", NameError::Address),
        ("fe80::1%eth0", NameError::Address),
        ("１９２.0.2.1", NameError::Address),
        ("*", NameError::Wildcard),
        ("*.example.com", NameError::Wildcard),
        ("example.com:443", NameError::Port),
        ("example.com:", NameError::Character(':')),
        ("a@example.com", NameError::Character('@')),
        ("\"example.com\"", NameError::Character('"')),
        (" example.com", NameError::Character(' ')),
        ("example.com\r", NameError::Character('\r')),
        ("exa\0mple.com", NameError::Character('\0')),
        ("exam\u{fffd}ple.com", NameError::Idn),
        ("exam\u{a0}ple.com", NameError::Character(' ')),
        ("a..b", NameError::EmptyLabel),
        (".a", NameError::EmptyLabel),
        ("a..", NameError::EmptyLabel),
        ("xn--.com", NameError::Idn),
        ("xn--a.com", NameError::Idn),
        ("xn--bcher-kv.com\u{fffd}", NameError::Idn),
    ] {
        assert_eq!(parsed(text), Err(error), "{text:?}");
    }
    assert_eq!(parsed(&"é".repeat(100_000)), Err(NameError::TooLong(200_000)));
}

proptest! {
    #[test]
    fn any_text_is_judged_and_its_canonical_form_is_stable(text in any::<String>()) {
        if let Ok(name) = Name::parse(&text) {
            prop_assert_eq!(Name::parse(name.as_str()), Ok(name));
        }
    }

    #[test]
    fn texts_near_names_never_panic(text in "[a-zA-Z0-9._:/*%\\[\\]xn\u{df}\u{3002}\u{ad}-]{0,80}") {
        if let Ok(name) = Name::parse(&text) {
            prop_assert!(name.as_str().len() <= MAX_NAME);
            prop_assert!(name.labels().all(|label| (1..=MAX_LABEL).contains(&label.len())));
            prop_assert_eq!(Name::parse(name.as_str()), Ok(name));
        }
    }
}
