//! `cordon audit`.

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Subcommand;

use super::Global;
use crate::{
    book::audit::{Audit, Noted, Verified},
    report::disagreements,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Finds any entry that was changed, moved, put in or taken away, and orders that are not what the history makes of
    /// them; the exit code is 1 then
    ///
    /// That the end of the history was cut off, or all of it written anew, only a head shows that was noted elsewhere:
    /// the daemon tells it to its log every hour, and each report has it.
    Verify {
        /// A head that was noted elsewhere, or a file with some: `NUMBER:HASH`, or the hash alone
        #[arg(long, value_name = "HEAD|FILE")]
        head: Vec<String>,
    },
    /// Tells number and hash of the last entry, to be noted elsewhere
    Head,
    /// Writes every entry as a line of JSON
    ///
    /// The SHA-256 of a line, without its line feed, is what the next line has as `previous`; that of the last line is
    /// the head.
    Export,
}

impl Command {
    pub fn run(self, global: &Global) -> Result<ExitCode> {
        let noted = match &self {
            Self::Verify { head } => {
                head.iter().map(|head| noted(head)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect()
            }
            Self::Head | Self::Export => Vec::new(),
        };
        let audit = Audit::open(&global.config_or_default()?.daemon.state_dir)?;
        match self {
            Self::Verify { .. } => {
                let mut verified = audit.verify(&noted)?;
                // Of a history that is not as it was written, the orders follow no more.
                if verified.problems.is_empty() {
                    verified.problems = disagreements(&audit)?;
                }
                global.output.print(&verified, |verified| verified_text(verified, noted.len()))?;
                Ok(if verified.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            Self::Head => {
                let Some(head) = audit.head()? else { bail!("the history has no entry yet") };
                global.output.print(&head, ToString::to_string)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Export => {
                let mut out = BufWriter::new(io::stdout().lock());
                audit.export(&mut out)?;
                out.flush()?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Heads of the command line: one, or those in a file.
fn noted(word: &str) -> Result<Vec<Noted>> {
    if let Some(noted) = Noted::parse(word) {
        return Ok(vec![noted]);
    }
    let path = PathBuf::from(word);
    if !path.exists() {
        bail!("--head {word}: neither a head, as NUMBER:HASH, nor a file");
    }
    let text = fs::read(&path).with_context(|| format!("--head {word}"))?;
    let noted = Noted::all_in(&String::from_utf8_lossy(&text));
    if noted.is_empty() { Err(anyhow!("--head {word}: the file has no head, as NUMBER:HASH")) } else { Ok(noted) }
}

fn verified_text(verified: &Verified, noted: usize) -> String {
    let Verified { entries, first, last, chained_from, head, problems } = verified;
    let mut text = format!("{entries} entries");
    if let (Some(first), Some(last)) = (first, last) {
        text.push_str(&format!(", {first:.0} to {last:.0}"));
    }
    text.push('\n');
    if let Some(head) = head {
        text.push_str(&format!("head {head}\n"));
    }
    if *chained_from > 1 {
        text.push_str(&format!(
            "entries before {chained_from} were chained when the book was brought to this version; nothing is known of \
             what was done to them before\n"
        ));
    }
    text.extend(problems.iter().map(|problem| format!("problem: {problem}\n")));
    if problems.is_empty() {
        text.push_str(match noted {
            0 => "nothing was changed; without --head, nothing is known of a cut end\n",
            1 => "nothing was changed, and the noted head is there\n",
            _ => "nothing was changed, and the noted heads are there\n",
        });
    }
    text
}
