//! The dev servers that people really start: each with the app it serves, the words it is started with, and its manners.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::installed;

/// A dev server and its app.
pub(crate) struct DevServer {
    /// The app's folder under `apps`, which is also the name that it gets.
    pub(crate) name: &'static str,
    /// How it is started where nothing more is said: each then takes the port of its own choice.
    pub(crate) command: &'static [&'static str],
    /// The words that send it to another port, to be written behind them.
    port_flag: &'static [&'static str],
    /// What its page says.
    pub(crate) page: &'static str,
    /// What it ends with after SIGTERM: some have the signal end them, others end by themselves.
    pub(crate) ended: i32,
}

/// What the signal's own exit code is, as a shell counts.
const TERMINATED: i32 = 128 + 15;

pub(crate) const FLASK: DevServer = DevServer {
    name: "flask",
    command: &["flask", "run"],
    port_flag: &["--port"],
    page: "moored in Flask",
    ended: TERMINATED,
};

/// Reloads by itself, so that there are two processes of it.
pub(crate) const DJANGO: DevServer = DevServer {
    name: "django",
    command: &["python", "manage.py", "runserver"],
    port_flag: &[],
    page: "moored in Django",
    ended: 0,
};

pub(crate) const UVICORN: DevServer = DevServer {
    name: "fastapi",
    command: &["uvicorn", "app:app"],
    port_flag: &["--port"],
    page: "moored in FastAPI",
    ended: TERMINATED,
};

/// Binds port 0 and says nothing.
pub(crate) const NODE: DevServer = DevServer {
    name: "node",
    command: &["node", "server.js"],
    port_flag: &[],
    page: "moored in Node",
    ended: TERMINATED,
};

/// Three processes deep, as all that `npx` starts.
pub(crate) const VITE: DevServer = DevServer {
    name: "vite",
    command: &["npx", "vite"],
    port_flag: &["--strictPort", "--port"],
    page: "Chart room",
    ended: TERMINATED,
};

/// The only one that heeds `PORT`; it binds every address there is.
pub(crate) const NEXT: DevServer = DevServer {
    name: "next",
    command: &["npx", "next", "dev"],
    port_flag: &["--port"],
    page: "moored in Next",
    ended: TERMINATED,
};

/// Leaves its compiler running when it is killed.
pub(crate) const ANGULAR: DevServer = DevServer {
    name: "angular",
    command: &["ng", "serve"],
    port_flag: &["--port"],
    page: "moored in Angular",
    ended: TERMINATED,
};

/// Binds every address there is.
pub(crate) const WEBPACK: DevServer = DevServer {
    name: "webpack",
    command: &["webpack", "serve"],
    port_flag: &["--port"],
    page: "moored in webpack",
    ended: 0,
};

impl DevServer {
    /// The words that start it on this port.
    pub(crate) fn command_on(&self, port: u16) -> Vec<String> {
        let words = self.command.iter().chain(self.port_flag);
        words.map(|word| (*word).to_owned()).chain([port.to_string()]).collect()
    }

    /// A copy of its app that it may write into.
    pub(crate) fn workshop(&self) -> Workshop {
        // Below the installed packages, where Node looks for them as in a folder of a monorepo: some of these refuse
        // to follow a link out of their own folder.
        let root = TempDir::new_in(installed::folder()).unwrap();
        // A repository of its own, so that nothing depends on where this one was checked out.
        fs::create_dir(root.path().join(".git")).unwrap();
        fs::write(root.path().join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        let app = root.path().join(self.name);
        copy(&installed::source("apps").join(self.name), &app);
        Workshop { root, app }
    }
}

/// The folder that a dev server works in, and the home of whoever starts it.
pub(crate) struct Workshop {
    root: TempDir,
    app: PathBuf,
}

impl Workshop {
    /// The folder of the app.
    pub(crate) fn app(&self) -> &Path {
        &self.app
    }

    /// A command in the folder of the app that finds all these programs, and nobody's settings.
    pub(crate) fn command(&self, program: &str) -> Command {
        let home = self.root.path().join("home");
        fs::create_dir_all(&home).unwrap();
        let mut command = Command::new(program);
        command.current_dir(&self.app).envs(installed::environment()).env("PATH", path());
        command.envs([("HOME", &home), ("XDG_RUNTIME_DIR", &home), ("XDG_STATE_HOME", &home)]);
        // They are polite enough to ask whether they may report home, and npm to look for news of itself.
        command.envs([("NG_CLI_ANALYTICS", "false"), ("NEXT_TELEMETRY_DISABLED", "1")]);
        command.env("npm_config_update_notifier", "false");
        for setting in ["PORT", "PORTOLAN_CONFIG", "PORTOLAN_LISTEN", "PORTOLAN_LOG"] {
            command.env_remove(setting);
        }
        command
    }
}

/// The programs of the packages before those of the system.
fn path() -> OsString {
    let installed = [installed::folder().join("venv/bin"), installed::node_modules().join(".bin")];
    let system = env::var_os("PATH").unwrap();
    env::join_paths(installed.into_iter().chain(env::split_paths(&system))).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
