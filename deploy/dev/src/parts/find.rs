//! Looks for a part, and has it made where it is missing.

use std::path::{Path, PathBuf};

use super::{Error, Found, Part, cache};

impl Part {
    /// Finds it; makes it where it is in neither place, with progress on stderr, which may take minutes.
    ///
    /// # Errors
    /// The environment names something that is not there; a tool that makes it is missing or fails; what the registry
    /// gave is not what was pinned.
    pub async fn have(&self) -> Result<Found, Error> {
        let named = self.named()?;
        if let Some(path) = named.as_ref().filter(|_| self.recipe.is_usable_as_named()) {
            return Ok(Found::new(path, true));
        }
        let place = self.place(named.as_deref())?;
        if !place.exists()
            && let Some(maker) = cache::Maker::of(&place).await?
        {
            eprintln!("making {} {} for {} …", self.name, self.version, place.display());
            self.recipe.make(self, named.as_deref(), maker.beside()).await?;
            maker.keep()?;
        }
        Ok(Found::new(&place.join(self.name), named.is_some()))
    }

    /// Finds it, and makes nothing.
    ///
    /// # Errors
    /// It is not there.
    pub fn look(&self) -> Result<Found, Error> {
        let named = self.named()?;
        if let Some(path) = named.as_ref().filter(|_| self.recipe.is_usable_as_named()) {
            return Ok(Found::new(path, true));
        }
        let place = self.place(named.as_deref())?;
        if place.exists() {
            Ok(Found::new(&place.join(self.name), named.is_some()))
        } else {
            Err(Error::NotMade)
        }
    }

    /// What the environment names, if it names something that is there.
    fn named(&self) -> Result<Option<PathBuf>, Error> {
        let Some(path) = std::env::var_os(self.variable).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        match Path::new(&path).canonicalize() {
            Ok(path) if path.is_file() => Ok(Some(path)),
            _ => Err(Error::NotThere {
                variable: self.variable,
                path: path.into(),
            }),
        }
    }

    /// Its folder in the cache. The recipe's mark is in the name, so that what an older recipe made is never taken.
    fn place(&self, named: Option<&Path>) -> Result<PathBuf, Error> {
        let mark = self.recipe.mark(named)?;
        Ok(cache::folder()?.join(format!("{}-{}-{mark}", self.name, self.version)))
    }
}

impl Found {
    fn new(path: &Path, named: bool) -> Self {
        Self {
            path: path.to_owned(),
            named,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ALL;

    #[test]
    fn names_and_variables_are_apart() {
        for (at, part) in ALL.iter().enumerate() {
            for other in &ALL[..at] {
                assert!(part.name != other.name && part.variable != other.variable);
            }
            let place = part.place(None).unwrap();
            let last = place.file_name().unwrap().to_str().unwrap();
            assert!(last.starts_with(&format!("{}-{}-", part.name, part.version)), "{last}");
        }
    }
}
