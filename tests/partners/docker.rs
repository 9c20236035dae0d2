//! Routes to containers of a real Docker: while a container is restarted, killed and frozen, and while its engine is
//! restarted, fifty requests a second go on, and not one of them fails for which somebody was going to answer.
//!
//! The engine is Debian's, with data, sockets and a network of its own; its one image is made here, of busybox. Docker's
//! own command reaches it through a `[tcp]` route, too.

use std::{
    fs, future,
    io::{self, Seek as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use portolan::discover::{
    self,
    container::{Containers, Missing, NotFound, Whereabouts, follow},
};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::{
    alone,
    client::{PATIENCE, ask, curl, run, until},
    installed::Tool::{Curl, Docker},
    load::{Figures, Load},
    program::{self, Group},
    proxy::Portolan,
};

/// What every container of ours answers.
const PAGE: &str = "a page from inside";

/// One second of requests.
const SECOND: usize = 50;

/// The program of the image: a web server that ends when it is asked to, and answers before that whom it has accepted.
const SERVE: &str = "#!/bin/busybox sh
until [ -z \"$WAIT\" ] || [ -e \"$WAIT\" ]; do /bin/busybox sleep 0.1; done
/bin/busybox httpd -f -p \"${PORT:-8080}\" -h /www &
trap '/bin/busybox kill $!; /bin/busybox sleep 0.3; exit 0' TERM
wait
";

#[test]
fn what_a_real_engine_says_is_understood() {
    alone::with(&[Docker, Curl], || {
        let engine = Engine::start(&[]);
        let followed = Followed::by(&engine);
        engine.runs("web", &["--publish", "127.0.0.1::8080"]);
        engine.runs("both", &["--publish-all"]);
        engine.runs("machine", &["--network", "host", "--env", "PORT=9090"]);
        engine.runs("guest", &["--network", "container:web", "--env", "PORT=9090"]);
        for number in ["1", "2"] {
            let [project, service] = ["project=shop", "service=api"].map(|label| format!("com.docker.compose.{label}"));
            let number = format!("com.docker.compose.container-number={number}");
            let name = format!("shop-api-{}", number.chars().next_back().unwrap());
            let labels = ["--label", &project, "--label", &service, "--label", &number];
            engine.runs(&name, &[&labels[..], &["--publish", "127.0.0.1::8080"]].concat());
        }

        assert_eq!(followed.port("web", 8080), engine.published("web"));
        assert_eq!(followed.port("both", 8080), engine.published("both"));
        assert_eq!(followed.port("guest", 8080), engine.published("web"));
        let machine = ["127.0.0.1:9090", "[::1]:9090"].map(|address| address.parse().unwrap());
        assert_eq!(followed.port("machine", 9090), machine);
        assert_eq!(
            followed.port("api", 8080),
            [engine.published("shop-api-1"), engine.published("shop-api-2")].concat()
        );
        for name in ["web", "both", "machine"] {
            let port = if name == "machine" { 9090 } else { 8080 };
            for address in followed.port(name, port).iter().filter(|address| is_of_this_machine(address)) {
                assert!(ask(&format!("http://{address}/"), &[]).body.contains(PAGE), "{name} at {address}");
            }
        }
        let listener = discover::owner_of(engine.published("web")[0]).expect("docker-proxy listens there");
        let all = followed.now();
        let owner = all.owner_of(listener.address).map(|container| (container.name.as_str(), container.image.as_str()));
        assert_eq!(owner, Some(("web", "page:1")));
    });
}

#[test]
fn a_real_container_that_cannot_be_reached_is_told_with_the_cause() {
    alone::with(&[Docker], || {
        let engine = Engine::start(&[]);
        let followed = Followed::by(&engine);
        engine.docker(&["create", "--name", "made", "page:1"]);
        engine.runs("killed", &[]);
        engine.docker(&["kill", "killed"]);
        engine.runs("frozen", &["--publish", "127.0.0.1::8080"]);
        engine.docker(&["pause", "frozen"]);
        engine.runs("hidden", &["--publish", "127.0.0.1::8080/udp", "--publish", "127.0.0.1:9999:9090"]);
        engine.runs("late", &["--publish", "127.0.0.1::8080", "--env", "WAIT=/go"]);

        followed.told("made", |told| told.message == "it was made and never started");
        followed.told("killed", |told| told.message.starts_with("it has exited with code 137, since "));
        followed.told("frozen", |told| {
            told.message == "it is paused" && told.helps[0].ends_with("`docker unpause frozen`")
        });
        followed.told("hidden", |told| {
            told.notes == ["port 8080 is published for UDP, not for TCP", "it publishes 9090 at 127.0.0.1:9999"]
        });
        followed.told("nobody", |told| told.notes[0].contains("`frozen` (paused)"));
        followed
            .told("late", |told| told.kind == Missing::Coming && told.message.ends_with("nothing in it listens yet"));

        engine.docker(&["exec", "late", "/bin/busybox", "touch", "/go"]);
        assert_eq!(followed.port("late", 8080), engine.published("late"));
        engine.docker(&["rm", "--force", "late"]);
        followed.told("late", |told| told.message.starts_with("no container"));
    });
}

#[test]
fn a_container_is_restarted_on_another_port_and_no_request_fails() {
    alone::with(&[Docker, Curl], || {
        let engine = Engine::start(&[]);
        engine.runs("web", &["--publish", "127.0.0.1::8080"]);
        let portolan = in_front_of(&engine);
        let before = engine.published("web");
        let load = Load::on(portolan.address(), PAGE);
        load.go_on_for(SECOND);

        engine.docker(&["restart", "web"]);
        assert_ne!(engine.published("web"), before);
        load.go_on_for(3 * SECOND);

        let figures = none_failed(load, "restarted");
        assert!(figures.held > 0, "somebody asked while it was away");
    });
}

#[test]
fn a_container_is_killed_and_whoever_asks_meanwhile_waits_for_it_or_is_told() {
    alone::with(&[Docker, Curl], || {
        let engine = Engine::start(&[]);
        engine.runs("web", &["--publish", "127.0.0.1::8080"]);
        let portolan = in_front_of(&engine);
        let load = Load::on(portolan.address(), PAGE);
        load.go_on_for(SECOND);

        engine.docker(&["kill", "web"]);
        until("the page tells how it ended", || page(&portolan).contains("it has exited with code 137"));
        engine.docker(&["start", "web"]);
        load.go_on_for(3 * SECOND);

        let figures = none_failed(load, "killed");
        assert!(figures.held > 0, "somebody asked while it was away");
    });
}

#[test]
fn a_container_is_frozen_and_whoever_asks_meanwhile_waits_for_it_or_is_told() {
    alone::with(&[Docker, Curl], || {
        let engine = Engine::start(&[]);
        engine.runs("web", &["--publish", "127.0.0.1::8080"]);
        let portolan = in_front_of(&engine);
        let load = Load::on(portolan.address(), PAGE);
        load.go_on_for(SECOND);

        engine.docker(&["pause", "web"]);
        until("the page tells that it is frozen", || page(&portolan).contains("it is paused"));
        assert!(page(&portolan).contains("docker unpause web"), "{}", page(&portolan));
        engine.docker(&["unpause", "web"]);
        load.go_on_for(3 * SECOND);

        let figures = none_failed(load, "frozen");
        assert!(figures.held > 0, "somebody asked while it was frozen");
    });
}

#[test]
fn an_engine_is_restarted_while_its_container_lives_and_no_request_fails() {
    alone::with(&[Docker, Curl], || {
        let mut engine = Engine::start(&["--live-restore"]);
        engine.runs("web", &["--publish", "127.0.0.1::8080"]);
        let portolan = in_front_of(&engine);
        let load = Load::on(portolan.address(), PAGE);
        load.go_on_for(SECOND);

        engine.end();
        until("the page tells that the engine is away", || page(&portolan).contains("no container engine answers"));
        engine.begin();
        load.go_on_for(3 * SECOND);

        none_failed(load, "left alone by its engine");
    });
}

#[test]
fn an_engine_is_restarted_that_takes_its_container_along_and_the_pages_tell() {
    alone::with(&[Docker, Curl], || {
        let mut engine = Engine::start(&[]);
        engine.runs("web", &["--publish", "127.0.0.1::8080"]);
        let portolan = in_front_of(&engine);

        engine.end();
        until("the page tells that the engine is away", || page(&portolan).contains("no container engine answers"));
        engine.begin();
        until("the page tells how it ended", || page(&portolan).contains("it has exited with code 0"));
        engine.docker(&["start", "web"]);
        until("it answers again", || page(&portolan).contains(PAGE));
    });
}

#[test]
fn dockers_own_command_speaks_to_a_container_through_a_tcp_route_to_the_engines_socket() {
    alone::with(&[Docker], || {
        let engine = Engine::start(&[]);
        engine.runs("web", &[]);
        let to = format!("unix:{}", engine.socket().display());
        let _portolan = Portolan::serving(&format!("[tcp]\nengine = {{ listen = 2375, to = '{to}' }}\n"));
        let words: String = (0..1_000_000).map(|number| format!("{number}\n")).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(words.as_bytes()).unwrap();

        for host in [engine.host(), "tcp://127.0.0.1:2375".to_owned()] {
            file.rewind().unwrap();
            let mut exec = engine.command();
            exec.env("DOCKER_HOST", &host).args(["exec", "--interactive", "web", "/bin/busybox", "cat"]);
            // It ends when its input does: the one direction is closed while the other is still used.
            let said = run(exec.stdin(file.try_clone().unwrap()));
            assert!(said == words, "{} of {} bytes came back at {host}", said.len(), words.len());
        }
    });
}

/// A proxy with a route that waits for the container `web`, and one that does not; both have led there already.
fn in_front_of(engine: &Engine) -> Portolan {
    let table = "[routes]
web = { path = '/', to = { container = 'web', port = 8080 }, hold = '60s' }
now = { path = '/now', to = { container = 'web', port = 8080 }, strip_prefix = true }
";
    let portolan = Portolan::serving_with(table, &[("DOCKER_HOST", &engine.host())]);
    until("the proxy shows the page", || page(&portolan).contains(PAGE));
    portolan
}

/// Ends the load, tells its figures, and sees that no request has failed.
fn none_failed(load: Load, what: &str) -> Figures {
    let figures = load.stop();
    // Not `eprintln!`, which a test that passes is not heard with.
    io::stderr().write_all(format!("container {what}: {figures}\n").as_bytes()).unwrap();
    assert!(figures.failed.is_empty(), "{:?}", figures.failed);
    figures
}

/// What is said at once; nothing by who was just frozen.
fn page(portolan: &Portolan) -> String {
    let arguments = ["-H", "Accept: application/json", "--max-time", "2"];
    let output = curl(&portolan.url("/now/"), &arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where this machine has no IPv6, Docker publishes for it all the same.
fn is_of_this_machine(address: &SocketAddr) -> bool {
    address.is_ipv4() || TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// A Docker of our own. Dropping it ends its containers and it.
struct Engine {
    folder: TempDir,
    flags: Vec<&'static str>,
    dockerd: Option<Group>,
}

impl Engine {
    /// Starts it and makes its image.
    fn start(flags: &[&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = Self { folder, flags: flags.to_vec(), dockerd: None };
        engine.begin();
        engine.make_image();
        engine
    }

    /// Returns once it answers.
    fn begin(&mut self) {
        let mut command = program::command("/usr/sbin/dockerd");
        let folder = self.folder.path();
        command.args(["--host", &self.host(), "--data-root"]).arg(folder.join("data"));
        command.arg("--exec-root").arg(folder.join("exec")).arg("--pidfile").arg(folder.join("pid"));
        // Nothing outside of the test has to be reached, nor may anything be changed.
        command.args(["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]);
        command.arg("--log-level=warn");
        command.args(&self.flags).env("PATH", path_of_root());
        self.dockerd = Some(Group::start(command, |_| {}));
        until("the engine answers", || self.command().arg("version").output().unwrap().status.success());
    }

    /// Ends it as `systemctl stop docker` does, and with it its containers, unless it is to let them live.
    fn end(&mut self) {
        if let Some(mut dockerd) = self.dockerd.take() {
            dockerd.signal(Signal::TERM);
            dockerd.wait();
        }
    }

    /// How `DOCKER_HOST` names it.
    fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// Drives it with Docker's own command.
    fn docker(&self, arguments: &[&str]) -> String {
        run(self.command().args(arguments))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.host()).env("DOCKER_CONFIG", self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    /// Runs a container.
    fn runs(&self, name: &str, options: &[&str]) {
        self.docker(&[&["run", "--detach", "--name", name], options, &["page:1"]].concat());
    }

    /// Where Docker's own command says that 8080 of the container is to be dialled.
    fn published(&self, name: &str) -> Vec<SocketAddr> {
        let told = self.docker(&["port", name, "8080/tcp"]);
        let mut addresses: Vec<SocketAddr> = told
            .lines()
            .map(|line| line.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]").replace(":::", "[::1]:"))
            .map(|line| line.parse().unwrap())
            .collect();
        addresses.sort();
        addresses
    }

    /// Of one program, its server and its page.
    fn make_image(&self) {
        let root = self.folder.path().join("image");
        for folder in ["bin", "www", "tmp"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        fs::write(root.join("www/index.html"), PAGE).unwrap();
        write_program(&root.join("bin/serve"), SERVE);
        let archive = self.folder.path().join("image.tar");
        run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."));
        let entry = r#"ENTRYPOINT ["/bin/serve"]"#;
        self.docker(&["import", "--change", entry, "--change", "EXPOSE 8080", archive.to_str().unwrap(), "page:1"]);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Each in turn as far as it goes: the test may have failed anywhere, and all ends with its namespaces.
        let containers = self.command().args(["ps", "--all", "--quiet"]).output().map(|output| output.stdout);
        let containers = String::from_utf8(containers.unwrap_or_default()).unwrap_or_default();
        let _ = self.command().args(["rm", "--force"]).args(containers.lines()).output();
        self.end();
        // Docker leaves its own network mounted, and what is mounted cannot be removed.
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path().join("exec/netns/default")).output();
    }
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Docker's helpers lie where only root looks by default.
fn path_of_root() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// The containers of an engine as portolan knows them.
struct Followed {
    receiver: watch::Receiver<Arc<Containers>>,
}

impl Followed {
    fn by(engine: &Engine) -> Self {
        let whereabouts = Whereabouts::named(Some(&engine.host()), None);
        let (hand, handed) = mpsc::channel();
        // Ends with the test, which has a process of its own.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                hand.send(follow(whereabouts)).unwrap();
                future::pending::<()>().await;
            });
        });
        Self { receiver: handed.recv().unwrap() }
    }

    fn now(&self) -> Arc<Containers> {
        Arc::clone(&self.receiver.borrow())
    }

    /// Where a port is dialled, as soon as it can be.
    fn port(&self, name: &str, port: u16) -> Vec<SocketAddr> {
        let mut found = Err(None);
        until(&format!("port {port} of {name} is found"), || {
            found = self.now().find(name, port).map_err(Some);
            found.is_ok()
        });
        let found = found.unwrap();
        assert!(found.addresses.iter().all(|address| found.listens(*address)), "{found:?}");
        found.addresses
    }

    /// Waits until this is told of port 8080.
    fn told(&self, name: &str, is_wanted: impl Fn(&NotFound) -> bool) {
        let mut last = None;
        let began = Instant::now();
        while !last.as_ref().is_some_and(&is_wanted) {
            assert!(began.elapsed() < PATIENCE, "of {name} at last {last:?}");
            thread::sleep(Duration::from_millis(20));
            last = self.now().find(name, 8080).err();
        }
    }
}
