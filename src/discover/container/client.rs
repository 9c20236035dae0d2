//! The questions to an engine: HTTP/1 over its socket, each on a connection of its own.
//!
//! A connection to a socket of this machine costs less than the bookkeeping of a kept one, and a restarted engine is met
//! anew with each. Only the stream of events lasts.

use std::{io, net::IpAddr, net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::{places::Door, told::word, trouble::Trouble};

/// For one whole answer. Docker lists a hundred containers in a few milliseconds.
const LIMIT: Duration = Duration::from_secs(2);

/// The largest answer that is read: some thousand containers.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// An engine that can be asked.
#[derive(Debug, Clone)]
pub(super) struct Client {
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// The stream of an engine's events.
#[derive(Debug)]
pub(super) struct Events {
    body: Incoming,
    _connection: JoinSet<()>,
}

impl Client {
    /// Finds the way to the engine. A name is looked up once, so that all that is told comes from one machine.
    pub(super) async fn open(door: &Door) -> Result<Self, Trouble> {
        let way = match door {
            Door::Unix(path) => Way::Unix(path.clone()),
            Door::Tcp(host, port) => {
                let stream = limited(async { Ok(TcpStream::connect((host.as_str(), *port)).await?) }).await?;
                Way::Tcp(stream.peer_addr()?)
            }
            Door::Closed(_, trouble) => return Err(trouble.clone()),
        };
        Ok(Self { way })
    }

    /// The machine that the engine runs on, unless it is this one.
    pub(super) fn host(&self) -> Option<IpAddr> {
        match self.way {
            Way::Tcp(address) if !address.ip().to_canonical().is_loopback() => Some(address.ip()),
            Way::Unix(_) | Way::Tcp(_) => None,
        }
    }

    /// A whole answer.
    pub(super) async fn get(&self, path: &str) -> Result<Bytes, Trouble> {
        limited(async {
            let mut connection = JoinSet::new();
            let response = self.ask(path, &mut connection).await?;
            whole(response.into_body()).await
        })
        .await
    }

    /// An answer that goes on for as long as the engine runs.
    pub(super) async fn events(&self, path: &str) -> Result<Events, Trouble> {
        let mut connection = JoinSet::new();
        let body = limited(self.ask(path, &mut connection)).await?.into_body();
        Ok(Events { body, _connection: connection })
    }

    /// The answer's head; the connection is driven by a task of `connection`, and ends with it.
    async fn ask(&self, path: &str, connection: &mut JoinSet<()>) -> Result<Response<Incoming>, Trouble> {
        let mut sender = match &self.way {
            #[cfg(unix)]
            Way::Unix(path) => shake_hands(tokio::net::UnixStream::connect(path).await?, connection).await?,
            #[cfg(not(unix))]
            Way::Unix(_) => return Err(Trouble::Unreachable("this system has no such sockets".into())),
            Way::Tcp(address) => shake_hands(TcpStream::connect(address).await?, connection).await?,
        };
        let request = Request::get(path)
            .header(header::HOST, "localhost")
            .header(header::USER_AGENT, concat!("portolan/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| Trouble::Strange(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        match response.status() {
            StatusCode::OK => Ok(response),
            status => Err(refusal(status, whole(response.into_body()).await.as_deref().unwrap_or_default())),
        }
    }
}

impl Events {
    /// Returns when something happened; the error says why nothing will be told any more.
    pub(super) async fn next(&mut self) -> Result<(), Trouble> {
        match self.body.frame().await {
            Some(frame) => frame.map(drop).map_err(broken),
            None => Err(Trouble::Ended),
        }
    }
}

async fn limited<T>(answer: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    timeout(LIMIT, answer).await.unwrap_or(Err(Trouble::Silent(LIMIT)))
}

async fn shake_hands(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: &mut JoinSet<()>,
) -> Result<http1::SendRequest<Empty<Bytes>>, Trouble> {
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // How it ends is told by the answer.
    connection.spawn(async move { drop(driver.await) });
    Ok(sender)
}

async fn whole(body: Incoming) -> Result<Bytes, Trouble> {
    match Limited::new(body, MOST_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Err(broken(*error)),
            Err(_) => Err(Trouble::Strange(format!("it answers with more than {} MiB", MOST_BYTES / 1024 / 1024))),
        },
    }
}

/// What hyper met, down to what the system said where that was the cause.
fn broken(error: hyper::Error) -> Trouble {
    if error.is_incomplete_message() || error.is_canceled() {
        return Trouble::Ended;
    }
    let system = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
    match system {
        Some(system) => io::Error::from(system.kind()).into(),
        None => Trouble::Strange(format!("it does not speak HTTP/1: {}", word(&error.to_string()))),
    }
}

/// What engines say of a request that they do not answer.
#[derive(Deserialize)]
struct Message {
    message: String,
}

fn refusal(status: StatusCode, body: &[u8]) -> Trouble {
    let words = match serde_json::from_slice::<Message>(body) {
        Ok(Message { message }) => format!(": {}", word(&message)),
        Err(_) => String::new(),
    };
    Trouble::Strange(format!("it answers with status {}{words}", status.as_u16()))
}
