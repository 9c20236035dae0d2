//! Connections that do not begin with HTTP/1: TLS is taken off, and of HTTP/2 each stream is served as a connection.

use std::{cell::Cell, future::poll_fn, io, rc::Rc, sync::Arc, task::Poll, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::spawn_local,
    time::timeout,
};

use super::{
    conn::{Foreign, Server},
    deadlines::{KEEP_ALIVE, Limit, Place, Seat},
    within::{Encrypted, Within},
};
use crate::{
    http1::server::{Came, Connection, Speech},
    http2,
    tls::server::{self as tls, Keys},
};

/// How long a handshake may take, and how many may be under way at once on a worker: each costs a hundred times what a
/// request does.
const HANDSHAKE: Duration = Duration::from_secs(10);
const MOST_HANDSHAKES: usize = 256;

/// Of whom more becomes known within a connection.
pub trait Whose {
    /// The same client, behind TLS and for the host that it named there.
    fn over_tls(&self, keys: &Arc<Keys>, name: Option<&str>) -> Self;

    /// The same client, on a stream of HTTP/2.
    fn on_stream(&self) -> Self;
}

/// Serves what is carried within the connections of a worker.
#[derive(Debug)]
pub struct Protocols<H, G, F> {
    server: Rc<Server<H, G, F>>,
    keys: Arc<Keys>,
    config: Arc<rustls::ServerConfig>,
    handshakes: Cell<usize>,
}

impl<H, G, F> Protocols<H, G, F>
where
    F: Future<Output = Connection<Within>> + 'static,
    G: 'static,
{
    /// With these certificates; `server` answers requests as on bare connections.
    pub fn new(server: Server<H, G, F>, keys: Arc<Keys>, config: Arc<rustls::ServerConfig>) -> Self {
        Self { server: Rc::new(server), keys, config, handshakes: Cell::new(0) }
    }

    /// Serves a connection to its end.
    pub async fn serve<T>(self: Rc<Self>, foreign: Foreign<TcpStream, T>)
    where
        T: Whose + 'static,
        H: Fn(Rc<Seat<T>>, Connection<Within>, Came) -> F + 'static,
        G: Fn(Foreign<Within, T>),
    {
        let Foreign { speech, stream, place } = foreign;
        // What is carried within has limits of its own.
        place.seat().deadlines.disarm_all();
        if speech == Speech::Http2 {
            return self.serve_streams(stream, place).await;
        }
        // Who fails here was told why, or has left.
        let Ok(encrypted) = self.handshake(stream).await else { return };
        let session = encrypted.get_ref().1;
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        let within = place.within(|client| client.over_tls(&self.keys, session.server_name()));
        if is_http2 {
            return self.serve_streams(encrypted, within).await;
        }
        Rc::clone(&self.server).serve(Within::Tls(Box::new(encrypted)), within).await;
    }

    async fn handshake(&self, stream: crate::http1::rewound::Rewound<TcpStream>) -> io::Result<Encrypted> {
        let _one = One::of(&self.handshakes).ok_or(io::ErrorKind::QuotaExceeded)?;
        timeout(HANDSHAKE, tls::accept(&self.config, &self.keys, stream)).await?
    }

    /// Serves each stream in a task of its own, and the connection beneath them here.
    async fn serve_streams<S, T>(self: Rc<Self>, stream: S, place: Place<T>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
        T: Whose + 'static,
        H: Fn(Rc<Seat<T>>, Connection<Within>, Came) -> F + 'static,
        G: Fn(Foreign<Within, T>),
    {
        // Every stream is one of the same client, who is counted and waited for with the connection.
        let connection_of = place;
        let place = connection_of.within(Whose::on_stream);
        let accepted = timeout(HANDSHAKE, http2::server::Connection::accept(stream)).await;
        let Ok(Ok(mut connection)) = accepted else { return };
        poll_fn(|cx| {
            place.wake_me(cx);
            Poll::Ready(())
        })
        .await;
        let deadlines = &place.seat().deadlines;
        while let Some(stream) = poll_fn(|cx| {
            if deadlines.is_draining() || deadlines.is_over(Limit::Head) {
                connection.end();
            }
            let came = connection.poll_stream(cx);
            deadlines.keep_armed_while(!connection.has_streams(), Limit::Head, KEEP_ALIVE);
            came
        })
        .await
        {
            let place = place.within(Whose::on_stream);
            spawn_local(Rc::clone(&self.server).serve(Within::Stream(Box::new(stream)), place));
        }
    }
}

/// One of those that are counted; dropping it takes it out.
struct One<'c>(&'c Cell<usize>);

impl<'c> One<'c> {
    fn of(count: &'c Cell<usize>) -> Option<Self> {
        let one = (count.get() < MOST_HANDSHAKES).then_some(Self(count))?;
        count.set(count.get() + 1);
        Some(one)
    }
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
