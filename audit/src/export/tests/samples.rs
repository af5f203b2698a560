//! One of each kind of event, with the same text in every place for a text.

use bytes::Bytes;

use super::*;

/// One of each kind, with `text` in every place for a text.
pub(super) fn all(text: &str) -> Vec<(bool, Event)> {
    let session = Uuid::from_u128(7);
    let t = || text.to_owned();
    let b = || Bytes::copy_from_slice(text.as_bytes());
    let whole = FileBytes {
        bytes: 5,
        from: 0,
        sha256: Some([0xab; 32]),
    };
    let recorded: Vec<Event> = vec![
        Opened {
            session,
            started_unix_ms: 1_767_225_599_000,
            workspace: t(),
            workspace_uid: t(),
            login: t(),
            user: t(),
            serial: 9,
            agent_version: t(),
            host_certificate: b(),
            terms: vec![(t(), t())],
            client_address: t(),
        }
        .into(),
        ChannelOpened { channel: 1, kind: t() }.into(),
        Pty {
            channel: 1,
            term: b(),
            cols: 80,
            rows: 24,
            modes: vec![(1, 3)],
        }
        .into(),
        Env {
            channel: 1,
            name: t(),
            value: b(),
            accepted: true,
        }
        .into(),
        Shell { channel: 1 }.into(),
        Exec {
            channel: 1,
            command: b(),
        }
        .into(),
        Subsystem { channel: 1, name: t() }.into(),
        DigestStarted {
            channel: 1,
            stream: 1,
            at_byte: 16,
        }
        .into(),
        Digest {
            channel: 1,
            stream: 1,
            bytes: 32,
            sha256: [1; 32],
        }
        .into(),
        Signal { channel: 1, name: t() }.into(),
        Exit {
            channel: 1,
            status: Some(3),
            signal: None,
            core_dumped: false,
        }
        .into(),
        Exit {
            channel: 1,
            status: None,
            signal: Some(t()),
            core_dumped: true,
        }
        .into(),
        ChannelClosed { channel: 1 }.into(),
        Refused {
            channel: Some(1),
            what: t(),
            why: t(),
        }
        .into(),
        Gap {
            channel: None,
            bytes: 9,
            why: t(),
            from: Some(2_000_000),
            milliseconds: Some(5),
        }
        .into(),
        Paused {
            channel: Some(1),
            unacknowledged: 9,
            milliseconds: 5,
            pauses: Some(2),
        }
        .into(),
        Coverage {
            channels: 1,
            not_captured: Some(vec![t()]),
            ..Coverage::default()
        }
        .into(),
        Ended { reason: t(), code: t() }.into(),
        FileOperation {
            channel: 1,
            operation: "rename".into(),
            path: b(),
            target: b(),
            detail: t(),
            status: 0,
        }
        .into(),
        FileOperation {
            channel: 1,
            operation: t(),
            path: b(),
            target: Bytes::new(),
            detail: t(),
            status: 3,
        }
        .into(),
        FileClosed {
            channel: 1,
            path: b(),
            read: None,
            written: Some(whole.clone()),
        }
        .into(),
        FileClosed {
            channel: 1,
            path: b(),
            read: Some(FileBytes { sha256: None, ..whole }),
            written: None,
        }
        .into(),
        FolderListed {
            channel: 1,
            path: b(),
            names: 4,
        }
        .into(),
        MasksSet { names: vec![t()] }.into(),
        Masked {
            channel: Some(1),
            stream: Some(1),
            at: 2,
            bytes: 8,
            name: t(),
            form: t(),
        }
        .into(),
        IdeServerSeen { product: t() }.into(),
        ForwardConnected {
            channel: 1,
            listener: Some(2),
            asked: t(),
            address: "127.0.0.1:5432".into(),
        }
        .into(),
        ForwardEnded {
            channel: 1,
            from_client: 3,
            to_client: 4,
            milliseconds: 5,
            how: t(),
        }
        .into(),
        ForwardFailed { asked: t(), why: t() }.into(),
        ListenerOpened {
            listener: 2,
            kind: t(),
            asked: t(),
            addresses: vec![t()],
        }
        .into(),
        ListenerClosed {
            listener: 2,
            connections: 6,
        }
        .into(),
        Event::Unknown(Unknown {
            kind: 999,
            body: Bytes::from_static(&[0xa0]),
        }),
    ];
    let journal: Vec<Event> = vec![
        GatewayStarted {
            version: t(),
            instance: t(),
            certificate: None,
            previous: Some(t()),
        }
        .into(),
        Denied {
            user: None,
            workspace: t(),
            code: t(),
            detail: t(),
            client_address: "10.0.0.1:1".into(),
        }
        .into(),
        Denied {
            user: Some(t()),
            workspace: t(),
            code: t(),
            detail: t(),
            client_address: t(),
        }
        .into(),
        Signed {
            session,
            user: t(),
            workspace: t(),
            serial: 9,
            key_id: t(),
            valid_before: 1_767_225_600,
        }
        .into(),
        SessionOpened {
            session,
            user: t(),
            workspace: t(),
            workspace_uid: t(),
            login: t(),
            client_address: "[::1]:4".into(),
            client_version: t(),
            issuer: Some(t()),
        }
        .into(),
        SessionEnded {
            session,
            reason: t(),
            code: t(),
            client_bytes: 1,
            agent_bytes: 2,
            record_bytes: 3,
        }
        .into(),
        HeadCountersigned {
            session,
            segment: 0,
            seq: 3,
            link: [2; 32],
        }
        .into(),
        RecordingViewed {
            session,
            user: t(),
            what: t(),
        }
        .into(),
        LinkUp {
            workspace: t(),
            uid: t(),
            agent_version: t(),
        }
        .into(),
        LinkDown {
            workspace: t(),
            reason: t(),
        }
        .into(),
        Enrolled {
            workspace: t(),
            uid: t(),
        }
        .into(),
        HostCertificateSeen {
            workspace: t(),
            uid: t(),
            serial: 9,
            key_id: t(),
            authority: t(),
            valid_before: 1_767_225_600,
        }
        .into(),
        GatewayStopped {}.into(),
        SessionKilled {
            session,
            by: t(),
            reason: t(),
        }
        .into(),
        Locked {
            kind: t(),
            name: t(),
            by: t(),
            reason: t(),
        }
        .into(),
        Unlocked {
            kind: t(),
            name: t(),
            by: t(),
        }
        .into(),
        RecheckSuspended { issuer: t(), why: t() }.into(),
        LoggedOut {
            issuer: t(),
            subject: Some(t()),
            login_session: None,
            sessions: 1,
        }
        .into(),
        Reconciled {
            session,
            agent_client_bytes: 1,
            agent_agent_bytes: 2,
            gateway_client_bytes: 3,
            gateway_agent_bytes: 4,
            agree: false,
        }
        .into(),
        Anchored {
            log: t(),
            size: 3,
            sha256: [3; 32],
            bytes: 4,
        }
        .into(),
        RecordingDeleted {
            session,
            why: t(),
            keep_until: 1_767_225_599_123,
            link: [4; 32],
        }
        .into(),
        HoldPlaced {
            session,
            by: t(),
            reason: t(),
        }
        .into(),
        HoldReleased { session, by: t() }.into(),
        WorkspaceWoken {
            user: t(),
            workspace: t(),
            how: t(),
            client_address: t(),
        }
        .into(),
        WorkspaceKept {
            user: t(),
            workspace: t(),
            workspace_uid: t(),
            until: 1_767_225_599_123,
            client_address: t(),
        }
        .into(),
        KeepReleased {
            user: t(),
            workspace: t(),
            workspace_uid: t(),
            client_address: t(),
        }
        .into(),
        EndAnnounced {
            session,
            ends: 1_767_225_599_123,
            why: t(),
        }
        .into(),
        BreakGlass {
            session,
            user: t(),
            workspace: t(),
            reason: t(),
        }
        .into(),
        EnrolRefused {
            workspace: t(),
            uid: t(),
            code: t(),
            detail: t(),
        }
        .into(),
        AccessLent {
            session,
            namespace: t(),
            name: t(),
            uid: t(),
            generation: 1,
            role: t(),
        }
        .into(),
        ClockDoubted {
            clock: 1_767_225_599_123,
            believed: 1_767_225_599_123,
            held_back: 2,
        }
        .into(),
        ClockBelieved {
            clock: 1_767_225_599_123,
            believed: 1_767_225_599_123,
            why: t(),
        }
        .into(),
    ];
    let recorded = recorded.into_iter().map(|event| (true, event));
    recorded
        .chain(journal.into_iter().map(|event| (false, event)))
        .collect()
}
