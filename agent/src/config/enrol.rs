//! How a pod proves which one it is: the section `[enrol]`.

use std::path::PathBuf;

use super::table::Section;

/// The proof of a pod.
#[derive(Debug, Clone)]
pub struct Enrol {
    /// A token of its service account, projected for the audience of whoever reviews it. The kubelet writes a newer one there
    /// before it ends, so that it is read again for each enrolment.
    pub token_file: PathBuf,
}

pub(super) fn read(mut section: Section<'_>) -> Option<Enrol> {
    let token_file = section.required("service-account-token-file", |text, section| Ok(section.path(text)));
    section.finish();
    Some(Enrol {
        token_file: token_file?,
    })
}
