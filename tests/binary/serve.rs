//! `serve`: what it says when it is ready, where it listens, and what it refuses.

use std::{
    collections::BTreeSet,
    net::{Ipv6Addr, SocketAddr, TcpListener},
};

use crate::{
    client::{get, get_of_host},
    folder::Folder,
    origin::named,
    program::{Portolan, portolan, run, say, tell},
};

const LOCAL: &str = "127.0.0.1:0";

#[test]
fn the_last_of_the_first_lines_is_exactly_the_ready_line() {
    let folder = Folder::with_table(
        "project = \"shop\"\n[routes]\nweb = { path = \"/\", to = 5173 }\napi = { path = \"/api\", to = 8000 }\n\
         docs = 4000\nmail = { host = \"*.mail.localhost\", respond = \"mail\" }\n",
    );
    let portolan = Portolan::serve(&folder, &[]);
    let port = portolan.address().port();
    let expected = [
        format!("web   http://localhost:{port}/            -> :5173"),
        format!("api   http://localhost:{port}/api         -> :8000"),
        format!("docs  http://docs.shop.localhost:{port}/  -> :4000"),
    ];
    assert_eq!(portolan.greeting.len(), 5, "{:?}", portolan.greeting);
    assert_eq!(portolan.greeting[..3], expected);
    assert!(portolan.greeting[3].starts_with("mail  http://"), "{:?}", portolan.greeting);
    assert_eq!(portolan.greeting[4], format!("portolan ready http://127.0.0.1:{port}"));
}

#[test]
fn nothing_follows_the_ready_line_on_standard_output() {
    let mut portolan = Portolan::serve(&Folder::new(), &["/=1"]);
    get(portolan.address(), "/");
    portolan.err.wait_for(|line| line.contains("GET"));
    portolan.signal(rustix::process::Signal::TERM);
    assert_eq!(portolan.wait(), 0);
    assert_eq!(portolan.out.wait_for_end(), portolan.greeting);
}

#[test]
fn routes_can_be_typed_in_the_place_of_a_table() {
    let (root, api, docs) = (named("root"), named("api"), named("docs"));
    let routes = [format!("{root}"), format!("/api={api}"), format!("docs.localhost={docs}")];
    let portolan = Portolan::serve(&Folder::new(), &[&routes[0], &routes[1], &routes[2]]);
    assert_eq!(get(portolan.address(), "/x").body, "root");
    assert_eq!(get(portolan.address(), "/api/users").body, "api");
    assert_eq!(get_of_host(portolan.address(), "docs.localhost", "/api").body, "docs");
    assert_eq!(get_of_host(portolan.address(), "example.com", "/").status, 421);
}

#[test]
fn serve_is_what_it_does_without_a_command() {
    let port = named("web");
    let portolan = Portolan::start(portolan(&Folder::new(), &["--listen", LOCAL, &format!("/={port}")]));
    assert_eq!(get(portolan.address(), "/").body, "web");
}

#[test]
fn typed_routes_that_are_wrong_are_told_of_with_their_place() {
    for (route, place) in [("/api=nowhere", "<command line>:1:6"), ("/a=1 /a=2", "<command line>:1:")] {
        let routes: Vec<&str> = route.split(' ').collect();
        let said = say(&Folder::new(), &[&["serve", "--listen", LOCAL], &routes[..]].concat());
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{route}");
        assert!(said.err.contains(place), "{}", said.err);
    }
}

#[test]
fn a_table_and_typed_routes_exclude_each_other() {
    let folder = Folder::with_table("[routes]\nweb = 1\n");
    let said = say(&folder, &["-c", "portolan.toml", "serve", "/=1"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert!(said.err.starts_with("error[two-tables]: "), "{}", said.err);
}

#[test]
fn a_bad_table_is_not_served() {
    let said = say(&Folder::with_table("[routes]\nweb = { tagret = 1 }\n"), &["serve", "--listen", LOCAL]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains("--> portolan.toml:2:9"), "{}", said.err);
}

#[test]
fn localhost_is_both_loopback_addresses_on_one_port() {
    let has_v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let portolan = Portolan::start(portolan(&Folder::new(), &["serve", "--listen", "localhost:0", "/=1"]));
    let port = portolan.address().port();
    assert_eq!(portolan.address(), SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(get(portolan.address(), "/").field("x-portolan-error"), Some("connect-refused"));
    if has_v6 {
        assert_eq!(get((Ipv6Addr::LOCALHOST, port).into(), "/").field("x-portolan-error"), Some("connect-refused"));
    } else {
        tell("NOT TESTED: this machine has no ::1");
    }
}

#[test]
fn where_to_listen_comes_from_the_flag_then_the_environment_then_the_table() {
    let two_free = [TcpListener::bind(LOCAL).unwrap(), TcpListener::bind(LOCAL).unwrap()];
    let [in_table, in_env] = two_free.map(|listener| listener.local_addr().unwrap());
    let folder = Folder::with_table(format!("listen = \"{in_table}\"\n[routes]\nweb = 1\n"));
    let listens = |arguments: &[&str], env: Option<SocketAddr>| {
        let mut command = portolan(&folder, arguments);
        command.envs(env.map(|address| ("PORTOLAN_LISTEN", address.to_string())));
        Portolan::start(command).address()
    };
    assert_eq!(listens(&["serve"], None), in_table);
    assert_eq!(listens(&["serve"], Some(in_env)), in_env);
    let by_flag = listens(&["serve", "--listen", LOCAL], Some(in_env));
    assert_eq!(BTreeSet::from([in_table, in_env, by_flag]).len(), 3);
}

#[test]
fn quiet_leaves_the_ready_line_and_nothing_else() {
    let port = named("web");
    let mut portolan = Portolan::serve(&Folder::new(), &["-q", &format!("/={port}")]);
    assert_eq!(portolan.greeting, [format!("portolan ready http://{}", portolan.address())]);
    assert_eq!(get(portolan.address(), "/").body, "web");
    portolan.signal(rustix::process::Signal::TERM);
    assert_eq!(portolan.wait(), 0);
    assert_eq!(portolan.err.wait_for_end(), [""; 0]);
}

#[test]
fn a_taken_port_names_its_owner_and_no_other_port_is_tried() {
    let holder = TcpListener::bind(LOCAL).unwrap();
    let address = holder.local_addr().unwrap();
    let said = say(&Folder::new(), &["serve", "--listen", &address.to_string(), "/=1"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.starts_with(&format!("error[port-taken]: {address} is already in use")), "{}", said.err);
    let program = std::env::current_exe().unwrap();
    assert!(said.err.contains(&*program.file_name().unwrap().to_string_lossy()), "{}", said.err);
    assert!(said.err.contains(&format!("(pid {})", std::process::id())), "{}", said.err);
}

#[test]
fn a_second_portolan_is_told_of_the_first() {
    let first = Portolan::serve(&Folder::new(), &["/=1"]);
    let folder = Folder::with_table(format!("listen = \"{}\"\n[routes]\nweb = 1\n", first.address()));
    let said = say(&folder, &["serve"]);
    assert_eq!(said.code, 1);
    for part in ["--> portolan.toml:1:10", "a portolan already serves there", &format!("pid {}", first.pid())] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
}

#[test]
fn half_of_localhost_is_not_enough() {
    let Ok(holder) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        return tell("NOT TESTED: this machine has no ::1");
    };
    let port = holder.local_addr().unwrap().port();
    let said = say(&Folder::new(), &["serve", "--listen", &format!("localhost:{port}"), "/=1"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains(&format!("[::1]:{port} is already in use")), "{}", said.err);
}

#[test]
fn listening_beyond_loopback_takes_a_second_word() {
    let folder = Folder::new();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:62893"] {
        let said = say(&folder, &["serve", "--listen", address, "/=1"]);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{address}: {}", said.err);
        assert!(said.err.contains("expose"), "{}", said.err);

        let mut command = portolan(&folder, &["serve", "/=1"]);
        command.env("PORTOLAN_LISTEN", address);
        assert_eq!(run(command).code, 2, "{address}");

        folder.write("wide.toml", format!("listen = \"{address}\"\n[routes]\nweb = 1\n"));
        let said = say(&folder, &["-c", "wide.toml", "serve"]);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{address}: {}", said.err);
        assert!(said.err.contains("wide.toml:1:") && said.err.contains("expose = true"), "{}", said.err);
    }
}
