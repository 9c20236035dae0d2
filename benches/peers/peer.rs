//! The proxies: where each is found, how it is told to do the same work as the others, how it is started.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::child::{Child, Usage};
use crate::machine::{Machine, free_port};
use crate::scenario::{HOST, Work};

/// Node, Envoy and a table of 10,000 routes are up well within this time, even on a busy machine.
const STARTUP: Duration = Duration::from_secs(20);

/// The first portless that listens on 127.0.0.1 and ::1; 0.13 is open to the network.
const PORTLESS_ON_LOOPBACK: (u32, u32) = (0, 15);

/// The headers without which a proxy did less work than the others.
const EQUAL_WORK: [&str; 3] = ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"];

/// Who takes part. The order is the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// No proxy: the load generator asks the origin.
    Direct,
    Nginx,
    Haproxy,
    Portolan,
    /// The portolan given by `--before`.
    Before,
    Envoy,
    Caddy,
    Traefik,
    #[value(name = "http-proxy-3")]
    HttpProxy3,
    Portless,
}

/// A peer that is installed.
pub(crate) struct Program {
    pub(crate) peer: Peer,
    pub(crate) version: String,
    binary: PathBuf,
}

/// A peer that runs and has proved that it forwards.
pub(crate) struct Running {
    pub(crate) label: String,
    pub(crate) port: u16,
    /// The headers that it should add and does not.
    pub(crate) lacks: Vec<&'static str>,
    /// `None` for direct.
    child: Option<Child>,
}

/// What the configuration of a peer is made of.
struct Site<'a> {
    machine: &'a Machine,
    folder: PathBuf,
    port: u16,
    origin: u16,
    work: Work,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Portolan => "portolan",
            Self::Before => "before",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
            Self::Traefik => "traefik",
            Self::HttpProxy3 => "http-proxy-3",
            Self::Portless => "portless",
        }
    }

    pub(crate) fn is_portolan(self) -> bool {
        matches!(self, Self::Portolan | Self::Before)
    }

    /// Whether it has its say where raw bytes are passed on: the one that does it best, and we.
    pub(crate) fn moves_bytes(self) -> bool {
        self == Self::Haproxy || self.is_portolan()
    }

    /// Whether it has its say in HTTP/2: who is known for it, and we.
    pub(crate) fn passes_streams(self) -> bool {
        matches!(self, Self::Nginx | Self::Haproxy) || self.is_portolan()
    }

    /// Finds the peer among what is installed; the error says what is missing.
    pub(crate) fn locate(self, machine: &Machine) -> Result<Program> {
        let binary = match self {
            Self::HttpProxy3 | Self::Portless => machine.find("node"),
            _ => machine.find(self.name()),
        };
        let binary = binary.context("not installed; `benches/peers/setup` installs it")?;
        let version = match self {
            Self::Nginx | Self::Haproxy => first_version(Command::new(&binary).arg("-v"))?,
            Self::Caddy | Self::Traefik => first_version(Command::new(&binary).arg("version"))?,
            Self::HttpProxy3 | Self::Portless => self.version_of_package(machine)?,
            _ => first_version(Command::new(&binary).arg("--version"))?,
        };
        ensure!(
            self != Self::Portless || major_and_minor(&version) >= Some(PORTLESS_ON_LOOPBACK),
            "version {version} listens on every address of this machine; `benches/peers/setup` installs a better one"
        );
        Ok(Program { peer: self, version, binary })
    }

    fn version_of_package(self, machine: &Machine) -> Result<String> {
        let package = self.package(machine).join("package.json");
        let text = fs::read_to_string(&package).context("not installed; `benches/peers/setup` installs it")?;
        let json: serde_json::Value = serde_json::from_str(&text)?;
        let version = json["version"].as_str().with_context(|| format!("{} names no version", package.display()))?;
        Ok(version.into())
    }

    fn package(self, machine: &Machine) -> PathBuf {
        machine.folder.join("node/node_modules").join(self.name())
    }
}

fn major_and_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn first_version(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let version = regex::Regex::new(r"\d+\.\d+[.\d]*")?.find(&text);
    Ok(version.map_or("(unknown version)", |version| version.as_str()).into())
}

impl Program {
    /// A portolan, which is not searched for but given.
    pub(crate) fn portolan(peer: Peer, binary: &Path) -> Result<Self> {
        ensure!(binary.is_file(), "there is no {}", binary.display());
        let version = first_version(Command::new(binary).arg("--version"))?;
        Ok(Self { peer, version, binary: binary.to_path_buf() })
    }

    /// Starts the peer in front of the origin and waits until it forwards.
    pub(crate) fn start(&self, label: String, machine: &Machine, origin: u16, work: Work) -> Result<Running> {
        let folder = machine.empty_folder(&label)?;
        let site = Site { machine, folder, port: free_port()?, origin, work };
        let log = site.folder.join("log");
        let mut command = self.command(&site)?;
        command.env("HOME", &site.folder).stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let mut child = Child::start(&mut command)?;
        let seen = wait_until_it_forwards(&mut child, &site, &log)?;
        let lacks = if work == Work::Bytes { Vec::new() } else { lacking(&seen) };
        Ok(Running { label, port: site.port, lacks, child: Some(child) })
    }

    /// The command that starts the peer with one worker on the proxy's CPU.
    fn command(&self, site: &Site) -> Result<Command> {
        let mut command = site.machine.pinned(&self.binary);
        match self.peer {
            Peer::Direct => bail!("direct is no program"),
            Peer::Nginx => command.arg("-e").arg("stderr").arg("-c").arg(site.nginx()?),
            Peer::Haproxy => {
                let template = match site.work {
                    Work::Requests(_) | Work::Streams => include_str!("conf/haproxy.cfg"),
                    Work::Bytes => include_str!("conf/haproxy-tcp.cfg"),
                };
                command.arg("-db").arg("-f").arg(site.write("haproxy.cfg", template)?)
            }
            Peer::Portolan | Peer::Before => {
                let listen = match site.work {
                    Work::Requests(_) | Work::Streams => format!("127.0.0.1:{}", site.port),
                    // That port is the TCP route's.
                    Work::Bytes => "127.0.0.1:0".into(),
                };
                for name in ["PORTOLAN_CONFIG", "PORTOLAN_LISTEN", "PORTOLAN_LOG"] {
                    command.env_remove(name);
                }
                command.args(["serve", "-q", "-c"]).arg(site.portolan()?).arg("--listen").arg(listen)
            }
            Peer::Envoy => {
                let config = site.write("envoy.yaml", include_str!("conf/envoy.yaml"))?;
                command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]).arg(config)
            }
            Peer::Caddy => {
                let config = site.write("Caddyfile", include_str!("conf/Caddyfile"))?;
                command.env("GOMAXPROCS", "1").args(["run", "--adapter", "caddyfile", "--config"]).arg(config)
            }
            Peer::Traefik => {
                site.write("traefik-routes.yaml", include_str!("conf/traefik-routes.yaml"))?;
                let config = site.write("traefik.yaml", include_str!("conf/traefik.yaml"))?;
                command.env("GOMAXPROCS", "1").arg(format!("--configFile={}", config.display()))
            }
            Peer::HttpProxy3 => command.arg(site.write("http-proxy-3.cjs", include_str!("conf/http-proxy-3.cjs"))?),
            Peer::Portless => {
                site.write("routes.json", include_str!("conf/portless-routes.json"))?;
                command.env("PORTLESS_STATE_DIR", &site.folder).env("PORTLESS_SYNC_HOSTS", "0");
                let script = self.peer.package(site.machine).join("dist/cli.js");
                let port = site.port.to_string();
                command.arg(script).args(["proxy", "start", "--no-tls", "--foreground", "-p", &port])
            }
        };
        Ok(command)
    }
}

impl Site<'_> {
    /// Fills in a template from `conf` and puts it into the peer's folder.
    fn write(&self, name: &str, template: &str) -> Result<PathBuf> {
        let text = template
            .replace("@PORT@", &self.port.to_string())
            .replace("@ORIGIN@", &self.origin.to_string())
            .replace("@DIR@", &self.folder.to_string_lossy())
            .replace("@PEERS@", &self.machine.folder.to_string_lossy());
        let file = self.folder.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }

    /// As root nginx would hand its work to a user who may not enter our folder.
    fn nginx(&self) -> Result<PathBuf> {
        let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
        let template = include_str!("conf/nginx.conf").replace("@USER@", user);
        self.write(
            "nginx.conf",
            &match self.work {
                // A port of its speaks the one or the other.
                Work::Streams => template.replace("backlog=4096;", "backlog=4096 http2;"),
                Work::Requests(_) | Work::Bytes => template,
            },
        )
    }

    /// One route that takes all; the others are half paths and half hosts, as many as asked for.
    fn portolan(&self) -> Result<PathBuf> {
        let to = format!("to = \"127.0.0.1:{}\"", self.origin);
        let routes = match self.work {
            Work::Requests(routes) => routes,
            Work::Streams => 1,
            Work::Bytes => {
                let route = format!("db = {{ listen = \"127.0.0.1:{}\", {to} }}", self.port);
                return self.write("portolan.toml", &format!("[tcp]\n{route}\n"));
            }
        };
        let others = (1..routes).map(|number| match number % 2 {
            0 => format!("r{number} = {{ host = \"h{number}.localhost\", {to} }}\n"),
            _ => format!("r{number} = {{ path = \"/r{number}\", {to} }}\n"),
        });
        let routes: String = others.collect();
        self.write("portolan.toml", &format!("[routes]\napp = {{ path = \"/\", {to} }}\n{routes}"))
    }
}

impl Running {
    /// The origin itself, for the row that every other row is read against.
    pub(crate) fn direct(origin: u16) -> Self {
        Self { label: Peer::Direct.name().into(), port: origin, lacks: Vec::new(), child: None }
    }

    /// `None` for direct, which shares its CPU with the load.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.child.as_ref().map(Child::usage)
    }
}

/// Asks until an answer comes from the origin; returns the head that the origin saw.
fn wait_until_it_forwards(child: &mut Child, site: &Site<'_>, log: &Path) -> Result<String> {
    let deadline = Instant::now() + STARTUP;
    loop {
        let answer = match site.work {
            Work::Streams => ask_for_the_head_in_http2(site.machine, site.port),
            Work::Requests(_) | Work::Bytes => ask_for_the_head(site.port),
        };
        if let Ok(head) = answer
            && head.starts_with("GET /head ")
        {
            return Ok(head);
        }
        if let Some(status) = child.ended() {
            bail!("it ended ({status}) before it forwarded a request{}", last_words(log));
        }
        ensure!(Instant::now() < deadline, "it forwarded nothing within {STARTUP:?}{}", last_words(log));
        thread::sleep(Duration::from_millis(20));
    }
}

fn ask_for_the_head(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(STARTUP))?;
    write!(stream, "GET /head HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.strip_prefix("HTTP/1.1 200").and_then(|answer| answer.split_once("\r\n\r\n"));
    Ok(body.map(|(_, head)| head.to_owned()).unwrap_or_default())
}

/// nghttp is of the same package as h2load, and prints what it gets.
fn ask_for_the_head_in_http2(machine: &Machine, port: u16) -> io::Result<String> {
    let nghttp = machine.find("nghttp").ok_or(io::ErrorKind::NotFound)?;
    let timeout = format!("--timeout={}", STARTUP.as_secs());
    let output = Command::new(nghttp).arg(timeout).arg(format!("http://127.0.0.1:{port}/head")).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn lacking(answer: &str) -> Vec<&'static str> {
    let seen = answer.to_ascii_lowercase();
    EQUAL_WORK.into_iter().filter(|name| !seen.contains(&format!("\n{}:", name.to_ascii_lowercase()))).collect()
}

fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    match &lines[lines.len().saturating_sub(5)..] {
        [] => ", and said nothing".into(),
        tail => format!("; it said:\n      {}", tail.join("\n      ")),
    }
}
