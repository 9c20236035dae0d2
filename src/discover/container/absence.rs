//! Why a container's port cannot be dialled, in words: what is really there, and one thing to do next.

use std::{cmp::Reverse, net::SocketAddr, time::SystemTime};

use jiff::Zoned;

use super::{
    super::words,
    Container, Containers, Network, Reach, State, Tool,
    find::{Missed, publisher},
    inside::is_loopback,
};
use crate::diagnostic::printable;

/// How many containers a note lists: a screenful is no answer.
const MOST_LISTED: usize = 8;

/// Why a port of a container cannot be dialled, as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFound {
    /// Its kind.
    pub kind: Missing,
    /// Goes on after `route web -> container web:8080, `: "it is paused".
    pub message: String,
    /// Causes found by looking.
    pub notes: Vec<String>,
    /// One edit or command each.
    pub helps: Vec<String>,
}

/// The kinds of absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is on its way as far as anybody knows: its engine starts it, or its program has not begun to listen.
    Coming,
    /// It is not there, and somebody has to do something about that.
    Gone,
}

impl NotFound {
    fn new(kind: Missing, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), notes: Vec::new(), helps: Vec::new() }
    }

    fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.helps.push(help.into());
        self
    }
}

/// The words for it.
pub(super) fn word(all: &Containers, name: &str, port: u16, missed: &Missed<'_>, now: &Zoned) -> NotFound {
    match missed {
        Missed::NoEngine => no_engine(all),
        Missed::NotAsked => not_asked(all),
        Missed::Unknown => unknown(all, name),
        Missed::Several(containers) => several(containers),
        Missed::Still(container) => still(container, now),
        Missed::Unpublished(container) => unpublished(all, container, port),
        Missed::Passing(container) => passing(container),
        Missed::Deaf(container, sockets) => deaf(container, port, sockets, now),
    }
}

fn no_engine(all: &Containers) -> NotFound {
    if all.engines.is_empty() {
        return NotFound::new(Missing::Gone, "no container engine is there")
            .note("neither Docker nor Podman has a socket where they usually have one, and nothing names another place")
            .help("start one: `sudo systemctl start docker`, or `systemctl --user start podman.socket`")
            .help("or name its socket: `DOCKER_HOST=unix:///path/to.sock`");
    }
    let problem = NotFound::new(Missing::Gone, "no container engine answers").notes(absent_engines(all));
    all.engines.iter().filter_map(|engine| help_of(&engine.place, &engine.state)).fold(problem, NotFound::help)
}

fn not_asked(all: &Containers) -> NotFound {
    let asked = all.engines.iter().filter(|engine| engine.state == Reach::Asked);
    NotFound::new(Missing::Coming, "its engine has not answered yet")
        .notes(asked.map(|engine| format!("{} was asked a moment ago", engine.place)))
        .help("ask again in a moment")
}

fn absent_engines(all: &Containers) -> impl Iterator<Item = String> {
    all.engines.iter().filter_map(|engine| match &engine.state {
        Reach::Absent(trouble) => Some(format!("{}: {trouble}", engine.place)),
        Reach::Asked | Reach::Reached { .. } => None,
    })
}

fn help_of(place: &super::Place, state: &Reach) -> Option<String> {
    match state {
        Reach::Absent(trouble) => Some(trouble.help(place.tool)),
        Reach::Asked | Reach::Reached { .. } => None,
    }
}

fn unknown(all: &Containers, name: &str) -> NotFound {
    let problem = NotFound::new(Missing::Gone, "no container and no compose service goes by that name");
    let mut others: Vec<&Container> = all.list.iter().collect();
    others.sort_by_key(|other| Reverse((resembles(other, name), matches!(other.state, State::Running { .. }))));
    let tool = all.engines.iter().find(|engine| matches!(engine.state, Reach::Reached { .. }));
    let tool = tool.map_or(Tool::Docker, |engine| engine.place.tool);
    let start = format!("start it: `{tool} compose up -d`, or `{tool} run --name {} ..`", printable(name));
    if others.is_empty() {
        return problem.note("the engines have no container at all").notes(absent_engines(all)).help(start);
    }
    let there = format!("there are {}", listed(&others));
    problem.note(there).notes(absent_engines(all)).help(format!("{start}; or name one that is there"))
}

/// Whether one name is in the other: `db` and `shop-db-1`.
fn resembles(container: &Container, name: &str) -> bool {
    let service = container.compose.as_ref().map_or("", |compose| compose.service.as_str());
    let alike = |own: &str| !own.is_empty() && (own.contains(name) || name.contains(own));
    alike(&container.name) || alike(service)
}

fn listed(containers: &[&Container]) -> String {
    let shown: Vec<String> = containers
        .iter()
        .take(MOST_LISTED)
        .map(|container| format!("`{}` ({})", container.name, container.state))
        .collect();
    match containers.len().checked_sub(MOST_LISTED) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}

fn several(containers: &[&Container]) -> NotFound {
    let line = |container: &&Container| {
        let project = container.compose.as_ref().map(|compose| format!(" of project {}", compose.project));
        format!("`{}`{} ({}, {})", container.name, project.unwrap_or_default(), container.state, container.engine)
    };
    let problem = NotFound::new(Missing::Gone, "several containers that do not belong together go by that name")
        .notes(containers.iter().take(MOST_LISTED).map(line));
    match containers {
        [first, ..] => problem.help(format!("name the container itself: `container = \"{}\"`", first.name)),
        [] => problem,
    }
}

/// A container that does not run.
fn still(container: &Container, now: &Zoned) -> NotFound {
    let (tool, name) = (container.engine.tool, &container.name);
    let start = format!("start it: `{tool} start {name}`");
    match &container.state {
        State::Paused => {
            NotFound::new(Missing::Gone, "it is paused").help(format!("let it go on: `{tool} unpause {name}`"))
        }
        State::Restarting => NotFound::new(Missing::Coming, "it ended, and its engine is about to start it again")
            .help(format!("see why it ends: `{tool} logs {name}`")),
        State::Created => NotFound::new(Missing::Gone, "it was made and never started").help(start),
        State::Exited { code, since, out_of_memory } => {
            let code = code.map(|code| format!(" with code {code}")).unwrap_or_default();
            let problem = NotFound::new(Missing::Gone, format!("it has exited{code}{}", told_since(*since, now)));
            let problem = match out_of_memory {
                true => problem.note("the system ended it: it had used up the memory that it may have"),
                false => problem,
            };
            problem.help(start).help(format!("see why it ended: `{tool} logs {name}`"))
        }
        State::Removing => {
            NotFound::new(Missing::Gone, "it is being removed").help(format!("see what is left: `{tool} ps -a`"))
        }
        State::Running { .. } | State::Other(_) => {
            NotFound::new(Missing::Gone, format!("its engine calls it {}", container.state)).help(start)
        }
    }
}

/// `, since 09:14`
fn told_since(since: Option<SystemTime>, now: &Zoned) -> String {
    since.and_then(|since| words::moment(since, now)).map(|since| format!(", since {since}")).unwrap_or_default()
}

fn unpublished(all: &Containers, container: &Container, port: u16) -> NotFound {
    let publisher = publisher(all, container);
    let mut problem = NotFound::new(Missing::Gone, format!("it does not publish port {port}"));
    if publisher.udp.contains(&port) {
        problem = problem.note(format!("port {port} is published for UDP, not for TCP"));
    }
    problem = match (&container.network, publisher.published.as_slice()) {
        (Network::Of(_), _) if publisher.id != container.id => {
            problem.note(format!("it is in the network of `{}`, which publishes for both", publisher.name))
        }
        (_, []) => problem.note("it publishes no TCP port"),
        (_, published) => {
            let ports: Vec<_> = published.iter().map(|it| format!("{} at {}", it.private, it.address)).collect();
            problem.note(format!("it publishes {}", ports.join(", ")))
        }
    };
    let tool = container.engine.tool;
    problem.help(format!(
        "publish it: `{tool} run -p 127.0.0.1::{port} ..`, or `ports: [\"127.0.0.1::{port}\"]` in the compose file"
    ))
}

/// A container that its engine calls running, and of which no process is there.
fn passing(container: &Container) -> NotFound {
    NotFound::new(Missing::Coming, "it is about to start, or has just ended")
        .help(format!("see which: `{} logs {}`", container.engine.tool, container.name))
}

/// A container that runs and has no socket that hears the port.
fn deaf(container: &Container, port: u16, sockets: &[SocketAddr], now: &Zoned) -> NotFound {
    let State::Running { since, .. } = container.state else { return still(container, now) };
    let since = told_since(since, now);
    let logs = format!("see what it does: `{} logs {}`", container.engine.tool, container.name);
    let at_port: Vec<_> = sockets.iter().filter(|socket| socket.port() == port).collect();
    if let [first, ..] = at_port.as_slice() {
        return NotFound::new(Missing::Gone, format!("its program listens on port {port} for the inside of it alone"))
            .note(format!("it listens on {first} in there, which a published port does not reach"))
            .help("let the program listen on 0.0.0.0 in the container");
    }
    let outward: Vec<_> = sockets.iter().filter(|socket| !is_loopback(socket.ip())).map(SocketAddr::port).collect();
    match listed_ports(outward).as_str() {
        "" => NotFound::new(Missing::Coming, format!("it runs{since}, and nothing in it listens yet")).help(logs),
        others => NotFound::new(Missing::Gone, format!("it runs{since}, and nothing in it listens on port {port}"))
            .note(format!("its programs listen on port {others}"))
            .help(format!("name the port that the program opens, or have it open {port}")),
    }
}

fn listed_ports(mut ports: Vec<u16>) -> String {
    ports.sort_unstable();
    ports.dedup();
    let words: Vec<_> = ports.iter().take(MOST_LISTED).map(u16::to_string).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::TimeZone};

    use super::{
        super::{Compose, Engine, Trouble, samples},
        *,
    };

    fn now() -> Zoned {
        "2026-11-23T17:45:00Z".parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC)
    }

    fn at(time: &str) -> Option<SystemTime> {
        Some(format!("2026-11-23T{time}Z").parse::<Timestamp>().unwrap().into())
    }

    fn all(list: Vec<Container>) -> Containers {
        let state = Reach::Reached { version: "Docker 28.5.2".into() };
        Containers { engines: vec![Engine { place: samples::docker(), state }], list }
    }

    /// The message, then notes and helps, a line each.
    fn told(all: &Containers, name: &str, missed: &Missed<'_>) -> String {
        let NotFound { message, notes, helps, .. } = word(all, name, 8080, missed, &now());
        let notes = notes.iter().map(|note| format!("note: {note}"));
        let helps = helps.iter().map(|help| format!("help: {help}"));
        let lines: Vec<_> = [message].into_iter().chain(notes).chain(helps).collect();
        lines.join("\n")
    }

    fn told_still(state: State) -> String {
        let container = Container { state, ..samples::running("web") };
        told(&all(vec![container.clone()]), "web", &Missed::Still(&container))
    }

    fn told_deaf(sockets: &[&str]) -> (Missing, String) {
        let state = State::Running { since: at("17:41:49"), inside: None };
        let container = Container { state, ..samples::running("web") };
        let missed = Missed::Deaf(&container, sockets.iter().map(|socket| socket.parse().unwrap()).collect());
        let all = all(vec![container.clone()]);
        (word(&all, "web", 8080, &missed, &now()).kind, told(&all, "web", &missed))
    }

    #[test]
    fn a_machine_without_an_engine_is_told_how_to_get_one() {
        let expected = "\
no container engine is there
note: neither Docker nor Podman has a socket where they usually have one, and nothing names another place
help: start one: `sudo systemctl start docker`, or `systemctl --user start podman.socket`
help: or name its socket: `DOCKER_HOST=unix:///path/to.sock`";
        assert_eq!(told(&Containers::default(), "web", &Missed::NoEngine), expected);
    }

    #[test]
    fn engines_that_do_not_answer_are_told_each_with_its_cause() {
        let engine = |place, trouble| Engine { place, state: Reach::Absent(trouble) };
        let engines = vec![engine(samples::docker(), Trouble::Denied), engine(samples::podman(), Trouble::Refused)];
        let expected = "\
no container engine answers
note: docker at /var/run/docker.sock: this user may not open the socket
note: podman at /run/podman/podman.sock: nobody listens there: the engine does not run
help: join those who may: `sudo usermod -aG docker \"$USER\"`, then log in anew
help: start its socket: `systemctl --user start podman.socket`";
        assert_eq!(told(&Containers { engines, list: Vec::new() }, "web", &Missed::NoEngine), expected);
    }

    #[test]
    fn a_name_that_nobody_has_is_told_with_those_there_are_the_likely_ones_first() {
        let list = vec![
            samples::running("cache"),
            Container { state: samples::exited(0), ..samples::running("shop-web-1") },
            Container { state: samples::exited(1), ..samples::running("old") },
        ];
        let expected = "\
no container and no compose service goes by that name
note: there are `shop-web-1` (exited), `cache` (running), `old` (exited)
help: start it: `docker compose up -d`, or `docker run --name web ..`; or name one that is there";
        assert_eq!(told(&all(list), "web", &Missed::Unknown), expected);
    }

    #[test]
    fn a_name_that_nobody_can_have_is_told_as_such() {
        let expected = "\
no container and no compose service goes by that name
note: the engines have no container at all
help: start it: `docker compose up -d`, or `docker run --name web ..`";
        assert_eq!(told(&all(Vec::new()), "web", &Missed::Unknown), expected);
    }

    #[test]
    fn of_many_containers_some_are_named_and_the_others_counted() {
        let list: Vec<_> = (1..=MOST_LISTED + 3).map(|number| samples::running(&format!("c{number}"))).collect();
        let told = told(&all(list), "web", &Missed::Unknown);
        assert!(told.contains("`c8` (running) and 3 more\n"), "{told}");
    }

    #[test]
    fn an_engine_that_is_silent_is_told_beside_a_name_that_nobody_has() {
        let mut all = all(Vec::new());
        all.engines.push(Engine { place: samples::podman(), state: Reach::Absent(Trouble::Ended) });
        let told = told(&all, "web", &Missed::Unknown);
        assert!(
            told.contains("\nnote: podman at /run/podman/podman.sock: the engine ended the connection\n"),
            "{told}"
        );
    }

    #[test]
    fn services_of_one_name_are_told_with_their_projects() {
        let of = |project: &str| Container {
            compose: Some(Compose { project: project.into(), service: "web".into(), number: 1 }),
            ..samples::running(&format!("{project}-web-1"))
        };
        let (shop, blog) = (of("shop"), of("blog"));
        let expected = "\
several containers that do not belong together go by that name
note: `shop-web-1` of project shop (running, docker at /var/run/docker.sock)
note: `blog-web-1` of project blog (running, docker at /var/run/docker.sock)
help: name the container itself: `container = \"shop-web-1\"`";
        assert_eq!(told(&Containers::default(), "web", &Missed::Several(vec![&shop, &blog])), expected);
    }

    #[test]
    fn a_container_that_does_not_run_says_why_and_what_to_do() {
        assert_eq!(told_still(State::Paused), "it is paused\nhelp: let it go on: `docker unpause web`");
        assert_eq!(told_still(State::Created), "it was made and never started\nhelp: start it: `docker start web`");
        let killed = State::Exited { code: Some(137), since: at("17:42:00"), out_of_memory: true };
        let expected = "\
it has exited with code 137, since 17:42
note: the system ended it: it had used up the memory that it may have
help: start it: `docker start web`
help: see why it ended: `docker logs web`";
        assert_eq!(told_still(killed), expected);
    }

    #[test]
    fn a_container_of_podman_is_started_with_podman() {
        let container = Container { engine: samples::podman(), state: State::Created, ..samples::running("web") };
        let told = told(&Containers::default(), "web", &Missed::Still(&container));
        assert!(told.ends_with("`podman start web`"), "{told}");
    }

    #[test]
    fn a_port_that_is_not_published_is_told_with_those_that_are() {
        let published = vec![samples::published(3000, "127.0.0.1:32768"), samples::published(9229, "0.0.0.0:9229")];
        let container = Container { published, udp: vec![8080], ..samples::running("web") };
        let expected = "\
it does not publish port 8080
note: port 8080 is published for UDP, not for TCP
note: it publishes 3000 at 127.0.0.1:32768, 9229 at 0.0.0.0:9229
help: publish it: `docker run -p 127.0.0.1::8080 ..`, or `ports: [\"127.0.0.1::8080\"]` in the compose file";
        assert_eq!(told(&all(vec![container.clone()]), "web", &Missed::Unpublished(&container)), expected);
    }

    #[test]
    fn a_container_that_publishes_nothing_says_so_or_names_the_one_that_publishes_for_it() {
        let vpn = samples::running("vpn");
        let web = Container { network: Network::Of(vpn.id.clone()), ..samples::running("web") };
        let all = all(vec![vpn.clone(), web.clone()]);
        let (alone, guest) =
            (told(&all, "vpn", &Missed::Unpublished(&vpn)), told(&all, "web", &Missed::Unpublished(&web)));
        assert!(alone.contains("\nnote: it publishes no TCP port\n"), "{alone}");
        assert!(guest.contains("\nnote: it is in the network of `vpn`, which publishes for both\n"), "{guest}");
    }

    #[test]
    fn a_program_that_does_not_listen_yet_is_expected_and_one_on_another_port_is_not() {
        let expected = "it runs, since 17:41, and nothing in it listens yet\nhelp: see what it does: `docker logs web`";
        assert_eq!(told_deaf(&["127.0.0.11:39917"]), (Missing::Coming, expected.into()));
        let expected = "\
it runs, since 17:41, and nothing in it listens on port 8080
note: its programs listen on port 3000, 9229
help: name the port that the program opens, or have it open 8080";
        assert_eq!(told_deaf(&["0.0.0.0:9229", "[::]:3000", "0.0.0.0:3000"]), (Missing::Gone, expected.into()));
    }

    #[test]
    fn a_program_that_listens_for_the_inside_alone_is_told_the_cure() {
        let expected = "\
its program listens on port 8080 for the inside of it alone
note: it listens on 127.0.0.1:8080 in there, which a published port does not reach
help: let the program listen on 0.0.0.0 in the container";
        assert_eq!(told_deaf(&["127.0.0.1:8080", "0.0.0.0:9229"]), (Missing::Gone, expected.into()));
    }
}
