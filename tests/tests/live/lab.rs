//! The lab itself, without a filter: whoever asks is answered. Other live tests rest on this.

use anyhow::Result;
use cordon_tests::lab::{Family, Lab, address};

#[test]
fn everything_is_reached_without_a_filter() -> Result<()> {
    let lab = Lab::new()?;
    for family in Family::BOTH {
        for source in [address::CLIENT, address::OTHER_CLIENT] {
            let answer = lab.dig(family, source, "listed.example", "A", &[])?;
            assert_eq!(answer.status.as_deref(), Some("NOERROR"));
            assert_eq!(answer.answer, [address::WEB[0]]);
            let answer = lab.dig(family, source, "a.listed.example", "AAAA", &["+tcp"])?;
            assert_eq!(answer.answer, [address::WEB[1]]);

            let fetched = lab.curl(family, source, "listed.example")?;
            assert_eq!((fetched.code, fetched.body.as_str()), (0, "<p>reached listed.example</p>\n"));
        }
        let handshake = lab.handshake(family, "listed.example")?;
        assert!(handshake.established && !handshake.reset, "{handshake:?}");
    }
    let (addresses, _) = lab.resolve("listed.example")?;
    let web: Result<_, _> = address::WEB.into_iter().map(str::parse).collect();
    assert_eq!(addresses, Some(web?));
    Ok(())
}

#[test]
fn a_browser_reaches_a_site() -> Result<()> {
    let lab = Lab::with_mtu(3000)?;
    let page = lab.browse("listed.example")?;
    assert!(page.document.contains("reached listed.example"), "{page:?}");
    assert_eq!(page.error, None);
    Ok(())
}
