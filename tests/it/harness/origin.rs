//! A program behind the proxy that answers by itself and keeps what it was asked.

use std::sync::{Arc, Mutex};

use tokio::{net::TcpListener, sync::watch};

use super::{Request, Wire, within};

/// What an origin answers, by the longest prefix of the target.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    routes: Vec<(String, String)>,
}

/// A program that answers on 127.0.0.1.
#[derive(Debug)]
pub(crate) struct Origin {
    port: u16,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// How many connections are open.
    open: watch::Sender<usize>,
    requests: Mutex<Vec<Request>>,
    faults: Mutex<Vec<String>>,
}

/// An origin that knows no answer yet.
pub(crate) fn origin() -> Builder {
    Builder::default()
}

impl Builder {
    /// Answers what begins with `prefix` with 200 and a text.
    pub(crate) fn route(self, prefix: &str, text: &str) -> Self {
        self.raw(prefix, &format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()))
    }

    /// Answers what begins with `prefix` with these bytes.
    pub(crate) fn raw(mut self, prefix: &str, bytes: &str) -> Self {
        self.routes.push((prefix.to_owned(), bytes.to_owned()));
        self
    }

    /// Listens.
    pub(crate) async fn run(mut self) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        self.routes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let (routes, seen) = (Arc::new(self.routes), Arc::new(Seen::default()));
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                noted.open.send_modify(|open| *open += 1);
                let (routes, noted) = (Arc::clone(&routes), Arc::clone(&noted));
                tokio::spawn(async move {
                    answer(Wire::new(stream), &routes, &noted).await;
                    noted.open.send_modify(|open| *open -= 1);
                });
            }
        });
        Origin { port, seen }
    }
}

async fn answer(mut wire: Wire, routes: &[(String, String)], seen: &Seen) {
    loop {
        match wire.next_request().await {
            Ok(Some(request)) => {
                let target = request.line().split(' ').nth(1).unwrap_or_default().to_owned();
                seen.requests.lock().unwrap().push(request);
                let found = routes.iter().find(|(prefix, _)| target.starts_with(prefix.as_str()));
                let answer = found.map_or("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", |(_, bytes)| bytes);
                if wire.try_send(answer).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(fault) => {
                seen.faults.lock().unwrap().push(fault);
                return;
            }
        }
    }
}

impl Origin {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns when every connection so far has ended, and so was read to its end.
    pub(crate) async fn has_read_all(&self) {
        // Connections are taken in order: once this one has ended, all before it were taken.
        let mut last = Wire::connect(self.port).await;
        last.shut().await;
        last.end().await;
        let mut open = self.seen.open.subscribe();
        within("the end of all connections", open.wait_for(|open| *open == 0)).await.unwrap();
    }

    /// All whole requests since the last look.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.seen.requests.lock().unwrap())
    }

    /// All requests since the last look that were cut short or broke the grammar.
    pub(crate) fn faults(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.faults.lock().unwrap())
    }
}
