//! Terms from a certificate's extensions: what is accepted is exactly what would be written.
#![no_main]

use std::collections::BTreeMap;

use doorward_certs::{Login, Terms};
use libfuzzer_sys::fuzz_target;

// Lines `name=value`.
fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let given: BTreeMap<String, String> = text
        .split('\n')
        .map(|line| line.split_once('=').unwrap_or((line, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let login = Login::try_from("node").expect("a login");
    let Ok(terms) = Terms::from_extensions(login.clone(), &given) else {
        return;
    };
    let written = terms.extensions().expect("what was read can be written");
    for (name, value) in &written {
        assert_eq!(given.get(name), Some(value), "{name}");
    }
    assert_eq!(Terms::from_extensions(login, &written), Ok(terms));
});
