//! Session certificates that are broken as blobs, or signed by something that may not sign.

use crate::{
    cases::{HOST_CA, LINK, NOW, STRANGER, Table, USER_CA, good_session},
    draft::{Draft, key, string, strings},
};

pub(crate) fn blobs(t: &mut Table) {
    let good = good_session().sign(USER_CA);
    t.blob("three-bytes", "no whole length", "malformed", vec![0, 0, 0]);
    t.blob("huge-length", "a length of 4 GiB", "malformed", vec![0xff; 64]);
    t.blob(
        "type-only",
        "nothing behind the type",
        "malformed",
        good.get(..36).unwrap().to_vec(),
    );
    for (name, left) in [("cut-first-half", good.len() / 2), ("cut-last-byte", good.len() - 1)] {
        t.blob(name, "breaks off", "malformed", good.get(..left).unwrap().to_vec());
    }
    t.add("trailing-byte", "a byte behind the end", "malformed", |d| {
        d.tail = vec![0]
    });
    t.add("trailing-certificate", "two certificates in one", "malformed", |d| {
        d.tail = good_session().sign(USER_CA)
    });
    t.add("plain-key", "a key, not a certificate", "subject-algorithm", |d| {
        d.type_name = b"ssh-ed25519".to_vec()
    });
    for (name, type_name) in [
        ("type-other", "ssh-rsa-cert-v01@openssh.com"),
        ("type-old", "ssh-ed25519-cert-v00@openssh.com"),
        ("type-upper", "SSH-ED25519-CERT-V01@OPENSSH.COM"),
    ] {
        t.add(name, "another type", "subject-algorithm", |d| {
            d.type_name = type_name.into()
        });
    }
    t.add("subject-short", "a key of 31 bytes", "malformed", |d| {
        d.subject = string(&[7; 31])
    });
    t.add("subject-long", "a key of 33 bytes", "malformed", |d| {
        d.subject = string(&[7; 33])
    });
    for kind in [0, 3, u32::MAX] {
        t.add(&format!("kind-{kind}"), "neither user nor host", "malformed", |d| {
            d.kind = kind
        });
    }
    t.add("key-id-nul", "a NUL in the key id", "malformed", |d| d.key_id.push(0));
    t.add("key-id-not-utf8", "a key id that is not UTF-8", "malformed", |d| {
        d.key_id.push(0xff)
    });
    t.add("reserved", "a reserved field that is not empty", "malformed", |d| {
        d.reserved = vec![0]
    });
}

pub(crate) fn authorities(t: &mut Table) {
    let good = good_session();
    t.blob(
        "stranger",
        "signed by an unknown key",
        "untrusted-authority",
        good.sign(STRANGER),
    );
    t.blob(
        "self-signed",
        "signed by its own subject",
        "untrusted-authority",
        good.sign(LINK),
    );
    t.blob(
        "host-ca",
        "signed by the host authority",
        "untrusted-authority",
        good.sign(HOST_CA),
    );
    let ours = key(USER_CA).public_key().to_bytes().unwrap();
    let mut stolen = good.clone();
    stolen.authority = Some(ours.clone());
    t.blob(
        "stolen-name",
        "a stranger's signature under our authority's key",
        "bad-signature",
        stolen.sign(STRANGER),
    );
    let mut changed = good.sign(USER_CA);
    if let Some(byte) = changed.get_mut(36 + 36 + 36 + 7) {
        *byte ^= 1;
    }
    t.blob(
        "changed-serial",
        "another serial number than was signed",
        "bad-signature",
        changed,
    );
    let signed = good.sign(USER_CA);
    let made = signed.get(signed.len() - 64..).unwrap().to_vec();
    let signature = |bytes: &[u8]| [string(b"ssh-ed25519"), string(bytes)].concat();
    t.add("signature-zero", "a signature of zeros", "bad-signature", |d| {
        d.signature = Some(signature(&[0; 64]))
    });
    t.add(
        "signature-malleable",
        "the group's order added to s (RFC 8032, section 5.1.7)",
        "bad-signature",
        |d| {
            d.signature = Some(signature(&add_order(&made)));
        },
    );
    t.add("signature-short", "a signature of 63 bytes", "malformed", |d| {
        d.signature = Some(signature(&[1; 63]))
    });
    t.add("signature-empty", "no signature", "malformed", |d| {
        d.signature = Some(Vec::new())
    });
    t.add("signature-trailing", "bytes behind the signature", "malformed", |d| {
        d.signature = Some([signature(&made), vec![0]].concat());
    });
    for name in [
        "rsa-sha2-512",
        "ssh-rsa",
        "ssh-dss",
        "ecdsa-sha2-nistp256",
        "sk-ssh-ed25519@openssh.com",
        "",
    ] {
        let shown = if name.is_empty() {
            "none"
        } else {
            name.split('@').next().unwrap_or_default()
        };
        t.add(
            &format!("signature-{shown}"),
            "not the key's algorithm",
            "signature-algorithm",
            |d| {
                d.signature = Some([string(name.as_bytes()), string(&made)].concat());
            },
        );
    }
    let mut claims = |name: &str, says: &str, expect: &str, authority: Vec<u8>| {
        t.add(name, says, expect, |d| d.authority = Some(authority));
    };
    claims("authority-none", "no authority's key", "malformed", Vec::new());
    claims(
        "authority-trailing",
        "bytes behind the key",
        "malformed",
        [ours.clone(), vec![0]].concat(),
    );
    claims(
        "authority-short",
        "a key of 31 bytes",
        "malformed",
        strings(&[&b"ssh-ed25519"[..], &[7; 31]]),
    );
    claims(
        "authority-nested",
        "a certificate as authority",
        "authority-algorithm",
        good.sign(USER_CA),
    );
    let mut nested = good.sign(USER_CA);
    while nested.len() < 14 * 1024 {
        nested = Draft {
            authority: Some(nested),
            ..Draft::new(1, LINK, NOW)
        }
        .sign(USER_CA);
    }
    claims(
        "authority-nested-deep",
        "certificates in certificates",
        "authority-algorithm",
        nested,
    );
    let sk = strings(&[&b"sk-ssh-ed25519@openssh.com"[..], &[7; 32], b"ssh:"]);
    claims(
        "authority-security-key",
        "a security key as authority",
        "authority-algorithm",
        sk,
    );
    let dss = strings(&[&b"ssh-dss"[..], &[0x7f; 128], &[0x7f; 20], &[2], &[3]]);
    claims("authority-dss", "a DSA key as authority", "authority-algorithm", dss);
    let rsa = |exponent: &[u8], bits: usize| {
        let modulus = [&[0][..], &vec![0xff; bits / 8]].concat();
        strings(&[&b"ssh-rsa"[..], exponent, &modulus])
    };
    for bits in [1024, 2040, 8200, 16_384, 65_536] {
        claims(
            &format!("authority-rsa-{bits}"),
            "RSA of a bad size",
            "authority-key-size",
            rsa(&[1, 0, 1], bits),
        );
    }
    claims("authority-rsa-e-1", "RSA with exponent 1", "malformed", rsa(&[1], 2048));
    claims(
        "authority-rsa-e-even",
        "RSA with an even exponent",
        "malformed",
        rsa(&[4], 2048),
    );
    claims(
        "authority-rsa-e-huge",
        "RSA with a huge exponent",
        "malformed",
        rsa(&[0x7f; 256], 2048),
    );
    let even = [&[0][..], &[0xff; 255], &[0xfe]].concat();
    claims(
        "authority-rsa-even",
        "RSA, even",
        "malformed",
        strings(&[&b"ssh-rsa"[..], &[1, 0, 1], &even]),
    );
    let point = |name: &str, curve: &str, point: &[u8]| strings(&[name.as_bytes(), curve.as_bytes(), point]);
    let full = [&[4][..], &[7; 64]].concat();
    let compressed = [&[2][..], &[7; 32]].concat();
    for (name, says, authority) in [
        (
            "mixed",
            "one curve's name on another's key",
            point("ecdsa-sha2-nistp384", "nistp256", &full),
        ),
        (
            "size",
            "a point of another curve",
            point("ecdsa-sha2-nistp384", "nistp384", &full),
        ),
        (
            "infinity",
            "the point at infinity",
            point("ecdsa-sha2-nistp256", "nistp256", &[0]),
        ),
        (
            "compressed",
            "a compressed point",
            point("ecdsa-sha2-nistp256", "nistp256", &compressed),
        ),
    ] {
        claims(&format!("authority-ecdsa-{name}"), says, "malformed", authority);
    }
}

/// Adds the order of the ed25519 group to the second half of a signature.
fn add_order(signature: &[u8]) -> Vec<u8> {
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0_u16;
    let mut out = signature.to_vec();
    for (byte, add) in out.iter_mut().skip(32).zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    out
}
