//! `doorward ls`: the workspaces that the person may enter, how they stand, and when they were used last.

use std::io::{IsTerminal as _, stdout};

use doorward_audit::printable;
use jiff::Timestamp;
use terminal_size::{Width, terminal_size_of};

use crate::cli::JsonArgs;
use crate::error::Error;
use crate::gateway::{Gateway, Workspace, Workspaces};
use crate::home::Home;
use crate::home::settings::Settings;
use crate::{login, say};

/// Lists the workspaces that the person may enter.
pub(crate) async fn list(home: &Home, args: &JsonArgs) -> Result<(), Error> {
    let settings = Settings::read(home)?;
    let gateway = Gateway::configured(home, &settings)?;
    let pass = login::pass(home, &settings).await?;
    let found = gateway.workspaces(&pass).await?;
    if args.json {
        return say::print_json(&found.workspaces);
    }
    if found.workspaces.is_empty() {
        say::note("there is no workspace that you may enter");
        say::line("hint: doorward status says which groups and roles you have; your platform team gives them");
    }
    let width = stdout()
        .is_terminal()
        .then(|| terminal_size_of(stdout()).map_or(80, |(Width(columns), _)| columns.into()));
    say::print(&table(&found, Timestamp::now(), width))
}

/// A column: its head, how much it is worth (the least goes first where there is no room), its cells.
struct Column {
    head: &'static str,
    worth: u8,
    cells: Vec<String>,
}

/// The table, no wider than the terminal if that can be.
fn table(found: &Workspaces, now: Timestamp, width: Option<usize>) -> String {
    let column = |head, worth, cell: &dyn Fn(&Workspace) -> String| Column {
        head,
        worth,
        cells: found.workspaces.iter().map(cell).collect(),
    };
    let all = [
        column("NAME", 9, &|one| one.name.clone()),
        column("OWNER", 3, &|one| owner(one, found.user.as_deref())),
        column("STATE", 9, &state),
        column("LAST USE", 5, &|one| moment(one.last_use.as_deref(), now)),
        column("UNTIL", 7, &|one| until(one, now)),
        column("AGENT", 1, &|one| one.agent_version.clone().unwrap_or_default()),
    ];
    // What nobody has is no column; the two that say what there is always are.
    let mut kept: Vec<Column> = all
        .into_iter()
        .filter(|column| column.worth == 9 || column.cells.iter().any(|cell| !cell.is_empty()))
        .collect();
    if let Some(width) = width {
        while total(&kept) > width
            && let Some(least) = kept.iter().map(|column| column.worth).filter(|worth| *worth < 9).min()
        {
            kept.retain(|column| column.worth != least);
        }
        let over = total(&kept).saturating_sub(width);
        if over > 0
            && let Some(states) = kept.iter_mut().find(|column| column.head == "STATE")
        {
            let room = widest(states).saturating_sub(over).max(states.head.len());
            states.cells.iter_mut().for_each(|cell| shorten(cell, room));
        }
    }
    let heads: Vec<&str> = kept.iter().map(|column| column.head).collect();
    let row = |place: usize| kept.iter().map(|column| column.cells[place].clone()).collect();
    let rows: Vec<Vec<String>> = (0..found.workspaces.len()).map(row).collect();
    say::table(&heads, &rows)
}

fn widest(column: &Column) -> usize {
    let cells = column
        .cells
        .iter()
        .map(|cell| printable(cell.as_bytes()).chars().count());
    cells.chain([column.head.len()]).max().unwrap_or(0)
}

fn total(columns: &[Column]) -> usize {
    columns
        .iter()
        .map(|column| widest(column) + 2)
        .sum::<usize>()
        .saturating_sub(2)
}

/// Cuts a cell so that what is shown of it has so many characters.
fn shorten(cell: &mut String, room: usize) {
    let shown = |text: &str| printable(text.as_bytes()).chars().count();
    if shown(cell) <= room {
        return;
    }
    while !cell.is_empty() && shown(cell) + 1 > room {
        cell.pop();
    }
    cell.push('…');
}

fn owner(one: &Workspace, me: Option<&str>) -> String {
    match &one.owner {
        Some(owner) if me != Some(owner) => owner.clone(),
        _ => String::new(),
    }
}

fn state(one: &Workspace) -> String {
    match &one.reason {
        Some(reason) => format!("{}: {reason}", one.state),
        None => one.state.clone(),
    }
}

/// A moment in the past as people say it; as it came, where it is none.
fn moment(text: Option<&str>, now: Timestamp) -> String {
    let Some(text) = text else { return String::new() };
    let Ok(at) = text.parse::<Timestamp>() else {
        return text.to_owned();
    };
    let seconds = now.as_second().saturating_sub(at.as_second());
    if seconds < 60 {
        "just now".to_owned()
    } else {
        format!("{} ago", roughly(seconds))
    }
}

/// Until when it is kept awake, and when it is stopped: of the two the later is not said where the other makes it void.
fn until(one: &Workspace, now: Timestamp) -> String {
    let left = |text: &Option<String>| {
        let at = text.as_deref()?.parse::<Timestamp>().ok()?;
        Some(at.as_second().saturating_sub(now.as_second()))
    };
    let (kept, stops) = (left(&one.keep_until).filter(|left| *left > 0), left(&one.stops_at));
    let kept = kept.filter(|kept| stops.is_none_or(|stops| *kept < stops));
    let stops = stops.map(|left| match left > 0 {
        true => format!("stops in {}", roughly(left)),
        false => "being stopped".to_owned(),
    });
    let kept = kept.map(|left| format!("kept for {}", roughly(left)));
    [kept, stops].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A length of time in one unit, or two where the first says little.
pub(crate) fn roughly(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..36_000 if seconds / 60 % 60 > 0 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }

    fn found() -> Workspaces {
        serde_json::from_value(serde_json::json!({
            "user": "bob",
            "workspaces": [
                { "name": "devenv-0", "login": "node", "owner": "bob", "state": "running",
                  "last-use": "2026-06-01T08:59:00Z", "keep-until": "2026-06-01T14:30:00Z", "agent-version": "0.1.0" },
                { "name": "devenv-1", "login": "node", "owner": "al\u{1b}[2Jice", "state": "failed",
                  "reason": "its image\ncannot be pulled", "keep-until": "2026-06-01T11:00:00Z" },
                { "name": "devenv-2", "login": "node", "state": "asleep", "last-use": "no time" },
            ],
        }))
        .unwrap()
    }

    #[test]
    fn everything_is_there_where_there_is_room_and_nothing_hostile() {
        let text = table(&found(), now(), None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["NAME", "OWNER", "STATE", "LAST", "USE", "UNTIL", "AGENT"]
        );
        assert!(
            lines[1].contains("running") && lines[1].contains("3 h 1 min ago"),
            "{text}"
        );
        assert!(
            lines[1].contains("kept for 2 h 30 min") && lines[1].ends_with("0.1.0"),
            "{text}"
        );
        assert!(!lines[1].contains("bob"), "one's own name says nothing: {text}");
        assert!(
            lines[2].contains(r"al\x1b[2Jice") && !lines[2].contains("kept"),
            "{text}"
        );
        assert!(lines[3].contains("asleep") && lines[3].contains("no time"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_loses_the_least_first_and_is_never_overrun() {
        for width in [200, 90, 70, 50, 40, 30] {
            let text = table(&found(), now(), Some(width));
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= width, "{width}: {text}");
            assert!(text.contains("devenv-1") && text.contains("failed"), "{width}: {text}");
        }
        assert!(!table(&found(), now(), Some(90)).contains("AGENT"));
        assert!(table(&found(), now(), Some(70)).contains("UNTIL"));
    }

    #[test]
    fn what_no_workspace_has_is_no_column() {
        let mut found = found();
        found.workspaces.truncate(1);
        found.workspaces[0].last_use = None;
        found.workspaces[0].keep_until = None;
        assert_eq!(
            table(&found, now(), None),
            "NAME      STATE    AGENT\ndevenv-0  running  0.1.0\n"
        );
        found.workspaces.clear();
        assert_eq!(table(&found, now(), Some(10)), "NAME  STATE\n");
    }

    #[test]
    fn the_end_that_comes_first_is_the_one_that_counts() {
        let said = |kept: Option<&str>, stops: Option<&str>| {
            let mut one = found().workspaces.remove(2);
            let at = |text: &str| format!("2026-06-01T{text}:00Z");
            (one.keep_until, one.stops_at) = (kept.map(at), stops.map(at));
            until(&one, now())
        };
        assert_eq!(said(Some("14:00"), None), "kept for 2 h");
        assert_eq!(said(Some("14:00"), Some("15:00")), "kept for 2 h, stops in 3 h");
        assert_eq!(said(Some("14:00"), Some("12:40")), "stops in 40 min");
        assert_eq!(said(Some("11:00"), Some("11:00")), "being stopped");
        assert_eq!(said(None, None), "");
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        for (seconds, text) in [
            (0, "0 s"),
            (60, "1 min"),
            (3600, "1 h"),
            (3660, "1 h 1 min"),
            (86_400, "24 h"),
            (172_800, "2 d"),
        ] {
            assert_eq!(roughly(seconds), text);
        }
        assert_eq!(moment(Some("2026-06-01T12:00:30Z"), now()), "just now");
    }
}
