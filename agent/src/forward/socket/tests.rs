use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use nix::unistd::{Uid, User};

use super::*;
use crate::process::Overrides;

fn me() -> Account {
    let me = User::from_uid(Uid::effective()).unwrap().unwrap();
    Account::find(&me.name, &Overrides::default()).unwrap()
}

fn sockets(patterns: &[&str], home: &Path) -> Sockets {
    let patterns: Vec<_> = patterns.iter().map(|text| (*text).to_owned()).collect();
    Sockets::new(&patterns, home)
}

#[test]
fn a_pattern_grants_the_real_path_and_nothing_beside_it() {
    let may = sockets(
        &["unix:/a/x.sock", "unix:~/*", "unix:/tmp/*", "unix:80", "localhost:*"],
        Path::new("/no/home"),
    );
    for good in ["/a/x.sock", "/no/home/x", "/no/home/y/x", "/tmp/x"] {
        assert_eq!(may.judge(Path::new(good)), Ok(()), "{good}");
    }
    for bad in [
        "/a/x.sock2",
        "/a/x.sock/y",
        "/a",
        "/no/home",
        "/no/home2/x",
        "/tmp",
        "/tmpx/y",
        "/",
    ] {
        assert_eq!(may.judge(Path::new(bad)), Err(NOT_GRANTED), "{bad}");
    }
    assert!(sockets(&["unix:80", "*:*"], Path::new("/h")).is_empty());
    // Whose home is everything has none.
    let homeless = sockets(&["unix:~/*", "unix:~/x.sock", "unix:/a/*"], Path::new("/"));
    for bad in ["/run/x.sock", "/x.sock", "/home/bob/x.sock"] {
        assert_eq!(homeless.judge(Path::new(bad)), Err(NOT_GRANTED), "{bad}");
    }
    assert_eq!(homeless.judge(Path::new("/a/x.sock")), Ok(()));
}

#[test]
fn a_runtimes_socket_wants_to_be_named_in_full() {
    let wide = sockets(&["unix:/*"], Path::new("/h"));
    for runtime in [
        "/run/docker.sock",
        "/run/containerd/containerd.sock.ttrpc",
        "/run/containerd/s/x",
        "/run/user/1/podman/podman.sock",
        "/h/docker.sock",
        "/run/nri/nri.sock",
    ] {
        assert!(wide.judge(Path::new(runtime)).is_err(), "{runtime}");
    }
    assert_eq!(wide.judge(Path::new("/run/other.sock")), Ok(()));
    let named = sockets(&["unix:/*", "unix:/run/docker.sock"], Path::new("/h"));
    assert_eq!(named.judge(Path::new("/run/docker.sock")), Ok(()));
    assert!(named.judge(Path::new("/run/crio/crio.sock")).is_err());
}

#[test]
fn what_is_no_path_is_refused() {
    for bad in ["", "x", "./x", "~/x", "/x\0", &format!("/{}", "x".repeat(LONGEST_PATH))] {
        assert!(path(bad).is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn what_is_connected_is_what_was_judged() {
    let folder = tempfile::tempdir().unwrap();
    let folder = std::fs::canonicalize(folder.path()).unwrap().join("x".repeat(120));
    std::fs::create_dir_all(folder.join("in")).unwrap();
    std::fs::create_dir(folder.join("out")).unwrap();
    let may = sockets(&["unix:~/*"], &folder.join("in"));
    // Sockets whose paths are longer than an address may be are bound through their folder.
    let listen = |name: &str| {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let parent = fcntl::open(&folder.join(name), flags, Mode::empty()).unwrap();
        UnixListener::bind(handle(&parent).join("s")).unwrap()
    };
    let (inside, _outside) = (listen("in"), listen("out"));
    symlink(folder.join("out/s"), folder.join("in/escape")).unwrap();
    symlink(folder.join("in/s"), folder.join("out/back")).unwrap();
    std::fs::write(folder.join("in/file"), b"").unwrap();

    for way in ["in/s", "out/back", "out/../in/s"] {
        let (stream, real) = connect(&me(), &folder.join(way), &may).await.unwrap();
        assert_eq!(real, folder.join("in/s"), "{way}");
        let (mut peer, _) = inside.accept().unwrap();
        drop(stream);
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    }
    for way in ["out/s", "in/escape"] {
        let refused = connect(&me(), &folder.join(way), &may).await.unwrap_err();
        assert!(
            matches!(refused, NotReached::Refused(NOT_GRANTED)),
            "{way}: {refused:?}"
        );
    }
    for (way, kind) in [("in/none", io::ErrorKind::NotFound), ("in/file", io::ErrorKind::Other)] {
        match connect(&me(), &folder.join(way), &may).await.unwrap_err() {
            NotReached::Failed(error) => assert_eq!(error.kind(), kind, "{way}"),
            refused => panic!("{way}: {refused:?}"),
        }
    }
    drop(inside);
    match connect(&me(), &folder.join("in/s"), &may).await.unwrap_err() {
        NotReached::Failed(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
        refused => panic!("{refused:?}"),
    }
}

#[tokio::test]
async fn root_does_not_lend_its_rights() {
    if !Uid::effective().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(folder.path(), 0o755);
    mode(&path, 0o600);
    let may = sockets(&["unix:/*"], Path::new("/"));
    let daemon = Account::find("daemon", &Overrides::default()).unwrap();
    match connect(&daemon, &path, &may).await.unwrap_err() {
        NotReached::Failed(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        refused => panic!("{refused:?}"),
    }
    mode(&path, 0o666);
    let (stream, _) = connect(&daemon, &path, &may).await.unwrap();
    assert!(connect(&me(), &path, &may).await.is_ok());
    drop(stream);
}
