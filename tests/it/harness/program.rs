//! A program behind the proxy whose every byte the test sends by hand.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use tokio::net::TcpListener;

use super::{Wire, message::latin1, within};

/// A listening program. What connects waits until the test takes it.
#[derive(Debug)]
pub(crate) struct Program {
    listener: TcpListener,
    /// The same socket, to look without waiting whether somebody has connected.
    peek: std::net::TcpListener,
}

/// A program on a free port of 127.0.0.1.
pub(crate) fn program() -> Program {
    program_on("127.0.0.1:0").unwrap()
}

/// A program on an address.
pub(crate) fn program_on(address: &str) -> std::io::Result<Program> {
    let peek = std::net::TcpListener::bind(address)?;
    peek.set_nonblocking(true)?;
    Ok(Program { listener: TcpListener::from_std(peek.try_clone()?)?, peek })
}

impl Program {
    pub(crate) fn port(&self) -> u16 {
        self.peek.local_addr().unwrap().port()
    }

    /// The next connection.
    pub(crate) async fn connection(&self) -> Wire {
        let (stream, _) = within("a connection to the program", self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Wire::new(stream)
    }

    /// The connection on which the next request comes: the one that may have been kept, or a new one.
    pub(crate) async fn next_connection(&self, mut kept: Wire) -> Wire {
        tokio::select! {
            connection = self.connection() => connection,
            true = kept.has_more() => kept,
        }
    }

    /// The connection that asks with `line`, and all that came on those before it, which have ended.
    pub(crate) async fn connection_asking(&self, line: &str) -> (Wire, Vec<String>) {
        let mut before = Vec::new();
        loop {
            let mut connection = self.connection().await;
            if !connection.has_more().await {
                continue;
            }
            let head = connection.head().await;
            if head.line() == line {
                return (connection, before);
            }
            before.push(head.text + &latin1(&connection.rest().await.0));
        }
    }

    /// Asserts that nobody has connected since the last connection was taken. A connection that the proxy had begun
    /// before its answer would be seen here.
    pub(crate) fn is_left_alone(&self) {
        match self.peek.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => panic!("the program got a connection: {other:?}"),
        }
    }
}

/// A port at which nothing listens, nor can meanwhile.
#[derive(Debug)]
pub(crate) struct Nobody {
    pub(crate) port: u16,
    _socket: socket2::Socket,
}

impl Nobody {
    pub(crate) fn new() -> Self {
        let socket = bound();
        Self { port: socket.local_addr().unwrap().as_socket().unwrap().port(), _socket: socket }
    }
}

fn bound() -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket
}

/// A listening program that takes no connection, as its queue is full: the kernel drops every further attempt.
#[derive(Debug)]
pub(crate) struct Full {
    pub(crate) address: SocketAddr,
    _listener: socket2::Socket,
    _queue: Vec<TcpStream>,
}

impl Full {
    pub(crate) fn new() -> Self {
        let listener = bound();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            queue.push(stream);
            assert!(queue.len() < 100, "this kernel does not keep to the backlog");
        }
        Self { address, _listener: listener, _queue: queue }
    }
}
