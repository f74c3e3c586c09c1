//! Captures through the filter.
pub mod capture;
