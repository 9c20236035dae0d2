//! An engine that does as it is told: HTTP on a Unix socket, with answers and moods of the test's choice.

use std::{
    fmt::Write as _,
    future,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{broadcast, watch},
    task::JoinSet,
};

/// How the engine answers when it is asked for its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As an engine does.
    Well,
    /// Never.
    Silent,
    /// With a list that breaks off.
    Malformed,
    /// With a body that has no end.
    Endless,
    /// With a status of its own.
    Refusing,
}

/// A running engine. Dropping it ends it and every connection to it; its socket stays behind, as after a crash.
pub(crate) struct Engine {
    script: Arc<Script>,
    _task: JoinSet<()>,
}

struct Script {
    mood: Mutex<Mood>,
    list: Mutex<String>,
    details: Mutex<String>,
    lists: watch::Sender<usize>,
    events: broadcast::Sender<()>,
}

/// A folder for sockets.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// How `DOCKER_HOST` names the socket.
pub(crate) fn host(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// A running container that publishes its port 8080 at `127.0.0.1:port`, as a list tells it.
pub(crate) fn container(name: &str, port: u16) -> String {
    stopped(name, "running", &format!(r#"{{"IP":"127.0.0.1","PrivatePort":8080,"PublicPort":{port},"Type":"tcp"}}"#))
}

/// A container in another state.
pub(crate) fn stopped(name: &str, state: &str, ports: &str) -> String {
    format!(
        r#"{{"Id":"1d0f{name}","Names":["/{name}"],"Image":"bb:1","State":"{state}","Ports":[{ports}],"Labels":{{}}}}"#
    )
}

impl Engine {
    /// Listens at that path, whatever was there before.
    pub(crate) fn start(socket: &Path, containers: &[String]) -> Self {
        if socket.exists() {
            std::fs::remove_file(socket).unwrap();
        }
        let script = Arc::new(Script {
            mood: Mutex::new(Mood::Well),
            list: Mutex::default(),
            details: Mutex::new(details(LONG_AGO)),
            lists: watch::Sender::new(0),
            events: broadcast::channel(4096).0,
        });
        let listener = UnixListener::bind(socket).unwrap();
        let mut task = JoinSet::new();
        task.spawn(serve(listener, Arc::clone(&script)));
        let engine = Self { script, _task: task };
        engine.becomes(containers);
        engine
    }

    /// It has these containers from now on, and tells nobody.
    pub(crate) fn becomes(&self, containers: &[String]) {
        *lock(&self.script.list) = format!("[{}]", containers.join(","));
    }

    /// All its containers were started then, by a process that is none of this machine.
    pub(crate) fn has_started_all(&self, at: &str) {
        *lock(&self.script.details) = details(at);
    }

    /// It answers in this way from now on.
    pub(crate) fn feels(&self, mood: Mood) {
        *lock(&self.script.mood) = mood;
    }

    /// Tells whoever follows its events that something has happened.
    pub(crate) fn tells(&self) {
        self.script.events.send(()).expect("somebody follows the events");
    }

    /// How often it was asked for its containers.
    pub(crate) fn lists(&self) -> usize {
        *self.script.lists.borrow()
    }

    /// Waits until it was asked once more.
    pub(crate) async fn asked_again(&self) {
        let before = self.lists();
        self.script.lists.subscribe().wait_for(|lists| *lists > before).await.unwrap();
    }

    /// How many connections follow its events.
    pub(crate) fn followers(&self) -> usize {
        self.script.events.receiver_count()
    }
}

/// When containers are started in tests.
const LONG_AGO: &str = "2020-02-20T20:20:20Z";

fn details(started: &str) -> String {
    format!(r#"{{"State":{{"Status":"running","Pid":2147483647,"StartedAt":"{started}"}}}}"#)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

async fn serve(listener: UnixListener, script: Arc<Script>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let script = Arc::clone(&script);
        // How a connection ends is the asker's matter.
        connections.spawn(async move { drop(converse(stream, &script).await) });
    }
}

/// Answers one request; what asks is known to use a connection for one.
async fn converse(mut stream: UnixStream, script: &Script) -> std::io::Result<()> {
    let head = read_head(&mut stream).await?;
    let path = head.split(' ').nth(1).unwrap_or_default();
    match path.split('?').next().unwrap_or_default() {
        "/version" => respond(&mut stream, r#"{"Version":"28.5.2","ApiVersion":"1.51","MinAPIVersion":"1.24"}"#).await,
        "/v1.51/events" => tell_events(stream, script).await,
        "/v1.51/containers/json" => list(stream, script).await,
        // A look at one container.
        _ => {
            let details = lock(&script.details).clone();
            respond(&mut stream, &details).await
        }
    }
}

async fn list(mut stream: UnixStream, script: &Script) -> std::io::Result<()> {
    let list = lock(&script.list).clone();
    let mood = *lock(&script.mood);
    script.lists.send_modify(|lists| *lists += 1);
    match mood {
        Mood::Well => respond(&mut stream, &list).await,
        Mood::Silent => future::pending().await,
        Mood::Malformed => respond(&mut stream, "[{\"Id\":\"1d0f\",\"Na").await,
        Mood::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n[").await?;
            loop {
                stream.write_all(&[b' '; 65536]).await?;
            }
        }
        Mood::Refusing => {
            let words = r#"{"message":"client version 1.51 is too new"}"#;
            let head = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n{words}", words.len());
            stream.write_all(head.as_bytes()).await
        }
    }
}

async fn tell_events(mut stream: UnixStream, script: &Script) -> std::io::Result<()> {
    let mut events = script.events.subscribe();
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    let event = r#"{"Type":"container","Action":"start","Actor":{"ID":"1d0f"}}"#;
    let chunk = format!("{:x}\r\n{event}\n\r\n", event.len() + 1);
    let (mut from_follower, mut to_follower) = stream.split();
    let mut nothing = [0];
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(()) | Err(broadcast::error::RecvError::Lagged(_)) => to_follower.write_all(chunk.as_bytes()).await?,
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
            // A follower says nothing more: what can be read is its end.
            _ = from_follower.read(&mut nothing) => return Ok(()),
        }
    }
}

async fn read_head(stream: &mut UnixStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

async fn respond(stream: &mut UnixStream, json: &str) -> std::io::Result<()> {
    let mut response = String::from("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n");
    write!(response, "content-length: {}\r\n\r\n{json}", json.len()).unwrap();
    stream.write_all(response.as_bytes()).await
}

/// The path of a socket in that folder.
pub(crate) fn socket(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}
