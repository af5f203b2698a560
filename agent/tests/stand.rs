//! An agent with a small gateway in front of it, for trying out clients by hand: prints the line to type, then how each
//! session ended; with `SHOW=1` also what was recorded.
//!
//! `cargo test -p doorward-agent --test stand -- --ignored --nocapture`

mod rig;

use std::sync::Arc;

use doorward_audit::Event;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "serves until it is stopped"]
async fn stand() {
    let stand = Arc::new(rig::Rig::start().await);
    let mut terms = rig::everything();
    terms.recording.bulk_limit = 16 * 1024 * 1024;
    let address = stand.listen(terms).await;
    let _ = rig::ssh(stand.folder.path(), address, &[], "");
    println!(
        "ssh -F none -o UserKnownHostsFile={} -o HostKeyAlias=devenv-0 -p {} {}@127.0.0.1",
        stand.file("known_hosts").display(),
        address.port(),
        rig::my_login()
    );
    let mut ends = stand.gateway.ends.subscribe();
    while ends.changed().await.is_ok() {
        let (session, end) = {
            let ends = ends.borrow_and_update();
            let Some((session, end)) = ends.last_key_value() else {
                continue;
            };
            (*session, end.clone())
        };
        println!("ended {session}: {} {}", end.code, end.text);
        if std::env::var_os("SHOW").is_some() {
            for stamped in stand.recorded(session) {
                match stamped.event {
                    Event::Output(output) => println!("  {:>12} {} bytes of output", stamped.at, output.bytes.len()),
                    Event::Opened(_) => {}
                    event => println!("  {:>12} {event:?}", stamped.at),
                }
            }
        }
    }
}
