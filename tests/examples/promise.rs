//! A line of a README that says what `curl` will see, taken at its word.
//!
//! `curl URL    # CLAIM; CLAIM` is a promise. These are the claims, in the words of the READMEs:
//!
//! | claim | holds if |
//! |---|---|
//! | `502`, `502 connect-refused` | the answer has this status, and `x-portolan-error` is this word |
//! | `location: /new` | the answer has this field; parameters of its value do not matter |
//! | `no server` | the answer has no such field |
//! | `says Ada` | this text stands in the body |
//! | `:8000 gets GET /users` | the program with this place in the table got this; `:8001 or :8002` is one of them |
//! | `.. gets GET / with host: a.localhost without referer` | and these fields were so |

use std::fmt;

use crate::stage::Answer;

/// A promise of a README.
pub(crate) struct Promise {
    line: String,
    pub(crate) request: Request,
    claims: Vec<Claim>,
}

/// What a curl line sends.
pub(crate) struct Request {
    pub(crate) method: String,
    /// Host and port of the URL, or what `-H 'Host: ..'` puts in their place.
    pub(crate) host: String,
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

enum Claim {
    Status(u16, Option<String>),
    Field(String, String),
    NoField(String),
    Says(String),
    Gets { places: Vec<String>, line: String, with: Option<(String, String)>, without: Option<String> },
}

impl Promise {
    /// Every promise of a README, in its order.
    pub(crate) fn all_of(readme: &str) -> Vec<Self> {
        readme.lines().filter(|line| line.starts_with("curl ")).map(Self::parse).collect()
    }

    fn parse(line: &str) -> Self {
        let (words, comment) = shell_words(line);
        let claims: Vec<_> = comment.split("; ").map(str::trim).filter(|claim| !claim.is_empty()).collect();
        assert!(!claims.is_empty(), "nothing is claimed of: {line}");
        let claims = claims.into_iter().map(|claim| Claim::parse(claim, line)).collect();
        Self { line: line.to_owned(), request: Request::of_curl(&words[1..], line), claims }
    }

    /// What the body must hold before all claims can be looked at.
    pub(crate) fn awaited(&self) -> Vec<&str> {
        let texts = self.claims.iter().filter_map(|claim| match claim {
            Claim::Says(text) => Some(text.as_str()),
            Claim::Gets { line, .. } => Some(line.as_str()),
            Claim::Status(..) | Claim::Field(..) | Claim::NoField(_) => None,
        });
        texts.collect()
    }

    /// Panics unless every claim holds.
    pub(crate) fn assert_kept_by(&self, answer: &Answer) {
        for claim in &self.claims {
            assert!(claim.holds(answer), "{claim}\n  is promised by: {}\n  and this came:\n{answer}", self.line);
        }
    }
}

impl Claim {
    fn parse(claim: &str, line: &str) -> Self {
        let field = |text: &str| text.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        if let Some(text) = claim.strip_prefix("says ") {
            return Self::Says(text.to_owned());
        }
        if let Some(name) = claim.strip_prefix("no ") {
            return Self::NoField(name.to_owned());
        }
        if let Some((places, what)) = claim.split_once(" gets ") {
            let (what, without) = split_off(what, " without ");
            let (what, with) = split_off(what, " with ");
            let with = with.map(|with| field(with).unwrap_or_else(|| panic!("`with {with}` is no field in: {line}")));
            let places = places.split(" or ").map(str::to_owned).collect();
            return Self::Gets { places, line: format!("{what} HTTP/1.1"), with, without: without.map(str::to_owned) };
        }
        let (first, rest) = split_off(claim, " ");
        match (first.parse(), field(claim)) {
            (Ok(status), _) => Self::Status(status, rest.map(str::to_owned)),
            (Err(_), Some((name, value))) => Self::Field(name, value),
            (Err(_), None) => panic!("`{claim}` is no claim in: {line}"),
        }
    }

    fn holds(&self, answer: &Answer) -> bool {
        match self {
            Self::Status(status, word) => {
                answer.status == *status && answer.field("x-portolan-error") == word.as_deref()
            }
            Self::Field(name, value) => answer
                .field(name)
                .is_some_and(|seen| seen == value || seen.split(';').next().is_some_and(|seen| seen == value)),
            Self::NoField(name) => answer.field(name).is_none(),
            Self::Says(text) => answer.body.contains(text),
            Self::Gets { places, line, with, without } => {
                let seen: Vec<_> = answer.body.lines().collect();
                let [place, request, fields @ ..] = seen.as_slice() else { return false };
                places.iter().any(|wanted| wanted == place)
                    && request == line
                    && with.as_ref().is_none_or(|(name, value)| fields.contains(&format!("{name}: {value}").as_str()))
                    && without
                        .as_ref()
                        .is_none_or(|name| !fields.iter().any(|field| field.starts_with(&format!("{name}:"))))
            }
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, None) => write!(f, "status {status} of a program"),
            Self::Status(status, Some(word)) => write!(f, "status {status} because of {word}"),
            Self::Field(name, value) => write!(f, "the field `{name}: {value}`"),
            Self::NoField(name) => write!(f, "no field `{name}`"),
            Self::Says(text) => write!(f, "the text `{text}`"),
            Self::Gets { places, line, with, without } => {
                write!(f, "`{line}` at {}, with {with:?}, without {without:?}", places.join(" or "))
            }
        }
    }
}

impl Request {
    /// `GET target`, as curl would send it to the proxy.
    pub(crate) fn get(target: &str) -> Self {
        Self::of_curl(&[format!("http://localhost:62893{target}")], target)
    }

    fn of_curl(arguments: &[String], line: &str) -> Self {
        let mut method = None;
        let mut url = None;
        let mut fields =
            vec![("user-agent".to_owned(), "curl/8.0".to_owned()), ("accept".to_owned(), "*/*".to_owned())];
        let mut body = String::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().unwrap_or_else(|| panic!("{argument} lacks its value in: {line}")).clone();
            match argument.as_str() {
                "-i" | "-N" | "--path-as-is" => {}
                "-m" => drop(value()),
                "-I" => method = Some("HEAD".to_owned()),
                "-X" => method = Some(value()),
                "-d" => body = value(),
                "-e" => fields.push(("referer".to_owned(), value())),
                "-H" => {
                    let field = value();
                    let (name, value) =
                        field.split_once(": ").unwrap_or_else(|| panic!("{field}: no field in: {line}"));
                    fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                    fields.push((name.to_owned(), value.to_owned()));
                }
                _ if argument.starts_with("http://") => url = Some(argument),
                _ => panic!("this test does not know {argument}, in: {line}"),
            }
        }
        let url = url.unwrap_or_else(|| panic!("no URL in: {line}")).trim_start_matches("http://");
        let (authority, target) = url.split_at(url.find('/').unwrap_or_else(|| panic!("no path in: {line}")));
        assert!(authority.ends_with(":62893"), "not the proxy's own port in: {line}");
        let typed_host = fields.iter().position(|(name, _)| name == "Host").map(|at| fields.remove(at).1);
        Self {
            method: method.unwrap_or_else(|| if body.is_empty() { "GET" } else { "POST" }.to_owned()),
            host: typed_host.unwrap_or_else(|| authority.to_owned()),
            target: target.to_owned(),
            fields,
            body,
        }
    }
}

/// The words of a shell's line and the comment behind them.
fn shell_words(line: &str) -> (Vec<String>, &str) {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '#' if !quoted && word.is_none() => return (words, line[at + 1..].trim()),
            ' ' if !quoted => words.extend(word.take()),
            c => {
                // Between quotes a shell changes nothing; outside it would do something with these.
                assert!(quoted || !"\"\\$`?*&|<>()[]{}!".contains(c), "`{c}` must be quoted in: {line}");
                word.get_or_insert_default().push(c);
            }
        }
    }
    assert!(!quoted, "an open quote in: {line}");
    words.extend(word);
    (words, "")
}

fn split_off<'t>(text: &'t str, separator: &str) -> (&'t str, Option<&'t str>) {
    text.split_once(separator).map_or((text, None), |(before, behind)| (before, Some(behind)))
}
