//! Every key that the file may have, with its meaning and its form: what the checker accepts and the schema says.
//!
//! One table of keys serves both, so a key cannot be known to one and not to the other. The rules that hold between
//! keys of one table stand here too, as data; what a value must look like in detail is the checker's business.

/// The keys of one kind of table, and the rules between them.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Its name in the schema.
    pub(crate) id: &'static str,
    /// With an article: "a route".
    pub(crate) of: &'static str,
    /// What may stand in it.
    pub(crate) keys: &'static [Key],
    /// At least one key must be written, whichever it is.
    pub(crate) never_empty: bool,
    /// All of these must be written.
    pub(crate) required: &'static [&'static str],
    /// Exactly one of these must be written, if there are any.
    pub(crate) exactly_one: &'static [&'static str],
    /// At most one of each group may be written.
    pub(crate) at_most_one: &'static [&'static [&'static str]],
    /// The key on the left has a meaning only beside one of those on the right.
    pub(crate) only_with: &'static [(&'static str, &'static [&'static str])],
    /// The key on the left is not enough without the one on the right.
    pub(crate) completed_by: &'static [(&'static str, &'static str)],
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    /// As it is written.
    pub(crate) name: &'static str,
    /// What people write who mean this one; only for suggestions.
    pub(crate) also: &'static [&'static str],
    /// Shown by editors.
    pub(crate) doc: &'static str,
    /// What its value looks like.
    pub(crate) form: Form,
    /// Part of the contract, checked, and refused by this version; says what is missing.
    pub(crate) not_yet: Option<&'static str>,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    /// `true`, `false`
    Boolean,
    /// `false`
    False,
    /// An integer in these bounds, both included.
    Integer(i64, i64),
    /// A number in these bounds, both included.
    Number(i64, i64),
    /// Text that matches this pattern.
    Text(&'static str),
    /// A list of texts that match this pattern, with at least this many.
    Texts(&'static str, usize),
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these numbers.
    Code(&'static [u16]),
    /// A table with fixed keys.
    Table(&'static Keys),
    /// A table of any names, with values of this form.
    Named(&'static Form),
    /// A value of either form.
    Either(&'static Form, &'static Form),
    /// A list of values of this form, with at least one.
    List(&'static Form),
    /// Any value.
    Any,
}

use Form::{Any, Boolean, Code, Either, False, Integer, List, Named, Number, Table, Text, Texts, Word};

const fn key(name: &'static str, form: Form, doc: &'static str) -> Key {
    Key { name, also: &[], doc, form, not_yet: None }
}

impl Key {
    const fn also(self, also: &'static [&'static str]) -> Self {
        Self { also, ..self }
    }

    const fn not_yet(self, what: &'static str) -> Self {
        Self { not_yet: Some(what), ..self }
    }
}

/// 300 and 304 tell no place to go; 305 and 306 are gone (RFC 9110 §15.4).
pub(crate) const REDIRECT_STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// No rules: the base of the tables below.
const FREE: Keys = Keys {
    id: "",
    of: "",
    keys: &[],
    never_empty: false,
    required: &[],
    exactly_one: &[],
    at_most_one: &[],
    only_with: &[],
    completed_by: &[],
};

const ANY_TEXT: Form = Text("");
const SOME_TEXT: Form = Text("^.");
/// That units fall and that it is not zero is left to the checker.
const DURATION: Form = Text("^([0-9]+(h|m|s|ms))+$");
/// The characters that stand in a request line before a query; that nobody needs thousands is left to the checker.
const PATH: Form = Text(r#"^/[!"$-;=@-_a-~]*$"#);
const HOST: &str = r"^((\*\.)?[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*\.?|\[[0-9A-Fa-f:.]+\])$";
const TOKEN: &str = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";
/// As Docker and Podman name them.
const CONTAINER: &str = r"^[0-9A-Za-z][0-9A-Za-z_.-]*$";
const FIELD_VALUE: Form = Text(r"^[^\x00-\x08\x0a-\x1f\x7f]*$");
const STATUS: Form = Integer(200, 599);
const PORT: Form = Integer(1, 65_535);
/// That a bare word names a service is left to the checker.
const TARGET_TEXT: Form = Text(
    r"^([!#-'*+.^-`|~0-9A-Za-z-]+|:[0-9]{1,5}|unix:.+|(\[[0-9A-Fa-f:.]+\]|[^/:\[\]]+):[0-9]{1,5}|(https?|h2c)://[^/?#@\s]+/?)$",
);
const TARGET_SHORT: Form = Either(&PORT, &TARGET_TEXT);
const TARGET_ONE: Form = Either(&TARGET_SHORT, &Table(&TARGET));
const LISTEN_ONE: Form = Either(
    &Integer(0, 65_535),
    &Text(r"^(localhost:|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+:|\[[0-9A-Fa-f:.]+\]:)?[0-9]{1,5}$"),
);
const FIELD_CONDITION: Form = Either(&ANY_TEXT, &Table(&PATTERN));
const COMMAND: Form = Either(&SOME_TEXT, &Texts("", 1));

/// The file.
pub(crate) static ROOT: Keys = Keys {
    id: "root",
    of: "the file",
    keys: &[
        key(
            "listen",
            Either(&LISTEN_ONE, &List(&LISTEN_ONE)),
            "Where the proxy listens: \"localhost:PORT\" (127.0.0.1 and, where the machine has it, \
             [::1]), an address with a port, a port, or a list of those. Default: \
             \"localhost:62893\".",
        )
        .also(&["bind", "address", "port"]),
        key(
            "expose",
            Boolean,
            "Must be true to let `listen` name an address that other machines can reach. Default: \
             false.",
        ),
        key(
            "project",
            Text("^[0-9A-Za-z]([0-9A-Za-z-]{0,61}[0-9A-Za-z])?$"),
            "Makes default host names NAME.PROJECT.localhost. Default: none.",
        )
        .also(&["name"]),
        key(
            "routes",
            Named(&Either(&TARGET_SHORT, &Table(&ROUTE))),
            "Which requests go where, by name. A port, an address or a service's name alone is served \
             at http://NAME.localhost.",
        )
        .also(&["route", "sites", "hosts"]),
        key(
            "services",
            Named(&Either(&COMMAND, &Table(&SERVICE))),
            "Programs that `portolan up` starts and looks after, by name. A command alone is run in \
             the folder of this file.",
        )
        .also(&["service", "programs"]),
        key(
            "tcp",
            Named(&Table(&TCP)),
            "Raw streams on fixed ports, by name: databases, debuggers, anything that is not HTTP.",
        )
        .also(&["streams"]),
    ],
    ..FREE
};

/// An entry of `[routes]`.
pub(crate) static ROUTE: Keys = Keys {
    id: "route",
    of: "a route",
    keys: &[
        key(
            "host",
            Text(HOST),
            "The host to match: a name, or *.suffix for one or more labels before the suffix. \
             Default: NAME.localhost where no path is written either, otherwise every local host \
             name.",
        )
        .also(&["hostname", "domain", "server_name"]),
        key("hosts", Texts(HOST, 1), "Several hosts; any of them matches.").also(&["domains"]),
        key(
            "path",
            PATH,
            "The path to match by whole elements: /abc takes /abc and /abc/d, never /abcd. The \
             longest one wins. Default: /.",
        )
        .also(&["prefix", "path_prefix", "location"]),
        key("path_exact", PATH, "The whole path to match.").also(&["exact"]),
        key("path_regex", SOME_TEXT, "A regular expression for the whole path, anchored at both ends.")
            .also(&["regex"]),
        key("methods", Texts(TOKEN, 1), "Methods to match; GET does not match HEAD. Default: every method.")
            .also(&["method"]),
        key(
            "headers",
            Named(&FIELD_CONDITION),
            "Header fields that must have this value, or match { regex = \"..\" } as a whole.",
        )
        .also(&["header"]),
        key(
            "query",
            Named(&FIELD_CONDITION),
            "Query parameters that must have this value, or match { regex = \"..\" } as a whole.",
        )
        .also(&["params"]),
        key(
            "to",
            Either(&TARGET_ONE, &List(&TARGET_ONE)),
            "Where requests are sent: a port, an address, \"http://host:port\", \"https://host:port\", \
             \"h2c://host:port\" (HTTP/2 without TLS), \"unix:/path\", a service's name, a program that is \
             followed as { process = .. }, or a list of those, with weights as { to = .., weight = n }.",
        )
        .also(&["target", "upstream", "backend", "proxy", "port", "url", "address", "service", "proxy_pass"]),
        key(
            "balance",
            Word(&["round_robin", "least_requests", "random"]),
            "How one of several targets is chosen. Default: \"round_robin\".",
        ),
        key("health", Table(&HEALTH), "How a target is asked whether it is well. Default: never asked.")
            .also(&["health_check", "healthcheck"]),
        key("strip_prefix", Boolean, "Takes `path` off before the request is sent on. Default: false.")
            .also(&["strip", "strip_path"]),
        key("rewrite", Table(&REWRITE), "Changes the path or the host that the target sees."),
        key("request_headers", Table(&EDITS), "Edits of the header fields that the target sees."),
        key("response_headers", Table(&EDITS), "Edits of the header fields that the client sees."),
        key(
            "redirect",
            Either(&Text(r"^(/|https?://)[!-~]*$"), &Table(&REDIRECT)),
            "Answers with a redirect to this path or URL; the status is 302.",
        )
        .also(&["return"]),
        key("respond", Either(&ANY_TEXT, &Table(&RESPOND)), "Answers with this text, or as the table says.")
            .also(&["response", "reply", "mock", "body"]),
        key("files", SOME_TEXT, "Serves the files in this folder, which is relative to this file.")
            .also(&["root", "static", "folder", "dir"]),
        key(
            "fallback",
            SOME_TEXT,
            "A file of that folder, for paths without one where the client wants a page. Default: \
             none.",
        )
        .also(&["index"]),
        key(
            "cors",
            Either(&Boolean, &Table(&CORS)),
            "Answers browsers that ask on behalf of another origin; true lets every local origin in. \
             Default: false.",
        ),
        key("timeout", DURATION, "Until the first byte of the answer. Default: \"5m\"."),
        key("connect_timeout", DURATION, "Until a connection stands. Default: \"2s\"."),
        key("retries", Integer(0, 10), "How often a request may be repeated where HTTP allows it. Default: 1.")
            .also(&["retry"]),
        key(
            "cert",
            SOME_TEXT,
            "A file with the certificate to show to https clients of these hosts, in PEM form and with the \
             certificates that vouch for it; relative to this file. Default: one of the local authority.",
        )
        .also(&["certificate", "tls_cert", "certfile", "ssl_certificate"]),
        key("key", SOME_TEXT, "A file with the private key of `cert`, in PEM form; relative to this file.").also(&[
            "private_key",
            "tls_key",
            "keyfile",
            "ssl_certificate_key",
        ]),
        key("insecure", Boolean, "Accepts any certificate of an https:// target. Default: false."),
        key(
            "hold",
            Either(&False, &DURATION),
            "How long a request waits for a program that does not listen; false sends it away at once. \
             Default: \"10s\" where a service is among the targets, otherwise false.",
        )
        .also(&["wait", "hold_timeout"]),
        key("mirror", TARGET_SHORT, "Sends a copy of each request there.").not_yet("cannot mirror requests yet"),
        key("fault", Table(&FAULT), "Injects delays and failures that repeat.").not_yet("cannot inject faults yet"),
    ],
    exactly_one: &["to", "redirect", "respond", "files"],
    at_most_one: &[&["host", "hosts"], &["path", "path_exact", "path_regex"]],
    only_with: &[
        ("balance", &["to"]),
        ("health", &["to"]),
        ("timeout", &["to"]),
        ("connect_timeout", &["to"]),
        ("retries", &["to"]),
        ("insecure", &["to"]),
        ("hold", &["to"]),
        ("mirror", &["to"]),
        ("fallback", &["files"]),
        ("strip_prefix", &["to", "files"]),
        ("rewrite", &["to", "files"]),
        ("strip_prefix", &["path"]),
        ("cert", &["host", "hosts"]),
        ("key", &["cert"]),
    ],
    completed_by: &[("cert", "key")],
    ..FREE
};

/// `{ regex = ".." }`
pub(crate) static PATTERN: Keys = Keys {
    id: "pattern",
    of: "a pattern",
    keys: &[key("regex", ANY_TEXT, "A regular expression for the whole value.").also(&["pattern", "matches"])],
    required: &["regex"],
    ..FREE
};

/// `{ to = .., weight = .. }` and the ways to find a program.
pub(crate) static TARGET: Keys = Keys {
    id: "target",
    of: "a target",
    keys: &[
        key("to", TARGET_SHORT, "Where it is: a port, an address or a service's name.")
            .also(&["target", "address", "url"]),
        key("weight", Integer(0, 1000), "Its share; 0 sends nothing. Default: 1."),
        key(
            "owner",
            SOME_TEXT,
            "Who must hold the port of `to`: a program's name, or the folder that it works in (with a \
             /, relative to this file). Default: whoever holds it.",
        )
        .also(&["pin", "held_by"]),
        key(
            "process",
            Text(r"^[^/]+$"),
            "The port of this program is followed: the file name of its executable, or of the script \
             that an interpreter runs.",
        )
        .also(&["program", "exe", "command"]),
        key("dir", SOME_TEXT, "The port of the program that works in this folder, relative to this file, is followed.")
            .also(&["folder", "cwd"]),
        key("pid_file", SOME_TEXT, "The port of the program whose pid stands in this file is followed.")
            .also(&["pidfile", "pid"]),
        key(
            "container",
            Text(CONTAINER),
            "The published port of this container is followed: its name, or that of a compose service.",
        )
        .also(&["docker", "podman"]),
        key("port", PORT, "The port inside of the container."),
    ],
    exactly_one: &["to", "process", "dir", "pid_file", "container"],
    only_with: &[("port", &["container"]), ("owner", &["to"])],
    completed_by: &[("container", "port")],
    ..FREE
};

/// `health`
pub(crate) static HEALTH: Keys = Keys {
    id: "health",
    of: "`health`",
    keys: &[
        key("path", PATH, "Asked with GET; a status below 400 is well.").also(&["url", "uri"]),
        key("interval", DURATION, "Between two questions. Default: \"2s\".").also(&["every"]),
        key("timeout", DURATION, "For one question. Default: \"1s\"."),
    ],
    required: &["path"],
    ..FREE
};

/// `rewrite`
pub(crate) static REWRITE: Keys = Keys {
    id: "rewrite",
    of: "`rewrite`",
    keys: &[
        key("path", PATH, "The whole path becomes this; the query stays."),
        key("prefix", PATH, "The matched `path` becomes this; what follows it stays."),
        key("host", SOME_TEXT, "The Host that the target sees, with a port if it should have one."),
    ],
    never_empty: true,
    at_most_one: &[&["path", "prefix"]],
    ..FREE
};

/// `request_headers`, `response_headers`
pub(crate) static EDITS: Keys = Keys {
    id: "header_edits",
    of: "header edits",
    keys: &[
        key("set", Named(&FIELD_VALUE), "Replaces every field of the name."),
        key("add", Named(&Either(&FIELD_VALUE, &List(&FIELD_VALUE))), "Put behind the fields that are there.")
            .also(&["append"]),
        key("remove", Texts(TOKEN, 0), "Taken out, before anything is set or added.").also(&["delete", "unset"]),
    ],
    ..FREE
};

/// `redirect`
pub(crate) static REDIRECT: Keys = Keys {
    id: "redirect",
    of: "`redirect`",
    keys: &[
        key("to", Text(r"^(/|https?://)[!-~]*$"), "A path or a whole URL.").also(&["url", "location", "target"]),
        key("status", Code(&REDIRECT_STATUSES), "The kind of redirect. Default: 302.").also(&["code"]),
    ],
    required: &["to"],
    ..FREE
};

/// `respond`
pub(crate) static RESPOND: Keys = Keys {
    id: "respond",
    of: "`respond`",
    keys: &[
        key("status", STATUS, "Default: 200, or 204 without any body.").also(&["code"]),
        key("headers", Named(&FIELD_VALUE), "Header fields of the answer.").also(&["header"]),
        key("body", ANY_TEXT, "Plain text, unless `headers` say otherwise.").also(&["text", "content"]),
        key("json", Any, "Any value; sent as JSON."),
        key("file", SOME_TEXT, "A file, relative to this one; read when asked for.").also(&["path"]),
    ],
    at_most_one: &[&["body", "json", "file"]],
    ..FREE
};

/// `cors`
pub(crate) static CORS: Keys = Keys {
    id: "cors",
    of: "`cors`",
    keys: &[
        key(
            "origins",
            Either(&Text(r"^(\*|https?://[^/?#@\s]+)$"), &Texts(r"^https?://[^/?#@\s]+$", 1)),
            "Who may ask: origins such as \"http://app.localhost:62893\", or \"*\". Default: every local origin.",
        )
        .also(&["origin", "allow_origin", "allow_origins"]),
        key("methods", Texts(TOKEN, 1), "Default: what the browser asks for.").also(&["allow_methods"]),
        key("headers", Texts(TOKEN, 1), "Default: what the browser asks for.").also(&["allow_headers"]),
        key("expose", Texts(TOKEN, 0), "Header fields of the answer that a script may read. Default: none.")
            .also(&["expose_headers"]),
        key("credentials", Boolean, "Whether cookies may come along. Default: false.").also(&["allow_credentials"]),
        key("max_age", DURATION, "How long a browser may remember the permission. Default: \"10m\"."),
    ],
    ..FREE
};

/// `fault`
pub(crate) static FAULT: Keys = Keys {
    id: "fault",
    of: "`fault`",
    keys: &[
        key("delay", DURATION, "Waits before the request is sent on."),
        key("jitter", DURATION, "Adds up to this much to the delay."),
        key("abort", STATUS, "Answers with this status instead."),
        key("reset", Boolean, "Cuts the connection instead."),
        key("bandwidth", Integer(1, i64::MAX), "Bytes per second."),
        key("percent", Number(0, 100), "How many requests are hit. Default: 100."),
        key("first", Integer(1, i64::MAX), "Only the first so many requests are hit."),
        key("seed", Integer(0, i64::MAX), "Another seed hits other requests. Default: 0."),
    ],
    ..FREE
};

/// An entry of `[services]`.
pub(crate) static SERVICE: Keys = Keys {
    id: "service",
    of: "a service",
    keys: &[
        key("run", COMMAND, "The command: a string for the shell, or a list that runs without one.")
            .also(&["command", "cmd", "exec"]),
        key("dir", SOME_TEXT, "Where it runs, relative to this file. Default: the folder of this file.").also(&[
            "cwd",
            "folder",
            "working_dir",
        ]),
        key("env", Named(&ANY_TEXT), "Variables of its environment, over all others.").also(&["environment"]),
        key(
            "env_file",
            Either(&SOME_TEXT, &Texts("^.", 0)),
            "Files with variables, relative to this file, a later one over an earlier one; [] reads \
             none. Default: .env and .env.local of `dir`, where they are.",
        )
        .also(&["dotenv", "env_files"]),
        key("needs", Texts("", 0), "Services that must be ready first. Default: none.").also(&[
            "depends_on",
            "after",
            "requires",
        ]),
        key(
            "ready",
            Either(&PATH, &Table(&READY)),
            "Ready once this path is answered with a status below 400, or as the table says. Default: \
             once it listens.",
        )
        .also(&["health", "healthcheck"]),
        key(
            "port",
            PORT,
            "The port that it always opens. Default: it is given a free one in PORT, and whichever it \
             opens is found.",
        ),
        key(
            "start",
            Word(&["with_up", "on_request"]),
            "Whether it is started by `portolan up`, or then by the first request for it. Default: \
             \"with_up\".",
        ),
        key(
            "idle",
            DURATION,
            "Only with start = \"on_request\": it is stopped when nobody has asked for it for this \
             long. Default: never.",
        )
        .also(&["idle_timeout", "stop_after"]),
    ],
    required: &["run"],
    ..FREE
};

/// `ready`
pub(crate) static READY: Keys = Keys {
    id: "ready",
    of: "`ready`",
    keys: &[
        key("path", PATH, "Asked with GET; a status below 400 means ready.").also(&["url", "uri", "http"]),
        key("log", SOME_TEXT, "A regular expression for a line of its output, matched anywhere in it.")
            .also(&["line", "output", "regex", "stdout"]),
    ],
    exactly_one: &["path", "log"],
    ..FREE
};

/// An entry of `[tcp]`.
pub(crate) static TCP: Keys = Keys {
    id: "tcp_route",
    of: "a TCP route",
    keys: &[
        key(
            "listen",
            Either(&LISTEN_ONE, &List(&LISTEN_ONE)),
            "Where it listens: a port (127.0.0.1 and, where the machine has it, [::1]), an address with a port, or a \
             list of those.",
        )
        .also(&["port", "bind", "address"]),
        key(
            "to",
            Either(&TARGET_ONE, &List(&TARGET_ONE)),
            "Where its bytes go: a port, an address, \"unix:/path\", a service's name, a program that is followed as \
             { process = .. }, or a list of those, with weights as { to = .., weight = n }. Of several ports of a \
             program the one goes first that is `listen` itself or one of the ten behind it: a debugger's.",
        )
        .also(&["target", "upstream", "backend", "service"]),
        key(
            "host",
            Text(HOST),
            "Takes the TLS clients that ask for this name (SNI), or for *.suffix, so that several routes can share a \
             port; PostgreSQL's way of asking for TLS is understood. Default: takes what no other route of the port \
             takes, and after a second of silence those clients that wait for the program to speak first.",
        )
        .also(&["sni", "hostname", "server_name"]),
        key("hosts", Texts(HOST, 1), "Several such names; any of them is taken.").also(&["domains"]),
        key(
            "balance",
            Word(&["round_robin", "least_requests", "random"]),
            "How one of several targets is chosen for a connection. Default: \"round_robin\".",
        ),
        key("connect_timeout", DURATION, "Until a connection to the target stands. Default: \"2s\"."),
        key(
            "hold",
            Either(&False, &DURATION),
            "How long a connection waits for a program that does not listen; false resets it at once. Default: \
             \"10s\" where a service is among the targets, otherwise false.",
        )
        .also(&["wait", "hold_timeout"]),
    ],
    at_most_one: &[&["host", "hosts"]],
    required: &["listen", "to"],
    ..FREE
};

/// Every kind of table, for whoever walks them all.
pub(crate) static ALL: [&Keys; 14] = [
    &ROOT, &ROUTE, &PATTERN, &TARGET, &HEALTH, &REWRITE, &EDITS, &REDIRECT, &RESPOND, &CORS, &FAULT, &SERVICE, &READY,
    &TCP,
];
