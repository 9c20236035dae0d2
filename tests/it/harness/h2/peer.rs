//! One end of an HTTP/2 connection: it keeps the rules where a test does not want to break them.

use std::{
    collections::{HashMap, VecDeque},
    ops::Deref,
};

use super::{
    frame::{ACK, Code, END_HEADERS, END_STREAM, Frame, HEAD, LONGEST, PREFACE, kind, setting},
    hpack::{Fields, Table},
};
use crate::harness::{End, Wire, latin1};

/// What a window has until somebody says more (§6.9.2).
const WINDOW: i64 = 65_535;

/// Something that came and that a test may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Head { stream: u32, fields: Fields, ends: bool },
    Data { stream: u32, bytes: Vec<u8>, ends: bool },
    Reset { stream: u32, code: Code },
    GoAway { last: u32, code: Code },
    Pong,
    End(End),
}

impl Event {
    /// The stream on which it came; none for what concerns them all.
    fn stream(&self) -> Option<u32> {
        match self {
            Self::Head { stream, .. } | Self::Data { stream, .. } | Self::Reset { stream, .. } => Some(*stream),
            Self::GoAway { .. } | Self::Pong | Self::End(_) => None,
        }
    }
}

/// How a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Whole,
    Reset(Code),
    /// With its connection.
    Lost(End),
}

/// A request or a response, as far as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) stream: u32,
    /// Heads of 1xx.
    pub(crate) interim: Vec<Fields>,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    pub(crate) ended: Ended,
}

impl Deref for Message {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        &self.fields
    }
}

impl Message {
    pub(crate) fn text(&self) -> String {
        latin1(&self.body)
    }

    pub(crate) fn status(&self) -> u16 {
        let status = self.field(":status").unwrap_or_else(|| panic!("no answer: {self:?}"));
        status.parse().unwrap()
    }

    /// Status and cause of an error of the proxy's own.
    pub(crate) fn error(&self) -> (u16, &str) {
        (self.status(), self.field("x-portolan-error").unwrap_or("not ours"))
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) wire: Wire,
    /// Whether what was read is given back to the windows at once.
    pub(crate) gives_back: bool,
    fields: Table,
    /// The next stream of this end's.
    next: u32,
    /// The beginning of a frame whose rest has not come yet.
    begun: Option<[u8; HEAD]>,
    /// A block of fields whose end has not come yet.
    open: Option<(Frame, Vec<u8>)>,
    /// What came while something else was awaited.
    kept: VecDeque<Event>,
    settings: Option<Vec<(u16, u32)>>,
    /// What may still be sent on the whole connection.
    window: i64,
    /// What may still be sent on each stream, beside what each begins with.
    windows: HashMap<u32, i64>,
    /// What each stream begins with.
    initial: i64,
}

impl Peer {
    /// A client's end, with these parameters of its own.
    pub(crate) async fn client(mut wire: Wire, settings: &[(u16, u32)]) -> Self {
        wire.send([PREFACE, &Frame::settings(settings).bytes()].concat()).await;
        Self::new(wire, 1)
    }

    /// A server's end, with these parameters of its own; the preface must come.
    pub(crate) async fn server(mut wire: Wire, settings: &[(u16, u32)]) -> Self {
        assert_eq!(latin1(&wire.bytes(PREFACE.len()).await), latin1(PREFACE));
        wire.send(Frame::settings(settings).bytes()).await;
        Self::new(wire, 2)
    }

    /// An end on whose connection all that begins it was sent.
    pub(crate) fn new(wire: Wire, next: u32) -> Self {
        Self {
            wire,
            gives_back: true,
            fields: Table::default(),
            next,
            begun: None,
            open: None,
            kept: VecDeque::new(),
            settings: None,
            window: WINDOW,
            windows: HashMap::new(),
            initial: WINDOW,
        }
    }

    /// Opens a stream with a whole request that has no body.
    pub(crate) async fn asks(&mut self, fields: &Fields) -> u32 {
        let stream = self.stream();
        self.head(stream, fields, true).await;
        stream
    }

    /// Opens a stream with a request whose body follows.
    pub(crate) async fn begins(&mut self, fields: &Fields) -> u32 {
        let stream = self.stream();
        self.head(stream, fields, false).await;
        stream
    }

    /// The number of a stream that is this end's to open.
    pub(crate) fn stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Sends a request without a body and reads the whole answer.
    pub(crate) async fn ask(&mut self, fields: &Fields) -> Message {
        let stream = self.asks(fields).await;
        self.answer(stream).await
    }

    /// Sends a request with a body and reads the whole answer.
    pub(crate) async fn ask_with(&mut self, fields: &Fields, body: impl AsRef<[u8]>) -> Message {
        let stream = self.begins(fields).await;
        self.body(stream, body, true).await;
        self.answer(stream).await
    }

    /// Reads a whole request, and answers it with 200 and a text.
    pub(crate) async fn answers(&mut self, text: &str) -> Message {
        let request = self.request().await;
        self.responds(request.stream, &Fields::of(&[(":status", "200")]), text).await;
        request
    }

    /// Sends a whole answer.
    pub(crate) async fn responds(&mut self, stream: u32, fields: &Fields, text: &str) {
        self.head(stream, fields, false).await;
        self.body(stream, text, true).await;
    }

    /// Sends fields, in as many frames as it takes.
    pub(crate) async fn head(&mut self, stream: u32, fields: &Fields, ends: bool) {
        let block = fields.block();
        let (mut part, mut rest) = block.split_at(block.len().min(LONGEST));
        let (mut kind, mut end) = (kind::HEADERS, if ends { END_STREAM } else { 0 });
        let mut bytes = Vec::new();
        loop {
            let last = if rest.is_empty() { END_HEADERS } else { 0 };
            bytes.extend(Frame::new(kind, last | end, stream, part).bytes());
            if rest.is_empty() {
                break;
            }
            (kind, end) = (kind::CONTINUATION, 0);
            (part, rest) = rest.split_at(rest.len().min(LONGEST));
        }
        self.wire.send(bytes).await;
    }

    /// Sends a piece of a body, however little the windows allow.
    pub(crate) async fn data(&mut self, stream: u32, bytes: impl AsRef<[u8]>, ends: bool) {
        let bytes = bytes.as_ref();
        self.window -= bytes.len() as i64;
        *self.windows.entry(stream).or_default() -= bytes.len() as i64;
        self.send(Frame::new(kind::DATA, if ends { END_STREAM } else { 0 }, stream, bytes)).await;
    }

    /// Sends a body as the windows allow, and reads meanwhile.
    pub(crate) async fn body(&mut self, stream: u32, bytes: impl AsRef<[u8]>, ends: bool) {
        let mut rest = bytes.as_ref();
        while rest.len() > LONGEST || self.room(stream) < rest.len() {
            let part = LONGEST.min(self.room(stream)).min(rest.len());
            if part == 0 {
                self.read_one().await;
                continue;
            }
            self.data(stream, &rest[..part], false).await;
            rest = &rest[part..];
        }
        self.data(stream, rest, ends).await;
    }

    /// How much may be sent on a stream now.
    pub(crate) fn room(&self, stream: u32) -> usize {
        let of_stream = self.initial + self.windows.get(&stream).copied().unwrap_or_default();
        usize::try_from(of_stream.min(self.window)).unwrap_or_default()
    }

    pub(crate) async fn reset(&mut self, stream: u32, code: Code) {
        self.send(Frame::reset(stream, code)).await;
    }

    /// Sends a frame as it is.
    pub(crate) async fn send(&mut self, frame: Frame) {
        self.wire.send(frame.bytes()).await;
    }

    /// The other side's parameters.
    pub(crate) async fn settings(&mut self) -> Vec<(u16, u32)> {
        loop {
            if let Some(settings) = &self.settings {
                return settings.clone();
            }
            self.read_one().await;
        }
    }

    /// The other side has read all that was sent so far.
    pub(crate) async fn is_heard(&mut self) {
        self.send(Frame::ping(*b"are you?")).await;
        let event = self.next(|event| matches!(event, Event::Pong | Event::End(_))).await;
        assert_eq!(event, Event::Pong);
    }

    /// A whole answer.
    pub(crate) async fn answer(&mut self, stream: u32) -> Message {
        let message = self.outcome(stream).await;
        assert_eq!(message.ended, Ended::Whole, "{message:?}");
        message
    }

    /// A whole request.
    pub(crate) async fn request(&mut self) -> Message {
        let (stream, fields, ends) = self.opened().await;
        let message = self.rest(stream, fields, ends).await;
        assert_eq!(message.ended, Ended::Whole, "{message:?}");
        message
    }

    /// The head of the next request: its stream, its fields, and whether that was all.
    pub(crate) async fn opened(&mut self) -> (u32, Fields, bool) {
        self.try_opened().await.expect("a request, not the end")
    }

    /// As [`Peer::opened`]; nothing is the end.
    pub(crate) async fn try_opened(&mut self) -> Option<(u32, Fields, bool)> {
        let is_request = |event: &Event| match event {
            Event::Head { fields, .. } => fields.field(":method").is_some(),
            Event::End(_) => true,
            _ => false,
        };
        match self.next(is_request).await {
            Event::Head { stream, fields, ends } => Some((stream, fields, ends)),
            _ => None,
        }
    }

    /// A message as far as it comes, from its head on.
    pub(crate) async fn outcome(&mut self, stream: u32) -> Message {
        let mut interim = Vec::new();
        loop {
            match self.of(stream).await {
                Event::Head { fields, ends: false, .. } if fields.field(":status").unwrap().starts_with('1') => {
                    interim.push(fields);
                }
                Event::Head { fields, ends, .. } => {
                    return Message { interim, ..self.rest(stream, fields, ends).await };
                }
                Event::Reset { code, .. } => return Message { interim, ..Message::none(stream, Ended::Reset(code)) },
                Event::End(end) => return Message { interim, ..Message::none(stream, Ended::Lost(end)) },
                other => panic!("{other:?} instead of a head"),
            }
        }
    }

    /// A message as far as it comes, behind its head.
    pub(crate) async fn rest(&mut self, stream: u32, fields: Fields, mut ends: bool) -> Message {
        let mut message = Message { fields, ..Message::none(stream, Ended::Whole) };
        while !ends {
            match self.of(stream).await {
                Event::Data { bytes, ends: last, .. } => {
                    message.body.extend(bytes);
                    ends = last;
                }
                Event::Head { fields, ends: last, .. } => {
                    assert!(last, "fields in the middle of a body: {fields:?}");
                    message.trailers = fields;
                    ends = last;
                }
                Event::Reset { code, .. } => return Message { ended: Ended::Reset(code), ..message },
                Event::End(end) => return Message { ended: Ended::Lost(end), ..message },
                Event::GoAway { .. } | Event::Pong => {}
            }
        }
        message
    }

    /// The next that happens to a stream; the end of the connection happens to all.
    pub(crate) async fn of(&mut self, stream: u32) -> Event {
        self.next(|event| event.stream() == Some(stream) || matches!(event, Event::End(_))).await
    }

    /// The head of an answer whose body may follow.
    pub(crate) async fn answered(&mut self, stream: u32) -> Fields {
        match self.of(stream).await {
            Event::Head { fields, .. } => fields,
            other => panic!("{other:?} instead of a head"),
        }
    }

    /// Exactly so many bytes of a stream's body.
    pub(crate) async fn bytes(&mut self, stream: u32, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.of(stream).await {
                Event::Data { bytes, .. } => all.extend(bytes),
                other => panic!("{other:?} instead of {count} bytes, behind {:?}", latin1(&all)),
            }
        }
        assert_eq!(all.len(), count, "{:?}", latin1(&all));
        all
    }

    /// Why a stream was reset.
    pub(crate) async fn is_reset(&mut self, stream: u32) -> Code {
        match self.of(stream).await {
            Event::Reset { code, .. } => code,
            other => panic!("{other:?} instead of a reset"),
        }
    }

    /// The next word that the other side wants to end: the last stream that it takes, and why.
    pub(crate) async fn goaway(&mut self) -> (u32, Code) {
        match self.next(|event| matches!(event, Event::GoAway { .. } | Event::End(_))).await {
            Event::GoAway { last, code } => (last, code),
            other => panic!("{other:?} instead of GOAWAY"),
        }
    }

    /// Everything to the end, what was kept included.
    pub(crate) async fn until_the_end(&mut self) -> (Vec<Event>, End) {
        let mut events = Vec::new();
        loop {
            match self.next(|_| true).await {
                Event::End(end) => return (events, end),
                event => events.push(event),
            }
        }
    }

    /// Everything that was read and not looked at.
    pub(crate) fn take_all(&mut self) -> VecDeque<Event> {
        std::mem::take(&mut self.kept)
    }

    /// The next event that is wanted; those before it are kept.
    async fn next(&mut self, is_wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            if let Some(at) = self.kept.iter().position(&is_wanted) {
                // The end stays: whoever asks later must hear of it, too.
                let is_end = matches!(self.kept[at], Event::End(_));
                return if is_end { self.kept[at].clone() } else { self.kept.remove(at).unwrap() };
            }
            self.read_one().await;
        }
    }

    /// Reads a frame and does what it demands. Dropped while it waits, it has lost nothing.
    pub(crate) async fn read_one(&mut self) {
        let frame = match self.frame().await {
            Ok(frame) => frame,
            Err(end) => return self.kept.push_back(Event::End(end)),
        };
        if let Some(event) = self.take(frame).await {
            self.kept.push_back(event);
        }
    }

    async fn frame(&mut self) -> Result<Frame, End> {
        let head = match self.begun {
            Some(head) => head,
            None => *self.begun.insert(self.wire.exactly(HEAD).await?.try_into().unwrap()),
        };
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        assert!(length <= LONGEST, "a frame of {length} bytes, which nobody allowed");
        let payload = self.wire.exactly(length).await?;
        self.begun = None;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    async fn take(&mut self, frame: Frame) -> Option<Event> {
        let stream = frame.stream;
        if let Some((head, mut block)) = self.open.take() {
            assert_eq!((frame.kind, stream), (kind::CONTINUATION, head.stream), "a frame between those of one head");
            block.extend(&frame.payload);
            return self.fields(head, block, frame.has(END_HEADERS));
        }
        match frame.kind {
            kind::DATA => {
                if self.gives_back && !frame.payload.is_empty() {
                    self.give_back(stream, frame.payload.len() as u32).await;
                }
                let bytes = frame.content().to_vec();
                Some(Event::Data { stream, bytes, ends: frame.has(END_STREAM) })
            }
            kind::HEADERS => {
                let (block, is_whole) = (frame.content().to_vec(), frame.has(END_HEADERS));
                self.fields(frame, block, is_whole)
            }
            kind::RST_STREAM => Some(Event::Reset { stream, code: Code::of(frame.number(0)) }),
            kind::SETTINGS if frame.has(ACK) => None,
            kind::SETTINGS => {
                self.agree(&frame);
                self.try_send(Frame::new(kind::SETTINGS, ACK, 0, [])).await;
                None
            }
            kind::PING if frame.has(ACK) => Some(Event::Pong),
            kind::PING => {
                self.try_send(Frame { flags: ACK, ..frame }).await;
                None
            }
            kind::GOAWAY => Some(Event::GoAway { last: frame.number(0), code: Code::of(frame.number(4)) }),
            kind::WINDOW_UPDATE if stream == 0 => {
                self.window += i64::from(frame.number(0));
                None
            }
            kind::WINDOW_UPDATE => {
                *self.windows.entry(stream).or_default() += i64::from(frame.number(0));
                None
            }
            kind => panic!("a frame of kind {kind}, which nobody asked for"),
        }
    }

    /// What was read may be sent again.
    pub(crate) async fn give_back(&mut self, stream: u32, count: u32) {
        self.try_send(Frame::window(0, count)).await;
        self.try_send(Frame::window(stream, count)).await;
    }

    /// Sends what the rules demand; somebody who has ended it all need not hear it.
    async fn try_send(&mut self, frame: Frame) {
        if self.wire.try_send(frame.bytes()).await.is_err() {
            // What the other side has said before it went is still to be read.
        }
    }

    fn fields(&mut self, head: Frame, block: Vec<u8>, is_whole: bool) -> Option<Event> {
        if !is_whole {
            self.open = Some((head, block));
            return None;
        }
        let fields = self.fields.read(&block).unwrap();
        Some(Event::Head { stream: head.stream, fields, ends: head.has(END_STREAM) })
    }

    fn agree(&mut self, frame: &Frame) {
        let parameters = frame.payload.chunks_exact(6);
        let pairs = parameters.map(|pair| {
            let id = u16::from_be_bytes([pair[0], pair[1]]);
            (id, u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]))
        });
        let pairs: Vec<_> = pairs.collect();
        if let Some((_, initial)) = pairs.iter().find(|(id, _)| *id == setting::INITIAL_WINDOW_SIZE) {
            self.initial = i64::from(*initial);
        }
        self.settings.get_or_insert_default().extend(pairs);
    }
}

impl Message {
    fn none(stream: u32, ended: Ended) -> Self {
        let (fields, trailers) = (Fields::default(), Fields::default());
        Self { stream, interim: Vec::new(), fields, body: Vec::new(), trailers, ended }
    }
}
