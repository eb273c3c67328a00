//! The `zabra` binary: reads the command line, and turns what comes out into an exit code.

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use slog::{error, o};
use zabra::bench::{self, BenchArgs};
use zabra::boot::{self, Failure};
use zabra::cli;
use zabra::config::{ConfigArgs, EXIT_CONFIG};
use zabra::data::{self, DataArgs};
use zabra::logging::{self, LogArgs};
use zabra::sim::{self, SimArgs};
use zabra::status;
use zabra::up::{self, UpArgs};
use zabra_actors::types::Sid;

const EXAMPLES: &str = "\
Examples:
  zabra                                  all servers of cluster.toml on this machine
  zabra up --set timing.tick_time=500ms  the same with another tick
  zabra serve --config /etc/zabra.toml --id 1
  zabra status --json

Configuration, the later wins: the file; variables as ZABRA_TIMING__TICK_TIME=500ms; --set.

Exit codes: 0 stopped as asked, 1 something failed, 2 wrong command line or configuration,
3 the disk failed or holds what it must not hold.";

/// This machine's disk: see [`Failure::Disk`].
const EXIT_DISK: u8 = 3;

const UP_EXAMPLES: &str = "\
Creates the data directories, starts one process for each [[server]], shows how they come up, and prints
the status table once a quorum serves. Log lines go to standard error with the server's id before each.
A server that dies is reported and not restarted. Ctrl-C or SIGTERM stops all; a second one kills them.

Examples:
  zabra up
  zabra up --config test.toml --log-level debug
  ZABRA_CLUSTER__DATA_DIR=/tmp/zabra zabra up
  zabra up --log-format json 2>zabra.log";

const SERVE_EXAMPLES: &str = "\
Ctrl-C or SIGTERM stops the server orderly.

Examples:
  zabra serve --config /etc/zabra/cluster.toml --id 2
  zabra serve --id 2 --log-format json --log-level warning";

const STATUS_EXAMPLES: &str = "\
Asks every server's admin address at the same time; a server that does not answer is a line too.
Exit code 0 if a quorum serves, 1 if not.

Examples:
  zabra status
  zabra status --config /etc/zabra/cluster.toml --json";

const BENCH_EXAMPLES: &str = "\
Works against any ZooKeeper server, so that servers can be compared. Makes its znodes below one of its own
and deletes them at the end.

Examples:
  zabra bench --workload read --connections 8 --pipeline 16
  zabra bench --servers 127.0.0.1:2181,127.0.0.1:2182 --workload mixed --read-percent 90 --json";

const SIM_EXAMPLES: &str = "\
Production code with simulated clock, network and disks: servers are killed or lose power, links are reset
and stalled, disks fail; then everything heals, and nothing acknowledged may be lost.
Exit code 0 if all is well, 1 with the story of the first run that is not.

Examples:
  zabra sim --seeds 0..500 --jobs 2
  zabra sim --seed 42 --participants 5 --trace";

/// Apache ZooKeeper's coordination service, rebuilt in Rust out of actors
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    up: UpArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole ensemble on this machine, a process for each server (the default)
    #[command(after_help = UP_EXAMPLES)]
    Up(UpArgs),
    /// Run one server in the foreground
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// Show what the servers say about themselves
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Measure any ZooKeeper ensemble: throughput and latency
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// Check, show, repair, back up and restore a server's directory, also one of Apache's
    #[command(subcommand_required = true)]
    Data(DataArgs),
    /// A shell for any ZooKeeper ensemble, as zkCli.sh
    #[command(disable_help_flag = true)]
    Cli(CliArgs),
    /// Simulate an ensemble under faults; the same seed gives the same run
    #[command(after_help = SIM_EXAMPLES)]
    Sim(SimArgs),
}

#[derive(Args)]
struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Which [[server]] of the configuration this process is
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=254))]
    id: u8,
    #[command(flatten)]
    log: LogArgs,
    /// Stop when standard input ends: `up` holds its other end
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

/// All of it is the shell's own: its options are those of zkCli, which no other command has.
#[derive(Args)]
struct CliArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

#[derive(Args)]
struct StatusArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match cli.command.unwrap_or(Command::Up(cli.up)) {
        Command::Up(args) => up(&args),
        Command::Serve(args) => serve(&args),
        Command::Status(args) => status(&args),
        Command::Bench(args) => bench(args),
        Command::Data(args) => data::run(args),
        Command::Cli(args) => block_on(async { Ok(cli::run(args.words).await) }),
        Command::Sim(args) => Ok(sim::command(&args)),
    };
    ExitCode::from(code.unwrap_or_else(explain))
}

fn up(args: &UpArgs) -> Result<u8, Failure> {
    let (log, flush) = logging::logger(&args.log);
    logging::abort_on_panic(&log, &flush);
    let code = block_on(up::run(args, log));
    flush.now();
    code
}

fn serve(args: &ServeArgs) -> Result<u8, Failure> {
    let cluster = Arc::new(args.config.load()?);
    cluster.server(Sid(args.id))?;
    let (log, flush) = logging::logger(&args.log);
    let log = log.new(o!("server" => args.id));
    logging::abort_on_panic(&log, &flush);
    let served = boot::serve(cluster, Sid(args.id), log.clone(), args.exit_with_stdin);
    match &served {
        Err(Failure::System(e)) => error!(log, "Severe unrecoverable error, exiting"; "error" => %e),
        Err(Failure::Disk(fault)) => error!(log, "Severe unrecoverable error, exiting"; "error" => %fault),
        _ => {}
    }
    flush.now();
    served.map(|()| 0)
}

fn status(args: &StatusArgs) -> Result<u8, Failure> {
    let cluster = args.config.load()?;
    let answers = block_on(async { Ok(status::ask_all(&cluster).await) })?;
    let text = if args.json {
        format!("{}\n", status::json(&cluster, &answers))
    } else {
        status::table(&cluster, &answers)
    };
    // A reader that has seen enough (`| head`) is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(u8::from(status::quorum(&cluster, &answers).is_none()))
}

fn bench(args: BenchArgs) -> Result<u8, Failure> {
    let measured = block_on(async { Ok(bench::run(args).await) })?;
    match measured {
        Ok(()) => Ok(0),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "zabra: {error}");
            Ok(1)
        }
    }
}

/// Runs what needs no actors on this thread.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(work);
    // A look-up of a name that still hangs must not hold up the end.
    runtime.shutdown_background();
    done
}

/// One line for the operator, and the exit code that goes with it.
fn explain(failure: Failure) -> u8 {
    let (line, code) = match failure {
        Failure::Config(error) => (error.to_string(), EXIT_CONFIG),
        Failure::System(error) => (error.to_string(), 1),
        Failure::Disk(fault) => (fault.to_string(), EXIT_DISK),
    };
    let _ = writeln!(std::io::stderr(), "zabra: {line}");
    code
}
