//! What lines mean, and how wrong ones are refused.

use super::*;
use crate::cli::words;

fn understood(line: &str) -> Result<Understood, Failure> {
    parse(&words::split(line))
}

fn command(line: &str) -> Command {
    let understood = understood(line).unwrap_or_else(|failure| panic!("{line}: {}", failure.text));
    assert_eq!(understood.notices, Vec::<String>::new(), "{line}");
    understood.command
}

fn refusal(line: &str) -> String {
    understood(line).expect_err(line).text
}

fn bytes(text: &str) -> Data {
    Data::Bytes(text.into())
}

fn open() -> Vec<Acl> {
    vec![Acl::world(perms::ALL)]
}

fn create(line: &str) -> (Kind, Data) {
    match command(line) {
        Command::Create { kind, data, .. } => (kind, data),
        other => panic!("{other:?}"),
    }
}

#[test]
fn creates() {
    let plain = Kind::Plain { sequential: false, ephemeral: false };
    assert_eq!(
        command("create /a"),
        Command::Create { path: "/a".into(), data: Data::Null, acl: open(), kind: plain }
    );
    assert_eq!(create("create /a ''"), (plain, bytes("")));
    assert_eq!(create("create -s -e /a x").0, Kind::Plain { sequential: true, ephemeral: true });
    assert_eq!(create("create /a x -c").0, Kind::Container);
    assert_eq!(create("create -s -t 5000 /a").0, Kind::Ttl { sequential: true, ms: 5000 });
    assert_eq!(create("create --file x.bin /a").1, Data::File("x.bin".into()));
    assert_eq!(create("create --file - /a world:anyone:r").1, Data::Stdin);
    match command("create --file - /a world:anyone:r") {
        Command::Create { acl, .. } => assert_eq!(acl, [Acl::world(perms::READ)]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn creates_that_contradict_themselves() {
    for (line, words) in [
        (
            "create -c -e /a",
            "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.",
        ),
        ("create -t x /a", "-t argument must be a long value"),
        ("create -t 0 /a", "ttl must be positive and cannot be larger than: 1099511627775"),
        ("create -t -5 /a", "ttl must be positive and cannot be larger than: 1099511627775"),
        ("create -t 5 -e /a", "TTLs cannot be used with Ephemeral znodes"),
        ("create -t 5 -c /a", "TTLs cannot be used with Container znodes"),
        ("create", "create [-s] [-e] [-c] [-t ttl] path [data] [acl]"),
    ] {
        assert_eq!(refusal(line), words, "{line}");
    }
}

#[test]
fn reads() {
    let get = |form, watch, stat| Command::Get { path: "/a".into(), form, watch, stat };
    assert_eq!(command("get /a"), get(Form::Text, false, false));
    assert_eq!(command("get -sw /a"), get(Form::Text, true, true));
    assert_eq!(command("get -b /a"), get(Form::Base64, false, false));
    assert_eq!(command("get -b -x /a"), get(Form::Hex, false, false));
    assert_eq!(command("get --raw /a"), get(Form::Raw, false, false));
    assert_eq!(command("ls -s /a"), Command::Ls { path: "/a".into(), watch: false, stat: true });
    assert_eq!(command("ls -R -w /a"), Command::LsAll { path: "/a".into(), watch: true });
    assert_eq!(command("getEphemerals"), Command::GetEphemerals { path: "/".into() });
    assert!(matches!(command("ls -?"), Command::Help { command: Some(spec) } if spec.name == "ls"));
}

#[test]
fn old_forms_go_on_with_a_notice() {
    for (line, notice) in [
        ("get /a watch", "'get path [watch]' has been deprecated. Please use 'get [-s] [-w] path' instead."),
        ("ls /a watch", "'ls path [watch]' has been deprecated. Please use 'ls [-w] path' instead."),
        ("stat /a true", "'stat path [watch]' has been deprecated. Please use 'stat [-w] path' instead."),
        (
            "delete /a 5",
            "'delete path [version]' has been deprecated. Please use 'delete [-v version] path' instead.",
        ),
        ("ls2 /a", "'ls2' has been deprecated. Please use 'ls [-s] path' instead."),
        ("rmr /a", "The command 'rmr' has been deprecated. Please use 'deleteall' instead."),
    ] {
        assert_eq!(understood(line).unwrap().notices, [notice], "{line}");
    }
    let delete = understood("delete /a 5").unwrap().command;
    assert_eq!(delete, Command::Delete { path: "/a".into(), version: Some(5) });
    let ls2 = understood("ls2 /a").unwrap().command;
    assert_eq!(ls2, Command::Ls { path: "/a".into(), watch: false, stat: true });
    assert!(matches!(understood("stat /a true").unwrap().command, Command::Stat { watch: true, .. }));
}

#[test]
fn writes() {
    let set = |data, version, stat| Command::Set { path: "/a".into(), data, version, stat };
    assert_eq!(command("set /a x"), set(bytes("x"), None, false));
    assert_eq!(command("set /a -"), set(bytes("-"), None, false));
    assert_eq!(command("set -s -v 3 /a x"), set(bytes("x"), Some(3), true));
    assert_eq!(command("set /a aGVsbG8= -b"), set(bytes("hello"), None, false));
    assert_eq!(command("set /a aGVsbG8 -b"), set(bytes("hello"), None, false));
    assert_eq!(command("set /a --file=-"), set(Data::Stdin, None, false));
    assert!(refusal("set -b /a '!!'").starts_with("the data is not base64"));
    assert!(refusal("set /a").starts_with("set path data [-s]"));
    assert_eq!(refusal("set -v x /a y"), "-v argument must be an int value, not \"x\"");
    assert_eq!(command("delete -v -1 /a"), Command::Delete { path: "/a".into(), version: None });
    assert_eq!(refusal("delete /a x"), "the version must be an int value, not \"x\"");
    assert_eq!(command("deleteall -b 5 /a"), Command::DeleteAll { path: "/a".into(), batch: 5 });
    assert_eq!(refusal("deleteall -b x /a"), "-b argument must be an int value");
}

#[test]
fn acls_that_do_not_read_are_told_of() {
    let odd = understood("setAcl -R -v 2 /a world:anyone:rq").unwrap();
    assert_eq!(odd.notices, ["Unknown perm type: q"]);
    let acl = vec![Acl::world(perms::READ)];
    assert_eq!(odd.command, Command::SetAclAll { path: "/a".into(), acl, version: Some(2) });
}

#[test]
fn watches() {
    let mode = |line| match command(line) {
        Command::AddWatch { mode, .. } => mode,
        other => panic!("{other:?}"),
    };
    assert_eq!(mode("addWatch /a"), WatchMode::PersistentRecursive);
    assert_eq!(mode("addWatch -m persistent /a"), WatchMode::Persistent);
    for line in ["addWatch", "addWatch -m foo /a", "addWatch /a b"] {
        assert!(refusal(line).starts_with("addWatch [-m mode] path #"), "{line}");
    }
    let removal = |kind, local| Command::RemoveWatches { path: "/a".into(), kind, local };
    assert_eq!(command("removewatches /a"), removal(WatcherType::Any, false));
    assert_eq!(command("removewatches /a -d -l"), removal(WatcherType::Data, true));
    assert_eq!(command("removewatches -r /a"), removal(WatcherType::PersistentRecursive, false));
}

#[test]
fn quotas() {
    let set = |limit, value| Command::SetQuota { path: "/a".into(), limit, value };
    assert_eq!(command("setquota -n 5 /a"), set(Limit::Count, 5));
    assert_eq!(command("setquota -B 5000000000 /a"), set(Limit::HardBytes, 5_000_000_000));
    for (line, words) in [
        ("setquota -n 0 /a", "the num quota must be greater than zero"),
        ("setquota -b -1 /a", "the bytes quota must be greater than or equal to zero"),
        ("setquota -n 5000000000 /a", "NumberFormatException happens when parsing the option value"),
        ("setquota -n x /a", "NumberFormatException happens when parsing the option value"),
        ("setquota -n 5 /zookeeper/quota/a", "cannot set a quota under the path: /zookeeper/quota"),
        (
            "setquota /a",
            "Missing required option: [-n num soft quota, -b bytes soft quota, -N num hard quota, -B bytes hard quota]",
        ),
        (
            "setquota -n 5 -b 6 /a",
            "The option 'b' was specified but an option from this group has already been selected: 'n'",
        ),
    ] {
        assert_eq!(refusal(line), words, "{line}");
    }
    assert_eq!(
        command("delquota -N /a"),
        Command::DelQuota { path: "/a".into(), limits: vec![Limit::HardCount] }
    );
    assert_eq!(command("delquota /a"), Command::DelQuota { path: "/a".into(), limits: vec![] });
}

#[test]
fn changes_of_members() {
    let members = |line| match command(line) {
        Command::Reconfig(change) => change.members,
        other => panic!("{other:?}"),
    };
    let step = |joining: Option<&str>, leaving: Option<&str>| reconfig::Members::Step {
        joining: joining.map(str::to_string),
        leaving: leaving.map(str::to_string),
    };
    assert_eq!(
        members("reconfig -add Server.5=h:1:2;3 -remove 1,2"),
        step(Some("server.5=h:1:2;3"), Some("1,2"))
    );
    assert_eq!(members("reconfig -remove 3"), step(None, Some("3")));
    assert_eq!(members("reconfig -file f"), reconfig::Members::File("f".into()));
    assert!(
        matches!(command("reconfig -v 1f -members x"), Command::Reconfig(change) if change.version == Some(31))
    );
    for (line, words) in [
        ("reconfig -v zz -add x", "-v must be followed by a long (configuration version)"),
        ("reconfig -file f -members x", "Can't use -file and -members together"),
        ("reconfig -add x -members y", "Can't use -file or -members together with -add or -remove"),
        ("reconfig -s", "reconfig [-s] [-v version]"),
    ] {
        assert!(refusal(line).starts_with(words), "{line}");
    }
}

#[test]
fn of_the_shell_itself() {
    assert_eq!(command("redo 3"), Command::Redo { number: 3 });
    for bad in ["redo x", "redo -1x"] {
        assert!(understood(bad).is_err(), "{bad}");
    }
    assert_eq!(command("printwatches"), Command::PrintWatches { on: None });
    assert_eq!(command("printwatches off"), Command::PrintWatches { on: Some(false) });
    assert_eq!(command("connect"), Command::Connect { to: None });
    assert_eq!(refusal("version x"), "version ");
    assert!(refusal("").ends_with("No command entered"));
    assert_eq!(understood("fly").unwrap_err().code, 127);
    assert_eq!(refusal("get -q /a"), "Unrecognized option: -q");
    for spec in table::COMMANDS {
        let help = command(&format!("help {}", spec.name));
        assert!(matches!(help, Command::Help { command: Some(found) } if found.name == spec.name));
    }
}
