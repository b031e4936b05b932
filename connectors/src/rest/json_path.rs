//! The part of JSONPath that manifests may use: `$`, `.name`, `['name']` and `[*]`.
//!
//! Documents are texts, not trees: what is found is what the source wrote, to the last digit.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::value::RawValue;

/// A path into a JSON document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JsonPath {
    text: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    All,
}

/// What a path finds where it leads to one place at most.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// There is a value; it may be `null`.
    Value(&'a RawValue),
    /// A part of the path is not there; this is the text up to it.
    Missing,
}

/// The fields of an object by their names; of a name that is there twice, the last one.
pub(super) type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Returns the fields of an object; `None` if it is none, an error if a name in it is no text.
pub(super) fn fields(value: &RawValue) -> serde_json::Result<Option<Fields<'_>>> {
    match value.get().starts_with('{') {
        true => serde_json::from_str(value.get()).map(Some),
        false => Ok(None),
    }
}

impl JsonPath {
    /// Returns the path to a field of the document itself.
    pub(super) fn field(name: &str) -> Self {
        Self { text: format!("$.{name}"), steps: vec![Step::Name(name.to_owned())] }
    }

    /// Whether it may lead to many places.
    pub(super) fn is_many(&self) -> bool {
        self.steps.contains(&Step::All)
    }

    /// Returns the one place of a path without `[*]`.
    pub(super) fn one<'a>(&self, document: &'a RawValue) -> serde_json::Result<Place<'a>> {
        down(&self.steps, document)
    }

    /// Returns the same of an object whose fields are known, which spares a table with many columns to read
    /// each row as often.
    pub(super) fn one_of<'a>(
        &self,
        object: &'a RawValue,
        fields: &Fields<'a>,
    ) -> serde_json::Result<Place<'a>> {
        match self.steps.split_first() {
            None => Ok(Place::Value(object)),
            Some((Step::All, _)) => Ok(Place::Missing),
            Some((Step::Name(name), rest)) => match fields.get(name) {
                Some(value) => down(rest, value),
                None => Ok(Place::Missing),
            },
        }
    }

    /// Returns all places; `None` if a part of the path is not there or is no list. A `null` in place of
    /// a list is an empty list.
    pub(super) fn all<'a>(&self, document: &'a RawValue) -> Option<Vec<&'a RawValue>> {
        let mut values = vec![document];
        for step in &self.steps {
            let mut next = Vec::with_capacity(values.len());
            for value in values {
                match step {
                    Step::Name(name) => next.push(fields(value).ok()??.remove(name)?),
                    Step::All if value.get() == "null" => {}
                    Step::All => next.extend(elements(value)?),
                }
            }
            values = next;
        }
        Some(values)
    }
}

fn down<'a>(steps: &[Step], from: &'a RawValue) -> serde_json::Result<Place<'a>> {
    let mut value = from;
    for step in steps {
        let next = match step {
            Step::Name(name) => fields(value)?.and_then(|mut fields| fields.remove(name)),
            Step::All => None,
        };
        match next {
            Some(next) => value = next,
            None => return Ok(Place::Missing),
        }
    }
    Ok(Place::Value(value))
}

fn elements(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for JsonPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a path like $.data[*] or $.paging['next page']");
        let mut rest = text.trim().strip_prefix('$').ok_or_else(wrong)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("[*]") {
                steps.push(Step::All);
                rest = after;
            } else if let Some(after) = rest.strip_prefix("['") {
                let (name, after) = after.split_once("']").ok_or_else(wrong)?;
                steps.push(Step::Name(name.to_owned()));
                rest = after;
            } else {
                let after = rest.strip_prefix('.').ok_or_else(wrong)?;
                let end = after.find(['.', '[']).unwrap_or(after.len());
                let (name, after) = after.split_at(end);
                if name.is_empty() || name.contains(['*', '(', '?', ']', '\'']) {
                    return Err(wrong());
                }
                steps.push(Step::Name(name.to_owned()));
                rest = after;
            }
        }
        Ok(Self { text: text.trim().to_owned(), steps })
    }
}

#[cfg(test)]
mod tests {
    use super::{JsonPath, Place, fields};
    use serde_json::json;
    use serde_json::value::{RawValue, to_raw_value};

    #[test]
    fn rows_are_taken_out() {
        let text = r#"{"data": {"items": [{"id": 1.10}, {"id" : 2}], "none": null}}"#;
        let document: Box<RawValue> = serde_json::from_str(text).unwrap();
        let all = |path: &str| {
            let places = path.parse::<JsonPath>().unwrap().all(&document)?;
            Some(places.into_iter().map(RawValue::get).collect::<Vec<_>>())
        };
        assert_eq!(all("$.data.items[*]").unwrap(), [r#"{"id": 1.10}"#, r#"{"id" : 2}"#]);
        assert_eq!(all("$['data'].items[*].id").unwrap(), ["1.10", "2"]);
        assert_eq!(all("$.data.none[*]").unwrap(), Vec::<&str>::new());
        assert_eq!(all("$.data.gone[*]"), None);
        assert_eq!(all("$.data[*]"), None);
        assert_eq!(all("$").unwrap(), [text]);
    }

    #[test]
    fn one_place_or_none() {
        let document = to_raw_value(&json!({"paging": {"next": null}})).unwrap();
        let known = fields(&document).unwrap().unwrap();
        for (path, found) in [
            ("$.paging.next", Some("null")),
            ("$.paging.x", None),
            ("$.paging.next.x", None),
            ("$.x", None),
            ("$", Some(document.get())),
        ] {
            let path: JsonPath = path.parse().unwrap();
            for place in [path.one(&document), path.one_of(&document, &known)] {
                let text = match place.unwrap() {
                    Place::Value(value) => Some(value.get()),
                    Place::Missing => None,
                };
                assert_eq!(text, found, "{path}");
            }
        }
    }

    #[test]
    fn other_paths_are_refused() {
        for path in ["", "data", "$..x", "$.x[0]", "$.x[?(@.a)]", "$.", "$x", "$['a"] {
            assert!(path.parse::<JsonPath>().is_err(), "{path}");
        }
    }
}
