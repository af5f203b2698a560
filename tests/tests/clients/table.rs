//! The matrix as a page of Markdown.

use std::fmt::Write as _;

use crate::probe::Row;

/// The page: a line per client and feature, and which clients were not tried.
pub fn written(rows: &[Row], absent: &[&str]) -> String {
    let mut page = String::from(
        "# Clients\n\nEach client does the same against a stock OpenSSH server and against Doorward, by `tests/clients`;\n\
         `cargo test -p tests --test clients` runs it, `DOORWARD_REGENERATE=1` writes this page.\n\n\
         | client | version | feature | sshd | doorward |\n|---|---|---|---|---|\n",
    );
    for row in rows {
        // a String takes everything
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} |",
            row.client,
            cell(&row.version),
            cell(&row.feature),
            verdict(&row.sshd),
            verdict(&row.doorward)
        );
    }
    page += "\nmosh starts a server by ssh and then speaks UDP to it, which no gateway carries: it is told so and ends.\n\
             Not tried, because they cannot be had as packages: VS Code's own extension and JetBrains' own clients, WinSCP, Cyberduck, Termius.\n\
             What VS Code's extension does is done in its place by `cargo test -p tests --test vscode`, up to VS Code's server used in a browser.\n\
             `doorward open` starts them by the arguments and addresses that they document; its tests look at those, and no editor was there to follow them.\n";
    if !absent.is_empty() {
        let _ = writeln!(page, "\nNot installed in this run: {}.", absent.join(", "));
    }
    page
}

/// What fails with Doorward in a row: the client, the feature and the reason, in one line.
pub fn line(row: &Row) -> String {
    format!("{}: {}: {}", row.client, cell(&row.feature), verdict(&row.doorward))
}

fn verdict(outcome: &Result<(), String>) -> String {
    match outcome {
        Ok(()) => "yes".to_owned(),
        Err(why) => format!("no: {}", cell(why)),
    }
}

fn cell(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '|' => '/',
            control if control.is_control() => ' ',
            other => other,
        })
        .take(LONGEST)
        .collect()
}

/// How many characters of a reason are shown.
const LONGEST: usize = 300;
