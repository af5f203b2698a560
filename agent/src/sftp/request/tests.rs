use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::sftp::wire::{LONGEST, Writer, packet_length};

/// The packet of a request, without its length field.
fn packet(id: u32, request: &Request<'_>) -> Vec<u8> {
    let mut out = Writer::default();
    let extended = |out: &mut Writer, name: &str| {
        out.u8(kind::EXTENDED);
        out.u32(id);
        out.string(name.as_bytes());
    };
    let plain = |out: &mut Writer, kind: u8| {
        out.u8(kind);
        out.u32(id);
    };
    let handle = |out: &mut Writer, handle: u32| out.string(&handle.to_be_bytes());
    match *request {
        Request::Open {
            path,
            flags,
            attributes,
        } => {
            plain(&mut out, kind::OPEN);
            out.string(path);
            out.u32(flags);
            attributes.write(&mut out);
        }
        Request::Write {
            handle: to,
            offset,
            data,
        } => {
            plain(&mut out, kind::WRITE);
            handle(&mut out, to);
            out.u64(offset);
            out.string(data);
        }
        Request::Read {
            handle: from,
            offset,
            length,
        } => {
            plain(&mut out, kind::READ);
            handle(&mut out, from);
            out.u64(offset);
            out.u32(length);
        }
        Request::Fsetstat { handle: to, attributes } => {
            plain(&mut out, kind::FSETSTAT);
            handle(&mut out, to);
            attributes.write(&mut out);
        }
        Request::Symlink { says, path } => {
            plain(&mut out, kind::SYMLINK);
            out.string(says);
            out.string(path);
        }
        Request::Lsetstat { path, attributes } => {
            extended(&mut out, "lsetstat@openssh.com");
            out.string(path);
            attributes.write(&mut out);
        }
        Request::CopyData {
            from,
            offset,
            length,
            to,
            at,
        } => {
            extended(&mut out, "copy-data");
            handle(&mut out, from);
            out.u64(offset);
            out.u64(length);
            handle(&mut out, to);
            out.u64(at);
        }
        Request::Limits => extended(&mut out, "limits@openssh.com"),
        Request::PosixRename { from, to } => {
            extended(&mut out, "posix-rename@openssh.com");
            out.string(from);
            out.string(to);
        }
        ref other => panic!("not written here: {other:?}"),
    }
    out.0
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let option = || proptest::option::of(any::<u32>());
    let pair = || proptest::option::of(any::<(u32, u32)>());
    (proptest::option::of(any::<u64>()), pair(), option(), pair()).prop_map(|(size, owner, mode, times)| Attributes {
        size,
        owner,
        mode,
        times,
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        id in any::<u32>(),
        path in vec(any::<u8>(), 0..300),
        data in vec(any::<u8>(), 0..3000),
        attributes in attributes(),
        (flags, handle, offset) in any::<(u32, u32, u64)>(),
    ) {
        let (path, data) = (path.as_slice(), data.as_slice());
        for request in [
            Request::Open { path, flags, attributes },
            Request::Write { handle, offset, data },
            Request::Read { handle, offset, length: flags },
            Request::Fsetstat { handle, attributes },
            Request::Symlink { says: data, path },
            Request::Lsetstat { path, attributes },
            Request::CopyData { from: handle, offset, length: 7, to: flags, at: !offset },
            Request::PosixRename { from: path, to: data },
            Request::Limits,
        ] {
            let packet = packet(id, &request);
            prop_assert_eq!(Request::read(&packet), (Some(id), Ok(request)));
            // Cut anywhere it is malformed, and never something else.
            for end in 0..packet.len().min(60) {
                let (read, cut) = Request::read(&packet[..end]);
                prop_assert_eq!(read, (end >= 5).then_some(id));
                prop_assert!(cut == Err(Malformed::Short) || request == Request::Limits && end >= 5);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_request_or_an_error(bytes in vec(any::<u8>(), 0..400), kind in prop_oneof![0u8..22, Just(200u8)]) {
        let mut bytes = bytes;
        let _ = Request::read(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        let (id, request) = Request::read(&bytes);
        prop_assert_eq!(id.is_some(), bytes.len() >= 5);
        if let Ok(request) = request {
            let _ = request.changes();
        }
    }
}

#[test]
fn lengths_are_bounded_before_anything_is_made_of_them() {
    let of = |length: u32| packet_length(length.to_be_bytes());
    let longest = u32::try_from(LONGEST).unwrap();
    assert_eq!(of(1), Ok(1));
    assert_eq!(of(longest), Ok(LONGEST));
    for bad in [0, longest + 1, 0x7fff_ffff, u32::MAX] {
        assert_eq!(of(bad), Err(Malformed::Length(bad)));
    }
    // A string that says it is longer than its packet.
    let mut lies = vec![kind::REMOVE, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
    lies.extend_from_slice(b"name");
    assert_eq!(Request::read(&lies), (Some(1), Err(Malformed::Short)));
    // A count of extended attributes that is longer than the packet.
    let mut many = vec![kind::SETSTAT, 0, 0, 0, 2, 0, 0, 0, 1, b'x'];
    many.extend_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(Request::read(&many), (Some(2), Err(Malformed::Short)));
}

#[test]
fn handles_of_another_length_are_none_of_ours() {
    for handle in [&b""[..], b"abc", b"abcde", &[0; 300]] {
        let mut out = Writer::default();
        out.u8(kind::CLOSE);
        out.u32(9);
        out.string(handle);
        assert_eq!(Request::read(&out.0), (Some(9), Ok(Request::Close { handle: 0 })));
    }
}

#[test]
fn every_flag_but_reading_is_a_change() {
    let open = |flags| Request::Open {
        path: b"x",
        flags,
        attributes: Attributes::default(),
    };
    assert!(!open(flag::READ).changes() && !open(0).changes());
    for bit in 1..32 {
        assert!(open(flag::READ | 1 << bit).changes(), "{bit}");
    }
}

#[test]
fn the_first_packet_names_the_version() {
    assert_eq!(Init::read(&[1, 0, 0, 0, 3]), Ok(Init { version: 3 }));
    assert_eq!(Init::read(&[3, 0, 0, 0, 3]), Err(Malformed::NoInit));
    assert_eq!(Init::read(&[1, 0, 0]), Err(Malformed::Short));
    assert_eq!(Init::read(&[]), Err(Malformed::Short));
}
