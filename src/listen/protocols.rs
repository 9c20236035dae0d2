//! Connections that do not begin with HTTP/1: TLS is taken off, and of HTTP/2 each stream is served as a connection.

use std::{future::poll_fn, io, rc::Rc, sync::Arc, task::Poll, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Semaphore,
    task::spawn_local,
    time::timeout,
};

use super::{
    conn::{Foreign, Server},
    deadlines::{Deadlines, HEAD, KEEP_ALIVE, Limit, Place, Seat, WRITE},
    within::{Encrypted, Within},
};
use crate::{
    http1::{
        rewound::Rewound,
        server::{Came, Connection, Speech},
    },
    http2,
    tls::server::{self as tls, Keys},
};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How many of TLS may be under way at once: each costs a hundred times what a request does.
static HANDSHAKES: Semaphore = Semaphore::const_new(256);

/// How long a client may take to see that its connection ends (RFC 9113 §6.8).
const ENDING: Duration = Duration::from_secs(5);

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
}

impl<H, G, F> Protocols<H, G, F>
where
    F: Future<Output = Connection<Within>> + 'static,
    G: 'static,
{
    /// With these certificates; `server` answers requests as on bare connections.
    pub fn new(server: Server<H, G, F>, keys: Arc<Keys>, config: Arc<rustls::ServerConfig>) -> Self {
        Self { server: Rc::new(server), keys, config }
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

    async fn handshake(&self, stream: Rewound<TcpStream>) -> io::Result<Encrypted> {
        let _one = HANDSHAKES.try_acquire().map_err(|_| io::ErrorKind::QuotaExceeded)?;
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
        let mut watch = Watch::new(&place.seat().deadlines);
        while let Some(stream) = poll_fn(|cx| {
            if watch.is_over(&mut connection) {
                return Poll::Ready(None);
            }
            let came = connection.poll_stream(cx);
            watch.look(&connection);
            came
        })
        .await
        {
            let place = place.within(Whose::on_stream);
            spawn_local(Rc::clone(&self.server).serve(Within::Stream(Box::new(stream)), place));
        }
    }
}

/// The limits of a connection of HTTP/2 beneath its streams, which have their own.
struct Watch<'d> {
    deadlines: &'d Deadlines,
    /// For what [`Limit::Head`] stands.
    phase: Phase,
    /// How much its socket had taken when it took no more.
    blocked_at: Option<u64>,
}

/// Where a connection stands that waits for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There are streams, which have limits of their own.
    Busy,
    Idle,
    /// For the rest of a head.
    InHead,
    /// For an end.
    Ending,
}

impl<'d> Watch<'d> {
    fn new(deadlines: &'d Deadlines) -> Self {
        Self { deadlines, phase: Phase::Busy, blocked_at: None }
    }

    /// Whether nothing is to be waited for any longer. One that is idle is asked to end first.
    fn is_over<S: AsyncRead + AsyncWrite + Unpin>(&self, connection: &mut http2::server::Connection<S>) -> bool {
        let deadlines = self.deadlines;
        let is_idle_too_long = deadlines.is_over(Limit::Head) && self.phase == Phase::Idle;
        if is_idle_too_long || deadlines.is_draining() {
            connection.end();
        }
        deadlines.is_over(Limit::Write) || (deadlines.is_over(Limit::Head) && !is_idle_too_long)
    }

    /// Sees what it waits for now.
    fn look<S: AsyncRead + AsyncWrite + Unpin>(&mut self, connection: &http2::server::Connection<S>) {
        let (phase, limit) = match connection {
            connection if connection.is_in_head() => (Phase::InHead, HEAD),
            connection if connection.has_streams() => (Phase::Busy, Duration::MAX),
            connection if connection.is_ending() => (Phase::Ending, ENDING),
            _ => (Phase::Idle, KEEP_ALIVE),
        };
        if phase != self.phase {
            self.phase = phase;
            self.deadlines.disarm(Limit::Head);
        }
        self.deadlines.keep_armed_while(phase != Phase::Busy, Limit::Head, limit);
        let blocked_at = connection.blocked_at();
        if blocked_at != self.blocked_at {
            self.blocked_at = blocked_at;
            self.deadlines.disarm(Limit::Write);
        }
        self.deadlines.keep_armed_while(blocked_at.is_some(), Limit::Write, WRITE);
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        task::LocalSet,
        time::Instant,
    };

    use super::*;
    use crate::listen::deadlines::Sweep;

    /// What a client says first (RFC 9113 §3.4).
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    /// Somebody.
    struct Client;

    impl Whose for Client {
        fn over_tls(&self, _: &Arc<Keys>, _: Option<&str>) -> Self {
            Self
        }

        fn on_stream(&self) -> Self {
            Self
        }
    }

    /// How long the connection of a client lasts that says this and then nothing, and reads what comes or does not.
    async fn lasts(said: &[u8], reads: bool) -> Duration {
        let home = tempfile::tempdir().expect("a folder");
        let keys = Arc::new(Keys::new(home.path().to_owned(), |_: &str| false));
        let config = tls::config(Arc::clone(&keys)).expect("a configuration");
        let server = Server::new(async |_: Rc<Seat<Client>>, connection, _: Came| connection, |_| {});
        let protocols = Rc::new(Protocols::new(server, keys, config));
        let sweep = Rc::new(Sweep::default());
        let (mut client, stream): (DuplexStream, _) = duplex(64);
        let serve = Box::pin(Rc::clone(&protocols).serve_streams(stream, sweep.enter(Client)));
        let ask = async {
            client.write_all(said).await.expect("written");
            if reads {
                let _ = client.read_to_end(&mut Vec::new()).await;
            }
            std::future::pending::<()>().await;
        };
        let began = Instant::now();
        let run = async {
            tokio::select! {
                () = serve => {}
                () = ask => {}
                () = sweep.run() => {}
            }
        };
        LocalSet::new().run_until(run).await;
        began.elapsed()
    }

    fn is_about(time: Duration, expected: Duration) -> bool {
        time >= expected && time < expected + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_nobody_uses_ends_also_where_its_client_does_not_answer() {
        let time = lasts(PREFACE, true).await;
        assert!(is_about(time, KEEP_ALIVE + ENDING), "{time:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_without_an_end_ends_the_connection() {
        let headers = b"\0\0\x01\x01\0\0\0\0\x01\x82";
        let time = lasts(&[PREFACE, headers].concat(), true).await;
        assert!(is_about(time, HEAD), "{time:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_more_is_left() {
        // Our answers to its pings stand in the way of its next ones.
        let ping = b"\0\0\x08\x06\0\0\0\0\0pingping";
        let time = lasts(&[PREFACE, &ping.repeat(4)].concat(), false).await;
        assert!(is_about(time, WRITE), "{time:?}");
    }
}
