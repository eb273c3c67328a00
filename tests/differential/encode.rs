//! From a script to bytes. Written for these tests alone: it must be able to say what no sane client says, and it
//! must not share a mistake with the codec under test.

use super::script::{AclList, Ask, Bend, Hello, Op, Password, Text, ZxidName};

/// What names stand for while a script is played.
pub trait Names {
    fn zxid(&self, name: ZxidName) -> i64;
}

/// A frame: the length word and the payload.
pub fn framed(payload: &[u8]) -> Vec<u8> {
    let length = i32::try_from(payload.len()).expect("no script makes a frame of 2 GiB");
    [&length.to_be_bytes(), payload].concat()
}

/// The payload of a ConnectRequest. `id` and `password` are those of the session that is asked for.
pub fn hello(hello: &Hello, id: i64, password: &[u8], names: &dyn Names) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(hello.protocol.to_be_bytes());
    out.extend(names.zxid(hello.seen).to_be_bytes());
    out.extend(hello.timeout.to_be_bytes());
    out.extend(id.to_be_bytes());
    match hello.password {
        Password::Right => buffer(&mut out, Some(password)),
        Password::Wrong => buffer(&mut out, Some(&[1; 16])),
        Password::Null => buffer(&mut out, None),
        Password::Empty => buffer(&mut out, Some(&[])),
        Password::Short => buffer(&mut out, Some(&password[..password.len() - 1])),
        Password::Long => buffer(&mut out, Some(&[password, &[0]].concat())),
    }
    out.extend(hello.read_only);
    out
}

/// The payload of a request.
pub fn ask(ask: &Ask, names: &dyn Names) -> Vec<u8> {
    let mut body = Vec::new();
    record(&mut body, &ask.op, names);
    if let Some(bend) = &ask.bend {
        spoil(&mut body, bend);
    }
    let header = [ask.xid.to_be_bytes(), ask.op.opcode().to_be_bytes()].concat();
    [header, body].concat()
}

fn spoil(body: &mut Vec<u8>, bend: &Bend) {
    match bend {
        Bend::Cut(length) => body.truncate(*length),
        Bend::Tail(length) => body.extend(std::iter::repeat_n(0x5a, *length)),
        Bend::Int(at, value) => overwrite(body, *at, &value.to_be_bytes()),
        Bend::Byte(at, value) => overwrite(body, *at, &[*value]),
    }
}

fn overwrite(body: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in body.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

fn record(out: &mut Vec<u8>, op: &Op, names: &dyn Names) {
    match op {
        Op::Create { path, data, acl, flags }
        | Op::Create2 { path, data, acl, flags }
        | Op::CreateContainer { path, data, acl, flags } => create(out, path, data, acl, *flags),
        Op::CreateTtl { path, data, acl, flags, ttl } => {
            create(out, path, data, acl, *flags);
            out.extend(ttl.to_be_bytes());
        }
        Op::Delete { path, version } | Op::Check { path, version } => {
            text(out, path);
            out.extend(version.to_be_bytes());
        }
        Op::DeleteContainer { path }
        | Op::GetAcl { path }
        | Op::Sync { path }
        | Op::GetEphemerals { path }
        | Op::GetAllChildrenNumber { path } => text(out, path),
        Op::Exists { path, watch }
        | Op::GetData { path, watch }
        | Op::GetChildren { path, watch }
        | Op::GetChildren2 { path, watch } => {
            text(out, path);
            out.push(u8::from(*watch));
        }
        Op::SetData { path, data, version } => {
            text(out, path);
            text(out, data);
            out.extend(version.to_be_bytes());
        }
        Op::SetAcl { path, acl, version } => {
            text(out, path);
            acls(out, acl);
            out.extend(version.to_be_bytes());
        }
        Op::Multi { members } | Op::MultiRead { members } => multi(out, members, names),
        Op::Reconfig { joining, leaving, members, config } => {
            for each in [joining, leaving, members] {
                text(out, each);
            }
            out.extend(config.to_be_bytes());
        }
        Op::CheckWatches { path, kind } | Op::RemoveWatches { path, kind } => {
            text(out, path);
            out.extend(kind.to_be_bytes());
        }
        Op::SetWatches { zxid, data, exist, child } => {
            out.extend(names.zxid(*zxid).to_be_bytes());
            for list in [data, exist, child] {
                texts(out, list);
            }
        }
        Op::SetWatches2 { zxid, data, exist, child, persistent, recursive } => {
            out.extend(names.zxid(*zxid).to_be_bytes());
            for list in [data, exist, child, persistent, recursive] {
                texts(out, list);
            }
        }
        Op::AddWatch { path, mode } => {
            text(out, path);
            out.extend(mode.to_be_bytes());
        }
        Op::Auth { scheme, auth } => {
            out.extend(0_i32.to_be_bytes());
            text(out, scheme);
            text(out, auth);
        }
        Op::Sasl { token } => text(out, token),
        Op::CreateSession { timeout } => out.extend(timeout.to_be_bytes()),
        Op::Ping | Op::WhoAmI | Op::CloseSession => {}
        Op::Raw { hex, .. } => out.extend(unhex(hex)),
    }
}

fn create(out: &mut Vec<u8>, path: &Text, data: &Text, acl: &AclList, flags: i32) {
    text(out, path);
    text(out, data);
    acls(out, acl);
    out.extend(flags.to_be_bytes());
}

fn multi(out: &mut Vec<u8>, members: &[Op], names: &dyn Names) {
    for member in members {
        out.extend(member.opcode().to_be_bytes());
        out.push(0);
        out.extend((-1_i32).to_be_bytes());
        record(out, member, names);
    }
    out.extend((-1_i32).to_be_bytes());
    out.push(1);
    out.extend((-1_i32).to_be_bytes());
}

fn buffer(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => out.extend(framed(bytes)),
        None => out.extend((-1_i32).to_be_bytes()),
    }
}

fn text(out: &mut Vec<u8>, text: &Text) {
    buffer(out, text.as_deref().map(str::as_bytes));
}

fn count<T>(out: &mut Vec<u8>, list: Option<&[T]>) {
    let count = list.map_or(-1, |list| i32::try_from(list.len()).expect("lists are short"));
    out.extend(count.to_be_bytes());
}

fn texts(out: &mut Vec<u8>, list: &Option<Vec<Text>>) {
    count(out, list.as_deref());
    for each in list.iter().flatten() {
        text(out, each);
    }
}

fn acls(out: &mut Vec<u8>, list: &AclList) {
    count(out, list.as_deref());
    for (perms, scheme, id) in list.iter().flatten() {
        out.extend(perms.to_be_bytes());
        text(out, scheme);
        text(out, id);
    }
}

/// Bytes from their hexadecimal digits; what is no digit pair is left out.
pub fn unhex(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

/// The hexadecimal digits of bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
