//! Doorward on a real Kubernetes: one control plane for the file, namespaces of its own for each test.

mod access;
mod authorize;
mod control_plane;
mod discovery;
mod enrolment;
mod pods;
mod profiles;
mod request;
mod told;
mod usage;
mod vault;
mod whole;

use tests::parts::Place;

const PLACE: Place = Place {
    program: env!("CARGO_BIN_EXE_doorward-all"),
    tmp: env!("CARGO_TARGET_TMPDIR"),
    file: "kubernetes",
};
