//! An example at work: a copy of its folder, a program in the place of each target, and the real `portolan` in front.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use portolan::config::{Action, Address, Config, load};
use tempfile::TempDir;

use crate::{PATIENCE, origin::Origin, promise::Request};

/// A running example. Dropping it ends the proxy.
pub(crate) struct Stage {
    folder: TempDir,
    origins: BTreeMap<String, Origin>,
    proxy: Proxy,
}

struct Proxy {
    child: Child,
    /// Kept open, as a closed pipe is a reason to end.
    _output: BufReader<ChildStdout>,
    address: String,
}

/// What came back, as far as it was read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: String,
    rest: BufReader<TcpStream>,
}

impl Stage {
    /// Starts the programs and the proxy of an example.
    pub(crate) fn of(example: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&folder_of(example), folder.path());
        let file = folder.path().join("portolan.toml");
        let mut origins = BTreeMap::new();
        let mut ports = BTreeMap::new();
        for port in addresses(&loaded(&file)).iter().filter_map(port_of) {
            let place = format!(":{port}");
            let (free, origin) = Origin::on_a_free_port(place.clone());
            ports.insert(port.to_string(), free.to_string());
            origins.insert(place, origin);
        }
        fs::write(&file, with_numbers(&fs::read_to_string(&file).unwrap(), &ports)).unwrap();
        for path in addresses(&loaded(&file)).iter().filter_map(socket_of) {
            let place = path.file_name().unwrap().to_str().unwrap().to_owned();
            origins.insert(place.clone(), Origin::on_socket(place, path));
        }
        let proxy = Proxy::start(&file);
        Self { folder, origins, proxy }
    }

    /// The program in the place of this target of the table.
    pub(crate) fn origin(&self, place: &str) -> &Origin {
        &self.origins[place]
    }

    /// A file of the example, to be edited at will.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Asks the proxy and reads the answer until it holds all of `awaited`, or to its end where that is empty.
    pub(crate) fn ask(&self, request: &Request, awaited: &[&str]) -> Answer {
        let mut stream = TcpStream::connect(&self.proxy.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", request.method, request.target, request.host);
        if !request.body.is_empty() {
            head += &format!("content-length: {}\r\n", request.body.len());
        }
        if !request.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection")) {
            head += "connection: close\r\n";
        }
        for (name, value) in &request.fields {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n{}", request.body).as_bytes()).unwrap();
        let mut answer = Answer::head(stream);
        if answer.status != 101 {
            answer.read_on(awaited);
        }
        answer
    }

    /// Asks for `target` and tells which program answered.
    pub(crate) fn who_answers(&self, target: &str) -> String {
        let answer = self.ask(&Request::get(target), &[]);
        assert_eq!(answer.status, 200, "{answer}");
        answer.body.lines().next().unwrap_or_default().to_owned()
    }
}

impl Proxy {
    fn start(file: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.args(["serve", "-q", "--listen", "127.0.0.1:0", "-c"]).arg(file);
        // What the developer who runs the tests has set must not reach it.
        command.env_remove("PORTOLAN_CONFIG").env_remove("PORTOLAN_LISTEN").env_remove("PORTOLAN_LOG");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("portolan ready http://");
        let address = address.unwrap_or_else(|| panic!("portolan said `{line}` of {}", file.display())).to_owned();
        Self { child, _output: output, address }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Answer {
    fn head(stream: TcpStream) -> Self {
        let mut rest = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            rest.read_line(&mut line).unwrap();
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            lines.push(line.to_owned());
        }
        let status = lines.first().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let fields = lines.iter().skip(1).filter_map(|line| line.split_once(": "));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { status: status.unwrap_or_else(|| panic!("no answer: {lines:?}")), fields, body: String::new(), rest }
    }

    /// Reads on until the body holds all of `awaited`; to its end where that is empty.
    pub(crate) fn read_on(&mut self, awaited: &[&str]) {
        while awaited.is_empty() || !awaited.iter().all(|text| self.body.contains(text)) {
            let piece = self.rest.fill_buf().unwrap();
            if piece.is_empty() {
                return;
            }
            self.body += std::str::from_utf8(piece).unwrap();
            let length = piece.len();
            self.rest.consume(length);
        }
    }

    /// Sends bytes and reads as many back: what a tunnel is for.
    pub(crate) fn echo(&mut self, text: &str) -> String {
        self.rest.get_mut().write_all(text.as_bytes()).unwrap();
        let mut back = vec![0; text.len()];
        self.rest.read_exact(&mut back).unwrap();
        String::from_utf8(back).unwrap()
    }

    /// The value of the first field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.status)?;
        for (name, value) in &self.fields {
            writeln!(f, "{name}: {value}")?;
        }
        write!(f, "\n{}", self.body)
    }
}

/// The folder of an example.
pub(crate) fn folder_of(example: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example)
}

/// The table of a file, of which there must be nothing to tell.
pub(crate) fn loaded(file: &Path) -> Config {
    good(load::load(file, None), &file.display().to_string())
}

/// The config, if nothing is wrong with it, nor doubtful.
pub(crate) fn good(loaded: load::Loaded, name: &str) -> Config {
    assert!(loaded.diagnostics.is_empty(), "{name}:\n{}", portolan::diagnostic::render(&loaded.diagnostics, false));
    loaded.config.unwrap_or_else(|| panic!("{name}: no table"))
}

fn addresses(config: &Config) -> Vec<Address> {
    let forwards = config.routes.iter().filter_map(|route| match &route.action {
        Action::Forward(forward) => Some(forward),
        Action::Redirect(_) | Action::Respond(_) | Action::Files(_) => None,
    });
    let mut addresses: Vec<Address> = Vec::new();
    for target in forwards.flat_map(|forward| &forward.targets) {
        if !addresses.contains(&target.address) {
            addresses.push(target.address.clone());
        }
    }
    addresses
}

fn port_of(address: &Address) -> Option<u16> {
    match address {
        Address::Loopback(port) => Some(*port),
        Address::Unix(_) => None,
        other => panic!("an example that needs {other} cannot be tried everywhere"),
    }
}

fn socket_of(address: &Address) -> Option<&Path> {
    if let Address::Unix(path) = address { Some(path) } else { None }
}

/// The text with every number that has a stand-in replaced by it.
fn with_numbers(text: &str, stand_ins: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let is_number = rest.starts_with(|c: char| c.is_ascii_digit());
        let end = rest.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(rest.len());
        let (piece, behind) = rest.split_at(end);
        out += stand_ins.get(piece).map_or(piece, String::as_str);
        rest = behind;
    }
    out
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
