//! Clients of the project's own library: each does its job until standard input ends, and writes what came of it to
//! standard output, an [`Entry`] a line.

use std::collections::HashMap;
use std::future::Future;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};
use zabra::client::{
    Client, CreateMode, Error, Event, MultiResult, Options, ZkError, check_op, create_op, perms, set_data_op,
};

use super::clock::now;
use super::entry::{Entry, Kind, Outcome};
use super::plan::{Job, LOCKS, Plan, ROOT, register};
use super::rng::Rng;

/// How long a lock is waited for before the client steps back.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// How often a waiting client looks for itself, in case an event is late.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Items in the queue above which clients only take.
const QUEUE_FULL: usize = 100;

/// Runs the worker whose plan comes first on standard input.
///
/// # Errors
///
/// The plan makes no sense.
pub fn run() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
    let mut first = String::new();
    std::io::stdin().read_line(&mut first).map_err(|error| format!("the plan: {error}"))?;
    let plan: Plan = serde_json::from_str(&first).map_err(|error| format!("the plan: {error}"))?;
    let over = Arc::new(AtomicBool::new(false));
    let ending = over.clone();
    std::thread::spawn(move || {
        // Nothing more is said; the end of it is the word to end.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        ending.store(true, Ordering::Relaxed);
    });
    LocalSet::new().block_on(&runtime, async {
        let jobs: Vec<_> = (0..plan.jobs.len())
            .map(|n| tokio::task::spawn_local(Worker::new(&plan, n, over.clone()).work()))
            .collect();
        for job in jobs {
            job.await.map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}

/// One client.
struct Worker {
    plan: Plan,
    name: String,
    n: usize,
    job: Job,
    rng: Rng,
    over: Arc<AtomicBool>,
    session: Option<Session>,
    /// Values given out.
    values: u64,
    /// The last version seen of each register.
    versions: HashMap<String, i32>,
}

/// A session, and whether its connection changed.
struct Session {
    client: Client,
    events: broadcast::Receiver<Event>,
    id: i64,
}

impl Session {
    /// Whether the connection came or went since this was asked last.
    fn moved(&mut self) -> bool {
        let mut moved = false;
        loop {
            match self.events.try_recv() {
                Ok(Event::State(_)) | Err(broadcast::error::TryRecvError::Lagged(_)) => moved = true,
                Ok(_) => {}
                Err(_) => return moved,
            }
        }
    }
}

/// How an operation ended, without its result.
fn outcome<T>(result: &Result<T, Error>) -> (Outcome, String) {
    match result {
        Ok(_) => (Outcome::Ok, String::new()),
        Err(Error::Zk(error) | Error::Multi { error, .. }) => match error {
            ZkError::BadVersion | ZkError::NoNode | ZkError::NodeExists | ZkError::NotReadOnly => {
                (Outcome::Fail, format!("{error:?}"))
            }
            other => (Outcome::Unknown, format!("{other:?}")),
        },
        Err(other) => (Outcome::Unknown, other.to_string()),
    }
}

/// The number behind the path of a sequential znode.
fn number(path: &str) -> Option<u64> {
    path.rsplit('-').next()?.parse().ok()
}

fn text(data: Option<bytes::Bytes>) -> String {
    String::from_utf8_lossy(&data.unwrap_or_default()).into_owned()
}

impl Worker {
    fn new(plan: &Plan, n: usize, over: Arc<AtomicBool>) -> Worker {
        Worker {
            name: format!("{}.{n}", plan.name),
            n,
            job: plan.jobs[n],
            rng: Rng::new(plan.seed.wrapping_mul(1_000).wrapping_add(n as u64)),
            plan: plan.clone(),
            over,
            session: None,
            values: 0,
            versions: HashMap::new(),
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    async fn work(mut self) {
        while !self.is_over() {
            if self.session.is_none() {
                self.connect().await;
                continue;
            }
            match self.job {
                Job::Register => self.register().await,
                Job::Id => self.id().await,
                Job::Lock => self.lock().await,
                Job::Queue => self.queue().await,
            }
            sleep(Duration::from_millis(self.plan.pace_ms)).await;
        }
        if let Some(session) = &self.session {
            // A session that cannot be closed ends by itself.
            let _ = self.answer(session.client.close()).await;
        }
    }

    async fn connect(&mut self) {
        let options = Options::new(&self.plan.servers.join(",")).expect("the plan names servers");
        let options = options
            .starting_at(self.n)
            .session_timeout(Duration::from_millis(self.plan.session_ms))
            .connect_timeout(Duration::from_secs(2));
        if let Ok(client) = Client::connect(options).await
            && let Ok(session) = client.connected().await
        {
            self.session = Some(Session { events: client.events(), client, id: session.id.0 });
        }
    }

    fn client(&self) -> Client {
        self.session.as_ref().expect("there is one while a job is done").client.clone()
    }

    /// Waits for an answer, but not for ever.
    async fn answer<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let late = || Error::ConnectionLoss("no answer in time".into());
        timeout(Duration::from_millis(self.plan.answer_ms), asked).await.unwrap_or_else(|_| Err(late()))
    }

    fn begin(&self, kind: Kind) -> Entry {
        let session = self.session.as_ref().map_or(0, |session| session.id);
        Entry { session, ..Entry::new(&self.name, kind, Outcome::Unknown, now(), 0) }
    }

    /// Writes the entry of an operation that has ended. A session that is over, or does not answer, is left.
    fn end<T>(&mut self, mut entry: Entry, result: &Result<T, Error>) {
        entry.end = now();
        (entry.outcome, entry.error) = outcome(result);
        let mut line = serde_json::to_vec(&entry).expect("an entry is plain");
        line.push(b'\n');
        // Without a reader there is nobody to tell.
        let _ = std::io::stdout().lock().write_all(&line);
        let lost = matches!(result, Err(Error::SessionExpired | Error::Closed))
            || matches!(result, Err(Error::ConnectionLoss(why)) if why == "no answer in time");
        if lost {
            self.session = None;
        }
    }

    fn value(&mut self) -> String {
        self.values += 1;
        format!("{}:{}", self.name, self.values)
    }

    async fn register(&mut self) {
        let generation = (now() - self.plan.began) / (self.plan.generation_ms * 1_000_000);
        let generation = generation.min(self.plan.generations - 1);
        let key = register(generation, self.rng.within(0..self.plan.registers));
        match self.rng.within(0..10) {
            0..3 => self.read(key).await,
            3..6 => self.plain_read(key).await,
            6..9 => {
                let expect = self.versions.get(&key).copied().unwrap_or(0);
                self.write(key, Some(expect)).await;
            }
            _ => self.write(key, None).await,
        }
    }

    async fn read(&mut self, key: String) {
        let client = self.client();
        self.session.as_mut().expect("as above").moved();
        let mut entry = self.begin(Kind::Read);
        let result = self
            .answer(async {
                client.sync(&key).await?;
                client.get_data(&key, false).await
            })
            .await;
        if self.session.as_mut().expect("as above").moved() {
            // Behind a sync on another connection it is a read like any other.
            entry.kind = Kind::PlainRead;
        }
        self.end_read(entry, key, result);
    }

    async fn plain_read(&mut self, key: String) {
        let entry = self.begin(Kind::PlainRead);
        let result = self.answer(self.client().get_data(&key, false)).await;
        self.end_read(entry, key, result);
    }

    fn end_read(
        &mut self,
        mut entry: Entry,
        key: String,
        result: Result<(Option<bytes::Bytes>, zabra::client::Stat), Error>,
    ) {
        if let Ok((data, stat)) = &result {
            (entry.value, entry.version, entry.zxid) =
                (text(data.clone()), Some(stat.version), Some(stat.mzxid));
            self.versions.insert(key.clone(), stat.version);
        }
        entry.key = key;
        self.end(entry, &result);
    }

    async fn write(&mut self, key: String, expect: Option<i32>) {
        let value = self.value();
        let mut entry = Entry { expect, value: value.clone(), ..self.begin(Kind::Write) };
        let result = self.answer(self.client().set_data(&key, value, expect)).await;
        if let Ok(stat) = &result {
            (entry.version, entry.zxid) = (Some(stat.version), Some(stat.mzxid));
            self.versions.insert(key.clone(), stat.version);
        } else if matches!(result, Err(Error::Zk(ZkError::BadVersion))) {
            self.versions.remove(&key);
        }
        entry.key = key;
        self.end(entry, &result);
    }

    async fn id(&mut self) {
        self.sequential(Kind::Id, "ids/id-").await;
    }

    async fn sequential(&mut self, kind: Kind, prefix: &str) {
        let value = self.value();
        let mut entry = Entry { value: value.clone(), ..self.begin(kind) };
        let (client, path) = (self.client(), format!("{ROOT}/{prefix}"));
        let acl = vec![zabra::client::Acl::world(perms::ALL)];
        let created = client.create_with_acl(&path, value, CreateMode::PersistentSequential, acl);
        let result = self.answer(created).await;
        if let Ok((path, stat)) = &result {
            (entry.number, entry.zxid) = (number(path), Some(stat.czxid));
        }
        self.end(entry, &result);
    }

    async fn queue(&mut self) {
        let client = self.client();
        let listed = self.answer(client.get_children(&format!("{ROOT}/queue"), false)).await;
        let Ok((mut names, _)) = listed else {
            self.after_trouble(listed.err());
            return;
        };
        if names.is_empty() || (names.len() < QUEUE_FULL && self.rng.percent(50)) {
            return self.sequential(Kind::Put, "queue/item-").await;
        }
        names.sort();
        let name = &names[self.rng.within(0..names.len().min(3))];
        let path = format!("{ROOT}/queue/{name}");
        // Somebody else may be faster; then the next one is looked for.
        let Ok((data, _)) = self.answer(client.get_data(&path, false)).await else { return };
        let entry = Entry { value: text(data), number: number(name), ..self.begin(Kind::Take) };
        let result = self.answer(client.delete(&path, Some(0))).await;
        self.end(entry, &result);
    }

    /// A read that is not part of the history has failed.
    fn after_trouble(&mut self, error: Option<Error>) {
        if matches!(error, Some(Error::SessionExpired | Error::Closed)) {
            self.session = None;
        }
    }

    /// Takes a lock, changes what it guards some times, and lets go.
    async fn lock(&mut self) {
        let key = format!("lock-{}", self.rng.within(0..LOCKS));
        let mut entry = Entry { key: key.clone(), ..self.begin(Kind::Acquire) };
        let Some(mine) = self.line_up(&key).await else { return };
        let path = format!("{ROOT}/{key}/{mine}");
        entry.number = number(&mine);
        match self.await_turn(&key, &mine).await {
            Ok(true) => self.end(entry, &Ok(())),
            Ok(false) | Err(Error::ConnectionLoss(_)) => {
                // Whether the delete came to pass is of no interest, as long as the session ends with it.
                if self.answer(self.client().delete(&path, None)).await.is_err() {
                    self.leave().await;
                }
                return;
            }
            Err(error) => return self.after_trouble(Some(error)),
        }
        for _ in 0..self.rng.within(1..5) {
            if self.session.is_none() || !self.guarded(&key, &path).await {
                return self.leave().await;
            }
            sleep(Duration::from_millis(self.plan.pace_ms)).await;
        }
        let entry = Entry { number: number(&mine), key, ..self.begin(Kind::Release) };
        let result = self.answer(self.client().delete(&path, None)).await;
        self.end(entry, &result);
        if result.is_err() {
            self.leave().await;
        }
    }

    /// Ends the session: whatever it may still hold goes with it.
    async fn leave(&mut self) {
        if let Some(session) = self.session.take() {
            // If this does not come through, the session expires.
            let _ = self.answer(session.client.close()).await;
        }
    }

    /// Creates the ephemeral; gives its name.
    async fn line_up(&mut self, key: &str) -> Option<String> {
        let acl = vec![zabra::client::Acl::world(perms::ALL)];
        let op =
            create_op(&format!("{ROOT}/{key}/n-"), self.name.clone(), CreateMode::EphemeralSequential, acl);
        match self.answer(self.client().request(op)).await {
            Ok(zabra::client::ReplyBody::PathStat(path, _)) => path.rsplit('/').next().map(str::to_string),
            Err(Error::Zk(_)) => None,
            // It may be there; with the session it goes.
            _ => {
                self.leave().await;
                None
            }
        }
    }

    /// Waits until no ephemeral is before this one. False if that takes too long.
    async fn await_turn(&mut self, key: &str, mine: &str) -> Result<bool, Error> {
        let client = self.client();
        let deadline = now() + u64::try_from(LOCK_PATIENCE.as_nanos()).expect("it is short");
        while now() < deadline && !self.is_over() {
            let (mut names, _) = self.answer(client.get_children(&format!("{ROOT}/{key}"), false)).await?;
            names.sort();
            match names.iter().position(|name| **name == *mine) {
                // Gone, with the session.
                None => return Err(Error::SessionExpired),
                Some(0) => return Ok(true),
                Some(place) => {
                    let before = format!("{ROOT}/{key}/{}", names[place - 1]);
                    if let (Some(_), watch) = self.answer(client.exists_and_watch(&before)).await? {
                        // The event, or a look for oneself.
                        let _ = timeout(LOOK_AGAIN, watch).await;
                    }
                }
            }
        }
        Ok(false)
    }

    /// Changes what the lock guards, if it is still held. Whether one may go on.
    async fn guarded(&mut self, key: &str, path: &str) -> bool {
        let mut entry = Entry { key: key.to_string(), number: number(path), ..self.begin(Kind::Guard) };
        let value = self.value();
        entry.value.clone_from(&value);
        let members = vec![check_op(path, None), set_data_op(&format!("{ROOT}/guarded-{key}"), value, None)];
        let result = self.answer(self.client().multi(members)).await;
        if let Ok(results) = &result
            && let Some(MultiResult::SetData(stat)) = results.last()
        {
            (entry.version, entry.zxid) = (Some(stat.version), Some(stat.mzxid));
        }
        self.end(entry, &result);
        result.is_ok()
    }
}
