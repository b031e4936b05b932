//! Who may come in: the users of the configuration and their passwords, for all doors alike.
//!
//! Where no users are configured everybody is let in under the name given, or as `anonymous`. This
//! module says who somebody is; what they may see is decided at planning, never here.

use std::collections::BTreeMap;
use std::fmt;

use meshwork_engine::catalog::Secret;
use meshwork_engine::{Error, Result};
use subtle::{Choice, ConstantTimeEq};

/// The name of a caller who gave none, where nobody has to.
pub const ANONYMOUS: &str = "anonymous";

/// The longest password or user name that is looked at.
const CREDENTIAL_BYTES_MAX: usize = 1024;

/// The configured users.
#[derive(Default)]
pub struct Users {
    passwords: BTreeMap<String, Secret>,
}

impl Users {
    /// Returns the users of a `[users]` table: name = password, plain or `${ENV:NAME}`.
    ///
    /// # Errors
    /// `User` when a password is empty, too long, or names an environment variable that is not set.
    pub fn from_configuration(table: &BTreeMap<String, String>) -> Result<Self> {
        let mut passwords = BTreeMap::new();
        for (name, value) in table {
            passwords.insert(name.clone(), Secret::from(resolve_password(name, value)?));
        }
        Ok(Self { passwords })
    }

    /// Whether nobody has to prove who they are.
    pub fn is_open(&self) -> bool {
        self.passwords.is_empty()
    }

    /// Returns the name of the user whose credentials these are.
    ///
    /// # Errors
    /// `User` with code `AUTHENTICATION_FAILED`; it does not say whether the name exists.
    pub fn authenticate(&self, name: &str, password: &str) -> Result<String> {
        if self.is_open() {
            return Ok(if name.is_empty() { ANONYMOUS.to_owned() } else { name.to_owned() });
        }
        // An unknown name is compared too, so that the time taken does not tell names.
        let known = self.passwords.get(name);
        let expected = known.map_or("", Secret::expose);
        let same = equal_in_constant_time(expected, password);
        if known.is_some() && bool::from(same) {
            return Ok(name.to_owned());
        }
        Err(unauthenticated("user name or password is wrong"))
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.passwords.keys()).finish()
    }
}

/// Returns the error for somebody who did not prove who they are.
pub(crate) fn unauthenticated(message: &str) -> Error {
    Error::user("AUTHENTICATION_FAILED", message)
}

fn resolve_password(name: &str, value: &str) -> Result<String> {
    let wrong = |what: String| Error::user("INVALID_CONFIGURATION", what);
    let variable = value.strip_prefix("${ENV:").and_then(|rest| rest.strip_suffix('}'));
    let password = match variable {
        None => value.to_owned(),
        Some(variable) => std::env::var(variable).map_err(|_unset| {
            wrong(format!(
                "the password of user \"{name}\" refers to environment variable {variable}, which is \
                 not set"
            ))
        })?,
    };
    if password.is_empty() || password.len() > CREDENTIAL_BYTES_MAX {
        return Err(wrong(format!(
            "the password of user \"{name}\" is empty or longer than {CREDENTIAL_BYTES_MAX} bytes"
        )));
    }
    Ok(password)
}

/// Compares through buffers of one size, so that neither content nor length shows in the time
/// taken.
fn equal_in_constant_time(expected: &str, given: &str) -> Choice {
    let length_same = (expected.len() as u64).ct_eq(&(given.len() as u64));
    padded(expected).ct_eq(&padded(given)) & length_same
}

fn padded(text: &str) -> [u8; CREDENTIAL_BYTES_MAX] {
    let mut buffer = [0; CREDENTIAL_BYTES_MAX];
    for (slot, byte) in buffer.iter_mut().zip(text.bytes()) {
        *slot = byte;
    }
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        let table = BTreeMap::from([("ada".to_owned(), "engine".to_owned())]);
        Users::from_configuration(&table).unwrap()
    }

    #[test]
    fn only_the_right_password_of_a_known_user_opens() {
        let users = users();
        assert_eq!(users.authenticate("ada", "engine").unwrap(), "ada");
        for (name, password) in
            [("ada", "engin"), ("ada", "enginE"), ("ada", ""), ("bob", ""), ("", "")]
        {
            let error = users.authenticate(name, password).unwrap_err();
            assert_eq!(error.code, "AUTHENTICATION_FAILED");
        }
    }

    #[test]
    fn without_users_everybody_comes_in_under_their_name() {
        let users = Users::default();
        assert_eq!(users.authenticate("bob", "").unwrap(), "bob");
        assert_eq!(users.authenticate("", "").unwrap(), ANONYMOUS);
    }

    #[test]
    fn passwords_are_not_printed() {
        assert!(!format!("{:?}", users()).contains("engine"));
    }
}
