//! What several of these tests ask.

use anyhow::{Result, ensure};
use cordon_tests::lab::{Family, Lab, address};

/// The subscriber's query is answered with NXDOMAIN.
pub fn assert_stopped(lab: &Lab, name: &str) -> Result<()> {
    let answer = lab.dig(Family::V4, address::CLIENT, name, "A", &OPTIONS)?;
    ensure!(answer.status.as_deref() == Some("NXDOMAIN"), "{name}: {answer}");
    Ok(())
}

/// The subscriber's query is answered with the site's address.
pub fn assert_reached(lab: &Lab, name: &str) -> Result<()> {
    assert_reached_by(lab, address::CLIENT, name)
}

/// The same of any client.
pub fn assert_reached_by(lab: &Lab, client: [&'static str; 2], name: &str) -> Result<()> {
    let answer = lab.dig(Family::V4, client, name, "A", &OPTIONS)?;
    ensure!(answer.answer == [address::WEB[0]], "{name}: {answer}");
    Ok(())
}

const OPTIONS: [&str; 2] = ["+tries=1", "+time=5"];
