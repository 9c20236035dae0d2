//! Who holds a port, in words: one sentence for errors, lists and checks.

use std::{borrow::Cow, time::SystemTime};

use jiff::{Timestamp, Zoned};

use super::{
    Connection, Listener, Owner,
    container::{Container, State},
};
use crate::diagnostic::shown;

/// How many characters of a command line are told: enough to know it by, and one line of a terminal.
const COMMAND_LENGTH: usize = 80;

/// The program of macOS that receives AirPlay on the ports 5000 and 7000. It comes back when it is killed.
const AIRPLAY: &str = "ControlCenter";

/// ``"`node server.js` (pid 4812) in ~/shop/web, since 09:14"``; of a process that cannot be seen its user, who is called
/// `user` if anybody knows.
pub fn holder(listener: &Listener, user: Option<&str>, now: &Zoned) -> String {
    let Some(owner) = &listener.owner else { return unseen(listener, user) };
    let since = owner.started.and_then(|started| moment(started, now)).map(|since| format!(", since {since}"));
    let (command, place) = (shortened(command(owner)), place(owner));
    format!("`{command}` (pid {}){place}{}", owner.pid, since.unwrap_or_default())
}

/// ``"container `shop-db-1` of postgres:17, since 09:14"``: who holds a port that an engine's helper has opened.
pub fn container_holder(container: &Container, now: &Zoned) -> String {
    let since = match &container.state {
        State::Running { since: Some(since), .. } => moment(*since, now).map(|since| format!(", since {since}")),
        _ => None,
    };
    format!("container `{}` of {}{}", container.name, container.image, since.unwrap_or_default())
}

/// How a person frees a port that a container publishes: its engine's helper is not to be killed.
pub fn way_to_stop(container: &Container) -> String {
    format!("stop it with `{} stop {}`", container.engine.tool, container.name)
}

/// Why nobody can listen on a port on which nobody does: "a connection of `curl` (pid 4813) to 192.0.2.1:443 has it as
/// its own end".
pub fn own_end(connection: &Connection) -> String {
    let to = connection.remote.map(|remote| format!(" to {remote}")).unwrap_or_default();
    if connection.lingers {
        return format!("a connection{to} that has just ended keeps it for a minute or two");
    }
    let owner = connection.owner.as_ref().map(|owner| format!(" of `{}` (pid {})", owner.program, owner.pid));
    format!("a connection{}{to} has it as its own end", owner.unwrap_or_default())
}

/// `" in ~/shop/web"`, or nothing.
pub(super) fn place(owner: &Owner) -> String {
    owner.folder.as_deref().map(|folder| format!(" in {}", shown(folder))).unwrap_or_default()
}

/// What a shell is told to end a process.
pub(super) fn end_command(owner: &Owner) -> String {
    if cfg!(windows) { format!("taskkill /pid {}", owner.pid) } else { format!("kill {}", owner.pid) }
}

/// How a person frees the port: ``"end it with `kill 4812`"``.
pub fn way_to_end(owner: &Owner) -> String {
    if owner.program == AIRPLAY {
        "switch AirPlay Receiver off in System Settings, General, AirDrop & Handoff".into()
    } else {
        format!("end it with `{}`", end_command(owner))
    }
}

/// A holder of whom only the user is known, if that.
pub(super) fn unseen(listener: &Listener, user: Option<&str>) -> String {
    match (listener.uid, user) {
        (Some(uid), _) if listener.is_own() => {
            format!("a process of this user (uid {uid}) that cannot be seen from here")
        }
        (Some(_), Some(user)) => format!("a process of user {user} (pid hidden)"),
        (Some(uid), None) => format!("a process of another user (uid {uid}, pid hidden)"),
        (None, _) => "a process that this user may not see".into(),
    }
}

/// The user that asks; `None` where users are no numbers.
#[cfg(unix)]
pub(super) fn own_uid() -> Option<u32> {
    Some(rustix::process::geteuid().as_raw())
}

/// The user that asks; `None` where users are no numbers.
#[cfg(not(unix))]
pub(super) fn own_uid() -> Option<u32> {
    None
}

/// `09:14`, with the date when that was not today.
pub(super) fn moment(started: SystemTime, now: &Zoned) -> Option<String> {
    let started = Timestamp::try_from(started).ok()?.to_zoned(now.time_zone().clone());
    let format = if started.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    // Where the system does not tell its time zone, times are UTC and must not pass for local ones.
    let zone = if now.time_zone().is_unknown() { " UTC" } else { "" };
    Some(format!("{}{zone}", started.strftime(format)))
}

/// The words that a process was started with, without the folder of its program: that tells least and is longest.
pub fn command(owner: &Owner) -> &str {
    let (program, _) = owner.command.split_once(' ').unwrap_or((&owner.command, ""));
    let folder = program.rfind('/').map_or(0, |slash| slash + 1);
    let name = &program[folder..];
    // A folder with a blank in its name looks like the end of a program; `python3` is a link to `python3.13`.
    let is_program = !name.is_empty() && (owner.program.starts_with(name) || name.starts_with(&owner.program));
    if is_program { &owner.command[folder..] } else { &owner.command }
}

/// The start of a long command.
fn shortened(command: &str) -> Cow<'_, str> {
    match command.char_indices().nth(COMMAND_LENGTH) {
        Some((end, _)) => format!("{}…", command[..end].trim_end()).into(),
        None => command.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::tz::{TimeZone, offset};

    use super::{super::container::samples, *};

    fn now() -> Zoned {
        "2025-11-23T11:00Z".parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC)
    }

    fn at(time: &str) -> SystemTime {
        format!("{time}Z").parse::<Timestamp>().unwrap().into()
    }

    fn listener(owner: Option<Owner>, uid: Option<u32>) -> Listener {
        Listener { address: ([127, 0, 0, 1], 5173).into(), owner, uid }
    }

    fn owner(program: &str) -> Owner {
        Owner { pid: 4812, program: program.into(), command: program.into(), folder: None, started: None }
    }

    #[test]
    fn a_holder_is_told_with_all_that_is_known() {
        let known = Owner {
            command: "node server.js".into(),
            folder: Some("/srv/shop/web".into()),
            started: Some(at("2025-11-23T09:14:30")),
            ..owner("node")
        };
        let told = holder(&listener(Some(known), Some(1000)), None, &now());
        assert_eq!(told, "`node server.js` (pid 4812) in /srv/shop/web, since 09:14");
        assert_eq!(holder(&listener(Some(owner("node")), None), None, &now()), "`node` (pid 4812)");
    }

    #[test]
    fn a_process_that_cannot_be_seen_is_told_by_its_user() {
        let other = own_uid().unwrap_or_default() + 1;
        let told = |uid, user| holder(&listener(None, uid), user, &now());
        assert_eq!(told(Some(other), Some("ada")), "a process of user ada (pid hidden)");
        assert_eq!(told(Some(other), None), format!("a process of another user (uid {other}, pid hidden)"));
        assert_eq!(told(None, None), "a process that this user may not see");
    }

    #[test]
    fn a_connection_is_told_with_its_ends_and_whether_it_is_over() {
        let open = Connection {
            local: ([127, 0, 0, 1], 40000).into(),
            remote: Some(([192, 0, 2, 1], 443).into()),
            lingers: false,
            owner: Some(owner("curl")),
        };
        assert_eq!(own_end(&open), "a connection of `curl` (pid 4812) to 192.0.2.1:443 has it as its own end");
        let unseen = Connection { remote: None, owner: None, ..open.clone() };
        assert_eq!(own_end(&unseen), "a connection has it as its own end");
        let over = Connection { lingers: true, owner: None, ..open };
        assert_eq!(own_end(&over), "a connection to 192.0.2.1:443 that has just ended keeps it for a minute or two");
    }

    #[test]
    fn a_container_is_told_by_name_and_stopped_by_its_engine() {
        let since = Some(at("2025-11-23T09:14:30"));
        let container = Container { state: State::Running { since, inside: None }, ..samples::running("shop-db-1") };
        assert_eq!(container_holder(&container, &now()), "container `shop-db-1` of bb:1, since 09:14");
        assert_eq!(way_to_stop(&container), "stop it with `docker stop shop-db-1`");
    }

    #[test]
    fn airplay_is_switched_off_and_not_killed() {
        assert_eq!(way_to_end(&owner("node")), "end it with `kill 4812`");
        assert!(way_to_end(&owner("ControlCenter")).starts_with("switch AirPlay Receiver off in System Settings"));
    }

    #[test]
    fn a_start_on_another_day_is_told_with_its_date() {
        assert_eq!(moment(at("2025-11-20T23:05:00"), &now()).as_deref(), Some("2025-11-20 23:05"));
        assert_eq!(moment(at("2025-11-23T00:00:00"), &now()).as_deref(), Some("00:00"));
    }

    #[test]
    fn a_start_is_told_in_local_time_or_says_that_it_is_not() {
        let there = now().with_time_zone(TimeZone::fixed(offset(2)));
        assert_eq!(moment(at("2025-11-23T09:14:30"), &there).as_deref(), Some("11:14"));
        let nowhere = now().with_time_zone(TimeZone::unknown());
        assert_eq!(moment(at("2025-11-23T09:14:30"), &nowhere).as_deref(), Some("09:14 UTC"));
    }

    #[test]
    fn a_start_beyond_every_calendar_is_left_out() {
        let never = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(moment(never, &now()), None);
    }

    #[test]
    fn a_program_is_told_without_its_folder_where_that_is_certain() {
        let told = |program: &str, words: &str| command(&Owner { command: words.into(), ..owner(program) }).to_owned();
        assert_eq!(told("python3.13", "/usr/bin/python3 -m http.server"), "python3 -m http.server");
        assert_eq!(told("node", "node /srv/shop/server.js"), "node /srv/shop/server.js");
        assert_eq!(told("bin", "/opt/My App/bin --serve"), "/opt/My App/bin --serve");
        assert_eq!(told("node", "next-server (v16)"), "next-server (v16)");
    }

    #[test]
    fn a_long_command_is_cut_between_characters() {
        let command = "é".repeat(COMMAND_LENGTH + 1);
        assert_eq!(shortened(&command), format!("{}…", "é".repeat(COMMAND_LENGTH)));
        assert_eq!(shortened("node server.js"), "node server.js");
    }
}
