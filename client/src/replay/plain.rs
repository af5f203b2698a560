//! Terminal output as plain text: what stands in each line at its end, without colours and movements.
//!
//! Carriage returns, backspaces and erasing within a line are carried out, so that progress bars and edited command lines
//! read as they looked. Movements between lines are not; a full-screen program leaves its text in the order written.

use super::decode::Decoder;
use super::filter::{Parser, Piece};

/// The longest line; a longer one is written in parts.
const LONGEST: usize = 16 * 1024;

/// A line of text that is being written.
#[derive(Debug, Default)]
pub(super) struct Plain {
    decoder: Decoder,
    parser: Parser,
    line: Vec<char>,
    column: usize,
}

impl Plain {
    /// Appends the lines that these bytes finish to `out`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut String) {
        let Self {
            decoder,
            parser,
            line,
            column,
        } = self;
        decoder.push(bytes, |c| parser.char(c, &mut |piece| draw(piece, line, column, out)));
    }

    /// Appends the last line, if it has text.
    pub(super) fn finish(&mut self, out: &mut String) {
        if !self.line.is_empty() {
            end(&mut self.line, &mut self.column, out);
        }
    }
}

fn draw(piece: Piece<'_>, line: &mut Vec<char>, column: &mut usize, out: &mut String) {
    match piece {
        Piece::Text(c) => put(c, line, column, out),
        Piece::Control('\t') => put('\t', line, column, out),
        Piece::Control('\n' | '\x0b' | '\x0c') => end(line, column, out),
        Piece::Control('\r') => *column = 0,
        Piece::Control('\x08') => *column = column.saturating_sub(1),
        Piece::Control(_) => {}
        Piece::Sequence("E" | "D") => end(line, column, out),
        Piece::Sequence(sequence) => {
            let Some(number) = sequence
                .strip_prefix('[')
                .and_then(|rest| rest.get(..rest.len().saturating_sub(1)))
            else {
                return;
            };
            let count = number.parse().unwrap_or(1).clamp(1, LONGEST);
            match sequence.chars().next_back() {
                Some('C' | 'a') => *column = (*column + count).min(LONGEST - 1),
                Some('D') => *column = column.saturating_sub(count),
                Some('G' | '`') => *column = (count - 1).min(LONGEST - 1),
                Some('K') if number.is_empty() || number == "0" => line.truncate(*column),
                Some('K') if number == "2" => line.clear(),
                Some('P') => {
                    let from = (*column).min(line.len());
                    line.drain(from..(from + count).min(line.len()));
                }
                _ => {}
            }
        }
    }
}

fn put(c: char, line: &mut Vec<char>, column: &mut usize, out: &mut String) {
    if *column >= LONGEST {
        end(line, column, out);
    }
    if line.len() < *column {
        line.resize(*column, ' ');
    }
    match line.get_mut(*column) {
        Some(place) => *place = c,
        None => line.push(c),
    }
    *column += 1;
}

fn end(line: &mut Vec<char>, column: &mut usize, out: &mut String) {
    let text: String = line.drain(..).collect();
    out.push_str(text.trim_end());
    out.push('\n');
    *column = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        let (mut plain, mut out) = (Plain::default(), String::new());
        plain.push(text.as_bytes(), &mut out);
        plain.finish(&mut out);
        out
    }

    #[test]
    fn lines_read_as_they_looked() {
        assert_eq!(plain("\x1b[1;31mred\x1b[0m\r\nnext\r\n"), "red\nnext\n");
        assert_eq!(plain("10%\r50%\r100%\r\n"), "100%\n");
        assert_eq!(plain("$ lx\x08\x1b[Ks -l\r\n"), "$ ls -l\n");
        assert_eq!(plain("%        \r \r$ \r\n"), "$\n");
        assert_eq!(plain("abc\x1b[2Dx\x1b[10Gy\n"), "axc      y\n");
        assert_eq!(plain("abcdef\r\x1b[2P\n"), "cdef\n");
        assert_eq!(plain("no end"), "no end\n");
        assert_eq!(plain(""), "");
    }

    #[test]
    fn nothing_but_text_comes_out() {
        let out = plain("\x1b]0;title\x07a\x1b[999999999Cb\x1b[999999999D\x07\u{9b}1mc\x1b[9999;9999Hd\n");
        assert!(out.chars().all(|c| !c.is_control() || c == '\n'), "{out:?}");
        assert!(
            plain(&"x".repeat(3 * LONGEST))
                .lines()
                .all(|line| line.len() <= LONGEST)
        );
    }
}
