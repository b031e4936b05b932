//! What the suite saw of a source, as the tables of its page in `docs/connectors`.
//!
//! The page is the golden: a difference fails the case, says what it is, and the command that writes the page anew. A
//! human reads what that changes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::source::Writes;
use crate::suite::Trial;
use crate::{capability_table, type_table};

/// Between these lines of a page nothing is written by hand.
const BEGIN: &str =
    "<!-- What the conformance suite saw begins here; nothing of it is written by hand. -->\n";
const END: &str = "<!-- What the conformance suite saw ends here. -->\n";

/// Set, it writes pages anew instead of failing.
const WRITE: &str = "MESHWORK_WRITE_PAGES";

/// The page says what was seen.
pub(crate) async fn page(trial: &mut Trial) -> Result<()> {
    let mut seen = "\n".to_owned();
    if trial.source.limits().writes != Writes::Never {
        seen.push_str(&Box::pin(type_table::types(trial)).await?);
    }
    seen.push_str(&Box::pin(capability_table::capabilities(trial)).await?);

    let kind = trial.source.kind();
    let file = format!("docs/connectors/{kind}.md");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&file);
    let page = fs::read_to_string(&path).with_context(|| file.clone())?;
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("{file} lacks {BEGIN}"))?;
    let (said, after) = rest.split_once(END).with_context(|| format!("{file} lacks {END}"))?;
    if std::env::var_os(WRITE).is_some() {
        return Ok(fs::write(&path, format!("{before}{BEGIN}{seen}{END}{after}"))?);
    }
    let lines_of = |text: &str, other: &str, mark: char| -> String {
        let only = text.lines().filter(|line| !other.lines().any(|known| known == *line));
        only.map(|line| format!("{mark} {line}\n")).collect()
    };
    let (gone, new) = (lines_of(said, &seen, '-'), lines_of(&seen, said, '+'));
    ensure!(
        said == seen,
        "{file} does not say what was seen:\n{gone}{new}\nIf that is right, write it with\n  \
         {WRITE}=1 MESHWORK_TEST_CASE=page cargo test --workspace --test conformance -- {kind}"
    );
    Ok(())
}
