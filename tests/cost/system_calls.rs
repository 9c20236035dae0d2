//! What a keep-alive request asks of the kernel: two reads, two writes, and a share of the waiting.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    alone,
    folder::Folder,
    leave_out,
    load::{Buffer, Exchange, connect},
    program::{Lines, Portolan, tell},
};

/// Connections that ask at the same time, each as soon as it has its answer.
const CONNECTIONS: usize = 64;

/// So many times each of them asks.
const TIMES: usize = 100;

/// System calls of a request, at most.
const MOST: f64 = 5.0;

/// A request and an answer are each read and written once at least: whoever counts fewer calls has not looked everywhere.
const LEAST: f64 = 4.0;

#[test]
fn a_request_among_64_connections_takes_no_more_than_5_system_calls() {
    const TEST: &str = "a_request_among_64_connections_takes_no_more_than_5_system_calls";
    let _alone = alone();
    if Command::new("strace").arg("--version").output().is_err() {
        return leave_out(TEST, "needs strace: run tests/partners/setup");
    }
    let exchange = Arc::new(Exchange::small());
    let route = format!("/={}", exchange.origin());
    let folder = Folder::new();
    let portolan = Portolan::serve(&folder, &["-q", &route]);
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| connect(portolan.address())).collect();
    let ask_all = |times| {
        thread::scope(|scope| {
            for client in &clients {
                let exchange = &exchange;
                scope.spawn(move || {
                    let mut buffer = Buffer::new();
                    for _ in 0..times {
                        exchange.ask(client);
                        exchange.take(client, &mut buffer);
                    }
                });
            }
        });
    };

    // Connections to the program are made, and whatever else is made once.
    ask_all(2);
    match count(portolan.pid(), &folder.file("calls"), || ask_all(TIMES)) {
        Ok(table) => {
            let each = calls(&table) as f64 / (CONNECTIONS * TIMES) as f64;
            tell(format_args!("{each:.2} system calls for a request among {CONNECTIONS} connections"));
            assert!(each <= MOST, "{each:.2} system calls for a request:\n{table}");
            assert!(each >= LEAST, "not all of its threads were counted:\n{table}");
        }
        Err(refusal) => leave_out(TEST, refusal),
    }
}

/// What strace counts in a process meanwhile, or its words when it may not look into another process.
fn count(pid: u32, table: &Path, work: impl FnOnce()) -> Result<String, String> {
    let mut command = Command::new("strace");
    command.args(["-c", "-f", "-p", &pid.to_string(), "-o"]).arg(table);
    let mut strace = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let said = Lines::of(strace.stderr.take().unwrap());
    let begun = said.wait_for(|line| line.contains("attach"));
    let is_attached = begun.contains(" attached");
    if is_attached {
        work();
        kill_process(Pid::from_child(&strace), Signal::INT).unwrap();
    }
    strace.wait().unwrap();
    if is_attached { Ok(fs::read_to_string(table).unwrap()) } else { Err(said.wait_for_end().join("\n")) }
}

/// The sum of the fourth column, which is that of the calls.
fn calls(table: &str) -> u64 {
    let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let of_a_call = |columns: &Vec<String>| {
        columns.len() >= 5 && columns[0].parse::<f64>().is_ok() && columns.last().is_some_and(|name| name != "total")
    };
    table.lines().map(columns).filter(of_a_call).map(|columns| columns[3].parse::<u64>().unwrap()).sum()
}

#[test]
fn the_table_of_strace_is_summed_without_its_total() {
    let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           3       200        12 read
 40.00    0.000400           4       100           write
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           3       300        12 total
";
    assert_eq!(calls(table), 300);
}
