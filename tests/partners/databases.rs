//! Databases behind `[tcp]` routes: their own clients and drivers see through portolan what they see without it.

use std::{ffi::OsStr, process::Command, thread};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    alone,
    certificate::SelfSigned,
    client::{python, run, until},
    installed::{
        self,
        Tool::{MariaDb, Memcached, Mongo, OpenSsl, Postgres, Psql, Python, Redis},
    },
    program::{self, Program},
    proxy::Portolan,
};

/// Where a database itself listens, in a network that is the test's alone. Its route has the port that everybody knows.
const BEHIND: u16 = 7001;

#[test]
fn postgres_is_asked_and_cancelled_by_psycopg() {
    alone::with(&[Postgres, Psql, Python, OpenSsl], || {
        let _postgres = PostgreSql::start("one", BEHIND);
        let portolan = leads(5432);

        for port in [BEHIND, 5432] {
            assert_eq!(python("postgres.py", &[&plain(port)]), [postgres_report("one", Value::Null)], "at {port}");
        }
        let url = portolan.says(&["url", "database"]);
        assert_eq!(psql(&format!("{}postgres?user=postgres", url.trim())), "one", "at {url}");
    });
}

#[test]
fn postgres_proves_its_name_to_psql_and_psycopg_when_tls_is_asked_for_and_when_it_comes_first() {
    alone::with(&[Postgres, Psql, Python, OpenSsl], || {
        let postgres = PostgreSql::start("one", BEHIND);
        let _portolan = leads(5432);

        for port in [BEHIND, 5432] {
            let (asked, first) = (postgres.verified(port), postgres.verified_at_once(port));
            assert_eq!(psql(&asked), "one", "at {port}");
            let expected = postgres_report("one", json!("TLSv1.3"));
            assert_eq!(python("postgres.py", &[&asked, &first]), [expected.clone(), expected], "at {port}");
        }
    });
}

#[test]
fn two_postgres_servers_share_a_port_by_the_names_that_their_clients_ask_for() {
    alone::with(&[Postgres, Psql, Python, OpenSsl], || {
        let (one, two) = (PostgreSql::start("one", BEHIND), PostgreSql::start("two", BEHIND + 1));
        let _portolan = Portolan::serving(&format!(
            "[tcp]\none = {{ listen = 5432, host = 'one.localhost', to = {BEHIND} }}\n\
             two = {{ listen = 5432, host = 'two.localhost', to = {} }}\n",
            BEHIND + 1
        ));

        for server in [&one, &two] {
            let (asked, first) = (server.verified(5432), server.verified_at_once(5432));
            assert_eq!(psql(&asked), server.name);
            let expected = postgres_report(server.name, json!("TLSv1.3"));
            assert_eq!(python("postgres.py", &[&asked, &first]), [expected.clone(), expected]);
        }
    });
}

#[test]
fn a_postgres_client_that_names_no_host_gets_the_server_that_has_none() {
    alone::with(&[Postgres, Psql, Python, OpenSsl], || {
        let (one, two) = (PostgreSql::start("one", BEHIND), PostgreSql::start("two", BEHIND + 1));
        let _portolan = Portolan::serving(&format!(
            "[tcp]\none = {{ listen = 5432, host = 'one.localhost', to = {BEHIND} }}\n\
             other = {{ listen = 5432, to = {} }}\n",
            BEHIND + 1
        ));

        // Its wish to cancel comes in a connection of its own, in which nothing tells for which server it is.
        assert_eq!(python("postgres.py", &[&plain(5432)]), [postgres_report("two", Value::Null)]);
        assert_eq!(psql(&one.verified(5432)), "one");
        assert_eq!(psql(&two.verified(5432)), "two");
    });
}

#[test]
fn mariadb_greets_first_and_never_sees_a_connection_that_is_only_tried() {
    alone::with(&[MariaDb, Python], || {
        let _mariadb = maria_db();
        let _portolan = leads(3306);

        for port in [BEHIND, 3306] {
            let answer = run(Command::new("mariadb")
                .args(["--no-defaults", "--host=127.0.0.1", "--user=root"])
                .args([&format!("--port={port}"), "--skip-column-names", "--execute=select 6 * 7"]));
            assert_eq!(answer.trim(), "42", "at {port}");
            let expected = json!({
                "greeted": true,
                "answer": 42,
                "returned": true,
                "killed": "Query execution was interrupted",
                "abortedConnects": 0,
            });
            assert_eq!(python("mariadb.py", &[&port.to_string()]), [expected], "at {port}");
        }
    });
}

#[test]
fn redis_publishes_to_whoever_subscribed() {
    alone::with(&[Redis, Python], || {
        let _redis = redis(BEHIND, &["--port", &BEHIND.to_string()]);
        let portolan = leads(6379);

        for port in [BEHIND, 6379] {
            let expected = json!({ "returned": true, "published": "a ship", "waitedFor": "a parcel" });
            assert_eq!(python("redis.py", &[&port.to_string()]), [expected], "at {port}");
        }
        let url = portolan.says(&["url", "database"]);
        assert_eq!(run(Command::new("redis-cli").args(["-u", url.trim(), "ping"])), "PONG\n", "{url}");
    });
}

#[test]
fn redis_cli_waits_for_a_redis_that_is_started_after_it() {
    alone::with(&[Redis], || {
        let portolan =
            Portolan::serving(&format!("[tcp]\ndatabase = {{ listen = 6379, to = {BEHIND}, hold = '60s' }}\n"));

        let asking = thread::spawn(|| run(Command::new("redis-cli").args(["-h", "127.0.0.1", "ping"])));
        until("it is connected", || portolan.status()["tcp"][0]["open"] == 1);
        let _redis = redis(BEHIND, &["--port", &BEHIND.to_string()]);

        assert_eq!(asking.join().unwrap(), "PONG\n");
    });
}

#[test]
fn two_redis_servers_share_a_port_by_the_names_in_their_clients_first_tls_message() {
    alone::with(&[Redis, OpenSsl], || {
        let servers = ["one", "two"].map(|name| (name, SelfSigned::of(&format!("DNS:{name}.localhost"))));
        let _running = [BEHIND, BEHIND + 1].map(|port| {
            let (name, certificate) = &servers[usize::from(port - BEHIND)];
            redis(
                port,
                &[
                    "--port",
                    "0",
                    "--tls-port",
                    &port.to_string(),
                    "--tls-auth-clients",
                    "no",
                    "--requirepass",
                    name,
                    "--tls-cert-file",
                    certificate.certificate().to_str().unwrap(),
                    "--tls-key-file",
                    certificate.key().to_str().unwrap(),
                    "--tls-ca-cert-file",
                    certificate.certificate().to_str().unwrap(),
                ],
            )
        });
        let _portolan = Portolan::serving(&format!(
            "[tcp]\none = {{ listen = 6379, host = 'one.localhost', to = {BEHIND} }}\n\
             two = {{ listen = 6379, host = '*.localhost', to = {} }}\n",
            BEHIND + 1
        ));

        for (name, certificate) in &servers {
            let mut client = Command::new("redis-cli");
            client.args(["-h", "127.0.0.1", "-p", "6379", "--tls", "--sni", &format!("{name}.localhost")]);
            client.arg("--cacert").arg(certificate.certificate()).args(["--no-auth-warning", "-a", name, "ping"]);
            assert_eq!(run(&mut client), "PONG\n", "{name}");
        }
    });
}

#[test]
fn memcached_returns_what_it_was_given() {
    alone::with(&[Memcached, Python], || {
        let mut command = program::command("memcached");
        command.args(["-vv", "-l", "127.0.0.1", "-U", "0", "-u", "root", "-p", &BEHIND.to_string()]);
        let _memcached = Program::start_on(BEHIND, command, "server listening");
        let _portolan = leads(11211);

        for port in [BEHIND, 11211] {
            let expected = json!({ "returned": true, "count": 42 });
            assert_eq!(python("memcached.py", &[&port.to_string()]), [expected], "at {port}");
        }
    });
}

#[test]
fn mongodb_is_reached_by_the_url_that_portolan_prints() {
    alone::with(&[Mongo, Python], || {
        let (_mongo, _data) = mongo_db(&[]);
        let portolan = leads(27017);

        let through = portolan.says(&["url", "database"]);
        assert_eq!(through.trim(), "mongodb://127.0.0.1:27017/?directConnection=true");
        for url in [&format!("mongodb://127.0.0.1:{BEHIND}/?directConnection=true"), through.trim()] {
            assert_eq!(python("mongodb.py", &[url]), [mongo_report(Value::Null)], "at {url}");
        }
    });
}

#[test]
fn a_member_of_a_mongodb_replica_set_is_reached_although_it_tells_its_own_address() {
    alone::with(&[Mongo, Python], || {
        let (_mongo, _data) = mongo_db(&["--replSet", "fleet"]);
        let portolan = leads(27017);

        let through = portolan.says(&["url", "database"]);
        for url in [&format!("mongodb://127.0.0.1:{BEHIND}/?directConnection=true"), through.trim()] {
            assert_eq!(python("mongodb.py", &[url]), [mongo_report(json!("fleet"))], "at {url}");
        }
    });
}

/// A route from the port that everybody knows to the database.
fn leads(port: u16) -> Portolan {
    Portolan::serving(&format!("[tcp]\ndatabase = {{ listen = {port}, to = {BEHIND} }}\n"))
}

/// A server that proves to be `NAME.localhost` and calls itself that.
struct PostgreSql {
    name: &'static str,
    certificate: SelfSigned,
    _data: TempDir,
    _program: Program,
}

impl PostgreSql {
    fn start(name: &'static str, port: u16) -> Self {
        let data = tempfile::tempdir().unwrap();
        let cluster = data.path().join("cluster");
        let mut initdb = nobody(installed::postgres("initdb"));
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--pgdata"]).arg(&cluster);
        run(&mut initdb);

        let certificate = SelfSigned::of(&format!("DNS:{name}.localhost"));
        let mut command = nobody(installed::postgres("postgres"));
        command.arg("-D").arg(&cluster).args(["-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "ssl=on",
            &format!("cluster_name={name}"),
            &format!("ssl_cert_file={}", certificate.certificate().display()),
            &format!("ssl_key_file={}", certificate.key().display()),
        ] {
            command.args(["-c", setting]);
        }
        let program = Program::start_on(port, command, "ready to accept connections");
        Self { name, certificate, _data: data, _program: program }
    }

    /// Over TLS, which the client asks for in PostgreSQL's own words.
    fn verified(&self, port: u16) -> String {
        let (host, root) = (format!("host={}.localhost", self.name), self.certificate.certificate());
        format!("{host} {} sslmode=verify-full sslrootcert={}", at(port), root.display())
    }

    /// Over TLS, which is there from the first byte.
    fn verified_at_once(&self, port: u16) -> String {
        format!("{} sslnegotiation=direct", self.verified(port))
    }
}

fn plain(port: u16) -> String {
    format!("{} sslmode=disable", at(port))
}

/// The name needs an address beside it: libpq asks the system, and that knows nothing of `*.localhost`.
fn at(port: u16) -> String {
    format!("hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres")
}

fn psql(conninfo: &str) -> String {
    let mut psql = Command::new("psql");
    psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", "select current_setting('cluster_name')"]);
    run(psql.arg(conninfo)).trim().to_owned()
}

fn postgres_report(server: &str, tls: Value) -> Value {
    json!({
        "server": server,
        "tls": tls,
        "sum": 5_000_050_000_u64,
        "returned": true,
        "notified": "a ship",
        "cancelled": "canceling statement due to user request",
    })
}

/// A program that refuses to be root: inside it is nobody, outside its files are ours.
fn nobody(program: impl AsRef<OsStr>) -> Command {
    let mut command = program::command("unshare");
    command.args(["--user", "--map-user=65534", "--map-group=65534"]).arg(program);
    command
}

fn redis(port: u16, more: &[&str]) -> Program {
    let mut command = program::command("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]).args(more);
    Program::start_on(port, command, "Ready to accept connections")
}

fn maria_db() -> (Program, TempDir) {
    let data = tempfile::tempdir().unwrap();
    let files = |name: &str| data.path().join(name).display().to_string();
    let mut install = Command::new("mariadb-install-db");
    install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"]);
    run(install.arg(format!("--datadir={}", files("data"))));

    let mut command = program::command("/usr/sbin/mariadbd");
    command.args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--max-allowed-packet=64M"]);
    command.arg(format!("--port={BEHIND}")).arg(format!("--datadir={}", files("data")));
    command.arg(format!("--socket={}", files("socket"))).arg(format!("--pid-file={}", files("pid")));
    (Program::start_on(BEHIND, command, "ready for connections"), data)
}

fn mongo_db(more: &[&str]) -> (Program, TempDir) {
    let data = tempfile::tempdir().unwrap();
    let mut command = program::command(installed::mongod());
    command.args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--port", &BEHIND.to_string()]).args(more);
    command.arg("--dbpath").arg(data.path());
    (Program::start_on(BEHIND, command, "Waiting for connections"), data)
}

fn mongo_report(replica_set: Value) -> Value {
    let mut report = json!({
        "ships": 2000,
        "berths": [286, 286, 286, 286, 286, 285, 285],
        "kind": "Single",
        "replicaSet": replica_set,
    });
    if !replica_set.is_null() {
        report["watched"] = json!(2000);
    }
    report
}
