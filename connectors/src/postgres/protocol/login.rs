//! From an address to a session: encryption, who we are.
//!
//! See "Start-up" and "SASL Authentication" in the protocol's documentation.

use std::sync::Arc;

use meshwork_engine::catalog::Secret;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use rustls::ClientConfig;

use super::message::{self, AUTHENTICATION, FAILED, Failure, KEY, Messages, READY, Request};
use super::{Key, Session};
use crate::postgres::configuration::{Configuration, TlsMode};
use crate::socket::Socket;

/// Opens a session in the name of an application.
pub(super) async fn log_in(
    configuration: &Configuration,
    tls: &Arc<ClientConfig>,
    application: &str,
) -> Result<Session, Failure> {
    let mut messages = Messages::new(connect(configuration, tls).await?);
    let startup = Request::startup(&[
        ("user", configuration.user.as_str()),
        ("database", configuration.database.as_str()),
        ("application_name", application),
        ("client_encoding", "UTF8"),
    ]);
    messages.send(startup).await?;
    prove(&mut messages, configuration).await?;
    let mut key = None;
    loop {
        let message = messages.next().await?;
        let body = messages.body(&message);
        match (message.tag, body) {
            (KEY, [a, b, c, d, e, f, g, h]) => {
                key = Some(Key { process: [*a, *b, *c, *d], secret: [*e, *f, *g, *h] });
            }
            (READY, _) => break,
            (FAILED, body) => return Err(message::failure(body)),
            _ => return Err(UNEXPECTED),
        }
    }
    // Only what stands in front of a server has none.
    let key = key.ok_or(Failure::Refused("no key to cancel by"))?;
    Ok(Session { messages, key, is_busy: false, rows: Vec::new() })
}

/// Asks the server to end what a session runs.
pub(in super::super) async fn cancel(
    configuration: &Configuration,
    tls: &Arc<ClientConfig>,
    key: Key,
) -> Result<(), Failure> {
    let socket = connect(configuration, tls).await?;
    Messages::new(socket).send(Request::cancellation(key.process, key.secret)).await
}

const UNEXPECTED: Failure = Failure::Protocol("another answer than a login has");

async fn connect(
    configuration: &Configuration,
    tls: &Arc<ClientConfig>,
) -> Result<Socket, Failure> {
    let (host, port) = (&configuration.host, configuration.port);
    if host.starts_with('/') {
        // A folder of this machine, as in libpq; what goes through it is not encrypted.
        return Ok(Socket::of_file(&format!("{host}/.s.PGSQL.{port}")).await?);
    }
    let mut socket = Socket::of_host(host, port).await?;
    if configuration.tls == TlsMode::Disable {
        return Ok(socket);
    }
    socket.send(Request::encryption().bytes()).await?;
    let answer = loop {
        match socket.arrived().first() {
            Some(answer) => break *answer,
            None => socket.more().await?,
        }
    };
    socket.take(1);
    match (answer, configuration.tls) {
        (b'S', _) => Ok(socket.encrypted(Arc::clone(tls), host).await?),
        (b'N', TlsMode::Prefer) => Ok(socket),
        (b'N', _) => Err(Failure::Refused("the server does not encrypt, which tls demands")),
        _ => Err(UNEXPECTED),
    }
}

/// Proves the password in the way that the server wants.
async fn prove(messages: &mut Messages, configuration: &Configuration) -> Result<(), Failure> {
    let password = || {
        let password = configuration.password.as_ref().map(Secret::expose);
        password.ok_or(Failure::Refused("the server asks for a password"))
    };
    let mut scram = None;
    loop {
        let message = messages.next().await?;
        let body = messages.body(&message);
        let request = match (message.tag, body) {
            (AUTHENTICATION, [0, 0, 0, 0]) => return Ok(()),
            (AUTHENTICATION, [0, 0, 0, 3]) => Request::new().password(password()?),
            (AUTHENTICATION, [0, 0, 0, 5, salt @ ..]) => {
                let salt = salt.try_into().map_err(|_length| UNEXPECTED)?;
                let user = configuration.user.as_bytes();
                Request::new().password(&md5_hash(user, password()?.as_bytes(), salt))
            }
            (AUTHENTICATION, [0, 0, 0, 10, mechanisms @ ..]) => {
                let mut names = mechanisms.split(|byte| *byte == 0);
                if !names.any(|name| name == SCRAM_SHA_256.as_bytes()) {
                    return Err(OTHER_PROOF);
                }
                let begun = ScramSha256::new(password()?.as_bytes(), ChannelBinding::unsupported());
                let request = Request::new().mechanism(SCRAM_SHA_256, begun.message());
                scram = Some(begun);
                request
            }
            (AUTHENTICATION, [0, 0, 0, 11, challenge @ ..]) => {
                let begun = scram.as_mut().ok_or(UNEXPECTED)?;
                begun.update(challenge)?;
                Request::new().proof(begun.message())
            }
            (AUTHENTICATION, [0, 0, 0, 12, proof @ ..]) => {
                // The server proves that it knows the password, too.
                scram.as_mut().ok_or(UNEXPECTED)?.finish(proof)?;
                continue;
            }
            (AUTHENTICATION, _) => return Err(OTHER_PROOF),
            (FAILED, body) => return Err(message::failure(body)),
            _ => return Err(UNEXPECTED),
        };
        messages.send(request).await?;
    }
}

const OTHER_PROOF: Failure =
    Failure::Refused("the server wants another proof than a password, md5 or SCRAM-SHA-256");
