//! The one binary of Meshwork.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use meshwork::demo::{self, DemoArgs};
use meshwork::memory::{self, Allocator};
use meshwork::node::{self, CoordinatorArgs, StandaloneArgs, WorkerArgs};
use meshwork::shell::{self, SqlArgs};

/// Plans and batches are many small pieces of memory; see docs/decisions/0011.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Meshwork: one SQL endpoint over all your data products.
#[derive(Debug, Parser)]
#[command(name = "meshwork", version, about)]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Runs everything in one process, with nothing to configure.
    Standalone(StandaloneArgs),
    /// Plans queries for the workers that announce themselves.
    Coordinator(CoordinatorArgs),
    /// Runs tasks for a coordinator.
    Worker(WorkerArgs),
    /// Lays out sample sources, runs three queries over them, and stays up.
    Demo(DemoArgs),
    /// Asks a server, from a prompt or from the command line.
    Sql(SqlArgs),
}

fn main() -> ExitCode {
    memory::keep_freed();
    let command = Command::parse();
    meshwork_engine::telemetry::start_logging();
    let ended = match command.what {
        What::Standalone(args) => node::with_runtimes(node::standalone(args)),
        What::Coordinator(args) => node::with_runtimes(node::coordinator(args)),
        What::Worker(args) => node::with_runtimes(node::worker(args)),
        What::Demo(args) => node::with_runtimes(demo::run(args)),
        What::Sql(args) => node::with_one_thread(shell::run(args)),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the last word of the process to its user")]
fn print_error(error: &anyhow::Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
    if let Some(ours) = error.downcast_ref::<meshwork_engine::Error>() {
        ours.causes.iter().for_each(|cause| eprintln!("  because: {cause}"));
        ours.hint.iter().for_each(|hint| eprintln!("  {hint}"));
    }
}
