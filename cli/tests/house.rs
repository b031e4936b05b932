//! The rules of the house that a machine can check: who may import whom, where the distributed runtime is
//! named, that every module says what it is for, that links lead somewhere, that every error code is
//! documented, and that nothing of one machine is written down.
//!
//! Each test collects all that it finds and says what is wrong, where, why the rule exists and what to do.
//! Reads files only: no build, no network. The rules themselves are in `docs/architecture.md` and
//! `docs/style.md`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test: what cannot be read fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// The arrows of `docs/architecture.md`: a crate, and what of ours it may import.
const ARROWS: &[(&str, &[&str])] = &[
    ("engine", &[]),
    ("store", &[]),
    ("connectors", &["engine", "store"]),
    ("coordinator", &["engine"]),
    ("worker", &["engine"]),
    ("cli", &["engine", "connectors", "coordinator", "worker"]),
    ("sql-tests", &["engine", "cli"]),
];

/// The only places that name the distributed runtime, so that replacing it stays possible.
const DISTRIBUTED_RUNTIME_HOMES: &[&str] =
    &["coordinator/src/fragment", "coordinator/src/schedule", "worker/src", "engine/src/codec"];

/// Names that say nothing of what is inside.
const EMPTY_FILE_NAMES: &[&str] =
    &["common", "util", "utils", "helper", "helpers", "misc", "manager", "info", "data", "ext"];

/// Names of crate folders whose package is not called `meshwork-<folder>`.
const PACKAGE_OF_CLI: &str = "meshwork";

#[test]
fn crates_import_only_along_the_arrows() {
    let mut findings = Findings::new(
        "a crate imports another against the arrows",
        "the arrows keep the coordinator, the workers and the sources exchangeable; one wrong \
         arrow and every later change has to be made twice",
        "move the code to the side that may know both, or write a decision in docs/decisions and \
         change the picture in docs/architecture.md together with ARROWS in this file",
    );
    let folders: BTreeMap<String, &str> =
        ARROWS.iter().map(|(folder, _)| (package_of(folder), *folder)).collect();
    for member in workspace_members() {
        let Some((_, allowed)) = ARROWS.iter().find(|(folder, _)| *folder == member) else {
            findings.add(&format!("{member}/Cargo.toml"), "a crate that the picture does not show");
            continue;
        };
        for (table, package) in dependencies_of(&member) {
            let Some(target) = folders.get(&package) else { continue };
            if !allowed.contains(target) {
                findings.add(
                    &format!("{member}/Cargo.toml"),
                    &format!("[{table}] names {package}; {member} may import {allowed:?} of ours"),
                );
            }
        }
    }
    findings.settle();
}

#[test]
fn the_distributed_runtime_is_named_at_home_only() {
    let mut findings = Findings::new(
        "the distributed runtime is named outside its homes",
        "it is young and has sharp edges that the fragment, schedule, worker and codec modules \
         guard; code elsewhere would go around the guards",
        "call what those modules offer, or extend them",
    );
    for file in files_with_extension("rs") {
        let at_home = DISTRIBUTED_RUNTIME_HOMES.iter().any(|home| file.starts_with(home));
        if at_home || file == "cli/tests/house.rs" {
            continue;
        }
        for (number, line) in numbered_lines(&file) {
            if !line.trim_start().starts_with("//") && line.contains("datafusion_distributed") {
                findings.add(&format!("{file}:{number}"), line.trim());
            }
        }
    }
    findings.settle();
}

#[test]
fn every_module_says_what_it_is_for() {
    let mut findings = Findings::new(
        "a module does not open with //!",
        "the one who opens the file first time has to learn from its first lines what it is for, \
         what it must never do and where to look next",
        "open the file with a //! comment that says so",
    );
    for file in files_with_extension("rs") {
        let opens_well = numbered_lines(&file).first().is_some_and(|(_, l)| l.starts_with("//!"));
        if !opens_well {
            findings.add(&file, "the first line is not a //! comment");
        }
    }
    findings.settle();
}

#[test]
fn file_names_say_something() {
    let mut findings = Findings::new(
        "a file or folder has an empty name",
        "the listing is the architecture; whatever lies in such a file could lie anywhere",
        "name it after the noun that users or the code inside say",
    );
    for file in files_with_extension("rs") {
        let parts = Path::new(&file).with_extension("");
        for part in &parts {
            if EMPTY_FILE_NAMES.iter().any(|name| part.eq_ignore_ascii_case(name)) {
                findings.add(&file, &format!("\"{}\" says nothing", part.to_string_lossy()));
            }
        }
    }
    findings.settle();
}

#[test]
fn links_in_the_docs_lead_somewhere() {
    let link = Regex::new(r"\[[^\]]*\]\(([^)\s]+)\)").unwrap();
    let mut findings = Findings::new(
        "a relative link leads nowhere",
        "a newcomer follows the links of the README and the docs; each dead one loses somebody",
        "mend the path, or remove the link",
    );
    for file in files_with_extension("md") {
        let folder = Path::new(&file).parent().unwrap().to_path_buf();
        for (number, line) in prose_lines(&file) {
            for found in link.captures_iter(&line) {
                let target = &found[1];
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let path = target.split('#').next().unwrap();
                if !path.is_empty() && !root().join(&folder).join(path).exists() {
                    findings.add(&format!("{file}:{number}"), &format!("{target} does not exist"));
                }
            }
        }
    }
    findings.settle();
}

#[test]
fn every_error_code_is_documented() {
    let mut findings = Findings::new(
        "the error codes of the source and of docs/errors.md differ",
        "users and clients match on codes; a code that nobody can look up helps nobody, and one \
         that is documented but gone misleads",
        "add or remove its row in docs/errors.md",
    );
    let used = error_codes_in_the_source();
    let row = Regex::new(r"^\| `([A-Z][A-Z0-9_]+)` \|").unwrap();
    let documented: BTreeSet<String> = numbered_lines("docs/errors.md")
        .iter()
        .filter_map(|(_, line)| row.captures(line).map(|found| found[1].to_owned()))
        .collect();
    for (code, place) in &used {
        if !documented.contains(code) {
            findings.add(place, &format!("{code} has no row in docs/errors.md"));
        }
    }
    for code in &documented {
        if !used.contains_key(code) {
            findings.add("docs/errors.md", &format!("{code} is not used by any crate"));
        }
    }
    findings.settle();
}

#[test]
fn nothing_of_one_machine_is_written_down() {
    // Bracketed letters keep this file from finding itself.
    let machine = Regex::new(
        r"/roo[t]/|/wor[k]/|/tm[p]/(lab|bash)|index\.crates\.i[o]|static\.crates\.i[o]|registry\.npmjs\.or[g]|proxy\.golang\.or[g]",
    )
    .unwrap();
    let unfinished = Regex::new(r"\b(FIXM[E]|XX[X]|HAC[K])\b|TOD[O](?:[^(]|$)").unwrap();
    let mut findings = Findings::new(
        "a path, host or word is written down that is nobody else's business",
        "the repository has to read and build the same everywhere; unfinished work belongs to an \
         issue or becomes a clear \"not supported\" error",
        "use a relative path or an environment variable; write TODO(#issue), or do it",
    );
    for extension in ["rs", "md", "toml", "sh", "yml", "yaml", "slt", "sql", "py", "Makefile"] {
        for file in files_with_extension(extension) {
            for (number, line) in numbered_lines(&file) {
                if machine.is_match(&line) || (extension == "rs" && unfinished.is_match(&line)) {
                    findings.add(&format!("{file}:{number}"), line.trim());
                }
            }
        }
    }
    findings.settle();
}

/// What one rule found, and how it explains itself.
struct Findings {
    what: &'static str,
    why: &'static str,
    remedy: &'static str,
    places: Vec<String>,
}

impl Findings {
    fn new(what: &'static str, why: &'static str, remedy: &'static str) -> Self {
        Self { what, why, remedy, places: Vec::new() }
    }

    fn add(&mut self, place: &str, detail: &str) {
        self.places.push(format!("{place}: {detail}"));
    }

    /// Fails the test if anything was found.
    fn settle(self) {
        if self.places.is_empty() {
            return;
        }
        let mut report = format!("{}, {} times:\n", self.what, self.places.len());
        for place in &self.places {
            report.push_str(&format!("  {place}\n"));
        }
        assert!(
            self.places.is_empty(),
            "{report}why it matters: {}\nwhat to do: {}",
            self.why,
            self.remedy
        );
    }
}

/// Returns each code that an error is made with, and a place where that happens.
fn error_codes_in_the_source() -> BTreeMap<String, String> {
    let made = Regex::new(
        r#"(?:Error::(?:user|source|resources)\(|Error::new\(\s*(?:\w+::)*\w+,|Self::(?:user|source|resources)\(|Self::new\(\s*ErrorKind::\w+,)\s*"([A-Z][A-Z0-9_]+)""#,
    )
    .unwrap();
    let mut used = BTreeMap::new();
    for file in files_with_extension("rs") {
        if !file.contains("/src/") {
            continue;
        }
        let whole = read(&file);
        let outside_tests = whole.split("#[cfg(test)]").next().unwrap();
        for found in made.captures_iter(outside_tests) {
            used.entry(found[1].to_owned()).or_insert_with(|| file.clone());
        }
    }
    used
}

fn package_of(folder: &str) -> String {
    match folder {
        "cli" => PACKAGE_OF_CLI.to_owned(),
        other => format!("meshwork-{other}"),
    }
}

fn workspace_members() -> Vec<String> {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    members.iter().map(|member| member.as_str().unwrap().to_owned()).collect()
}

/// Returns (table, package) of all dependencies of a member, those of tests and builds included.
fn dependencies_of(member: &str) -> Vec<(String, String)> {
    let manifest: toml::Table = read(&format!("{member}/Cargo.toml")).parse().unwrap();
    let mut found = Vec::new();
    for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(entries) = manifest.get(table).and_then(|table| table.as_table()) else {
            continue;
        };
        found.extend(entries.keys().map(|package| (table.to_owned(), package.clone())));
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn numbered_lines(file: &str) -> Vec<(usize, String)> {
    read(file).lines().enumerate().map(|(index, line)| (index + 1, line.to_owned())).collect()
}

/// Returns the lines outside fenced code.
fn prose_lines(file: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let outside = |(_, line): &(usize, String)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    };
    numbered_lines(file).into_iter().filter(outside).collect()
}

/// Returns all files whose name ends so, relative to the root, sorted; what is built or hidden is left out.
fn files_with_extension(extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(extension) {
                let relative = path.strip_prefix(root()).unwrap();
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}
