//! Encoded terminal modes (RFC 4254, section 8) onto a terminal's attributes. Codes that this system does not have
//! are passed over.

use nix::libc;
use nix::sys::termios::{ControlFlags, InputFlags, LocalFlags, OutputFlags, Termios};

/// Applies the modes in their order.
pub(super) fn apply(attributes: &mut Termios, modes: &[(u8, u32)]) {
    for (code, value) in modes {
        match code {
            1..=18 => control_char(attributes, *code, *value),
            30..=42 => set(&mut attributes.input_flags, input_flag(*code), *value),
            50..=62 => set(&mut attributes.local_flags, local_flag(*code), *value),
            70..=75 => set(&mut attributes.output_flags, output_flag(*code), *value),
            90 | 91 if *value != 0 => {
                attributes.control_flags.remove(ControlFlags::CSIZE);
                attributes.control_flags.insert(if *code == 90 {
                    ControlFlags::CS7
                } else {
                    ControlFlags::CS8
                });
            }
            92 => set(&mut attributes.control_flags, Some(ControlFlags::PARENB), *value),
            93 => set(&mut attributes.control_flags, Some(ControlFlags::PARODD), *value),
            // A terminal that is no line has one speed; the last one named wins.
            128 | 129 => {
                if let Some(rate) = baud(*value) {
                    let others = attributes.control_flags.bits() & !libc::CBAUD;
                    attributes.control_flags = ControlFlags::from_bits_retain(others | rate);
                }
            }
            _ => {}
        }
    }
}

fn set<F>(flags: &mut F, flag: Option<F>, value: u32)
where
    F: std::ops::BitOr<Output = F> + std::ops::Sub<Output = F> + Copy,
{
    if let Some(flag) = flag {
        *flags = if value == 0 { *flags - flag } else { *flags | flag };
    }
}

fn control_char(attributes: &mut Termios, code: u8, value: u32) {
    let index = match code {
        1 => libc::VINTR,
        2 => libc::VQUIT,
        3 => libc::VERASE,
        4 => libc::VKILL,
        5 => libc::VEOF,
        6 => libc::VEOL,
        7 => libc::VEOL2,
        8 => libc::VSTART,
        9 => libc::VSTOP,
        10 => libc::VSUSP,
        12 => libc::VREPRINT,
        13 => libc::VWERASE,
        14 => libc::VLNEXT,
        16 => libc::VSWTC,
        18 => libc::VDISCARD,
        _ => return,
    };
    if let Some(slot) = attributes.control_chars.get_mut(index) {
        // 255 says "none"; what does not fit a byte is cut, as sshd cuts it.
        *slot = if value == 255 { 0 } else { value.to_be_bytes()[3] };
    }
}

fn input_flag(code: u8) -> Option<InputFlags> {
    Some(match code {
        30 => InputFlags::IGNPAR,
        31 => InputFlags::PARMRK,
        32 => InputFlags::INPCK,
        33 => InputFlags::ISTRIP,
        34 => InputFlags::INLCR,
        35 => InputFlags::IGNCR,
        36 => InputFlags::ICRNL,
        38 => InputFlags::IXON,
        39 => InputFlags::IXANY,
        40 => InputFlags::IXOFF,
        41 => InputFlags::IMAXBEL,
        42 => InputFlags::IUTF8,
        _ => return None,
    })
}

fn local_flag(code: u8) -> Option<LocalFlags> {
    Some(match code {
        50 => LocalFlags::ISIG,
        51 => LocalFlags::ICANON,
        53 => LocalFlags::ECHO,
        54 => LocalFlags::ECHOE,
        55 => LocalFlags::ECHOK,
        56 => LocalFlags::ECHONL,
        57 => LocalFlags::NOFLSH,
        58 => LocalFlags::TOSTOP,
        59 => LocalFlags::IEXTEN,
        60 => LocalFlags::ECHOCTL,
        61 => LocalFlags::ECHOKE,
        62 => LocalFlags::PENDIN,
        _ => return None,
    })
}

fn output_flag(code: u8) -> Option<OutputFlags> {
    Some(match code {
        70 => OutputFlags::OPOST,
        71 => OutputFlags::OLCUC,
        72 => OutputFlags::ONLCR,
        73 => OutputFlags::OCRNL,
        74 => OutputFlags::ONOCR,
        75 => OutputFlags::ONLRET,
        _ => return None,
    })
}

/// Linux keeps a terminal's speed among its control flags.
fn baud(value: u32) -> Option<libc::tcflag_t> {
    Some(match value {
        1_200 => libc::B1200,
        2_400 => libc::B2400,
        4_800 => libc::B4800,
        9_600 => libc::B9600,
        19_200 => libc::B19200,
        38_400 => libc::B38400,
        57_600 => libc::B57600,
        115_200 => libc::B115200,
        230_400 => libc::B230400,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use nix::sys::termios;

    use super::*;

    fn fresh() -> Termios {
        let pty = nix::pty::openpty(None, None).unwrap();
        termios::tcgetattr(&pty.slave).unwrap()
    }

    #[test]
    fn flags_characters_and_speed_are_applied() {
        let mut attributes = fresh();
        apply(
            &mut attributes,
            &[
                (53, 0),
                (42, 1),
                (72, 0),
                (1, 7),
                (2, 255),
                (90, 1),
                (129, 9_600),
                (128, 115_200),
            ],
        );
        assert!(!attributes.local_flags.contains(LocalFlags::ECHO));
        assert!(attributes.input_flags.contains(InputFlags::IUTF8));
        assert!(!attributes.output_flags.contains(OutputFlags::ONLCR));
        assert_eq!(attributes.control_chars[libc::VINTR], 7);
        assert_eq!(attributes.control_chars[libc::VQUIT], 0);
        assert_eq!(attributes.control_flags & ControlFlags::CSIZE, ControlFlags::CS7);
        assert_eq!(attributes.control_flags.bits() & libc::CBAUD, libc::B115200);
    }

    #[test]
    fn unknown_codes_and_values_change_nothing() {
        let before = fresh();
        let mut after = before.clone();
        let odd: Vec<_> = [0, 11, 15, 17, 19, 29, 43, 49, 63, 76, 94, 127, 130, 159, 160, 255]
            .map(|code| (code, u32::MAX))
            .into_iter()
            .chain([(128, 7), (129, 0)])
            .collect();
        apply(&mut after, &odd);
        assert_eq!(before.local_flags, after.local_flags);
        assert_eq!(before.input_flags, after.input_flags);
        assert_eq!(before.control_chars, after.control_chars);
    }
}
