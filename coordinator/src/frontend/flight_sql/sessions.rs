//! Which session a call belongs to: by bearer token, by cookie, or by the connection it came over.
//!
//! A client that logged in sends its token; one that keeps cookies sends the cookie of its first
//! answer; any other is told apart by its connection. A session is only ever found by the user who
//! opened it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use meshwork_engine::Result;
use tonic::metadata::MetadataMap;

use super::shelf::Shelf;
use crate::frontend::users::{ANONYMOUS, Users, unauthenticated};
use crate::{Coordinator, Identity, Session};

/// The cookie that names a session.
pub(super) const SESSION_COOKIE: &str = "arrow_flight_session_id";

const SESSIONS_MAX: usize = 10_000;
const SESSION_IDLE_MAX: Duration = Duration::from_secs(60 * 60);

/// Who sent one request, and in which session.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) session: Arc<Session>,
    pub(super) user: String,
    /// The session's token: what tickets and prepared statements are bound to.
    pub(super) token: String,
    /// Whether this request opened the session.
    pub(super) is_new: bool,
}

/// What a request says of its sender.
#[derive(Debug)]
pub(super) enum Credentials {
    None,
    Basic { user: String, password: String },
    Bearer(String),
}

#[derive(Clone)]
struct Open {
    session: Arc<Session>,
    user: String,
}

/// All open sessions of the door.
pub(super) struct Sessions {
    coordinator: Arc<Coordinator>,
    users: Users,
    /// Sessions by token.
    open: Shelf<Open>,
    /// Tokens by connection and user, for clients that send neither token nor cookie.
    by_connection: Shelf<String>,
}

impl Sessions {
    pub(super) fn new(coordinator: Arc<Coordinator>, users: Users) -> Self {
        let by_connection = Shelf::new(SESSIONS_MAX, SESSION_IDLE_MAX);
        Self { coordinator, users, open: Shelf::new(SESSIONS_MAX, SESSION_IDLE_MAX), by_connection }
    }

    /// Returns the caller of a request that came over the connection with these headers.
    pub(super) fn admit(&self, headers: &MetadataMap, connection: &str) -> Result<Caller> {
        let user = match credentials(headers)? {
            Credentials::Bearer(token) => return self.by_token(&token),
            Credentials::Basic { user, password } => self.users.authenticate(&user, &password)?,
            Credentials::None if self.users.is_open() => ANONYMOUS.to_owned(),
            Credentials::None => {
                return Err(unauthenticated("this server asks for user and password"));
            }
        };
        let known =
            cookie(headers, SESSION_COOKIE).and_then(|token| self.find(&token, &user)).or_else(
                || self.find(&self.by_connection.get(&format!("{connection} {user}"))?, &user),
            );
        Ok(known.unwrap_or_else(|| {
            let caller = self.open(user);
            let place = format!("{connection} {}", caller.user);
            self.by_connection.put_as(&place, caller.token.clone());
            caller
        }))
    }

    /// Opens a session of its own for a client that logs in.
    pub(super) fn log_in(&self, user: &str, password: &str) -> Result<Caller> {
        Ok(self.open(self.users.authenticate(user, password)?))
    }

    /// Forgets the session; whether there was one.
    pub(super) fn close(&self, token: &str) -> bool {
        self.open.take(token).is_some()
    }

    fn open(&self, user: String) -> Caller {
        let session = self.coordinator.open_session(Identity { user: user.clone() });
        let open = Open { session: Arc::clone(&session), user: user.clone() };
        Caller { session, user, token: self.open.put(open), is_new: true }
    }

    fn by_token(&self, token: &str) -> Result<Caller> {
        let Some(Open { session, user }) = self.open.get(token) else {
            return Err(unauthenticated("the bearer token is not of an open session")
                .with_hint("Log in again: sessions end after an hour without a request."));
        };
        Ok(Caller { session, user, token: token.to_owned(), is_new: false })
    }

    fn find(&self, token: &str, user: &str) -> Option<Caller> {
        self.by_token(token).ok().filter(|caller| caller.user == user)
    }
}

/// Returns what the headers say of the sender.
pub(super) fn credentials(headers: &MetadataMap) -> Result<Credentials> {
    let Some(value) = headers.get("authorization") else {
        return Ok(Credentials::None);
    };
    let unreadable = || unauthenticated("the authorization header is neither basic nor bearer");
    let text = value.to_str().map_err(|_opaque| unreadable())?;
    let (scheme, rest) = text.split_once(' ').ok_or_else(unreadable)?;
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Ok(Credentials::Bearer(rest.trim().to_owned())),
        "basic" => basic(rest.trim()).ok_or_else(unreadable),
        _ => Err(unreadable()),
    }
}

/// Decodes `user:password` in base 64, padded or not.
fn basic(encoded: &str) -> Option<Credentials> {
    let bytes = STANDARD_NO_PAD.decode(encoded.trim_end_matches('=')).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Credentials::Basic { user: user.to_owned(), password: password.to_owned() })
}

fn cookie(headers: &MetadataMap, name: &str) -> Option<String> {
    headers
        .get_all("cookie")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_from_the_authorization_header() {
        let read = |value: &str| {
            let mut headers = MetadataMap::new();
            headers.insert("authorization", value.parse().unwrap());
            credentials(&headers)
        };
        assert!(
            matches!(read("Bearer abc").unwrap(), Credentials::Bearer(token) if token == "abc")
        );
        for encoded in ["YWRhOmE6Yg==", "YWRhOmE6Yg"] {
            let Credentials::Basic { user, password } = read(&format!("Basic {encoded}")).unwrap()
            else {
                panic!("not basic")
            };
            assert_eq!((user.as_str(), password.as_str()), ("ada", "a:b"));
        }
        for wrong in ["Basic", "Basic !!", "Negotiate x"] {
            assert_eq!(read(wrong).unwrap_err().code, "AUTHENTICATION_FAILED");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = MetadataMap::new();
        headers.append("cookie", "a=1; arrow_flight_session_id=xyz".parse().unwrap());
        assert_eq!(cookie(&headers, SESSION_COOKIE).as_deref(), Some("xyz"));
        assert_eq!(cookie(&headers, "b"), None);
    }
}
