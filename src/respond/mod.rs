//! Answers of our own: what portolan says when no upstream is asked, or none could answer.
//!
//! An [`Answer`] is a plain value, complete before anything is written, so a filter, a log line and a test see
//! the same thing. Which engine writes it is no matter here. What stands behind a route's `redirect` and `respond`
//! is built below, error pages in [`pages`], the files of a folder in [`files`].

use std::{borrow::Cow, io, path::Path};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

mod beneath;
pub mod files;
pub mod pages;
mod stream;

/// Status, fields and body.
#[derive(Debug)]
pub struct Answer {
    /// A final status: 200 to 599.
    pub status: u16,
    /// Lowercase names, valid values. `content-length` stands here only where the body cannot tell it:
    /// with [`Body::Stream`], and in the answer to a HEAD.
    pub fields: Vec<(Cow<'static, str>, String)>,
    /// What follows the fields; whoever writes the answer to a HEAD keeps the length and drops the bytes.
    pub body: Body,
}

/// What follows the fields of an [`Answer`].
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// All of it, at hand.
    Bytes(Bytes),
    /// A file, read as the client takes it. A read that fails cuts the answer short.
    Stream(UnsyncBoxBody<Bytes, io::Error>),
}

impl Answer {
    /// No body, no fields.
    pub fn empty(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Body::Empty }
    }

    /// Plain text.
    pub fn text(status: u16, text: impl Into<Bytes>) -> Self {
        Self::typed(status, "text/plain; charset=utf-8", text)
    }

    /// JSON that is serialized already.
    pub fn json(status: u16, json: impl Into<Bytes>) -> Self {
        Self::typed(status, "application/json", json)
    }

    /// The way to another place, with a line for those who do not follow.
    ///
    /// It is never kept: a browser that remembered a 301 would go on following it after its line has left the table.
    pub fn redirect(status: u16, to: &str) -> Self {
        let location = url_reference(to);
        Self::text(status, format!("see {location}\n"))
            .with("location", location)
            .with("cache-control", "no-store".to_owned())
    }

    /// A whole file, its type guessed from its name; an error where it is no regular file that may be read.
    pub async fn file(status: u16, path: &Path) -> io::Result<Self> {
        let wanted = path.to_owned();
        let opening = tokio::task::spawn_blocking(move || beneath::open_anywhere(&wanted));
        let (file, metadata) = opening.await.map_err(io::Error::other).flatten()?;
        let kind = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
        let body = stream::read(tokio::fs::File::from(file), metadata.len());
        let answer = Self { body, ..Self::empty(status) };
        let answer = answer.with("content-type", with_charset(kind));
        Ok(answer.with("content-length", metadata.len().to_string()))
    }

    /// One more field.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: String) -> Self {
        self.fields.push((name.into(), value));
        self
    }

    /// The fields that a person wrote for this answer; they take the place of ours, and keep their own number and order.
    #[must_use]
    pub fn with_fields(mut self, written: &[(String, String)]) -> Self {
        self.fields.retain(|(ours, _)| !written.iter().any(|(name, _)| ours.eq_ignore_ascii_case(name)));
        self.fields.extend(written.iter().map(|(name, value)| (Cow::Owned(name.clone()), value.clone())));
        self
    }

    /// The value of the first field of that name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    fn typed(status: u16, kind: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { status, fields: vec![(Cow::Borrowed("content-type"), kind.into())], body: Body::Bytes(body.into()) }
    }
}

/// Without a charset browsers read text as windows-1252, and what is written today is UTF-8.
fn with_charset(kind: &str) -> String {
    if kind.starts_with("text/") && !kind.contains(';') { format!("{kind}; charset=utf-8") } else { kind.to_owned() }
}

/// `text` as a field can hold it and a URL may be written: what is no visible ASCII becomes `%XX`.
fn url_reference(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        push_escaped(&mut out, byte, byte.is_ascii_graphic());
        out
    })
}

/// `byte` itself where that is `plain`, otherwise `%XX`.
fn push_escaped(out: &mut String, byte: u8, plain: bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if plain {
        out.push(char::from(byte));
    } else {
        out.push('%');
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 0xf)]));
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::head::{Fields, Host, RequestHead};

    /// A request of the tests of this room.
    pub(super) struct Asked {
        method: &'static str,
        target: String,
        host: Host<'static>,
        fields: Vec<(&'static str, String)>,
    }

    impl Asked {
        pub(super) fn new(method: &'static str, target: impl Into<String>) -> Self {
            let host = Host::parse(b"localhost").expect("a host");
            Self { method, target: target.into(), host, fields: Vec::new() }
        }

        pub(super) fn get(target: impl Into<String>) -> Self {
            Self::new("GET", target)
        }

        pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
            self.fields.push((name, value.into()));
            self
        }

        pub(super) fn head(&self) -> RequestHead<'_> {
            let (path, query) = match self.target.split_once('?') {
                Some((path, query)) => (path, Some(query)),
                None => (self.target.as_str(), None),
            };
            RequestHead { method: self.method, path, query, host: &self.host, fields: self }
        }
    }

    impl Fields for Asked {
        fn first(&self, name: &str) -> Option<&[u8]> {
            self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_bytes())
        }
    }

    pub(super) fn bytes(answer: &Answer) -> &[u8] {
        match &answer.body {
            Body::Bytes(bytes) => bytes,
            other => panic!("no bytes: {other:?}"),
        }
    }

    #[test]
    fn a_redirect_names_the_place_and_is_not_remembered() {
        let answer = Answer::redirect(308, "/new?q=1%20&r=é");
        assert_eq!(answer.status, 308);
        assert_eq!(answer.field("location"), Some("/new?q=1%20&r=%C3%A9"));
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        assert_eq!(bytes(&answer), b"see /new?q=1%20&r=%C3%A9\n");
    }

    #[test]
    fn a_redirect_cannot_begin_another_field() {
        let answer = Answer::redirect(302, "/a\r\nset-cookie: b");
        assert_eq!(answer.field("location"), Some("/a%0D%0Aset-cookie:%20b"));
    }

    #[test]
    fn written_fields_take_the_place_of_ours_and_may_repeat() {
        let written = [("Content-Type", "text/csv"), ("set-cookie", "a=1"), ("set-cookie", "b=2")];
        let written = written.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let answer = Answer::text(200, "a,b").with_fields(&written);
        let fields: Vec<_> = answer.fields.iter().map(|(name, value)| (name.as_ref(), value.as_str())).collect();
        assert_eq!(fields, [("Content-Type", "text/csv"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]);
    }

    #[tokio::test]
    async fn a_file_is_answered_with_the_type_of_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("me.html");
        std::fs::write(&path, "<p>Ada</p>").expect("a file");
        let answer = Answer::file(418, &path).await.expect("an answer");
        assert_eq!((answer.status, answer.field("content-type")), (418, Some("text/html; charset=utf-8")));
        assert_eq!(answer.field("content-length"), Some("10"));
        let Body::Stream(stream) = answer.body else { panic!("no stream: {:?}", answer.body) };
        assert_eq!(stream.collect().await.expect("all of it").to_bytes(), "<p>Ada</p>");
    }

    #[tokio::test]
    async fn what_is_no_file_is_an_error_and_never_a_wait() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Answer::file(200, folder.path()).await.is_err());
        assert!(Answer::file(200, &folder.path().join("none")).await.is_err());
        #[cfg(unix)]
        {
            let fifo = folder.path().join("fifo");
            rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a fifo");
            assert!(Answer::file(200, &fifo).await.is_err());
        }
    }
}
