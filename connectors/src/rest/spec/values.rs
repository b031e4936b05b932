//! What the templates of a manifest are filled with: configuration, and secrets by reference.

use std::collections::BTreeMap;

use meshwork_engine::Result;
use meshwork_engine::catalog::Secret;

use super::wrong;

/// What a manifest's templates may refer to.
#[derive(Debug)]
pub(in crate::rest) struct Values {
    pub(in crate::rest) config: BTreeMap<String, String>,
    pub(in crate::rest) secrets: BTreeMap<String, Secret>,
}

impl Values {
    /// Fills `{{config.x}}`; other templates are errors.
    pub(super) fn filled(&self, part: &str, text: &str) -> Result<String> {
        let filled = self.filled_config(part, text)?;
        match filled.contains("{{") || filled.contains("${") {
            true => Err(wrong(part, "has a template that may not stand here")),
            false => Ok(filled),
        }
    }

    /// Fills `{{config.x}}` and leaves `{{filter.x}}`.
    pub(super) fn filled_config(&self, part: &str, text: &str) -> Result<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) =
                after.split_once("}}").ok_or_else(|| wrong(part, "has a {{ without its }}"))?;
            filled.push_str(before);
            match name.trim().split_once('.') {
                Some(("config", key)) => {
                    filled.push_str(self.config.get(key).ok_or_else(|| {
                        wrong(
                            part,
                            &format!("refers to property \"config.{key}\", which is not set"),
                        )
                    })?);
                }
                Some(("filter", key)) => filled.push_str(&format!("{{{{filter.{key}}}}}")),
                _ => {
                    return Err(wrong(
                        part,
                        &format!("has the template {{{{{name}}}}}, which does not exist"),
                    ));
                }
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// A secret is given by reference only: manifests are shown to people.
    pub(super) fn secret(&self, part: &str, text: Option<&String>) -> Result<Secret> {
        let text = text.ok_or_else(|| wrong(part, "is missing"))?;
        let name = text
            .strip_prefix("${secret:")
            .and_then(|rest| rest.strip_suffix('}'))
            .ok_or_else(|| wrong(part, "is no reference like ${secret:name}"))?;
        self.secrets.get(name).cloned().ok_or_else(|| {
            wrong(part, &format!("refers to property \"secret.{name}\", which is not set"))
        })
    }
}
