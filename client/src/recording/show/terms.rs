//! What a session was allowed, in words: from the extensions of its certificate as the recording has them.

use crate::say;

/// The terms as a list for people. What is not known is named as it stands.
pub(super) fn words(terms: &[(String, String)]) -> String {
    let words: Vec<String> = terms.iter().filter_map(|(name, value)| word(name, value)).collect();
    if words.is_empty() {
        "nothing".to_owned()
    } else {
        words.join(", ")
    }
}

fn word(name: &str, value: &str) -> Option<String> {
    let text = match (name, value) {
        // These say which session it is, and what the next ones say more exactly.
        ("session@doorward" | "workspace@doorward" | "permit-port-forwarding", _) => return None,
        ("shell@doorward", _) => "a shell".to_owned(),
        ("exec@doorward", _) => "commands".to_owned(),
        ("permit-pty", _) => "a terminal".to_owned(),
        ("permit-agent-forwarding", _) => "the agent forwarded".to_owned(),
        ("permit-X11-forwarding", _) => "X11 forwarded".to_owned(),
        ("sftp@doorward", "read") => "files to read".to_owned(),
        ("sftp@doorward", "read-write") => "files to read and write".to_owned(),
        ("forward-to@doorward", to) => format!("connections to {}", to.replace(',', " and ")),
        ("remote-forward@doorward", "") => "listening on loopback".to_owned(),
        ("remote-forward@doorward", "any") => "listening on any address".to_owned(),
        ("longest@doorward", seconds) => match seconds.parse::<u64>() {
            Ok(seconds) => format!("for at most {}", say::length(seconds.saturating_mul(1000))),
            Err(_) => format!("{name}={seconds}"),
        },
        ("recording@doorward", how) => recording(how).unwrap_or_else(|| format!("{name}={how}")),
        (name, "") => name.to_owned(),
        (name, value) => format!("{name}={value}"),
    };
    Some(text)
}

fn recording(how: &str) -> Option<String> {
    let (input, bulk) = how.split_once(',')?;
    let input = match input.strip_prefix("input=")? {
        "yes" => "terminal input recorded",
        "no" => "terminal input not recorded",
        _ => return None,
    };
    let bulk = bulk.strip_prefix("bulk=")?.parse().ok()?;
    Some(format!(
        "{input}, output of commands recorded up to {} and then digested",
        say::size(bulk)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_read_as_sentences_and_none_is_lost() {
        let of = |terms: &[(&str, &str)]| {
            let terms: Vec<_> = terms.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            words(&terms)
        };
        assert_eq!(
            of(&[
                ("exec@doorward", ""),
                ("forward-to@doorward", "localhost:*,db:5432"),
                ("longest@doorward", "3600"),
                ("permit-port-forwarding", ""),
                ("recording@doorward", "input=no,bulk=16777216"),
                ("sftp@doorward", "read"),
                ("session@doorward", "x"),
                ("new@doorward", "7"),
            ]),
            "commands, connections to localhost:* and db:5432, for at most 1:00:00, terminal input not recorded, output of \
             commands recorded up to 16.8 MB and then digested, files to read, new@doorward=7"
        );
        assert_eq!(of(&[]), "nothing");
        assert_eq!(
            of(&[("recording@doorward", "x"), ("longest@doorward", "")]),
            "recording@doorward=x, longest@doorward="
        );
        assert_eq!(of(&[("sftp@doorward", "all")]), "sftp@doorward=all");
    }
}
