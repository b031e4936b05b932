//! From an open socket to a session: greeting, encryption, who we are.
//!
//! See "Connection Phase" in the protocol's documentation. Passwords are proven by `mysql_native_password` or
//! `caching_sha2_password`; both prove nothing to who listens.

use std::io;

use meshwork_engine::catalog::Secret;
use mysql_async::consts::CapabilityFlags as Can;
use mysql_async::{DriverError, Error};
use mysql_common::crypto::encrypt;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{
    AuthPlugin, AuthSwitchRequest, HandshakePacket, HandshakeResponse, SslRequest,
};
use mysql_common::proto::MySerialize;
use rustls::ClientConfig;

use super::packets::{Packets, unexpected};
use super::{ERROR, OK, said};
use crate::mysql::options::{Options, PACKET_BYTES_MAX, Tls};
use crate::socket::Socket;
use crate::tls;

/// The collation of the greeting; the session says its own later.
const UTF8MB4_GENERAL_CI: u8 = 45;

/// The plugin for a user is another than the one that the greeting names.
const SWITCH: u8 = 0xFE;

/// What `caching_sha2_password` says besides.
const MORE: u8 = 0x01;
const KNOWN: u8 = 0x03;
const UNKNOWN: u8 = 0x04;
const ASK_FOR_KEY: u8 = 0x02;

/// What every server has that we read from.
const NEEDED: Can = Can::CLIENT_PROTOCOL_41
    .union(Can::CLIENT_SECURE_CONNECTION)
    .union(Can::CLIENT_PLUGIN_AUTH)
    .union(Can::CLIENT_LONG_PASSWORD)
    .union(Can::CLIENT_LONG_FLAG)
    .union(Can::CLIENT_TRANSACTIONS)
    .union(Can::CLIENT_MULTI_RESULTS)
    .union(Can::CLIENT_PS_MULTI_RESULTS);

/// What is asked for where the server has it.
const WANTED: Can =
    NEEDED.union(Can::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA).union(Can::CLIENT_DEPRECATE_EOF);

/// A session that has begun.
pub(super) struct Begun {
    pub(super) packets: Packets,
    /// What the server calls the connection.
    pub(super) id: u32,
    pub(super) agreed: Can,
}

/// Opens a connection and says who we are.
pub(super) async fn log_in(options: &Options, encrypted: bool) -> Result<Begun, Error> {
    let mut packets = Packets::new(Socket::of_host(&options.host, options.port).await?);
    let greeting = packets.next().await?;
    if greeting.first() == Some(&ERROR) {
        return Err(said(greeting, false));
    }
    let greeting = ParseBuf(greeting).parse::<HandshakePacket<'_>>(())?.into_owned();
    let mut agreed = greeting.capabilities() & WANTED;
    if encrypted {
        if !greeting.capabilities().contains(Can::CLIENT_SSL) {
            return Err(DriverError::NoClientSslFlagFromServer.into());
        }
        agreed |= Can::CLIENT_SSL;
        let request = SslRequest::new(agreed, packet_bytes_max(), UTF8MB4_GENERAL_CI);
        packets.send(&bytes_of(&request)).await?;
        packets = packets.encrypted(encryption(options)?.into(), &options.host).await?;
    }
    let plugin = match greeting.auth_plugin() {
        Some(AuthPlugin::CachingSha2Password) => AuthPlugin::CachingSha2Password,
        _ => AuthPlugin::MysqlNativePassword,
    };
    let password = options.password.as_ref().map(Secret::expose);
    let proof = plugin.gen_data(password, &greeting.nonce());
    let response = HandshakeResponse::new(
        proof.as_deref(),
        // The version decides the collation of the greeting alone.
        (u16::MAX, 0, 0),
        Some(options.user.as_bytes()),
        None::<&[u8]>,
        Some(plugin.borrow()),
        agreed,
        None,
        packet_bytes_max(),
    );
    packets.send(&bytes_of(&response)).await?;
    let mut login = Login { packets, password, plugin, nonce: greeting.nonce() };
    login.finish().await?;
    Ok(Begun { packets: login.packets, id: greeting.connection_id(), agreed })
}

/// The exchange that proves the password.
struct Login<'a> {
    packets: Packets,
    password: Option<&'a str>,
    plugin: AuthPlugin<'static>,
    nonce: Vec<u8>,
}

impl Login<'_> {
    async fn finish(&mut self) -> Result<(), Error> {
        let mut may_switch = true;
        loop {
            let packet = self.packets.next().await?;
            match packet {
                [OK, ..] => return Ok(()),
                [ERROR, ..] => return Err(said(packet, true)),
                // The plugin from before MySQL 4.1, whose proof can be reversed.
                [SWITCH] => return Err(DriverError::MysqlOldPasswordDisabled.into()),
                [SWITCH, ..] if may_switch => {
                    let switch = ParseBuf(packet).parse::<AuthSwitchRequest<'_>>(())?.into_owned();
                    self.switch(&switch).await?;
                    may_switch = false;
                }
                [MORE, KNOWN] if self.plugin == AuthPlugin::CachingSha2Password => {}
                [MORE, UNKNOWN] if self.plugin == AuthPlugin::CachingSha2Password => {
                    self.tell_password().await?;
                }
                _ => return Err(unexpected()),
            }
        }
    }

    async fn switch(&mut self, switch: &AuthSwitchRequest<'_>) -> Result<(), Error> {
        self.plugin = match switch.auth_plugin() {
            AuthPlugin::MysqlNativePassword => AuthPlugin::MysqlNativePassword,
            AuthPlugin::CachingSha2Password => AuthPlugin::CachingSha2Password,
            AuthPlugin::MysqlOldPassword => {
                return Err(DriverError::MysqlOldPasswordDisabled.into());
            }
            AuthPlugin::MysqlClearPassword => {
                return Err(DriverError::CleartextPluginDisabled.into());
            }
            other @ (AuthPlugin::Ed25519
            | AuthPlugin::MariadbParsec { .. }
            | AuthPlugin::Other(_)) => {
                let name = String::from_utf8_lossy(other.as_bytes()).into_owned();
                return Err(DriverError::UnknownAuthPlugin { name }.into());
            }
        };
        self.nonce = switch.plugin_data().to_vec();
        let proof = self.plugin.gen_data(self.password, &self.nonce);
        self.packets.send(proof.as_deref().unwrap_or_default()).await
    }

    /// Tells the password itself to a server that has not seen it since it started: encrypted, or for its key alone.
    async fn tell_password(&mut self) -> Result<(), Error> {
        let mut password = self.password.unwrap_or_default().as_bytes().to_vec();
        password.push(0);
        if self.packets.is_encrypted() {
            return self.packets.send(&password).await;
        }
        self.packets.send(&[ASK_FOR_KEY]).await?;
        let key = match self.packets.next().await? {
            [MORE, key @ ..] => key.to_vec(),
            packet @ [ERROR, ..] => return Err(said(packet, true)),
            _ => return Err(unexpected()),
        };
        for (byte, nonce) in password.iter_mut().zip(self.nonce.iter().cycle()) {
            *byte ^= nonce;
        }
        self.packets.send(&encrypt(&password, &key)).await
    }
}

fn encryption(options: &Options) -> io::Result<ClientConfig> {
    let client = match options.tls {
        Tls::Verify => {
            let mut roots = tls::public_authorities();
            if let Some(file) = &options.tls_ca {
                tls::add_authorities(&mut roots, file).map_err(io::Error::other)?;
            }
            tls::verifying(roots)
        }
        Tls::Disable | Tls::Prefer | Tls::Require => tls::trusting(),
    };
    client.map_err(io::Error::other)
}

fn packet_bytes_max() -> u32 {
    u32::try_from(PACKET_BYTES_MAX).unwrap_or(u32::MAX)
}

fn bytes_of(message: &impl MySerialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.serialize(&mut bytes);
    bytes
}
