//! The `zabra` binary.
use clap::Parser;
#[derive(Parser)]
struct Cli { #[command(flatten)] args: zabra::sim::SimArgs }
fn main() -> std::process::ExitCode { std::process::ExitCode::from(zabra::sim::command(&Cli::parse().args)) }
