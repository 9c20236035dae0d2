//! Fields as HPACK has them (RFC 7541): written in the plainest form there is, read in all of them.

use std::collections::VecDeque;

use crate::harness::latin1;

/// What a table may hold until something else was agreed on (§4.2), which nobody here does.
const ROOM: usize = 4096;

/// What an entry takes beside its bytes (§4.1).
const ENTRY: usize = 32;

/// Fields in their order, those with a colon first. Bytes above 127 are shown as the characters of the same number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

impl Fields {
    pub(crate) fn of(fields: &[(&str, &str)]) -> Self {
        Self(fields.iter().map(|&(name, value)| (name.into(), value.into())).collect())
    }

    /// These, and then those.
    pub(crate) fn and(mut self, more: &[(&str, &str)]) -> Self {
        self.0.extend(Self::of(more).0);
        self
    }

    /// The same with another value of `name`, at its place.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let field = self.0.iter_mut().find(|(field, _)| field == name);
        value.clone_into(&mut field.unwrap_or_else(|| panic!("there is no {name}")).1);
        self
    }

    /// The same without `name`.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(field, _)| field != name);
        self
    }

    /// The value of the only field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        match self.all(name).as_slice() {
            [] => None,
            [value] => Some(value),
            many => panic!("{name} is there {} times: {many:?}", many.len()),
        }
    }

    /// The values of all fields of that name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Each as a literal that no table keeps, without Huffman's code (§6.2.2).
    pub(crate) fn block(&self) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in &self.0 {
            block.push(0);
            for text in [name, value] {
                let bytes: Vec<u8> = text.chars().map(|char| u8::try_from(char).unwrap()).collect();
                put_number(&mut block, 7, bytes.len());
                block.extend(bytes);
            }
        }
        block
    }
}

/// An integer behind a prefix of `bits` bits (§5.1); the bits in front of them are 0.
fn put_number(block: &mut Vec<u8>, bits: u32, mut number: usize) {
    let most = (1 << bits) - 1;
    if number < most {
        block.push(number as u8);
        return;
    }
    block.push(most as u8);
    number -= most;
    while number >= 128 {
        block.push((number % 128) as u8 | 0x80);
        number /= 128;
    }
    block.push(number as u8);
}

/// What the other side has put into the table so far, the newest first.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: VecDeque<(String, String)>,
    /// What it may hold where that is less than it began with.
    room: Option<usize>,
}

impl Table {
    /// All fields of a block, or what is wrong with it.
    pub(super) fn read(&mut self, mut block: &[u8]) -> Result<Fields, String> {
        let mut fields = Vec::new();
        while let Some(&first) = block.first() {
            match first {
                0x80.. => fields.push(self.at(number(&mut block, 7)?)?),
                0x40.. => {
                    let field = self.literal(&mut block, 6)?;
                    self.keep(field.clone());
                    fields.push(field);
                }
                0x20.. => {
                    self.room = Some(number(&mut block, 5)?);
                    self.shrink(0);
                }
                _ => fields.push(self.literal(&mut block, 4)?),
            }
        }
        Ok(Fields(fields))
    }

    fn literal(&self, block: &mut &[u8], bits: u32) -> Result<(String, String), String> {
        let name = match number(block, bits)? {
            0 => text(block)?,
            index => self.at(index)?.0,
        };
        Ok((name, text(block)?))
    }

    fn at(&self, index: usize) -> Result<(String, String), String> {
        let of_all = index.checked_sub(1).ok_or("a field of number 0")?;
        if let Some(&(name, value)) = STATIC.get(of_all) {
            return Ok((name.into(), value.into()));
        }
        let entry = self.entries.get(of_all - STATIC.len());
        entry.cloned().ok_or_else(|| format!("field {index} where the table has {}", self.entries.len()))
    }

    fn keep(&mut self, field: (String, String)) {
        let size = size(&field);
        self.shrink(size);
        if size <= self.room.unwrap_or(ROOM) {
            self.entries.push_front(field);
        }
    }

    /// Makes room for so much.
    fn shrink(&mut self, more: usize) {
        let room = self.room.unwrap_or(ROOM);
        while !self.entries.is_empty() && self.entries.iter().map(size).sum::<usize>() + more > room {
            self.entries.pop_back();
        }
    }
}

fn size((name, value): &(String, String)) -> usize {
    name.len() + value.len() + ENTRY
}

fn byte(block: &mut &[u8]) -> Result<u8, String> {
    let (&first, rest) = block.split_first().ok_or("a block that ends too soon")?;
    *block = rest;
    Ok(first)
}

fn number(block: &mut &[u8], bits: u32) -> Result<usize, String> {
    let most = (1 << bits) - 1;
    let prefix = usize::from(byte(block)?) & most;
    if prefix < most {
        return Ok(prefix);
    }
    let mut number = most;
    for shift in (0..28).step_by(7) {
        let next = byte(block)?;
        number += usize::from(next & 0x7f) << shift;
        if next < 0x80 {
            return Ok(number);
        }
    }
    Err("a number beyond all reason".into())
}

fn text(block: &mut &[u8]) -> Result<String, String> {
    let is_coded = block.first().is_some_and(|&first| first >= 0x80);
    let length = number(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length).ok_or("a text that ends too soon")?;
    *block = rest;
    if is_coded { decoded(bytes) } else { Ok(latin1(bytes)) }
}

/// Reads Huffman's code (§5.2). It is a canonical one: within a length, codes count up in the order of the symbols, and
/// the first one of a length follows from the last one of the length before. So the lengths say it all.
fn decoded(bytes: &[u8]) -> Result<String, String> {
    let mut text = String::new();
    let mut code = Walk::default();
    for byte in bytes {
        for bit in (0..8).rev() {
            if let Some(symbol) = code.step(byte >> bit & 1)? {
                text.push(char::from(symbol));
                code = Walk::default();
            }
        }
    }
    // What is left is padding: less than a byte of ones, the beginning of the code that stands for the end.
    if code.length < 8 && code.code + 1 == 1 << code.length { Ok(text) } else { Err("padding that is none".into()) }
}

/// Bits of a code that is not whole yet.
#[derive(Default)]
struct Walk {
    length: u8,
    code: u32,
    /// The first code of this length.
    first: u32,
    /// How many codes are shorter.
    shorter: usize,
}

impl Walk {
    /// One bit further; the symbol if the code is whole.
    fn step(&mut self, bit: u8) -> Result<Option<u8>, String> {
        let count = |length| LENGTHS.iter().filter(|&&of| of == length).count();
        let here = count(self.length);
        self.shorter += here;
        self.first = (self.first + here as u32) << 1;
        self.length += 1;
        self.code = self.code << 1 | u32::from(bit);
        let place = self.code.wrapping_sub(self.first) as usize;
        if self.length > 30 {
            return Err("a code that nobody gave".into());
        }
        let mut symbols = (0..=255_u8).filter(|&symbol| LENGTHS[usize::from(symbol)] == self.length);
        Ok(symbols.nth(place))
    }
}

/// How many bits the code of each byte has (RFC 7541, appendix B).
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The fields that every table begins with (appendix A).
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The examples of RFC 7541, appendix C.6: three answers, with Huffman's code, to a table of 256 bytes.
#[test]
fn fields_are_read_as_rfc_7541_wrote_them() {
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let mut table = Table { room: Some(256), ..Table::default() };
    let first =
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3";
    let (private, at_21) = ("private", "Mon, 21 Oct 2013 20:13:21 GMT");
    let fields = |status, date| {
        let location = "https://www.example.com";
        Fields::of(&[(":status", status), ("cache-control", private), ("date", date), ("location", location)])
    };
    assert_eq!(table.read(&bytes(first)).unwrap(), fields("302", at_21));
    assert_eq!(table.read(&bytes("4883640effc1c0bf")).unwrap(), fields("307", at_21));
    let third = "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007";
    let third = table.read(&bytes(third)).unwrap();
    let cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    assert_eq!((third.field(":status"), third.field("set-cookie")), (Some("200"), Some(cookie)));
    assert_eq!(third.field("date"), Some("Mon, 21 Oct 2013 20:13:22 GMT"));
    assert_eq!(table.entries.len(), 3);
}

#[test]
fn fields_are_written_as_they_are_read() {
    let long = "v".repeat(5000);
    let fields = Fields::of(&[(":path", "/"), ("x-\u{ff}", ""), ("x-long", &long)]);
    assert_eq!(Table::default().read(&fields.block()).unwrap(), fields);
}
