use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::super::patterns::Secret;
use super::*;

fn patterns(secrets: &[(&str, &[u8])]) -> Arc<Patterns> {
    let secrets: Vec<_> = secrets
        .iter()
        .map(|(name, value)| Secret {
            name: (*name).to_owned(),
            value: Zeroizing::new(value.to_vec()),
        })
        .collect();
    Arc::new(Patterns::new(&secrets).unwrap())
}

/// Pushes the chunks and returns what is recorded, and where it is masked.
fn run(patterns: &Arc<Patterns>, chunks: &[&[u8]]) -> (String, Vec<String>) {
    let mut masker = Masker::new(Arc::clone(patterns));
    let mut all: Vec<Passed> = chunks
        .iter()
        .map(|chunk| masker.push(Bytes::copy_from_slice(chunk)))
        .collect();
    all.push(masker.finish());
    let (mut shown, mut places) = (String::new(), Vec::new());
    for passed in all {
        places.extend(marks(&passed, shown.len() as u64));
        shown += &text(&passed);
    }
    (shown, places)
}

fn text(passed: &Passed) -> String {
    String::from_utf8_lossy(&passed.bytes).into_owned()
}

/// Behind so many bytes.
fn marks(passed: &Passed, behind: u64) -> Vec<String> {
    let show = |mark: &Mark| {
        format!(
            "{}+{} {} {}",
            behind + mark.at,
            mark.bytes,
            mark.name,
            mark.form.as_str()
        )
    };
    passed.marks.iter().map(show).collect()
}

#[test]
fn a_secret_is_masked_and_nothing_else() {
    let patterns = patterns(&[("TOKEN", b"secret-canary")]);
    let (shown, marks) = run(&patterns, &[b"it is secret-canary, secret-canarx"]);
    assert_eq!(shown, "it is *************, secret-canarx");
    assert_eq!(marks, ["6+13 TOKEN plain"]);
}

#[test]
fn byte_by_byte_and_across_chunks() {
    let patterns = patterns(&[("TOKEN", b"secret-canary")]);
    let text = b"a secret-canary b";
    let bytes: Vec<&[u8]> = text.chunks(1).collect();
    let expected = ("a ************* b".to_owned(), vec!["2+13 TOKEN plain".to_owned()]);
    assert_eq!(run(&patterns, &bytes), expected);
    for at in 0..text.len() {
        assert_eq!(run(&patterns, &[&text[..at], &text[at..]]), expected);
    }
}

#[test]
fn only_a_possible_beginning_is_held() {
    let mut masker = Masker::new(patterns(&[("TOKEN", b"secret-canary")]));
    assert_eq!(text(&masker.push(Bytes::from_static(b"abc s"))), "abc ");
    assert_eq!(masker.held(), 1);
    assert_eq!(text(&masker.push(Bytes::from_static(b"ecre"))), "");
    assert_eq!(masker.held(), 5);
    assert_eq!(text(&masker.push(Bytes::from_static(b"X"))), "secreX");
    assert_eq!(masker.held(), 0);
}

#[test]
fn base64_is_masked_with_its_line_breaks() {
    let secret: Vec<u8> = (0..100).map(|n| b'!' + n % 90).collect();
    let patterns = patterns(&[("KEY", &secret)]);
    for before in 0..3 {
        let text = STANDARD.encode([vec![b'#'; before], secret.clone()].concat());
        let wrapped: Vec<u8> = text.as_bytes().chunks(76).collect::<Vec<_>>().join(&b"\r\n"[..]);
        let (shown, marks) = run(&patterns, &[&wrapped[..50], &wrapped[50..]]);
        assert!(marks.len() == 1 && marks[0].ends_with("KEY base64"), "{marks:?}");
        let left = shown
            .bytes()
            .filter(|byte| !matches!(byte, b'*' | b'\r' | b'\n'))
            .count();
        assert!(left <= 8, "{shown}");
    }
}

#[test]
fn a_terminal_turns_line_ends_and_hides_nothing() {
    let patterns = patterns(&[("PEM", b"-----BEGIN-----\nMC4CAQAwBQ\n-----END-----\n")]);
    let (shown, marks) = run(
        &patterns,
        &[b"$ cat\r\n-----BEGIN-----\r\nMC4CAQAwBQ\r\n-----END-----\r\n$ "],
    );
    assert_eq!(shown, "$ cat\r\n***************\r\n**********\r\n*************\r\n$ ");
    assert_eq!(marks, ["7+42 PEM plain"]);
}

#[test]
fn secrets_that_overlap_are_both_masked() {
    let patterns = patterns(&[("A", b"abcdefgh"), ("B", b"ghijklmnop"), ("C", b"abcdefghijk")]);
    for chunks in [vec![&b"abcdefgh"[..], b"ijklmnop!"], vec![b"abcdefghijklmnop!"]] {
        let (shown, _) = run(&patterns, &chunks);
        assert_eq!(shown, "****************!");
    }
}

#[test]
fn a_good_part_of_a_secret_at_the_end_is_masked_a_few_letters_are_not() {
    let patterns = patterns(&[("TOKEN", b"secret-canary")]);
    let (shown, marks) = run(&patterns, &[b"x secret-cana"]);
    assert_eq!((&*shown, &*marks[0]), ("x ***********", "2+11 TOKEN beginning"));
    let (shown, marks) = run(&patterns, &[b"x secret"]);
    assert_eq!((&*shown, marks.len()), ("x secret", 0));
}

#[test]
fn new_secrets_are_looked_for_in_what_is_held() {
    let mut masker = Masker::new(patterns(&[("OLD", b"secret-canary")]));
    assert_eq!(text(&masker.push(Bytes::from_static(b"secret-"))), "");
    let both = patterns(&[("OLD", b"secret-canary"), ("NEW", b"secret-parrot")]);
    assert_eq!(text(&masker.look_for(both)), "");
    assert_eq!(text(&masker.push(Bytes::from_static(b"parrot."))), "*************.");
}

#[test]
fn values_are_masked_whole() {
    let patterns = patterns(&[("TOKEN", b"secret-canary")]);
    let passed = mask_value(&patterns, &Bytes::from_static(b"curl -H secret-canary x"));
    assert_eq!(text(&passed), "curl -H ************* x");
    assert_eq!(marks(&passed, 0), ["8+13 TOKEN plain"]);
    let passed = mask_value(&patterns, &Bytes::from_static(b"ls -s"));
    assert_eq!((&*text(&passed), passed.marks.len()), ("ls -s", 0));
}

proptest! {
    /// However the stream is cut, the record has its length, says where it was masked, and holds no secret.
    #[test]
    fn cuts_change_nothing(
        words in prop::collection::vec(0_u8..8, 0..40),
        cuts in prop::collection::vec(0_usize..400, 0..12),
    ) {
        let secrets: [(&str, &[u8]); 3] = [("A", b"aabaabaac"), ("B", b"baacaabb"), ("C", b"aabaab\naacab")];
        let patterns = patterns(&secrets);
        // The last two begin nothing.
        let table: [&[u8]; 8] = [b"aab", b"aac", b"b", b"\r\n", b"aabaabaac", b"c", b"xyz", b"x\ny"];
        let stream: Vec<u8> = words.iter().flat_map(|w| table[usize::from(*w)].iter().copied()).collect();
        let mut edges: Vec<usize> = cuts.into_iter().filter(|at| *at < stream.len()).collect();
        edges.extend([0, stream.len()]);
        edges.sort_unstable();
        let mut masker = Masker::new(Arc::clone(&patterns));
        let mut all: Vec<Passed> = edges
            .windows(2)
            .map(|pair| masker.push(Bytes::copy_from_slice(&stream[pair[0]..pair[1]])))
            .collect();
        all.push(masker.finish());
        let recorded: Vec<u8> = all.iter().flat_map(|passed| passed.bytes.to_vec()).collect();
        prop_assert_eq!(recorded.len(), stream.len());
        let mut expected = stream.clone();
        let mut behind = 0;
        for passed in &all {
            for mark in &passed.marks {
                let from = behind + mark.at as usize;
                let secret = &mut expected[from..from + mark.bytes as usize];
                secret.iter_mut().filter(|byte| !is_line_end(**byte)).for_each(|byte| *byte = b'*');
            }
            behind += passed.bytes.len();
        }
        prop_assert_eq!(&recorded, &expected);
        let seen: Vec<u8> = recorded.into_iter().filter(|byte| !is_line_end(*byte)).collect();
        for (_, secret) in secrets {
            let secret: Vec<u8> = secret.iter().copied().filter(|byte| !is_line_end(*byte)).collect();
            prop_assert!(!seen.windows(secret.len()).any(|window| window == secret));
        }
    }
}

/// What follows a secret is no beginning of one: a line end that begins the next chunk least of all.
#[test]
fn nothing_is_said_of_what_follows_a_secret() {
    let patterns = patterns(&[("TOKEN", b"secret-canary")]);
    let mut masker = Masker::new(Arc::clone(&patterns));
    assert_eq!(
        text(&masker.push(Bytes::from_static(b"secret-canary"))),
        "*************"
    );
    assert_eq!(text(&masker.push(Bytes::from_static(b"\n"))), "\n");
    assert_eq!(masker.held(), 0);
    for behind in [&b"\r\n"[..], b"\r", b" ", b"\x1b[0m", b"\x1b["] {
        let (shown, marks) = run(&patterns, &[b"secret-canary", behind]);
        assert_eq!(shown.as_bytes(), [b"*************", behind].concat());
        assert_eq!(marks, ["0+13 TOKEN plain"]);
    }
}

/// As bash and zsh write what is typed over the margin of a terminal, and as `grep --color` marks a part of it.
#[test]
fn what_terminals_are_sent_between_its_letters_hides_no_secret() {
    let patterns = patterns(&[("TOKEN", b"secret-canary")]);
    let texts: [&[u8]; 6] = [
        b"$ secret- \rcanary",
        b"$ secret- \r\x1b[Kc\rcanary",
        b"$ sec\x1b[01;31m\x1b[Kret\x1b[m\x1b[K-canary",
        b"$ \x1b[36msecret\x1b(B\x1b[m-canary",
        b"$ secret-\r\r\ncanary",
        b"$ secret-cana\rary",
    ];
    for text in texts {
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        for chunks in [vec![text], bytes, vec![&text[..10], &text[10..]]] {
            let (shown, marks) = run(&patterns, &chunks);
            assert_eq!(shown.len(), text.len());
            assert!(
                marks.len() == 1 && marks[0].ends_with("TOKEN plain"),
                "{shown:?} {marks:?}"
            );
            assert!(!shown.contains("can") && !shown.contains("ret"), "{shown:?}");
        }
    }
}

/// What is left out between the letters may belong to the value.
#[test]
fn values_with_spaces_and_escapes_are_found_in_files_and_on_terminals() {
    let patterns = patterns(&[("A", b"one two \nthree "), ("B", b"\x1b[31mred-secret\x1b[0m")]);
    for text in [
        &b"= one two \nthree ="[..],
        b"= one two \r\nthree \r\n",
        b"one two \nthree \n",
        b"= \x1b[31mred-secret\x1b[0m =",
    ] {
        for chunks in [vec![text], text.chunks(1).collect()] {
            let (shown, marks) = run(&patterns, &chunks);
            assert!(marks.len() == 1, "{shown:?} {marks:?}");
            assert!(!shown.contains("one") && !shown.contains("red"), "{shown:?}");
        }
    }
}

#[test]
fn endless_sequences_are_no_sequences() {
    let mut masker = Masker::new(patterns(&[("TOKEN", b"secret-canary")]));
    let _ = masker.push(Bytes::from_static(b"secret\x1b["));
    for _ in 0..40 {
        let _ = masker.push(Bytes::from_static(b"1"));
    }
    assert_eq!(masker.held(), 0);
}

#[test]
fn what_is_held_is_bounded_whatever_does_not_count_follows() {
    let patterns = patterns(&[("TOKEN", b"secret-canary")]);
    let most = WIDEST + 4 * patterns.longest() + 64;
    for filling in ["\r\n", "\x1b[1m", " \r"] {
        let mut masker = Masker::new(Arc::clone(&patterns));
        let mut given = masker.push(Bytes::from_static(b"secret-")).bytes.len();
        let chunk = Bytes::from(filling.repeat(300));
        for _ in 0..100 {
            given += masker.push(chunk.clone()).bytes.len();
            assert!(masker.held() <= most + chunk.len(), "{} bytes are held", masker.held());
        }
        given += masker.finish().bytes.len();
        assert_eq!(given, 7 + 100 * chunk.len());
        // What comes later is found as ever.
        let masked = masker.push(Bytes::from_static(b"secret-canary"));
        assert_eq!(text(&masked), "*************");
    }
}
