//! The differences that are right, each with its reason. A rule makes what zabra showed in a step into what
//! Apache showed, or takes away what only one can show, and says how often it did. Whatever differs after all of
//! them is a difference.

use super::decode::{self, Body, Seen};
use super::encode;
use super::model::Model;
use super::normalise::Shown;
use super::only::{self, After};
use super::script::{Ask, Conn, Op, Password, SessionName, Step};

/// A step and what it showed on both sides.
pub struct View<'a> {
    pub step: &'a Step,
    pub apache: &'a mut Shown,
    pub zabra: &'a mut Shown,
    pub model: &'a mut Model,
    /// The last transaction before the step, and the last of it.
    pub span: (i64, i64),
}

/// A difference that is right.
pub struct Rule {
    pub name: &'static str,
    pub reason: &'static str,
    apply: fn(&mut View<'_>) -> usize,
}

/// A zxid that no event has: marks one that is wrong.
const WRONG: i64 = i64::MAX;

/// All of them, in the order in which they are applied.
pub const RULES: &[Rule] = &[
    Rule {
        name: "only-zabra",
        reason: "asked of zabra alone, with the documented answer: the requests below",
        apply: only_zabra,
    },
    Rule {
        name: "event-zxid",
        reason: "an event carries the zxid of its transaction since 3.9; in 3.8 it is -1",
        apply: event_zxid,
    },
    Rule {
        name: "auth-overtakes",
        reason: "Apache answers auth and sasl when read, before earlier requests; zabra answers in order",
        apply: auth_overtakes,
    },
    Rule {
        name: "exists-needs-read",
        reason: "exists on a znode needs READ since 3.9.2; in 3.8 it needs nothing",
        apply: exists_needs_read,
    },
    Rule {
        name: "exists-has-watched",
        reason: "where zabra refused an exists, Apache has set a watch, which shows when the znode may be read, or when \
                 it is removed",
        apply: exists_has_watched,
    },
    Rule {
        name: "multi-create2",
        reason: "create2 in a multi is answered with the Stat in 3.9, like create in 3.8",
        apply: multi_create2,
    },
    Rule {
        name: "null-judged-at-once",
        reason: "a write with a null path or ACL id is MarshallingError at once; Apache first judges flags, time to \
                 live, and earlier members of a multi",
        apply: null_at_once,
    },
    Rule {
        name: "check-any-watch",
        reason: "checkWatches of 3.8 is content with a watch of any connection and mode; 3.9 is exact",
        apply: check_watches,
    },
    Rule {
        name: "answers-after-closeSession",
        reason: "Apache may answer what stands behind a closeSession; zabra drops it",
        apply: answers_after_close,
    },
    Rule {
        name: "events-lost-at-the-end",
        reason: "when a session ends by another connection, Apache may close this one before its last events are out",
        apply: events_lost,
    },
    Rule {
        name: "body-behind-an-error",
        reason: "Apache lets a part of a body follow a multiRead that fails as a whole; no client reads it",
        apply: body_behind_error,
    },
    Rule {
        name: "surrogates",
        reason: "Java sends a character above U+FFFF as two surrogates of three bytes each; zabra sends UTF-8",
        apply: surrogates,
    },
    Rule {
        name: "wrong-password-closes",
        reason: "a try with a wrong password closes the rightful connection with Apache",
        apply: wrong_password_closes,
    },
];

/// The answer that is documented, and nothing else.
fn only_zabra(view: &mut View<'_>) -> usize {
    let (Some(only), Some(conn)) = (only::find(view.step), view.step.conn()) else { return 0 };
    let Some((first, rest)) = view.zabra.get(&conn).and_then(|seen| seen.split_first()) else { return 0 };
    let answered = matches!(first, Seen::Reply { err, .. } if only.errors.contains(err));
    let ended = match only.after {
        After::Closed => rest == [Seen::Closed],
        After::GoesOn | After::Drop => rest.is_empty(),
    };
    if answered && ended {
        view.zabra.remove(&conn);
    }
    1
}

fn event_zxid(view: &mut View<'_>) -> usize {
    let mut hits = 0;
    let sets_watches = view.step.asks().iter().any(|ask| matches!(ask.op.opcode(), 101 | 105));
    for (conn, seen) in view.zabra.iter_mut() {
        let catch_up = sets_watches && view.step.conn() == Some(*conn);
        let mut told = 0;
        for one in seen {
            match one {
                Seen::Event { zxid: -1, .. } if catch_up => {}
                // Of a transaction of this step, and before any reply that knows of it.
                Seen::Event { zxid, .. } if *zxid > view.span.0.max(told) && *zxid <= view.span.1 => {
                    *zxid = -1;
                    hits += 1;
                }
                Seen::Event { zxid, .. } => *zxid = WRONG,
                Seen::Reply { zxid, .. } => told = told.max(*zxid),
                _ => {}
            }
        }
    }
    hits
}

fn auth_overtakes(view: &mut View<'_>) -> usize {
    let Some(conn) = view.step.conn() else { return 0 };
    let asks = view.step.asks();
    let is_auth = |seen: &Seen| matches!(seen, Seen::Reply { of, .. } if asks.get(*of).is_some_and(|ask| matches!(ask.op.opcode(), 100 | 102)));
    let Some(seen) = view.apache.get_mut(&conn) else { return 0 };
    let (auths, mut rest): (Vec<Seen>, Vec<Seen>) = seen.drain(..).partition(is_auth);
    let before = rest.len();
    for auth in auths {
        let Seen::Reply { of: own, .. } = &auth else { unreachable!("only replies are picked") };
        // Behind the last reply to an earlier request.
        let earlier = |seen: &Seen| match seen {
            Seen::Hello { .. } => true,
            Seen::Reply { of, .. } => of < own,
            _ => false,
        };
        let at = rest.iter().rposition(earlier).map_or(0, |at| at + 1);
        rest.insert(at, auth);
    }
    *seen = rest;
    let overtook = usize::from(seen.len() > before && before > 0);
    overtook + seen_early(view, conn)
}

/// Who proves an identity in the same segment as a change may be shown the change with Apache, and not with zabra,
/// where the proof comes behind it.
fn seen_early(view: &mut View<'_>, conn: Conn) -> usize {
    let proves = view.step.asks().iter().any(|ask| matches!(ask.op, Op::Auth { .. }));
    let (Some(apache), true) = (view.apache.get_mut(&conn), proves) else { return 0 };
    let none = Vec::new();
    let zabra = view.zabra.get(&conn).unwrap_or(&none);
    let before = apache.len();
    let mut at = 0;
    while at < apache.len() {
        let early = match &apache[at] {
            Seen::Event { path: Some(path), .. } => view.model.may_read(conn, path) == (true, false),
            _ => false,
        };
        if early && zabra.get(at) != Some(&apache[at]) {
            apache.remove(at);
        } else {
            at += 1;
        }
    }
    before - apache.len()
}

/// The replies of both sides to a request, where zabra's is to be made like Apache's.
fn both<'v>(view: &'v mut View<'_>) -> Vec<(Conn, &'v Ask, &'v Seen, &'v mut Seen)> {
    let mut pairs = Vec::new();
    let Some(conn) = view.step.conn() else { return pairs };
    let Some(apache) = view.apache.get(&conn) else { return pairs };
    for seen in view.zabra.get_mut(&conn).into_iter().flatten() {
        let Seen::Reply { of: own, .. } = &seen else { continue };
        let own = *own;
        let other = apache.iter().find(|seen| matches!(seen, Seen::Reply { of, .. } if *of == own));
        if let (Some(other), Some(ask)) = (other, view.step.asks().get(own)) {
            pairs.push((conn, ask, other, seen));
        }
    }
    pairs
}

/// The errors of a pair.
fn errors(apache: &Seen, zabra: &Seen) -> Option<(i32, i32)> {
    match (apache, zabra) {
        (Seen::Reply { err: apache, .. }, Seen::Reply { err: zabra, .. }) => Some((*apache, *zabra)),
        _ => None,
    }
}

/// Takes over error and body; xid and zxid must be the same anyway.
fn take_over(apache: &Seen, zabra: &mut Seen) {
    if let (Seen::Reply { err, body, .. }, Seen::Reply { err: to_err, body: to_body, .. }) = (apache, zabra) {
        *to_err = *err;
        *to_body = body.clone();
    }
}

fn exists_needs_read(view: &mut View<'_>) -> usize {
    let mut phantoms = Vec::new();
    let mut excused = Vec::new();
    for (n, (conn, ask, apache, zabra)) in both(view).into_iter().enumerate() {
        if let (Op::Exists { path: Some(path), watch }, Some((0, -102))) = (&ask.op, errors(apache, zabra)) {
            excused.push((n, conn, path.clone()));
            if *watch {
                phantoms.push((conn, path.clone()));
            }
        }
    }
    excused.retain(|(_, conn, path)| !view.model.may_read(*conn, path).1);
    for (n, (_, _, apache, zabra)) in both(view).into_iter().enumerate() {
        if excused.iter().any(|(at, ..)| *at == n) {
            take_over(apache, zabra);
        }
    }
    view.model.phantoms.extend(phantoms);
    excused.len()
}

fn exists_has_watched(view: &mut View<'_>) -> usize {
    let mut hits = 0;
    let conns: Vec<Conn> = view.apache.keys().copied().collect();
    for conn in conns {
        let apache = view.apache.get_mut(&conn).expect("just listed");
        let none = Vec::new();
        let zabra = view.zabra.get(&conn).unwrap_or(&none);
        let mut at = 0;
        while at < apache.len() {
            let Seen::Event { kind, path: Some(path), .. } = &apache[at] else {
                at += 1;
                continue;
            };
            let phantom = (conn, path.clone());
            let of_phantom = *kind != 4 && view.model.phantoms.contains(&phantom);
            if of_phantom && zabra.get(at) != Some(&apache[at]) {
                apache.remove(at);
                hits += 1;
            } else {
                at += 1;
            }
            if of_phantom {
                view.model.phantoms.remove(&phantom);
            }
        }
        if apache.is_empty() {
            view.apache.remove(&conn);
        }
    }
    hits + removed_phantoms(view) + forbidden_events(view)
}

/// A watch that Apache alone has set is there to be removed.
fn removed_phantoms(view: &mut View<'_>) -> usize {
    let phantoms = view.model.phantoms.clone();
    let mut removed = Vec::new();
    for (conn, ask, apache, zabra) in both(view) {
        let Op::RemoveWatches { path: Some(path), kind: 2 | 3 } = &ask.op else { continue };
        let phantom = (conn, path.clone());
        if phantoms.contains(&phantom) && matches!(apache, Seen::Reply { err: 0, .. }) {
            if errors(apache, zabra) == Some((0, -121)) {
                take_over(apache, zabra);
            }
            removed.push(phantom);
        }
    }
    for phantom in &removed {
        view.model.phantoms.remove(phantom);
    }
    removed.len()
}

/// An event that zabra shows although its znode could not be read at any moment is a difference even where Apache
/// shows it (3.8.0 as released does; Debian has mended it). Those of setWatches are shown to all.
fn forbidden_events(view: &mut View<'_>) -> usize {
    let sets_watches = view.step.asks().iter().any(|ask| matches!(ask.op.opcode(), 101 | 105));
    for (conn, seen) in view.zabra.iter_mut() {
        for one in seen {
            if let Seen::Event { zxid, path: Some(path), .. } = one
                && !sets_watches
                && !view.model.may_read(*conn, path).0
            {
                *zxid = WRONG;
            }
        }
    }
    0
}

fn multi_create2(view: &mut View<'_>) -> usize {
    let mut hits = 0;
    for (_, ask, apache, zabra) in both(view) {
        let (Op::Multi { members }, Seen::Reply { body: Body::Multi(apache), .. }) = (&ask.op, apache) else {
            continue;
        };
        let Seen::Reply { body: Body::Multi(zabra), .. } = zabra else { continue };
        for ((op, apache), zabra) in members.iter().zip(apache).zip(zabra) {
            let same_path = match (&apache.body, &zabra.body) {
                (Body::Path(theirs), Body::PathStat(ours, _)) => theirs == ours,
                _ => false,
            };
            if matches!(op, Op::Create2 { .. }) && (apache.kind, zabra.kind) == (1, 15) && same_path {
                *zabra = apache.clone();
                hits += 1;
            }
        }
    }
    hits
}

fn null_at_once(view: &mut View<'_>) -> usize {
    let mut hits = 0;
    for (_, ask, apache, zabra) in both(view) {
        let failed = match apache {
            // Of a multi that fails all members have failed.
            Seen::Reply { err: 0, body: Body::Multi(results), .. } => {
                results.iter().any(|result| result.err != 0)
            }
            Seen::Reply { err, .. } => matches!(err, -6 | -8 | -114),
            _ => false,
        };
        if failed && has_null(&ask.op) && matches!(zabra, Seen::Reply { err: -5, .. }) {
            take_over(apache, zabra);
            hits += 1;
        }
    }
    hits
}

/// A null path, or the null id of a scheme that looks at its ids.
pub fn has_null(op: &Op) -> bool {
    let (path, acl) = match op {
        Op::Create { path, acl, .. }
        | Op::Create2 { path, acl, .. }
        | Op::CreateContainer { path, acl, .. }
        | Op::CreateTtl { path, acl, .. } => (path.is_none(), acl),
        Op::SetAcl { acl, .. } => (false, acl),
        Op::Multi { members } => return members.iter().any(has_null),
        _ => return false,
    };
    let looks = |scheme: &Option<String>| matches!(scheme.as_deref(), Some("world" | "digest" | "ip"));
    path || acl.iter().flatten().any(|(_, scheme, id)| looks(scheme) && id.is_none())
}

fn check_watches(view: &mut View<'_>) -> usize {
    let mut excused = Vec::new();
    for (n, (_, ask, apache, zabra)) in both(view).into_iter().enumerate() {
        match (&ask.op, errors(apache, zabra)) {
            (Op::CheckWatches { path: Some(path), .. }, Some((0, -121))) => {
                excused.push((n, Some(path.clone())))
            }
            // 3.8 does not look at the root under its other name.
            (Op::CheckWatches { path: Some(path), .. }, Some((-121, 0))) if path.is_empty() => {
                excused.push((n, None));
            }
            // 3.8 stumbles over what is no path where 3.9 finds no watch.
            (Op::CheckWatches { kind: 1..=3, .. }, Some((-5, -121))) => excused.push((n, None)),
            _ => {}
        }
    }
    excused.retain(|(_, path)| path.as_ref().is_none_or(|path| view.model.watched(path)));
    for (n, (_, _, apache, zabra)) in both(view).into_iter().enumerate() {
        if excused.iter().any(|(at, ..)| *at == n) {
            take_over(apache, zabra);
        }
    }
    excused.len()
}

fn answers_after_close(view: &mut View<'_>) -> usize {
    let Some(seen) = view.step.conn().and_then(|conn| view.apache.get_mut(&conn)) else { return 0 };
    let asks = view.step.asks();
    let is_close = |seen: &Seen| matches!(seen, Seen::Reply { of, .. } if asks.get(*of).is_some_and(|ask| ask.op.opcode() == -11));
    let Some(at) = seen.iter().position(is_close) else { return 0 };
    let before = seen.len();
    let mut n = 0;
    seen.retain(|one| {
        n += 1;
        n <= at + 1 || !matches!(one, Seen::Garbled(_))
    });
    before - seen.len()
}

fn events_lost(view: &mut View<'_>) -> usize {
    if !view.step.asks().iter().any(|ask| ask.op.opcode() == -11) {
        return 0;
    }
    let is_event = |seen: &Seen| matches!(seen, Seen::Event { .. });
    let mut hits = 0;
    for (conn, zabra) in view.zabra.iter_mut().filter(|(conn, _)| Some(**conn) != view.step.conn()) {
        let (Some(apache), Some((Seen::Closed, events))) = (view.apache.get(conn), zabra.split_last()) else {
            continue;
        };
        let less = apache.len() <= events.len() && apache.last() == Some(&Seen::Closed);
        if less
            && events.iter().all(is_event)
            && apache.iter().all(|seen| *seen == Seen::Closed || events.contains(seen))
        {
            *zabra = apache.clone();
            hits += 1;
        }
    }
    hits
}

fn body_behind_error(view: &mut View<'_>) -> usize {
    let mut hits = 0;
    let reads = |ask: Option<&Ask>| ask.is_some_and(|ask| ask.op.opcode() == 22);
    for seen in view.apache.values_mut().flatten() {
        match seen {
            Seen::Reply { of, err: -5, body: body @ Body::Garbled(_), .. }
                if reads(view.step.asks().get(*of)) =>
            {
                *body = Body::Empty;
                hits += 1;
            }
            _ => {}
        }
    }
    hits
}

fn surrogates(view: &mut View<'_>) -> usize {
    let mut hits = 0;
    for seen in view.apache.values_mut().flatten() {
        let text = match seen {
            Seen::Event { path: Some(text), .. } => text,
            Seen::Reply { body: Body::Path(Some(text)), .. } => text,
            _ => continue,
        };
        if let Some(read) = text.strip_prefix(decode::NO_UTF8).and_then(joined) {
            *text = read;
            hits += 1;
        }
    }
    hits
}

/// A text from the digits of its bytes, in which surrogates stand for themselves.
fn joined(hex: &str) -> Option<String> {
    let bytes = encode::unhex(hex);
    let mut units = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = if bytes[at] == 0xed { 3 } else { utf8_length(bytes[at]) };
        let part = bytes.get(at..at + length)?;
        match std::str::from_utf8(part) {
            Ok(text) => units.extend(text.encode_utf16()),
            Err(_) if length == 3 => {
                let bits = |byte: u8| u16::from(byte & 0x3f);
                units.push(0xd000 | bits(part[1]) << 6 | bits(part[2]));
            }
            Err(_) => return None,
        }
        at += length;
    }
    String::from_utf16(&units).ok()
}

fn utf8_length(first: u8) -> usize {
    match first {
        0..0x80 => 1,
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    }
}

fn wrong_password_closes(view: &mut View<'_>) -> usize {
    let Step::Connect { conn, hello, .. } = view.step else { return 0 };
    if hello.password == Password::Right || !matches!(hello.session, SessionName::Of(_)) {
        return 0;
    }
    let victims: Vec<Conn> = view
        .apache
        .iter()
        .filter(|(other, seen)| *other != conn && **seen == [Seen::Closed] && !view.zabra.contains_key(other))
        .map(|(other, _)| *other)
        .collect();
    for victim in &victims {
        view.apache.remove(victim);
    }
    victims.len()
}

impl Rule {
    /// Applies it; returns how often it was needed.
    pub fn apply(&self, view: &mut View<'_>) -> usize {
        (self.apply)(view)
    }
}
