//! Debuggers behind `[tcp]` routes: most of them die of a connection that is only tried, and some move after each session.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    alone,
    client::{node, python, run},
    installed::{
        self,
        Tool::{Gdb, Java, Node, Python},
    },
    program::{self, Group, Program},
    proxy::Portolan,
};

/// Where a debugger itself listens, in a network that is the test's alone.
const BEHIND: u16 = 7001;

#[test]
fn debugpy_stops_at_a_breakpoint_twice_because_nobody_connected_to_it_only_to_see() {
    alone::with(&[Python], || {
        let portolan = leads(5678, "7001");
        let debuggee = installed::source("apps/debuggee.py");
        let mut command = program::command(installed::python());
        command.args(["-X", "frozen_modules=off", "-m", "debugpy", "--listen", &format!("127.0.0.1:{BEHIND}")]);
        command.arg(&debuggee);
        let _debugpy = Program::start_on(BEHIND, command, "debuggee runs");

        portolan.looks_at_everything();
        let session = json!({
            "spokeFirst": "event",
            "stopped": "breakpoint",
            "function": "sound",
            "atTheLine": true,
            "depth": "42",
        });
        let report = python("debugpy_attach.py", &["5678", debuggee.to_str().unwrap()]);
        assert_eq!(report, [json!([session, session])]);
    });
}

#[test]
fn gdbserver_serves_its_only_session_because_nobody_connected_to_it_only_to_see() {
    alone::with(&[Gdb], || {
        let portolan = leads(2345, "7001");
        let folder = tempfile::tempdir().unwrap();
        let debuggee = folder.path().join("debuggee");
        run(Command::new("cc").args(["-g", "-o"]).arg(&debuggee).arg(installed::source("apps/debuggee.c")));
        let mut command = program::command("gdbserver");
        command.args(["--once", &format!("127.0.0.1:{BEHIND}")]).arg(&debuggee);
        let _gdbserver = Program::start_on(BEHIND, command, "Listening on port");

        portolan.looks_at_everything();
        let mut gdb = Command::new("gdb");
        gdb.args(["--batch", "--nx", "--nh"]).arg(&debuggee);
        for step in ["target remote 127.0.0.1:2345", "break sound", "continue", "backtrace", "continue"] {
            gdb.args(["-ex", step]);
        }
        let said = run(&mut gdb);
        for sign in ["Breakpoint 1, sound (depth=42)", "in main ()", "exited normally"] {
            assert!(said.contains(sign), "{sign}: {said}");
        }
    });
}

#[test]
fn java_moves_its_debugger_after_each_session_and_the_route_follows() {
    alone::with(&[Java, Python], || {
        let portolan = leads(5005, "{ process = 'java' }");
        let classes = tempfile::tempdir().unwrap();
        run(Command::new("javac").args(["-g", "-d"]).arg(classes.path()).arg(installed::source("apps/Debuggee.java")));
        let mut command = program::command("java");
        command.args(["-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:0", "Debuggee"]);
        command.current_dir(&classes);
        let _java = Group::start(command, |_| {});

        for session in ["first", "second", "third"] {
            portolan.looks_at_everything();
            let expected = json!({ "hit": true, "stack": true, "depth": true });
            assert_eq!(python("jdb.py", &["5005"]), [expected], "in the {session} session");
        }
    });
}

#[test]
fn the_inspector_of_node_is_reached_by_a_tcp_route() {
    alone::with(&[Node], || {
        let _portolan = leads(9229, "7001");
        let _node = inspected();

        for port in [BEHIND, 9229] {
            assert_eq!(node("inspector.cjs", &[&port.to_string(), "127.0.0.1"]), [inspected_report()], "at {port}");
        }
    });
}

#[test]
fn the_inspector_of_node_is_reached_by_an_http_route_that_calls_it_localhost() {
    alone::with(&[Node], || {
        let _node = inspected();
        let portolan = Portolan::serving(&format!(
            "[routes]\ninspector = {{ to = {BEHIND}, rewrite = {{ host = 'localhost' }} }}\nstrange = {BEHIND}\n"
        ));
        let port = portolan.address().port().to_string();

        assert_eq!(node("inspector.cjs", &[&port, "inspector.localhost"]), [inspected_report()]);
        // Why the host has to be another one.
        let [refused] = &node("inspector.cjs", &[&port, "strange.localhost"])[..] else { panic!("one report") };
        assert_eq!(refused["status"], 400);
    });
}

fn leads(port: u16, to: &str) -> Portolan {
    Portolan::serving(&format!("[tcp]\ndebugger = {{ listen = {port}, to = {to}, hold = '60s' }}\n"))
}

fn inspected() -> Program {
    let mut command = program::command("node");
    command.arg(format!("--inspect=127.0.0.1:{BEHIND}")).arg(installed::source("apps/inspected.cjs"));
    Program::start_on(BEHIND, command, "Debugger listening on ws://")
}

fn inspected_report() -> Value {
    json!({ "status": 200, "type": "node", "depth": 42 })
}
