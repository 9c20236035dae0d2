//! What engines tell, read into our words: JSON in, values out.
//!
//! Whatever may be absent or null is: Podman leaves out what Docker always sends. An unknown field is passed over, an
//! unknown word kept. What is no JSON of an engine at all is an error.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use jiff::Timestamp;
use serde::Deserialize;

use super::{super::proc::one_line, Compose, Container, Inside, Network, Place, Published, State};

/// The newest API whose answers were looked at (Docker 28.5). A newer engine that still speaks it is spoken to in it.
const KNOWN_API: Api = Api(1, 51);

/// The longest word of an engine that is kept, in characters; Docker's own names are shorter.
const LONGEST: usize = 128;

/// A version of Docker's API; Podman speaks one too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Api(u32, u32);

impl Api {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// What an engine says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct About {
    /// `Docker 28.5.2`
    pub(super) version: String,
    /// What stands before the path of each question: `/v1.51`.
    ///
    /// A path without a version means the engine's newest, which may be newer than what we know, and Docker calls such
    /// paths deprecated; a version of our own choice breaks with the engine that drops it, as Docker 29 did to many.
    pub(super) prefix: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: Option<String>,
    api_version: Option<String>,
    #[serde(rename = "MinAPIVersion")]
    min_api_version: Option<String>,
    components: Option<Vec<Component>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    name: Option<String>,
}

/// `GET /version`
pub(super) fn about(json: &[u8]) -> serde_json::Result<About> {
    let told: Version = serde_json::from_slice(json)?;
    let is_podman = |component: &Component| component.name.as_deref().is_some_and(|name| name.contains("Podman"));
    let product = if told.components.iter().flatten().any(is_podman) { "Podman" } else { "Docker" };
    let api = |text: &Option<String>| text.as_deref().and_then(Api::parse);
    let spoken =
        api(&told.api_version).map(|newest| KNOWN_API.max(api(&told.min_api_version).unwrap_or(newest)).min(newest));
    Ok(About {
        version: format!("{product} {}", word(told.version.as_deref().unwrap_or("of an unknown version"))),
        prefix: spoken.map(|Api(major, minor)| format!("/v{major}.{minor}")).unwrap_or_default(),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    names: Option<Vec<String>>,
    image: Option<String>,
    state: Option<String>,
    ports: Option<Vec<Port>>,
    labels: Option<HashMap<String, Option<String>>>,
    host_config: Option<HostConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Port {
    #[serde(rename = "IP")]
    ip: Option<String>,
    private_port: Option<u16>,
    public_port: Option<u16>,
    #[serde(rename = "Type")]
    transport: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    network_mode: Option<String>,
}

/// `GET /containers/json`: the containers of the engine at `place`, whose machine is `host` unless it is this one.
pub(super) fn containers(json: &[u8], place: &Arc<Place>, host: Option<IpAddr>) -> serde_json::Result<Vec<Container>> {
    let listed: Vec<Listed> = serde_json::from_slice(json)?;
    Ok(listed.into_iter().map(|listed| listed.container(place, host)).collect())
}

impl Listed {
    fn container(self, place: &Arc<Place>, host: Option<IpAddr>) -> Container {
        let ports = self.ports.unwrap_or_default();
        let mut published: Vec<Published> = ports.iter().filter_map(|port| port.published(host)).collect();
        // Docker tells them in another order each time.
        published.sort_unstable();
        published.dedup();
        let mut udp: Vec<u16> = ports.iter().filter_map(Port::published_udp).collect();
        udp.sort_unstable();
        udp.dedup();
        Container {
            name: word(self.names.as_deref().and_then(own_name).unwrap_or(&self.id)),
            compose: self.labels.as_ref().and_then(compose),
            image: word(self.image.as_deref().unwrap_or_default()),
            engine: Arc::clone(place),
            state: state(self.state.as_deref().unwrap_or_default()),
            network: network(self.host_config.and_then(|config| config.network_mode).as_deref().unwrap_or_default()),
            published,
            udp,
            id: word(&self.id),
        }
    }
}

/// `/web`; the names that others gave it by links have a `/` more.
fn own_name(names: &[String]) -> Option<&str> {
    names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'))
}

fn compose(labels: &HashMap<String, Option<String>>) -> Option<Compose> {
    let label = |name: &str| labels.get(&format!("com.docker.compose.{name}"))?.as_deref();
    Some(Compose {
        project: word(label("project").unwrap_or_default()),
        service: word(label("service")?),
        number: label("container-number").and_then(|number| number.parse().ok()).unwrap_or(1),
    })
}

fn state(told: &str) -> State {
    match told {
        "created" | "configured" | "initialized" => State::Created,
        "running" => State::Running { since: None, inside: None },
        "paused" => State::Paused,
        "restarting" => State::Restarting,
        "exited" | "stopped" | "dead" => State::Exited { code: None, since: None, out_of_memory: false },
        "removing" => State::Removing,
        other => State::Other(word(other)),
    }
}

fn network(mode: &str) -> Network {
    match mode.split_once(':') {
        _ if mode == "host" => Network::Host,
        Some(("container", id)) => Network::Of(word(id)),
        _ => Network::Own,
    }
}

impl Port {
    fn published(&self, host: Option<IpAddr>) -> Option<Published> {
        let is_tcp = self.transport.as_deref().is_none_or(|transport| transport == "tcp");
        let public = self.public_port.filter(|port| is_tcp && *port != 0)?;
        // Podman says nothing for every address.
        let told = self.ip.as_deref().filter(|ip| !ip.is_empty());
        let ip = told.map_or(Some(Ipv4Addr::UNSPECIFIED.into()), |ip| ip.parse().ok())?;
        Some(Published { private: self.private_port?, address: SocketAddr::new(as_seen_from_here(ip, host)?, public) })
    }

    fn published_udp(&self) -> Option<u16> {
        let is_udp = self.transport.as_deref() == Some("udp");
        self.private_port.filter(|_| is_udp && self.public_port.is_some())
    }
}

/// An address of the machine `host`; `None` where it is for that machine alone.
fn as_seen_from_here(ip: IpAddr, host: Option<IpAddr>) -> Option<IpAddr> {
    match host {
        None => Some(ip),
        Some(_) if ip.is_loopback() => None,
        Some(host) if ip.is_unspecified() => (host.is_ipv4() == ip.is_ipv4()).then_some(host),
        Some(_) => Some(ip),
    }
}

/// What only the look at one container tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Details {
    /// Its first process, in the numbers of the machine that the engine runs on.
    pub(super) pid: Option<u32>,
    code: Option<i64>,
    out_of_memory: bool,
    pub(super) started: Option<SystemTime>,
    finished: Option<SystemTime>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: Option<InspectedState>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    pid: Option<u32>,
    exit_code: Option<i64>,
    #[serde(rename = "OOMKilled")]
    out_of_memory: Option<bool>,
    started_at: Option<String>,
    finished_at: Option<String>,
}

/// `GET /containers/ID/json`
pub(super) fn details(json: &[u8]) -> serde_json::Result<Details> {
    let Some(told) = serde_json::from_slice::<Inspected>(json)?.state else { return Ok(Details::default()) };
    Ok(Details {
        pid: told.pid.filter(|pid| *pid != 0),
        code: told.exit_code,
        out_of_memory: told.out_of_memory.unwrap_or(false),
        started: told.started_at.as_deref().and_then(time),
        finished: told.finished_at.as_deref().and_then(time),
    })
}

/// Docker writes the year 1 for never.
fn time(text: &str) -> Option<SystemTime> {
    let time: Timestamp = text.parse().ok()?;
    (time > Timestamp::UNIX_EPOCH).then(|| time.into())
}

impl Container {
    /// Takes in what the look at it told, and what can be seen of its inside.
    pub(super) fn learn(&mut self, details: &Details, seen: Option<&Arc<Inside>>) {
        match &mut self.state {
            State::Running { since, inside } => (*since, *inside) = (details.started, seen.cloned()),
            State::Exited { code, since, out_of_memory } => {
                (*code, *since, *out_of_memory) = (details.code, details.finished, details.out_of_memory);
            }
            State::Created | State::Paused | State::Restarting | State::Removing | State::Other(_) => {}
        }
    }
}

/// A word of an engine, made fit for every place where it may be shown.
pub(super) fn word(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => one_line(&text[..end]) + "…",
        None => one_line(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples, *};

    /// As Docker 20.10 told it of one container, shortened.
    const WEB: &str = r#"{"Id":"048b930e950a","Names":["/web"],"Image":"bb:1","Command":"/bin/busybox httpd","Created":1795455708,
        "Ports":[{"IP":"127.0.0.1","PrivatePort":8080,"PublicPort":32768,"Type":"tcp"}],"Labels":{},"State":"running",
        "Status":"Up Less than a second","HostConfig":{"NetworkMode":"default"},
        "NetworkSettings":{"Networks":{"bridge":{"IPAMConfig":null,"IPAddress":"172.17.0.2"}}},"Mounts":[]}"#;

    fn told(containers: &str) -> Vec<Container> {
        told_by(None, containers)
    }

    fn told_by(host: Option<&str>, containers: &str) -> Vec<Container> {
        let host = host.map(|host| host.parse().unwrap());
        super::containers(format!("[{containers}]").as_bytes(), &samples::docker(), host).unwrap()
    }

    fn published(container: &Container) -> Vec<String> {
        container.published.iter().map(|it| format!("{} at {}", it.private, it.address)).collect()
    }

    #[test]
    fn what_docker_tells_of_a_container_is_taken_in() {
        let expected = Container {
            id: "048b930e950a".into(),
            image: "bb:1".into(),
            published: vec![samples::published(8080, "127.0.0.1:32768")],
            ..samples::running("web")
        };
        assert_eq!(told(WEB), [expected]);
    }

    #[test]
    fn each_family_has_a_port_of_its_own_and_what_is_not_published_has_none() {
        // `-P` of Docker 20.10, beside a port for UDP and one that is only exposed; in no order.
        let containers = told(
            r#"{"Id":"1","Names":["/db"],"Ports":[
                {"IP":"::","PrivatePort":5432,"PublicPort":32768,"Type":"tcp"},
                {"PrivatePort":9000,"Type":"tcp"},
                {"IP":"0.0.0.0","PrivatePort":53,"PublicPort":32770,"Type":"udp"},
                {"IP":"0.0.0.0","PrivatePort":5432,"PublicPort":32769,"Type":"tcp"}]}"#,
        );
        assert_eq!(published(&containers[0]), ["5432 at 0.0.0.0:32769", "5432 at [::]:32768"]);
        assert_eq!(containers[0].udp, [53]);
    }

    #[test]
    fn a_replica_of_a_compose_service_is_known_as_one() {
        let containers = told(
            r#"{"Id":"1","Names":["/shop-web-2"],"Labels":{"com.docker.compose.project":"shop",
                "com.docker.compose.service":"web","com.docker.compose.container-number":"2","maintainer":null}}"#,
        );
        let compose = Compose { project: "shop".into(), service: "web".into(), number: 2 };
        assert_eq!(containers[0].compose, Some(compose));
    }

    #[test]
    fn what_podman_leaves_out_or_tells_as_null_is_missed_by_nobody() {
        let containers = told(
            r#"{"Id":"1","Names":["/db"],"Image":"localhost/bb:1","State":"running","Labels":null,"HostConfig":null,
                "Ports":[{"IP":"","PrivatePort":5432,"PublicPort":5432,"Type":"tcp"}],"NetworkSettings":{"Networks":null}},
               {"Id":"2","Names":null,"Ports":null}, {"Id":"3"}"#,
        );
        assert_eq!(published(&containers[0]), ["5432 at 0.0.0.0:5432"]);
        let names: Vec<_> = containers.iter().map(|container| container.name.as_str()).collect();
        assert_eq!(names, ["db", "2", "3"]);
    }

    #[test]
    fn a_container_in_another_network_says_in_whose() {
        let network =
            |mode: &str| told(&format!(r#"{{"Id":"1","HostConfig":{{"NetworkMode":"{mode}"}}}}"#))[0].network.clone();
        assert_eq!(network("host"), Network::Host);
        assert_eq!(network("container:048b930e950a"), Network::Of("048b930e950a".into()));
        assert_eq!(network("shop_default"), Network::Own);
    }

    #[test]
    fn a_link_from_another_container_is_not_its_name() {
        let containers = told(r#"{"Id":"1","Names":["/web/database","/db"]}"#);
        assert_eq!(containers[0].name, "db");
    }

    #[test]
    fn an_engine_on_another_machine_publishes_there() {
        let ports = r#"{"Id":"1","Ports":[
            {"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
            {"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
            {"IP":"127.0.0.1","PrivatePort":81,"PublicPort":8081,"Type":"tcp"},
            {"IP":"10.1.2.3","PrivatePort":82,"PublicPort":8082,"Type":"tcp"}]}"#;
        let containers = told_by(Some("10.9.9.9"), ports);
        assert_eq!(published(&containers[0]), ["80 at 10.9.9.9:8080", "82 at 10.1.2.3:8082"]);
    }

    #[test]
    fn words_of_a_container_drive_no_terminal_and_fill_no_screen() {
        let long = "a".repeat(10_000);
        let containers = told(&format!(
            r#"{{"Id":"1","Names":["/\u001b[2J\n"],"Image":"{long}","State":"\u0007odd",
                "Labels":{{"com.docker.compose.service":"\u001b]0;x\u0007"}}}}"#
        ));
        let [container] = containers.as_slice() else { panic!("one container") };
        assert_eq!(container.name, "\\u{1b}[2J\\n");
        assert_eq!(container.image.chars().count(), LONGEST + 1);
        assert_eq!(container.state, State::Other("\\u{7}odd".into()));
        assert_eq!(container.compose.as_ref().unwrap().service, "\\u{1b}]0;x\\u{7}");
    }

    #[test]
    fn what_no_engine_would_say_is_an_error_and_not_an_empty_list() {
        for json in
            ["", "{}", "[{}]", "[{\"Id\":7}]", "<html>", "[{\"Id\":\"1\",\"Ports\":[{\"PublicPort\":70000}]}]", "[[[[["]
        {
            assert!(containers(json.as_bytes(), &samples::docker(), None).is_err(), "{json}");
        }
    }

    #[test]
    fn an_engine_is_spoken_to_in_the_newest_version_that_both_know() {
        let about = |newest: &str, oldest: &str| {
            about(format!(r#"{{"Version":"1","ApiVersion":"{newest}","MinAPIVersion":"{oldest}"}}"#).as_bytes())
                .unwrap()
                .prefix
        };
        assert_eq!(about("1.41", "1.12"), "/v1.41");
        assert_eq!(about("1.51", "1.24"), "/v1.51");
        assert_eq!(about("1.99", "1.44"), "/v1.51");
        // One that has dropped all that we know is tried all the same.
        assert_eq!(about("2.7", "2.0"), "/v2.0");
        assert_eq!(about("next", "1.24"), "");
    }

    #[test]
    fn an_engine_is_called_by_its_name_and_version() {
        let docker =
            br#"{"Platform":{"Name":""},"Components":[{"Name":"Engine"}],"Version":"20.10.24","ApiVersion":"1.41"}"#;
        let podman = br#"{"Components":[{"Name":"Podman Engine"}],"Version":"4.3.1","ApiVersion":"1.41"}"#;
        assert_eq!(about(docker).unwrap().version, "Docker 20.10.24");
        assert_eq!(about(podman).unwrap().version, "Podman 4.3.1");
        assert_eq!(about(b"{}").unwrap().version, "Docker of an unknown version");
    }

    #[test]
    fn the_look_at_a_container_tells_its_process_and_how_it_ended() {
        let details = details(
            br#"{"Id":"1","State":{"Status":"exited","OOMKilled":true,"Pid":0,"ExitCode":137,
                "StartedAt":"2026-11-23T17:41:49.15920334Z","FinishedAt":"2026-11-23T17:42:00Z"}}"#,
        );
        let mut container = Container { state: state("exited"), ..samples::running("web") };
        container.learn(&details.unwrap(), None);
        let finished: Timestamp = "2026-11-23T17:42:00Z".parse().unwrap();
        let expected = State::Exited { code: Some(137), since: Some(finished.into()), out_of_memory: true };
        assert_eq!(container.state, expected);

        let running = super::details(br#"{"State":{"Pid":14867,"StartedAt":"0001-01-01T00:00:00Z"}}"#).unwrap();
        assert_eq!((running.pid, running.started), (Some(14867), None));
        assert_eq!(super::details(br#"{"State":null}"#).unwrap(), Details::default());
    }
}
