//! JSON as a token may hold it: no name twice in an object, no number that loses its value.
//!
//! Two parsers that see different values for one name are how a check is passed with one value and used with another.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Reads one object, in which no object has a name twice.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    match serde_json::from_slice(bytes)? {
        Strict(Value::Object(object)) => Ok(object),
        Strict(_) => Err(de::Error::custom("not an object")),
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON without a name that is there twice")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(one)) = sequence.next_element()? {
            all.push(one);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let Strict(value) = map.next_value()?;
            if all.insert(name, value).is_some() {
                return Err(de::Error::custom("a name is there twice"));
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever comes: what is read is what any other reader sees, and a name that is there twice is never read.
        #[test]
        fn what_is_read_is_what_everybody_reads(entries in vec((0..NAMES.len(), 0..VALUES.len()), 0..5), cut in 0_usize..80) {
            let pairs: Vec<String> = entries.iter().map(|(name, value)| format!("{}:{}", NAMES[*name], VALUES[*value])).collect();
            let text = format!("{{{}}}", pairs.join(","));
            let names: Vec<Result<String, _>> = entries.iter().map(|(name, _)| serde_json::from_str(NAMES[*name])).collect();
            let twice = names.iter().flatten().enumerate().any(|(at, name)| names[..at].iter().flatten().any(|one| one == name));
            if let Ok(read) = object(text.as_bytes()) {
                prop_assert!(!twice, "{}", text);
                let everybody: Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(&Value::Object(read), &everybody);
            }
            if let Some(part) = text.get(..cut).filter(|part| part.len() < text.len()) {
                prop_assert!(object(part.as_bytes()).is_err(), "{}", part);
            }
        }
    }

    const NAMES: [&str; 7] = [r#""a""#, r#""\u0061""#, r#""b""#, r#""""#, r#""\ud800""#, r#""A""#, "a"];
    const VALUES: [&str; 12] = [
        "1",
        "-0",
        "1e5",
        "1e400",
        "18446744073709551616",
        "null",
        "[[],{}]",
        r#"{"a":1,"a":2}"#,
        r#"{"a":[1]}"#,
        r#""\u0000""#,
        "NaN",
        "01",
    ];

    #[test]
    fn a_name_stands_once_at_every_depth() {
        for good in [r#"{"a":1,"b":{"a":2}}"#, r#"{"a":[{"b":1},{"b":2}]}"#, "{}"] {
            assert!(object(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[{"b":1,"b":2}]}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"exp":1e400}"#,
            "[]",
            "1",
            "",
            r#"{"a":1} x"#,
            "{\"a\":\"\u{0}\"}",
            "{\"a\":NaN}",
        ] {
            assert!(object(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = format!("{}1{}", r#"{"a":"#.repeat(1000), "}".repeat(1000));
        assert!(object(deep.as_bytes()).is_err());
    }
}
