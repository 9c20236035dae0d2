//! What became of a case, in a form in which two proxies can be compared: step by step, a request of the client and
//! the answer to it, without whatever concerns one connection only.

use std::collections::BTreeMap;

use super::{
    case::{self, Case, From},
    message::{self, Answered, Fields, Framing, Message, Part, Progress},
    origin::{ANSWERS, NUMBER},
    text,
};

/// A request of the client and what became of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Step {
    /// As the reference got it from its client.
    pub(super) received: Option<Received>,
    /// As the program got it, if it got all of it.
    pub(super) request: Option<Request>,
    /// As the client got it.
    pub(super) answer: Answer,
}

/// The head of a request before anything was done to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Received {
    /// How many came before it.
    pub(super) number: usize,
    pub(super) method: String,
    pub(super) target: String,
    pub(super) is_old: bool,
    pub(super) fields: Fields,
}

/// A forwarded request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) fields: EndToEnd,
    pub(super) framing: Framing,
    pub(super) body: String,
    pub(super) trailers: EndToEnd,
}

/// An answer, or what there was of it.
#[derive(Debug, Clone, Default)]
pub(super) enum Answer {
    /// The connection ended instead.
    #[default]
    Nothing,
    /// The proxy's own, which refuses the request or tells that the program gave no answer.
    Own(u16),
    /// A part of the program's, which cannot be taken for all of it.
    Cut { body: String },
    /// The program's.
    Whole(Response),
}

/// A forwarded answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) interim: Vec<(u16, EndToEnd)>,
    pub(super) status: u16,
    pub(super) fields: EndToEnd,
    pub(super) framing: Framing,
    pub(super) body: String,
    pub(super) trailers: EndToEnd,
}

/// The values of each name in their order, without the fields of one connection.
pub(super) type EndToEnd = BTreeMap<String, Vec<String>>;

/// Numbers what the reference has received, on its way to the program.
pub(super) const PAIR: &str = "x-pair";
/// Marks an answer of the reference's own.
pub(super) const PAIR_ERROR: &str = "x-pair-error";

/// What tells how a message ends, and what the test itself has put on it.
const NOT_COMPARED: &[&str] = &["content-length", "transfer-encoding", NUMBER, PAIR];

/// Fields of one connection that a proxy may write itself, and then in these words.
const OF_ONE_HOP: &[(&str, &str)] = &[
    ("connection", "close"),
    ("connection", "keep-alive"),
    ("connection", "te"),
    ("connection", "upgrade"),
    ("te", "trailers"),
];

/// Fields that the proxy under test puts on each request, one of each.
const ABOUT_THE_CLIENT: &[&str] = &["x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"];

/// All that was recorded of a case.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// What came back to the client up to the end of its connection.
    pub(super) answers: Vec<u8>,
    /// What reached the program whole.
    pub(super) requests: Vec<Message>,
    /// What is known besides.
    pub(super) noted: Noted,
}

/// What cannot be seen in the bytes.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// Whether what came of the answer to the first request is not all of it, though the connection may simply have
    /// ended behind it.
    pub(super) broken: bool,
    /// The requests that the reference received; none for the proxy under test.
    pub(super) received: Vec<Received>,
    /// The interim answers that the reference received, as it cannot pass them on.
    pub(super) interim: Vec<(u16, Fields)>,
}

/// How far the answer to the first request is, where one is asked and only then the next.
pub(super) fn is_decided(answers: &[u8], to_head: bool, ended: bool) -> bool {
    ended || !matches!(message::answer(answers, to_head, false), Progress::Part(_))
}

impl Record {
    /// The record taken to pieces, or what is wrong with it.
    pub(super) fn steps(self, case: &Case) -> Result<Vec<Step>, String> {
        let mut reading = Reading { case, rest: &self.answers, noted: &self.noted };
        let mut requests: Vec<_> = self.requests.iter().map(Some).collect();
        let mut steps = Vec::new();
        if let From::Program { to_head, .. } = case.from {
            // A proxy may have asked twice, where the program took no notice of the first time.
            let asked = |request: &Option<&Message>| request.is_some_and(|request| request.head.word(1) == "/case");
            let count = requests.iter().take_while(|request| asked(request)).count();
            let request = requests.drain(..count).next().flatten();
            steps.push(reading.step(request, |_| to_head)?.broken(self.noted.broken));
        }
        let first = self.requests.len() - requests.len();
        while !reading.rest.is_empty() {
            let number = reading.number();
            let request = number.and_then(|number| requests.get_mut(number.checked_sub(first)?)?.take());
            steps.push(reading.step(request, is_to_head)?);
        }
        for request in requests.into_iter().flatten() {
            steps.push(reading.step(Some(request), |_| false)?);
        }
        // A request that did not become whole was the last one.
        let last = self.noted.received.last().filter(|last| !steps.iter().any(|step| step.is_of(last)));
        steps.extend(last.map(|last| Step { received: Some(last.clone()), ..Step::default() }));
        Ok(steps)
    }
}

/// An answer of the program tells whether it is one to a HEAD.
fn is_to_head(head: &message::Head) -> bool {
    head.field(ANSWERS) == Some("HEAD")
}

struct Reading<'a> {
    case: &'a Case,
    rest: &'a [u8],
    noted: &'a Noted,
}

impl Reading<'_> {
    /// The head of the next answer.
    fn head(&self) -> Option<message::Head> {
        match message::answer(self.rest, true, true) {
            Progress::Whole(Answered { last, .. }, _) => Some(last.head),
            Progress::Part(_) | Progress::Fault(_) => None,
        }
    }

    /// The number of the request to which the next answer is one.
    fn number(&self) -> Option<usize> {
        self.head()?.field(NUMBER)?.parse().ok()
    }

    fn step(&mut self, request: Option<&Message>, to_head: impl Fn(&message::Head) -> bool) -> Result<Step, String> {
        let number = match request {
            Some(request) => request.head.number(PAIR),
            None => self.head().and_then(|head| head.number(PAIR_ERROR)),
        };
        let received = number.and_then(|number| self.noted.received.get(number).cloned());
        Ok(Step { received, request: request.map(|request| self.request(request)), answer: self.answer(to_head)? })
    }

    fn answer(&mut self, to_head: impl Fn(&message::Head) -> bool) -> Result<Answer, String> {
        let Progress::Whole(Answered { last, .. }, used) = message::answer(self.rest, true, true) else {
            return self.broken(true);
        };
        // A page of a proxy's own never begins like an answer, so to a HEAD nothing but another has come behind it.
        let behind = &self.rest[used..];
        let is_own = self.is_own(&last.head);
        let has_no_body = to_head(&last.head) || (is_own && (behind.is_empty() || behind.starts_with(b"HTTP/1.")));
        let Progress::Whole(Answered { interim, last }, used) = message::answer(self.rest, has_no_body, true) else {
            return self.broken(has_no_body);
        };
        self.rest = &self.rest[used..];
        if is_own {
            return Ok(Answer::Own(last.head.status()));
        }
        Ok(Answer::Whole(Response {
            interim: self.interim(&interim, &last.head),
            status: last.head.status(),
            fields: self.answer_fields(&last, has_no_body),
            framing: last.framing,
            body: text(&last.body),
            trailers: self.end_to_end(&last.trailers),
        }))
    }

    /// The interim answers that a case has before its own answer. Before a numbered one there is `100 Continue` at most,
    /// which may come or not.
    fn interim(&self, interim: &[message::Head], last: &message::Head) -> Vec<(u16, EndToEnd)> {
        if last.field(NUMBER).is_some() {
            return Vec::new();
        }
        let seen = interim.iter().map(|head| (head.status(), self.end_to_end(&head.fields)));
        let noted = self.noted.interim.iter().map(|(status, fields)| (*status, self.end_to_end(fields)));
        seen.chain(noted).collect()
    }

    /// What is no whole answer.
    fn broken(&mut self, to_head: bool) -> Result<Answer, String> {
        let rest = std::mem::take(&mut self.rest);
        match message::answer(rest, to_head, true) {
            Progress::Fault(fault) => Err(format!("the client got {fault}")),
            _ if rest.is_empty() => Ok(Answer::Nothing),
            Progress::Part(Part { body, .. }) => Ok(Answer::Cut { body: text(&body) }),
            Progress::Whole(..) => Ok(Answer::Nothing),
        }
    }

    /// In a client's case each answer of the program is numbered, in a program's the proxy's own are marked.
    fn is_own(&self, head: &message::Head) -> bool {
        match self.case.from {
            From::Client => head.field(NUMBER).is_none(),
            From::Program { .. } => head.field("x-portolan-error").is_some() || head.field(PAIR_ERROR).is_some(),
        }
    }

    fn request(&self, message: &Message) -> Request {
        let mut fields = self.end_to_end(&message.head.fields);
        if message.head.all("connection").any(|option| option == "upgrade") {
            fields.remove("upgrade");
        }
        without_our_own(&mut fields);
        Request {
            method: message.head.word(0).to_owned(),
            target: message.head.word(1).to_owned(),
            fields,
            framing: message.framing,
            body: text(&message.body),
            trailers: self.end_to_end(&message.trailers),
        }
    }

    /// The length that an answer without a body tells is end-to-end: it is that of another answer. Trailers are compared,
    /// and not what announces them, as hyper takes that off where none can come.
    fn answer_fields(&self, message: &Message, to_head: bool) -> EndToEnd {
        let mut fields = self.end_to_end(&message.head.fields);
        fields.remove("trailer");
        if to_head || message.head.status() == 304 {
            let length = message.head.number("content-length");
            fields.extend(length.map(|length| ("content-length".to_owned(), vec![length.to_string()])));
        }
        fields
    }

    fn end_to_end(&self, fields: &Fields) -> EndToEnd {
        let mut all = EndToEnd::new();
        for (name, value) in fields {
            let name = name.to_ascii_lowercase();
            // A date that does not come from the case is the proxy's.
            let is_own_date = name == "date" && !text(&self.case.bytes).contains(value);
            let is_of_one_hop = OF_ONE_HOP.contains(&(&name, value));
            if !is_own_date && !is_of_one_hop && !NOT_COMPARED.contains(&name.as_str()) {
                all.entry(name).or_default().push(value.clone());
            }
        }
        all
    }
}

/// Takes off what the proxy under test puts on.
fn without_our_own(fields: &mut EndToEnd) {
    for name in ABOUT_THE_CLIENT {
        // Another one would be the client's.
        if fields.get(*name).is_some_and(|values| values.len() == 1) {
            fields.remove(*name);
        }
    }
    if let Some(members) = fields.get_mut("via")
        && members.last().is_some_and(|last| last.starts_with("1.1 portolan:"))
    {
        members.pop();
        if members.is_empty() {
            fields.remove("via");
        }
    }
}

impl Step {
    fn is_of(&self, received: &Received) -> bool {
        self.received.as_ref().is_some_and(|own| own.number == received.number)
    }

    /// Where only the end of the connection tells that an answer is whole, it may still be known to be `broken`.
    fn broken(mut self, broken: bool) -> Self {
        if let Answer::Whole(Response { framing: Framing::Close, body, .. }) = &mut self.answer
            && broken
        {
            self.answer = Answer::Cut { body: std::mem::take(body) };
        }
        self
    }

    /// Whether bytes of the case went through the proxy, and came to their end.
    pub(super) fn is_passed_on(&self) -> bool {
        let is_of_the_case = self.request.as_ref().is_some_and(|request| request.target != case::LAST);
        is_of_the_case && matches!(self.answer, Answer::Whole(_))
    }

    /// Whether both became the same.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.request == other.request && self.answer.is_like(&other.answer)
    }
}

impl Answer {
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nothing, Self::Nothing) => true,
            (Self::Own(one), Self::Own(other)) => one == other,
            // How much of it had gone out before it broke is a matter of time.
            (Self::Cut { body: one }, Self::Cut { body: other }) => one.starts_with(other) || other.starts_with(one),
            (Self::Nothing, Self::Cut { .. }) | (Self::Cut { .. }, Self::Nothing) => true,
            (Self::Whole(one), Self::Whole(other)) => one == other,
            _ => false,
        }
    }

    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Nothing | Self::Cut { .. } => None,
            Self::Own(status) => Some(*status),
            Self::Whole(response) => Some(response.status),
        }
    }
}
