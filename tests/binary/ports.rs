//! `portolan ports`: what listens, who holds a port, and which route leads there.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    process::Stdio,
    thread,
};

use serde_json::{Value, json};

use crate::{
    client::until,
    folder::{Folder, TABLE},
    program::{Portolan, Said, portolan, run, say},
};

/// A socket of this process, and its address.
fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// What `ports` says of a port of ours. For a moment, a command that another test starts holds what we hold, and may be
/// taken for its owner.
fn of_our_own(folder: &Folder, arguments: &[&str]) -> Said {
    let mut told = None;
    until("this process is told as the owner", || {
        let said = say(folder, arguments);
        let is_ours = said.out.contains(&std::process::id().to_string());
        told = Some(said);
        is_ours
    });
    told.unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn lines(said: &Said) -> Vec<&str> {
    said.out.lines().collect()
}

#[test]
fn a_port_is_told_with_its_owner_and_the_way_to_end_it() {
    let (_listener, address) = listener();
    let (port, pid) = (address.port(), std::process::id());
    let said = of_our_own(&Folder::new(), &["ports", &port.to_string()]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let here = std::env::current_dir().unwrap();
    let [holder, place, end] = lines(&said)[..] else { panic!("{}", said.out) };
    assert!(holder.starts_with(&format!("{port} is held by `")), "{holder}");
    assert!(holder.contains(&format!("` (pid {pid}) in {}, since ", here.display())), "{holder}");
    assert_eq!(place, format!("  = note: it listens on {address}"));
    assert_eq!(end, format!("  = help: end it with `kill {pid}`"));
}

#[test]
fn a_port_without_a_listener_is_bad_and_told_with_what_is_known() {
    let said = say(&Folder::with_table("[routes]\nweb = 1\n"), &["ports", "1"]);
    let expected = "\
nothing listens on 1
  = note: route `web` leads there and meets nobody (portolan.toml:2:1)
  = help: `portolan ports` shows what listens
";
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (1, expected, ""));
}

#[test]
fn a_port_that_a_connection_has_as_its_own_end_names_it() {
    let (server, address) = listener();
    let client = TcpStream::connect(address).unwrap();
    let _accepted = server.accept().unwrap();
    let port = client.local_addr().unwrap().port();
    let said = of_our_own(&Folder::new(), &["ports", &port.to_string()]);
    assert_eq!((said.code, lines(&said)[0]), (1, format!("nothing listens on {port}").as_str()));
    let end = format!("(pid {}) to {address} has it as its own end", std::process::id());
    assert!(lines(&said).iter().any(|line| line.ends_with(&end)), "{}", said.out);
    let answer = json(&say(&Folder::new(), &["ports", "--json", &port.to_string()]).out);
    // One that has just ended may have had the same port.
    let connections = answer["connections"].as_array().unwrap();
    assert!(connections.iter().any(|connection| connection["remote"] == address.to_string()), "{answer}");
}

#[test]
fn a_well_known_port_is_told_with_its_use() {
    let said = say(&Folder::new(), &["ports", "9229"]);
    assert!(said.out.contains("= note: this port is mostly the inspector of Node\n"), "{}", said.out);
    assert_eq!(json(&say(&Folder::new(), &["ports", "--json", "9229"]).out)["usual"], "the inspector of Node");
}

#[test]
fn the_list_has_a_row_for_each_listener_with_the_routes_that_lead_there() {
    let (_listener, address) = listener();
    let port = address.port();
    let folder = Folder::with_table(format!("[routes]\nweb = {port}\nalso = {{ to = [{port}, 1] }}\nother = 2\n"));
    let said = of_our_own(&folder, &["ports"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(lines(&said)[0].starts_with("port "), "{}", said.out);
    let row = lines(&said).into_iter().find(|line| line.starts_with(&format!("{port} "))).unwrap();
    let words: Vec<_> = row.split_whitespace().collect();
    assert_eq!((words[1], words[3]), ("127.0.0.1", std::process::id().to_string().as_str()), "{row}");
    assert!(row.contains("  web, also  "), "{row}");
}

#[test]
fn json_has_the_documented_fields() {
    let (_listener, address) = listener();
    let port = address.port();
    let folder = Folder::with_table(format!("[routes]\nweb = {port}\n"));
    let said = of_our_own(&folder, &["ports", "--json"]);
    let answer = json(&said.out);
    assert_eq!(answer["table"], json!({ "errors": 0 }));
    let rows = answer["listeners"].as_array().unwrap();
    let row = rows.iter().find(|row| row["port"] == port).unwrap();
    let fields: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
    let documented =
        ["address", "port", "pid", "program", "command", "folder", "started", "uid", "user", "container", "routes"];
    assert_eq!(fields, documented);
    assert_eq!((&row["address"], &row["routes"]), (&json!(address.to_string()), &json!(["web"])));
    assert_eq!(row["folder"], json!(std::env::current_dir().unwrap()));
    let help = say(&Folder::new(), &["ports", "--help"]).out;
    for field in documented.into_iter().chain(answer.as_object().unwrap().keys().map(String::as_str)) {
        assert!(help.contains(field), "{field} is not documented: {help}");
    }
}

/// An engine that tells of one container, which publishes a port at `address`. It ends with the process of the test.
fn engine(folder: &Folder, address: SocketAddr) -> String {
    let path = folder.file("engine.sock");
    let socket = UnixListener::bind(&path).unwrap();
    let containers = json!([{
        "Id": "4f1a", "Names": ["/shop-db-1"], "Image": "postgres:17", "State": "running",
        "Labels": { "com.docker.compose.project": "shop", "com.docker.compose.service": "db" },
        "Ports": [{ "IP": address.ip(), "PrivatePort": 5432, "PublicPort": address.port(), "Type": "tcp" }],
    }]);
    thread::spawn(move || {
        for stream in socket.incoming().map_while(Result::ok) {
            // Whoever hangs up has heard enough.
            let _ = answer(&stream, &containers);
        }
    });
    format!("unix://{}", path.display())
}

fn answer(mut stream: &UnixStream, containers: &Value) -> io::Result<()> {
    let mut head = BufReader::new(stream).lines();
    let request = head.next().transpose()?.unwrap_or_default();
    while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let (status, body) = match request.split(' ').nth(1).unwrap_or_default() {
        "/version" => ("200 OK", json!({ "Version": "28.5.2", "ApiVersion": "1.51" })),
        path if path.contains("/containers/json") => ("200 OK", containers.clone()),
        _ => ("404 Not Found", json!({ "message": "no such page" })),
    };
    let body = body.to_string();
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

#[test]
fn a_container_is_named_instead_of_the_helper_that_listens_for_it() {
    let (_listener, address) = listener();
    let folder = Folder::with_table("[routes]\ndb = { to = { container = \"shop-db-1\", port = 5432 } }\n");
    let host = engine(&folder, address);
    let port = address.port().to_string();
    let with_engine = |arguments: &[&str]| {
        let mut command = portolan(&folder, arguments);
        command.env("DOCKER_HOST", &host).env_remove("CONTAINER_HOST");
        run(command)
    };
    let said = with_engine(&["ports", &port]);
    assert!(said.out.starts_with(&format!("{port} is held by container `shop-db-1` of postgres:17")), "{}", said.out);
    assert!(said.out.contains("= help: stop it with `docker stop shop-db-1`\n"), "{}", said.out);
    assert!(said.out.contains("= note: route `db` leads there (portolan.toml:2:1)\n"), "{}", said.out);

    let list = with_engine(&["ports"]).out;
    let row = list.lines().find(|line| line.starts_with(&format!("{port} "))).unwrap();
    assert!(
        row.contains("  shop-db-1  ") && row.contains("  container of postgres:17  ") && row.contains("  db  "),
        "{row}"
    );

    let answer = json(&with_engine(&["ports", "--json", &port]).out);
    let expected = json!({ "name": "shop-db-1", "image": "postgres:17", "project": "shop", "service": "db" });
    assert_eq!(answer["listeners"][0]["container"], expected, "{answer}");

    let examined = with_engine(&["doctor", "--listen", &address.to_string()]).out;
    assert!(examined.contains(&format!("listen: {address} is held by container `shop-db-1`")), "{examined}");
    assert!(examined.contains("containers: Docker 28.5.2 answers (docker at "), "{examined}");
}

#[test]
fn a_table_with_errors_hides_no_listener() {
    let (_listener, address) = listener();
    let folder = Folder::with_table("[routes]\nweb = { tagret = 1 }\n");
    let said = of_our_own(&folder, &["ports"]);
    assert_eq!(said.code, 0);
    assert!(said.out.contains(&address.port().to_string()), "{}", said.out);
    assert!(said.err.starts_with("warning[table-refused]: "), "{}", said.err);
    let answer = json(&of_our_own(&folder, &["ports", "--json"]).out);
    assert_eq!((&answer["table"]["errors"], &answer["listeners"][0]["routes"]), (&json!(1), &Value::Null), "{answer}");
}

#[test]
fn a_table_that_was_named_and_cannot_be_read_is_usage() {
    let said = say(&Folder::new(), &["-c", "none.toml", "ports"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    for port in ["0", "65536", "http"] {
        assert_eq!(say(&Folder::new(), &["ports", port]).code, 2, "{port}");
    }
}

#[test]
fn a_running_proxy_is_found_by_its_port() {
    let portolan = Portolan::serve(&Folder::new(), &["/=1"]);
    let said = say(&Folder::new(), &["ports", &portolan.address().port().to_string()]);
    assert!(said.out.contains(&format!("(pid {}) in ", portolan.pid())), "{}", said.out);
}

#[test]
fn no_colour_and_no_width_reach_a_pipe() {
    let folder = Folder::new();
    folder.write(TABLE, "[routes]\nweb = 1\n");
    let (_listener, _) = listener();
    let said = say(&folder, &["ports"]);
    assert!(!said.out.contains('\u{1b}') && !said.out.contains('…'), "{}", said.out);
}

#[test]
fn a_pipe_that_is_closed_early_ends_it_quietly() {
    let (_listener, _) = listener();
    let folder = Folder::new();
    for arguments in [&["ports"][..], &["ports", "--json"], &["doctor"], &["doctor", "--json"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut command = portolan(&folder, arguments);
        let output = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{arguments:?}");
    }
}

#[test]
fn the_folder_that_was_named_is_the_one_whose_table_is_read() {
    let (_listener, address) = listener();
    let folder = Folder::new();
    folder.write("shop/portolan.toml", format!("[routes]\nshop = {}\n", address.port()));
    let said = run(portolan(&folder, &["-C", "shop", "ports", &address.port().to_string()]));
    assert!(said.out.contains("= note: route `shop` leads there (portolan.toml:2:1)\n"), "{}", said.out);
}
