//! Whether the book's orders are what the history makes of them: whoever can write the file could also change those.

use std::collections::BTreeMap;

use super::story::{self, Story};
use crate::book::audit::{Audit, AuditError};

/// Orders of which the book has something else than the history tells, and what; of very many the first.
///
/// # Errors
/// The book cannot be read.
pub fn disagreements(audit: &Audit) -> Result<Vec<String>, AuditError> {
    let mut stories: BTreeMap<String, Story> = BTreeMap::new();
    audit.entries(|entry| story::tell(&mut stories, &entry, true))?;
    let mut problems = Vec::new();
    for (id, terms, is_revoked) in audit.orders()? {
        let Some(story) = stories.remove(&id) else {
            problems.push(format!("order {id} is in the book, and the history does not have it"));
            continue;
        };
        if *story.order_terms() != terms {
            problems.push(format!("order {id}: its terms are not those that the history has"));
        }
        if story.is_revoked() != is_revoked {
            let [there, here] = if is_revoked { ["is", "is not"] } else { ["is not", "is"] };
            problems.push(format!("order {id}: it {there} revoked in the book, and {here} in the history"));
        }
        let listed = audit.names(&id)?.unwrap_or_default();
        for (what, (names, told)) in ["names", "exceptions"].into_iter().zip(listed.iter().zip(story.names())) {
            let differs = match &told.known {
                Some(known) => known.symmetric_difference(names).next().map(|name| format!("{name} is one")),
                None => (told.count != names.len() as u64)
                    .then(|| format!("{} in the book, {} in the history", names.len(), told.count)),
            };
            if let Some(differs) = differs {
                problems.push(format!("order {id}: its {what} are not those that the history has: {differs}"));
            }
        }
    }
    problems.extend(stories.keys().map(|id| format!("order {id} is in the history, and not in the book")));
    if problems.len() > MOST_PROBLEMS {
        let more = problems.len() - MOST_PROBLEMS;
        problems.truncate(MOST_PROBLEMS);
        problems.push(format!("{more} more orders differ"));
    }
    Ok(problems)
}

/// Problems that are told one by one.
const MOST_PROBLEMS: usize = 20;
