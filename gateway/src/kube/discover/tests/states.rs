//! How a pod stands.

use super::*;
use crate::kube::discover::state;

fn of(change: impl FnOnce(&mut Value)) -> (String, bool) {
    let (state, runs) = state::of_pod(&pod("devenv-0", "u0", change));
    (state.to_string(), runs)
}

fn waiting(reason: &str, message: &str) -> Value {
    json!([{ "name": "main", "ready": false, "state": { "waiting": { "reason": reason, "message": message } } }])
}

#[test]
fn each_phase_has_its_words() {
    let pending = |change: &dyn Fn(&mut Value)| {
        of(|pod| {
            pod["status"] = json!({ "phase": "Pending" });
            change(pod);
        })
    };
    assert_eq!(of(|_| {}), ("running".to_owned(), true));
    assert_eq!(pending(&|_| {}), ("starting: waits for its node".to_owned(), false));
    let unplaced = json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes\nhave room" }]);
    assert_eq!(
        pending(&|pod| pod["status"]["conditions"] = unplaced.clone()).0,
        "starting: waits for a node: 0/3 nodes have room"
    );
    let creating = waiting("ContainerCreating", "");
    assert_eq!(
        pending(&|pod| pod["status"]["containerStatuses"] = creating.clone()).0,
        "starting: its containers are being made"
    );
    let pull = waiting("ImagePullBackOff", "Back-off pulling image \"x\"\u{1b}[31m");
    let (said, runs) = pending(&|pod| pod["status"]["containerStatuses"] = pull.clone());
    assert!(
        said.starts_with("failed: its image cannot be pulled: Back-off") && !said.contains('\u{1b}'),
        "{said}"
    );
    assert!(!runs);
    let first = json!([{ "name": "git-clone", "ready": false, "state": { "running": { "startedAt": "2030-01-01T00:00:00Z" } } }]);
    assert_eq!(
        pending(&|pod| pod["status"]["initContainerStatuses"] = first.clone()).0,
        "starting: prepares: git-clone"
    );
}

#[test]
fn one_that_runs_can_be_entered_even_where_something_else_in_it_is_broken() {
    let (said, runs) = of(|pod| {
        pod["status"]["conditions"] = json!([{ "type": "Ready", "status": "False" }]);
        pod["status"]["containerStatuses"] = json!([
            { "name": "agent", "ready": true, "state": { "running": {} } },
            { "name": "ide", "ready": false, "state": { "waiting": { "reason": "CrashLoopBackOff" } } },
        ]);
    });
    assert_eq!((said.as_str(), runs), ("starting: ide: it ends again and again", true));
    let (said, runs) = of(|pod| pod["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z"));
    assert_eq!((said.as_str(), runs), ("stopping", true));
    let lost = of(|pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
        pod["status"]["reason"] = json!("NodeLost");
    });
    assert_eq!(lost, ("failed: its node is not heard of".to_owned(), true));
    assert!(
        !of(|pod| pod["status"]["podIP"] = Value::Null).1,
        "there is nowhere to go yet"
    );
}

#[test]
fn what_is_over_says_why() {
    let over = |status: Value| of(|pod| pod["status"] = status).0;
    assert_eq!(over(json!({ "phase": "Succeeded" })), "failed: it has finished");
    assert_eq!(
        over(json!({ "phase": "Failed", "reason": "Evicted" })),
        "failed: Evicted"
    );
    let memory = json!([{ "name": "main", "state": { "terminated": { "reason": "OOMKilled", "exitCode": 137 } } }]);
    assert_eq!(
        over(json!({ "phase": "Failed", "containerStatuses": memory })),
        "failed: main: ran out of memory"
    );
    assert_eq!(over(json!({ "phase": "Unknown" })), "failed: its node is not heard of");
}
