//! What commands have to say: for people, in the form of Apache's shell, or for programs, one JSON object a line.
//!
//! JSON has zxids and session ids as hexadecimal strings, since many readers lose digits of such numbers. Data is a
//! string in `data`, `null` when there is none, or, when it is no UTF-8 or was asked for so, in `base64`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::command::Form;
use super::paint::{Paint, Tone};
use super::{acl, format};
use crate::client::{Acl, Event, EventKind, Id, RemovedWatch, Stat, State, Str};

/// Something to say.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are named for what they are
pub enum Output {
    /// A remark for people; programs are not told.
    Notice(String),
    /// A line, and what programs are told instead.
    Line { text: String, json: Value },
    /// A line for people who look at standard error, and what programs are told.
    Aside { text: String, json: Value },
    /// Something was done, of which Apache's shell does not speak.
    Done { json: Value },
    /// A create.
    Created { path: Str },
    /// A get.
    Data { path: String, data: Option<Bytes>, form: Form, stat: Stat, with_stat: bool },
    /// An ls.
    Children { path: String, names: Vec<Str>, stat: Stat, with_stat: bool },
    /// One path of an ls -R.
    Path { path: String },
    /// A Stat, said aloud or only to programs.
    Stat { path: String, stat: Stat, aloud: bool },
    /// A getAcl.
    Acl { path: String, acl: Vec<Acl>, stat: Stat, with_stat: bool },
    /// A whoami.
    Identities { ids: Vec<Id> },
    /// Something happened to the session or its watches.
    Event(Event),
}

/// Text for both outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// For standard output.
    pub out: Vec<u8>,
    /// For standard error.
    pub err: String,
}

impl Text {
    fn out(text: impl Into<Vec<u8>>) -> Text {
        Text { out: text.into(), err: String::new() }
    }

    fn err(text: String) -> Text {
        Text { out: Vec::new(), err: text }
    }
}

impl Output {
    /// For people.
    pub fn text(&self, paint: Paint, zone: &TimeZone) -> Text {
        match self {
            Output::Notice(text) => Text::err(format!("{}\n", paint.err(Tone::Notice, text))),
            Output::Line { text, .. } => Text::out(format!("{text}\n")),
            Output::Aside { text, .. } => Text::err(format!("{text}\n")),
            Output::Done { .. } => Text::default(),
            // Apache's shell says so on standard error, so that nothing else than data is on the other.
            Output::Created { path } => Text::err(format!("Created {path}\n")),
            Output::Data { data, form, stat, with_stat, .. } => {
                let mut text = shown(data.as_ref(), *form);
                if *with_stat {
                    text.extend(stat_block(stat, paint, zone).into_bytes());
                }
                Text::out(text)
            }
            Output::Children { names, stat, with_stat, .. } => {
                let mut text = format!("[{}]\n", names.join(", "));
                if *with_stat {
                    text += &stat_block(stat, paint, zone);
                }
                Text::out(text)
            }
            Output::Path { path } => Text::out(format!("{path}\n")),
            Output::Stat { aloud: false, .. } => Text::default(),
            Output::Stat { stat, .. } => Text::out(stat_block(stat, paint, zone)),
            Output::Acl { acl, stat, with_stat, .. } => {
                let mut text: String = acl.iter().map(|entry| acl::print(entry) + "\n").collect();
                if *with_stat {
                    text += &stat_block(stat, paint, zone);
                }
                Text::out(text)
            }
            Output::Identities { ids } => {
                let ids: String = ids.iter().map(|id| format!("{}: {}\n", id.scheme, id.id)).collect();
                Text::out(format!("Auth scheme: User\n{ids}"))
            }
            Output::Event(event) => {
                let (kind, state, path, zxid) = event_words(event);
                let path = path.unwrap_or("null");
                let line = format!("WatchedEvent state:{state} type:{kind} path:{path} zxid: {zxid}");
                let head = paint.out(Tone::Notice, "WATCHER::");
                Text::out(format!("\n{head}\n\n{}\n", paint.out(Tone::Notice, &line)))
            }
        }
    }

    /// For programs; nothing for what only people need.
    pub fn json(&self) -> Option<Value> {
        Some(match self {
            Output::Notice(_) => return None,
            Output::Line { json, .. } | Output::Aside { json, .. } | Output::Done { json } => json.clone(),
            Output::Created { path } => json!({ "created": **path }),
            Output::Data { path, data, form, stat, .. } => {
                let mut object = json!({ "path": path, "stat": stat_json(stat) });
                let text = data.as_deref().map(std::str::from_utf8).transpose();
                match (data, text) {
                    (Some(data), _) if *form == Form::Base64 => {
                        object["base64"] = STANDARD.encode(data).into()
                    }
                    (Some(data), Err(_)) => object["base64"] = STANDARD.encode(data).into(),
                    (_, text) => object["data"] = text.ok().flatten().into(),
                }
                object
            }
            Output::Children { path, names, stat, .. } => {
                let names: Vec<&str> = names.iter().map(|name| &**name).collect();
                json!({ "path": path, "children": names, "stat": stat_json(stat) })
            }
            Output::Path { path } => json!({ "path": path }),
            Output::Stat { path, stat, .. } => json!({ "path": path, "stat": stat_json(stat) }),
            Output::Acl { path, acl, stat, .. } => {
                let acl: Vec<Value> = acl
                    .iter()
                    .map(|entry| {
                        json!({
                            "scheme": *entry.id.scheme,
                            "id": *entry.id.id,
                            "perms": acl::letters(entry.perms),
                        })
                    })
                    .collect();
                json!({ "path": path, "acl": acl, "stat": stat_json(stat) })
            }
            Output::Identities { ids } => {
                let ids: Vec<Value> =
                    ids.iter().map(|id| json!({ "scheme": *id.scheme, "user": *id.id })).collect();
                json!({ "identities": ids })
            }
            Output::Event(event) => {
                let (kind, state, path, zxid) = event_words(event);
                let zxid = (zxid >= 0).then(|| format::hex(zxid));
                json!({ "event": kind, "state": state, "path": path, "zxid": zxid })
            }
        })
    }
}

/// Data in the form that was asked for. Null is shown as the word, in whatever form, as Apache's shell does it.
fn shown(data: Option<&Bytes>, form: Form) -> Vec<u8> {
    let bytes = data.map_or(&b"null"[..], |data| data);
    let mut text = match form {
        Form::Raw => return data.map(|data| data.to_vec()).unwrap_or_default(),
        Form::Text => String::from_utf8_lossy(bytes).into_owned(),
        Form::Base64 => STANDARD.encode(bytes),
        Form::Hex => format::hex_dump(bytes),
    };
    text.push('\n');
    text.into_bytes()
}

fn stat_block(stat: &Stat, paint: Paint, zone: &TimeZone) -> String {
    format::stat_lines(stat, zone)
        .into_iter()
        .map(|(name, value)| format!("{} = {value}\n", paint.out(Tone::Name, name)))
        .collect()
}

fn stat_json(stat: &Stat) -> Value {
    json!({
        "czxid": format::hex(stat.czxid),
        "mzxid": format::hex(stat.mzxid),
        "pzxid": format::hex(stat.pzxid),
        "ctime": stat.ctime,
        "mtime": stat.mtime,
        "version": stat.version,
        "cversion": stat.cversion,
        "aversion": stat.aversion,
        "ephemeralOwner": format::hex(stat.ephemeral_owner),
        "dataLength": stat.data_length,
        "numChildren": stat.num_children,
    })
}

/// Type, state, path and zxid, as Apache's client calls them.
fn event_words(event: &Event) -> (&'static str, &'static str, Option<&str>, i64) {
    match event {
        Event::Watch(event) => {
            let kind = match event.kind {
                EventKind::NodeCreated => "NodeCreated",
                EventKind::NodeDeleted => "NodeDeleted",
                EventKind::NodeDataChanged => "NodeDataChanged",
                EventKind::NodeChildrenChanged => "NodeChildrenChanged",
            };
            (kind, "SyncConnected", Some(&event.path), event.zxid.0)
        }
        Event::WatchRemoved { path, watch } => {
            let kind = match watch {
                RemovedWatch::Data => "DataWatchRemoved",
                RemovedWatch::Child => "ChildWatchRemoved",
                RemovedWatch::Persistent => "PersistentWatchRemoved",
            };
            (kind, "SyncConnected", Some(path), -1)
        }
        Event::State(state) => {
            let state = match state {
                State::Connecting(_) => "Disconnected",
                State::Connected(session) if session.read_only => "ConnectedReadOnly",
                State::Connected(_) => "SyncConnected",
                State::AuthFailed => "AuthFailed",
                State::Expired => "Expired",
                State::Closed => "Closed",
            };
            ("None", state, None, -1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{WatchEvent, Zxid, perms};

    fn text(output: &Output) -> Text {
        output.text(Paint::NEVER, &TimeZone::UTC)
    }

    fn data(data: Option<&'static [u8]>, form: Form) -> Output {
        Output::Data {
            path: "/a".into(),
            data: data.map(Bytes::from_static),
            form,
            stat: Stat::default(),
            with_stat: false,
        }
    }

    #[test]
    fn data_in_every_form() {
        for (bytes, form, expected) in [
            (Some(&b"hello"[..]), Form::Text, &b"hello\n"[..]),
            (Some(b""), Form::Text, b"\n"),
            (None, Form::Text, b"null\n"),
            (None, Form::Base64, b"bnVsbA==\n"),
            (Some(b"a\xff"), Form::Text, "a\u{fffd}\n".as_bytes()),
            (Some(b"a\xff"), Form::Raw, b"a\xff"),
            (None, Form::Raw, b""),
            (Some(b""), Form::Hex, b"\n"),
        ] {
            assert_eq!(text(&data(bytes, form)), Text::out(expected), "{bytes:?} {form:?}");
        }
    }

    #[test]
    fn data_for_programs_is_never_ambiguous() {
        let json = |bytes, form| {
            let mut json = data(bytes, form).json().unwrap();
            json.as_object_mut().unwrap().retain(|key, _| key == "data" || key == "base64");
            json
        };
        assert_eq!(json(Some(b"null"), Form::Text), json!({ "data": "null" }));
        assert_eq!(json(None, Form::Text), json!({ "data": null }));
        assert_eq!(json(None, Form::Base64), json!({ "data": null }));
        assert_eq!(json(Some(b"\xff"), Form::Text), json!({ "base64": "/w==" }));
        assert_eq!(json(Some(b"x"), Form::Base64), json!({ "base64": "eA==" }));
    }

    #[test]
    fn results_in_apaches_form() {
        let children = Output::Children {
            path: "/".into(),
            names: vec!["a".into(), "b".into()],
            stat: Stat::default(),
            with_stat: true,
        };
        let lines = String::from_utf8(text(&children).out).unwrap();
        assert!(
            lines.starts_with("[a, b]\ncZxid = 0x0\n") && lines.ends_with("numChildren = 0\n"),
            "{lines}"
        );
        assert_eq!(children.json().unwrap()["children"], json!(["a", "b"]));

        let acl = Output::Acl {
            path: "/".into(),
            acl: vec![Acl::world(perms::ALL)],
            stat: Stat::default(),
            with_stat: false,
        };
        assert_eq!(text(&acl), Text::out("'world,'anyone\n: cdrwa\n"));
        assert_eq!(
            acl.json().unwrap()["acl"],
            json!([{ "scheme": "world", "id": "anyone", "perms": "cdrwa" }])
        );

        let created = Output::Created { path: "/s-1".into() };
        assert_eq!(text(&created), Text::err("Created /s-1\n".into()));
        assert_eq!(created.json(), Some(json!({ "created": "/s-1" })));

        let ids = Output::Identities { ids: vec![Id::new("ip", "127.0.0.1")] };
        assert_eq!(text(&ids), Text::out("Auth scheme: User\nip: 127.0.0.1\n"));
        assert_eq!(Output::Notice("x".into()).json(), None);
    }

    #[test]
    fn events_in_apaches_form() {
        let event = WatchEvent { kind: EventKind::NodeDataChanged, path: "/a".into(), zxid: Zxid(18) };
        let event = Output::Event(Event::Watch(event));
        let line = "WatchedEvent state:SyncConnected type:NodeDataChanged path:/a zxid: 18";
        assert_eq!(text(&event), Text::out(format!("\nWATCHER::\n\n{line}\n")));
        let json =
            json!({ "event": "NodeDataChanged", "state": "SyncConnected", "path": "/a", "zxid": "0x12" });
        assert_eq!(event.json(), Some(json));

        let lost = Output::Event(Event::State(State::Connecting("gone".into())));
        let line = "WatchedEvent state:Disconnected type:None path:null zxid: -1";
        assert_eq!(text(&lost), Text::out(format!("\nWATCHER::\n\n{line}\n")));
        let json = json!({ "event": "None", "state": "Disconnected", "path": null, "zxid": null });
        assert_eq!(lost.json(), Some(json));
    }

    #[test]
    fn colours_change_nothing_but_the_look() {
        let stat = Output::Stat { path: "/".into(), stat: Stat::default(), aloud: true };
        let coloured = String::from_utf8(stat.text(Paint::ALWAYS, &TimeZone::UTC).out).unwrap();
        assert!(coloured.contains('\u{1b}'));
        let stripped = anstream::adapter::strip_str(&coloured).to_string();
        assert_eq!(stripped.into_bytes(), text(&stat).out);
    }
}
