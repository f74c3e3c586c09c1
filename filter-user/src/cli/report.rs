//! `cordon report`.

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;

use super::{Global, output::Output};
use crate::{
    book::audit::Audit,
    report::{self, Period, Question},
};

#[derive(Args, Debug)]
pub(super) struct Report {
    /// This order alone
    #[arg(long, value_name = "ID")]
    order: Option<String>,
    /// This time alone, in days of UTC: 2026, 2026-01, 2026-01-05, or 2026-01-01..2026-02-01, without the second day
    #[arg(long, value_name = "PERIOD", value_parser = Period::parse)]
    period: Option<Period>,
}

impl Report {
    pub fn run(self, global: &Global) -> Result<ExitCode> {
        let audit = Audit::open(&global.config_or_default()?.daemon.state_dir)?;
        let question = Question { order: self.order, period: self.period.unwrap_or_default() };
        let report = report::make(&audit, &question, Timestamp::now())?;
        if global.output == Output::Csv {
            let mut out = BufWriter::new(io::stdout().lock());
            report::csv::write(&report, &mut out)?;
            out.flush()?;
        } else {
            global.output.print(&report, report::text::text)?;
        }
        Ok(if report.audit_problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
