//! A file on its way to a client: read as the client takes it, and never more of it in memory than a piece.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncReadExt};
use tower_http::services::fs::AsyncReadBody;

use super::Body;

/// What is read, and held, at a time.
const PIECE: usize = 64 * 1024;

/// The next `length` bytes of `file`. A file that turns out shorter cuts the answer.
pub(super) fn read(file: impl AsyncRead + Send + Unpin + 'static, length: u64) -> Body {
    measured(AsyncReadBody::with_capacity(file.take(length), PIECE), length)
}

/// `body`, which has `length` bytes and does not know it.
///
/// Whoever writes it has announced that length, so an end before it is an error.
pub(super) fn measured<B>(body: B, length: u64) -> Body
where
    B: http_body::Body<Data = Bytes, Error = io::Error> + Send + Unpin + 'static,
{
    Body::Stream(Measured { body, left: length }.boxed_unsync())
}

struct Measured<B> {
    body: B,
    left: u64,
}

impl<B: http_body::Body<Data = Bytes, Error = io::Error> + Unpin> http_body::Body for Measured<B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match frame {
            None if self.left > 0 => {
                self.left = 0;
                Some(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            frame => {
                let piece = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                self.left = self.left.saturating_sub(piece.map_or(0, Bytes::len) as u64);
                frame
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::combinators::UnsyncBoxBody;

    use super::*;

    fn stream(bytes: Vec<u8>, length: u64) -> UnsyncBoxBody<Bytes, io::Error> {
        match read(io::Cursor::new(bytes), length) {
            Body::Stream(stream) => stream,
            other => panic!("no stream: {other:?}"),
        }
    }

    #[tokio::test]
    async fn it_comes_in_pieces_and_knows_its_end_with_the_last_of_them() {
        let bytes: Vec<_> = (0..3 * PIECE + 7).map(|at| (at % 251) as u8).collect();
        let mut stream = stream(bytes.clone(), bytes.len() as u64);
        let mut came = Vec::new();
        while !stream.is_end_stream() {
            assert_eq!(stream.size_hint().exact(), Some((bytes.len() - came.len()) as u64));
            let piece = stream.frame().await.expect("a frame").expect("no error").into_data().expect("bytes");
            assert!((1..=PIECE).contains(&piece.len()), "{}", piece.len());
            came.extend(piece);
        }
        assert!(came == bytes);
        assert!(stream.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_file_that_has_grown_ends_where_it_was_said_to() {
        assert_eq!(stream(b"abcdef".to_vec(), 3).collect().await.expect("all of it").to_bytes(), "abc");
    }

    #[tokio::test]
    async fn a_file_that_has_shrunk_is_an_error() {
        let mut stream = stream(b"abc".to_vec(), 5);
        assert_eq!(stream.frame().await.expect("a frame").expect("no error").into_data().expect("bytes"), "abc");
        let error = stream.frame().await.expect("a frame").expect_err("two bytes are missing");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(stream.is_end_stream());
    }

    #[test]
    fn an_empty_file_is_over_before_it_is_read() {
        assert!(stream(Vec::new(), 0).is_end_stream());
    }
}
