//! What a machine says on its console.

use anyhow::{Result, bail, ensure};

use crate::totals::Totals;

/// Lines of one machine, taken in.
#[derive(Default)]
pub struct Report {
    /// The kernel's version.
    kernel: Option<String>,
    /// Programs with their verified instructions.
    programs: Vec<(String, u32)>,
    totals: Totals,
    /// Why it went wrong, as the machine said it.
    error: Option<String>,
    /// Every command of the plan ended well.
    done: bool,
}

/// Verified instructions of each program, a column a kernel.
pub fn table(reports: &[Report]) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in reports.iter().flat_map(|report| &report.programs) {
        if !names.contains(&&**name) {
            names.push(name);
        }
    }
    let width = |report: &Report| report.kernel().len().max(10);
    let head = reports.iter().map(|report| format!("  {:>1$}", report.kernel(), width(report)));
    let mut lines = vec![format!("{:<22}{}", "verified instructions", head.collect::<String>())];
    for name in names {
        let cells = reports.iter().map(|report| {
            let count = report.programs.iter().find(|(program, _)| program == name);
            let count = count.map_or("not loaded".to_owned(), |(_, count)| count.to_string());
            format!("  {count:>0$}", width(report))
        });
        lines.push(format!("{name:<22}{}", cells.collect::<String>()));
    }
    lines
}

impl Report {
    /// Of a kernel that runs.
    pub fn of(kernel: &str) -> Self {
        Self { kernel: Some(kernel.to_owned()), ..Self::default() }
    }

    fn kernel(&self) -> &str {
        self.kernel.as_deref().unwrap_or("did not start")
    }

    pub fn line(&mut self, line: &str) {
        self.totals.line(line);
        if let Some(version) = line.strip_prefix("vm: kernel ") {
            self.kernel = Some(version.to_owned());
        } else if let Some(error) = line.strip_prefix("vm: error: ") {
            self.error = Some(format!("failed: {error}"));
        } else if line == "vm: done" {
            self.done = true;
        } else if line.contains("Kernel panic") {
            self.error = Some(line.to_owned());
        } else if let Some(words) = line.strip_suffix(" verified instructions")
            && let Some((program, count)) = words.split_once(": ")
            && let Ok(count) = count.parse()
        {
            self.programs.push((program.to_owned(), count));
        }
    }

    /// For people.
    pub fn summary(&self, series: &str, seconds: u64) -> Vec<String> {
        let Totals { passed, failed, ignored, skipped } = &self.totals;
        let mut lines = vec![format!(
            "{series} ({}): {passed} passed, {failed} failed, {ignored} ignored, {} skipped, {seconds} s",
            self.kernel(),
            skipped.len()
        )];
        lines.extend(skipped.iter().map(|what| format!("  skipped: {what}")));
        lines
    }

    /// Whether all is well.
    pub fn verdict(&self) -> Result<()> {
        if let Some(error) = &self.error {
            bail!("{error}");
        }
        ensure!(self.kernel.is_some(), "the machine did not come to its first process");
        ensure!(self.done, "the machine ended before its tests did: it ran out of time, or was stopped");
        ensure!(self.totals.failed == 0, "{} tests failed", self.totals.failed);
        ensure!(self.totals.passed > 0 && !self.programs.is_empty(), "no tests ran");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::default();
        lines.iter().for_each(|line| report.line(line));
        report
    }

    const GOOD: [&str; 5] = [
        "vm: kernel 6.1.0-56-cloud-amd64",
        "cordon: 81234 verified instructions",
        "test redirect ... SKIPPED: redirect: no veth",
        "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        "vm: done",
    ];

    #[test]
    fn a_good_run_tells_programs_and_totals() {
        let report = report(&GOOD);
        report.verdict().unwrap();
        let expected = [
            "6.1 (6.1.0-56-cloud-amd64): 3 passed, 0 failed, 1 ignored, 1 skipped, 9 s",
            "  skipped: redirect: no veth",
        ];
        assert_eq!(report.summary("6.1", 9), expected);
    }

    #[test]
    fn the_table_has_a_column_a_kernel() {
        let mut host = Report::of("6.18.44");
        host.line("cordon: 7 verified instructions");
        host.line("bench: 8 verified instructions");
        let expected = [
            "verified instructions      6.18.44  6.1.0-56-cloud-amd64",
            "cordon                           7                 81234",
            "bench                            8            not loaded",
        ];
        assert_eq!(table(&[host, report(&GOOD)]), expected);
    }

    #[test]
    fn an_end_before_the_end_and_a_panic_are_failures() {
        let error = |lines: &[&str]| report(lines).verdict().unwrap_err().to_string();
        assert!(error(&GOOD[..4]).starts_with("the machine ended before"));
        assert!(error(&[]).contains("first process"));
        assert!(error(&[&GOOD[..], &["vm: error: /verdict"]].concat()).contains("/verdict"));
        let panic = "[    1.0] Kernel panic - not syncing: Attempted to kill init!";
        assert_eq!(error(&[GOOD[0], panic]), panic);
    }
}
