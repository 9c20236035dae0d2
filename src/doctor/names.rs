//! Whether programs find `*.localhost` on this machine.
//!
//! RFC 6761 §6.3 says that every name under `localhost` is this machine. Browsers and curl see to that themselves, most
//! others ask the system, and the system of many machines asks a name server that knows nothing.

use std::{
    io::Read,
    net::{IpAddr, ToSocketAddrs},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::{Fact, Finding, listed};
use crate::{
    config::{Config, HostMatch, OWN_HOST},
    diagnostic::without_number,
};

const CHECK: &str = "names";

/// Longer than any of them takes, unless a name server is asked that does not answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A few stand for all: what is missing for one is missing for the next.
const MOST_NAMES: usize = 8;

const BROWSERS: &str = "Chromium and Firefox know every name under localhost by themselves, Safari asks the system";

/// What curl ends with where it cannot find a host.
const CURL_NOT_FOUND: i32 = 6;

/// Prints the addresses, or ends with another code than 0. `-I`: no file of the current folder is run.
const PYTHON: [&str; 3] = [
    "-I",
    "-c",
    "import socket, sys; print(*[i[4][0] for i in socket.getaddrinfo(sys.argv[1], 80, type=socket.SOCK_STREAM)])",
];

const NODE: [&str; 2] = [
    "-e",
    "require('dns').lookup(process.argv[1], { all: true }, (e, all) => \
     e ? process.exit(1) : console.log(all.map((a) => a.address).join(' ')))",
];

/// Who was asked for what, and what came.
#[derive(Debug)]
pub(super) struct Names {
    asked: Vec<String>,
    answers: Vec<Answer>,
    system: System,
}

#[derive(Debug)]
struct Answer {
    asker: &'static str,
    name: String,
    /// Empty: it is not found. `Absent`: the asker is not installed.
    found: Fact<Vec<IpAddr>>,
}

/// How names are mended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    Debian,
    Linux,
    Other,
}

/// The names of the table's routes under `localhost`, or that of our own pages.
pub(super) fn asked_for(config: Option<&Config>) -> Vec<String> {
    let routes = config.map_or(&[][..], |config| &config.routes);
    let hosts = routes.iter().flat_map(|route| &route.matches.hosts).filter_map(|host| match host {
        HostMatch::Exact(name) if name.ends_with(".localhost") => Some(name.clone()),
        HostMatch::Exact(_) | HostMatch::Wildcard(_) | HostMatch::AnyLocal => None,
    });
    let mut names: Vec<String> = hosts.collect();
    names.sort();
    names.dedup();
    names.truncate(MOST_NAMES);
    if names.is_empty() { vec![OWN_HOST.into()] } else { names }
}

/// Asks the system for every name, and programs for the first, all at once. `port` is one of ours on loopback, for curl,
/// which must connect to tell anything.
pub(super) fn look(asked: Vec<String>, port: Option<u16>) -> Names {
    let first = asked.first().map_or(OWN_HOST, String::as_str);
    let answers = thread::scope(|scope| {
        let answer = |asker, name: &str, found| Answer { asker, name: name.to_owned(), found };
        let system = asked.iter().map(|name| scope.spawn(move || answer("the system", name, ask_system(name))));
        let mut threads: Vec<_> = system.collect();
        threads.push(scope.spawn(move || answer("node", first, ask_program("node", &NODE, first))));
        threads.push(scope.spawn(move || answer("python3", first, ask_program("python3", &PYTHON, first))));
        threads.push(scope.spawn(move || answer("curl", first, ask_curl(first, port))));
        // A thread that has panicked has nothing to tell.
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    Names { asked, answers, system: System::here() }
}

impl System {
    fn here() -> Self {
        match () {
            () if Path::new("/etc/debian_version").exists() => Self::Debian,
            () if cfg!(target_os = "linux") => Self::Linux,
            () => Self::Other,
        }
    }
}

/// What the C library says, which most programs ask. It has no limit of its own, so its thread is left behind.
fn ask_system(name: &str) -> Fact<Vec<IpAddr>> {
    let (sender, answer) = mpsc::channel();
    let name = name.to_owned();
    thread::spawn(move || {
        let found = (name.as_str(), 80).to_socket_addrs();
        // Nobody waits any longer for an answer that is late.
        let _ = sender.send(found.map_or_else(|_| Vec::new(), |found| found.map(|address| address.ip()).collect()));
    });
    answer.recv_timeout(PATIENCE).map_or_else(|_| no_answer(), Fact::Known)
}

fn ask_program(program: &str, arguments: &[&str], name: &str) -> Fact<Vec<IpAddr>> {
    match run(Command::new(program).args(arguments).arg(name)) {
        Fact::Known(Said { code: Some(0), out }) => addresses(&out),
        Fact::Known(_) => Fact::Known(Vec::new()),
        Fact::Unknown(why) => Fact::Unknown(why),
        Fact::Absent => Fact::Absent,
    }
}

fn ask_curl(name: &str, port: Option<u16>) -> Fact<Vec<IpAddr>> {
    let Some(port) = port else { return Fact::Unknown("there is no loopback address to connect to".into()) };
    // `-q`: no configuration of the user's changes what is asked.
    let arguments = ["-q", "-s", "-o", "/dev/null", "--noproxy", "*", "--max-time", "2", "-w", "%{remote_ip}"];
    match run(Command::new("curl").args(arguments).arg(format!("http://{name}:{port}/"))) {
        Fact::Known(Said { code: Some(CURL_NOT_FOUND), .. }) => Fact::Known(Vec::new()),
        // Whatever became of the connection, it says where it went.
        Fact::Known(Said { out, .. }) => addresses(&out),
        Fact::Unknown(why) => Fact::Unknown(why),
        Fact::Absent => Fact::Absent,
    }
}

fn addresses(said: &str) -> Fact<Vec<IpAddr>> {
    let found: Vec<IpAddr> = said.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
    if found.is_empty() { Fact::Unknown("it named no address".into()) } else { Fact::Known(found) }
}

fn no_answer<T>() -> Fact<T> {
    Fact::Unknown(format!("no answer within {} s", PATIENCE.as_secs()))
}

struct Said {
    code: Option<i32>,
    out: String,
}

/// Runs a program to its end, or to the end of patience.
fn run(command: &mut Command) -> Fact<Said> {
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Fact::Absent,
        Err(error) => return Fact::Unknown(without_number(&error)),
    };
    let (sender, output) = mpsc::channel();
    let stdout = child.stdout.take();
    thread::spawn(move || {
        let mut out = Vec::new();
        // What was read before a failure is all there is.
        let _ = stdout.map(|mut stdout| stdout.read_to_end(&mut out));
        // Nobody waits any longer for an answer that is late.
        let _ = sender.send(out);
    });
    let out = output.recv_timeout(PATIENCE);
    if out.is_err() {
        // It may just have ended by itself.
        let _ = child.kill();
    }
    match (child.wait(), out) {
        (Ok(status), Ok(out)) => {
            Fact::Known(Said { code: status.code(), out: String::from_utf8_lossy(&out).into_owned() })
        }
        (Err(error), _) => Fact::Unknown(without_number(&error)),
        (_, Err(_)) => no_answer(),
    }
}

/// Who finds the names here, who elsewhere, who not at all, and who said nothing.
pub(super) fn examine(names: &Names) -> Vec<Finding> {
    let (mut well, mut elsewhere, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    let mut findings = Vec::new();
    for answer in &names.answers {
        match &answer.found {
            Fact::Known(found) if found.is_empty() => missing.push(answer),
            Fact::Known(found) if found.iter().all(|ip| ip.to_canonical().is_loopback()) => well.push(answer),
            Fact::Known(_) => elsewhere.push(answer),
            Fact::Unknown(why) => {
                findings.push(Finding::unknown(CHECK, &format!("whether {} finds {}", answer.asker, answer.name), why));
            }
            Fact::Absent => {}
        }
    }
    // Whoever misses one name is not praised for another.
    well.retain(|answer| !missing.iter().chain(&elsewhere).any(|other| other.asker == answer.asker));
    let mut told = Vec::new();
    if !well.is_empty() {
        told.push(Finding::ok(CHECK, sentence(&well, "here")).note(BROWSERS));
    }
    if !elsewhere.is_empty() {
        told.push(word_elsewhere(names, &elsewhere));
    }
    if !missing.is_empty() {
        told.push(word_missing(names, &missing));
    }
    told.append(&mut findings);
    told
}

/// `curl and node find web.localhost here`
fn sentence(answers: &[&Answer], how: &str) -> String {
    let askers = listed(answers.iter().map(|answer| answer.asker));
    let find = if askers.contains(" and ") { "find" } else { "finds" };
    format!("{askers} {find} {} {how}", listed(answers.iter().map(|answer| &answer.name)))
}

fn word_elsewhere(names: &Names, answers: &[&Answer]) -> Finding {
    let addresses = answers.iter().flat_map(|answer| match &answer.found {
        Fact::Known(found) => found.as_slice(),
        Fact::Unknown(_) | Fact::Absent => &[],
    });
    let strangers = listed(addresses.filter(|ip| !ip.to_canonical().is_loopback()));
    Finding::problem(CHECK, sentence(answers, &format!("at {strangers}, which is not this machine")))
        .note("a name server answers for names that RFC 6761 keeps for the machine itself")
        .help(format!("`{}`", names.hosts_command()))
}

fn word_missing(names: &Names, answers: &[&Answer]) -> Finding {
    let askers = listed(answers.iter().map(|answer| answer.asker));
    let verb = if askers.contains(" and ") { "do" } else { "does" };
    let missed = listed(answers.iter().map(|answer| &answer.name));
    let finding = Finding::warning(CHECK, format!("{askers} {verb} not find {missed}"))
        .note("most programs ask the system: Python, Node, Java, Go, psql; a route by path needs no name");
    let by_hand = format!("or these names alone, in /etc/hosts: `{}`", names.hosts_line());
    match names.system {
        System::Debian => finding.note(by_hand).help("`sudo apt install libnss-myhostname`"),
        System::Linux => {
            finding.note(by_hand).help("write `myhostname` behind `files` in the line `hosts:` of /etc/nsswitch.conf")
        }
        System::Other => finding.help(format!("`{}`", names.hosts_command())),
    }
}

impl Names {
    /// Marked, so that it is found again.
    fn hosts_line(&self) -> String {
        format!("127.0.0.1 {}  # portolan", self.asked.join(" "))
    }

    fn hosts_command(&self) -> String {
        format!("echo '{}' | sudo tee -a /etc/hosts", self.hosts_line())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Verdict, table},
        *,
    };

    const WEB: &str = "web.localhost";

    fn found(addresses: &[&str]) -> Fact<Vec<IpAddr>> {
        Fact::Known(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }

    fn told(answers: Vec<(&'static str, Fact<Vec<IpAddr>>)>, system: System) -> Vec<Finding> {
        let answers = answers.into_iter().map(|(asker, found)| Answer { asker, name: WEB.into(), found }).collect();
        examine(&Names { asked: vec![WEB.into()], answers, system })
    }

    #[test]
    fn whoever_finds_the_name_here_is_well() {
        let told = told(
            vec![("the system", found(&["::1", "127.0.0.1"])), ("curl", found(&["127.0.0.1"])), ("node", Fact::Absent)],
            System::Linux,
        );
        let expected = Finding::ok("names", "the system and curl find web.localhost here").note(BROWSERS);
        assert_eq!(told, [expected]);
    }

    #[test]
    fn a_name_that_is_not_found_is_a_warning_with_the_package_that_knows_it() {
        let answers = || vec![("the system", found(&[])), ("curl", found(&["127.0.0.1"])), ("node", found(&[]))];
        let told_debian = told(answers(), System::Debian);
        let [well, missing] = told_debian.as_slice() else { panic!("{told_debian:?}") };
        assert_eq!((well.verdict, well.message.as_str()), (Verdict::Ok, "curl finds web.localhost here"));
        let expected = (Verdict::Warning, "the system and node do not find web.localhost");
        assert_eq!((missing.verdict, missing.message.as_str()), expected);
        assert_eq!(missing.notes[1], "or these names alone, in /etc/hosts: `127.0.0.1 web.localhost  # portolan`");
        assert_eq!(missing.help.as_deref(), Some("`sudo apt install libnss-myhostname`"));

        let help = |system| told(answers(), system).remove(1).help.unwrap();
        assert!(help(System::Linux).contains("/etc/nsswitch.conf"));
        assert_eq!(help(System::Other), "`echo '127.0.0.1 web.localhost  # portolan' | sudo tee -a /etc/hosts`");
    }

    #[test]
    fn a_name_that_leads_to_another_machine_is_a_problem() {
        let told = told(vec![("the system", found(&["203.0.113.7"]))], System::Debian);
        assert_eq!(told[0].verdict, Verdict::Problem);
        assert_eq!(told[0].message, "the system finds web.localhost at 203.0.113.7, which is not this machine");
        assert!(told[0].help.as_deref().unwrap().starts_with("`echo '127.0.0.1 web.localhost "), "{told:?}");
    }

    #[test]
    fn whoever_says_nothing_is_named_with_the_reason() {
        let told = told(vec![("curl", no_answer())], System::Debian);
        assert_eq!(told[0].verdict, Verdict::Warning);
        assert_eq!(told[0].message, "whether curl finds web.localhost cannot be told: no answer within 3 s");
    }

    #[test]
    fn the_names_are_those_of_the_table_or_our_own() {
        let town = table(
            "[routes]\nweb = { path = \"/\", to = 1 }\ndocs = 4000\nblog = 4001\nx = { host = \"x.test\", to = 2 }\n",
        );
        assert_eq!(asked_for(Some(&town)), ["blog.localhost", "docs.localhost"]);
        assert_eq!(asked_for(None), ["portolan.localhost"]);
    }

    #[test]
    fn a_program_that_is_not_installed_is_no_finding() {
        assert!(matches!(ask_program("portolan-no-such-program", &[], WEB), Fact::Absent));
        assert_eq!(told(vec![("node", Fact::Absent)], System::Linux), []);
    }

    #[test]
    fn a_program_says_addresses_or_ends_with_another_code() {
        assert_eq!(ask_program("sh", &["-c", "echo 127.0.0.1 ::1"], WEB), found(&["127.0.0.1", "::1"]));
        assert_eq!(ask_program("sh", &["-c", "echo 127.0.0.1; exit 1"], WEB), found(&[]));
        assert!(matches!(ask_program("sh", &["-c", "echo here"], WEB), Fact::Unknown(_)));
    }
}
