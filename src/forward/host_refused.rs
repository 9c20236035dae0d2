//! Dev servers that do not answer to the host name: their refusals recognised, and the line of their config that
//! mends it.
//!
//! They take `localhost` and `*.localhost`, and refuse every other name as a guard against DNS rebinding, in words of
//! their own. Only a page that a person looks at is replaced by ours, and only where the words are really those: all
//! other answers go out byte for byte. A body that is compressed is not recognised.

use super::head::Outgoing;
use crate::{
    head::Host,
    http1::{
        client::{Behind, Look},
        head::Response,
    },
    respond::pages::{self, Tongue},
};

/// Who refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    Vite,
    /// `vite preview`, which has a setting of its own.
    VitePreview,
    Angular,
    Webpack,
    Django,
    Rails,
    Next,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostRefused {
    pub(super) server: Server,
    /// The name that it does not take.
    pub(super) host: String,
    /// The status of its answer.
    pub(super) status: u16,
    /// What it says.
    pub(super) words: String,
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Self::Vite | Self::VitePreview => "Vite",
            Self::Angular => "Angular",
            Self::Webpack => "webpack-dev-server",
            Self::Django => "Django",
            Self::Rails => "Rails",
            Self::Next => "Next.js",
        }
    }

    /// What to add to which file.
    fn mend(self, host: &str) -> String {
        match self {
            Self::Vite => format!("add `server: {{ allowedHosts: ['{host}'] }},` to vite.config.js"),
            Self::VitePreview => format!("add `preview: {{ allowedHosts: ['{host}'] }},` to vite.config.js"),
            Self::Angular => {
                format!("add `\"allowedHosts\": [\"{host}\"]` to the `options` of the `serve` target in angular.json")
            }
            Self::Webpack => format!("add `devServer: {{ allowedHosts: ['{host}'] }},` to webpack.config.js"),
            // The others are those that Django takes by itself while the list is empty.
            Self::Django => {
                format!("write `ALLOWED_HOSTS = ['{host}', '.localhost', '127.0.0.1', '[::1]']` in settings.py")
            }
            Self::Rails => format!("add `config.hosts << \"{host}\"` to config/environments/development.rb"),
            Self::Next => format!("add `allowedDevOrigins: ['{host}'],` to next.config.js"),
        }
    }
}

impl HostRefused {
    /// Goes on after `route web -> :5173, `.
    pub(super) fn message(&self) -> String {
        format!("{} refuses the host {}", self.server.name(), self.host)
    }

    pub(super) fn note(&self) -> String {
        format!("{} says:\n{}", self.server.name(), self.words)
    }

    pub(super) fn help(&self) -> String {
        self.server.mend(&self.host)
    }

    /// For the terminal.
    pub(super) fn sentence(&self, route: &str) -> String {
        format!("route {route}: {}: {}", self.message(), self.help().replace('`', ""))
    }
}

/// Whether an answer with this status may be a refusal; nearly none is.
pub(super) fn is_possible(status: u16) -> bool {
    matches!(status, 400 | 403)
}

/// Looks at an answer for which [`is_possible`] holds, and at what follows its head once that is there. `say` is told
/// of a refusal, also where its bytes go out as they are.
pub(super) fn look(
    outgoing: &Outgoing<'_>,
    response: &Response<'_>,
    behind: Option<&Behind>,
    say: impl FnOnce(&HostRefused),
) -> Result<Look, HostRefused> {
    if let Some(refused) = by_next(outgoing, response.status) {
        say(&refused);
        return Ok(Look::Pass);
    }
    if !is_text(response) || !is_looked_at(outgoing) {
        return Ok(Look::Pass);
    }
    let Some(behind) = behind else { return Ok(Look::More) };
    let Some((server, words)) = recognised(&String::from_utf8_lossy(&behind.content)) else { return Ok(Look::More) };
    let refused = HostRefused { server, host: host(outgoing), status: response.status, words };
    say(&refused);
    Err(refused)
}

/// Next.js serves its pages under every name, and refuses its own scripts and sockets to pages of other origins. Nobody
/// looks at those, so nothing is replaced.
fn by_next(outgoing: &Outgoing<'_>, status: u16) -> Option<HostRefused> {
    let path = outgoing.request.path();
    let is_its_own = path.contains("/_next") || path.contains("/__nextjs");
    let head = super::plain(outgoing.request, outgoing.checked);
    let origin = head.text("origin").filter(|_| is_its_own && status == 403)?;
    let (_, authority) = origin.split_once("://")?;
    let host = Host::parse(authority.as_bytes()).ok().filter(|host| !host.is_local())?;
    Some(HostRefused { server: Server::Next, host: host.name().to_owned(), status, words: "Unauthorized".into() })
}

/// The name that the program was asked under.
fn host(outgoing: &Outgoing<'_>) -> String {
    let written = outgoing.authority.and_then(|authority| Host::parse(authority.as_bytes()).ok());
    written.as_ref().unwrap_or(&outgoing.checked.host).name().to_owned()
}

fn is_text(response: &Response<'_>) -> bool {
    let value =
        |name: &[u8]| response.fields().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value);
    let is_plain = value(b"content-encoding").is_none();
    is_plain && value(b"content-type").is_none_or(|kind| kind.starts_with(b"text/"))
}

/// Whether a person at this machine looks at the answer in a browser.
fn is_looked_at(outgoing: &Outgoing<'_>) -> bool {
    let head = super::plain(outgoing.request, outgoing.checked);
    outgoing.client.peer.is_loopback() && pages::is_navigation(&head) && Tongue::of(&head) == Tongue::Html
}

/// Whose words these are, and what of them tells why.
fn recognised(page: &str) -> Option<(Server, String)> {
    let text = page.trim();
    let line = |from: &str| between(page, from, &['<', '\n']).map(|words| plain(&format!("{from}{words}")));
    if let Some(words) = line(VITE) {
        return if page.contains("angular.json") {
            Some((Server::Angular, words))
        } else if text.starts_with(VITE) {
            let is_preview = page.contains("`preview.allowedHosts`");
            Some((if is_preview { Server::VitePreview } else { Server::Vite }, text.to_owned()))
        } else {
            None
        };
    }
    if matches!(text, "Invalid Host header" | "Invalid Host/Origin header") {
        return Some((Server::Webpack, text.to_owned()));
    }
    if page.contains("<title>DisallowedHost") {
        return line("Invalid HTTP_HOST header: ").map(|words| (Server::Django, words));
    }
    if page.contains("config.hosts") {
        return line("Blocked host").map(|words| (Server::Rails, words));
    }
    None
}

/// What Vite begins with, and Angular, which is built upon it.
const VITE: &str = "Blocked request. This host (";

/// What stands behind `from`, up to one of these ends.
fn between<'p>(page: &'p str, from: &str, ends: &[char]) -> Option<&'p str> {
    let (_, behind) = page.split_once(from)?;
    behind.split(ends).next()
}

/// Text of a page of HTML.
fn plain(html: &str) -> String {
    let text = html.replace("&#x27;", "'").replace("&#39;", "'").replace("&quot;", "\"");
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_each_server_are_its_own() {
        // From Vite 8.3.8, @angular/build 21.2, webpack-dev-server 5.2.7, Django 5.2.19 and Rails 6.1; shortened where
        // a page goes on with styles and traces. tests/it/truth.rs has whole answers.
        for (page, server, words) in [
            (
                "Blocked request. This host (\"foo.test\") is not allowed.\nTo allow this host, add \"foo.test\" to \
                 `server.allowedHosts` in vite.config.js.",
                Server::Vite,
                "Blocked request. This host (\"foo.test\") is not allowed.\nTo allow this host, add \"foo.test\" to \
                 `server.allowedHosts` in vite.config.js.",
            ),
            (
                "Blocked request. This host (\"foo.test\") is not allowed.\nTo allow this host, add \"foo.test\" to \
                 `preview.allowedHosts` in vite.config.js.",
                Server::VitePreview,
                "Blocked request. This host (\"foo.test\") is not allowed.\nTo allow this host, add \"foo.test\" to \
                 `preview.allowedHosts` in vite.config.js.",
            ),
            (
                "<main>\n<h1>Blocked request. This host (\"foo.test\") is not allowed.</h1>\n<p>To allow this host, add \
                 it to <code>allowedHosts</code> under the <code>serve</code> target in \
                 <code>angular.json</code>.</p>",
                Server::Angular,
                "Blocked request. This host (\"foo.test\") is not allowed.",
            ),
            ("Invalid Host header", Server::Webpack, "Invalid Host header"),
            (
                "<title>DisallowedHost\n          at /</title><pre class=\"exception_value\">Invalid HTTP_HOST header: \
                 &#x27;foo.test&#x27;. You may need to add &#x27;foo.test&#x27; to ALLOWED_HOSTS.</pre>",
                Server::Django,
                "Invalid HTTP_HOST header: 'foo.test'. You may need to add 'foo.test' to ALLOWED_HOSTS.",
            ),
            (
                "<h1>Blocked hosts: foo.test</h1><pre>config.hosts &lt;&lt; &quot;foo.test&quot;</pre>",
                Server::Rails,
                "Blocked hosts: foo.test",
            ),
        ] {
            assert_eq!(recognised(page), Some((server, words.to_owned())), "{page}");
        }
    }

    #[test]
    fn an_app_that_speaks_of_hosts_is_no_refusal() {
        for page in [
            "",
            "<h1>Forbidden</h1>",
            "<p>Vite said: Blocked request. This host (\"foo.test\") is not allowed.</p>",
            "Invalid Host header, says webpack",
            "<title>DisallowedHost</title>",
            "Blocked host: foo.test",
            "<p>Invalid HTTP_HOST header: 'foo.test'</p>",
        ] {
            assert_eq!(recognised(page), None, "{page}");
        }
    }

    #[test]
    fn each_server_has_its_file_and_its_line() {
        let mend = |server: Server| server.mend("foo.test");
        assert_eq!(mend(Server::Vite), "add `server: { allowedHosts: ['foo.test'] },` to vite.config.js");
        assert_eq!(mend(Server::Webpack), "add `devServer: { allowedHosts: ['foo.test'] },` to webpack.config.js");
        assert_eq!(
            mend(Server::Django),
            "write `ALLOWED_HOSTS = ['foo.test', '.localhost', '127.0.0.1', '[::1]']` in settings.py"
        );
        assert_eq!(mend(Server::Rails), "add `config.hosts << \"foo.test\"` to config/environments/development.rb");
        assert_eq!(mend(Server::Next), "add `allowedDevOrigins: ['foo.test'],` to next.config.js");
    }
}
