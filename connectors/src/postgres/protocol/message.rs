//! Messages of the protocol.
//!
//! ```text
//! tag | i32 length, itself included | body
//! ```
//! The first message of a connection has no tag. Text ends with a zero byte.

use std::fmt;
use std::io;
use std::ops::Range;

use crate::socket::Socket;

pub(super) const ROW: u8 = b'D';
pub(super) const COLUMNS: u8 = b'T';
pub(super) const COMPLETE: u8 = b'C';
pub(super) const FAILED: u8 = b'E';
pub(super) const READY: u8 = b'Z';
pub(super) const AUTHENTICATION: u8 = b'R';
pub(super) const KEY: u8 = b'K';
/// What the server may say at any time: notices, settings, notifications.
const ASIDE: [u8; 3] = [b'N', b'S', b'A'];

/// A list of texts.
const TEXT_ARRAY: u32 = 1009;

const BINARY: u16 = 1;

/// The server's own bound of what a row holds.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Why a session cannot go on, or a statement failed.
#[derive(Debug)]
pub(in super::super) enum Failure {
    /// What the server says: SQLSTATE and message.
    Server { code: String, message: String },
    /// The connection broke.
    Lost(io::Error),
    /// What the server demands or lacks, so that nobody logs in.
    Refused(&'static str),
    /// The server said what has no place there.
    Protocol(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { code, message } => write!(f, "{message} (SQLSTATE {code})"),
            Self::Lost(error) => error.fmt(f),
            Self::Refused(what) | Self::Protocol(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// The messages of one connection, both ways.
pub(super) struct Messages(Socket);

/// A message that has arrived: its tag, and where [`Messages::body`] finds the rest until the next is waited for.
pub(super) struct Message {
    pub(super) tag: u8,
    pub(super) body: Range<usize>,
}

impl Messages {
    pub(super) fn new(socket: Socket) -> Self {
        Self(socket)
    }

    pub(super) async fn send(&mut self, request: Request) -> Result<(), Failure> {
        if request.has_zero {
            return Err(Failure::Protocol("no text at PostgreSQL has a zero byte"));
        }
        Ok(self.0.send(&request.bytes).await?)
    }

    /// Returns the next message that answers something. Whoever stops waiting has lost nothing.
    #[inline]
    pub(super) async fn next(&mut self) -> Result<Message, Failure> {
        loop {
            match self.take()? {
                Some(message) if ASIDE.contains(&message.tag) => {}
                Some(message) => return Ok(message),
                None => self.0.more().await?,
            }
        }
    }

    /// Takes the next message, if it is a row and all of it has arrived.
    #[inline]
    pub(super) fn take_row(&mut self) -> Result<Option<Range<usize>>, Failure> {
        match self.0.arrived().first() {
            Some(&ROW) => Ok(self.take()?.map(|row| row.body)),
            _ => Ok(None),
        }
    }

    /// Takes the next message, if all of it has arrived.
    #[inline]
    fn take(&mut self) -> Result<Option<Message>, Failure> {
        let Some((header, rest)) = self.0.arrived().split_first_chunk::<5>() else {
            return Ok(None);
        };
        let [tag, length @ ..] = *header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let length = length.checked_sub(4).filter(|length| *length <= MESSAGE_BYTES_MAX);
        let length = length.ok_or(Failure::Protocol("a message of an impossible length"))?;
        if rest.len() < length {
            return Ok(None);
        }
        self.0.take(header.len());
        Ok(Some(Message { tag, body: self.0.take(length) }))
    }

    pub(super) fn body(&self, message: &Message) -> &[u8] {
        self.0.taken(message.body.clone())
    }

    /// Returns what [`Message::body`] and [`Self::take_row`] are places in.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Messages to the server, sent at once.
#[derive(Debug, Default)]
pub(super) struct Request {
    bytes: Vec<u8>,
    has_zero: bool,
}

impl Request {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Returns what is sent.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Opens a session.
    pub(super) fn startup(settings: &[(&str, &str)]) -> Self {
        let version_3 = 3 << 16;
        Self::new().untagged(|startup| {
            startup.number(version_3);
            for (name, value) in settings {
                startup.text(name);
                startup.text(value);
            }
            startup.bytes.push(0);
        })
    }

    /// Asks whether the server encrypts; it answers with one byte.
    pub(super) fn encryption() -> Self {
        Self::new().untagged(|request| request.number(80_877_103))
    }

    /// Asks to end what a session runs.
    pub(super) fn cancellation(process: [u8; 4], secret: [u8; 4]) -> Self {
        Self::new().untagged(|request| {
            request.number(80_877_102);
            request.bytes.extend(process);
            request.bytes.extend(secret);
        })
    }

    /// Proves a password.
    pub(super) fn password(self, password: &str) -> Self {
        self.message(b'p', |message| message.text(password))
    }

    /// Begins to prove a password by a mechanism.
    pub(super) fn mechanism(self, name: &str, proof: &[u8]) -> Self {
        self.message(b'p', |message| {
            message.text(name);
            message.count(proof.len());
            message.bytes.extend(proof);
        })
    }

    /// Goes on to prove it.
    pub(super) fn proof(self, proof: &[u8]) -> Self {
        self.message(b'p', |message| message.bytes.extend(proof))
    }

    /// Runs statements, one after the other.
    pub(super) fn query(self, statements: &str) -> Self {
        self.message(b'Q', |message| message.text(statements))
    }

    /// Gives a name to a statement whose parameters are lists of texts.
    pub(super) fn prepare(self, name: &str, statement: &str, n_parameters: u16) -> Self {
        self.message(b'P', |message| {
            message.text(name);
            message.text(statement);
            message.short(n_parameters);
            for _ in 0..n_parameters {
                message.number(TEXT_ARRAY);
            }
        })
    }

    /// Asks for the columns of a statement.
    pub(super) fn describe(self, name: &str) -> Self {
        self.message(b'D', |message| {
            message.bytes.push(b'S');
            message.text(name);
        })
    }

    /// Runs a statement without parameters to its end; its rows come in binary.
    pub(super) fn execute(self, name: &str) -> Self {
        self.bind(name, &[], &[BINARY]).run()
    }

    /// Runs a statement to its end; its rows come as text.
    pub(super) fn execute_as_text(self, name: &str, parameters: &[Vec<String>]) -> Self {
        self.bind(name, parameters, &[]).run()
    }

    /// Ends an exchange.
    pub(super) fn sync(self) -> Self {
        self.message(b'S', |_nothing| {})
    }

    /// Takes leave.
    pub(super) fn terminate(self) -> Self {
        self.message(b'X', |_nothing| {})
    }

    fn bind(self, name: &str, parameters: &[Vec<String>], formats: &[u16]) -> Self {
        self.message(b'B', |message| {
            // The portal without a name; parameters as text.
            message.text("");
            message.text(name);
            message.short(0);
            message.short(u16::try_from(parameters.len()).unwrap_or(u16::MAX));
            for parameter in parameters {
                let text = array_text(parameter);
                message.count(text.len());
                message.bytes.extend(text.bytes());
            }
            message.short(u16::try_from(formats.len()).unwrap_or(u16::MAX));
            for format in formats {
                message.short(*format);
            }
        })
    }

    fn run(self) -> Self {
        let all = 0;
        self.message(b'E', |message| {
            message.text("");
            message.number(all);
        })
    }

    fn message(mut self, tag: u8, body: impl FnOnce(&mut Self)) -> Self {
        self.bytes.push(tag);
        self.untagged(body)
    }

    fn untagged(mut self, body: impl FnOnce(&mut Self)) -> Self {
        let begin = self.bytes.len();
        self.number(0);
        body(&mut self);
        // A longer one is refused by the server.
        let length = u32::try_from(self.bytes.len() - begin).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(begin..begin + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        self
    }

    fn text(&mut self, text: &str) {
        self.has_zero |= text.contains('\0');
        self.bytes.extend(text.bytes());
        self.bytes.push(0);
    }

    fn short(&mut self, number: u16) {
        self.bytes.extend(number.to_be_bytes());
    }

    fn number(&mut self, number: u32) {
        self.bytes.extend(number.to_be_bytes());
    }

    fn count(&mut self, count: usize) {
        self.number(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

/// Returns a list of texts as PostgreSQL writes it.
fn array_text(items: &[String]) -> String {
    let quoted = |item: &String| {
        let mut quoted = String::from("\"");
        for c in item.chars() {
            if matches!(c, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        quoted.push('"');
        quoted
    };
    format!("{{{}}}", items.iter().map(quoted).collect::<Vec<_>>().join(","))
}

/// A column of a statement's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Described {
    pub(in super::super) type_id: u32,
    pub(in super::super) type_modifier: i32,
}

/// Reads the columns of a statement's rows.
pub(super) fn columns(body: &[u8]) -> Option<Vec<Described>> {
    let (n_columns, mut rest) = body.split_first_chunk::<2>()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*n_columns) {
        let name = rest.iter().position(|byte| *byte == 0)?;
        // Table, number of the column, type, its length, its modifier, format.
        let (column, behind) = rest.get(name + 1..)?.split_first_chunk::<18>()?;
        let [_, _, _, _, _, _, a, b, c, d, _, _, e, f, g, h, _, _] = *column;
        columns.push(Described {
            type_id: u32::from_be_bytes([a, b, c, d]),
            type_modifier: i32::from_be_bytes([e, f, g, h]),
        });
        rest = behind;
    }
    Some(columns)
}

/// Reads a row of texts; NULL is an empty one.
pub(super) fn texts(body: &[u8]) -> Option<Vec<String>> {
    let (n_columns, mut rest) = body.split_first_chunk::<2>()?;
    let mut texts = Vec::new();
    for _ in 0..u16::from_be_bytes(*n_columns) {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or_default();
        let (text, behind) = behind.split_at_checked(length)?;
        texts.push(String::from_utf8_lossy(text).into_owned());
        rest = behind;
    }
    Some(texts)
}

/// Reads why something failed.
pub(super) fn failure(body: &[u8]) -> Failure {
    let (mut code, mut message) = (String::new(), String::new());
    for field in body.split(|byte| *byte == 0) {
        if let Some((kind, text)) = field.split_first() {
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'C' => code = text,
                b'M' => message = text,
                _ => {}
            }
        }
    }
    Failure::Server { code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_their_lengths() {
        assert_eq!(Request::new().query("ab").bytes, b"Q\0\0\0\x07ab\0");
        assert_eq!(Request::new().sync().bytes, b"S\0\0\0\x04");
        let bound = Request::new().execute("x").bytes;
        let bind = b"B\0\0\0\x0F\0x\0\0\0\0\0\0\x01\0\x01";
        assert_eq!(bound, [&bind[..], b"E\0\0\0\x09\0\0\0\0\0"].concat());
        assert!(Request::new().query("a\0b").has_zero);
    }

    #[test]
    fn lists_of_texts_are_quoted() {
        let list = |items: &[&str]| {
            array_text(&items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(list(&[]), "{}");
        assert_eq!(list(&["a", "NULL", ""]), r#"{"a","NULL",""}"#);
        assert_eq!(list(&[r#"}",\"#]), r#"{"}\",\\"}"#);
    }

    #[test]
    fn failures_are_read() {
        let Failure::Server { code, message } =
            failure(b"SERROR\0VERROR\0C42P01\0Mrelation \"x\" does not exist\0P15\0\0")
        else {
            panic!("another failure")
        };
        assert_eq!((code.as_str(), message.as_str()), ("42P01", "relation \"x\" does not exist"));
    }

    #[test]
    fn columns_are_read_or_refused() {
        let mut body = vec![0, 1];
        body.extend(b"name\0");
        body.extend([0, 0, 0, 9, 0, 1, 0, 0, 6, 0xA4, 0xFF, 0xFF, 0, 15, 0, 6, 0, 0]);
        let described = Described { type_id: 1700, type_modifier: (15 << 16) | 6 };
        assert_eq!(columns(&body), Some(vec![described]));
        for cut in 0..body.len() {
            assert_eq!(columns(&body[..cut]), None, "{cut}");
        }
    }
}
