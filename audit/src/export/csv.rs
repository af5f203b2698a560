//! Lists as CSV (RFC 4180), for spreadsheets that take a cell for a formula by its first character.

use crate::printable::printable;

/// A head and rows. Cells are escaped as in lists, so that each row is one line; one that would begin a formula gets a `'`.
pub fn csv(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut out = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> = row.iter().map(|text| cell(text)).collect();
        out.push_str(&cells.join(","));
        out.push_str("\r\n");
    }
    out
}

fn cell(text: &str) -> String {
    let mut out = printable(text.as_bytes());
    // Spreadsheets pass over white space before they look, and some take the wide forms as well.
    let first = text.trim_start().chars().next();
    if text.starts_with(['\t', '\r', '\n']) || first.is_some_and(|c| FORMULA.contains(&c)) {
        out.insert(0, '\'');
    }
    if out.contains([',', '"', '\'', ' ']) {
        out = format!("\"{}\"", out.replace('"', "\"\""));
    }
    out
}

const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_and_no_cell_ends_its_row() {
        for (text, shown) in [
            ("bob", "bob"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=cmd|'/c calc'!A1", "\"'=cmd|'/c calc'!A1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            (" =1", "\"' =1\""),
            ("＝1", "\"'＝1\""),
            ("\t=1", "\"'\\t=1\""),
            ("\rx", "\"'\\rx\""),
            ("a\r\n=1", "a\\r\\n=1"),
            ("\u{1b}]0;x\u{7}\u{202e}", "\\x1b]0;x\\x07\\u{202e}"),
        ] {
            assert_eq!(cell(text), shown, "{text:?}");
        }
        let text = csv(&["A", "B"], &[vec!["1".into(), "=2\n".into()]]);
        assert_eq!(text, "A,B\r\n1,\"'=2\\n\"\r\n");
    }
}
