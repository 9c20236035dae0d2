//! A command's side of the control socket: one connection for each question.

use std::{collections::VecDeque, io, path::Path};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use super::{
    api::Problem,
    socket::{self, is_ours},
};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody is there.
    #[error("no portolan runs at port {0}")]
    NotRunning(u16),
    /// Whoever answers is of another user.
    #[error("the control socket of port {0} belongs to another user")]
    Foreign(u16),
    /// The answer is no.
    #[error("{}", .0.message)]
    Refused(Problem),
    /// It hung up, or said what cannot be understood.
    #[error("the running portolan does not answer as it should: {0}")]
    Broken(String),
}

/// The portolan that listens on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    port: u16,
}

impl Client {
    /// Nothing is asked yet.
    pub fn new(port: u16) -> Self {
        Self { port }
    }

    /// Its port.
    pub fn port(self) -> u16 {
        self.port
    }

    /// Asks for something.
    pub async fn get<T: DeserializeOwned>(self, path: &str) -> Result<T, CallError> {
        whole(self.call(Method::GET, path, Bytes::new()).await?).await
    }

    /// Asks that something be done.
    pub async fn post<T: DeserializeOwned>(self, path: &str, body: &impl Serialize) -> Result<T, CallError> {
        whole(self.call(Method::POST, path, json(body)?).await?).await
    }

    /// Asks for lines.
    pub async fn lines(self, path: &str) -> Result<Lines, CallError> {
        Ok(Lines::new(self.call(Method::GET, path, Bytes::new()).await?))
    }

    /// Asks that something be done for as long as these lines are read.
    pub async fn hold(self, path: &str, body: &impl Serialize) -> Result<Lines, CallError> {
        Ok(Lines::new(self.call(Method::POST, path, json(body)?).await?))
    }

    async fn call(self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, CallError> {
        let stream = self.connect(&socket::path(self.port).map_err(broken)?).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "portolan")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(CallError::Refused(whole(response).await?))
    }

    async fn connect(self, path: &Path) -> Result<UnixStream, CallError> {
        let stream = UnixStream::connect(path).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => CallError::NotRunning(self.port),
            _ => broken(error),
        })?;
        if is_ours(&stream) { Ok(stream) } else { Err(CallError::Foreign(self.port)) }
    }
}

fn broken(error: impl std::fmt::Display) -> CallError {
    CallError::Broken(error.to_string())
}

fn json(body: &impl Serialize) -> Result<Bytes, CallError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(broken)
}

async fn whole<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, CallError> {
    let bytes = response.into_body().collect().await.map_err(broken)?.to_bytes();
    serde_json::from_slice(&bytes).map_err(broken)
}

/// Lines of JSON, as they come. Dropping them hangs up.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: VecDeque<u8>,
}

impl Lines {
    fn new(response: Response<Incoming>) -> Self {
        Self { body: response.into_body(), buffer: VecDeque::new() }
    }

    /// The next one; none where the other side has hung up.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CallError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(broken);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().unwrap_or_default()),
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}
