//! The part of JSONPath that manifests may use: `$`, `.name`, `['name']` and `[*]`.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

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
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place<'a> {
    /// There is a value; it may be `null`.
    Value(&'a Value),
    /// A part of the path is not there; this is the text up to it.
    Missing,
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
    pub(super) fn one<'a>(&self, document: &'a Value) -> Place<'a> {
        let mut value = document;
        for step in &self.steps {
            let next = match step {
                Step::Name(name) => value.get(name),
                Step::All => None,
            };
            match next {
                Some(next) => value = next,
                None => return Place::Missing,
            }
        }
        Place::Value(value)
    }

    /// Takes out all places; `None` if a part of the path is not there or is no list. A `null` in place of
    /// a list is an empty list.
    pub(super) fn take(&self, document: Value) -> Option<Vec<Value>> {
        let mut values = vec![document];
        for step in &self.steps {
            let mut next = Vec::with_capacity(values.len());
            for value in values {
                match (step, value) {
                    (Step::Name(name), Value::Object(mut fields)) => {
                        next.push(fields.remove(name)?);
                    }
                    (Step::All, Value::Array(elements)) => next.extend(elements),
                    (Step::All, Value::Null) => {}
                    (Step::Name(_) | Step::All, _) => return None,
                }
            }
            values = next;
        }
        Some(values)
    }
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
    use super::{JsonPath, Place};
    use serde_json::json;

    #[test]
    fn rows_are_taken_out() {
        let document = json!({"data": {"items": [{"id": 1}, {"id": 2}], "none": null}});
        let take = |path: &str| path.parse::<JsonPath>().unwrap().take(document.clone());
        assert_eq!(take("$.data.items[*]").unwrap().len(), 2);
        assert_eq!(take("$['data'].items[*].id").unwrap(), [json!(1), json!(2)]);
        assert_eq!(take("$.data.none[*]").unwrap(), Vec::<serde_json::Value>::new());
        assert_eq!(take("$.data.gone[*]"), None);
        assert_eq!(take("$.data[*]"), None);
        assert_eq!(take("$").unwrap(), std::slice::from_ref(&document));
    }

    #[test]
    fn one_place_or_none() {
        let document = json!({"paging": {"next": null}});
        let path: JsonPath = "$.paging.next".parse().unwrap();
        assert_eq!(path.one(&document), Place::Value(&serde_json::Value::Null));
        assert_eq!("$.paging.x".parse::<JsonPath>().unwrap().one(&document), Place::Missing);
    }

    #[test]
    fn other_paths_are_refused() {
        for path in ["", "data", "$..x", "$.x[0]", "$.x[?(@.a)]", "$.", "$x", "$['a"] {
            assert!(path.parse::<JsonPath>().is_err(), "{path}");
        }
    }
}
