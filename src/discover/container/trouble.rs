//! Why an engine cannot be asked.

use std::{fmt, io, time::Duration};

use super::Tool;
use crate::diagnostic::without_number;

/// Why an engine cannot be asked; its `Display` goes on after `docker at /var/run/docker.sock: `.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// There is no socket.
    NoSocket,
    /// This user may not open the socket.
    Denied,
    /// Nobody listens at the socket.
    Refused,
    /// It did not answer within this time.
    Silent(Duration),
    /// The connection was closed.
    Ended,
    /// What was answered is not what an engine answers; in words.
    Strange(String),
    /// Its place is told in a way that portolan cannot follow; in words.
    Unreachable(String),
}

impl Trouble {
    /// What may mend it.
    pub fn help(&self, tool: Tool) -> String {
        let start = match tool {
            Tool::Docker => "start the engine: `sudo systemctl start docker`, or Docker Desktop",
            Tool::Podman => "start its socket: `systemctl --user start podman.socket`",
        };
        match (self, tool) {
            (Self::NoSocket | Self::Refused | Self::Ended, _) => start.into(),
            (Self::Denied, Tool::Docker) => {
                "join those who may: `sudo usermod -aG docker \"$USER\"`, then log in anew".into()
            }
            (Self::Denied, Tool::Podman) => {
                "start the engine of your own: `systemctl --user start podman.socket`".into()
            }
            (Self::Silent(_) | Self::Strange(_), _) => format!("see whether it is well: `{tool} ps`"),
            (Self::Unreachable(_), Tool::Docker) => "set DOCKER_HOST to `unix:///path` or `tcp://host:port`".into(),
            (Self::Unreachable(_), Tool::Podman) => "set CONTAINER_HOST to `unix:///path` or `tcp://host:port`".into(),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NoSocket,
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => Self::Ended,
            _ => Self::Strange(without_number(&error)),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSocket => f.write_str("there is no socket"),
            Self::Denied => f.write_str("this user may not open the socket"),
            Self::Refused => f.write_str("nobody listens there: the engine does not run"),
            Self::Silent(limit) => write!(f, "no answer within {} s", limit.as_secs_f64()),
            Self::Ended => f.write_str("the engine ended the connection"),
            Self::Strange(words) | Self::Unreachable(words) => f.write_str(words),
        }
    }
}
