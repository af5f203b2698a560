//! Standard input and output as streams of bytes, exactly as they are: no line ends, no characters.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use unix::{Input, Output, open};
#[cfg(windows)]
pub(super) use windows::{Input, Output, open};
