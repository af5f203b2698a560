//! What is wrong with an object, or that nothing is, as conditions of its status.
//!
//! All replicas of a gateway say the same, and whoever sees that it stands there already writes nothing. One report is written at a
//! time, the namespaces in turn, and one object the less often the more often something else overwrites it.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime},
};

use ::kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};

use super::{
    GROUP, KIND, PLURAL, VERSION,
    shelf::{Condition, Kept},
};
use crate::{guarded::Guarded, kube::KubeError, locks::rfc3339, policy::Policy, workspace::line};

/// Namespace and name.
type Key = (String, String);

/// What is to stand in the status of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    uid: String,
    version: String,
    conditions: [Condition; 2],
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Reports {
    due: Guarded<BTreeMap<Key, Due>>,
    changed: Notify,
    failed: Guarded<Option<KubeError>>,
}

/// What is to be written about this object, if it does not stand there.
pub(super) fn due(object: &Kept, policy: &Policy, now: SystemTime) -> Option<(Key, Due)> {
    if object.going {
        return None;
    }
    let mut conditions = conditions(object, policy, now);
    let mut stands = true;
    for one in &mut conditions {
        let there = object.conditions.iter().find(|there| there.kind == one.kind);
        one.last_transition_time = match there.filter(|there| there.status == one.status) {
            Some(there) => there.last_transition_time.clone(),
            None => rfc3339(now),
        };
        stands &= there == Some(&*one);
    }
    let due = Due {
        uid: object.uid.clone(),
        version: object.version.clone(),
        conditions,
    };
    (!stands).then(|| ((object.namespace.clone(), object.name.clone()), due))
}

/// Whether an object is good, and whether it lets anybody in.
pub(super) fn conditions(object: &Kept, policy: &Policy, now: SystemTime) -> [Condition; 2] {
    let condition = |kind: &str, holds: bool, reason: &str, message: String| Condition {
        kind: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: object.generation,
        last_transition_time: String::new(),
    };
    let [accepted, in_force] = KINDS;
    let not_in_force = |reason: &str, message: &str| condition(in_force, false, reason, message.to_owned());
    let refused = |reason: &str, message: String| {
        [
            condition(accepted, false, reason, message),
            not_in_force("NotAccepted", "see the condition Accepted"),
        ]
    };
    let spec = match &object.spec {
        Ok(spec) => spec,
        Err(fault) => return refused(fault.reason, line(&fault.message)),
    };
    let Some(lends) = policy.lends(&spec.role, &object.namespace, &spec.narrower) else {
        let message = "the gateway's policy has no role of this name that objects of this namespace may lend";
        return refused("RoleNotGrantable", message.to_owned());
    };
    let good = match lends.beyond.is_empty() {
        true => condition(accepted, true, "Accepted", String::new()),
        false => {
            let message = line(&format!(
                "the role bounds it, which does not give {}",
                lends.beyond.join(", ")
            ));
            condition(accepted, true, "Bounded", message)
        }
    };
    let force = match spec.expires.filter(|_| spec.is_over(now)) {
        Some(at) => not_in_force("Expired", &format!("it was over at {}", rfc3339(at))),
        None if lends.nothing => not_in_force("LendsNothing", "the role gives nothing of what `allow` names"),
        None => condition(in_force, true, "InForce", String::new()),
    };
    [good, force]
}

impl Reports {
    /// Takes these for all that is to be written.
    pub(super) fn replace(&self, due: BTreeMap<Key, Due>) {
        self.due.with(|own| *own = due);
        self.changed.notify_one();
    }

    /// Whether reports can be written.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn ready(&self) -> Result<(), String> {
        match self.failed.with(|failed| failed.clone()) {
            Some(why) => Err(format!("the status of {KIND} objects cannot be written: {why}")),
            None => Ok(()),
        }
    }

    /// Writes for ever.
    pub(super) async fn write(&self, client: &Client) {
        let mut turns = Turns::default();
        let mut pause = BETWEEN;
        loop {
            let Some((key, due)) = self.due.with(|due| turns.next(due, Instant::now())) else {
                let wait = turns.wait(Instant::now());
                tokio::select! {
                    () = self.changed.notified() => {}
                    () = tokio::time::sleep(wait) => {}
                }
                continue;
            };
            match write_one(client, &key, &due).await {
                // Gone, or seen by somebody who writes what we would: the watch says what comes of it.
                Ok(()) | Err(KubeError::NotFound(_) | KubeError::Conflict(_)) => {
                    self.failed.with(Option::take);
                    pause = BETWEEN;
                    self.due.with(|all| {
                        if all.get(&key) == Some(&due) {
                            all.remove(&key);
                        }
                    });
                }
                // This one is not taken, and the others do not wait for it.
                Err(KubeError::Refused { code, text }) if code < 500 => {
                    let object = format!("{}/{}", key.0, key.1);
                    tracing::debug!(object, code, text, "its status is not taken");
                }
                Err(why) => {
                    let (code, error) = (why.code(), why.to_string());
                    let news = self.failed.with(|failed| failed.replace(why.clone()));
                    if news.is_none_or(|old| old.code() != code) {
                        tracing::warn!(
                            code,
                            error,
                            remedy = why.remedy(),
                            "the status of {KIND} objects cannot be written"
                        );
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            turns.wrote(key, Instant::now());
            tokio::time::sleep(pause).await;
        }
    }
}

async fn write_one(client: &Client, (namespace, name): &Key, due: &Due) -> Result<(), KubeError> {
    let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, KIND));
    PLURAL.clone_into(&mut resource.plural);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let conditions: Vec<Value> = due
        .conditions
        .iter()
        .map(|one| {
            json!({
                "type": one.kind, "status": one.status, "reason": one.reason, "message": one.message,
                "observedGeneration": one.observed_generation, "lastTransitionTime": one.last_transition_time,
            })
        })
        .collect();
    let patch = Patch::Apply(json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": KIND,
        // Of what was judged, and of nothing that has come in its place.
        "metadata": { "name": name, "namespace": namespace, "uid": due.uid, "resourceVersion": due.version },
        "status": { "conditions": conditions },
    }));
    let params = PatchParams::apply(MANAGER).force();
    api.patch_status(name, &params, &patch)
        .await
        .map(drop)
        .map_err(KubeError::from)
}

/// Whose turn it is: the namespaces one after the other, and no object before its pause is over.
#[derive(Debug, Default)]
struct Turns {
    last: String,
    written: HashMap<Key, (Instant, Duration)>,
}

impl Turns {
    fn next(&mut self, due: &BTreeMap<Key, Due>, now: Instant) -> Option<(Key, Due)> {
        let after = (format!("{}\0", self.last), String::new());
        let (behind, ahead) = (due.range(..after.clone()), due.range(after..));
        let rests = |key: &Key| self.written.get(key).is_some_and(|(at, pause)| *at + *pause > now);
        let (key, due) = ahead.chain(behind).find(|(key, _)| !rests(key))?;
        self.last.clone_from(&key.0);
        Some((key.clone(), due.clone()))
    }

    /// How long until another object may have its turn.
    fn wait(&self, now: Instant) -> Duration {
        let ends = self.written.values().map(|(at, pause)| *at + *pause);
        let next = ends.filter(|end| *end > now).min();
        next.map_or(LONGEST_PAUSE, |end| end.saturating_duration_since(now) + BETWEEN)
    }

    fn wrote(&mut self, key: Key, now: Instant) {
        self.written
            .retain(|_, (at, pause)| now.saturating_duration_since(*at) < QUIET + *pause);
        let pause = self
            .written
            .get(&key)
            .map_or(FIRST_PAUSE, |(_, pause)| (*pause * 2).min(LONGEST_PAUSE));
        self.written.insert(key, (now, pause));
    }
}

/// The conditions that are written.
pub(super) const KINDS: [&str; 2] = ["Accepted", "InForce"];
/// The name under which they are.
const MANAGER: &str = "doorward-gateway";
/// Ten reports a second at most.
const BETWEEN: Duration = Duration::from_millis(100);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// After so long without a report an object is as one that never had one.
const QUIET: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_take_turns_and_one_object_rests_the_longer_the_more_often_it_is_written() {
        let key = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        let one = Due {
            uid: "u".to_owned(),
            version: "1".to_owned(),
            conditions: Default::default(),
        };
        let all = [key("a", "1"), key("a", "2"), key("a", "3"), key("b", "1")];
        let due: BTreeMap<Key, Due> = all.into_iter().map(|key| (key, one.clone())).collect();
        let (mut turns, began) = (Turns::default(), Instant::now());
        let mut order = Vec::new();
        while let Some((key, _)) = turns.next(&due, began) {
            turns.wrote(key.clone(), began);
            order.push(format!("{}/{}", key.0, key.1));
        }
        assert_eq!(order, ["a/1", "b/1", "a/2", "a/3"]);
        assert!(turns.wait(began) >= FIRST_PAUSE);
        // Somebody overwrites one over and over: it is written ever more rarely, and not for ever so.
        let fought: BTreeMap<Key, Due> = [(key("b", "1"), one)].into();
        let (mut now, mut written) = (began, 0);
        while now < began + Duration::from_secs(3600) {
            if let Some((key, _)) = turns.next(&fought, now) {
                turns.wrote(key, now);
                written += 1;
            }
            now += Duration::from_millis(500);
        }
        assert!((10..30).contains(&written), "{written}");
        now += QUIET + LONGEST_PAUSE;
        turns.wrote(key("c", "1"), now);
        assert_eq!(turns.written.len(), 1, "what rests no more is forgotten");
    }
}
