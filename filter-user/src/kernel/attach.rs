//! Putting the program on interfaces, and telling what is there.

use std::path::Path;

use super::error::Error;

/// How the program gets packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the stack, after GRO, with copies.
    Generic,
}

impl Mode {
    /// The word that configuration and reports use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Interface name.
    pub interface: String,
    /// Interface index; 0 if the interface is gone.
    pub index: u32,
    /// Mode in force; `None` if the interface is gone.
    pub mode: Option<Mode>,
    /// Program id.
    pub program: u32,
    /// Layout version of its maps.
    pub layout: u32,
}

/// A layout version that has pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its version.
    pub version: u32,
    /// Interfaces that it is attached to.
    pub interfaces: Vec<String>,
}

/// Every pinned link under the root, of every layout version. Needs no loaded program.
///
/// # Errors
/// If the folder cannot be read; a folder that is not there is empty.
pub fn status(_pin_root: &Path) -> Result<Vec<Attached>, Error> {
    todo!()
}

/// Takes our program off an interface. Other programs are left alone. Tells whether there was one.
///
/// # Errors
/// If the pin cannot be removed.
pub fn detach(_pin_root: &Path, _interface: &str) -> Result<bool, Error> {
    todo!()
}
