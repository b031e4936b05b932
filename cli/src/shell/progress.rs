//! The progress line: what the query does, in the last line of the terminal, while it runs.
//!
//! Asks the server twice a second; dropping it clears the line. Nothing is shown where the standard
//! error is not a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use meshwork_engine::environment::{self, Task};

use super::report::{grouped, rows};
use crate::client::{Client, Progress};

const INTERVAL: Duration = Duration::from_millis(500);

/// A progress line that is shown as long as this lives.
#[derive(Debug)]
pub(super) struct ProgressLine {
    bar: ProgressBar,
    _asking: Option<Task<()>>,
}

impl ProgressLine {
    /// Begins a line that says that the statement is being planned.
    pub(super) fn begin() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message("planning");
        if std::io::stderr().is_terminal() {
            bar.enable_steady_tick(INTERVAL);
        }
        Self { bar, _asking: None }
    }

    /// Goes on with what the server says of the query.
    pub(super) fn follow(&mut self, mut client: Client, query_id: &str) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let (bar, query_id) = (self.bar.clone(), query_id.to_owned());
        bar.set_message("running");
        self._asking = Some(environment::spawn("shell progress", async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                // A server that does not answer now may answer the next time.
                if let Ok(progress) = client.progress(&query_id).await {
                    bar.set_message(describe(&progress));
                }
            }
        }));
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn describe(progress: &Progress) -> String {
    let Progress { state, rows: n_rows, stages, tasks } = progress;
    let mut text = state.to_lowercase();
    if *stages > 0 {
        text.push_str(&format!("  {stages} stages  {} tasks", grouped(*tasks)));
    }
    text.push_str("  ");
    text.push_str(&rows(*n_rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_state_stages_and_rows() {
        let progress = Progress { state: "RUNNING".into(), rows: 1234, stages: 3, tasks: 8 };
        assert_eq!(describe(&progress), "running  3 stages  8 tasks  1,234 rows");
    }
}
