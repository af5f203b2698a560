//! Takes out of recorded terminal output what a replay must not do to the terminal that shows it.
//!
//! A replay is escape sequences by nature, and whoever was recorded wrote them. What draws is let through, by lists
//! of what is allowed: text, movement, erasing, colours, scrolling, the alternate screen. Everything else is left out: the
//! clipboard, titles, links and palettes (OSC), device strings (DCS, APC, PM, SOS), questions that the terminal
//! answers as if typed, mouse and keyboard modes, printing, window operations, and whatever this list does not know.
//!
//! Bytes that are not UTF-8 become U+FFFD, since to some terminals a lone byte 0x9b is the beginning of a sequence; C1
//! controls in UTF-8 are taken as the sequences that they stand for. Controls of bidirectional text become U+FFFD as well:
//! with them a line reads as what it is not.

use doorward_audit::reorders;

use super::decode::Decoder;

/// The longest sequence that is kept; longer ones are left out whole.
const LONGEST: usize = 128;
const ESC: char = '\x1b';

/// A filter in the middle of a stream; sequences and characters may be split anywhere.
#[derive(Debug, Default)]
pub(super) struct Filter {
    decoder: Decoder,
    parser: Parser,
}

impl Filter {
    /// Appends what may pass of these bytes to `out`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut String) {
        let parser = &mut self.parser;
        self.decoder
            .push(bytes, |c| parser.char(c, &mut |piece| piece.append(out)));
    }
}

/// What the parser lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A character that is shown.
    Text(char),
    /// One of the few control characters that move.
    Control(char),
    /// An allowed sequence without the escape character.
    Sequence(&'a str),
}

impl Piece<'_> {
    fn append(self, out: &mut String) {
        match self {
            Self::Text(c) | Self::Control(c) => out.push(c),
            Self::Sequence(sequence) => {
                out.push(ESC);
                out.push_str(sequence);
            }
        }
    }
}

/// Where in a sequence the stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    Csi,
    /// A sequence that is not kept, up to its final character.
    Skip,
    /// A string, up to its terminator.
    Text,
}

/// A state machine over the characters of terminal output (ECMA-48, as terminals read it).
#[derive(Debug, Default)]
pub(super) struct Parser {
    state: State,
    /// The sequence so far, without its escape character.
    sequence: String,
}

impl Parser {
    /// Takes one character; hands on at most one piece.
    pub(super) fn char(&mut self, c: char, emit: &mut impl FnMut(Piece<'_>)) {
        match c {
            ESC => return self.begin(State::Escape),
            // CAN and SUB end any sequence.
            '\x18' | '\x1a' => return self.begin(State::Ground),
            _ => {}
        }
        match self.state {
            State::Text => match c {
                '\x07' | '\u{9c}' => self.begin(State::Ground),
                _ => {}
            },
            _ if c.is_control() && c < ' ' => {
                // Terminals carry these out even in the middle of a sequence.
                if matches!(c, '\x08'..='\x0f') {
                    emit(Piece::Control(c));
                }
            }
            _ if ('\u{80}'..='\u{9f}').contains(&c) => self.c1(c, emit),
            _ if c == '\x7f' => {}
            State::Ground if reorders(c) => emit(Piece::Text(char::REPLACEMENT_CHARACTER)),
            State::Ground => emit(Piece::Text(c)),
            State::Escape => self.escape(c, emit),
            State::Csi => self.csi(c, emit),
            State::Skip => match c {
                '@'..='~' => self.begin(State::Ground),
                ' '..='?' => {}
                _ => self.begin(State::Ground),
            },
        }
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.sequence.clear();
    }

    /// An eight-bit control is the escape sequence of its seven-bit form.
    fn c1(&mut self, c: char, emit: &mut impl FnMut(Piece<'_>)) {
        self.begin(State::Escape);
        if let Some(seven) = u32::from(c).checked_sub(0x40).and_then(char::from_u32) {
            self.escape(seven, emit);
        }
    }

    fn escape(&mut self, c: char, emit: &mut impl FnMut(Piece<'_>)) {
        self.sequence.push(c);
        match c {
            '[' if self.sequence.len() == 1 => self.state = State::Csi,
            // Strings; `k` is the title of a window in screen and tmux.
            ']' | 'P' | 'X' | '^' | '_' | 'k' if self.sequence.len() == 1 => self.begin(State::Text),
            ' '..='/' if self.sequence.len() < 4 => {}
            '0'..='~' => {
                if escape_allowed(&self.sequence) {
                    emit(Piece::Sequence(&self.sequence));
                }
                self.begin(State::Ground);
            }
            _ => self.begin(State::Ground),
        }
    }

    fn csi(&mut self, c: char, emit: &mut impl FnMut(Piece<'_>)) {
        match c {
            ' '..='?' if self.sequence.len() < LONGEST => self.sequence.push(c),
            ' '..='?' => self.begin(State::Skip),
            '@'..='~' => {
                self.sequence.push(c);
                match csi_allowed(&self.sequence[1..]) {
                    Allowed::Yes => emit(Piece::Sequence(&self.sequence)),
                    Allowed::Partly(sequence) => emit(Piece::Sequence(&sequence)),
                    Allowed::No => {}
                }
                self.begin(State::Ground);
            }
            _ => self.begin(State::Ground),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Allowed {
    Yes,
    No,
    /// Another sequence in its place.
    Partly(String),
}

/// Save and restore the cursor, index, tab stop, keypad, reset; character sets; alignment.
fn escape_allowed(sequence: &str) -> bool {
    match sequence.as_bytes() {
        [b'7' | b'8' | b'D' | b'E' | b'H' | b'M' | b'=' | b'>' | b'c'] => true,
        [b'(' | b')' | b'*' | b'+', set] => set.is_ascii_alphanumeric() || *set == b'<' || *set == b'>',
        [b'#', b'3'..=b'6' | b'8'] => true,
        _ => false,
    }
}

/// `sequence` is what follows `ESC [`, the final character included.
fn csi_allowed(sequence: &str) -> Allowed {
    let yes = |allowed: bool| if allowed { Allowed::Yes } else { Allowed::No };
    let Some((rest, action)) = sequence
        .char_indices()
        .next_back()
        .map(|(at, action)| (&sequence[..at], action))
    else {
        return Allowed::No;
    };
    let (prefix, rest) = match rest.chars().next() {
        Some(prefix @ ('<' | '=' | '>' | '?')) => (Some(prefix), &rest[1..]),
        _ => (None, rest),
    };
    let parameters = rest.trim_end_matches(|c| (' '..='/').contains(&c));
    let between = &rest[parameters.len()..];
    if !parameters.chars().all(|c| c.is_ascii_digit() || c == ';' || c == ':') {
        return Allowed::No;
    }
    match (prefix, between, action) {
        (None, "", 'h' | 'l') => modes(parameters, "", action, &[4, 20]),
        (Some('?'), "", 'h' | 'l') => modes(parameters, "?", action, &DRAWING),
        (Some('?'), "", 'J' | 'K') => Allowed::Yes,
        // With more parameters it would ask for the mouse.
        (None, "", 'T') => yes(!parameters.contains(';')),
        // Repeats the character before: as often as a large window has cells, and not for ever.
        (None, "", 'b') => yes(parameters.len() <= 5),
        (None, "", '@'..='M' | 'P' | 'S' | 'X' | 'Z' | '`' | 'a' | 'd'..='g' | 'm' | 'r' | 's' | 'u') => Allowed::Yes,
        (None, " ", 'q') | (None, "!", 'p') | (None, "\"", 'q') => Allowed::Yes,
        _ => Allowed::No,
    }
}

/// Private modes that only draw: cursor keys, reverse video, origin, wrap, blinking, the cursor, reverse wrap, the
/// keypad, the alternate screen in its four ways, and synchronised output.
const DRAWING: [u32; 12] = [1, 5, 6, 7, 12, 25, 45, 47, 66, 1047, 1048, 1049];
const SYNCHRONISED: u32 = 2026;

/// Of the modes that a sequence sets, those that are allowed.
fn modes(parameters: &str, prefix: &str, action: char, allowed: &[u32]) -> Allowed {
    let may = |mode: &&str| {
        mode.parse()
            .is_ok_and(|mode| allowed.contains(&mode) || mode == SYNCHRONISED)
    };
    let all = parameters.split(';');
    let kept: Vec<&str> = all.clone().filter(may).collect();
    if kept.is_empty() {
        Allowed::No
    } else if kept.len() == all.count() {
        Allowed::Yes
    } else {
        Allowed::Partly(format!("[{prefix}{}{action}", kept.join(";")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filtered(bytes: &[u8]) -> String {
        let (mut filter, mut out) = (Filter::default(), String::new());
        filter.push(bytes, &mut out);
        out
    }

    #[test]
    fn what_draws_passes() {
        for text in [
            "plain text, ünïcödé 漢字 🦀\r\n\ttab\x08",
            "\x1b[1;31mred\x1b[0m \x1b[38;2;1;2;3mtrue\x1b[38:5:9m",
            "\x1b[2J\x1b[H\x1b[10;20H\x1b[K\x1b[?25l\x1b[?1049h\x1b[1;24r\x1b[2 q\x1b[!p",
            "\x1b7\x1b8\x1bM\x1b(0lqk\x1b(B\x1b=\x1b>\x1bc\x1b#8\x0e\x0f",
            "\x1b[?2026h\x1b[3b\x1b[2S\x1b[1T",
        ] {
            assert_eq!(filtered(text.as_bytes()), text);
        }
    }

    #[test]
    fn what_acts_is_left_out() {
        for text in [
            // clipboard, titles, links, palette, working folder, notifications
            "\x1b]52;c;ZXZpbA==\x07",
            "\x1b]52;c;ZXZpbA==\x1b\\",
            "\x1b]0;title\x07",
            "\x1b]2;title\x1b\\",
            "\x1b]8;;http://evil\x1b\\",
            "\x1b]4;1;?\x07",
            "\x1b]7;file://x\x07",
            "\x1b]1337;File=inline=1:AAAA\x07",
            "\x1bktitle\x1b\\",
            // device strings
            "\x1bP+q544e\x1b\\",
            "\x1bP$qm\x1b\\",
            "\x1b_Gf=24;AAAA\x1b\\",
            "\x1b^private\x1b\\",
            "\x1bXstart\x1b\\",
            // questions
            "\x1b[c",
            "\x1b[>c",
            "\x1b[=c",
            "\x1b[6n",
            "\x1b[?6n",
            "\x1b[5n",
            "\x1b[?1$p",
            "\x1b[x",
            "\x1bZ",
            "\x1b[>q",
            "\x1b[1;1;1;1;1;1*y",
            "\x05",
            // window operations, title stack and reports, printing, leds
            "\x1b[21t",
            "\x1b[3;0;0t",
            "\x1b[22;0t",
            "\x1b[5i",
            "\x1b[?4i",
            "\x1b[3q",
            // mouse, focus, paste and keyboard modes
            "\x1b[?1000h",
            "\x1b[?1006;1003h",
            "\x1b[?1004h",
            "\x1b[?2004h",
            "\x1b[>4;2m",
            "\x1b[>1u",
            "\x1b[=1u",
            "\x1b[?u",
            "\x1b[2h",
            "\x1b[?3h",
            "\x1b[1;2;3;4;5T",
            // other character codings, eight-bit answers, locking shifts, bell, delete
            "\x1b%@",
            "\x1b G",
            "\x1bn",
            "\x07",
            "\x7f",
            // repeat for ever, and what is too long
            "\x1b[9999999999b",
        ] {
            assert_eq!(filtered(text.as_bytes()), "", "{text:?}");
            assert_eq!(filtered(format!("a{text}b").as_bytes()), "ab", "{text:?}");
        }
        assert_eq!(filtered(format!("\x1b[{}mx", "1;".repeat(100)).as_bytes()), "x");
    }

    #[test]
    fn eight_bit_controls_are_what_they_stand_for() {
        assert_eq!(filtered("\u{9b}1mx\u{85}y".as_bytes()), "\x1b[1mx\x1bEy");
        for text in [
            "\u{9d}52;c;AA\u{9c}",
            "\u{90}q\u{9c}",
            "\u{9b}6n",
            "\u{9e}x\x1b\\",
            "\u{9a}",
        ] {
            assert_eq!(filtered(text.as_bytes()), "", "{text:?}");
        }
        assert_eq!(
            filtered("a\u{202e}b\u{2066}c 👩\u{200d}🚀".as_bytes()),
            "a\u{fffd}b\u{fffd}c 👩\u{200d}🚀"
        );
        assert_eq!(filtered(b"a\x9b6nb"), "a\u{fffd}6nb");
        assert_eq!(filtered(b"\x9d52;c;AA\x07"), "\u{fffd}52;c;AA");
    }

    #[test]
    fn modes_are_taken_one_by_one() {
        assert_eq!(filtered(b"\x1b[?25;1000;1049h"), "\x1b[?25;1049h");
        assert_eq!(filtered(b"\x1b[4;2h"), "\x1b[4h");
    }

    #[test]
    fn a_string_ends_where_a_terminal_ends_it() {
        assert_eq!(filtered(b"\x1b]0;a\x18b"), "b");
        assert_eq!(filtered(b"\x1b]0;a\x1b[1mb"), "\x1b[1mb");
        assert_eq!(filtered("\x1b]0;Ünchen\x07b".as_bytes()), "b");
        assert_eq!(filtered(b"\x1b[1\x1b[2mx"), "\x1b[2mx");
        assert_eq!(filtered(b"\x1b[1\n2mx"), "\n\x1b[12mx");
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(bytes in noise(), cut in any::<prop::sample::Index>()) {
            let (left, right) = bytes.split_at(cut.index(bytes.len() + 1));
            let (mut filter, mut out) = (Filter::default(), String::new());
            filter.push(left, &mut out);
            filter.push(right, &mut out);
            prop_assert_eq!(out, filtered(&bytes));
        }

        #[test]
        fn what_passed_passes_again(bytes in noise()) {
            let once = filtered(&bytes);
            prop_assert_eq!(filtered(once.as_bytes()), once.clone());
            let strings = ["\x1b]", "\x1bP", "\u{9b}"];
            prop_assert!(strings.iter().all(|string| !once.contains(string)));
        }
    }

    /// Bytes in which sequences are frequent.
    fn noise() -> impl Strategy<Value = Vec<u8>> {
        let bytes = prop_oneof![
            4 => prop::sample::select(b"\x1b[]P?;:0123456789hlmncqtxpuTb$ !\"*k\\\x07\x18\r\n".to_vec()),
            1 => any::<u8>(),
        ];
        proptest::collection::vec(bytes, 0..200)
    }
}
