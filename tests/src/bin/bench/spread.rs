//! A median with its range.

use std::fmt;

use anyhow::Result;

/// Of several measurements.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// In order.
    values: Vec<f64>,
}

/// Measures so many times.
pub fn spread(rounds: usize, mut measure: impl FnMut() -> Result<f64>) -> Result<Spread> {
    Ok(Spread::of((0..rounds).map(|_| measure()).collect::<Result<Vec<_>>>()?))
}

impl Spread {
    /// Of these values.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { values }
    }

    /// How many there are.
    pub fn runs(&self) -> usize {
        self.values.len()
    }

    /// The middle one; not a number where there is none.
    pub fn median(&self) -> f64 {
        self.part(0.5)
    }

    /// The smallest.
    pub fn least(&self) -> f64 {
        self.part(0.0)
    }

    /// The largest.
    pub fn most(&self) -> f64 {
        self.part(1.0)
    }

    /// What this part of them is below.
    pub fn part(&self, part: f64) -> f64 {
        let index = (self.values.len() as f64 * part) as usize;
        self.values.get(index.min(self.values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }

    /// Each of them so many times.
    pub fn times(&self, factor: f64) -> Self {
        Self::of(self.values.iter().map(|value| value * factor).collect())
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, least, most) = (self.median(), self.least(), self.most());
        let digits = match median.abs() {
            size if size >= 10.0 => 0,
            size if size >= 0.1 || size == 0.0 => 2,
            _ => 4,
        };
        if self.runs() == 1 {
            return f.pad(&format!("{median:.digits$}"));
        }
        f.pad(&format!("{median:.digits$} ({least:.digits$} to {most:.digits$})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_stands_with_its_range() {
        let spread = Spread::of(vec![14.0, 12.4, 19.0]);
        assert_eq!((spread.median(), spread.least(), spread.most(), spread.runs()), (14.0, 12.4, 19.0, 3));
        assert_eq!(spread.to_string(), "14 (12 to 19)");
        assert_eq!(spread.times(0.5).to_string(), "7.00 (6.20 to 9.50)");
        assert_eq!(spread.times(0.001).to_string(), "0.0140 (0.0124 to 0.0190)");
        assert_eq!(Spread::of(vec![34.0]).to_string(), "34");
    }
}
