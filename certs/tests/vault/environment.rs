//! The environment changes nothing: neither `VAULT_*` nor a proxy.

use std::process::Command;

/// Runs the tests of this program again that would notice, in an environment that would mislead Vault's own programs.
#[test]
fn the_environment_changes_nothing() {
    for test in [
        "answers::honest_answers_are_taken_and_requests_say_everything",
        "faults::a_certificate_of_another_ca_is_told_apart",
    ] {
        let ran = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env("VAULT_ADDR", "http://127.0.0.1:9")
            .env("VAULT_TOKEN", "hvs.from-the-environment")
            .env("VAULT_NAMESPACE", "elsewhere")
            .env("VAULT_SKIP_VERIFY", "")
            .env("VAULT_CACERT", "/nowhere.pem")
            .env("VAULT_CAPATH", "/nowhere")
            .env("VAULT_CLIENT_CERT", "/nowhere.pem")
            .env("VAULT_CLIENT_KEY", "/nowhere.pem")
            .env("HTTP_PROXY", "http://127.0.0.1:9")
            .env("http_proxy", "http://127.0.0.1:9")
            .env("HTTPS_PROXY", "http://127.0.0.1:9")
            .env("ALL_PROXY", "http://127.0.0.1:9")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    }
}
