//! Files and folders of orders in the native format.

use std::{collections::BTreeSet, io, path::PathBuf};

use super::{Context, Refusal};
use crate::{
    book::{Applied, Book, BookError},
    order::Order,
};

/// The files and folders of a configuration.
#[derive(Clone, Debug)]
pub struct Files {
    _paths: Vec<PathBuf>,
}

/// What to read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every file.
    All,
    /// These files; whatever else is given here is passed over.
    Only(BTreeSet<PathBuf>),
}

impl Files {
    /// Files, and folders whose `*.jsonl` files are meant.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { _paths: paths }
    }

    /// Brings the book to what the files say. [`Applied::refusals`] also tells of files that could not be read.
    ///
    /// # Errors
    /// Those of the book. Nothing was changed then.
    pub fn sync(&self, _book: &mut Book, _context: &Context, _which: &Which) -> Result<Applied, BookError> {
        todo!()
    }

    /// The orders that the files put, without a book, as `cordon check` and `cordon replay` need them.
    pub fn orders(&self, _context: &Context) -> io::Result<(Vec<Order>, Vec<Refusal>)> {
        todo!()
    }
}
