//! Frames (RFC 9113 §4, §6) and the codes of errors (§7).

/// The kinds of frames that are in use.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// The parameters of SETTINGS that are in use.
pub(crate) mod setting {
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// Behind this one nothing more comes on its stream.
pub(crate) const END_STREAM: u8 = 0x1;

/// Of SETTINGS and PING: an answer.
pub(crate) const ACK: u8 = 0x1;

/// Behind this one nothing more comes of its fields.
pub(crate) const END_HEADERS: u8 = 0x4;

/// The payload begins with the length of the padding at its end.
pub(super) const PADDED: u8 = 0x8;

/// The fields stand behind five bytes of priority.
pub(super) const PRIORITY: u8 = 0x20;

/// The bytes in front of a payload.
pub(super) const HEAD: usize = 9;

/// The longest payload that every receiver takes.
pub(crate) const LONGEST: usize = 16_384;

/// What a client's connection begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it is on the wire, whatever it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// SETTINGS with these parameters.
    pub(crate) fn settings(parameters: &[(u16, u32)]) -> Self {
        let pairs = parameters.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        Self::new(kind::SETTINGS, 0, 0, pairs.collect::<Vec<_>>())
    }

    /// More window for a stream, or for the whole connection, which is number 0.
    pub(crate) fn window(stream: u32, more: u32) -> Self {
        Self::new(kind::WINDOW_UPDATE, 0, stream, more.to_be_bytes())
    }

    pub(crate) fn reset(stream: u32, code: Code) -> Self {
        Self::new(kind::RST_STREAM, 0, stream, (code as u32).to_be_bytes())
    }

    pub(crate) fn ping(payload: [u8; 8]) -> Self {
        Self::new(kind::PING, 0, 0, payload)
    }

    pub(crate) fn goaway(last: u32, code: Code) -> Self {
        Self::new(kind::GOAWAY, 0, 0, [last.to_be_bytes(), (code as u32).to_be_bytes()].concat())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes()].concat();
        [head, self.payload.clone()].concat()
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without padding and priority.
    pub(super) fn content(&self) -> &[u8] {
        let mut content = &self.payload[..];
        if self.has(PADDED) {
            content = &content[1..content.len() - usize::from(content[0])];
        }
        if self.kind == kind::HEADERS && self.has(PRIORITY) {
            content = &content[5..];
        }
        content
    }

    /// The number that stands in the payload at that byte.
    pub(super) fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// Why a stream or a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Code {
    NoError,
    ProtocolError,
    InternalError,
    FlowControlError,
    SettingsTimeout,
    StreamClosed,
    FrameSizeError,
    RefusedStream,
    Cancel,
    CompressionError,
    ConnectError,
    EnhanceYourCalm,
    InadequateSecurity,
    Http11Required,
}

impl Code {
    /// All of them, each at the place of its number.
    const ALL: [Self; 14] = [
        Self::NoError,
        Self::ProtocolError,
        Self::InternalError,
        Self::FlowControlError,
        Self::SettingsTimeout,
        Self::StreamClosed,
        Self::FrameSizeError,
        Self::RefusedStream,
        Self::Cancel,
        Self::CompressionError,
        Self::ConnectError,
        Self::EnhanceYourCalm,
        Self::InadequateSecurity,
        Self::Http11Required,
    ];

    pub(super) fn of(number: u32) -> Self {
        Self::ALL.get(number as usize).copied().unwrap_or_else(|| panic!("{number:#x} is no code of RFC 9113"))
    }
}
