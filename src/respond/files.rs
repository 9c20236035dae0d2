//! Files of a folder, as a `files` route answers with them: never one from outside, never a stale one.
//!
//! `tower-http` does what RFC 9110 asks of a file (types, ranges, validators); `beneath` does the
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

use http::{Request, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::{
    ServeDir,
    fs::{Backend, File, ServeFileSystemResponseBody as FileBody},
};

use super::{
    Answer, Body, beneath,
    pages::{Cause, Page, accepts_html},
    push_escaped, stream, with_charset,
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
            if !head.path.ends_with('/') {
                return Ok(slash_added(head));
            }
            // The slash is there and got lost in a rewrite: to ask for it again would go in a circle.
            return self.fetch(head, &format!("{path}/"), Part::AsAsked).await.map(into_answer);
        }
        if head.text("if-range").is_some_and(|validator| !holds(validator, &response))
            || range_misjudged(head, &response)
        {
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
        if response.status() == StatusCode::NOT_FOUND { Err(Miss::Absent) } else { Ok(response) }
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

/// Two ranges that `ServeDir` answers wrongly; without a range each is right (RFC 9110 §14.1.2):
/// part of an empty file, for which it tells a byte 0, and an end that is longer than the file, which it refuses.
fn range_misjudged(head: &RequestHead<'_>, response: &Response<FileBody>) -> bool {
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            response.headers().get(header::CONTENT_LENGTH).is_some_and(|length| length == "0")
        }
        StatusCode::RANGE_NOT_SATISFIABLE => head.text("range").is_some_and(|range| range.starts_with("bytes=-")),
        _ => false,
    }
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
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if let Some(length) = length {
        answer.body = stream::measured(body, length);
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

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use http_body_util::BodyExt;

    use super::*;
    use crate::respond::{
        pages::{Tongue, page},
        tests::{Asked, bytes},
    };

    const HTML: &str = "text/html,*/*;q=0.8";
    const SECRET: &str = "the secret";

    /// `top/root` is served, `top/secret` and `top/root-beside` are not.
    struct Site {
        top: tempfile::TempDir,
        folder: Folder,
    }

    impl Site {
        fn new() -> Self {
            let top = tempfile::tempdir().expect("a folder");
            for folder in ["root/sub", "root/empty", "root/evil.test", "root/a:b", "root-beside"] {
                fs::create_dir_all(top.path().join(folder)).expect("a folder");
            }
            for (path, text) in [
                ("secret", SECRET),
                ("root-beside/f", SECRET),
                ("root/index.html", "the page"),
                ("root/sub/index.html", "the inner page"),
                ("root/evil.test/index.html", "evil"),
                ("root/a:b/index.html", "colon"),
                ("root/abc.txt", "abcdefghij"),
                ("root/app.js", "app()"),
                ("root/a b+ü.css", "css"),
                ("root/nothing", ""),
            ] {
                fs::write(top.path().join(path), text).expect("a file");
            }
            let folder = Folder::new(top.path().join("root"), None);
            Self { top, folder }
        }

        fn falling_back(mut self, fallback: &str) -> Self {
            self.folder.fallback = Some(fallback.into());
            self
        }

        fn root(&self) -> PathBuf {
            self.top.path().join("root")
        }

        async fn ask(&self, asked: &Asked) -> Result<Told, NoFile> {
            let head = asked.head();
            self.ask_at(asked, head.path).await
        }

        /// Asks for another path than the client did, as after a rewrite.
        async fn ask_at(&self, asked: &Asked, path: &str) -> Result<Told, NoFile> {
            let answer = self.folder.answer(&asked.head(), path).await?;
            Ok(Told::of(answer).await)
        }

        async fn get(&self, target: &str) -> Told {
            self.ask(&Asked::get(target)).await.expect(target)
        }

        async fn missing(&self, asked: &Asked) -> Missing {
            match self.ask(asked).await {
                Err(NoFile::Missing(missing)) => missing,
                other => panic!("not missing: {other:?}"),
            }
        }
    }

    /// An answer, read to its end.
    #[derive(Debug)]
    struct Told {
        status: u16,
        text: String,
        answer: Answer,
    }

    impl Told {
        async fn of(mut answer: Answer) -> Self {
            let body = match std::mem::replace(&mut answer.body, Body::Empty) {
                Body::Empty => bytes::Bytes::new(),
                Body::Bytes(bytes) => bytes,
                Body::Stream(stream) => stream.collect().await.expect("a whole body").to_bytes(),
            };
            Self { status: answer.status, text: String::from_utf8(body.to_vec()).expect("text"), answer }
        }

        fn field(&self, name: &str) -> Option<&str> {
            self.answer.field(name)
        }
    }

    #[tokio::test]
    async fn a_file_comes_whole_with_its_type_and_is_asked_about_each_time() {
        let site = Site::new();
        let told = site.get("/abc.txt").await;
        assert_eq!((told.status, told.text.as_str()), (200, "abcdefghij"));
        assert_eq!(told.field("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(told.field("content-length"), Some("10"));
        assert_eq!(told.field("accept-ranges"), Some("bytes"));
        assert_eq!(told.field("cache-control"), Some("no-cache"));
        assert!(told.field("etag").is_some() && told.field("last-modified").is_some());
        assert_eq!(site.get("/app.js?v=1").await.field("content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(site.get("/a%20b+%C3%BC.css").await.text, "css");
        assert_eq!(site.get("//abc.txt").await.text, "abcdefghij");
    }

    #[tokio::test]
    async fn an_empty_file_is_a_file() {
        let told = Site::new().get("/nothing").await;
        assert_eq!((told.status, told.field("content-length"), told.text.as_str()), (200, Some("0"), ""));
        for range in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0", "bytes=1-"] {
            let told = Site::new().ask(&Asked::get("/nothing").with("range", range)).await.expect(range);
            let range_told = told.field("content-range");
            assert!(matches!((told.status, range_told), (200, None) | (416, Some("bytes */0"))), "{range}: {told:?}");
            assert_eq!(told.text, "", "{range}");
        }
    }

    #[tokio::test]
    async fn head_tells_what_get_would_without_the_bytes() {
        let site = Site::new();
        for target in ["/abc.txt", "/", "/sub", "/sub/"] {
            let get = site.get(target).await;
            let head = site.ask(&Asked::new("HEAD", target)).await.expect(target);
            assert_eq!((head.status, &head.answer.fields), (get.status, &get.answer.fields), "{target}");
            assert_eq!(head.text, "");
        }
        let head = site.ask(&Asked::new("HEAD", "/abc.txt").with("range", "bytes=0-1")).await.expect("an answer");
        assert_eq!((head.status, head.field("content-length")), (200, Some("10")));
        site.missing(&Asked::new("HEAD", "/none")).await;
    }

    #[tokio::test]
    async fn a_range_is_answered_with_that_range() {
        let site = Site::new();
        for (range, text, content_range) in [
            ("bytes=0-2", "abc", "bytes 0-2/10"),
            ("bytes=7-", "hij", "bytes 7-9/10"),
            ("bytes=-2", "ij", "bytes 8-9/10"),
            ("bytes=8-100", "ij", "bytes 8-9/10"),
        ] {
            let told = site.ask(&Asked::get("/abc.txt").with("range", range)).await.expect(range);
            assert_eq!((told.status, told.text.as_str()), (206, text), "{range}");
            assert_eq!(told.field("content-range"), Some(content_range));
            assert_eq!(told.field("content-length"), Some(text.len().to_string().as_str()));
        }
        for range in ["bytes=10-", "bytes=5-2", "bytes=x"] {
            let told = site.ask(&Asked::get("/abc.txt").with("range", range)).await.expect(range);
            assert_eq!((told.status, told.field("content-range")), (416, Some("bytes */10")), "{range}");
        }
        for range in ["lines=1-2", "bytes=0-1,4-5", "bytes=-100", ""] {
            let told = site.ask(&Asked::get("/abc.txt").with("range", range)).await.expect(range);
            assert_eq!((told.status, told.text.as_str()), (200, "abcdefghij"), "{range}");
        }
    }

    #[tokio::test]
    async fn a_range_of_another_version_gets_the_whole_file() {
        let site = Site::new();
        let first = site.get("/abc.txt").await;
        let ask = |validator: &str| Asked::get("/abc.txt").with("range", "bytes=0-1").with("if-range", validator);
        let (etag, modified) = (first.field("etag").expect("a tag"), first.field("last-modified").expect("a date"));
        for (validator, status) in [
            (etag, 206),
            (modified, 206),
            ("\"other\"", 200),
            (&format!("W/{etag}"), 200),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
            ("nonsense", 200),
        ] {
            assert_eq!(site.ask(&ask(validator)).await.expect("an answer").status, status, "{validator}");
        }
    }

    #[tokio::test]
    async fn what_the_client_has_is_not_sent_again_until_it_changes() {
        let site = Site::new();
        let first = site.get("/abc.txt").await;
        let tag = first.field("etag").expect("a tag").to_owned();
        let modified = first.field("last-modified").expect("a date").to_owned();
        for (name, value) in
            [("if-none-match", tag.clone()), ("if-none-match", "*".into()), ("if-modified-since", modified)]
        {
            let told = site.ask(&Asked::get("/abc.txt").with(name, value.clone())).await.expect("an answer");
            assert_eq!((told.status, told.text.as_str()), (304, ""), "{name}: {value}");
            assert_eq!(told.field("etag"), Some(tag.as_str()));
            assert_eq!(told.field("content-length"), None);
        }
        let told = site.ask(&Asked::get("/abc.txt").with("if-match", "\"other\"")).await.expect("an answer");
        assert_eq!(told.status, 412);
        fs::write(site.root().join("abc.txt"), "an edit").expect("a file");
        let told = site.ask(&Asked::get("/abc.txt").with("if-none-match", tag)).await.expect("an answer");
        assert_eq!((told.status, told.text.as_str()), (200, "an edit"));
    }

    #[tokio::test]
    async fn a_folder_is_its_index_page_behind_a_slash() {
        let site = Site::new();
        assert_eq!(site.get("/").await.text, "the page");
        assert_eq!(site.get("/sub/").await.text, "the inner page");
        assert_eq!(site.get("/sub/").await.field("content-type"), Some("text/html; charset=utf-8"));
        for (target, location) in [
            ("/sub", "./sub/"),
            ("/sub?a=1&b=%2F", "./sub/?a=1&b=%2F"),
            ("/sub?", "./sub/?"),
            ("//evil.test", "./evil.test/"),
            ("/a:b", "./a:b/"),
        ] {
            let told = site.get(target).await;
            assert_eq!((told.status, told.field("location")), (307, Some(location)), "{target}");
        }
        site.missing(&Asked::get("/empty/")).await;
        site.missing(&Asked::get("/abc.txt/")).await;
    }

    #[tokio::test]
    async fn a_stripped_prefix_is_kept_in_the_redirect() {
        let site = Site::new();
        for (target, path, location) in
            [("/docs/sub?q", "/sub", "./sub/?q"), ("/docs?q", "/", "./docs/?q"), ("/a/docs", "/", "./docs/")]
        {
            let told = site.ask_at(&Asked::get(target), path).await.expect(target);
            assert_eq!((told.status, told.field("location")), (307, Some(location)), "{target}");
        }
        assert_eq!(site.ask_at(&Asked::get("/docs/"), "/").await.expect("an answer").text, "the page");
        assert_eq!(site.ask_at(&Asked::get("/docs/sub/"), "/sub/").await.expect("an answer").text, "the inner page");
        let told = site.ask_at(&Asked::get("/docs/"), "/sub").await.expect("no circle");
        assert_eq!(told.text, "the inner page");
    }

    #[tokio::test]
    async fn only_reading_is_allowed() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get"] {
            let error = Site::new().ask(&Asked::new(method, "/abc.txt")).await.expect_err(method);
            let answer = page(&error.page("site"), Tongue::Text);
            assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD")), "{method}");
        }
    }

    #[tokio::test]
    async fn no_path_leads_out_of_the_folder() {
        let site = Site::new();
        for (to, link) in [
            ("../secret", "link"),
            ("../root-beside", "beside"),
            ("..", "up"),
            ("/etc", "etc"),
            ("/dev", "dev"),
            ("/proc/self", "self"),
            ("sub/../../secret", "around"),
        ] {
            symlink(to, site.root().join(link)).expect("a link");
        }
        symlink(site.top.path().join("secret"), site.root().join("absolute")).expect("a link");
        let up_from = site.top.path().display().to_string();
        let mut vectors: Vec<String> = VECTORS.iter().map(|vector| (*vector).to_owned()).collect();
        vectors.extend([format!("/{up_from}/secret"), format!("{up_from}/secret"), format!("/..{up_from}/secret")]);
        assert!(vectors.len() >= 60, "{}", vectors.len());
        for vector in vectors {
            for asked in
                [Asked::get(&vector), Asked::new("HEAD", &vector), Asked::get(&vector).with("range", "bytes=0-5")]
            {
                match site.ask(&asked).await {
                    Err(NoFile::Missing(_)) => {}
                    other => panic!("{vector}: {other:?}"),
                }
            }
        }
    }

    const VECTORS: &[&str] = &[
        // Dots, as they are and encoded once, twice, overlong, or in another alphabet.
        "/../secret",
        "/./../secret",
        "/sub/../../secret",
        "/sub/../abc.txt",
        "/..",
        "/../",
        "/.",
        "/./abc.txt",
        "/sub/..",
        "/../root-beside/f",
        "/../root/../secret",
        "/%2e%2e/secret",
        "/%2E%2E/secret",
        "/.%2e/secret",
        "/%2e./secret",
        "/%2e/abc.txt",
        "/%252e%252e/secret",
        "/%252e%252e%252fsecret",
        "/%c0%ae%c0%ae/secret",
        "/%e0%80%ae%e0%80%ae/secret",
        "/%f0%80%80%ae/secret",
        "/%uff0e%uff0e/secret",
        "/..%c0%afsecret",
        "/．．/secret",
        "/..;/secret",
        "/..;a=b/secret",
        "/.../secret",
        "/....//secret",
        "/..../secret",
        "/.. /secret",
        "/..%20/secret",
        "/..%09/secret",
        // Separators.
        "/..%2fsecret",
        "/..%2Fsecret",
        "/%2e%2e%2fsecret",
        "/sub%2findex.html",
        "/%2fetc/passwd",
        "/%2f%2fetc%2fpasswd",
        "/..%5csecret",
        "/..\\secret",
        "/%2e%2e%5csecret",
        "/sub\\..\\..\\secret",
        "/sub%5cindex.html",
        "/\\\\localhost\\c$\\secret",
        "/C:/secret",
        "/C:\\secret",
        "/sub/C:%5csecret",
        "//../secret",
        "///../secret",
        "//etc/passwd",
        "/abc.txt/../../secret",
        "/abc.txt/x",
        // Ends of strings, controls, broken escapes.
        "/abc.txt%00",
        "/abc.txt%00.html",
        "/%00",
        "/../secret%00.txt",
        "/abc.txt%0a",
        "/abc.txt%0d%0ax:y",
        "/abc.txt%7f",
        "/abc.txt%",
        "/abc.txt%2",
        "/abc.txt%zz",
        "/%ff%fe",
        // Files that a page of the system or of another server would give out.
        "/etc/passwd",
        "/@fs/etc/passwd",
        "/@fs/../secret?raw??",
        "/../secret?raw??",
        "/../secret?import&raw??",
        "/etc/passwd?raw??",
        "/file:///etc/passwd",
        "/proc/self/environ",
        "/ABC.TXT/../secret",
        // Links.
        "/link",
        "/link?raw??",
        "/link/",
        "/beside/f",
        "/up/secret",
        "/up/root/abc.txt",
        "/around",
        "/absolute",
        "/etc/hostname",
        "/dev/null",
        "/dev/zero",
        "/dev/stdin",
        "/self/environ",
        "/self/root/etc/passwd",
        "/self/cwd/Cargo.toml",
        "/self/fd/0",
        // No paths at all.
        "",
        "secret",
        "../secret",
        "*",
        "http://localhost/abc.txt",
    ];

    #[tokio::test]
    async fn a_fifo_is_no_file_and_keeps_nobody_waiting() {
        let site = Site::new();
        for fifo in ["fifo", "sub/fifo.html", "empty/index.html"] {
            let path = site.root().join(fifo);
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a fifo");
        }
        for target in ["/fifo", "/sub/fifo.html", "/empty/"] {
            assert!(site.missing(&Asked::get(target)).await.refused, "{target}");
            site.missing(&Asked::new("HEAD", target)).await;
        }
        let devices = Folder::new("/dev".into(), None);
        for path in ["/null", "/zero", "/random", "/tty"] {
            let asked = Asked::get(path);
            assert!(matches!(devices.answer(&asked.head(), path).await, Err(NoFile::Missing(_))), "{path}");
        }
    }

    #[tokio::test]
    async fn a_link_within_the_folder_is_followed() {
        let site = Site::new();
        symlink("abc.txt", site.root().join("alias.txt")).expect("a link");
        symlink("../abc.txt", site.root().join("sub/up.txt")).expect("a link");
        symlink("sub", site.root().join("also")).expect("a link");
        assert_eq!(site.get("/alias.txt").await.text, "abcdefghij");
        assert_eq!(site.get("/sub/up.txt").await.text, "abcdefghij");
        assert_eq!(site.get("/also/").await.text, "the inner page");
    }

    #[tokio::test]
    async fn the_fallback_answers_pages_only() {
        let site = Site::new().falling_back("index.html");
        for target in ["/settings/profile", "/none.html", "/empty/", "/search/a%2Fb", "/%00"] {
            let told = site.ask(&Asked::get(target).with("accept", HTML)).await.expect(target);
            assert_eq!((told.status, told.text.as_str()), (200, "the page"), "{target}");
            assert_eq!(told.field("content-type"), Some("text/html; charset=utf-8"));
            let head = Asked::new("HEAD", target).with("accept", HTML);
            assert_eq!(site.ask(&head).await.expect(target).field("content-length"), Some("8"));
        }
        for accept in ["*/*", "application/json", "text/html;q=0, */*"] {
            site.missing(&Asked::get("/gone.js").with("accept", accept)).await;
        }
        site.missing(&Asked::get("/gone.js")).await;
        let ranged = Asked::get("/none").with("accept", HTML).with("range", "bytes=0-1");
        assert_eq!(site.ask(&ranged).await.expect("a page").status, 200);
    }

    #[tokio::test]
    async fn the_fallback_may_have_any_name_beneath_the_folder() {
        let asked = Asked::get("/none").with("accept", HTML);
        let odd = Site::new().falling_back("a b+ü.css");
        assert_eq!(odd.ask(&asked).await.expect("the fallback").text, "css");
        let mut whole = Site::new();
        whole.folder.fallback = Some(whole.root().join("sub/index.html"));
        assert_eq!(whole.ask(&asked).await.expect("the fallback").text, "the inner page");
        for outside in ["../secret", "/etc/passwd"] {
            Site::new().falling_back(outside).missing(&asked).await;
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_not_built_yet_says_so_and_serves_once_it_is() {
        let top = tempfile::tempdir().expect("a folder");
        let dist = top.path().join("dist");
        let site = Site { folder: Folder::new(dist.clone(), Some("index.html".into())), top };
        let asked = Asked::get("/").with("accept", HTML);
        assert_eq!(site.missing(&asked).await.state, RootState::Missing);
        fs::write(&dist, "").expect("a file");
        assert_eq!(site.missing(&asked).await.state, RootState::NotAFolder);
        fs::remove_file(&dist).expect("no file");
        fs::create_dir(&dist).expect("a folder");
        let missing = site.missing(&asked).await;
        assert_eq!(missing.state, RootState::Empty);
        let told = page(&NoFile::Missing(missing).page("site"), Tongue::Text);
        let told = String::from_utf8_lossy(bytes(&told)).into_owned();
        assert!(told.starts_with("404 no-file: route site has no file for /; the folder "), "{told}");
        assert!(told.contains("is empty: not built yet?; build it, or mend files of route site"), "{told}");
        fs::write(dist.join("index.html"), "built").expect("a file");
        assert_eq!(site.ask(&asked).await.expect("the page").text, "built");
    }

    #[tokio::test]
    async fn a_page_that_is_missing_hears_of_the_fallback() {
        let helps = |missing: Missing| NoFile::Missing(missing).page("site").helps.join("; ");
        let wanted = Site::new().missing(&Asked::get("/none").with("accept", HTML)).await;
        assert!(helps(wanted).contains("`fallback = \"index.html\"`"));
        assert_eq!(helps(Site::new().missing(&Asked::get("/none.js")).await), "");
        let broken = Site::new().falling_back("gone.html").missing(&Asked::get("/none").with("accept", HTML)).await;
        let page = NoFile::Missing(broken);
        assert!(page.page("site").notes.iter().any(|note| note == "the fallback gone.html is not there either"));
        let stranger = page.page("site").for_strangers();
        assert!(!format!("{stranger:?}").contains("tmp"), "{stranger:?}");
    }

    #[tokio::test]
    async fn a_large_file_comes_whole() {
        let site = Site::new();
        let large: String = (0..100_000).map(|n| format!("{n:07}\n")).collect();
        fs::write(site.root().join("large.txt"), &large).expect("a file");
        assert!(site.get("/large.txt").await.text == large);
        let told = site.ask(&Asked::get("/large.txt").with("range", "bytes=400000-400007")).await.expect("a range");
        assert_eq!(told.text, "0050000\n");
    }
}
