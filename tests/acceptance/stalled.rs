//! A stream that its client does not read, beside others on the same connection, which must not notice (S61).
//!
//! Blocks of requests take turns, with and without such a stream beside them, so that whatever else the machine does, it
//! does to both.

use std::{future::poll_fn, net::SocketAddr, thread, time::Instant};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest, server::SendResponse};
use http::{Request, Response};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
};

use crate::{
    folder::Folder,
    latencies::Latencies,
    origin::origin,
    program::{Portolan, tell},
};

/// By how much the requests beside it may be slower.
const MOST: f64 = 1.1;

/// Requests in a block.
const BLOCK: usize = 100;

/// Requests before each block that do not count: meanwhile the kernel's buffers fill with megabytes or are thrown away, which
/// takes some milliseconds of all that the machine has.
const SETTLING: usize = 200;

/// What a stream takes before its client gives more: as every stream begins.
const WINDOW: usize = 65_535;

/// The path of the answer without end.
const ENDLESS: &str = "/endless";

/// What is answered to all else.
const PAGE: &[u8] = &[b'p'; 1024];

/// What the program behind the proxy speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Program {
    Http1,
    /// On a connection that all streams share.
    Http2,
}

impl Program {
    /// Starts it and tells the target of its route. It ends with the test.
    fn start(self) -> String {
        match self {
            Self::Http1 => http1().to_string(),
            Self::Http2 => format!("'h2c://{}'", http2()),
        }
    }
}

/// So many blocks with a stalled stream beside them, and as many without, compared at that percentile.
pub(crate) fn run(program: Program, blocks: usize, percent: usize) {
    let folder = Folder::with_table(format!("[routes]\nall = {{ path = '/', to = {} }}\n", program.start()));
    let portolan = Portolan::serve(&folder, &["-q"]);
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut alone, mut beside) = runtime.block_on(take_turns(portolan.address(), blocks));
    let ratio = beside.at(percent).as_secs_f64() / alone.at(percent).as_secs_f64();
    tell(format_args!(
        "{program:?}: {} requests alone {:?} at the median and {:?} at the 99th percentile, as many beside a stalled stream \
         {:?} and {:?}: {ratio:.2} at the {percent}th",
        alone.count(),
        alone.at(50),
        alone.at(99),
        beside.at(50),
        beside.at(99),
    ));
    assert!(ratio <= MOST, "a stalled stream makes the others on its connection {ratio:.2} times as slow");
}

async fn take_turns(proxy: SocketAddr, blocks: usize) -> (Latencies, Latencies) {
    let mut client = connect(proxy).await;
    let (mut alone, mut beside) = (Latencies::default(), Latencies::default());
    for _ in 0..blocks {
        ask_often(&mut client, &mut alone).await;
        let stalled = stall(&mut client).await;
        ask_often(&mut client, &mut beside).await;
        // This resets it.
        drop(stalled);
    }
    (alone, beside)
}

/// A connection whose own window is never in the way.
async fn connect(proxy: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(proxy).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(1 << 30).initial_window_size(WINDOW as u32);
    let (client, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Asks for the answer without end and takes no more of it than comes by itself.
async fn stall(client: &mut SendRequest<Bytes>) -> RecvStream {
    let mut body = ask(client, ENDLESS).await;
    let mut came = 0;
    while came < WINDOW {
        came += body.data().await.unwrap().unwrap().len();
    }
    body
}

async fn ask_often(client: &mut SendRequest<Bytes>, latencies: &mut Latencies) {
    for number in 0..SETTLING + BLOCK {
        let began = Instant::now();
        let mut body = ask(client, "/").await;
        let mut came = Vec::with_capacity(PAGE.len());
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            came.extend_from_slice(&data);
        }
        assert_eq!(came, PAGE);
        if number >= SETTLING {
            latencies.add(began.elapsed());
        }
    }
}

async fn ask(client: &mut SendRequest<Bytes>, path: &str) -> RecvStream {
    let request = Request::get(format!("http://localhost{path}")).body(()).unwrap();
    let (response, _) = client.clone().ready().await.unwrap().send_request(request, true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

fn http1() -> u16 {
    origin(|mut asked| {
        if !asked.head.starts_with(&format!("GET {ENDLESS} ")) {
            return asked.answer(str::from_utf8(PAGE).unwrap());
        }
        asked.begin_stream("text/plain")?;
        // As few system calls as can be until the kernel takes no more.
        let piece = "p".repeat(1 << 20);
        loop {
            asked.send_chunk(&piece)?;
        }
    })
}

fn http2() -> SocketAddr {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        runtime.block_on(async {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
    });
    address
}

/// Until the proxy closes.
async fn serve(stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, response))) = connection.accept().await {
        let is_endless = request.uri().path() == ENDLESS;
        tokio::spawn(answer(response, is_endless));
    }
}

async fn answer(mut response: SendResponse<Bytes>, is_endless: bool) {
    let Ok(mut body) = response.send_response(Response::new(()), false) else { return };
    if is_endless {
        send_without_end(&mut body).await;
    } else {
        // Whoever asked may be gone.
        let _gone = body.send_data(Bytes::from_static(PAGE), true);
    }
}

/// Until nobody wants more of it.
async fn send_without_end(body: &mut SendStream<Bytes>) {
    loop {
        body.reserve_capacity(PAGE.len());
        let Some(Ok(room)) = poll_fn(|context| body.poll_capacity(context)).await else { return };
        if body.send_data(Bytes::from_static(&PAGE[..room.min(PAGE.len())]), false).is_err() {
            return;
        }
    }
}
