//! `trust` and `untrust`: which stores they change, that they change nothing else, and what is left of an authority that was
//! being made when we were killed.
//!
//! Every test has a home of its own. The system's store is left alone: no test names it.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    client::until,
    folder::Folder,
    program::{Portolan, Said, portolan, run, tell},
};

/// What whoever runs the tests may have set to say whom to trust, or who they are.
const SAID: [&str; 10] = [
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NIX_SSL_CERT_FILE",
    "JAVA_HOME",
    "SUDO_USER",
];

fn at_home(mut command: Command, folder: &Folder) -> Command {
    for name in SAID {
        command.env_remove(name);
    }
    command.env("HOME", folder.path()).env_remove("XDG_DATA_HOME").env("XDG_RUNTIME_DIR", folder.path());
    command
}

fn said(folder: &Folder, arguments: &[&str]) -> Said {
    run(at_home(portolan(folder, arguments), folder))
}

fn answer(folder: &Folder, arguments: &[&str], code: i32) -> Value {
    let said = said(folder, &[&["--json"], arguments].concat());
    assert_eq!((said.err.as_str(), said.code), ("", code), "{said:?}");
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out))
}

/// The authority's folder.
fn data(folder: &Folder) -> PathBuf {
    folder.file(".local/share/portolan")
}

/// Runs a program that a test cannot do without; `None` where it is not installed.
fn other(program: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            tell(format!("{program} is not installed: not tested"));
            None
        }
        output => {
            let output = output.unwrap();
            let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.success(), "{program} {arguments:?}: {told}");
            Some(told)
        }
    }
}

/// A browser's store with somebody else's certificate in it; `None` where nobody can make one here.
fn browser(folder: &Folder, place: &str) -> Option<String> {
    let store = folder.file(place);
    fs::create_dir_all(&store).unwrap();
    let store = format!("sql:{}", store.display());
    other("certutil", &["-N", "--empty-password", "-d", &store])?;
    let theirs = folder.file("theirs.pem");
    let key = folder.file("theirs-key.pem");
    let (theirs, key) = (theirs.to_str().unwrap(), key.to_str().unwrap());
    let words =
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=theirs", "-out", theirs, "-keyout", key];
    other("openssl", &words)?;
    other("certutil", &["-A", "-d", &store, "-n", "theirs", "-t", "C,,", "-i", theirs])?;
    Some(store)
}

/// The names in a browser's store, with how they are trusted.
fn names_in(store: &str) -> Vec<String> {
    let list = other("certutil", &["-L", "-d", store]).unwrap();
    let named = list.lines().filter(|line| line.contains("C,,"));
    named.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn browsers_trust_it_once_asked_and_lose_exactly_it() {
    let folder = Folder::new();
    let Some(chromium) = browser(&folder, ".pki/nssdb") else { return };
    let Some(firefox) = browser(&folder, ".mozilla/firefox/ab12.default") else { return };
    let first = said(&folder, &["trust", "browsers"]);
    assert_eq!((first.code, first.out.matches(": trusts it now\n").count()), (0, 2), "{first:?}");
    let label = &fingerprint(&folder)[..16];
    for store in [&chromium, &firefox] {
        let names = names_in(store);
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names.contains(&format!("portolan-{label} C,,")), "{names:?}");
    }
    let again = said(&folder, &["trust", "browsers"]);
    assert_eq!((again.code, again.out.matches(": trusts it already\n").count()), (0, 2), "{again:?}");

    let out = said(&folder, &["untrust", "browsers"]);
    assert_eq!((out.code, out.out.matches(": trusts it no more\n").count()), (0, 2), "{out:?}");
    for store in [&chromium, &firefox] {
        assert_eq!(names_in(store), ["theirs C,,"]);
    }
    let gone = said(&folder, &["untrust", "browsers"]);
    assert_eq!((gone.code, gone.out.matches(": does not have it\n").count()), (0, 2), "{gone:?}");
}

fn fingerprint(folder: &Folder) -> String {
    let certificate = data(folder).join("authority.crt");
    let told = other("openssl", &["x509", "-noout", "-fingerprint", "-sha256", "-in", certificate.to_str().unwrap()]);
    told.unwrap().trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase()
}

#[test]
fn the_answer_for_programs_tells_the_authority_and_each_step() {
    let folder =
        Folder::with_table("[routes]\nshop = { hosts = [\"shop.dev\", \"*.mail.dev\", \"a.localhost\"], to = 1 }\n");
    if browser(&folder, ".pki/nssdb").is_none() {
        return;
    }
    let told = answer(&folder, &["trust", "browsers"], 0);
    let authority = &told["authority"];
    assert_eq!(authority["permits"], json!(["localhost", "test", "mail.dev", "shop.dev"]));
    assert_eq!(authority["file"], json!(data(&folder).join("authority.crt")));
    assert_eq!(authority["fingerprint"], fingerprint(&folder));
    let place = folder.file(".pki/nssdb");
    let step = json!({ "store": "chromium", "place": place, "outcome": "done", "why": null, "help": null });
    assert_eq!(told["steps"], json!([step]));
}

#[test]
fn a_store_that_cannot_be_changed_is_told_with_the_way_out_and_the_exit_code() {
    let folder = Folder::new();
    folder.write(".pki/nssdb/cert9.db", "");
    let mut command = at_home(portolan(&folder, &["--json", "trust", "browsers"]), &folder);
    command.env("PATH", folder.path());
    let said = run(command);
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &told["steps"][0]["outcome"]), (1, &json!("failed")), "{said:?}");
    assert_eq!(told["steps"][0]["why"], "`certutil` is not installed");
    assert!(told["steps"][0]["help"].as_str().unwrap().contains("sudo apt install libnss3-tools"));
}

/// A Java with somebody else's certificate in its store.
struct Java<'f> {
    folder: &'f Folder,
    home: PathBuf,
}

impl<'f> Java<'f> {
    /// `None` where nobody can keep its store.
    fn in_folder(folder: &'f Folder) -> Option<Self> {
        other("keytool", &["-help"])?;
        let java = Self { folder, home: folder.file("java") };
        for place in ["bin", "lib/security"] {
            fs::create_dir_all(java.home.join(place)).unwrap();
        }
        let program = folder.write("java/bin/keytool", "#!/bin/sh\nexec keytool \"$@\"\n");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        java.keytool(&["-genkeypair", "-alias", "theirs", "-keyalg", "EC", "-dname", "CN=theirs"]);
        Some(java)
    }

    fn store(&self) -> PathBuf {
        self.home.join("lib/security/cacerts")
    }

    fn keytool(&self, words: &[&str]) -> String {
        let store = self.store();
        other("keytool", &[words, &["-keystore", store.to_str().unwrap(), "-storepass", "changeit"]].concat()).unwrap()
    }

    /// What is answered where it is in `JAVA_HOME`.
    fn answer(&self, arguments: &[&str]) -> Value {
        let mut command = at_home(portolan(self.folder, &[&["--json"], arguments].concat()), self.folder);
        command.env("JAVA_HOME", &self.home);
        let said = run(command);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    }
}

#[test]
fn java_trusts_it_once_asked_and_loses_exactly_it() {
    let folder = Folder::new();
    let Some(java) = Java::in_folder(&folder) else { return };
    let outcome = |what: &str| java.answer(&[what, "java"])["steps"][0]["outcome"].clone();
    assert_eq!((outcome("trust"), outcome("trust")), (json!("done"), json!("already")));
    assert!(java.keytool(&["-list"]).contains(&format!("portolan-{}", &fingerprint(&folder)[..16])));
    assert_eq!((outcome("untrust"), outcome("untrust")), (json!("done"), json!("already")));
    let left = java.keytool(&["-list"]);
    assert!(left.contains("theirs") && !left.contains("portolan-"), "{left}");
}

#[test]
fn a_store_that_has_it_and_is_not_found_keeps_the_authority_from_being_forgotten() {
    let folder = Folder::new();
    let Some(java) = Java::in_folder(&folder) else { return };
    assert_eq!(java.answer(&["trust", "java"])["steps"][0]["outcome"], "done");
    // The system's store does not have it, and so is only looked at.
    let told = answer(&folder, &["untrust"], 1);
    assert_eq!((&told["unseen"], &told["removed"]), (&json!([java.store()]), &json!([])));
    let told = said(&folder, &["untrust"]).out;
    assert!(told.contains("~/java/lib/security/cacerts: was told to trust it, and is not found now\n"), "{told}");
    assert!(
        told.contains("= help: have it found (Java by the `JAVA_HOME` of then), then do this once more\n"),
        "{told}"
    );

    let found = java.answer(&["untrust"]);
    assert_eq!(found["unseen"], json!([]));
    assert!(!java.keytool(&["-list"]).contains("portolan-"));
    assert_eq!(fs::read_dir(data(&folder)).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_store_that_has_it_and_is_no_more_is_in_nobodys_way() {
    let folder = Folder::new();
    let Some(java) = Java::in_folder(&folder) else { return };
    java.answer(&["trust", "java"]);
    fs::remove_dir_all(&java.home).unwrap();
    assert_eq!(answer(&folder, &["untrust"], 0)["unseen"], json!([]));
    assert_eq!(fs::read_dir(data(&folder)).unwrap().count(), 0, "nothing is left");
}

#[test]
fn every_store_is_listed_before_the_first_is_changed() {
    let folder = Folder::new();
    folder.write(".pki/nssdb/cert9.db", "");
    folder.write(".mozilla/firefox/ab12.default/cert9.db", "");
    let mut command = at_home(portolan(&folder, &["trust", "browsers"]), &folder);
    command.env("PATH", folder.path());
    let said = run(command).out;
    let plan = "it goes into\n  chromium: ~/.pki/nssdb\n  firefox: ~/.mozilla/firefox/ab12.default\nchromium: ";
    assert!(said.contains(plan), "{said}");
}

#[test]
fn whoever_asks_by_sudo_is_told_to_ask_without() {
    if !rustix::process::geteuid().is_root() {
        return tell("not root: not tested");
    }
    let folder = Folder::new();
    let mut command = at_home(portolan(&folder, &["trust", "java"]), &folder);
    command.env("SUDO_USER", "ada");
    let said = run(command);
    assert_eq!(said.code, 1, "{said:?}");
    let told = "error[by-sudo]: sudo would have this machine trust an authority of root's, not the one of ada\n";
    assert!(said.err.contains(told) && said.err.contains("run `portolan trust` without sudo"), "{}", said.err);
    assert!(!data(&folder).exists(), "nothing was made");
}

#[test]
fn t40_the_key_is_created_for_us_alone_and_nothing_can_be_read_before_it_is_whole() {
    let folder = Folder::new();
    let trace = folder.file("trace");
    let words = ["-f", "-e", "trace=open,openat,creat,chmod,fchmod,fchmodat", "-o", trace.to_str().unwrap()];
    if !traced(&folder, &words) {
        return;
    }
    let trace = fs::read_to_string(trace).unwrap();
    let of_key: Vec<&str> =
        trace.lines().filter(|line| line.contains("/authority.") && line.contains("O_CREAT")).collect();
    assert!(of_key[0].contains("O_EXCL") && of_key[0].contains("0600"), "{of_key:?}");
    assert!(!trace.lines().any(|line| line.contains("chmod")), "never opened or closed up afterwards");
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(data(&folder)), mode(data(&folder).join("authority.pem"))), (0o700, 0o600));
}

#[test]
fn t40_a_crash_while_the_key_is_made_or_read_leaves_no_image_of_it() {
    let folder = Folder::new();
    let trace = folder.file("trace");
    for step in ["made", "read"] {
        if !traced(&folder, &["-f", "-e", "trace=openat,prctl", "-o", trace.to_str().unwrap()]) {
            return;
        }
        let (mut leaves_none, mut opened) = (false, 0);
        for line in fs::read_to_string(&trace).unwrap().lines() {
            if line.contains("PR_SET_DUMPABLE") {
                leaves_none = line.contains("SUID_DUMP_DISABLE");
            }
            let is_key =
                line.contains("/authority.pem\"") || line.contains("/authority.new\"") && line.contains("0600");
            if is_key && !line.contains("ENOENT") {
                assert!(leaves_none, "{step}: {line}");
                opened += 1;
            }
        }
        assert!(opened > 0, "{step}: the key was not touched");
        assert!(!leaves_none, "{step}: hidden for no longer than that");
    }
}

/// Runs `trust java`, where there is no Java, under strace; whether that can be done here.
fn traced(folder: &Folder, words: &[&str]) -> bool {
    let mut command = Command::new("strace");
    command.args(words).arg(env!("CARGO_BIN_EXE_portolan")).args(["trust", "java"]).current_dir(folder.path());
    match without_bundle(at_home(command, folder)).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => tell("strace is not installed: not tested"),
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("ptrace") => tell("no tracing here: not tested"),
        output => return output.is_ok(),
    }
    false
}

/// Hundreds of files are read for the bundle.
fn without_bundle(mut command: Command) -> Command {
    command.env("SSL_CERT_FILE", "/dev/null");
    command
}

/// Killed at each call that changes a file, one after the other.
#[test]
fn f31_wherever_it_is_killed_the_next_one_starts_clean() {
    let mut killed = 0;
    for call in ["mkdir", "flock", "openat", "write", "fsync", "rename", "unlink"] {
        // The calls that change nothing are those with which a program is loaded.
        for at in (1..).take_while(|at| is_killed(call, *at)) {
            killed += 1;
            assert!(at < 1000, "it never comes to its end");
        }
    }
    if killed == 0 {
        return tell("nothing can be traced here: not tested");
    }
    assert!(killed > 20, "killed only {killed} times");
}

/// Whether there is such a call; what it leaves behind when it is killed at it must be of no matter.
fn is_killed(call: &str, at: usize) -> bool {
    let folder = Folder::new();
    let told = folder.file("told");
    let (trace, kill) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={at}"));
    if !traced(&folder, &["-f", "-o", told.to_str().unwrap(), "-e", &trace, "-e", &kill]) {
        return false;
    }
    let next = run(without_bundle(at_home(portolan(&folder, &["trust", "java"]), &folder)));
    assert_eq!(next.code, 0, "killed at {call} {at}: {next:?}");
    let files = fs::read_dir(data(&folder)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files.collect();
    files.sort();
    assert_eq!(files, ["authority.crt", "authority.pem"], "killed at {call} {at}");
    fs::read_to_string(&told).unwrap().contains("killed by SIGKILL")
}

#[test]
fn untrust_takes_the_authority_away_with_everything_beside_it_and_nothing_else() {
    let folder = Folder::new();
    assert_eq!(said(&folder, &["trust", "java"]).code, 0);
    let theirs = data(&folder).join("theirs.txt");
    fs::write(&theirs, "").unwrap();
    // Left by one that was killed: it may hold the key.
    fs::write(data(&folder).join("authority.new"), "").unwrap();
    let ours = ["authority.crt", "authority.new", "authority.pem", "bundle.pem"].map(|file| data(&folder).join(file));
    // There is no bundle where the system trusts nobody.
    let gone: Vec<PathBuf> = ours.into_iter().filter(|file| file.exists()).collect();
    assert!(gone.len() >= 3, "{gone:?}");
    let some = answer(&folder, &["untrust", "java"], 0);
    assert_eq!(some["removed"], json!([]), "other stores were not asked");
    assert!(data(&folder).join("authority.pem").exists());
    // The system's store does not have it, and so is only looked at.
    let all = answer(&folder, &["untrust"], 0);
    assert_eq!(all["removed"], json!(gone));
    assert_eq!(fs::read_dir(data(&folder)).unwrap().count(), 1, "what is not ours stays");
    assert!(theirs.exists());
    assert!(said(&folder, &["untrust"]).out.ends_with("there is no authority in ~/.local/share/portolan\n"));
}

#[test]
fn an_authority_that_others_may_read_is_told_with_its_cure_and_not_used() {
    let folder = Folder::new();
    said(&folder, &["trust", "java"]);
    let secret = data(&folder).join("authority.pem");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let told = said(&folder, &["trust", "java"]);
    assert_eq!(told.code, 1);
    assert!(told.err.contains("error[no-authority]: ~/.local/share/portolan/authority.pem: is open"), "{}", told.err);
    assert!(told.err.contains("`chmod 600` it"), "{}", told.err);
    let doctor = said(&folder, &["--json", "doctor"]);
    let told: Value = serde_json::from_str(&doctor.out).unwrap();
    let found: Vec<&Value> =
        told["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == "certificates").collect();
    assert_eq!((found.len(), &found[0]["verdict"]), (1, &json!("problem")), "{found:?}");
}

#[test]
fn certificates_of_a_route_that_are_of_no_use_are_problems_of_the_table() {
    let folder = Folder::with_table(
        "[routes]\nshop = { host = \"shop.dev\", to = 1, cert = \"shop.pem\", key = \"shop-key.pem\" }\n",
    );
    let first = |folder: &Folder, code: i32| {
        let told = answer(folder, &["check"], code);
        let first = &told["diagnostics"][0];
        let at = format!("{}:{}:{}", first["file"].as_str().unwrap_or_default(), first["line"], first["column"]);
        (first["message"].as_str().unwrap_or_default().to_owned(), at)
    };
    let missing = first(&folder, 1);
    assert!(missing.0.starts_with("the certificate cannot be read: "), "{missing:?}");
    assert_eq!(missing.1, "portolan.toml:2:44");
    folder.write("shop.pem", "no certificate");
    folder.write("shop-key.pem", "no key");
    assert_eq!(first(&folder, 1).0, "the file holds no certificate in PEM form");
    certificate(&folder, "shop.pem", "shop-key.pem");
    certificate(&folder, "other.pem", "other-key.pem");
    assert_eq!(answer(&folder, &["check"], 0)["errors"], 0);
    fs::copy(folder.file("other-key.pem"), folder.file("shop-key.pem")).unwrap();
    let mismatch = first(&folder, 1);
    assert_eq!(mismatch.0, "the private key is not that of the certificate");
    assert_eq!(mismatch.1, "portolan.toml:2:62");
}

fn certificate(folder: &Folder, certificate: &str, key: &str) {
    let words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=shop.dev", "-addext"];
    let files = [folder.file(certificate), folder.file(key)];
    let files: [&Path; 2] = [&files[0], &files[1]];
    let files = files.map(|file| file.to_str().unwrap());
    let words = [&words[..], &["subjectAltName=DNS:shop.dev", "-out", files[0], "-keyout", files[1]]].concat();
    other("openssl", &words).expect("openssl makes certificates");
}

/// Makes an authority that no store is told of.
#[cfg(target_os = "linux")]
fn trust_nobody(home: &crate::processes::Home) {
    let mut trust = home.portolan(&["trust", "java"]);
    for said in SAID {
        trust.env_remove(said);
    }
    assert_eq!(run(trust).code, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn what_was_told_to_a_program_is_there_again_after_untrust_and_trust() {
    use crate::processes::Home;
    let home = Home::new();
    let bundle = home.folder().file(".local/share/portolan/bundle.pem");
    trust_nobody(&home);
    if !bundle.exists() {
        return tell("this system trusts nobody: not tested");
    }
    let before = fs::read(&bundle).unwrap();
    let untrusted = run(home.portolan(&["untrust"])).out;
    assert!(untrusted.ends_with("have to be started anew\n"), "{untrusted}");
    assert!(!bundle.exists());
    trust_nobody(&home);
    assert!(fs::read(&bundle).unwrap() != before, "with another authority in it");
}

#[cfg(target_os = "linux")]
#[test]
fn programs_that_we_start_are_told_of_an_authority_once_there_is_one() {
    use crate::processes::Home;
    let home = Home::new();
    let authority = home.folder().file(".local/share/portolan/authority.crt");
    let env = |home: &Home, name: &str| {
        let mut command = home.portolan(&["run", "--name", name, "--", "sh", "-c", "env"]);
        for said in SAID {
            command.env_remove(said);
        }
        run(command).out
    };
    assert!(!env(&home, "before").contains("NODE_EXTRA_CA_CERTS"));
    assert!(!authority.exists(), "nobody has asked for one");
    trust_nobody(&home);
    let told = env(&home, "after");
    assert!(told.contains(&format!("NODE_EXTRA_CA_CERTS={}\n", authority.display())), "{told}");
    if let Some(bundle) = told.lines().find_map(|line| line.strip_prefix("SSL_CERT_FILE=")) {
        let bundle = fs::read_to_string(bundle).unwrap();
        let ours = fs::read_to_string(&authority).unwrap();
        assert!(bundle.len() > ours.len() && bundle.ends_with(&ours), "the system's come first");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_one_shell_says_of_whom_to_trust_changes_nothing_for_programs_of_another() {
    use crate::processes::Home;
    let home = Home::new();
    let folder = home.folder();
    trust_nobody(&home);
    let env_of = |arguments: &[&str], set: Option<(&str, &Path)>| {
        let mut command = home.portolan(arguments);
        for name in SAID {
            command.env_remove(name);
        }
        let said = run({
            command.envs(set);
            command
        });
        assert_eq!(said.code, 0, "{said:?}");
        said.out
    };
    let first = env_of(&["run", "--name", "first", "--", "sh", "-c", "env"], None);
    let Some(bundle) = first.lines().find_map(|line| line.strip_prefix("SSL_CERT_FILE=")).map(PathBuf::from) else {
        return tell("this system trusts nobody: not tested");
    };
    let before = fs::read_to_string(&bundle).unwrap();

    certificate(folder, "corporate.pem", "corporate-key.pem");
    let corporate = folder.file("corporate.pem");
    let told = env_of(&["run", "--name", "other", "--", "sh", "-c", "env"], Some(("SSL_CERT_FILE", &corporate)));
    assert!(told.contains(&format!("SSL_CERT_FILE={}\n", corporate.display())), "{told}");
    assert!(fs::read_to_string(&bundle).unwrap() == before, "it holds what one shell trusts");

    let nested = [env!("CARGO_BIN_EXE_portolan"), "run", "--name", "inner", "--", "sh", "-c", "env"];
    let told = env_of(&[&["run", "--name", "outer", "--"], &nested[..]].concat(), None);
    assert!(told.contains(&format!("SSL_CERT_FILE={}\n", bundle.display())), "{told}");
    assert!(fs::read_to_string(&bundle).unwrap() == before, "it was made of itself");
}

const SHOP: &str =
    "[routes]\nshop = { host = \"shop.dev\", respond = \"hello\", cert = \"shop.pem\", key = \"shop-key.pem\" }\n";

/// A proxy at home.
fn serve(folder: &Folder) -> Portolan {
    Portolan::start(at_home(portolan(folder, &["serve", "--listen", "127.0.0.1:0"]), folder))
}

/// The certificate that is shown for a name.
fn shown(portolan: &Portolan, name: &str) -> String {
    let address = portolan.address().to_string();
    let told = other("openssl", &["s_client", "-connect", &address, "-servername", name, "-showcerts"]).unwrap();
    let from = told.find("-----BEGIN CERTIFICATE-----").expect("a certificate is shown");
    let end = "-----END CERTIFICATE-----\n";
    told[from..from + told[from..].find(end).unwrap() + end.len()].to_owned()
}

#[test]
fn a_renewed_certificate_is_shown_after_a_hangup_and_a_broken_one_is_not() {
    let folder = Folder::with_table(SHOP);
    certificate(&folder, "shop.pem", "shop-key.pem");
    let written = || fs::read_to_string(folder.file("shop.pem")).unwrap();
    let portolan = serve(&folder);
    assert_eq!(shown(&portolan, "shop.dev"), written());
    certificate(&folder, "shop.pem", "shop-key.pem");
    portolan.signal(Signal::HUP);
    until("the new one is shown", || shown(&portolan, "shop.dev") == written());
    let before = written();
    folder.write("shop.pem", "half a certificate");
    portolan.signal(Signal::HUP);
    portolan.err.wait_for(|line| line.contains("reload refused, the table stays in force (1 error in "));
    portolan.err.wait_for(|line| line.contains("portolan.toml:2:55"));
    assert_eq!(shown(&portolan, "shop.dev"), before);
}

#[test]
fn whoever_trusts_the_authority_reads_every_local_name_over_https() {
    let folder = Folder::with_table("[routes]\nall = { path = \"/\", respond = \"hello\" }\n");
    let portolan = serve(&folder);
    let authority = data(&folder).join("authority.crt");
    assert!(!authority.exists(), "nobody has asked for https");
    shown(&portolan, "a.localhost");
    for host in ["a.localhost", "b.c.localhost", "localhost", "127.0.0.1"] {
        let (port, cacert) = (portolan.address().port(), authority.to_str().unwrap());
        let resolve = format!("{host}:{port}:127.0.0.1");
        let url = format!("https://{host}:{port}/");
        let words = ["-q", "-sS", "--noproxy", "*", "--cacert", cacert, "--resolve", &resolve, &url];
        let Some(read) = other("curl", &words) else { return };
        assert_eq!(read, "hello", "{host}");
    }
}

#[test]
fn an_authority_of_no_use_is_told_once_however_many_ask_until_it_is_mended() {
    let folder = Folder::with_table("[routes]\nall = { path = \"/\", respond = \"hello\" }\n");
    let portolan = serve(&folder);
    shown(&portolan, "a.localhost");
    let secret = data(&folder).join("authority.pem");
    let allow = |mode| fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
    let address = portolan.address().to_string();
    let is_refused = |name: &str| {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", &address, "-servername", name]).stdin(Stdio::null());
        let output = client.output().unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains("alert internal error"), "{output:?}");
    };
    for _ in 0..2 {
        allow(0o644);
        ["a.localhost", "a.localhost", "b.localhost"].into_iter().for_each(is_refused);
        allow(0o600);
        shown(&portolan, "a.localhost");
    }
    portolan.signal(Signal::TERM);
    let all = portolan.err.wait_for_end();
    let told = all.iter().filter(|line| line.contains("no certificate can be shown: ")).count();
    assert_eq!(told, 2, "{all:#?}");
}
