//! Packets of the client/server protocol.
//!
//! ```text
//! u24 length | u8 sequence | payload
//! ```
//! A payload of the greatest length goes on in the next packet. See "MySQL Packets" in the protocol's documentation.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use mysql_async::{DriverError, Error};
use rustls::ClientConfig;

use crate::mysql::options::PACKET_BYTES_MAX;
use crate::socket::Socket;

/// The greatest payload of one packet.
const PAYLOAD_BYTES_MAX: usize = (1 << 24) - 1;

const HEADER_BYTES: usize = 4;

/// The packets of one connection, both ways.
pub(super) struct Packets {
    socket: Socket,
    /// A payload of several packets, or what there is of it.
    joined: Vec<u8>,
    /// Whether the next packet goes on with it.
    goes_on: bool,
    /// The number of the next packet.
    sequence: u8,
}

/// Where a payload is, until the next is waited for.
pub(super) enum Place {
    /// In [`Packets::bytes`].
    Buffer(Range<usize>),
    /// All of [`Packets::joined`].
    Joined,
}

impl Packets {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, joined: Vec::new(), goes_on: false, sequence: 0 }
    }

    /// Encrypts what follows.
    pub(super) async fn encrypted(self, client: Arc<ClientConfig>, host: &str) -> io::Result<Self> {
        Ok(Self { socket: self.socket.encrypted(client, host).await?, ..self })
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.socket.is_encrypted()
    }

    /// Sends the first packet of an exchange.
    pub(super) async fn begin(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.sequence = 0;
        self.send(payload).await
    }

    /// Sends the next packet of an exchange.
    pub(super) async fn send(&mut self, payload: &[u8]) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(payload.len() + HEADER_BYTES);
        let mut pieces = payload.chunks(PAYLOAD_BYTES_MAX);
        loop {
            // One that fills its packet is followed by another, if need be by an empty one.
            let piece = pieces.next().unwrap_or_default();
            let [low, middle, high, _none] =
                u32::try_from(piece.len()).unwrap_or_default().to_le_bytes();
            bytes.extend([low, middle, high, self.sequence]);
            bytes.extend(piece);
            self.sequence = self.sequence.wrapping_add(1);
            if piece.len() < PAYLOAD_BYTES_MAX {
                break;
            }
        }
        Ok(self.socket.send(&bytes).await?)
    }

    /// Returns the next payload. Whoever stops waiting has lost nothing.
    pub(super) async fn next(&mut self) -> Result<&[u8], Error> {
        let place = self.next_place().await?;
        Ok(self.payload(&place))
    }

    /// Waits for the next payload. Whoever stops waiting has lost nothing.
    pub(super) async fn next_place(&mut self) -> Result<Place, Error> {
        loop {
            match self.take()? {
                Some(place) => return Ok(place),
                None => self.socket.more().await?,
            }
        }
    }

    pub(super) fn payload(&self, place: &Place) -> &[u8] {
        match place {
            Place::Buffer(range) => self.socket.taken(range.clone()),
            Place::Joined => &self.joined,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.socket.bytes()
    }

    pub(super) fn joined(&self) -> &[u8] {
        &self.joined
    }

    /// Takes the next payload, if it begins with this byte and all of it has arrived in one packet.
    #[inline]
    pub(super) fn take_if(&mut self, first: u8) -> Result<Option<Range<usize>>, Error> {
        if self.goes_on || self.socket.arrived().get(HEADER_BYTES) != Some(&first) {
            return Ok(None);
        }
        match self.take_packet()? {
            Some((payload, true)) => Ok(Some(payload)),
            Some((payload, false)) => {
                self.join(payload, false)?;
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// Takes the next payload, if all of it has arrived.
    fn take(&mut self) -> Result<Option<Place>, Error> {
        loop {
            let Some((payload, is_last)) = self.take_packet()? else { return Ok(None) };
            if is_last && !self.goes_on {
                return Ok(Some(Place::Buffer(payload)));
            }
            self.join(payload, is_last)?;
            if is_last {
                return Ok(Some(Place::Joined));
            }
        }
    }

    /// Takes the next packet, if all of it has arrived; returns where its payload is, and whether it ends with it.
    #[inline]
    fn take_packet(&mut self) -> Result<Option<(Range<usize>, bool)>, Error> {
        let Some((header, rest)) = self.socket.arrived().split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [low, middle, high, sequence] = *header;
        let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
        if rest.len() < length {
            return Ok(None);
        }
        if sequence != self.sequence {
            return Err(DriverError::PacketOutOfOrder.into());
        }
        self.sequence = sequence.wrapping_add(1);
        self.socket.take(HEADER_BYTES);
        Ok(Some((self.socket.take(length), length < PAYLOAD_BYTES_MAX)))
    }

    fn join(&mut self, part: Range<usize>, is_last: bool) -> Result<(), Error> {
        if !self.goes_on {
            // What the one before it needed is given back.
            self.joined = Vec::new();
        }
        let part = self.socket.taken(part);
        if self.joined.len() + part.len() > PACKET_BYTES_MAX {
            return Err(DriverError::PacketTooLarge.into());
        }
        self.joined.extend_from_slice(part);
        self.goes_on = !is_last;
        Ok(())
    }
}

/// The server said something that has no place here.
pub(super) fn unexpected() -> Error {
    DriverError::UnexpectedPacket { payload: Vec::new() }.into()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Packets, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let near = Socket::of_host("127.0.0.1", port).await.unwrap();
        let (far, _address) = listener.accept().await.unwrap();
        (Packets::new(near), far)
    }

    fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        [&length[..3], &[sequence], payload].concat()
    }

    #[tokio::test]
    async fn payloads_of_any_length_arrive() {
        let full = PAYLOAD_BYTES_MAX;
        let lengths = [0, 1, 65_531, 65_536, 200_000, full - 1, full, full + 1, 2 * full, 7];
        let (mut near, mut far) = pair().await;
        let sent = async {
            let mut sequence = 0;
            for length in lengths {
                let payload = vec![u8::try_from(length % 251).unwrap(); length];
                let empty: &[u8] = &[];
                let ends_full = length % full == 0;
                for piece in payload.chunks(full).chain(ends_full.then_some(empty)) {
                    far.write_all(&packet(sequence, piece)).await.unwrap();
                    sequence += 1;
                }
            }
        };
        let received = async {
            for length in lengths {
                let payload = near.next().await.unwrap();
                assert_eq!(payload.len(), length);
                assert!(payload.iter().all(|byte| usize::from(*byte) == length % 251));
            }
        };
        tokio::join!(sent, received);
        drop(far);
        assert!(matches!(near.next().await, Err(Error::Io(_))));
    }

    #[tokio::test]
    async fn a_packet_out_of_its_turn_is_refused() {
        let (mut near, mut far) = pair().await;
        far.write_all(&[packet(0, b"first"), packet(0, b"again")].concat()).await.unwrap();
        assert_eq!(near.next().await.unwrap(), b"first");
        assert!(matches!(near.next().await, Err(Error::Driver(DriverError::PacketOutOfOrder))));
    }
}
