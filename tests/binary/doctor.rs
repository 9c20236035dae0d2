//! `portolan doctor`: what it finds on a machine, what it advises, and that it changes nothing.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    client::until,
    folder::Folder,
    program::{Portolan, Said, portolan, run},
};

/// `doctor` on a machine whose programs and whose runtime folder are the test's own.
fn doctor(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = portolan(folder, &[&["doctor"], arguments].concat());
    for variable in ["DOCKER_HOST", "CONTAINER_HOST"] {
        command.env_remove(variable);
    }
    command.env("XDG_RUNTIME_DIR", folder.path()).env("PATH", folder.file("bin"));
    command
}

fn examined(folder: &Folder, arguments: &[&str]) -> Said {
    run(doctor(folder, arguments))
}

/// The findings of one check, and the exit code.
fn findings(folder: &Folder, arguments: &[&str], check: &str) -> (Vec<Value>, i32) {
    let said = examined(folder, &[&["--json"], arguments].concat());
    assert_eq!(said.err, "");
    let answer: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out));
    let all = answer["findings"].as_array().unwrap();
    (all.iter().filter(|finding| finding["check"] == check).cloned().collect(), said.code)
}

/// A program of that name that does what the lines say.
fn write_program(folder: &Folder, name: &str, lines: &str) {
    let path = folder.write(&format!("bin/{name}"), format!("#!/bin/sh\n{lines}\n"));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn taken() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_taken_port_is_a_problem_that_names_its_owner_and_the_command_that_mends_it() {
    let (_listener, address) = taken();
    let (folder, pid) = (Folder::new(), std::process::id());
    let held = format!("{address} is held by `");
    let mut finding = Value::Null;
    // For a moment, a command that another test starts holds what we hold, and may be taken for its owner.
    until("this process is told as the owner", || {
        let (found, code) = findings(&folder, &["--listen", &address.to_string()], "listen");
        assert_eq!(code, 1);
        finding = found[0].clone();
        finding["help"] == format!("end it with `kill {pid}`")
    });
    let message = finding["message"].as_str().unwrap();
    let place = format!("(pid {pid}) in {}, since ", std::env::current_dir().unwrap().display());
    assert!(message.starts_with(&held) && message.contains(&place), "{message}");
    assert_eq!((&finding["verdict"], &finding["notes"]), (&json!("problem"), &json!(["the proxy cannot start"])));
}

#[test]
fn a_free_port_is_well() {
    let (found, _) = findings(&Folder::new(), &["--listen", "127.0.0.1:1"], "listen");
    let expected = json!({
        "check": "listen", "verdict": "ok", "message": "127.0.0.1:1 is free", "notes": [], "help": null,
    });
    assert_eq!(found, [expected]);
}

#[test]
fn a_proxy_that_runs_already_is_no_fault() {
    let proxy = Portolan::serve(&Folder::new(), &["/=1"]);
    let (found, _) = findings(&Folder::new(), &["--listen", &proxy.address().to_string()], "listen");
    assert_eq!(found[0]["verdict"], "ok");
    let message = found[0]["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("a portolan serves on {}: `", proxy.address())), "{message}");
    assert!(message.contains(&format!("(pid {})", proxy.pid())), "{message}");
}

#[test]
fn a_name_that_leads_elsewhere_is_a_problem_and_the_exit_code_says_so() {
    let folder = Folder::new();
    write_program(&folder, "node", "echo 203.0.113.7");
    write_program(&folder, "python3", "echo ::1 127.0.0.1");
    let (found, code) = findings(&folder, &["--listen", "127.0.0.1:0"], "names");
    let problems: Vec<_> = found.iter().filter(|finding| finding["verdict"] == "problem").collect();
    let [problem] = problems[..] else { panic!("{found:?}") };
    assert_eq!(
        (problem["message"].as_str(), code),
        (Some("node finds portolan.localhost at 203.0.113.7, which is not this machine"), 1)
    );
    let well = found.iter().find(|finding| finding["verdict"] == "ok").unwrap();
    assert!(well["message"].as_str().unwrap().contains("python3 find"), "{well}");
}

#[test]
fn a_program_that_does_not_end_is_not_waited_for() {
    let folder = Folder::new();
    write_program(&folder, "node", "exec /usr/bin/tail -f /dev/null");
    let (found, _) = findings(&folder, &["--listen", "127.0.0.1:0"], "names");
    let expected = "whether node finds portolan.localhost cannot be told: no answer within 3 s";
    assert!(found.iter().any(|finding| finding["message"] == expected), "{found:?}");
}

#[test]
fn a_target_that_nobody_listens_at_is_a_warning_and_no_failure() {
    let (_met, met) = taken();
    let table = format!("listen = \"127.0.0.1:0\"\n[routes]\nweb = {}\ndocs = 1\n", met.port());
    let (found, _) = findings(&Folder::with_table(table), &[], "targets");
    let verdicts: Vec<_> = found.iter().map(|finding| finding["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["ok", "warning"], "{found:?}");
    assert!(found[0]["notes"][0].as_str().unwrap().starts_with(&format!("`web` -> :{}: `", met.port())), "{found:?}");
    assert_eq!(found[1]["message"], "nothing listens at :1, where `docs` leads");
}

#[test]
fn a_table_with_errors_is_a_problem_and_everything_else_is_looked_at() {
    let said = examined(&Folder::with_table("[routes]\nweb = { tagret = 1 }\n"), &[]);
    assert_eq!(said.code, 1);
    assert!(said.out.starts_with("problem  table: the table has "), "{}", said.out);
    assert!(said.out.contains("= help: see what is wrong with `portolan check`\n"), "{}", said.out);
    assert!(said.out.contains("\nok       files: ") || said.out.contains("\nwarning  files: "), "{}", said.out);
}

#[test]
fn what_a_crash_left_behind_is_told_and_left_there() {
    let folder = Folder::new();
    let stale = folder.write("portolan/1.sock", "");
    fs::remove_file(&stale).unwrap();
    drop(UnixListener::bind(&stale).unwrap());
    fs::set_permissions(folder.file("portolan"), fs::Permissions::from_mode(0o755)).unwrap();
    let (found, code) = findings(&folder, &["--listen", "127.0.0.1:0"], "runtime");
    let helps: Vec<_> = found.iter().map(|finding| finding["help"].as_str().unwrap()).collect();
    let path = folder.file("portolan").display().to_string();
    assert_eq!((helps, code), (vec![&*format!("`chmod 700 {path}`"), &*format!("`rm {path}/1.sock`")], 1));
    assert!(stale.exists());
    let mode = fs::metadata(folder.file("portolan")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}

#[test]
fn nothing_is_made_that_was_not_there() {
    let folder = Folder::new();
    examined(&folder, &["--listen", "127.0.0.1:0"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn every_check_says_something_of_this_machine() {
    let folder = Folder::with_table("[routes]\nweb = 1\n");
    let said = examined(&folder, &["--json"]);
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    let mut checks: Vec<_> =
        answer["findings"].as_array().unwrap().iter().map(|finding| finding["check"].as_str().unwrap()).collect();
    checks.dedup();
    let told_everywhere = ["table", "names", "listen", "targets", "loopback", "files", "containers", "runtime"];
    checks.retain(|check| told_everywhere.contains(check));
    assert_eq!(checks, told_everywhere);
    let count = |verdict: &str| {
        let findings = answer["findings"].as_array().unwrap();
        findings.iter().filter(|finding| finding["verdict"] == verdict).count()
    };
    assert_eq!(answer["problems"], count("problem"));
    assert_eq!(answer["warnings"], count("warning"));
    assert_eq!(said.code, i32::from(count("problem") > 0));
}

#[test]
fn a_quiet_doctor_tells_faults_only_and_a_plain_one_uses_no_colour() {
    let folder = Folder::with_table("[routes]\nweb = { tagret = 1 }\n");
    let quiet = examined(&folder, &["-q"]).out;
    assert!(quiet.starts_with("problem  table: ") && !quiet.lines().any(|line| line.starts_with("ok ")), "{quiet}");
    assert!(!quiet.contains('\u{1b}'), "{quiet}");
    let mut coloured = doctor(&folder, &[]);
    coloured.env("CLICOLOR_FORCE", "1");
    assert!(run(coloured).out.starts_with("\u{1b}[1;31mproblem "));
    let mut plain = doctor(&folder, &[]);
    plain.envs([("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]);
    assert!(!run(plain).out.contains('\u{1b}'));
}
