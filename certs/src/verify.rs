//! Judging what a peer presents: session, link and host certificates.
//!
//! The order is the same for all: the blob, the authority, a sane validity, the signature, the type, critical options,
//! the time, and only then what the certificate grants to whom. A key that is not trusted is never made to verify
//! anything, so that the cost of a stranger's certificate is the cost of parsing it. There is no leeway for clocks
//! here: authorities date certificates back instead.

use std::time::{Duration, SystemTime};

use ssh_key::{Certificate, PublicKey, certificate::CertType, public::KeyData};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use crate::{
    BACKDATED_AT_MOST, CaKeys, GATEWAY_PRINCIPAL, LONGEST_HOST_LIFE, LONGEST_LINK_LIFE, LONGEST_SESSION_LIFE, Login,
    Refusal, SerialsSeen, Terms, WorkspaceName, WorkspaceUid, blob, extension as ext, key_id, refusal::shown,
    request::is_host_name,
};

/// What a session certificate is held against.
#[derive(Debug, Clone, Copy)]
pub struct SessionCheck<'a> {
    /// The trusted user authorities.
    pub trusted: &'a CaKeys,
    /// The ed25519 key that the gateway proved in the link's TLS handshake.
    pub link_key: &'a [u8; 32],
    /// The session that the certificate came with.
    pub session: Uuid,
    /// The UID of the workspace that judges.
    pub workspace_uid: &'a WorkspaceUid,
    /// The present time.
    pub now: SystemTime,
}

/// A session that may be opened: proof that [`verify_session`] found nothing wrong.
#[derive(Debug, Clone)]
pub struct VerifiedSession {
    terms: Terms,
    user: String,
    session: Uuid,
    serial: u64,
    valid_before: u64,
}

impl VerifiedSession {
    /// What the person may do.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Who the person is, as the gateway named them: 1 to 256 bytes without control characters; escape before showing.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> Uuid {
        self.session
    }

    /// The certificate's serial number.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// When the certificate expires. The session may outlive it, up to [`Terms::longest`].
    #[must_use]
    pub fn valid_before(&self) -> SystemTime {
        system_time(self.valid_before)
    }
}

/// A gateway that may use the link: proof that [`verify_link`] found nothing wrong.
#[derive(Debug, Clone)]
pub struct VerifiedLink {
    key: PublicKey,
    valid_before: u64,
}

impl VerifiedLink {
    /// The gateway's key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// When the certificate expires.
    #[must_use]
    pub fn valid_before(&self) -> SystemTime {
        system_time(self.valid_before)
    }
}

/// An agent that serves the workspace: proof that [`verify_host`] found nothing wrong.
#[derive(Debug, Clone)]
pub struct VerifiedHost {
    key: PublicKey,
    valid_before: u64,
}

impl VerifiedHost {
    /// The agent's host key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// When the certificate expires.
    #[must_use]
    pub fn valid_before(&self) -> SystemTime {
        system_time(self.valid_before)
    }
}

/// Judges a session certificate, and marks it as used where it is good.
///
/// # Errors
/// A [`Refusal`] for the first thing that is wrong. A refused certificate is not marked as used.
pub fn verify_session(
    blob: &[u8],
    check: &SessionCheck<'_>,
    seen: &mut SerialsSeen,
) -> Result<VerifiedSession, Refusal> {
    let certificate = blob::read(blob)?;
    believe(&certificate, check.trusted, CertType::User, LONGEST_SESSION_LIFE)?;
    in_time(&certificate, check.now)?;
    let login = match certificate.valid_principals() {
        [] => return Err(Refusal::NoPrincipal),
        [one] => Login::try_from(one.as_str()).map_err(|_| Refusal::PrincipalMalformed)?,
        _ => return Err(Refusal::ManyPrincipals),
    };
    own_extensions(&certificate, |name| {
        ext::TERMS.contains(&name) || name == ext::SESSION || name == ext::WORKSPACE
    })?;
    let terms = Terms::from_extensions(login, certificate.extensions())?;
    subject_is(&certificate, check.link_key)?;
    for_workspace(&certificate, check.workspace_uid)?;
    let (user, session) = key_id::read(certificate.key_id()).ok_or(Refusal::KeyId)?;
    let stated = certificate
        .extensions()
        .get(ext::SESSION)
        .ok_or(Refusal::WrongSession)?;
    if session != check.session || *stated != session.to_string() {
        return Err(Refusal::WrongSession);
    }
    let serial = certificate.serial();
    if serial == 0 {
        return Err(Refusal::NoSerial);
    }
    let valid_before = certificate.valid_before();
    seen.take(serial, valid_before, unix_seconds(check.now))?;
    Ok(VerifiedSession {
        terms,
        user,
        session,
        serial,
        valid_before,
    })
}

/// Judges the certificate that a gateway presents for the key that it proved in the link's TLS handshake.
///
/// # Errors
/// A [`Refusal`] for the first thing that is wrong.
pub fn verify_link(
    blob: &[u8],
    trusted: &CaKeys,
    tls_key: &[u8; 32],
    now: SystemTime,
) -> Result<VerifiedLink, Refusal> {
    let certificate = blob::read(blob)?;
    let key = judge_link(&certificate, trusted, now)?;
    subject_is(&certificate, tls_key)?;
    Ok(VerifiedLink {
        key,
        valid_before: certificate.valid_before(),
    })
}

/// Judges the host certificate that an agent presents for the key that it proved in the link's TLS handshake.
///
/// # Errors
/// A [`Refusal`] for the first thing that is wrong.
pub fn verify_host(
    blob: &[u8],
    trusted: &CaKeys,
    key: &[u8; 32],
    workspace: &WorkspaceName,
    workspace_uid: &WorkspaceUid,
    now: SystemTime,
) -> Result<VerifiedHost, Refusal> {
    let certificate = blob::read(blob)?;
    let subject = judge_host(&certificate, trusted, now)?;
    subject_is(&certificate, key)?;
    if !certificate
        .valid_principals()
        .iter()
        .any(|name| name == workspace.as_str())
    {
        return Err(Refusal::WrongPrincipal);
    }
    for_workspace(&certificate, workspace_uid)?;
    Ok(VerifiedHost {
        key: subject,
        valid_before: certificate.valid_before(),
    })
}

/// What a host certificate says, for a record of it. Nobody vouches for any of it here: it is for one that was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSays {
    /// The serial.
    pub serial: u64,
    /// The key id.
    pub key_id: String,
    /// Fingerprint of the key that signed it.
    pub authority: String,
    /// When it ends, in Unix seconds.
    pub valid_before: u64,
}

impl HostSays {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It is none.
    pub fn of(blob: &[u8]) -> Result<Self, Refusal> {
        let certificate = blob::read(blob)?;
        Ok(Self {
            serial: certificate.serial(),
            key_id: certificate.key_id().to_owned(),
            authority: crate::fingerprint(&PublicKey::from(certificate.signature_key().clone())),
            valid_before: certificate.valid_before(),
        })
    }
}

/// The key of a host certificate that was good at the time `at`, for judging recordings long afterwards.
///
/// # Errors
/// A [`Refusal`] for the first thing that is wrong.
pub fn judge_host_at(blob: &[u8], trusted: &CaKeys, at: SystemTime) -> Result<PublicKey, Refusal> {
    judge_host(&blob::read(blob)?, trusted, at)
}

/// The key of a link certificate (one line in OpenSSH's form) that was good at the time `at`, for judging receipts
/// long afterwards.
///
/// # Errors
/// A [`Refusal`] for the first thing that is wrong.
pub fn judge_link_at(text: &str, trusted: &CaKeys, at: SystemTime) -> Result<PublicKey, Refusal> {
    judge_link(&blob::read_text(text)?, trusted, at)
}

fn judge_link(certificate: &Certificate, trusted: &CaKeys, at: SystemTime) -> Result<PublicKey, Refusal> {
    believe(certificate, trusted, CertType::User, LONGEST_LINK_LIFE)?;
    in_time(certificate, at)?;
    match certificate.valid_principals() {
        [] => return Err(Refusal::NoPrincipal),
        [one] if one == GATEWAY_PRINCIPAL => {}
        [_] => return Err(Refusal::WrongPrincipal),
        _ => return Err(Refusal::ManyPrincipals),
    }
    own_extensions(certificate, |_| false)?;
    Ok(subject(certificate))
}

fn judge_host(certificate: &Certificate, trusted: &CaKeys, at: SystemTime) -> Result<PublicKey, Refusal> {
    believe(certificate, trusted, CertType::Host, LONGEST_HOST_LIFE)?;
    in_time(certificate, at)?;
    if certificate.valid_principals().is_empty() {
        return Err(Refusal::NoPrincipal);
    }
    // ssh takes a host certificate's principals for patterns, so `*` would be every host.
    if !certificate.valid_principals().iter().all(|name| is_host_name(name)) {
        return Err(Refusal::PrincipalMalformed);
    }
    own_extensions(certificate, |name| name == ext::WORKSPACE)?;
    Ok(subject(certificate))
}

/// Authority, signature, type, a sane validity, no critical option.
pub(crate) fn believe(
    certificate: &Certificate,
    trusted: &CaKeys,
    kind: CertType,
    longest: Duration,
) -> Result<(), Refusal> {
    // The set first: a stranger's key is never made to verify anything.
    if !trusted.contains(certificate.signature_key()) {
        return Err(Refusal::UntrustedAuthority);
    }
    let fingerprint = certificate.signature_key().fingerprint(ssh_key::HashAlg::Sha256);
    let (after, before) = (certificate.valid_after(), certificate.valid_before());
    if before > LATEST_TIME || after > LATEST_TIME {
        return Err(Refusal::Everlasting);
    }
    if before <= after {
        return Err(Refusal::ValidityReversed);
    }
    // At the first second of its validity only the signature can be wrong.
    certificate
        .validate_at(after, [&fingerprint])
        .map_err(|_| Refusal::BadSignature)?;
    match (kind, certificate.cert_type()) {
        (CertType::User, CertType::Host) => return Err(Refusal::NotUser),
        (CertType::Host, CertType::User) => return Err(Refusal::NotHost),
        _ => {}
    }
    if before - after > longest.as_secs() + BACKDATED_AT_MOST.as_secs() {
        return Err(Refusal::LifeTooLong);
    }
    match certificate.critical_options().keys().next() {
        Some(name) => Err(Refusal::CriticalOption(shown(name))),
        None => Ok(()),
    }
}

/// `valid after <= now < valid before`, as in PROTOCOL.certkeys.
fn in_time(certificate: &Certificate, at: SystemTime) -> Result<(), Refusal> {
    let at = unix_seconds(at);
    if at < certificate.valid_after() {
        Err(Refusal::NotYetValid)
    } else if at >= certificate.valid_before() {
        Err(Refusal::Expired)
    } else {
        Ok(())
    }
}

/// Refuses names in our namespace that are unknown, or known and out of place. Other people's names are ignored.
fn own_extensions(certificate: &Certificate, belongs: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    for name in certificate
        .extensions()
        .keys()
        .filter(|name| name.ends_with(ext::NAMESPACE))
    {
        if belongs(name) {
            continue;
        }
        let known = ext::TERMS.contains(&name.as_str()) || name == ext::SESSION || name == ext::WORKSPACE;
        let refusal = if known {
            Refusal::MisplacedExtension
        } else {
            Refusal::UnknownExtension
        };
        return Err(refusal(shown(name)));
    }
    Ok(())
}

fn subject_is(certificate: &Certificate, key: &[u8; 32]) -> Result<(), Refusal> {
    match certificate.public_key() {
        KeyData::Ed25519(subject) if bool::from(subject.0.ct_eq(key)) => Ok(()),
        _ => Err(Refusal::WrongSubject),
    }
}

fn for_workspace(certificate: &Certificate, uid: &WorkspaceUid) -> Result<(), Refusal> {
    match certificate.extensions().get(ext::WORKSPACE) {
        Some(stated) if stated == uid.as_str() => Ok(()),
        _ => Err(Refusal::WrongWorkspace),
    }
}

fn subject(certificate: &Certificate) -> PublicKey {
    PublicKey::from(certificate.public_key().clone())
}

/// The latest time that a certificate may name: the year 9999.
const LATEST_TIME: u64 = 253_402_300_799;

/// Whole seconds since 1970; 0 for any time before.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// For times that [`believe`] has found to be before the year 10000.
pub(crate) fn system_time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LATEST_TIME))
}
