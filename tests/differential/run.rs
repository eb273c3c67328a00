//! The command: options, the two sides at work, progress, the table at the end.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;

use super::compare::{self, Difference, Hits};
use super::play::{Player, Transcript};
use super::script::{Ask, Op, Script, Shape, Step};
use super::servers::Make;
use super::{generate, normalise, only, rules, shrink, tame};

/// Sequences that are played before they are compared.
const CHUNK: u64 = 25;

/// Where in the reply to a setData the version stands: behind the header and four longs of the Stat.
const VERSION_AT: usize = 48;

/// Sequences within which a lie must have shown.
const SELF_TEST_SEQUENCES: u64 = 500;

/// Requests that a found lie must come down to: a znode, two changes of it, and one to spare.
const SELF_TEST_SIZE: usize = 4;

/// Compares zabra with Apache ZooKeeper, operation by operation.
#[derive(Parser, Debug)]
pub struct Options {
    /// How many sequences on each shape.
    #[arg(long, default_value_t = 300)]
    sequences: u64,
    /// The seed of the first.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which servers: standalone, extended, ensemble, local.
    #[arg(long, value_delimiter = ',', default_value = "standalone,extended,ensemble,local")]
    shapes: Vec<String>,
    /// Gives up after that many differences: the first ones tell enough.
    #[arg(long, default_value_t = 5)]
    enough: usize,
    /// Plays these scripts first.
    #[arg(long)]
    cases: Option<PathBuf>,
    /// Lets zabra's side lie first, to see that it is found out.
    #[arg(long)]
    self_test: bool,
    /// Prints the sequences and plays none.
    #[arg(long)]
    print: bool,
    /// Plays a script instead, and prints what it shows.
    #[arg(long)]
    replay: Option<PathBuf>,
}

/// Both sides of a shape.
struct Pair {
    apache: Player,
    zabra: Player,
}

/// What a run has found.
#[derive(Default)]
struct Tally {
    sequences: u64,
    operations: usize,
    hits: Hits,
    differences: usize,
    /// Parts of the run without a difference, and with one.
    passed: usize,
    failed: usize,
}

/// Runs; returns whether all was right.
///
/// # Errors
///
/// What keeps it from running.
pub fn run(options: &Options) -> Result<bool, String> {
    if let Some(path) = &options.replay {
        return replay(&read(path)?);
    }
    let shapes: Vec<Shape> = options.shapes.iter().map(|name| shape(name)).collect::<Result<_, _>>()?;
    if options.print {
        shapes.into_iter().for_each(|shape| print(options, shape));
        return Ok(true);
    }
    let began = Instant::now();
    let mut tally = Tally::default();
    if options.self_test {
        let found = self_test();
        println!("a lie is found and made small: {}", found.as_ref().err().unwrap_or(&"yes".to_string()));
        tally.count(found.is_ok());
    }
    let cases = options.cases.as_deref().map_or(Ok(vec![]), cases)?;
    for shape in shapes {
        let mut pair = Pair::start(shape)?;
        for (name, script) in cases.iter().filter(|(_, script)| script.head.shape == shape) {
            let difference = pair.difference(script, &mut tally.hits)?;
            if let Some(difference) = &difference {
                println!("{name} differs: {difference}");
                tally.differences += 1;
            }
            tally.count(difference.is_none());
        }
        pair.sequences(options, shape, &mut tally)?;
    }
    summary(&tally, began);
    Ok(tally.failed == 0)
}

fn shape(name: &str) -> Result<Shape, String> {
    serde_json::from_value(serde_json::Value::String(name.to_string()))
        .map_err(|_| format!("--shapes {name}: the shapes are standalone, extended, ensemble, local"))
}

fn read(path: &Path) -> Result<Script, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let script = Script::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(tame::tame(&script, &mut Hits::new()))
}

/// The scripts of a directory, by name.
fn cases(dir: &Path) -> Result<Vec<(String, Script)>, String> {
    let unreadable = |error| format!("{}: {error}", dir.display());
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(unreadable)?;
    paths.sort();
    paths.iter().map(|path| Ok((path.display().to_string(), read(path)?))).collect()
}

impl Tally {
    fn count(&mut self, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }
}

impl Pair {
    fn start(shape: Shape) -> Result<Pair, String> {
        std::thread::scope(|scope| {
            let apache = scope.spawn(|| Player::start(Make::Apache, shape));
            let zabra = Player::start(Make::Zabra, shape);
            Ok(Pair { apache: apache.join().expect("it does not panic")?, zabra: zabra? })
        })
    }

    /// Plays scripts on both sides at once.
    fn play(&mut self, scripts: &[Script]) -> Result<Vec<(Transcript, Transcript)>, String> {
        fn all(player: &mut Player, scripts: &[Script]) -> Result<Vec<Transcript>, String> {
            let play = |script: &Script| {
                player.play(script).map_err(|error| format!("{error}\nthe sequence:\n{script}"))
            };
            scripts.iter().map(play).collect()
        }
        let Pair { apache, zabra } = self;
        std::thread::scope(|scope| {
            let apache = scope.spawn(|| all(apache, scripts));
            let zabra = all(zabra, scripts);
            Ok(apache.join().expect("it does not panic")?.into_iter().zip(zabra?).collect())
        })
    }

    fn difference(&mut self, script: &Script, hits: &mut Hits) -> Result<Option<Difference>, String> {
        let played = self.play(std::slice::from_ref(script))?;
        Ok(played.iter().find_map(|(apache, zabra)| compare::compare(script, apache, zabra, hits)))
    }

    fn sequences(&mut self, options: &Options, shape: Shape, tally: &mut Tally) -> Result<(), String> {
        let began = Instant::now();
        let before = (tally.operations, tally.differences);
        let mut at = options.seed;
        let end = options.seed + options.sequences;
        while at < end && tally.differences < options.enough {
            let seeds = at..end.min(at + CHUNK);
            at = seeds.end;
            let scripts: Vec<Script> =
                seeds.map(|seed| tame::tame(&generate::script(seed, shape), &mut tally.hits)).collect();
            let mut different = false;
            for (script, (apache, zabra)) in scripts.iter().zip(self.play(&scripts)?) {
                tally.sequences += 1;
                tally.operations += script.operations();
                if let Some(difference) = compare::compare(script, &apache, &zabra, &mut tally.hits) {
                    tally.differences += 1;
                    self.report(script, &difference)?;
                    different = true;
                }
            }
            if different {
                // The two have gone different ways; what follows is to begin alike again.
                *self = Pair::start(shape)?;
            }
            let rate = (tally.operations - before.0) as f64 / began.elapsed().as_secs_f64();
            eprint!(
                "\r{shape:?}: {} of {} sequences, {rate:.0} operations/s  ",
                at - options.seed,
                options.sequences
            );
        }
        eprintln!();
        tally.count(tally.differences == before.1);
        Ok(())
    }

    /// Makes a failing sequence small and prints it.
    fn report(&mut self, script: &Script, difference: &Difference) -> Result<(), String> {
        println!("\nseed {} differs: {difference}", script.head.seed);
        let small = self.shrink(script)?;
        match self.difference(&small, &mut Hits::new())? {
            Some(difference) => println!("made small, at {difference}\n{small}"),
            None => println!("it did not show again\n{small}"),
        }
        println!("to play it again: write these lines to FILE, and differential --replay FILE");
        Ok(())
    }

    fn shrink(&mut self, script: &Script) -> Result<Script, String> {
        let mut trouble = None;
        let small = shrink::shrink(script, |candidate| {
            let candidate = tame::tame(candidate, &mut Hits::new());
            match self.difference(&candidate, &mut Hits::new()) {
                Ok(difference) => difference.is_some(),
                Err(error) => {
                    trouble.get_or_insert(error);
                    false
                }
            }
        });
        trouble.map_or(Ok(tame::tame(&small, &mut Hits::new())), Err)
    }
}

/// From the second change of `/d/a` on, its version is one too high.
fn lie(ask: &Ask, payload: &mut [u8]) {
    if let (Op::SetData { .. }, Some("/d/a"), Some(version)) =
        (&ask.op, ask.op.path(), payload.get_mut(VERSION_AT + 3))
        && *version >= 2
    {
        *version += 1;
    }
}

/// A side that lies is found out, and its sequence made small.
fn self_test() -> Result<(), String> {
    let mut pair = Pair::start(Shape::Standalone)?;
    pair.zabra.lie = Some(lie);
    for seed in 1..=SELF_TEST_SEQUENCES {
        let script = tame::tame(&generate::script(seed, Shape::Standalone), &mut Hits::new());
        if pair.difference(&script, &mut Hits::new())?.is_none() {
            continue;
        }
        let small = pair.shrink(&script)?;
        let asks: Vec<&Ask> = small.steps.iter().flat_map(Step::asks).collect();
        let about_it = asks.last().is_some_and(|ask| matches!(ask.op, Op::SetData { .. }));
        if about_it && asks.len() <= SELF_TEST_SIZE {
            return Ok(());
        }
        return Err(format!("no, seed {seed} came down to\n{small}"));
    }
    Err(format!("no, {SELF_TEST_SEQUENCES} sequences did not show it"))
}

fn print(options: &Options, shape: Shape) {
    for seed in options.seed..options.seed + options.sequences {
        println!("{}", tame::tame(&generate::script(seed, shape), &mut Hits::new()));
    }
}

/// Plays a script and prints all that it shows.
fn replay(script: &Script) -> Result<bool, String> {
    let mut pair = Pair::start(script.head.shape)?;
    let played = pair.play(std::slice::from_ref(script))?;
    let (apache, zabra) = &played[0];
    let sides =
        [("apache", normalise::normalise(script, apache)), ("zabra ", normalise::normalise(script, zabra))];
    for (n, step) in script.steps.iter().enumerate() {
        println!("{}  {}", n + 1, serde_json::to_string(step).map_err(|error| error.to_string())?);
        for (side, shown) in &sides {
            for (conn, seen) in &shown[n] {
                seen.iter().for_each(|seen| println!("    {side} {conn}: {seen:?}"));
            }
        }
    }
    let difference = compare::compare(script, apache, zabra, &mut Hits::new());
    match &difference {
        Some(difference) => println!("differs at {difference}"),
        None => println!("no difference"),
    }
    Ok(difference.is_none())
}

fn summary(tally: &Tally, began: Instant) {
    let row = |name: &str, reason: &str| {
        println!("  {:>8}  {name}: {reason}", tally.hits.get(name).copied().unwrap_or(0));
    };
    println!("differences that are right, and how often they were needed:");
    rules::RULES.iter().for_each(|rule| row(rule.name, rule.reason));
    println!("asked of zabra alone:");
    only::ONLY.iter().for_each(|only| println!("            {}: {}", only.name, only.reason));
    println!("left out of the sequences, and how often they had to be changed for it:");
    tame::RESTRICTIONS.iter().for_each(|(name, reason)| row(name, reason));
    if !tame::NOT_YET.is_empty() {
        let names: Vec<&str> = tame::NOT_YET.iter().map(|(_, name)| *name).collect();
        println!("not served yet: {}", names.join(", "));
    }
    let Tally { sequences, operations, differences, .. } = tally;
    let seconds = began.elapsed().as_secs();
    println!("{sequences} sequences, {operations} operations, {differences} differences, {seconds} s");
    println!("differential: {} passed, {} failed", tally.passed, tally.failed);
}
