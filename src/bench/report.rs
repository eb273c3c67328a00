//! Counting replies and saying what came out, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use super::{BenchArgs, Workload};
use crate::client::{Error, Reply};

/// Significant digits of a latency: 0.1 %.
const DIGITS: u8 = 3;

/// Kinds of error told apart in a report; more are counted together.
const MAX_ERRORS: usize = 16;

/// Which histogram a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

/// Everything that lanes have seen.
pub(super) struct Recorder {
    start: Instant,
    end: Instant,
    /// All good replies, outside of the window too: for the progress line.
    answered: u64,
    reads: Histogram<u64>,
    writes: Histogram<u64>,
    errors: BTreeMap<String, u64>,
}

impl Recorder {
    /// For replies that arrive from `start` on and before `end`.
    pub(super) fn new(start: Instant, end: Instant) -> Recorder {
        let histogram = || Histogram::new(DIGITS).expect("3 digits are allowed");
        Recorder { start, end, answered: 0, reads: histogram(), writes: histogram(), errors: BTreeMap::new() }
    }

    pub(super) fn reply(&mut self, kind: Kind, since: Instant, now: Instant, result: &Result<Reply, Error>) {
        match result {
            Ok(reply) => match &reply.result {
                Ok(_) => self.good(kind, since, now),
                Err(error) => self.error(&Error::Zk(*error)),
            },
            Err(error) => self.error(error),
        }
    }

    fn good(&mut self, kind: Kind, since: Instant, now: Instant) {
        self.answered += 1;
        if now < self.start || now >= self.end {
            return;
        }
        let latency = u64::try_from((now - since).as_micros()).unwrap_or(u64::MAX);
        let histogram = match kind {
            Kind::Read => &mut self.reads,
            Kind::Write => &mut self.writes,
        };
        histogram.record(latency.max(1)).expect("it grows as needed");
    }

    /// Errors count whenever they happen: a warm-up with errors is no good either.
    pub(super) fn error(&mut self, error: &Error) {
        let mut text = error.to_string();
        if self.errors.len() >= MAX_ERRORS && !self.errors.contains_key(&text) {
            text = "others".into();
        }
        *self.errors.entry(text).or_default() += 1;
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.end
    }

    /// Ends the window now, if it is not over yet.
    pub(super) fn stop(&mut self, now: Instant) {
        self.end = self.end.min(now.max(self.start));
    }

    pub(super) fn report(&self, args: &BenchArgs) -> Report {
        let seconds = (self.end - self.start).as_secs_f64();
        let mut all = self.reads.clone();
        all.add(&self.writes).expect("it grows as needed");
        Report {
            workload: format!("{:?}", args.workload).to_lowercase(),
            read_percent: match args.workload {
                Workload::Read => 100,
                Workload::Mixed => args.read_percent,
                Workload::Write | Workload::Create => 0,
            },
            connections: args.connections,
            pipeline: args.pipeline,
            size: args.size,
            seconds,
            reads: Figures::of(&self.reads, seconds),
            writes: Figures::of(&self.writes, seconds),
            total: Figures::of(&all, seconds),
            errors: self.errors.clone(),
        }
    }
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// As asked for.
    pub workload: String,
    /// Share of reads.
    pub read_percent: u8,
    /// Sessions.
    pub connections: u32,
    /// Requests in flight on each.
    pub pipeline: u32,
    /// Bytes of data of each znode.
    pub size: u32,
    /// Length of the measured window.
    pub seconds: f64,
    /// Good reads.
    pub reads: Figures,
    /// Good writes.
    pub writes: Figures,
    /// Both together.
    pub total: Figures,
    /// How often each error occurred, warm-up included.
    pub errors: BTreeMap<String, u64>,
}

/// Throughput, and latencies in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct Figures {
    pub count: u64,
    pub per_second: f64,
    pub mean_us: f64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

impl Figures {
    fn of(histogram: &Histogram<u64>, seconds: f64) -> Figures {
        let count = histogram.len();
        Figures {
            count,
            per_second: if seconds > 0.0 { count as f64 / seconds } else { 0.0 },
            mean_us: histogram.mean(),
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} ({}% reads), {} connections with {} in flight, {} bytes, {:.1} s",
            self.workload, self.read_percent, self.connections, self.pipeline, self.size, self.seconds
        )?;
        writeln!(
            f,
            "{:7} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "", "requests", "per s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"
        )?;
        for (name, figures) in [("reads", self.reads), ("writes", self.writes), ("total", self.total)] {
            if figures.count > 0 || name == "total" {
                writeln!(f, "{name:7} {figures}")?;
            }
        }
        match self.errors.values().sum::<u64>() {
            0 => writeln!(f, "no errors"),
            sum => {
                writeln!(f, "{sum} errors:")?;
                self.errors.iter().try_for_each(|(error, count)| writeln!(f, "{count:>10} x {error}"))
            }
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10} {:>10.0}", self.count, self.per_second)?;
        for us in [self.p50_us, self.p90_us, self.p99_us, self.p999_us, self.max_us] {
            write!(f, " {:>9.3}", us as f64 / 1000.0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::client::{ReplyBody, ZkError, Zxid};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn reply(result: Result<ReplyBody, ZkError>) -> Result<Reply, Error> {
        Ok(Reply { xid: 1, zxid: Zxid(1), result })
    }

    #[test]
    fn only_the_window_counts() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let mut recorder = Recorder::new(at(100), at(1100));
        let good = reply(Ok(ReplyBody::Empty));
        recorder.reply(Kind::Read, at(90), at(99), &good);
        recorder.reply(Kind::Read, at(90), at(100), &good);
        recorder.reply(Kind::Write, at(1000), at(1020), &good);
        recorder.reply(Kind::Write, at(1000), at(1100), &good);
        recorder.reply(Kind::Write, at(0), at(5), &reply(Err(ZkError::NoNode)));
        recorder.reply(Kind::Write, at(0), at(500), &Err(Error::SessionExpired));
        assert_eq!(recorder.answered(), 4);

        let report = recorder.report(&Cli::parse_from(["bench"]).bench);
        assert_eq!((report.reads.count, report.writes.count, report.total.count), (1, 1, 2));
        assert_eq!(report.total.per_second, 2.0);
        // Three digits: 10 ms is 10.000 to 10.007.
        assert!((10_000..=10_010).contains(&report.reads.p50_us), "{}", report.reads.p50_us);
        assert!((20_000..=20_020).contains(&report.total.max_us), "{}", report.total.max_us);
        assert_eq!(report.errors.values().sum::<u64>(), 2);
        let text = report.to_string();
        assert!(text.contains("reads") && text.contains("1 x NoNode (-101)"), "{text}");
    }

    #[test]
    fn a_window_cut_short_counts_its_real_length() {
        let zero = Instant::now();
        let mut recorder = Recorder::new(zero, zero + Duration::from_secs(10));
        recorder.stop(zero + Duration::from_secs(2));
        let report = recorder.report(&Cli::parse_from(["bench", "--workload", "create"]).bench);
        assert_eq!((report.seconds, report.workload.as_str(), report.read_percent), (2.0, "create", 0));
        // Stopped in the warm-up: no window at all, and no division by it.
        recorder.stop(zero);
        assert_eq!(recorder.report(&Cli::parse_from(["bench"]).bench).total.per_second, 0.0);
    }
}
