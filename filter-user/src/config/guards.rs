//! `[feed.guards]`, `hold` and `deadline` of a feed, and `[protect]`.

use std::{fs, time::Duration};

use jiff::SignedDuration;
use toml::Spanned;

use super::{Check, Mistake, raw};
use crate::guard::{Limit, Policy, Protected};

impl Check<'_> {
    /// The guards of a feed.
    pub(super) fn policy(&mut self, feed: &str, raw: raw::Guarding) -> Policy {
        let raw::Guarding { guards, hold, deadline } = raw;
        let default = Policy::default();
        let raw::Guards { public_suffixes, private_suffixes, protected, growth, shrink, empty } = guards;
        let policy = Policy {
            feed: feed.to_owned(),
            public_suffixes: public_suffixes.unwrap_or(default.public_suffixes),
            private_suffixes: private_suffixes.unwrap_or(default.private_suffixes),
            protected: protected.unwrap_or(default.protected),
            growth: self.limit(growth, default.growth),
            is_new_growth: default.is_new_growth,
            shrink: self.limit(shrink, default.shrink),
            empty: empty.unwrap_or(default.empty),
            hold: hold.as_ref().and_then(|hold| self.duration(hold)).unwrap_or(default.hold),
            deadline: deadline.as_ref().and_then(|deadline| self.duration(deadline)),
        };
        if let (Some(hold), Some(deadline)) = (&hold, policy.deadline)
            && policy.hold > deadline
        {
            self.wrong(hold, "longer than the feed's `deadline`: every addition would miss it");
        }
        policy
    }

    fn limit(&mut self, raw: Option<Spanned<raw::Limit>>, default: Option<Limit>) -> Option<Limit> {
        let Some(raw) = raw else { return default };
        match *raw.get_ref() {
            raw::Limit::Switch(true) => default,
            raw::Limit::Switch(false) => None,
            raw::Limit::Over(raw::Over { rows, percent }) => Some(Limit { rows, percent }),
        }
    }

    fn duration(&mut self, text: &Spanned<String>) -> Option<Duration> {
        let duration = text.get_ref().parse::<SignedDuration>().ok();
        let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
        if duration.is_none() {
            self.wrong(text, "not a time span, as \"30m\" or \"1h 30m\" is");
        }
        duration
    }

    /// The operator's protected names, as a list of the form that the shipped one has.
    pub(super) fn protect(&mut self, raw: raw::Protect) -> Protected {
        let mut protected = Protected::default();
        for (names, subtree) in [(raw.names, false), (raw.subtree, true)] {
            for name in self.names(names) {
                protected.add(name, subtree, BY_OPERATOR);
            }
        }
        let Some(file) = raw.file else { return protected };
        let path = self.folder.join(file.get_ref());
        match fs::read_to_string(&path) {
            Ok(list) => {
                for wrong in protected.read(&list) {
                    self.mistakes.push(Mistake {
                        file: path.clone(),
                        line: wrong.line,
                        text: wrong.text,
                        why: wrong.why,
                    });
                }
            }
            Err(error) => self.wrong(&file, format!("cannot be read: {error}")),
        }
        protected
    }
}

/// Why the operator's names are protected, where nothing stands beside them.
const BY_OPERATOR: &str = "by the configuration";
