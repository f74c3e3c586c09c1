//! A median with its range.

use std::fmt;

use anyhow::Result;

/// Of several measurements.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

/// Measures so many times.
pub fn spread(rounds: usize, mut measure: impl FnMut() -> Result<f64>) -> Result<Spread> {
    let mut values = (0..rounds).map(|_| measure()).collect::<Result<Vec<_>>>()?;
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    Ok(Spread { median: at(rounds / 2), least: at(0), most: at(rounds - 1) })
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median < 10.0 { 2 } else { 0 };
        let text = format!("{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.least, self.most);
        f.pad(&text)
    }
}
