//! The prompt: lines in, statements out, until `\q`.
//!
//! It runs on a thread of its own, because reading keys blocks; statements run on the runtime.

use std::borrow::Cow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use meshwork_coordinator::frontend::sql_text;
use meshwork_engine::environment;
use parking_lot::Mutex;
use reedline::{
    ColumnarMenu, DefaultHinter, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder,
    Prompt, PromptEditMode, PromptHistorySearch, Reedline, ReedlineEvent, ReedlineMenu, Signal,
    ValidationResult, Validator, default_emacs_keybindings,
};
use tokio::runtime::Handle;

use super::Format;
use super::complete::NameCompleter;
use super::names::Names;
use super::output::Target;
use super::report;
use super::statement::{Outcome, Runner};
use crate::client::Client;

const HISTORY_LINES: usize = 10_000;
const MENU: &str = "completion";

const HELP: &str = "\
Statements end with a semicolon and may span lines. Tab completes; Ctrl-C cancels; Ctrl-D leaves.
  \\l            catalogs
  \\d            tables of the current schema
  \\d NAME       columns of a table
  \\x            switch between table and one line for each value
  \\format NAME  table, csv, json or vertical
  \\?            this help
  \\q            leave";

/// Runs the prompt until its user leaves.
pub(super) async fn run(client: Client, mut target: Target) -> anyhow::Result<ExitCode> {
    target.is_interactive = true;
    let runtime = Handle::current();
    let prompt = environment::spawn_blocking("shell prompt", move || {
        Shell::new(client, target, runtime)?.run()
    });
    prompt.await?
}

struct Shell {
    runner: Runner,
    names: Arc<Mutex<Names>>,
    editor: Reedline,
    runtime: Handle,
}

/// What a line asks for.
enum Wish {
    Leave,
    Help,
    Sql(String),
    SwitchFormat(Format),
    Unknown(String),
}

impl Shell {
    fn new(client: Client, target: Target, runtime: Handle) -> anyhow::Result<Self> {
        let names = Arc::new(Mutex::new(Names::new(client.clone())));
        let completer = NameCompleter { runtime: runtime.clone(), names: Arc::clone(&names) };
        Ok(Self { runner: Runner::new(client, target), editor: editor(completer)?, names, runtime })
    }

    fn run(mut self) -> anyhow::Result<ExitCode> {
        report::note("Meshwork. \\? helps, \\q leaves.");
        loop {
            let signal = self.editor.read_line(&SqlPrompt);
            let goes_on = match signal.context("cannot read from the terminal")? {
                Signal::Success(text) => self.take(&text)?,
                Signal::CtrlD => false,
                // Ctrl-C throws the begun line away; the editor has no other signals for us.
                _ => true,
            };
            if !goes_on {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    /// Does what the text asks for; false when its user leaves.
    fn take(&mut self, text: &str) -> anyhow::Result<bool> {
        match wish(text, self.runner.target.format) {
            Wish::Leave => return Ok(false),
            Wish::Help => report::note(HELP),
            Wish::SwitchFormat(format) => self.runner.target.format = format,
            Wish::Unknown(command) => report::note(&format!("{command} is not known; \\? helps")),
            Wish::Sql(sql) => self.run_all(&sql)?,
        }
        Ok(true)
    }

    fn run_all(&mut self, sql: &str) -> anyhow::Result<()> {
        for statement in sql_text::statements(sql) {
            let outcome = self.runtime.block_on(self.runner.run(statement.text))?;
            if !is_query(statement.text) {
                self.names.lock().forget();
            }
            if outcome != Outcome::Done {
                break;
            }
        }
        Ok(())
    }
}

fn wish(text: &str, format: Format) -> Wish {
    let text = text.trim();
    let (command, argument) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match (command, argument.trim().trim_end_matches(';')) {
        ("\\q" | "quit" | "exit" | "quit;" | "exit;", "") => Wish::Leave,
        ("\\?" | "\\h" | "help" | "help;", "") => Wish::Help,
        ("\\l", "") => Wish::Sql("SHOW CATALOGS".to_owned()),
        ("\\d", "") => Wish::Sql("SHOW TABLES".to_owned()),
        ("\\d", table) => Wish::Sql(format!("DESCRIBE {table}")),
        ("\\x", "") if format == Format::Vertical => Wish::SwitchFormat(Format::Table),
        ("\\x", "") => Wish::SwitchFormat(Format::Vertical),
        ("\\format", "table") => Wish::SwitchFormat(Format::Table),
        ("\\format", "csv") => Wish::SwitchFormat(Format::Csv),
        ("\\format", "json") => Wish::SwitchFormat(Format::Json),
        ("\\format", "vertical") => Wish::SwitchFormat(Format::Vertical),
        (command, _) if command.starts_with('\\') => Wish::Unknown(text.to_owned()),
        _ => Wish::Sql(text.to_owned()),
    }
}

/// Whether the statement changes no names.
fn is_query(sql: &str) -> bool {
    let first = sql.split_whitespace().next().unwrap_or_default();
    ["SELECT", "WITH", "SHOW", "DESCRIBE", "EXPLAIN", "VALUES", "TABLE"]
        .iter()
        .any(|query| first.eq_ignore_ascii_case(query))
}

fn editor(completer: NameCompleter) -> anyhow::Result<Reedline> {
    let mut keys = default_emacs_keybindings();
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(vec![
            ReedlineEvent::Menu(MENU.to_owned()),
            ReedlineEvent::MenuNext,
        ]),
    );
    let menu = Box::new(ColumnarMenu::default().with_name(MENU));
    let editor = Reedline::create()
        .with_completer(Box::new(completer))
        .with_menu(ReedlineMenu::EngineCompleter(menu))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_validator(Box::new(EndsWithSemicolon))
        .with_hinter(Box::new(DefaultHinter::default()))
        .with_history_exclusion_prefix(Some(" ".to_owned()));
    let Some(path) = history_path() else { return Ok(editor) };
    prepare_history(&path).with_context(|| format!("cannot write to {}", path.display()))?;
    let history = FileBackedHistory::with_file(HISTORY_LINES, path.clone())
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(editor.with_history(Box::new(history)))
}

fn history_path() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(|| {
        let home = PathBuf::from(std::env::var_os("HOME")?);
        Some(home.join(".local").join("state"))
    })?;
    Some(folder.join("meshwork").join("history"))
}

/// Creates the file if it is missing; only its owner may read it, since statements can hold
/// secrets.
fn prepare_history(path: &std::path::Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(|_file| ())
}

/// Keeps the editor on a statement until its semicolon.
struct EndsWithSemicolon;

impl Validator for EndsWithSemicolon {
    fn validate(&self, text: &str) -> ValidationResult {
        let is_command = matches!(wish(text, Format::Table), Wish::Leave | Wish::Help)
            || text.trim_start().starts_with('\\');
        let is_ended = sql_text::statements(text).last().is_none_or(|last| last.ended);
        match is_command || is_ended {
            true => ValidationResult::Complete,
            false => ValidationResult::Incomplete,
        }
    }
}

struct SqlPrompt;

impl Prompt for SqlPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed("meshwork")
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("      ..> ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!("search {}: ", search.term))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_complete_with_its_semicolon_or_as_a_command() {
        let is_complete =
            |text: &str| matches!(EndsWithSemicolon.validate(text), ValidationResult::Complete);
        for text in ["SELECT 1;", "SELECT ';';", "", "\\d x", "quit", "SELECT 1; -- done"] {
            assert!(is_complete(text), "{text}");
        }
        for text in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT 2", "/* ; */ SELECT"] {
            assert!(!is_complete(text), "{text}");
        }
    }

    #[test]
    fn commands_become_statements() {
        let sql = |text: &str| match wish(text, Format::Table) {
            Wish::Sql(sql) => sql,
            _ => panic!("not a statement"),
        };
        assert_eq!(sql("\\d lake.tpch.nation"), "DESCRIBE lake.tpch.nation");
        assert_eq!(sql("SELECT 1;"), "SELECT 1;");
        assert!(matches!(wish("\\nonsense", Format::Table), Wish::Unknown(_)));
    }
}
