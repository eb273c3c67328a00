//! A client that behaves well, and finds out what it is like to be served beside those that do not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use zabra_actors::types::{Op, ReplyBody};

use super::common::raw::{Client, create};

/// The longest that one request may take. Debug builds, fsyncs and two cores have their part in it.
const PATIENCE: Duration = Duration::from_secs(8);

/// See the module's story.
pub struct Witness {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    stop: AtomicBool,
    answered: AtomicU64,
    /// Since the last look.
    worst: Mutex<Duration>,
}

impl Witness {
    /// Begins.
    pub fn start(host: &str) -> Witness {
        let shared =
            Shared { stop: AtomicBool::new(false), answered: AtomicU64::new(0), worst: Mutex::default() };
        let shared = Arc::new(shared);
        let client = Client::connect(host, super::TIMEOUT_MS).expect("nothing has happened yet");
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || live(client, &shared)
        });
        Witness { shared, thread }
    }

    /// It lives, and something was answered since; what took longest.
    pub fn check(&self) -> Duration {
        let before = self.shared.answered.load(SeqCst);
        super::common::until("the well-behaved client is answered", PATIENCE * 4, || {
            self.thread.is_finished() || self.shared.answered.load(SeqCst) >= before + 3
        });
        assert!(!self.thread.is_finished(), "the well-behaved client was harmed; see above");
        std::mem::take(&mut *self.shared.worst.lock().unwrap())
    }

    /// Ends; how many requests were answered.
    pub fn stop(self) -> u64 {
        self.shared.stop.store(true, SeqCst);
        self.thread.join().expect("the well-behaved client was never harmed");
        self.shared.answered.load(SeqCst)
    }
}

/// Creates, reads, deletes.
fn live(mut client: Client, shared: &Shared) {
    for n in 0_u64.. {
        if shared.stop.load(SeqCst) {
            return;
        }
        let path = format!("/witness-{n}");
        let data = n.to_be_bytes();
        let ops = [
            create(&path, &data, 1),
            Op::GetData { path: path.as_str().into(), watch: true },
            Op::Delete { path: path.as_str().into(), version: 0 },
        ];
        for op in &ops {
            let at = Instant::now();
            let reply = client.ask(op).unwrap_or_else(|e| panic!("{op:?}: {e}"));
            let took = at.elapsed();
            match reply.result.unwrap_or_else(|e| panic!("{op:?}: {e}")) {
                ReplyBody::Data(read, _) => assert_eq!(read.as_deref(), Some(&data[..])),
                _ => assert!(!matches!(op, Op::GetData { .. })),
            }
            assert!(took < PATIENCE, "{op:?} took {took:?}");
            let mut worst = shared.worst.lock().unwrap();
            *worst = (*worst).max(took);
            shared.answered.fetch_add(1, SeqCst);
        }
    }
}
