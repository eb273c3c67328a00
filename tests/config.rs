//! `cluster.toml` as operators meet it: what a good one means, and the one line a wrong one gets.

#![allow(clippy::unwrap_used)] // helpers of tests, too, may stop a test

mod ensemble;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use ensemble::{Ensemble, stderr, zabra};
use zabra::config::{Cluster, EXIT_CONFIG};
use zabra_actors::core::prepare::Rules;
use zabra_actors::types::{Membership, Sid};

/// Two servers, correct; cases put their mistake around it.
const GOOD: &str = r#"
[[server]]
id = 1
client = "127.0.0.1:2181"
peer = "127.0.0.1:2888"
admin = "127.0.0.1:7001"
[[server]]
id = 2
role = "observer"
client = "127.0.0.1:2182"
peer = "127.0.0.1:2889"
admin = "127.0.0.1:7002"
"#;

fn load(text: &str, environment: &[(&str, &str)], flags: &[&str]) -> Result<Cluster, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster.toml");
    std::fs::write(&file, text).unwrap();
    let environment: BTreeMap<_, _> =
        environment.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let flags: Vec<_> = flags.iter().map(|flag| flag.to_string()).collect();
    let loaded = Cluster::load_from(&file, environment, &flags);
    loaded.map_err(|e| e.to_string().replace(&*file.display().to_string(), "cluster.toml"))
}

/// The line that the binary prints for a wrong file, after `zabra: cluster.toml: `.
fn line(text: &str, environment: &[(&str, &str)], args: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("cluster.toml"), text).unwrap();
    let mut command = zabra();
    command.current_dir(dir.path()).arg("status").args(args).envs(environment.iter().copied());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(EXIT_CONFIG)), "{text}\n{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let line = stderr(&output);
    assert!(!line.contains('\n'), "more than one line: {line}");
    line.strip_prefix("zabra: cluster.toml: ").unwrap_or_else(|| panic!("no file in {line:?}")).to_string()
}

#[test]
fn everything_has_a_default_but_the_servers() {
    let cluster = load(GOOD, &[], &[]).unwrap();
    assert_eq!(cluster.timing.tick_time, Duration::from_secs(2));
    assert_eq!(cluster.session_timeouts_ms(), (4_000, 40_000));
    assert_eq!(
        (cluster.storage.snap_count, cluster.storage.retain, cluster.storage.purge_every),
        (100_000, 3, None)
    );
    assert_eq!((cluster.client.max_connections_per_ip, cluster.client.max_connections), (Some(60), None));
    assert_eq!((cluster.limits.max_frame, cluster.limits.max_outstanding), (1_048_575, 1000));
    assert_eq!(cluster.admin.four_letter_words.iter().collect::<Vec<_>>(), ["srvr"]);
    let (containers, rules) = (cluster.znode.containers(), cluster.rules());
    assert_eq!((containers.check_interval_ms, containers.max_per_minute), (60_000, 10_000));
    assert_eq!(rules, Rules::default());
    let timing = cluster.timing();
    assert_eq!((timing.tick_ms, timing.init_limit_ms, timing.sync_limit_ms), (2_000, 20_000, 10_000));
    let ensemble = cluster.ensemble(Sid(2));
    assert_eq!(ensemble.voters().collect::<Vec<_>>(), [Sid(1)]);
    assert_eq!(ensemble.my_membership(), Membership::Observer);
    let dirs: Vec<_> =
        cluster.servers.values().map(|s| s.data_dir.strip_prefix(cluster.file.parent().unwrap())).collect();
    assert_eq!(dirs, [Ok(Path::new("data/1")), Ok(Path::new("data/2"))], "relative to the file");
}

#[test]
fn every_key_is_read() {
    let text = r#"
        [cluster]
        name = "prod"
        data_dir = "/var/zabra"
        txn_log_dir = "/var/log"
        epoch_length = 1000
        reconfig = false
        [timing]
        tick_time = "500ms"
        init_limit = 7
        sync_limit = 3
        min_session_timeout = "1s"
        max_session_timeout = "1m"
        [storage]
        snap_count = 50
        snap_size = "1GiB"
        prealloc = "1MiB"
        retain = 5
        purge_every = "1h"
        compression = "snappy"
        min_free = "1MiB"
        [client]
        max_connections_per_ip = 0
        max_connections = 9
        local_sessions = true
        upgrade_local_sessions = true
        read_only_mode = true
        tls = false
        [peer]
        connect_timeout = "1s"
        notification_min = "10ms"
        notification_max = "100ms"
        protocol = "zabra"
        tls = false
        [admin]
        enabled = false
        four_letter_words = ["ruok", "mntr"]
        [limits]
        max_frame = "4MiB"
        max_outstanding = 10
        large_request_threshold = "1MiB"
        large_request_max_bytes = "8MiB"
        [limits.throttle]
        max_requests = 100
        stall_time = "50ms"
        drop_stale = false
        stale_connection_check = false
        stale_latency_check = true
        op_wait_time = "1s"
        connection_tokens = 20
        connection_fill_time = "1s"
        connection_fill_count = 5
        connection_freeze_time = "2s"
        connection_drop_increase = 0.1
        connection_drop_decrease = 0.05
        connection_decrease_ratio = 1
        connection_weight_enabled = true
        connection_global_session_weight = 4
        connection_renew_session_weight = 3
        connection_local_session_weight = 2
        [acl]
        skip = true
        digest = true
        super_digest = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
        enforce = ["ip", "digest"]
        ensemble_names = ["prod"]
        require_sasl = false
        [znode]
        extended_types = true
        enforce_quota = true
        container_check_interval = "10s"
        container_max_per_minute = 600
        container_max_never_used = "5m"
        [[server]]
        id = 254
        role = "participant"
        client = "[::1]:2181"
        peer = "zk.example.org:2888"
        data_dir = "/own"
        weight = 2
        group = 3
    "#;
    let cluster = load(text, &[], &[]).unwrap();
    assert_eq!(
        cluster.effective(),
        "cluster.name=prod cluster.epoch_length=1000 timing.tick_time=500ms timing.init_limit=7 timing.sync_limit=3 \
         timing.min_session_timeout=1s timing.max_session_timeout=1m storage.snap_count=50 \
         storage.snap_size=1073741824B storage.prealloc=1048576B storage.retain=5 storage.purge_every=1h \
         storage.compression=snappy storage.min_free=1048576B client.max_connections_per_ip=0 client.max_connections=9 \
         client.local_sessions=true client.upgrade_local_sessions=true client.read_only_mode=true \
         peer.connect_timeout=1s peer.notification_min=10ms peer.notification_max=100ms admin.enabled=false \
         admin.four_letter_words=isro,mntr,ruok acl.skip=true acl.digest=true acl.super_digest=set \
         acl.enforce=digest,ip acl.ensemble_names=prod znode.extended_types=true znode.enforce_quota=true \
         znode.container_check_interval=10s znode.container_max_per_minute=600 \
         znode.container_max_never_used=5m limits.max_frame=4194304B limits.max_outstanding=10 \
         limits.large_request_threshold=1048576B limits.large_request_max_bytes=8388608B \
         limits.throttle.max_requests=100 limits.throttle.stall_time=50ms limits.throttle.drop_stale=false \
         limits.throttle.stale_connection_check=false limits.throttle.stale_latency_check=true \
         limits.throttle.op_wait_time=1s limits.throttle.connection_tokens=20 \
         limits.throttle.connection_fill_time=1s limits.throttle.connection_fill_count=5 \
         limits.throttle.connection_freeze_time=2s limits.throttle.connection_drop_increase=0.1 \
         limits.throttle.connection_drop_decrease=0.05 limits.throttle.connection_decrease_ratio=1 \
         limits.throttle.connection_global_session_weight=4 limits.throttle.connection_renew_session_weight=3 \
         limits.throttle.connection_local_session_weight=2"
    );
    let (containers, rules) = (cluster.znode.containers(), cluster.rules());
    assert_eq!((containers.check_interval_ms, containers.max_per_minute), (10_000, 600));
    assert_eq!((rules.extended_types, rules.enforce_quota, rules.acl.skip), (true, true, true));
    assert_eq!(rules.max_never_used_ms, 300_000);
    let server = &cluster.servers[&Sid(254)];
    assert_eq!(
        (server.client.to_string(), server.peer.to_string()),
        ("[::1]:2181".into(), "zk.example.org:2888".into())
    );
    assert_eq!((server.data_dir.as_path(), server.weight, server.group), (Path::new("/own"), 2, 3));
    assert_eq!(
        server.directories(),
        [("data_dir", Path::new("/own")), ("txn_log_dir", Path::new("/var/log/254"))]
    );
    let own =
        load(&text.replace("weight = 2\n        group", "txn_log_dir = \"/own\"\n        group"), &[], &[])
            .unwrap();
    assert_eq!(own.servers[&Sid(254)].txn_log_dir, None, "named twice, it is one directory");
    assert!(server.admin.is_none() && cluster.ensemble(Sid(254)).is_standalone());
}

#[test]
fn variables_win_over_the_file_and_flags_over_variables() {
    let text = format!("[timing]\ntick_time = \"1s\"\nsync_limit = 4\ninit_limit = 6\n{GOOD}");
    let environment = [
        ("ZABRA_TIMING__TICK_TIME", "300ms"),
        ("ZABRA_TIMING__SYNC_LIMIT", "8"),
        ("ZABRA_ADMIN__FOUR_LETTER_WORDS", "ruok, stat"),
        ("ZABRA_TIMING__INIT_LIMIT", ""),
        // What a container platform sets for a service of this name.
        ("ZABRA_SERVICE_HOST", "10.0.0.1"),
        ("ZABRA_PORT", "tcp://10.0.0.1:2181"),
        ("OTHER_TIMING__TICK_TIME", "9s"),
    ];
    let cluster = load(&text, &environment, &["timing.tick_time=100ms", "admin.enabled=false"]).unwrap();
    let timing = &cluster.timing;
    assert_eq!(timing.tick_time, Duration::from_millis(100), "the flag wins");
    assert_eq!(timing.sync_limit, 8, "the variable wins over the file");
    assert_eq!(timing.init_limit, 6, "an empty variable is none");
    assert_eq!(cluster.admin.four_letter_words.iter().collect::<Vec<_>>(), ["ruok", "stat"]);
    assert!(!cluster.admin.enabled);
}

#[test]
fn the_throttle_can_be_set_by_variables_and_flags() {
    let environment = [
        ("ZABRA_LIMITS__THROTTLE__MAX_REQUESTS", "7"),
        ("ZABRA_LIMITS__THROTTLE__CONNECTION_TOKENS", "8"),
        ("ZABRA_LIMITS__THROTTLE__CONNECTION_DROP_INCREASE", "0.25"),
    ];
    let flags = ["limits.throttle.max_requests=9", "limits.throttle.connection_freeze_time=1s"];
    let limits = load(GOOD, &environment, &flags).unwrap().limits;
    assert_eq!(limits.request_throttle.unwrap().max_requests, 9);
    let connections = limits.connection_throttle.unwrap();
    assert_eq!((connections.tokens, connections.drop_increase), (8, 0.25));
    assert_eq!((connections.fill_time, connections.fill_count), (Duration::from_millis(1), 1));
}

#[test]
fn no_session_weighs_less_than_a_local_one() {
    let text = format!(
        "[client]\nlocal_sessions = true\n[limits.throttle]\nconnection_tokens = 1\n\
         connection_weight_enabled = true\nconnection_local_session_weight = 5\n{GOOD}"
    );
    let weights = load(&text, &[], &[]).unwrap().limits.connection_throttle.unwrap().weights.unwrap();
    assert_eq!((weights.global, weights.renew, weights.local), (5, 5, 5));
}

/// What comes before the good servers, and the line.
const WRONG_FILES: &[(&str, &str)] = &[
    ("[timming]\ntick_time = \"2s\"", "[timming]: unknown section; did you mean [timing]?"),
    ("[timing]\ntick_tme = \"2s\"", "timing.tick_tme = \"2s\": unknown key; did you mean tick_time?"),
    ("[cluster]\ntick_time = \"2s\"", "cluster.tick_time = \"2s\": unknown key; it belongs to [timing]"),
    (
        "tick_time = \"2s\"",
        "tick_time = \"2s\": unknown key outside of every section; it belongs to [timing]",
    ),
    ("timing = 3", "timing = 3: this is the name of a section; write [timing] and its keys below"),
    (
        "[timing]\ntick_time = \"2x\"",
        "timing.tick_time = \"2x\": it is no length of time; \
         write a number with its unit, as \"2s\" or \"200ms\"",
    ),
    (
        "[timing]\ntick_time = 2000",
        "timing.tick_time = 2000: a length of time needs a unit; \
         write a number with its unit, as \"2s\" or \"200ms\"",
    ),
    (
        "[timing]\ntick_time = \"1ms\"",
        "timing.tick_time = \"1ms\": it is out of range; allowed is 10ms to 10m",
    ),
    (
        "[timing]\ntick_time = \"100ms 7us\"",
        "timing.tick_time = \"100ms 7us\": it has a fraction of a millisecond; round it",
    ),
    ("[timing]\ninit_limit = 0", "timing.init_limit = 0: it is out of range; allowed is 1 to 10000"),
    (
        "[timing]\ninit_limit = \"soon\"",
        "timing.init_limit = \"soon\": it is no whole number; write a number from 1 to 10000",
    ),
    (
        "[timing]\nmin_session_timeout = \"1m\"",
        "timing.min_session_timeout = \"1m\": 1m is longer than max_session_timeout, 40s; \
         shorten it, or raise max_session_timeout",
    ),
    (
        "[peer]\nnotification_min = \"90s\"",
        "peer.notification_min = \"90s\": 1m 30s is longer than notification_max, 3s; \
         shorten it, or raise notification_max",
    ),
    (
        "[limits]\nmax_frame = \"much\"",
        "limits.max_frame = \"much\": it is no size; write a number with its unit, as \"64MiB\" or \"512B\"",
    ),
    (
        "[limits]\nmax_frame = \"2GiB\"",
        "limits.max_frame = \"2GiB\": it is out of range; allowed is 1.0 KiB to 32.0 MiB",
    ),
    ("[storage]\nretain = 2", "storage.retain = 2: it is out of range; allowed is 3 to 10000"),
    (
        "[admin]\nenabled = \"perhaps\"",
        "admin.enabled = \"perhaps\": it is neither true nor false; write true or false",
    ),
    (
        "[admin]\nfour_letter_words = [\"srvr\", \"mntn\"]",
        "admin.four_letter_words = [\"srvr\", \"mntn\"]: \"mntn\" is no command; did you mean mntr?",
    ),
    (
        "[client]\nupgrade_local_sessions = true",
        "client.upgrade_local_sessions = true: there are no local sessions to upgrade; set client.local_sessions = \
         true, or remove this",
    ),
    (
        "[client]\nread_only_mode = \"yes\"",
        "client.read_only_mode = \"yes\": it is neither true nor false; write true or false",
    ),
    (
        "[admin]\nfour_letter_words = 4",
        "admin.four_letter_words = 4: it is no list of words; write it as [\"srvr\", \"ruok\"]",
    ),
    ("[cluster]\nname = \"\"", "cluster.name = \"\": it is empty; give a value, or leave the key out"),
    ("[cluster]\nname = 3", "cluster.name = 3: it is no text; write it in quotes"),
    (
        "[cluster]\nreconfig = true",
        "cluster.reconfig = true: this is specified but not supported yet; remove it or write false",
    ),
    (
        "[client]\ntls = true",
        "client.tls = true: this is specified but not supported yet; remove it or write false",
    ),
    (
        "[peer]\nprotocol = \"apache\"",
        "peer.protocol = \"apache\": this is specified but not supported yet; remove it or write zabra",
    ),
    (
        "[storage]\ncompression = \"zip\"",
        "storage.compression = \"zip\": there is no such compression; write \"gz\", \"snappy\" or \"none\"",
    ),
    (
        "[limits.throttle]\nmax_request = 5",
        "limits.throttle.max_request = 5: unknown key; did you mean max_requests?",
    ),
    ("[limits]\nmax_requests = 5", "limits.max_requests = 5: unknown key; it belongs to [limits.throttle]"),
    (
        "[limits]\nthrottle = 5",
        "limits.throttle = 5: this is the name of a section; write [limits.throttle] and its keys below",
    ),
    (
        "[limits.throttle]\nop_wait_time = \"1s\"",
        "limits.throttle.op_wait_time = \"1s\": it does nothing without limits.throttle.max_requests; set both, or none",
    ),
    (
        "[limits]\nlarge_request_max_bytes = \"8MiB\"",
        "limits.large_request_max_bytes = \"8MiB\": it does nothing without limits.large_request_threshold; \
         set both, or none",
    ),
    (
        "[limits.throttle]\nconnection_fill_time = \"1s\"",
        "limits.throttle.connection_fill_time = \"1s\": it does nothing without limits.throttle.connection_tokens; \
         set both, or none",
    ),
    (
        "[limits.throttle]\nconnection_tokens = 1\nconnection_drop_increase = 0.5",
        "limits.throttle.connection_drop_increase = 0.5: it does nothing without \
         limits.throttle.connection_freeze_time; set both, or none",
    ),
    (
        "[limits.throttle]\nconnection_tokens = 1\nconnection_freeze_time = \"1s\"\nconnection_drop_increase = 2",
        "limits.throttle.connection_drop_increase = 2: it is out of range; allowed is 0 to 1",
    ),
    (
        "[limits.throttle]\nconnection_tokens = 1\nconnection_weight_enabled = true\n\
         connection_local_session_weight = 2",
        "limits.throttle.connection_local_session_weight = 2: it does nothing without client.local_sessions = true; \
         set both, or none",
    ),
    (
        "[acl]\nsuper_digest = \"super:secret\"",
        "acl.super_digest: it is no user and base64 of a SHA-1; write \"super:\" and what this prints: \
         printf super:PASSWORD | openssl sha1 -binary | base64",
    ),
    (
        "[acl]\ndigest = false\nsuper_digest = \"super:D/InIHSb7yEEbrWz8b9l71RjZJU=\"",
        "acl.super_digest: nobody can prove it, since acl.digest is false; \
         remove it, or set acl.digest = true",
    ),
    (
        "[acl]\nenforce = [\"digest\", \"sasl\"]",
        "acl.enforce = [\"digest\", \"sasl\"]: Authentication scheme sasl is not available.; \
         this is not supported yet; the schemes are digest and ip",
    ),
    (
        "[acl]\ndigest = false\nenforce = [\"digest\"]",
        "acl.enforce = [\"digest\"]: Authentication scheme digest is not available.; \
         set acl.digest = true",
    ),
    (
        "[acl]\nrequire_sasl = true",
        "acl.require_sasl = true: this is specified but not supported yet; remove it or write false",
    ),
    (
        "[znode]\ncontainer_max_per_minute = 0",
        "znode.container_max_per_minute = 0: it is out of range; allowed is 1 to 1000000",
    ),
    ("[tls]\nkey = \"k\"", "[tls]: this section is specified but not supported yet; remove it"),
];

#[test]
fn a_wrong_file_gets_one_line() {
    let observers = GOOD.replace("id = 1", "id = 1\nrole = \"observer\"");
    for (before, expected) in WRONG_FILES {
        assert_eq!(line(&format!("{before}\n{GOOD}"), &[], &[]), *expected);
    }
    assert_eq!(
        line(&observers, &[], &[]),
        "[[server]] role: every server is an observer, so nobody could elect a leader; \
         give one server, better three, role = \"participant\""
    );
    assert_eq!(
        line("", &[], &[]),
        "[[server]]: there is no server; add [[server]] with id, client, peer and admin"
    );
    assert_eq!(
        line("[server]\nid = 1", &[], &[]),
        "server: this is no list; write [[server]] before the keys of each server"
    );
    let broken = line("[timing\n", &[], &[]);
    assert!(broken.starts_with("TOML parse error at line 1, column 8: "), "{broken}");
    assert!(broken.ends_with("; correct the file; its form is TOML"), "{broken}");
}

/// What is replaced in the good servers, by what, and the line.
const WRONG_SERVERS: &[(&str, &str, &str)] = &[
    ("id = 2", "", "[[server]] number 2: id: there is no id; give a number from 1 to 254"),
    ("id = 2", "id = 1", "[[server]] number 2: id = 1: another server has this id; give each server its own"),
    ("id = 2", "id = 255", "[[server]] number 2: id = 255: it is out of range; allowed is 1 to 254"),
    ("role", "rol", "[[server]] number 2: rol = \"observer\": unknown key; did you mean role?"),
    (
        "\"observer\"",
        "\"witness\"",
        "[[server]] id 2: role = \"witness\": there is no such role; write \"participant\" or \"observer\"",
    ),
    (
        "127.0.0.1:2182",
        "localhost:2888",
        "[[server]] id 2: client = \"localhost:2888\": this is the peer of server 1 already; \
         choose another host or port",
    ),
    (
        "127.0.0.1:2182",
        "127.0.0.1:0",
        "[[server]] id 2: client = \"127.0.0.1:0\": port 0 is a different port at every start, so nobody \
         could find it; write it as \"host:port\"",
    ),
    (
        "127.0.0.1:2889",
        "2889",
        "[[server]] id 2: peer = \"2889\": there is no port; write it as \"host:port\"",
    ),
    (
        "peer = \"127.0.0.1:2889\"",
        "",
        "[[server]] id 2: peer: there is no address; write peer = \"host:2888\"",
    ),
    (
        "admin = \"127.0.0.1:7002\"",
        "",
        "[[server]] id 2: admin: there is no address for operators; write admin = \"127.0.0.1:7002\", \
         or set admin.enabled = false",
    ),
    (
        "id = 2",
        "id = 2\ntxn_log_dir = \"data/1\"",
        "[[server]] id 2: txn_log_dir = \"data/1\": server 1 has the directory data/1 already; \
         give each server its own",
    ),
    (
        "id = 2",
        "id = 2\ndata_dir = \"data/1\"",
        "[[server]] id 2: data_dir = \"data/1\": server 1 has the directory data/1 already; \
         give each server its own",
    ),
    (
        "id = 1",
        "id = 1\nweight = 0",
        "[[server]] weight: every participant has weight 0, so no set of servers is a quorum; \
         give the participants a weight of 1, or leave it out",
    ),
];

#[test]
fn a_wrong_server_gets_one_line() {
    for (good, bad, expected) in WRONG_SERVERS {
        assert!(GOOD.contains(good));
        assert_eq!(line(&GOOD.replace(good, bad), &[], &[]), *expected);
    }
}

#[test]
fn a_wrong_override_names_where_it_came_from() {
    let variable = |name, value| line(GOOD, &[(name, value)], &[]);
    assert_eq!(
        variable("ZABRA_TIMING__SYNC_LIMIT", "0"),
        "timing.sync_limit = \"0\" (from variable ZABRA_TIMING__SYNC_LIMIT): \
         it is out of range; allowed is 1 to 10000"
    );
    assert_eq!(
        variable("ZABRA_TIMING__SYNCLIMIT", "5"),
        "timing.synclimit = \"5\" (from variable ZABRA_TIMING__SYNCLIMIT): \
         unknown key; did you mean sync_limit?"
    );
    assert_eq!(
        variable("ZABRA_TIMNG__SYNC_LIMIT", "5"),
        "[timng] (from variable ZABRA_TIMNG__SYNC_LIMIT): unknown section; did you mean [timing]?"
    );
    assert_eq!(
        variable("ZABRA_SERVER__1__CLIENT", "h:1"),
        "server.1.client = \"h:1\" (from variable ZABRA_SERVER__1__CLIENT): \
         the servers cannot be overridden; edit [[server]] in the file"
    );
    assert_eq!(
        line(GOOD, &[], &["--set", "timing.tick_time=1"]),
        "timing.tick_time = \"1\" (from flag --set): it is no length of time; \
         write a number with its unit, as \"2s\" or \"200ms\""
    );
    assert_eq!(
        line(GOOD, &[], &["--set", "timing"]),
        "--set timing: there is no value; write --set section.key=value"
    );
    assert_eq!(
        line(GOOD, &[], &["--set", "timing.tick time=1"]),
        "timing.tick time = \"1\" (from flag --set): this names no key; \
         name it as section.key, in a variable as ZABRA_SECTION__KEY"
    );
}

#[test]
fn a_missing_file_and_an_unknown_id_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = zabra().current_dir(dir.path()).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        stderr(&output)
    };
    assert_eq!(
        run(&["up", "--config", "none.toml"]),
        "zabra: none.toml: cannot read this file: No such file or directory (os error 2); \
         name the configuration with --config FILE"
    );
    std::fs::write(dir.path().join("cluster.toml"), GOOD).unwrap();
    assert_eq!(
        run(&["serve", "--id", "9"]),
        "zabra: cluster.toml: [[server]] id = 9 (from flag --id): \
         My id 9 not in the peer list; the servers are 1, 2"
    );
    std::fs::write(dir.path().join("large.toml"), vec![b'#'; (1 << 20) + 1]).unwrap();
    assert_eq!(
        run(&["status", "--config", "large.toml"]),
        "zabra: large.toml: the file has 1048577 bytes and the limit is 1048576; \
         name the configuration with --config FILE"
    );
}

#[test]
fn a_port_in_use_and_a_bad_directory_stop_it_before_the_start() {
    let ensemble = Ensemble::new(2);
    let taken = TcpListener::bind(("127.0.0.1", ensemble.ports[1][1])).unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = ensemble.zabra(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(
        stderr(&output),
        format!(
            "zabra: cluster.toml: [[server]] id 2: peer = \"127.0.0.1:{port}\": this port is in use; \
             stop the process that listens there (another zabra?), or choose another port"
        )
    );
    drop(taken);
    // A file in the way: no user, not even root, can make a directory of it.
    std::fs::write(ensemble.path().join("file"), "").unwrap();
    for command in [&["up"][..], &["serve", "--id", "1"]] {
        let output = ensemble.zabra(command).args(["--set", "cluster.data_dir=file"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(
            stderr(&output),
            "zabra: cluster.toml: [[server]] id 1: data_dir = \"file/1\" (from flag --set): \
             this directory cannot be used: Not a directory (os error 20); \
             make it readable and writable for this user, or name another in cluster.data_dir"
        );
    }
}

#[test]
fn an_even_number_of_participants_is_a_warning() {
    assert_eq!(load(GOOD, &[], &[]).unwrap().warnings().len(), 1);
    let two = load(&GOOD.replace("role = \"observer\"", ""), &[], &[]).unwrap();
    let warnings = two.warnings();
    assert!(warnings[0].ends_with("2 participants survive the loss of 0, as 1 do; take an odd number"));
    let three = format!("{GOOD}[[server]]\nid = 3\nclient = \"c:1\"\npeer = \"c:2\"\nadmin = \"c:3\"\n");
    let three = load(&three.replace("role = \"observer\"", ""), &[], &[]).unwrap();
    assert!(three.warnings().is_empty());
}

#[test]
fn read_only_mode_of_a_single_server_is_a_warning() {
    let alone = "[client]\nread_only_mode = true\n[[server]]\nid = 1\nclient = \"a:1\"\npeer = \"a:2\"\nadmin = \"a:3\"\n";
    let cluster = load(alone, &[], &[]).unwrap();
    assert!(cluster.admin.four_letter_words.contains("isro"), "its clients ask for it");
    let said = "a single server is never cut off from the others, so it is never read-only";
    assert!(cluster.warnings()[0].ends_with(said));
    let two = load(GOOD, &[("ZABRA_CLIENT__READ_ONLY_MODE", "true")], &[]).unwrap();
    assert!(two.client.read_only_mode && !two.warnings().iter().any(|line| line.contains("read-only")));
}

#[test]
fn the_shipped_file_is_right() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster.toml");
    let cluster = Cluster::load_from(&file, [], &[]).unwrap();
    assert_eq!(cluster.servers.len(), 4);
    assert!(cluster.warnings().is_empty());
}

#[test]
fn clients_read_the_members_as_apache_writes_them() {
    let members = |text: &str| load(text, &[], &[]).unwrap().members_text();
    let servers = "server.1=127.0.0.1:2888:3888:participant;127.0.0.1:2181\n\
                   server.2=127.0.0.1:2889:3889:observer;127.0.0.1:2182\n";
    assert_eq!(members(GOOD), Some(format!("{servers}version=0")));
    let grouped = GOOD.replace("id = 1", "id = 1\nweight = 2\ngroup = 3");
    assert_eq!(members(&grouped), Some(format!("{servers}group.3=1\nweight.1=2\nversion=0")));
    let v6 = GOOD.replace("127.0.0.1:2888", "[::1]:2888");
    assert!(members(&v6).unwrap().starts_with("server.1=[::1]:2888:3888:participant;127.0.0.1:2181\n"));
    let alone = GOOD.split("[[server]]\nid = 2").next().unwrap();
    assert_eq!(members(alone), None, "a standalone server has no ensemble");
}
