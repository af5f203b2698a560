//! Each check's good and broken case.

mod near;
mod whole;

use super::{Finding, Verdict};

/// The findings of one check about one subject (any, if it is empty) as verdict and text.
pub(super) fn of<'a>(findings: &'a [Finding], check: &str, subject: &str) -> Vec<&'a Finding> {
    findings
        .iter()
        .filter(|finding| finding.check == check && (subject.is_empty() || finding.subject.contains(subject)))
        .collect()
}

/// That one of them has this verdict and text, and a remedy where it is not well.
pub(super) fn has(findings: &[Finding], check: &str, verdict: Verdict, text: &str) {
    let found = of(findings, check, "")
        .into_iter()
        .find(|finding| finding.verdict == verdict && finding.text.contains(text));
    let found = found.unwrap_or_else(|| panic!("no {check} {verdict:?} {text:?} in {findings:#?}"));
    assert_eq!(found.remedy.is_some(), verdict != Verdict::Ok);
}
