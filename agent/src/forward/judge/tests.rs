use super::*;

fn judged(patterns: &[&str], host: &str, port: u32, found: &[&str]) -> Result<Vec<String>, Why> {
    judged_but(patterns, host, port, found, &Never::default())
}

fn judged_but(patterns: &[&str], host: &str, port: u32, found: &[&str], never: &Never) -> Result<Vec<String>, Why> {
    let patterns: Vec<_> = patterns.iter().map(|text| (*text).to_owned()).collect();
    let found: Vec<IpAddr> = found.iter().map(|text| text.parse().unwrap()).collect();
    let asked = Asked::new(host, port)?;
    let allowed = Destinations::new(&patterns).judge(&asked, &found, never)?;
    Ok(allowed.iter().map(SocketAddr::to_string).collect())
}

const REFUSED: Result<Vec<String>, Why> = Err(NOT_GRANTED);

#[test]
fn localhost_is_loopback_however_it_is_spelt_and_nothing_else() {
    let may = ["localhost:8080"];
    for (host, found, dialled) in [
        ("localhost", "127.0.0.1", "127.0.0.1:8080"),
        ("LOCALHOST.", "::1", "[::1]:8080"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1:8080"),
        ("127.9.9.9", "127.9.9.9", "127.9.9.9:8080"),
        ("127.1", "127.0.0.1", "127.0.0.1:8080"),
        ("2130706433", "127.0.0.1", "127.0.0.1:8080"),
        ("0x7f000001", "127.0.0.1", "127.0.0.1:8080"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1:8080"),
        ("0", "0.0.0.0", "127.0.0.1:8080"),
        ("::", "::", "[::1]:8080"),
        ("some.name", "127.0.0.1", "127.0.0.1:8080"),
    ] {
        assert_eq!(
            judged(&may, host, 8080, &[found]),
            Ok(vec![dialled.to_owned()]),
            "{host}"
        );
    }
    for (host, found) in [
        ("localhost", "10.0.0.1"),
        ("localhost", "::2"),
        ("10.0.0.1", "10.0.0.1"),
        ("some.name", "10.0.0.1"),
        ("128.0.0.1", "128.0.0.1"),
    ] {
        assert_eq!(judged(&may, host, 8080, &[found]), REFUSED, "{host} {found}");
    }
    assert_eq!(judged(&may, "localhost", 8081, &["127.0.0.1"]), REFUSED);
}

#[test]
fn nothing_is_granted_by_nothing() {
    assert_eq!(judged(&[], "localhost", 80, &["127.0.0.1"]), REFUSED);
    assert_eq!(judged(&["unix:/*"], "localhost", 80, &["127.0.0.1"]), REFUSED);
    assert_eq!(judged(&["*:*"], "localhost", 80, &[]), REFUSED);
    let none = Destinations::new(&["localhost:80".to_owned()]);
    assert!(none.may(&Asked::new("x", 80).unwrap()) && !none.may(&Asked::new("x", 81).unwrap()));
}

#[test]
fn only_the_judged_addresses_of_an_answer_are_dialled() {
    let may = ["db.internal:5432", "10.1.*.*:5432"];
    let found = [
        "169.254.169.254",
        "10.9.0.1",
        "127.0.0.1",
        "10.1.0.1",
        "::ffff:10.1.0.1",
    ];
    assert_eq!(
        judged(&may, "other.internal", 5432, &found),
        Ok(vec!["10.1.0.1:5432".to_owned()])
    );
    assert_eq!(
        judged(&may, "DB.internal.", 5432, &found),
        Ok(vec!["10.9.0.1:5432".to_owned(), "10.1.0.1:5432".to_owned()])
    );
}

#[test]
fn a_name_whose_answer_changes_is_judged_by_the_answer_that_is_dialled() {
    // Whoever answers for the name says something else each time: only what it says now counts, and is dialled.
    let may = ["*.evil.example:80", "localhost:22"];
    let mut answers = [
        "203.0.113.9",
        "127.0.0.1",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "::1",
    ]
    .into_iter();
    let mut ask = || judged(&may, "a.evil.example", 80, &[answers.next().unwrap()]);
    assert_eq!(ask(), Ok(vec!["203.0.113.9:80".to_owned()]));
    for _ in 0..4 {
        assert!(ask().is_err());
    }
    assert!(answers.next().is_none());
}

#[test]
fn a_pattern_for_addresses_is_none_for_names_and_the_other_way_round() {
    assert_eq!(judged(&["10.*:80"], "10.evil.example", 80, &["203.0.113.9"]), REFUSED);
    assert_eq!(
        judged(&["*.0.0.1:80"], "x", 80, &["127.0.0.1"]),
        Ok(vec!["127.0.0.1:80".to_owned()])
    );
    assert_eq!(judged(&["0x*:80"], "0x0a000001", 80, &["10.0.0.1"]), REFUSED);
    assert_eq!(judged(&["*a*:80"], "::a", 80, &["::a"]), REFUSED);
    assert_eq!(
        judged(&["[2001:db8::1]:80"], "2001:DB8:0::1", 80, &["2001:db8::1"]),
        Ok(vec!["[2001:db8::1]:80".to_owned()])
    );
    assert_eq!(
        judged(&["[*]:80"], "x", 80, &["10.0.0.1", "2001:db8::1"]),
        Ok(vec!["[2001:db8::1]:80".to_owned()])
    );
    assert_eq!(
        judged(&["[::ffff:10.0.0.1]:80"], "x", 80, &["10.0.0.1"]),
        Ok(vec!["10.0.0.1:80".to_owned()])
    );
}

#[test]
fn what_is_never_allowed_is_refused_in_every_spelling() {
    let never = Never {
        ports: vec![7001],
        own: vec!["10.0.0.5".parse().unwrap()],
        gateway: Some("::ffff:10.0.0.9".parse().unwrap()),
        denied: vec![crate::config::Denied::parse("192.0.2.0/24").unwrap()],
    };
    for (port, found) in [
        (80, "169.254.169.254"),
        (80, "::ffff:169.254.169.254"),
        (80, "64:ff9b::a9fe:a9fe"),
        (80, "2002:a9fe:a9fe::1"),
        (80, "::169.254.169.254"),
        (80, "64:ff9b::7f00:1"),
        (80, "169.254.170.2"),
        (80, "fe80::1"),
        (80, "64:ff9b:1::a9fe:a9fe"),
        (80, "64:ff9b:1:fffe:1:2:a9fe:a9fe"),
        (80, "::ffff:0:169.254.169.254"),
        (80, "::ffff:0:127.0.0.1"),
        (80, "fd00:ec2::254"),
        (80, "fd00:ec2::23"),
        (80, "fd00:ec2:0:1::253"),
        (80, "fd00:c1::a9fe:a9fe"),
        (80, "fd00:42::42"),
        (80, "fd00:a9fe:a9fe::1"),
        (80, "fd00:100::100:200"),
        (80, "fd20:ce::254"),
        (80, "100.100.100.200"),
        (80, "168.63.129.16"),
        (80, "224.0.0.1"),
        (80, "ff02::1"),
        (80, "255.255.255.255"),
        (80, "0.0.0.1"),
        (7001, "127.0.0.1"),
        (7001, "127.3.2.1"),
        (7001, "::1"),
        (7001, "0.0.0.0"),
        (7001, "::"),
        (7001, "10.0.0.5"),
        (443, "10.0.0.9"),
        (7001, "10.0.0.9"),
        (1, "192.0.2.200"),
    ] {
        let verdict = judged_but(&["*:*", "[*]:*", "localhost:*"], "x", port, &[found], &never);
        assert!(verdict.is_err_and(|why| why != NOT_GRANTED), "{found} {port}");
    }
    for (port, found) in [
        (80, "127.0.0.1"),
        (80, "10.0.0.5"),
        (7001, "10.0.0.6"),
        (443, "10.0.0.10"),
    ] {
        assert!(
            judged_but(&["*:*"], "x", port, &[found], &never).is_ok(),
            "{found} {port}"
        );
    }
}

#[test]
fn what_is_no_destination_is_not_resolved() {
    for host in [
        "",
        "fe80::1%eth0",
        "a b",
        "a/b",
        "a\0",
        "höst",
        "-o\n",
        "[::1]",
        &"x".repeat(255),
    ] {
        assert!(Asked::new(host, 80).is_err(), "{host:?}");
    }
    for port in [0, 65_536, u32::MAX] {
        assert!(Asked::new("localhost", port).is_err(), "{port}");
    }
    assert_eq!(Asked::new("::1", 80).unwrap().to_string(), "[::1]:80");
}

#[test]
fn wildcards_match_whole_texts() {
    for (pattern, text, matches) in [
        ("*", "", true),
        ("a*b*c", "aXXbYYc", true),
        ("a*b*c", "aXXbYY", false),
        ("?.x", "a.x", true),
        ("?.x", ".x", false),
        ("*.x", "a.x.y", false),
        ("**a", "bba", true),
        ("a", "", false),
    ] {
        assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
    }
    let slow = "*a".repeat(100);
    assert!(!glob(&slow, &"a".repeat(50)));
}
