//! Guards: names that may not be stopped, whatever an order says, because too much hangs on them.

use psl::Type;
use thiserror::Error;

use crate::name::Name;

/// Which names an order may stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guards {
    suffixes: bool,
}

/// Why a name may not be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum GuardError {
    /// One label.
    #[error("is a top-level domain")]
    TopLevel,
    /// On the ICANN part of the public suffix list.
    #[error("is a public suffix, under which others register their names")]
    PublicSuffix,
    /// On the private part of the list, as `github.io` is.
    #[error(
        "is a private suffix, under which its owner gives names to others; it needs approval, which is not there yet"
    )]
    PrivateSuffix,
}

impl Guards {
    /// Every guard.
    pub const fn all() -> Self {
        Self { suffixes: true }
    }

    /// No guard: test lists hold popular names.
    pub const fn none() -> Self {
        Self { suffixes: false }
    }

    /// Whether an order may stop `name`.
    pub fn check(&self, name: &Name) -> Result<(), GuardError> {
        if !self.suffixes {
            return Ok(());
        }
        let name = name.as_str();
        if !name.contains('.') {
            return Err(GuardError::TopLevel);
        }
        match psl::suffix(name.as_bytes()).filter(|suffix| suffix.as_bytes().len() == name.len()) {
            None => Ok(()),
            Some(suffix) if suffix.typ() == Some(Type::Private) => Err(GuardError::PrivateSuffix),
            Some(_) => Err(GuardError::PublicSuffix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_suffixes_are_refused_and_names_below_them_are_not() {
        for (name, verdict) in [
            ("com", Err(GuardError::TopLevel)),
            ("no-such-tld", Err(GuardError::TopLevel)),
            ("co.uk", Err(GuardError::PublicSuffix)),
            ("公司.cn", Err(GuardError::PublicSuffix)),
            ("anything.ck", Err(GuardError::PublicSuffix)),
            ("github.io", Err(GuardError::PrivateSuffix)),
            ("www.ck", Ok(())),
            ("example.com", Ok(())),
            ("example.co.uk", Ok(())),
            ("example.github.io", Ok(())),
            ("example.no-such-tld", Ok(())),
        ] {
            let name = Name::parse(name).unwrap();
            assert_eq!(Guards::all().check(&name), verdict, "{name}");
            assert_eq!(Guards::none().check(&name), Ok(()));
        }
    }
}
