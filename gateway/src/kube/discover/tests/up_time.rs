//! When a pod is stopped, as it says itself.

use super::*;
use crate::{
    kube::discover::up_time::{End, UpTime},
    workspace::KEEP_UNTIL,
};

fn with(end: End, extendable: bool) -> Rule {
    Rule {
        up_time: Some(UpTime {
            end,
            warn: [60].map(Duration::from_secs).into(),
            extendable,
        }),
        ..rule()
    }
}

/// When a pod that was changed so is stopped, and how many problems there are.
fn stopped(rule: &Rule, change: impl FnOnce(&mut Value)) -> (Option<String>, usize) {
    let mut one = pod("devenv-0", "u-0", |value| {
        value["metadata"]["creationTimestamp"] = "2026-06-01T11:59:00Z".into();
        value["status"]["startTime"] = "2026-06-01T12:00:00Z".into();
        change(value);
    });
    // As it is kept.
    super::super::wanted(rule).trim(&mut one);
    let judged = Cluster::new(rule).with(vec![one], vec![set(1)]).judge();
    let stop = judged.workspaces[0].notes.stop.clone();
    let at = stop.map(|stop| crate::locks::rfc3339(stop.at));
    (at, judged.problems.len())
}

#[test]
fn a_time_or_a_length_after_the_start_is_the_end_and_nothing_is_none() {
    let at = with(End::At(Template::parse("{annotation:x/stops-at}").unwrap()), false);
    let said = |rule: &Rule, text: &str| {
        stopped(rule, |value| {
            value["metadata"]["annotations"] = json!({ "x/stops-at": text });
            value["metadata"]["labels"]["up-time"] = text.into();
        })
    };
    let some = |text: &str| (Some(text.to_owned()), 0);
    assert_eq!(said(&at, "2026-06-01T14:00:00+02:00"), some("2026-06-01T12:00:00Z"));
    assert_eq!(stopped(&at, |_| {}), (None, 0));
    assert_eq!(said(&at, "tomorrow\u{1b}[2J"), (None, 1));

    let after = with(End::After(Template::parse("{label:up-time}").unwrap()), false);
    assert_eq!(said(&after, "90m"), some("2026-06-01T13:30:00Z"));
    for bad in ["", "0s", "90", "-1h", "9999999y", "long"] {
        assert_eq!(said(&after, bad), (None, 1), "{bad}");
    }
    assert_eq!(stopped(&after, |_| {}), (None, 0), "what has no limit runs on");
    let all = with(End::After(Template::parse("1h").unwrap()), false);
    assert_eq!(stopped(&all, |_| {}), some("2026-06-01T13:00:00Z"));
    let early = |value: &mut Value| drop(value["status"].as_object_mut().unwrap().remove("startTime"));
    assert_eq!(stopped(&all, early), some("2026-06-01T12:59:00Z"), "not started: made");
}

#[test]
fn what_is_kept_runs_on_where_the_platform_heeds_it() {
    let end = || End::After(Template::parse("1h").unwrap());
    let kept = |value: &mut Value| value["metadata"]["annotations"] = json!({ KEEP_UNTIL: "2026-06-01T15:00:00Z" });
    assert_eq!(stopped(&with(end(), true), kept).0.unwrap(), "2026-06-01T15:00:00Z");
    assert_eq!(stopped(&with(end(), false), kept).0.unwrap(), "2026-06-01T13:00:00Z");
    let before = |value: &mut Value| value["metadata"]["annotations"] = json!({ KEEP_UNTIL: "2026-06-01T12:01:00Z" });
    assert_eq!(stopped(&with(end(), true), before).0.unwrap(), "2026-06-01T13:00:00Z");
}
