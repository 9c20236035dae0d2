//! What exactly is run: the words, the folder and the environment of a program, put together anew at each start.
//!
//! The environment, the later over the earlier: where the local authority lies, `.env`, `.env.local` (or the files that `env_file` names), what we were
//! started with, what we say (`PORT` and its like), the table's `env`. Nothing is put into our own process.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
};

use crate::{
    config::{Command, Service},
    diagnostic::{shown, without_number},
    tls::Told,
};

/// What a program is told of the world around it.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// The port that it should open.
    pub port: u16,
    /// Where the proxy is.
    pub proxy: String,
    /// Where the other services are: name, port, URL.
    pub others: Vec<(String, u16, String)>,
    /// The files of the local authority, if there is one.
    pub authority: Option<Told>,
    /// Whether its output is coloured by whoever shows it to a terminal.
    pub is_coloured: bool,
}

/// A program, ready to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The program and its words; never empty.
    pub words: Vec<OsString>,
    /// Where it runs.
    pub folder: PathBuf,
    /// What stands in its environment besides what stands in ours.
    pub env: BTreeMap<OsString, OsString>,
}

/// The plan for a service.
pub fn plan(service: &Service, around: &Circumstances) -> Result<Plan, String> {
    plan_over(service, around, &std::env::vars_os().collect())
}

/// Where `ours` is our own environment.
fn plan_over(service: &Service, around: &Circumstances, ours: &BTreeMap<OsString, OsString>) -> Result<Plan, String> {
    if !service.dir.is_dir() {
        return Err(format!("its folder {} is not there", shown(&service.dir)));
    }
    let mut env = from_files(service)?;
    env.retain(|name, _| !ours.contains_key(name));
    let is_said = |name: &str| {
        let by_table = service.env.iter().any(|(own, _)| own == name);
        by_table || [ours, &env].iter().any(|env| env.contains_key(OsStr::new(name)))
    };
    let of_authority = around.of_authority(is_said);
    env.extend(of_authority);
    env.extend(around.env());
    env.extend(service.env.iter().map(|(name, value)| (name.into(), expand(value, around.port).into())));
    let words = match &service.run {
        Command::Shell(line) => vec!["sh".into(), "-c".into(), expand(line, around.port).into()],
        Command::Words(words) => words.iter().map(|word| expand(word, around.port).into()).collect(),
    };
    Ok(Plan { words, folder: service.dir.clone(), env })
}

/// `{port}` becomes the port.
pub fn expand(word: &str, port: u16) -> String {
    word.replace("{port}", &port.to_string())
}

impl Circumstances {
    /// Where the local authority lies, as environment variables that say nothing against what `is_said`.
    pub fn of_authority(&self, is_said: impl Fn(&str) -> bool) -> BTreeMap<OsString, OsString> {
        let variables = self.authority.iter().flat_map(|told| told.variables(&is_said));
        variables.map(|(name, path)| (name.into(), path.into())).collect()
    }

    /// As environment variables.
    pub fn env(&self) -> BTreeMap<OsString, OsString> {
        let mut env: BTreeMap<OsString, OsString> = BTreeMap::new();
        let mut set = |name: String, value: String| env.insert(name.into(), value.into());
        set("PORT".into(), self.port.to_string());
        set("HOST".into(), "127.0.0.1".into());
        set("PORTOLAN_URL".into(), self.proxy.clone());
        for (name, port, url) in &self.others {
            let name = variable(name);
            set(format!("PORTOLAN_{name}_URL"), url.clone());
            set(format!("PORTOLAN_{name}_PORT"), port.to_string());
        }
        if self.is_coloured {
            set("FORCE_COLOR".into(), "1".into());
            set("CLICOLOR_FORCE".into(), "1".into());
        }
        env
    }
}

/// `web-2` as part of a variable's name: `WEB_2`.
fn variable(name: &str) -> String {
    name.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

fn from_files(service: &Service) -> Result<BTreeMap<OsString, OsString>, String> {
    let mut env = BTreeMap::new();
    match &service.env_file {
        Some(files) => {
            for file in files {
                read_into(&mut env, file)?;
            }
        }
        None => {
            for file in [".env", ".env.local"].map(|name| service.dir.join(name)) {
                if file.is_file() {
                    read_into(&mut env, &file)?;
                }
            }
        }
    }
    Ok(env)
}

fn read_into(env: &mut BTreeMap<OsString, OsString>, file: &Path) -> Result<(), String> {
    let unreadable = |why: String| format!("{} cannot be read: {why}", shown(file));
    let pairs = dotenvy::from_path_iter(file).map_err(|error| unreadable(reason(error)))?;
    for pair in pairs {
        let (name, value) = pair.map_err(|error| unreadable(reason(error)))?;
        env.insert(name.into(), value.into());
    }
    Ok(())
}

fn reason(error: dotenvy::Error) -> String {
    match error {
        dotenvy::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => "there is no such file".into(),
        dotenvy::Error::Io(error) => without_number(&error),
        dotenvy::Error::LineParse(line, at) => format!("`{line}` is no NAME=value, at character {}", at + 1),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use super::*;
    use crate::{
        config::{Ready, Start},
        diagnostic::{Source, Span},
    };

    fn service(dir: &Path) -> Service {
        let source = Arc::new(Source { name: "portolan.toml".into(), path: None, text: String::new() });
        Service {
            name: "api".into(),
            origin: Span { source, range: 0..0 },
            written: 0,
            run: Command::Shell("flask run --port {port}".into()),
            dir: dir.to_owned(),
            env: vec![("TABLE".into(), "table".into()), ("ADDRESS".into(), "127.0.0.1:{port}".into())],
            env_file: None,
            needs: Vec::new(),
            ready: Ready::Listening,
            port: None,
            start: Start::WithUp,
        }
    }

    fn around() -> Circumstances {
        Circumstances {
            port: 61_000,
            proxy: "http://localhost:62893".into(),
            others: vec![("my-db".into(), 61_001, "http://127.0.0.1:61001".into())],
            authority: None,
            is_coloured: false,
        }
    }

    #[test]
    fn the_port_is_told_in_the_words_and_in_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(&service(folder.path()), &around()).unwrap();
        assert_eq!(plan.words, ["sh", "-c", "flask run --port 61000"]);
        let told = |name: &str| plan.env.get(&OsString::from(name)).and_then(|value| value.to_str());
        assert_eq!(told("PORT"), Some("61000"));
        assert_eq!(told("HOST"), Some("127.0.0.1"));
        assert_eq!(told("PORTOLAN_URL"), Some("http://localhost:62893"));
        assert_eq!(told("PORTOLAN_MY_DB_PORT"), Some("61001"));
        assert_eq!(told("PORTOLAN_MY_DB_URL"), Some("http://127.0.0.1:61001"));
        assert_eq!(told("ADDRESS"), Some("127.0.0.1:61000"));
    }

    #[test]
    fn the_table_goes_over_our_environment_and_that_over_the_local_file_and_that_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".env"), "A=file\nB='file'\nTABLE=file\nPATH=file\n# no line\nexport C=\"x y\"\n")
            .unwrap();
        fs::write(folder.path().join(".env.local"), "B=local\n").unwrap();
        let plan = plan(&service(folder.path()), &around()).unwrap();
        let told = |name: &str| plan.env.get(&OsString::from(name)).and_then(|value| value.to_str());
        assert_eq!((told("A"), told("B"), told("C")), (Some("file"), Some("local"), Some("x y")));
        assert_eq!(told("TABLE"), Some("table"));
        assert_eq!(told("PATH"), None, "ours stays");
    }

    #[test]
    fn where_the_authority_lies_is_told_to_whoever_has_said_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let around = Circumstances { authority: Some(Told::at("/a.crt", Some("/b.pem"))), ..around() };
        let told = |service: &Service, name: &str| {
            let value = plan_over(service, &around, &BTreeMap::new()).unwrap().env.get(&OsString::from(name)).cloned();
            value.map(|value| value.into_string().unwrap())
        };
        let plain = service(folder.path());
        assert_eq!(told(&plain, "NODE_EXTRA_CA_CERTS").as_deref(), Some("/a.crt"));
        assert_eq!(told(&plain, "SSL_CERT_FILE").as_deref(), Some("/b.pem"));
        fs::write(folder.path().join(".env"), "NODE_EXTRA_CA_CERTS=/mine.pem\n").unwrap();
        assert_eq!(told(&plain, "NODE_EXTRA_CA_CERTS").as_deref(), Some("/mine.pem"));
        let by_table = Service { env: vec![("CURL_CA_BUNDLE".into(), "/corporate.pem".into())], ..plain };
        assert_eq!(told(&by_table, "CURL_CA_BUNDLE").as_deref(), Some("/corporate.pem"));
        assert_eq!(told(&by_table, "SSL_CERT_FILE"), None, "the table has said whom to trust");
    }

    #[test]
    fn a_file_that_is_named_must_be_there_and_be_right() {
        let folder = tempfile::tempdir().unwrap();
        let named = Service { env_file: Some(vec![folder.path().join("no.env")]), ..service(folder.path()) };
        assert!(plan(&named, &around()).unwrap_err().ends_with("no.env cannot be read: there is no such file"));
        fs::write(folder.path().join(".env"), "1 =2\n").unwrap();
        let error = plan(&service(folder.path()), &around()).unwrap_err();
        assert!(error.contains("is no NAME=value"), "{error}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        let gone = plan(&service(Path::new("/no/such/folder")), &around());
        assert_eq!(gone.unwrap_err(), "its folder /no/such/folder is not there");
    }
}
