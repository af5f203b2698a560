//! The command lines of Keycloak's Java program, and the folder that it takes for its home.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::parts::Error;

/// What `kc.sh build` does, for the one configuration that we start.
pub(super) fn build(distribution: &Path) -> Vec<OsString> {
    let options = [
        "build",
        "--db=dev-file",
        "--health-enabled=false",
        "--metrics-enabled=false",
    ];
    line(distribution, options.map(OsString::from))
}

/// A start on loopback. Its home is `folder`, and so is its database; `trusts` is a PEM file of CAs beside the system's.
pub(super) fn start(folder: &Path, port: u16, trusts: Option<&Path>) -> Vec<OsString> {
    let mut database = OsString::from("--db-url=jdbc:h2:file:");
    database.push(folder.join("keycloak"));
    // Written at once: what was answered outlives a crash.
    database.push(";NON_KEYWORDS=VALUE;DB_CLOSE_ON_EXIT=FALSE;WRITE_DELAY=0");
    let options = [
        "start",
        "--optimized",
        "--http-enabled=true",
        "--http-host=127.0.0.1",
        "--hostname-strict=false",
        // Otherwise it looks for others of a cluster beyond loopback.
        "--cache=local",
    ];
    let mut options = Vec::from(options.map(OsString::from));
    options.extend([format!("--http-port={port}").into(), database]);
    if let Some(trusts) = trusts {
        let mut option = OsString::from("--truststore-paths=");
        option.push(trusts);
        options.push(option);
    }
    line(folder, options)
}

/// A home of its own for a server: the distribution's folders by link, so that what it writes stays apart.
pub(super) fn home(distribution: &Path, folder: &Path) -> Result<(), Error> {
    for name in PARTS {
        let link = folder.join(name);
        match std::os::unix::fs::symlink(distribution.join(name), &link) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::file("link", link)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes the links away again: they lead to where the distribution was made, and not to where it is kept.
pub(super) fn forget_home(folder: &Path) -> Result<(), Error> {
    for name in PARTS {
        let link = folder.join(name);
        fs::remove_file(&link).map_err(Error::file("remove", &link))?;
    }
    Ok(())
}

fn line(home: &Path, options: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let set = |name: &str, path: &Path| {
        let mut word = OsString::from(format!("-D{name}="));
        word.push(path);
        word
    };
    let mut line = vec![OsString::from("java")];
    line.extend(JVM.map(OsString::from));
    line.push(set("kc.home.dir", home));
    line.push(set("jboss.server.config.dir", &home.join("conf")));
    line.extend(["-cp".into(), home.join("lib/quarkus-run.jar").into()]);
    line.push("io.quarkus.bootstrap.runner.QuarkusEntryPoint".into());
    line.extend(options);
    line
}

/// The folder in a prepared distribution that holds the seed database.
pub(super) const SEED: &str = "seed";
/// The database's file.
pub(super) const DATABASE: &str = "keycloak.mv.db";

const PARTS: [&str; 4] = ["lib", "conf", "providers", "themes"];

/// A small heap and the quick compiler alone: a test's server does little, and starting is most of it.
const JVM: [&str; 13] = [
    "-Xms64m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dfile.encoding=UTF-8",
    "-Duser.language=en",
    "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
    "-Dpicocli.disable.closures=true",
    "-Djava.util.concurrent.ForkJoinPool.common.threadFactory=\
     io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/java.security=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
];
