//! `wake` of a rule: how the platform is got to start a workspace that sleeps.

use std::{collections::BTreeMap, path::Path, time::Duration};

use http::{HeaderName, Method, StatusCode};
use serde_json::Value;
use toml::de::DeValue;

use super::{
    document::{Section, duration, list, text},
    read::{existing, secret},
};
use crate::{
    kube::wake::Annotate,
    outbound,
    wake::{Act, Address, Call, Credential, Json, Scope, Template, Way},
};

/// Reads the section.
pub(super) fn read(section: &Section<'_>, base: &Path) -> Option<Way> {
    let within = section.or(
        "within",
        USUAL,
        duration(Duration::from_secs(1), Duration::from_secs(3600)),
    );
    let kind = section.required("kind", |value| match text(value)?.as_str() {
        kind @ ("scale" | "annotation" | "http") => Ok(kind.to_owned()),
        _ => Err("must be \"scale\", \"annotation\" or \"http\"".to_owned()),
    });
    let act = match kind.as_deref() {
        Some("scale") => Some(Act::Scale),
        Some("annotation") => annotation(section),
        Some(_) => call(section, base, Scope::Wake).map(|call| Act::Call(Box::new(call))),
        None => {
            // Which of the others belong here is not known: they are no faults as well.
            for key in [
                "set",
                "plural",
                "url",
                "method",
                "body",
                "token",
                "token-file",
                "header",
                "expect",
                "ca",
            ] {
                section.has(key);
            }
            None
        }
    };
    Some(Way { act: act?, within })
}

/// What the API server calls objects of a kind in addresses.
pub(super) fn plural(section: &Section<'_>) -> Option<String> {
    section.optional("plural", |value| {
        let text = text(value)?;
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match text.bytes().all(good) && text.len() <= 63 {
            true => Ok(text),
            false => Err("is no name of a resource".to_owned()),
        }
    })
}

fn annotation(section: &Section<'_>) -> Option<Act> {
    let plural = plural(section);
    let set = section.required_section("set", |set| {
        Some(set.entries(|value| Template::parse(&text(value)?, Scope::Wake)))
    })?;
    for key in set.keys() {
        if !is_key(key) {
            section.fault_at("set", format!("`{}` is no key of an annotation", key.escape_debug()));
        }
    }
    if set.is_empty() {
        section.fault_at("set", "`set` names no annotation");
    }
    Some(Act::Annotate(Annotate { set, plural }))
}

fn is_key(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    !text.is_empty() && text.len() <= 317 && text.bytes().all(good)
}

/// Reads a call.
pub(super) fn call(section: &Section<'_>, base: &Path, scope: Scope) -> Option<Call> {
    let url = section.required("url", |value| Address::parse(&text(value)?, scope));
    let method = section.or("method", Method::POST, |value| match text(value)?.as_str() {
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        "PATCH" => Ok(Method::PATCH),
        _ => Err("must be \"POST\", \"PUT\" or \"PATCH\"".to_owned()),
    });
    let body = section.optional("body", |value| Json::new(json(value)?, scope));
    let expect = section.or("expect", Vec::new(), list(status));
    let ca = section.optional("ca", existing(base));
    let user = section.optional("token", |value| match text(value)?.as_str() {
        "user" if scope == Scope::Use => {
            Err("nobody asks, so that there is nobody's token; use `token-file`".to_owned())
        }
        "user" => Ok(()),
        _ => Err("must be \"user\"; the gateway's own is in `token-file`".to_owned()),
    });
    let file = section.optional("token-file", secret(base));
    let field = section.optional("header", |value| {
        HeaderName::try_from(text(value)?).map_err(|_| "is no name of a header field".to_owned())
    });
    if section.has("token") && section.has("token-file") {
        section.fault("`token` and `token-file` cannot both be shown");
    }
    if section.has("header") && !section.has("token-file") {
        section.fault_at(
            "header",
            "`header` is where the text of `token-file` is shown, and there is none",
        );
    }
    let credential = match (user, file) {
        (Some(()), _) => Credential::User,
        (None, Some(file)) => Credential::File {
            prefix: if field.is_some() {
                String::new()
            } else {
                "Bearer ".to_owned()
            },
            field: field.unwrap_or(http::header::AUTHORIZATION),
            file,
        },
        (None, None) => Credential::None,
    };
    let url = url?;
    let client = match outbound::client(url.origin(), ca.as_deref()) {
        Ok(client) => client,
        Err(why) => {
            section.fault_at("ca", why);
            return None;
        }
    };
    Some(Call {
        url,
        method,
        body,
        credential,
        expect,
        client,
    })
}

fn status(value: &DeValue<'_>) -> Result<StatusCode, String> {
    let number = value
        .as_integer()
        .and_then(|number| number.as_str().parse::<u16>().ok());
    number
        .filter(|number| (200..=299).contains(number) || *number == 409)
        .and_then(|number| StatusCode::from_u16(number).ok())
        .ok_or_else(|| "a status from 200 to 299, or 409 where that says that it runs already".to_owned())
}

/// A TOML value as JSON; dates and floats have no place in it.
fn json(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.clone().into_owned()),
        DeValue::Integer(number) => number
            .as_str()
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| "holds a number that is too large, or not decimal".to_owned())?,
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Array(all) => Value::Array(all.iter().map(|one| json(one.get_ref())).collect::<Result<_, _>>()?),
        DeValue::Table(all) => Value::Object(
            all.iter()
                .map(|(key, one)| Ok((key.get_ref().clone().into_owned(), json(one.get_ref())?)))
                .collect::<Result<BTreeMap<_, _>, String>>()?
                .into_iter()
                .collect(),
        ),
        DeValue::Float(_) | DeValue::Datetime(_) => {
            return Err("holds a float or a date, which are written as strings in JSON".to_owned());
        }
    })
}

const USUAL: Duration = Duration::from_secs(5 * 60);
