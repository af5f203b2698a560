//! The issuer's pages: plain HTML without script, everything from outside escaped.

use std::fmt::Write as _;

/// The form that asks for name and password. `action` carries the request along.
pub(super) fn login(action: &str, client: &str, trouble: Option<&str>, name: &str) -> String {
    page(
        "Log in",
        &format!(
            "<p>{client} wants to know who you are.</p>{trouble}\
             <form method=\"post\" action=\"{action}\">{credentials}<button>Log in</button></form>",
            client = escaped(client),
            trouble = trouble_line(trouble),
            action = escaped(action),
            credentials = credentials(name),
        ),
    )
}

/// The verification page of RFC 8628 section 3.3.
pub(super) fn device(user_code: &str, trouble: Option<&str>, name: &str) -> String {
    page(
        "Connect a device",
        &format!(
            "<p>Type the code that your device shows, and only if you started this yourself.</p>{trouble}\
             <form method=\"post\" action=\"/device\">\
             <label>Code <input name=\"user_code\" value=\"{code}\" autocomplete=\"off\" required></label>\
             {credentials}<button name=\"answer\" value=\"approve\">Approve</button>\
             <button name=\"answer\" value=\"deny\" formnovalidate>Deny</button></form>",
            trouble = trouble_line(trouble),
            code = escaped(user_code),
            credentials = credentials(name),
        ),
    )
}

/// A page that only says something.
pub(super) fn says(title: &str, text: &str) -> String {
    page(title, &format!("<p>{}</p>", escaped(text)))
}

fn credentials(name: &str) -> String {
    format!(
        "<label>Name <input name=\"username\" value=\"{}\" autocomplete=\"username\" required autofocus></label>\
         <label>Password <input name=\"password\" type=\"password\" autocomplete=\"current-password\" required></label>",
        escaped(name)
    )
}

fn trouble_line(trouble: Option<&str>) -> String {
    trouble
        .map(|text| format!("<p role=\"alert\">{}</p>", escaped(text)))
        .unwrap_or_default()
}

fn page(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{body}<footer>Development issuer: the password is the name and -pw.</footer>\
         </main></body></html>"
    )
}

/// Escapes for text and for quoted attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            control if control.is_control() => {
                let _ = write!(out, "\u{fffd}");
            }
            other => out.push(other),
        }
    }
    out
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:3rem auto;max-width:26rem;padding:0 1rem}\
    label{display:block;margin:.75rem 0}input{display:block;width:100%;padding:.4rem;font:inherit;box-sizing:border-box}\
    button{padding:.4rem 1.2rem;font:inherit;margin-right:.5rem}[role=alert]{color:#a00}footer{color:#666;margin-top:2rem}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let hostile = "\"><script>alert('x')</script>&\u{0}";
        for html in [
            login(hostile, hostile, Some(hostile), hostile),
            device(hostile, Some(hostile), hostile),
            says(hostile, hostile),
        ] {
            assert!(!html.contains("<script"), "{html}");
            assert!(!html.contains("'x'") && !html.contains('\u{0}'), "{html}");
            assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)"), "{html}");
        }
    }
}
