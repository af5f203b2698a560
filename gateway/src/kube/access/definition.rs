//! The CustomResourceDefinition: what the API server takes at all. `deploy/kubernetes/workspaceaccess.crd.yaml` is this, and a test
//! compares the two. What a schema cannot say is checked here and told in the status.

use serde_json::{Value, json};

use super::{
    GROUP, KIND, PLURAL, VERSION,
    selector::{MOST_CONDITIONS, MOST_VALUES},
    spec::{LONGEST_NAME, MOST_NAMES, MOST_SUBJECTS, MOST_WORDS},
};

/// The definition as the API server is to have it.
#[must_use]
pub fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{PLURAL}.{GROUP}") },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND, "listKind": format!("{KIND}List"), "plural": PLURAL, "singular": "workspaceaccess",
                "shortNames": ["wsa"],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "subresources": { "status": {} },
                "additionalPrinterColumns": [
                    column("Role", "string", ".spec.role"),
                    column("Accepted", "string", ".status.conditions[?(@.type==\"Accepted\")].reason"),
                    column("In force", "string", ".status.conditions[?(@.type==\"InForce\")].status"),
                    column("Expires", "string", ".spec.expires"),
                    column("Age", "date", ".metadata.creationTimestamp"),
                ],
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "description": "Who enters workspaces of this namespace, by a role that the gateway's policy lends.",
                    "required": ["spec"],
                    "properties": { "spec": spec(), "status": status() },
                }},
            }],
        },
    })
}

fn column(name: &str, kind: &str, path: &str) -> Value {
    json!({ "name": name, "type": kind, "jsonPath": path })
}

fn spec() -> Value {
    json!({
        "type": "object",
        "required": ["subjects", "workspaces", "role"],
        "properties": {
            "subjects": {
                "type": "array", "minItems": 1, "maxItems": MOST_SUBJECTS, "x-kubernetes-list-type": "atomic",
                "description": "Who is let in: whoever any of this names, exactly.",
                "items": {
                    "type": "object",
                    "required": ["kind", "name"],
                    "properties": {
                        "kind": {
                            "type": "string", "enum": ["User", "Email", "Group"],
                            "description": "User: the name by which the gateway knows a person; Email: a verified address; Group: a group of their token.",
                        },
                        "name": text(LONGEST_NAME, PRINTABLE),
                    },
                    "x-kubernetes-validations": [{
                        "rule": "self.kind != 'Email' || self.name.matches('^[!-~]+@[A-Za-z0-9.-]+$')",
                        "message": "an Email is local@domain",
                    }],
                },
            },
            "workspaces": {
                "type": "object",
                "description": "Which workspaces of this namespace. Where both are there, both must hold.",
                "properties": {
                    "names": {
                        "type": "array", "minItems": 1, "maxItems": MOST_NAMES, "x-kubernetes-list-type": "set",
                        "description": "Workspaces by the names that people type.",
                        "items": text(253, "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"),
                    },
                    "selector": selector(),
                },
                "x-kubernetes-validations": [{
                    "rule": "has(self.names) || has(self.selector)",
                    "message": "name workspaces, or give a selector; an empty selector means all of the namespace",
                }],
            },
            "role": {
                "type": "string", "minLength": 1, "maxLength": LONGEST_NAME, "pattern": PRINTABLE,
                "description": "The role that is lent; the gateway's policy marks those that may be.",
            },
            "allow": {
                "type": "array", "maxItems": MOST_WORDS, "x-kubernetes-list-type": "set",
                "description": "At most this of what the role gives, in the words of the policy.",
                "items": text(320, "^[!-~]+$"),
            },
            "longest": {
                "type": "string", "maxLength": 6, "pattern": "^[1-9][0-9]{0,4}[smhd]$",
                "description": "The longest session, where that is less than the role's.",
            },
            "recording": {
                "type": "object",
                "description": "What is recorded beyond what the role has recorded; nothing makes it less.",
                "properties": {
                    "mode": { "type": "string", "enum": ["strict"] },
                    "input": { "type": "boolean" },
                },
            },
            "expires": {
                "type": "string", "format": "date-time", "maxLength": 64,
                "description": "When it is over.",
            },
        },
    })
}

fn selector() -> Value {
    json!({
        "type": "object",
        "description": "Workspaces by the labels of their pods.",
        "properties": {
            "matchLabels": {
                "type": "object", "maxProperties": MOST_CONDITIONS,
                "additionalProperties": { "type": "string", "maxLength": 63 },
            },
            "matchExpressions": {
                "type": "array", "maxItems": MOST_CONDITIONS, "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": { "type": "string", "minLength": 1, "maxLength": 317 },
                        "operator": { "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"] },
                        "values": {
                            "type": "array", "maxItems": MOST_VALUES, "x-kubernetes-list-type": "atomic",
                            "items": { "type": "string", "maxLength": 63 },
                        },
                    },
                    "x-kubernetes-validations": [{
                        "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
                        "message": "In and NotIn need values; Exists and DoesNotExist take none",
                    }],
                },
            },
        },
    })
}

fn status() -> Value {
    json!({
        "type": "object",
        "properties": {
            "conditions": {
                "type": "array", "maxItems": 16,
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
                    "properties": {
                        "type": { "type": "string", "maxLength": 316 },
                        "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                        "reason": { "type": "string", "minLength": 1, "maxLength": 1024 },
                        "message": { "type": "string", "maxLength": 32768 },
                        "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0 },
                        "lastTransitionTime": { "type": "string", "format": "date-time" },
                    },
                },
            },
        },
    })
}

fn text(most: usize, pattern: &str) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": most, "pattern": pattern })
}

/// No control characters; what else is not seen is found out here and told in the status.
const PRINTABLE: &str = "^[^\\x00-\\x1f\\x7f]+$";
