use super::*;
use crate::Local;

#[test]
fn a_key_is_made_once_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host.key");
    let made = load_or_create(&path).unwrap();
    let again = load_or_create(&path).unwrap();
    assert_eq!(made.public_bytes(), again.public_bytes());
    assert_eq!(made.seed(), load(&path).unwrap().seed());
    assert_eq!(HostKey::generate().unwrap().seed().len(), 32);
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["host.key"], "no draft is left behind");
}

#[test]
fn a_seed_makes_the_same_key_again() {
    let key = HostKey::generate().unwrap();
    let pair = Ed25519Keypair::from_seed(&key.seed());
    assert_eq!(&pair.public.0, key.public_bytes());
    assert_eq!(key.public_key().key_data().ed25519().unwrap().0, *key.public_bytes());
}

#[test]
fn what_stands_there_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, "precious").unwrap();
    let error = create(&path, &generate("x").unwrap()).unwrap_err();
    assert_eq!(error.code(), "key-io");
    assert!(matches!(error, KeyError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    assert!(Local::create_files(&path, &folder.path().join("other")).is_err());
    assert!(
        !folder.path().join("other").exists(),
        "nothing is made where the first cannot be"
    );
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let error = load_or_create(Path::new("/nowhere/at/all/key")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot create the private key file /nowhere/at/all/key"
    );
}

#[test]
fn debug_shows_no_private_key() {
    let key = HostKey::generate().unwrap();
    let shown = format!("{key:?} {:?}", Local::generate().unwrap());
    let hex: String = key.seed().iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{:?}", key.seed().as_slice());
    assert!(shown.contains("SHA256:"));
    assert!(
        !shown.to_lowercase().contains(&hex) && !shown.contains(list.trim_matches(['[', ']'])),
        "{shown}"
    );
}

#[test]
fn files_that_hold_no_key_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |text: &[u8], code: &str| {
        let path = folder.path().join("key");
        let _ = fs::remove_file(&path);
        write_new(&path, text).unwrap();
        assert_eq!(load(&path).unwrap_err().code(), code);
    };
    let text = generate("x").unwrap().to_openssh(LineEnding::LF).unwrap();
    refuse(b"", "key-malformed");
    refuse(b"not a key", "key-malformed");
    refuse(&text.as_bytes()[..text.len() / 2], "key-malformed");
    refuse(&[text.as_bytes(), &[b'\n'; LONGEST_FILE]].concat(), "key-malformed");
    refuse(&vec![b'A'; 4 << 20], "key-malformed");
}

#[cfg(unix)]
mod unix {
    use std::{
        os::unix::fs::{PermissionsExt as _, symlink},
        process::Command,
    };

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn files_are_made_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (user, host) = (folder.path().join("user-ca"), folder.path().join("host-ca"));
        let made = Local::create_files(&user, &host).unwrap();
        assert_eq!((mode(&user), mode(&host)), (0o600, 0o600));
        assert_eq!(
            format!("{made:?}"),
            format!("{:?}", Local::from_files(&user, &host).unwrap())
        );
        assert_eq!(Local::from_files(&user, &user).unwrap_err().code(), "key-same");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        load_or_create(&path).unwrap();
        for bad in [0o640, 0o604, 0o660, 0o666, 0o610, 0o601, 0o777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bad)).unwrap();
            for error in [load(&path).unwrap_err(), load_or_create(&path).unwrap_err()] {
                assert_eq!(error.code(), "key-mode", "{bad:o}");
                let text = error.to_string();
                assert!(text.contains(&format!("(mode 0{bad:o})")), "{text}");
                assert!(text.ends_with(&format!("chmod 600 {}", path.display())), "{text}");
            }
        }
        for good in [0o600, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(good)).unwrap();
            load(&path).unwrap();
        }
    }

    #[test]
    fn links_and_pipes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (key, link, dangling) = (
            folder.path().join("key"),
            folder.path().join("link"),
            folder.path().join("gone"),
        );
        load_or_create(&key).unwrap();
        symlink(&key, &link).unwrap();
        symlink(folder.path().join("target"), &dangling).unwrap();
        for path in [&link, &dangling, &folder.path().to_owned()] {
            assert_eq!(load(path).unwrap_err().code(), "key-not-regular", "{}", path.display());
            assert_eq!(
                load_or_create(path).unwrap_err().code(),
                "key-not-regular",
                "{}",
                path.display()
            );
        }
        assert!(create(&dangling, &generate("x").unwrap()).is_err());
        assert!(
            !folder.path().join("target").exists(),
            "a dangling link is not written through"
        );
        let pipe = folder.path().join("pipe");
        if Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .is_ok_and(|status| status.success())
        {
            assert_eq!(load(&pipe).unwrap_err().code(), "key-not-regular");
        } else {
            println!("skip: links_and_pipes_are_refused: no mkfifo for the pipe");
        }
    }

    /// Keys made by ssh-keygen, of every kind that might stand in a file.
    #[test]
    fn keys_made_by_ssh_keygen_are_read_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let keygen = |name: &str, arguments: &[&str]| {
            let path = folder.path().join(name);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-f"])
                .arg(&path)
                .args(arguments)
                .status();
            made.is_ok_and(|status| status.success()).then_some(path)
        };
        let Some(ed25519) = keygen("ed25519", &["-t", "ed25519", "-N", ""]) else {
            println!("skip: keys_made_by_ssh_keygen_are_read_or_refused: no ssh-keygen");
            return;
        };
        load(&ed25519).unwrap();
        let locked = keygen("locked", &["-t", "ed25519", "-N", "passphrase"]).unwrap();
        assert_eq!(load(&locked).unwrap_err().code(), "key-encrypted");
        let ecdsa = keygen("ecdsa", &["-t", "ecdsa", "-b", "384", "-N", ""]).unwrap();
        assert_eq!(load(&ecdsa).unwrap_err().code(), "key-kind");
        Local::from_files(&ed25519, &ecdsa).unwrap();
        let rsa = keygen("rsa", &["-t", "rsa", "-b", "2048", "-N", ""]).unwrap();
        assert_eq!(load(&rsa).unwrap_err().code(), "key-kind");
        assert_eq!(
            Local::from_files(&ed25519, &rsa).unwrap_err().code(),
            "key-kind",
            "signing with RSA leaks time"
        );
        let pem = keygen("pem", &["-t", "ecdsa", "-m", "PEM", "-N", ""]).unwrap();
        assert_eq!(load(&pem).unwrap_err().code(), "key-malformed");
        assert_eq!(load(&ed25519.with_extension("pub")).unwrap_err().code(), "key-mode");
    }

    #[test]
    fn our_files_are_read_by_ssh_keygen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = load_or_create(&path).unwrap();
        let Ok(shown) = Command::new("ssh-keygen").args(["-y", "-f"]).arg(&path).output() else {
            println!("skip: our_files_are_read_by_ssh_keygen: no ssh-keygen");
            return;
        };
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert_eq!(shown.trim_end(), key.public_key().to_openssh().unwrap());
    }
}
