//! Reading TOML so that every fault is found at once, each with its line.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Fault;

/// A file and the faults found in it.
pub(super) struct Document {
    file: PathBuf,
    /// Where each line begins.
    lines: RefCell<Vec<usize>>,
    faults: RefCell<Vec<Fault>>,
}

/// A table of which every key is asked for once; what is left at the end is unknown.
pub(super) struct Section<'d> {
    document: &'d Document,
    table: DeTable<'d>,
    line: usize,
}

impl Document {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            lines: RefCell::default(),
            faults: RefCell::default(),
        }
    }

    /// The top of the file, or a fault where it is not TOML.
    pub(super) fn read<'d>(&'d self, text: &'d str) -> Option<Section<'d>> {
        let newlines = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1);
        *self.lines.borrow_mut() = std::iter::once(0).chain(newlines).collect();
        match DeTable::parse(text) {
            Ok(table) => Some(Section {
                document: self,
                table: table.into_inner(),
                line: 0,
            }),
            Err(error) => {
                let line = error.span().map_or(0, |span| self.line(span.start));
                self.fault(line, error.message());
                None
            }
        }
    }

    pub(super) fn fault(&self, line: usize, text: impl Into<String>) {
        self.faults.borrow_mut().push(Fault {
            file: self.file.clone(),
            line,
            text: text.into(),
        });
    }

    /// What was found, in the order of the lines.
    pub(super) fn into_faults(self) -> Vec<Fault> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| if fault.line == 0 { usize::MAX } else { fault.line });
        faults
    }

    fn line(&self, at: usize) -> usize {
        self.lines.borrow().partition_point(|start| *start <= at)
    }
}

impl<'d> Section<'d> {
    /// A string that must be there, turned into what it stands for.
    pub(super) fn required<T>(&mut self, key: &str, read: impl FnOnce(&str, &Self) -> Result<T, String>) -> Option<T> {
        if !self.table.contains_key(key) {
            self.document.fault(self.line, format!("{key} is missing"));
            return None;
        }
        self.optional(key, read)
    }

    /// A string that may be there.
    pub(super) fn optional<T>(&mut self, key: &str, read: impl FnOnce(&str, &Self) -> Result<T, String>) -> Option<T> {
        let (line, value) = self.take(key)?;
        let outcome = match &value {
            DeValue::String(text) => read(text, self),
            _ => Err("must be a string".to_owned()),
        };
        self.judged(key, line, outcome)
    }

    /// A whole number that may be there.
    pub(super) fn number<T>(&mut self, key: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let (line, value) = self.take(key)?;
        let outcome = match &value {
            DeValue::Integer(number) if number.radix() == 10 => read(number.as_str()),
            _ => Err("must be a whole number".to_owned()),
        };
        self.judged(key, line, outcome)
    }

    /// `true` or `false`, which may be there.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let (line, value) = self.take(key)?;
        let outcome = match value {
            DeValue::Boolean(flag) => Ok(flag),
            _ => Err("must be true or false".to_owned()),
        };
        self.judged(key, line, outcome)
    }

    /// A list of strings that may be there.
    pub(super) fn strings(&mut self, key: &str) -> Vec<String> {
        let Some((line, value)) = self.take(key) else {
            return Vec::new();
        };
        let strings = match value {
            DeValue::Array(items) => items
                .into_iter()
                .map(|item| match item.into_inner() {
                    DeValue::String(text) => Some(text.into_owned()),
                    _ => None,
                })
                .collect::<Option<Vec<_>>>(),
            _ => None,
        };
        self.judged(key, line, strings.ok_or_else(|| "must be a list of strings".to_owned()))
            .unwrap_or_default()
    }

    /// A table that may be there.
    pub(super) fn table(&mut self, key: &str) -> Option<Section<'d>> {
        let (line, value) = self.take(key)?;
        let document = self.document;
        let outcome = match value {
            DeValue::Table(table) => Ok(Section { document, table, line }),
            _ => Err("must be a table".to_owned()),
        };
        self.judged(key, line, outcome)
    }

    /// Tables of one name.
    pub(super) fn tables(&mut self, key: &str) -> Vec<Section<'d>> {
        let Some((line, value)) = self.take(key) else {
            return Vec::new();
        };
        let document = self.document;
        let section = |item: Spanned<DeValue<'d>>| {
            let line = document.line(item.span().start);
            match item.into_inner() {
                DeValue::Table(table) => Some(Section { document, table, line }),
                _ => None,
            }
        };
        let tables = match value {
            DeValue::Array(items) => items.into_iter().map(section).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        self.judged(key, line, tables.ok_or_else(|| "must be tables".to_owned()))
            .unwrap_or_default()
    }

    /// A path, relative to the folder of the file.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.document.file.parent().unwrap_or(Path::new("")).join(text)
    }

    pub(super) fn fault(&self, text: impl Into<String>) {
        self.document.fault(self.line, text);
    }

    /// Every key that nobody asked for is a fault.
    pub(super) fn finish(self) {
        for (key, _) in self.table {
            let line = self.document.line(key.span().start);
            self.document
                .fault(line, format!("unknown key '{}'", key.into_inner().escape_debug()));
        }
    }

    fn take(&mut self, key: &str) -> Option<(usize, DeValue<'d>)> {
        let value = self.table.remove(key)?;
        Some((self.document.line(value.span().start), value.into_inner()))
    }

    fn judged<T>(&self, key: &str, line: usize, outcome: Result<T, String>) -> Option<T> {
        outcome
            .map_err(|text| self.document.fault(line, format!("{key}: {text}")))
            .ok()
    }
}
