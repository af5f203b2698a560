//! The form of a page: what it asks for, what it carries along, where it goes.
//!
//! A scanner for the pages of identity providers, and no HTML parser: tags and their quoted attributes.

/// A form that is sent with POST.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// Where it goes; empty for the page's own address.
    pub action: String,
    /// Its inputs and buttons.
    pub fields: Vec<Field>,
}

/// One input or button.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Field {
    pub name: String,
    /// In lower case: `hidden`, `text`, `password`, `checkbox`, `submit`, …
    pub kind: String,
    pub value: String,
}

/// The first form on the page that is sent with POST.
pub(super) fn first(html: &str) -> Option<Form> {
    let mut form: Option<Form> = None;
    for tag in tags(html) {
        let Some(open) = &mut form else {
            if tag.name == "form"
                && tag
                    .value("method")
                    .is_some_and(|method| method.eq_ignore_ascii_case("post"))
            {
                form = Some(Form {
                    action: tag.value("action").unwrap_or_default(),
                    fields: Vec::new(),
                });
            }
            continue;
        };
        let kind = match tag.name.as_str() {
            "/form" => break,
            "input" => tag.value("type").unwrap_or_else(|| "text".to_owned()),
            "button" => tag.value("type").unwrap_or_else(|| "submit".to_owned()),
            _ => continue,
        };
        if let Some(name) = tag.value("name") {
            open.fields.push(Field {
                name,
                kind: kind.to_ascii_lowercase(),
                value: tag.value("value").unwrap_or_default(),
            });
        }
    }
    form
}

struct Tag<'a> {
    /// In lower case, with the slash of an end tag.
    name: String,
    attributes: &'a str,
}

impl Tag<'_> {
    /// An attribute's value, unescaped; empty for one without a value.
    fn value(&self, wanted: &str) -> Option<String> {
        let mut rest = self.attributes;
        loop {
            rest = rest.trim_start();
            let end = rest.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            if name.is_empty() && after.is_empty() {
                return None;
            }
            let (value, after) = match after.trim_start().strip_prefix('=') {
                None => ("", after),
                Some(after) => quoted(after.trim_start()),
            };
            if name.eq_ignore_ascii_case(wanted) {
                return Some(unescaped(value));
            }
            rest = after;
        }
    }
}

/// A value in quotes or without, and what follows it.
fn quoted(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote) {
            return inner.split_once(quote).unwrap_or((inner, ""));
        }
    }
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}

fn tags(html: &str) -> impl Iterator<Item = Tag<'_>> {
    let mut rest = html;
    std::iter::from_fn(move || {
        loop {
            rest = &rest[rest.find('<')? + 1..];
            if let Some(comment) = rest.strip_prefix("!--") {
                rest = comment.split_once("-->").map_or("", |(_, after)| after);
                continue;
            }
            let inner = &rest[..end_of_tag(rest)];
            rest = &rest[inner.len()..];
            let end = inner.find(|c: char| c.is_whitespace()).unwrap_or(inner.len());
            let (name, attributes) = inner.split_at(end);
            return Some(Tag {
                name: name.trim_end_matches('/').to_ascii_lowercase(),
                attributes: attributes.trim_end_matches('/'),
            });
        }
    })
}

/// The place of the `>` that is in no quotes.
fn end_of_tag(text: &str) -> usize {
    let mut open = None;
    for (at, character) in text.char_indices() {
        match (open, character) {
            (None, '>') => return at,
            (None, '"' | '\'') => open = Some(character),
            (Some(quote), _) if quote == character => open = None,
            _ => {}
        }
    }
    text.len()
}

fn unescaped(text: &str) -> String {
    // The ampersand last: what it makes is not unescaped again.
    let named = [
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ];
    named
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_found_with_its_fields_and_its_address() {
        let html = "<!doctype html><!-- <form method=post action=no> --><form action='/search' method=get><input name=q></form>\
            <div title=\"a > b\"><form id=\"f\" action=\"https://id.example/a?b=c&amp;d=e\" \n method=\"POST\" onsubmit=\"x = 1; return true;\">\
            <input name=\"username\" autofocus value=\"\"/><INPUT type=password name='password'>\
            <input type=\"hidden\" name=\"code\" value=\"&quot;1&quot;\"><input type=\"submit\" value=\"nameless\">\
            <button name=answer value=approve>Yes</button></form><form method=post><input name=other></form>";
        let form = first(html).unwrap();
        assert_eq!(form.action, "https://id.example/a?b=c&d=e");
        let fields: Vec<_> = form
            .fields
            .iter()
            .map(|field| (field.name.as_str(), field.kind.as_str(), field.value.as_str()))
            .collect();
        let wanted = [
            ("username", "text", ""),
            ("password", "password", ""),
            ("code", "hidden", "\"1\""),
            ("answer", "submit", "approve"),
        ];
        assert_eq!(fields, wanted);
    }

    #[test]
    fn a_page_without_a_form_has_none_and_half_a_tag_ends_the_page() {
        for html in [
            "",
            "<p>done</p>",
            "<form method=get></form>",
            "<",
            "<form method=\"po",
            "<!-- <form method=post>",
        ] {
            assert_eq!(first(html), None, "{html}");
        }
        assert_eq!(
            first("<form method=post><input name=\"x").map(|form| form.fields.len()),
            Some(1)
        );
    }
}
