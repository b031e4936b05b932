//! A connection that reads rows where they lie in the packets that arrive.
//!
//! Everything else that is asked of a server goes through the driver, which makes an object of every value of a row: for
//! large results that took more processor time than all the rest. What either says when something fails is the driver's.
//!
//! See "Client/Server Protocol" in MySQL's source documentation, and MariaDB's of the same name.

mod login;
mod packets;
mod row;

use std::fmt;
use std::ops::Range;

use mysql_async::consts::{CapabilityFlags, Command};
use mysql_async::{Column, Error, ServerError};
use mysql_common::io::ParseBuf;

use self::packets::{Packets, Place, unexpected};
pub(super) use self::row::{Block, Raw, Refused};
use self::row::{Kind, Unread};
use super::options::Options;

/// First bytes of packets.
const OK: u8 = 0x00;
const ROW: u8 = 0x00;
const END: u8 = 0xFE;
const ERROR: u8 = 0xFF;

/// A session of the server.
pub(super) struct Connection {
    packets: Packets,
    id: u32,
    agreed: CapabilityFlags,
}

impl Connection {
    /// Opens a connection and logs in. The caller sets a deadline.
    pub(super) async fn open(options: &Options, encrypted: bool) -> Result<Self, Error> {
        let login::Begun { packets, id, agreed } = login::log_in(options, encrypted).await?;
        Ok(Self { packets, id, agreed })
    }

    /// Returns what the server calls this connection.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Asks whether the server is there.
    pub(super) async fn ping(&mut self) -> Result<(), Error> {
        self.packets.begin(&[Command::COM_PING as u8]).await?;
        self.done().await
    }

    /// Runs a statement that returns no rows.
    pub(super) async fn run(&mut self, statement: &str) -> Result<(), Error> {
        self.command(Command::COM_QUERY, statement.as_bytes()).await?;
        self.done().await
    }

    /// Runs a statement without parameters and returns its rows, which must be read to their end before anything else is
    /// asked.
    pub(super) async fn rows(&mut self, statement: &str) -> Result<Rows<'_>, Error> {
        let id = self.prepare(statement).await?;
        let execution = [&id.to_le_bytes()[..], &[0], &1_u32.to_le_bytes()].concat();
        self.command(Command::COM_STMT_EXECUTE, &execution).await?;
        let n_columns = match self.packets.next().await? {
            // A statement without a result.
            [OK, ..] => None,
            packet @ [ERROR, ..] => return Err(said(packet, true)),
            // The table may have changed since it was prepared; so many columns fit one byte or three.
            [n] if *n < 0xFB => Some(u16::from(*n)),
            [0xFC, low, high] => Some(u16::from_le_bytes([*low, *high])),
            _ => return Err(unexpected()),
        };
        let columns = match n_columns {
            Some(n_columns) => self.columns(n_columns).await?,
            None => Vec::new(),
        };
        let is_open = n_columns.is_some();
        let kinds = columns.iter().map(Kind::of).collect();
        let unread = Vec::new();
        Ok(Rows { connection: self, statement: id, columns, kinds, unread, is_open })
    }

    /// Takes leave of the server.
    pub(super) async fn close(mut self) -> Result<(), Error> {
        self.packets.begin(&[Command::COM_QUIT as u8]).await
    }

    /// Returns the server's number for the statement.
    async fn prepare(&mut self, statement: &str) -> Result<u32, Error> {
        self.command(Command::COM_STMT_PREPARE, statement.as_bytes()).await?;
        let (id, n_columns, n_parameters) = match self.packets.next().await? {
            [OK, a, b, c, d, low, high, p, q, ..] => (
                u32::from_le_bytes([*a, *b, *c, *d]),
                u16::from_le_bytes([*low, *high]),
                u16::from_le_bytes([*p, *q]),
            ),
            packet @ [ERROR, ..] => return Err(said(packet, true)),
            _ => return Err(unexpected()),
        };
        for n in [n_parameters, n_columns] {
            if n > 0 {
                self.columns(n).await?;
            }
        }
        Ok(id)
    }

    /// Reads the descriptions of columns.
    async fn columns(&mut self, n_columns: u16) -> Result<Vec<Column>, Error> {
        let mut columns = Vec::with_capacity(n_columns.into());
        for _ in 0..n_columns {
            match self.packets.next().await? {
                packet @ [ERROR, ..] => return Err(said(packet, true)),
                packet => columns.push(ParseBuf(packet).parse(())?),
            }
        }
        if !self.agreed.contains(CapabilityFlags::CLIENT_DEPRECATE_EOF) {
            match self.packets.next().await? {
                [END, ..] => {}
                _ => return Err(unexpected()),
            }
        }
        Ok(columns)
    }

    async fn command(&mut self, command: Command, argument: &[u8]) -> Result<(), Error> {
        let mut payload = Vec::with_capacity(argument.len() + 1);
        payload.push(command as u8);
        payload.extend_from_slice(argument);
        self.packets.begin(&payload).await
    }

    async fn done(&mut self) -> Result<(), Error> {
        match self.packets.next().await? {
            [OK, ..] => Ok(()),
            packet @ [ERROR, ..] => Err(said(packet, true)),
            _ => Err(unexpected()),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The rows of a statement, as they arrive.
pub(super) struct Rows<'a> {
    connection: &'a mut Connection,
    statement: u32,
    columns: Vec<Column>,
    kinds: Vec<Kind>,
    unread: Vec<Unread>,
    is_open: bool,
}

impl Rows<'_> {
    /// Returns the columns of a row as the server describes them now.
    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Returns the next rows that have arrived, `n_max` at most, `None` when all were read. Whoever stops waiting has lost
    /// nothing.
    pub(super) async fn next_block(&mut self, n_max: usize) -> Result<Option<Block<'_>>, Error> {
        self.unread.clear();
        let (packets, n_columns) = (&mut self.connection.packets, self.kinds.len());
        // The first byte says what a packet is.
        let row = |place: Range<usize>| {
            Unread::new(place.start + 1..place.end, n_columns).ok_or_else(unexpected)
        };
        while self.is_open {
            while self.unread.len() < n_max
                && let Some(place) = packets.take_if(ROW)?
            {
                self.unread.push(row(place)?);
            }
            if !self.unread.is_empty() {
                return Ok(Some(Block::new(packets.bytes(), &mut self.unread, &self.kinds)));
            }
            let place = packets.next_place().await?;
            match (packets.payload(&place), place) {
                ([ROW, ..], Place::Buffer(place)) => self.unread.push(row(place)?),
                (whole @ [ROW, ..], Place::Joined) => {
                    self.unread.push(row(0..whole.len())?);
                    return Ok(Some(Block::new(packets.joined(), &mut self.unread, &self.kinds)));
                }
                ([END, ..], _) => self.is_open = false,
                (packet @ [ERROR, ..], _) => return Err(said(packet, true)),
                _ => return Err(unexpected()),
            }
        }
        Ok(None)
    }

    /// Lets the server forget the statement, once all its rows were read, and runs another that returns none.
    pub(super) async fn end(self, statement: &str) -> Result<(), Error> {
        let id = self.statement.to_le_bytes();
        // It has no answer.
        self.connection.command(Command::COM_STMT_CLOSE, &id).await?;
        self.connection.run(statement).await
    }
}

/// Returns what the server said in an error packet: with the SQL state, once the session has begun.
fn said(packet: &[u8], has_state: bool) -> Error {
    let (code, message) = match packet {
        [_error, low, high, message @ ..] => (u16::from_le_bytes([*low, *high]), message),
        _ => return unexpected(),
    };
    let (state, message) = match message {
        [b'#', rest @ ..] if has_state => rest.split_at_checked(5).unwrap_or((&[], rest)),
        message => (&[][..], message),
    };
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    ServerError { code, state: text(state), message: text(message) }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_server_are_understood() {
        let error = |packet: &[u8], has_state| match said(packet, has_state) {
            Error::Server(error) => (error.code, error.state, error.message),
            other => (0, String::new(), other.to_string()),
        };
        let owned = |code, state: &str, message: &str| (code, state.to_owned(), message.to_owned());
        assert_eq!(error(b"\xFF\x10\x04Too many", false), owned(1040, "", "Too many"));
        assert_eq!(error(b"\xFF\x7A\x04#42S02No", true), owned(1146, "42S02", "No"));
        assert_eq!(error(b"\xFF\x7A\x04No", true), owned(1146, "", "No"));
        assert_eq!(error(b"\xFF\x7A\x04#4", true), owned(1146, "", "4"));
        assert_eq!(error(b"\xFF", true).0, 0);
    }
}
