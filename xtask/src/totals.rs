//! Adding up what cargo's test runs say.

/// Tests of several runs together.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Totals {
    pub passed: usize,
    pub failed: usize,
    pub ignored: usize,
    /// What was left out, as the tests said it.
    pub skipped: Vec<String>,
}

impl Totals {
    /// Takes a line of a test run's output in.
    pub fn line(&mut self, line: &str) {
        if let Some((_, what)) = line.split_once("SKIPPED: ") {
            self.skipped.push(what.trim().to_owned());
        }
        let Some((_, result)) = line.split_once("test result: ") else { return };
        for part in result.split([';', '.']) {
            match part.split_whitespace().collect::<Vec<_>>()[..] {
                [number, "passed"] => self.passed += number.parse::<usize>().unwrap_or(0),
                [number, "failed"] => self.failed += number.parse::<usize>().unwrap_or(0),
                [number, "ignored"] => self.ignored += number.parse::<usize>().unwrap_or(0),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_add_up() {
        let mut totals = Totals::default();
        for line in [
            "running 3 tests",
            "test corpus ... SKIPPED: corpus: the folder ../shared/corpus is not there",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 40 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.25s",
        ] {
            totals.line(line);
        }
        let skipped = vec!["corpus: the folder ../shared/corpus is not there".to_owned()];
        assert_eq!(totals, Totals { passed: 43, failed: 2, ignored: 1, skipped });
    }
}
