//! Scopes as LPM entries.
