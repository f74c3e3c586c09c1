//! A median with its range.

use std::fmt;

use anyhow::Result;

/// Of several measurements.
#[derive(Clone, Debug)]
pub struct Spread {
    /// In order.
    values: Vec<f64>,
}

/// Measures so many times.
pub fn spread(rounds: usize, mut measure: impl FnMut() -> Result<f64>) -> Result<Spread> {
    let mut values = (0..rounds).map(|_| measure()).collect::<Result<Vec<_>>>()?;
    values.sort_by(f64::total_cmp);
    Ok(Spread { values })
}

impl Spread {
    /// What this part of them is below.
    pub fn part(&self, part: f64) -> f64 {
        let index = (self.values.len() as f64 * part) as usize;
        self.values.get(index.min(self.values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, least, most) = (self.part(0.5), self.part(0.0), self.part(1.0));
        let digits = if median < 10.0 { 2 } else { 0 };
        let text = format!("{median:.digits$} ({least:.digits$} to {most:.digits$})");
        f.pad(&text)
    }
}
