//! Files of a folder, as a `files` route answers with them: never one from outside, never a stale one.
//!
//! `tower-http` does what RFC 9110 asks of a file (types, ranges, validators); [`beneath`](super::beneath) does the
//! opening. What is left to decide here: which paths are files at all, where a folder's page lives, and when the fallback
//! of a single-page app stands in. There is no listing of folders, and no compression: loopback gains nothing by it.

use std::{
    ffi::OsStr,
    fmt, io,
    path::{Component, Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, header};
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::{
    ServeDir,
    fs::{Backend, File, ServeFileSystemResponseBody as FileBody},
};

use super::{
    Answer, Body, beneath,
    pages::{Cause, Page, accepts_html},
    push_escaped, with_charset,
};
use crate::head::RequestHead;

/// The folder of one `files` route.
#[derive(Debug, Clone)]
pub struct Folder {
    root: Arc<Path>,
    fallback: Option<PathBuf>,
}

impl Folder {
    /// Serves what lies beneath `root`, and `fallback` beneath it where a page is wanted that is not there.
    ///
    /// Neither needs to exist yet.
    pub fn new(root: PathBuf, fallback: Option<PathBuf>) -> Self {
        Self { root: root.into(), fallback }
    }

    /// Answers GET and HEAD with the file at `path`, which is the path of `head` after a rewrite, if there was one.
    pub async fn answer(&self, head: &RequestHead<'_>, path: &str) -> Result<Answer, NoFile> {
        if !matches!(head.method, "GET" | "HEAD") {
            return Err(NoFile::Method { method: head.method.to_owned() });
        }
        let mut answer = match self.find(head, path).await {
            Ok(answer) => answer,
            Err(Miss::Failed(error)) => return Err(NoFile::Unreadable { path: path.to_owned(), error }),
            Err(miss) => match self.fall_back(head).await {
                Some(answer) => answer,
                None => return Err(self.explain(head, path, miss).await),
            },
        };
        // HEAD is asked as a GET, so that both find the same: opening tells more than looking.
        if head.method == "HEAD" {
            answer.body = Body::Empty;
        }
        Ok(answer)
    }

    async fn find(&self, head: &RequestHead<'_>, path: &str) -> Result<Answer, Miss> {
        if !is_plain(path) {
            return Err(Miss::Refused);
        }
        // `/docs` with its prefix stripped: the folder itself, whose relative links need the slash as any folder's do.
        if path == "/" && !head.path.ends_with('/') {
            return Ok(slash_added(head));
        }
        let response = self.fetch(head, path, Part::AsAsked).await?;
        if response.status().is_redirection() && response.headers().contains_key(header::LOCATION) {
            return match head.path.ends_with('/') {
                true => self.fetch(head, &format!("{path}/"), Part::AsAsked).await.map(into_answer),
                false => Ok(slash_added(head)),
            };
        }
        if head.text("if-range").is_some_and(|validator| !holds(validator, &response)) {
            return self.fetch(head, path, Part::Whole).await.map(into_answer);
        }
        Ok(into_answer(response))
    }

    async fn fall_back(&self, head: &RequestHead<'_>) -> Option<Answer> {
        let path = url_path(self.fallback.as_deref()?, &self.root);
        if !accepts_html(head) {
            return None;
        }
        self.fetch(head, &path, Part::Whole).await.ok().map(into_answer)
    }

    async fn fetch(&self, head: &RequestHead<'_>, path: &str, part: Part) -> Result<Response<FileBody>, Miss> {
        let request = request(head, path, part).map_err(|_| Miss::Refused)?;
        let response = ServeDir::with_backend("", Beneath { root: Arc::clone(&self.root) })
            .ignore_multi_range_requests(true)
            .try_call(request)
            .await?;
        if response.status() == http::StatusCode::NOT_FOUND { Err(Miss::Absent) } else { Ok(response) }
    }

    async fn explain(&self, head: &RequestHead<'_>, path: &str, miss: Miss) -> NoFile {
        let root = Arc::clone(&self.root);
        // A task that cannot be waited for only happens while the runtime ends.
        let state = tokio::task::spawn_blocking(move || RootState::of(&root)).await.unwrap_or(RootState::Filled);
        NoFile::Missing(Missing {
            root: self.root.to_path_buf(),
            state,
            path: path.to_owned(),
            refused: matches!(miss, Miss::Refused),
            page_wanted: accepts_html(head),
            fallback: self.fallback.clone(),
        })
    }
}

/// Why a [`Folder`] has no file to answer with.
#[derive(Debug)]
pub enum NoFile {
    /// Files are only read.
    Method {
        /// What was asked instead.
        method: String,
    },
    /// There is none that may be given out.
    Missing(Missing),
    /// There is one, and the system does not let it be read.
    Unreadable {
        /// As it was asked for.
        path: String,
        /// What the system says.
        error: io::Error,
    },
}

/// What was looked up in vain, and what is there instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The folder of the route.
    pub root: PathBuf,
    /// What that folder is like.
    pub state: RootState,
    /// As it was asked for.
    pub path: String,
    /// Whether something may be there, but leads out of the folder, is no regular file, or must not be read.
    pub refused: bool,
    /// Whether the client takes HTML, so that a fallback could have answered.
    pub page_wanted: bool,
    /// The fallback of the route; where one is set and a page was wanted, it is missing too.
    pub fallback: Option<PathBuf>,
}

/// The folder of a route, at the time of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootState {
    /// Nothing has this name.
    Missing,
    /// Something else has this name.
    NotAFolder,
    /// A folder without any entry.
    Empty,
    /// A folder with entries.
    Filled,
}

impl RootState {
    fn of(root: &Path) -> Self {
        match std::fs::read_dir(root).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Self::Empty,
            Ok(false) => Self::Filled,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Missing,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Self::NotAFolder,
            // There, and not to be listed: files in it may still be readable.
            Err(_) => Self::Filled,
        }
    }
}

impl NoFile {
    /// The facts, for [`pages::page`](super::pages::page). All that tells of this machine stands in what
    /// [`Page::for_strangers`] takes away.
    pub fn page<'a>(&self, route: &'a str) -> Page<'a> {
        match self {
            Self::Method { method } => Page {
                allow: Some("GET, HEAD"),
                ..Page::new(Cause::MethodRefused, format!("route {route} has files, which {method} cannot be asked of"))
            },
            Self::Unreadable { path, error } => {
                Page::new(Cause::Internal, format!("route {route} cannot read {path}")).note(error.to_string())
            }
            Self::Missing(missing) => missing.page(route),
        }
        .route(route)
    }
}

impl Missing {
    fn page<'a>(&self, route: &'a str) -> Page<'a> {
        let root = self.root.display();
        let page = Page::new(Cause::NoFile, format!("route {route} has no file for {}", self.path));
        let page = page.target(root.to_string());
        let build = format!("build it, or mend `files` of route {route}");
        match self.state {
            RootState::Missing => page.note(format!("the folder {root} does not exist: not built yet?")).help(build),
            RootState::Empty => page.note(format!("the folder {root} is empty: not built yet?")).help(build),
            RootState::NotAFolder => {
                page.note(format!("{root} is not a folder")).help(format!("mend `files` of route {route}"))
            }
            RootState::Filled if self.refused => {
                page.note("the path leads out of the folder, or to something other than a file that may be read")
            }
            RootState::Filled => self.fallback_told(page.note(format!("looked for {root}{}", self.path)), route),
        }
    }

    fn fallback_told<'a>(&self, page: Page<'a>, route: &str) -> Page<'a> {
        match &self.fallback {
            _ if !self.page_wanted => page,
            Some(fallback) => page.note(format!("the fallback {} is not there either", fallback.display())),
            None => page.help(format!("a single-page app? add `fallback = \"index.html\"` to route {route}")),
        }
    }
}

/// Why nothing was found, before anybody asks for the facts.
enum Miss {
    Absent,
    Refused,
    Failed(io::Error),
}

impl From<io::Error> for Miss {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::NotFound | Kind::NotADirectory | Kind::IsADirectory | Kind::InvalidFilename => Self::Absent,
            Kind::PermissionDenied | Kind::InvalidInput => Self::Refused,
            _ => Self::Failed(error),
        }
    }
}

/// How much of a file is asked for.
#[derive(Clone, Copy)]
enum Part {
    /// A range, where the request names one.
    AsAsked,
    /// All of it, whatever range the request names.
    Whole,
}

/// The request as `ServeDir` wants it, with the few fields that it heeds.
fn request(head: &RequestHead<'_>, path: &str, part: Part) -> http::Result<Request<()>> {
    let mut request = Request::get(path);
    for name in [header::IF_MATCH, header::IF_UNMODIFIED_SINCE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
        if let Some(value) = head.fields.first(name.as_str()) {
            request = request.header(name, value);
        }
    }
    // Other units than bytes, and ranges of a HEAD, are to be ignored (RFC 9110 §14.2).
    let range = head.text("range").filter(|range| head.method == "GET" && range.starts_with("bytes="));
    if let (Part::AsAsked, Some(range)) = (part, range) {
        request = request.header(header::RANGE, range);
    }
    request.body(())
}

/// Whether `If-Range` still speaks of the file that was just opened (RFC 9110 §13.1.5): exactly, and no weak tag.
fn holds(validator: &str, response: &Response<FileBody>) -> bool {
    let name = if validator.starts_with('"') { header::ETAG } else { header::LAST_MODIFIED };
    response.headers().get(name).is_some_and(|current| current.as_bytes() == validator.as_bytes())
}

fn into_answer(response: Response<FileBody>) -> Answer {
    let (parts, body) = response.into_parts();
    let mut answer = Answer::empty(parts.status.as_u16());
    for (name, value) in &parts.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let value = if name == header::CONTENT_TYPE { with_charset(&value) } else { value.into_owned() };
        answer = answer.with(name.as_str().to_owned(), value);
    }
    // Kept, but asked about each time: an edit is seen at the next reload.
    answer = answer.with("cache-control", "no-cache".to_owned());
    if parts.headers.contains_key(header::CONTENT_LENGTH) {
        answer.body = Body::Stream(body.boxed_unsync());
    }
    answer
}

/// The same path with a slash behind it, as a relative reference: right whatever prefix was stripped or put in front,
/// and never the name of another host.
fn slash_added(head: &RequestHead<'_>) -> Answer {
    let last = head.path.rsplit('/').next().unwrap_or_default();
    let query = head.query.map(|query| format!("?{query}")).unwrap_or_default();
    Answer::redirect(307, &format!("./{last}/{query}"))
}

/// Whether the path means the same to everybody: absolute, and once decoded still in as many elements, of which none
/// climbs, ends a C string or separates on some system.
fn is_plain(path: &str) -> bool {
    let plain = |element: &str| {
        decoded(element).is_some_and(|name| {
            !matches!(&*name, "." | "..") && !name.contains(|c: char| matches!(c, '/' | '\\') || c.is_control())
        })
    };
    path.strip_prefix('/').is_some_and(|elements| elements.split('/').all(plain))
}

/// `%XX` resolved; `None` where that leaves no UTF-8, or a `%` stands alone.
fn decoded(element: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(element.len());
    let mut rest = element.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        bytes.push(if byte == b'%' { u8::try_from(digit()? * 16 + digit()?).ok()? } else { byte });
    }
    String::from_utf8(bytes).ok()
}

/// `file`, which is meant beneath `root`, as the path of a URL.
fn url_path(file: &Path, root: &Path) -> String {
    let names = file.strip_prefix(root).unwrap_or(file).components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    names.map(OsStr::as_encoded_bytes).fold(String::new(), |mut path, name| {
        path.push('/');
        for &byte in name {
            push_escaped(&mut path, byte, byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
        }
        path
    })
}

/// The file system as `ServeDir` may see it; every call blocks elsewhere, not on the worker.
#[derive(Clone)]
struct Beneath {
    root: Arc<Path>,
}

impl Beneath {
    fn blocking<T: Send + 'static>(
        &self,
        path: PathBuf,
        work: fn(&Path, &Path) -> io::Result<T>,
    ) -> Pin<Box<dyn Future<Output = io::Result<T>> + Send>> {
        let root = Arc::clone(&self.root);
        Box::pin(async move {
            tokio::task::spawn_blocking(move || work(&root, &path)).await.map_err(io::Error::other).flatten()
        })
    }
}

impl Backend for Beneath {
    type File = Opened;
    type Metadata = std::fs::Metadata;
    type OpenFuture = Pin<Box<dyn Future<Output = io::Result<Opened>> + Send>>;
    type MetadataFuture = Pin<Box<dyn Future<Output = io::Result<std::fs::Metadata>> + Send>>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        self.blocking(path, |root, path| {
            let (file, metadata) = beneath::open(root, path)?;
            Ok(Opened { file: file.into(), metadata })
        })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        self.blocking(path, beneath::look)
    }
}

/// A regular file, with what was found when it was opened.
struct Opened {
    file: tokio::fs::File,
    metadata: std::fs::Metadata,
}

impl File for Opened {
    type Metadata = std::fs::Metadata;
    type MetadataFuture<'a> = std::future::Ready<io::Result<std::fs::Metadata>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        std::future::ready(Ok(self.metadata.clone()))
    }
}

impl AsyncRead for Opened {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_read(cx, buf)
    }
}

impl AsyncSeek for Opened {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.file).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.file).poll_complete(cx)
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}
