//! A TOML file on its way to being believed: every fault is kept, with its place, until the whole file was read.
//!
//! Keys that nobody asked for are faults. Types are exact: nothing is converted.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// One fault of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; none if the fault is of the file as a whole.
    pub line: Option<usize>,
    /// What is wrong.
    pub text: String,
}

impl Fault {
    /// A fault of a file as a whole.
    #[must_use]
    pub fn of_file(file: &Path, text: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            text: text.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(formatter, "{line}:")?;
        }
        write!(formatter, " {}", self.text)
    }
}

/// All faults of a configuration, one per line, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let end = if index + 1 < self.0.len() { "\n" } else { "" };
            write!(formatter, "{fault}{end}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A file that is being read.
pub(crate) struct Document<'a> {
    path: &'a Path,
    text: &'a str,
    faults: RefCell<Vec<(usize, String)>>,
}

impl<'a> Document<'a> {
    /// The document of a file's text.
    pub(crate) fn new(path: &'a Path, text: &'a str) -> Self {
        Self {
            path,
            text,
            faults: RefCell::default(),
        }
    }

    /// Parses the text as far as it goes, hands the table at its top to `read`, and returns what it makes of it, if
    /// neither found a fault.
    pub(crate) fn read<T>(self, read: impl FnOnce(&Section<'_>) -> Option<T>) -> Result<T, Faults> {
        let (top, errors) = DeTable::parse_recoverable(self.text);
        let syntax = !errors.is_empty();
        for error in errors {
            self.fault(error.span().map_or(0, |span| span.start), error.message().to_owned());
        }
        let section = Section::new(&self, top.get_ref(), "the file".to_owned(), 0);
        let value = read(&section);
        // A file that does not parse may have lost whole tables: what they lack is no news.
        if !syntax {
            section.finish();
        }
        let mut faults = self.faults.into_inner();
        faults.sort();
        faults.dedup();
        match value {
            Some(value) if faults.is_empty() => Ok(value),
            _ if faults.is_empty() => Err(Faults(vec![Fault::of_file(
                self.path,
                "cannot be read as configuration",
            )])),
            _ => Err(Faults(
                faults
                    .into_iter()
                    .map(|(offset, text)| Fault {
                        file: self.path.to_owned(),
                        line: Some(line_of(self.text, offset)),
                        text,
                    })
                    .collect(),
            )),
        }
    }

    pub(crate) fn fault(&self, offset: usize, text: String) {
        self.faults.borrow_mut().push((offset, text));
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()
        .iter()
        .take(offset)
        .filter(|&&byte| byte == b'\n')
        .count()
        + 1
}

/// One table of the file.
pub(crate) struct Section<'d> {
    document: &'d Document<'d>,
    table: &'d DeTable<'d>,
    name: String,
    offset: usize,
    asked: RefCell<BTreeSet<&'static str>>,
    /// Any key may stand in it.
    open: Cell<bool>,
}

impl<'d> Section<'d> {
    fn new(document: &'d Document<'d>, table: &'d DeTable<'d>, name: String, offset: usize) -> Self {
        Self {
            document,
            table,
            name,
            offset,
            asked: RefCell::default(),
            open: Cell::default(),
        }
    }

    /// A fault of the section as a whole.
    pub(crate) fn fault(&self, text: impl Into<String>) {
        self.document.fault(self.offset, text.into());
    }

    /// A fault of one key's value (of the section, if the key is not there).
    pub(crate) fn fault_at(&self, key: &str, text: impl Into<String>) {
        let offset = self.table.get(key).map_or(self.offset, |value| value.span().start);
        self.document.fault(offset, text.into());
    }

    /// Whether the key is there.
    pub(crate) fn has(&self, key: &'static str) -> bool {
        self.asked.borrow_mut().insert(key);
        self.table.contains_key(key)
    }

    /// The value of a key, read by `parse`; nothing if it is not there or has a fault.
    pub(crate) fn optional<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        self.asked.borrow_mut().insert(key);
        let value = self.table.get(key)?;
        match parse(value.get_ref()) {
            Ok(read) => Some(read),
            Err(text) => {
                self.document.fault(value.span().start, format!("`{key}`: {text}"));
                None
            }
        }
    }

    /// The same for a key that must be there.
    pub(crate) fn required<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(key) {
            self.fault(format!("`{key}` is missing in {}", self.name));
        }
        self.optional(key, parse)
    }

    /// The same with a value for the key's absence; a fault leaves that value in place, for the faults that follow.
    pub(crate) fn or<T>(
        &self,
        key: &'static str,
        otherwise: T,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> T {
        self.optional(key, parse).unwrap_or(otherwise)
    }

    /// Reads the table under a key, if it is there.
    pub(crate) fn section<T>(&self, key: &'static str, read: impl FnOnce(&Section<'_>) -> Option<T>) -> Option<T> {
        self.asked.borrow_mut().insert(key);
        let value = self.table.get(key)?;
        self.enter(key, value, read)
    }

    /// Reads the table under a key that must be there.
    pub(crate) fn required_section<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Section<'_>) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.fault(format!("the section [{}] is missing", self.path_of(key)));
        }
        self.section(key, read)
    }

    /// Reads each table of an array of tables; those with a fault are left out.
    pub(crate) fn sections<T>(&self, key: &'static str, mut read: impl FnMut(&Section<'_>) -> Option<T>) -> Vec<T> {
        self.asked.borrow_mut().insert(key);
        let Some(value) = self.table.get(key) else {
            return Vec::new();
        };
        let DeValue::Array(array) = value.get_ref() else {
            self.document.fault(
                value.span().start,
                format!("`{key}` must be written as [[{}]]", self.path_of(key)),
            );
            return Vec::new();
        };
        array.iter().filter_map(|one| self.enter(key, one, &mut read)).collect()
    }

    /// Reads a table whose keys are names of somebody's choice; those with a fault are left out.
    pub(crate) fn entries<T>(&self, parse: impl Fn(&DeValue<'_>) -> Result<T, String>) -> BTreeMap<String, T> {
        self.open.set(true);
        let mut all = BTreeMap::new();
        for (key, value) in self.table {
            match parse(value.get_ref()) {
                Ok(read) => {
                    all.insert(key.get_ref().clone().into_owned(), read);
                }
                Err(text) => {
                    let name = key.get_ref().escape_debug();
                    self.document.fault(value.span().start, format!("`{name}`: {text}"));
                }
            }
        }
        all
    }

    /// Reads a key that is one table, or an array of tables; with the place of each, from 0.
    pub(crate) fn one_or_more<T>(
        &self,
        key: &'static str,
        mut read: impl FnMut(&Section<'_>, usize) -> Option<T>,
    ) -> Vec<T> {
        if !self.has(key) {
            self.fault(format!("the section [{}] is missing", self.path_of(key)));
        }
        match self.table.get(key).map(Spanned::get_ref) {
            Some(DeValue::Array(_)) => {
                let mut place = 0..;
                self.sections(key, |section| read(section, place.next().unwrap_or_default()))
            }
            _ => self.section(key, |section| read(section, 0)).into_iter().collect(),
        }
    }

    fn enter<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        read: impl FnOnce(&Section<'_>) -> Option<T>,
    ) -> Option<T> {
        let DeValue::Table(table) = value.get_ref() else {
            self.document.fault(
                value.span().start,
                format!("`{key}` must be a table, not {}", kind(value.get_ref())),
            );
            return None;
        };
        let inner = Section::new(
            self.document,
            table,
            format!("[{}]", self.path_of(key)),
            value.span().start,
        );
        let read = read(&inner);
        inner.finish();
        read
    }

    fn path_of(&self, key: &str) -> String {
        match self.name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(outer) => format!("{outer}.{key}"),
            None => key.to_owned(),
        }
    }

    /// Every key that nobody asked for is a fault.
    fn finish(&self) {
        if self.open.get() {
            return;
        }
        let asked = self.asked.borrow();
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if !asked.contains(name) {
                let known = asked.iter().copied().collect::<Vec<_>>().join(", ");
                let text = format!(
                    "unknown key `{}` in {} (known: {known})",
                    name.escape_debug(),
                    self.name
                );
                self.document.fault(key.span().start, text);
            }
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A string that is not empty.
pub(crate) fn text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) if text.is_empty() => Err("must not be empty".to_owned()),
        DeValue::String(text) => Ok(text.clone().into_owned()),
        other => Err(format!("expected a string, found {}", kind(other))),
    }
}

/// A string that `T` can be made of.
pub(crate) fn parsed<T: std::str::FromStr>(value: &DeValue<'_>) -> Result<T, String>
where
    T::Err: fmt::Display,
{
    text(value)?.parse().map_err(|error| format!("{error}"))
}

/// A string that is one of the names of a validated type.
pub(crate) fn name<T>(value: &DeValue<'_>) -> Result<T, String>
where
    T: for<'n> TryFrom<&'n str>,
    for<'n> <T as TryFrom<&'n str>>::Error: fmt::Display,
{
    let text = text(value)?;
    T::try_from(text.as_str()).map_err(|error| format!("{error}"))
}

/// `true` or `false`.
pub(crate) fn flag(value: &DeValue<'_>) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| format!("expected true or false, found {}", kind(value)))
}

/// An integer from 1 to `most`.
pub(crate) fn count(most: usize) -> impl FnOnce(&DeValue<'_>) -> Result<usize, String> {
    move |value| match value {
        DeValue::Integer(integer) => usize::from_str_radix(&integer.as_str().replace('_', ""), integer.radix())
            .ok()
            .filter(|number| (1..=most).contains(number))
            .ok_or_else(|| format!("must be from 1 to {most}")),
        other => Err(format!("expected an integer, found {}", kind(other))),
    }
}

/// A duration such as `"3m"` or `"20ms"`, within bounds.
pub(crate) fn duration(least: Duration, most: Duration) -> impl FnOnce(&DeValue<'_>) -> Result<Duration, String> {
    move |value| {
        let text = text(value)?;
        let read = humantime::parse_duration(&text)
            .map_err(|error| format!("`{}` is no duration: {error}", text.escape_debug()))?;
        if (least..=most).contains(&read) {
            Ok(read)
        } else {
            let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
            Err(format!("must be from {least} to {most}"))
        }
    }
}

/// A number of bytes, as an integer or as a string with a unit: `"64KiB"`, `"16MiB"`, `"1GiB"`.
pub(crate) fn bytes(value: &DeValue<'_>) -> Result<u64, String> {
    if let DeValue::Integer(integer) = value {
        return u64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix())
            .map_err(|_| "is no number of bytes".to_owned());
    }
    let text = text(value)?;
    let digits = text.len()
        - text
            .trim_start_matches(|character: char| character.is_ascii_digit())
            .len();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("is no number of bytes; write for example \"16MiB\"".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "is no number of bytes; write for example \"16MiB\"".to_owned())
}

/// An array whose elements are read by `parse`.
pub(crate) fn list<T>(
    parse: impl Fn(&DeValue<'_>) -> Result<T, String>,
) -> impl FnOnce(&DeValue<'_>) -> Result<Vec<T>, String> {
    move |value| match value {
        DeValue::Array(array) => array.iter().map(|one| parse(one.get_ref())).collect(),
        other => Err(format!("expected an array, found {}", kind(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_reported_with_its_line() {
        let text = "a = 1\nb = \"x\"\n\n[c]\nd = true\nunknown = 3\n[[e]]\nf = \"\"\n[[e]]\nf = 2\n";
        let faults = Document::new(Path::new("x.toml"), text)
            .read(|top| {
                let _: Option<String> = top.required("a", super::text);
                top.required("b", count(3));
                top.section("c", |c| c.required("d", super::text));
                top.sections("e", |e| e.required("f", super::text));
                top.required_section("g", |g| g.optional("h", flag));
                Some(())
            })
            .unwrap_err();
        let lines: Vec<_> = faults.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "x.toml:1: the section [g] is missing",
                "x.toml:1: `a`: expected a string, found an integer",
                "x.toml:2: `b`: expected an integer, found a string",
                "x.toml:5: `d`: expected a string, found a boolean",
                "x.toml:6: unknown key `unknown` in [c] (known: d)",
                "x.toml:8: `f`: must not be empty",
                "x.toml:10: `f`: expected a string, found an integer",
            ]
        );
    }

    #[test]
    fn syntax_errors_have_a_line_too() {
        let faults = Document::new(Path::new("x.toml"), "a = 1\nb = = 2\nc = \"open\n")
            .read(|top| top.optional("a", count(9)))
            .unwrap_err();
        let lines: BTreeSet<_> = faults.0.iter().filter_map(|fault| fault.line).collect();
        assert_eq!(lines.into_iter().collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn sizes_have_units_and_do_not_wrap() {
        let size = |text: &str| bytes(&DeValue::String(text.into()));
        assert_eq!(size("16MiB"), Ok(16 << 20));
        assert_eq!(size("0"), Ok(0));
        for bad in [
            "",
            "MiB",
            "-1",
            "1.5MiB",
            "16 MB",
            "99999999999GiB",
            "18446744073709551616",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
