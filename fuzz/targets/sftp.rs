//! SFTP: a client's packets, and what the agent is told by the process that serves them.
#![no_main]

use doorward_agent::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| match input.split_first() {
    Some((0, packets)) => fuzzing::sftp_requests(packets),
    Some((step, reports)) => fuzzing::sftp_reports(reports, usize::from(*step)),
    None => {}
});
