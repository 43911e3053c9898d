//! The `parlor` binary: arguments, and everything else in the library.

use clap::Parser;
use parlor::options::cli::Cli;
use parlor::supervisor;
use std::process::ExitCode;

fn main() -> ExitCode {
    supervisor::run(&Cli::parse())
}
