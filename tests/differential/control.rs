//! What the test does for itself: a session of its own at each server, which may do everything. It makes the root
//! of a sequence, takes it away again, and knows when a server has applied what others have done.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::decode::{self, Body, Seen, Stat};
use super::encode::{self, Names};
use super::link::{Got, Link};
use super::script::{Ask, Hello, Op, Password, SessionName, Text, ZxidName};
use super::servers;

/// The znode below which a sequence lives.
pub const ROOT: &str = "/d";

/// What all sequences share and none can delete.
pub const SHARED: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

/// The error for a znode that is not there.
const NO_NODE: i32 = -101;

/// The number of pings, by convention.
pub const PING_XID: i32 = -2;

/// How often sleeping servers are woken.
const NUDGE_INTERVAL: Duration = Duration::from_millis(50);

/// How often it is looked at.
const POLL_INTERVAL: Duration = Duration::from_micros(200);

/// How long a server may lag behind another.
const LAG: Duration = Duration::from_secs(20);

/// The names in the requests of this module stand for themselves.
struct Plain;

impl Names for Plain {
    fn zxid(&self, name: ZxidName) -> i64 {
        match name {
            ZxidName::Raw(zxid) | ZxidName::Start(zxid) | ZxidName::Last(zxid) => zxid,
        }
    }
}

/// A session of the test's own.
pub struct Control {
    link: Link,
    at: SocketAddr,
    /// The number of the last request.
    xid: i32,
}

impl Control {
    /// # Errors
    ///
    /// The server does not serve, or the password of the one who may do everything is not its.
    pub fn connect(at: SocketAddr) -> Result<Control, String> {
        let mut control = Control { link: Link::open(at)?, at, xid: 0 };
        let hello = Hello {
            session: SessionName::New,
            password: Password::Right,
            seen: ZxidName::Raw(0),
            timeout: servers::MAX_SESSION_MS,
            read_only: Some(0),
            protocol: 0,
        };
        control.link.send_frame(&encode::hello(&hello, 0, &[0; 16], &Plain));
        control.frame()?;
        let auth = Op::Auth { scheme: Some("digest".into()), auth: Some(servers::SUPER.into()) };
        match control.ask(&auth)? {
            (_, 0, _) => Ok(control),
            (_, err, _) => Err(format!("{at} refuses the test's own session: error {err}")),
        }
    }

    fn frame(&mut self) -> Result<Vec<u8>, String> {
        match self.link.frame() {
            Got::Frame(frame) => Ok(frame),
            got => Err(format!("the test's own session at {}: {got:?}", self.at)),
        }
    }

    /// A request and its answer: zxid, error, body.
    fn ask(&mut self, op: &Op) -> Result<(i64, i32, Body), String> {
        let mut answers = self.ask_all(std::slice::from_ref(op))?;
        Ok(answers.pop().expect("a reply for each"))
    }

    fn ask_all(&mut self, ops: &[Op]) -> Result<Vec<(i64, i32, Body)>, String> {
        let mut bytes = Vec::new();
        for op in ops {
            // Numbers as orderly clients give them out: with equal ones Apache confuses what is pending.
            self.xid = self.xid % i32::MAX + 1;
            let xid = if *op == Op::Ping { PING_XID } else { self.xid };
            bytes.extend(encode::framed(&encode::ask(&Ask { xid, op: op.clone(), bend: None }, &Plain)));
        }
        self.link.send(&bytes);
        let mut answers = Vec::new();
        for op in ops {
            let frame = self.frame().map_err(|error| format!("{op:?}: {error}"))?;
            match decode::reply(&frame, op, 0) {
                Seen::Reply { zxid, err, body, .. } => answers.push((zxid, err, body)),
                seen => return Err(format!("the test's own {op:?} is answered {seen:?}")),
            }
        }
        Ok(answers)
    }

    /// Waits until this server has applied this transaction; returns the last one that it has applied.
    ///
    /// # Errors
    ///
    /// It lags too far behind, or does not serve any more.
    pub fn catch_up(&mut self, zxid: i64) -> Result<i64, String> {
        let deadline = Instant::now() + LAG;
        loop {
            let (applied, ..) = self.ask(&Op::Ping)?;
            if applied >= zxid {
                return Ok(applied);
            }
            if Instant::now() > deadline {
                return Err(format!("{} has applied {applied:#x} and lacks {zxid:#x}", self.at));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Makes the root. Returns its zxid and the Stats of the shared znodes.
    ///
    /// # Errors
    ///
    /// An earlier sequence has left something.
    pub fn prepare(&mut self) -> Result<(i64, Vec<(String, Stat)>), String> {
        let create = Op::Create { path: Some(ROOT.into()), data: None, acl: Some(vec![open()]), flags: 0 };
        let (zxid, err, _) = self.ask(&create)?;
        if err != 0 {
            return Err(format!("create {ROOT}: error {err}: the sequence before has left it"));
        }
        let looks: Vec<Op> =
            SHARED.iter().map(|path| Op::Exists { path: Some((*path).into()), watch: false }).collect();
        let stats = SHARED.iter().zip(self.ask_all(&looks)?).map(|(path, answer)| match answer.2 {
            Body::Stat(stat) => Ok(((*path).to_string(), stat)),
            body => Err(format!("exists {path} is answered {body:?}")),
        });
        Ok((zxid, stats.collect::<Result<_, _>>()?))
    }

    /// Takes away what a sequence has left. `shared` says that it may have touched what all share.
    ///
    /// # Errors
    ///
    /// Something withstands.
    pub fn clean(&mut self, shared: bool) -> Result<(), String> {
        let deadline = Instant::now() + LAG;
        while let Some(left) = self.delete_all(if shared { "/" } else { ROOT })? {
            // Something that others were not told of may still have come, on this server.
            if Instant::now() > deadline {
                return Err(format!("cannot clean up: {left}"));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        if shared { self.restore() } else { Ok(()) }
    }

    /// Deletes what is below a path; says what could not be deleted.
    fn delete_all(&mut self, top: &str) -> Result<Option<String>, String> {
        let mut doomed = Vec::new();
        self.collect(top, &mut doomed)?;
        let doomed = doomed.into_iter().filter(|path| !SHARED.contains(&path.as_str()));
        let deletes: Vec<Op> = doomed.map(|path| Op::Delete { path: Some(path), version: -1 }).collect();
        let mut left = None;
        for chunk in deletes.chunks(500) {
            for (op, (_, err, _)) in chunk.iter().zip(self.ask_all(chunk)?) {
                // The end of a session may still be on its way to this server, and take its ephemerals with it.
                if err != 0 && err != NO_NODE {
                    left = Some(format!("{op:?}: error {err}"));
                }
            }
        }
        Ok(left)
    }

    /// All paths below one, children before their parents, and itself last.
    fn collect(&mut self, path: &str, all: &mut Vec<String>) -> Result<(), String> {
        let mut level = vec![path.to_string()];
        let mut found = Vec::new();
        while !level.is_empty() {
            let asks: Vec<Op> =
                level.iter().map(|path| Op::GetChildren { path: Some(path.clone()), watch: false }).collect();
            let mut next = Vec::new();
            for (path, (_, err, body)) in level.iter().zip(self.ask_all(&asks)?) {
                let Body::Names(names) = body else {
                    // The sequence has deleted the root itself, or a session has just taken its ephemeral along.
                    if err == NO_NODE {
                        continue;
                    }
                    return Err(format!("getChildren {path}: error {err}"));
                };
                let parent = path.trim_end_matches('/');
                next.extend(names.iter().flatten().map(|name| format!("{parent}/{name}")));
            }
            found.append(&mut level);
            level = next;
        }
        all.extend(found.into_iter().rev());
        Ok(())
    }

    fn restore(&mut self) -> Result<(), String> {
        for path in SHARED {
            let path: Text = Some(path.into());
            let perms = if path.as_deref() == Some("/zookeeper/config") { 1 } else { 31 };
            let acl = Some(vec![(perms, Some("world".into()), Some("anyone".into()))]);
            let mut ops = vec![Op::SetAcl { path: path.clone(), acl, version: -1 }];
            if perms == 31 {
                ops.push(Op::SetData { path, data: Some(String::new()), version: -1 });
            }
            if let Some((_, err, _)) = self.ask_all(&ops)?.into_iter().find(|(_, err, _)| *err != 0) {
                return Err(format!("cannot restore what all share: error {err}"));
            }
        }
        Ok(())
    }
}

/// A session at each server that pings now and then, for nothing but to wake it.
///
/// Apache's CommitProcessor looks whether there is work before it takes its lock, and so can fall asleep over a
/// request that comes in between. Whatever comes next wakes it; in a test that waits for one answer at a time nothing
/// would.
pub struct Nudge {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Nudge {
    /// # Errors
    ///
    /// A server does not serve.
    pub fn start(servers: &[SocketAddr]) -> Result<Nudge, String> {
        let mut sessions: Vec<Control> =
            servers.iter().map(|at| Control::connect(*at)).collect::<Result<_, _>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let ping = encode::ask(&Ask { xid: PING_XID, op: Op::Ping, bend: None }, &Plain);
            while !stopped.load(Ordering::Relaxed) {
                for session in &mut sessions {
                    // Nobody waits for the answer: it may be this very ping that is slept over.
                    session.link.send_frame(&ping);
                    session.link.discard();
                }
                std::thread::park_timeout(NUDGE_INTERVAL);
            }
        });
        Ok(Nudge { stop, thread: Some(thread) })
    }
}

impl Drop for Nudge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has no way to fail that would be news.
            let _ = thread.join();
        }
    }
}

/// Everybody may do everything.
pub fn open() -> super::script::AclEntry {
    (31, Some("world".into()), Some("anyone".into()))
}
