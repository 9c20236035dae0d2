//! The stores of this machine that can trust the authority, and what is done with one of them.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use rustls_pki_types::CertificateDer;

use super::{java::Java, nss::Nss, system::System};
use crate::tls::authority;

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The operating system's, which most programs use.
    System,
    /// Those of Chromium and Firefox (NSS).
    Browsers,
    /// That of the Java in `JAVA_HOME`.
    Java,
}

impl Kind {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 3] = [Self::System, Self::Browsers, Self::Java];
}

/// Where stores are looked for.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What lies at `/`.
    pub root: PathBuf,
    /// The user's home.
    pub home: PathBuf,
    /// The folders of programs, as in `PATH`.
    pub path: OsString,
    /// `JAVA_HOME`.
    pub java: Option<PathBuf>,
    /// Whether root's files may be written.
    pub is_root: bool,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        // What keeps the system's store stands where only root looks.
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/sbin:/sbin");
        Self {
            root: "/".into(),
            home: std::env::home_dir().unwrap_or_default(),
            path,
            java: std::env::var_os("JAVA_HOME").map(PathBuf::from).filter(|home| home.is_absolute()),
            is_root: rustix::process::geteuid().is_root(),
        }
    }

    /// Every store of this kind that is there.
    pub fn stores(&self, kind: Kind) -> Vec<Store> {
        match kind {
            Kind::System => System::find(self).map(Store::System).into_iter().collect(),
            Kind::Browsers => Nss::find(self).into_iter().map(Store::Nss).collect(),
            Kind::Java => Java::find(self).map(Store::Java).into_iter().collect(),
        }
    }
}

/// An authority's certificate, in a file.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The file, in PEM form.
    pub file: PathBuf,
    /// What stands in it.
    pub certificate: CertificateDer<'static>,
}

impl Candidate {
    /// What it is called where each has a name: no other certificate has this one.
    pub(super) fn label(&self) -> String {
        format!("portolan-{}", &authority::fingerprint(&self.certificate)[..16])
    }
}

/// One store.
#[derive(Debug)]
pub enum Store {
    /// The operating system's.
    System(System),
    /// One of a browser.
    Nss(Nss),
    /// Java's.
    Java(Java),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Put it in.
    Trust,
    /// Take it out.
    Forget,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was changed.
    Done,
    /// It was so before.
    Already,
    /// Only root may.
    Root,
    /// A program is missing, or has refused.
    Failed(String),
}

/// What was done with one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// How it went.
    pub outcome: Outcome,
    /// The command that does it, where it is still to be done.
    pub help: Option<String>,
}

impl Step {
    pub(super) fn done() -> Self {
        Self { outcome: Outcome::Done, help: None }
    }

    pub(super) fn already() -> Self {
        Self { outcome: Outcome::Already, help: None }
    }

    pub(super) fn root(command: String) -> Self {
        Self { outcome: Outcome::Root, help: Some(command) }
    }

    pub(super) fn failed(why: impl Into<String>, help: Option<String>) -> Self {
        Self { outcome: Outcome::Failed(why.into()), help }
    }

    /// Why it could not be told or done.
    pub fn words(&self) -> String {
        match &self.outcome {
            Outcome::Done | Outcome::Already => "it is well".into(),
            Outcome::Root => "only root may change it".into(),
            Outcome::Failed(why) => why.clone(),
        }
    }

    /// Whether the store is as it was wished.
    pub fn is_well(&self) -> bool {
        matches!(self.outcome, Outcome::Done | Outcome::Already)
    }
}

impl Store {
    /// Whose it is, in a word or two.
    pub fn name(&self) -> &str {
        match self {
            Self::System(_) => "system",
            Self::Nss(nss) => nss.name(),
            Self::Java(_) => "java",
        }
    }

    /// Where it lies.
    pub fn place(&self) -> &Path {
        match self {
            Self::System(system) => system.place(),
            Self::Nss(nss) => nss.place(),
            Self::Java(java) => java.place(),
        }
    }

    /// What is there for as long as the store is.
    pub(super) fn file(&self) -> PathBuf {
        match self {
            Self::System(system) => system.place().to_owned(),
            Self::Nss(nss) => nss.file(),
            Self::Java(java) => java.place().to_owned(),
        }
    }

    /// Whether it trusts this certificate; an error says why that cannot be told.
    pub fn trusts(&self, candidate: &Candidate) -> Result<bool, Step> {
        match self {
            Self::System(system) => Ok(system.is_so(Wish::Trust, candidate)),
            Self::Nss(nss) => nss.trusts(candidate),
            Self::Java(java) => java.trusts(candidate),
        }
    }

    /// Whether nothing is left to be done for this wish; an error says why that cannot be told. A change that was broken
    /// off leaves a store that is as nobody wished it.
    pub fn is_so(&self, wish: Wish, candidate: &Candidate) -> Result<bool, Step> {
        match self {
            Self::System(system) => Ok(system.is_so(wish, candidate)),
            Self::Nss(_) | Self::Java(_) => self.trusts(candidate).map(|trusts| trusts == (wish == Wish::Trust)),
        }
    }

    /// Does what is wished, unless it is so already.
    pub fn change(&self, wish: Wish, candidate: &Candidate) -> Step {
        match self.is_so(wish, candidate) {
            Ok(true) => Step::already(),
            Ok(false) => match self {
                Self::System(system) => system.change(wish, candidate),
                Self::Nss(nss) => nss.change(wish, candidate),
                Self::Java(java) => java.change(wish, candidate),
            },
            Err(step) => step,
        }
    }
}
