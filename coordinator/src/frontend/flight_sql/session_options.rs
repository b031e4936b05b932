//! The session actions of Flight: their messages, which arrow-flight lacks, and what options there
//! are.
//!
//! `catalog` and `schema` set where names are looked up; every other option is a session setting,
//! as in `SET SESSION`. Field numbers are those of `Flight.proto`.

use std::collections::BTreeMap;

use super::sessions::Caller;
use crate::SETTINGS;

pub const SET_SESSION_OPTIONS: &str = "SetSessionOptions";
pub const GET_SESSION_OPTIONS: &str = "GetSessionOptions";
pub const CLOSE_SESSION: &str = "CloseSession";

#[derive(Clone, PartialEq, prost::Message)]
pub struct StringList {
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
}

/// A value of an option; none takes the option back to its default.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OptionValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
    pub value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    List(StringList),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SetSessionOptionsRequest {
    #[prost(btree_map = "string, message", tag = "1")]
    pub session_options: BTreeMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SetSessionOptionsResult {
    #[prost(btree_map = "string, message", tag = "1")]
    pub errors: BTreeMap<String, OptionError>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct OptionError {
    #[prost(enumeration = "OptionFault", tag = "1")]
    pub value: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum OptionFault {
    Unspecified = 0,
    InvalidName = 1,
    InvalidValue = 2,
    Error = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GetSessionOptionsResult {
    #[prost(btree_map = "string, message", tag = "1")]
    pub session_options: BTreeMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CloseSessionResult {
    #[prost(enumeration = "CloseSessionStatus", tag = "1")]
    pub status: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum CloseSessionStatus {
    Unspecified = 0,
    Closed = 1,
    Closing = 2,
    NotCloseable = 3,
}

/// Sets the options one by one; those that cannot be set come back with their fault.
pub(super) fn set(caller: &Caller, request: SetSessionOptionsRequest) -> SetSessionOptionsResult {
    let mut errors = BTreeMap::new();
    for (name, option) in request.session_options {
        if let Err(fault) = set_one(caller, &name, option) {
            errors.insert(name, OptionError { value: fault.into() });
        }
    }
    SetSessionOptionsResult { errors }
}

fn set_one(caller: &Caller, name: &str, option: OptionValue) -> Result<(), OptionFault> {
    let text = match option.value {
        None => None,
        Some(Value::Text(text)) => Some(text),
        Some(Value::Bool(value)) => Some(value.to_string()),
        Some(Value::Int(value)) => Some(value.to_string()),
        Some(Value::Double(value)) => Some(value.to_string()),
        Some(Value::List(_)) => return Err(OptionFault::InvalidValue),
    };
    let session = &caller.session;
    let is_setting = SETTINGS.iter().any(|setting| setting.name == name);
    let done = match (name, text) {
        ("catalog", catalog) => {
            session.set_catalog(catalog);
            Ok(())
        }
        ("schema", schema) => {
            session.set_schema(schema);
            Ok(())
        }
        _ if !is_setting => return Err(OptionFault::InvalidName),
        (name, Some(value)) => session.set(name, &value),
        (name, None) => session.reset(name),
    };
    done.map_err(|_error| OptionFault::InvalidValue)
}

/// Returns all options of the session.
pub(super) fn get(caller: &Caller) -> GetSessionOptionsResult {
    let now = caller.session.snapshot();
    let text = |value: String| OptionValue { value: Some(Value::Text(value)) };
    let mut session_options: BTreeMap<String, OptionValue> = SETTINGS
        .iter()
        .map(|setting| (setting.name.to_owned(), text(now.get(setting.name).to_owned())))
        .collect();
    for (name, value) in [("catalog", now.catalog), ("schema", now.schema)] {
        session_options.insert(name.to_owned(), value.map_or_else(OptionValue::default, text));
    }
    GetSessionOptionsResult { session_options }
}
