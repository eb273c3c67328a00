//! The commands: names, usage, options. The usage strings are those of Apache's 3.9, byte for byte; what is ours
//! stands in `help COMMAND` only.

use super::getopt::{Opt, flag, valued};

/// What is known of a command before it is parsed.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// What follows the name in a usage line.
    pub usage: &'static str,
    /// Its options.
    pub options: &'static [Opt],
    /// What it does, in one line.
    pub about: &'static str,
    /// A usage line is followed by a table of options, as for the newest commands of Apache's.
    pub tabled: bool,
    /// An old name, understood but not shown.
    pub hidden: bool,
}

const fn spec(name: &'static str, usage: &'static str, options: &'static [Opt], about: &'static str) -> Spec {
    Spec { name, usage, options, about, tabled: false, hidden: false }
}

const STAT: Opt = flag("s", "Print znode stats additionally");
const FILE: Opt = Opt {
    name: "file",
    long: true,
    value: Some("file"),
    about: "Take data from a file; - is standard input",
};
const LIMITS: [Opt; 4] = [
    flag("n", "num soft quota"),
    flag("b", "bytes soft quota"),
    flag("N", "num hard quota"),
    flag("B", "bytes hard quota"),
];
const LIMIT_VALUES: [Opt; 4] = [
    valued("n", "val", "num soft quota"),
    valued("b", "val", "bytes soft quota"),
    valued("N", "val", "num hard quota"),
    valued("B", "val", "bytes hard quota"),
];

/// All commands, sorted as their help is: by code points, as if the longer of two names came later.
pub static COMMANDS: &[Spec] = &[
    spec(
        "addWatch",
        "[-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is PERSISTENT_RECURSIVE",
        &[valued("m", "mode", "PERSISTENT or PERSISTENT_RECURSIVE")],
        "Set a watch that stays",
    ),
    spec("addauth", "scheme auth", &[], "Add an identity to the session, as digest user:password"),
    spec("close", "", &[], "Close the session"),
    spec(
        "config",
        "[-c] [-w] [-s]",
        &[flag("c", "Only the version and the client addresses"), flag("w", "Watch for changes"), STAT],
        "Print the ensemble's configuration",
    ),
    spec("connect", "host:port", &[], "Open a new session, there or where the last one was"),
    spec(
        "create",
        "[-s] [-e] [-c] [-t ttl] path [data] [acl]",
        &[
            flag("s", "Sequential: the server puts a number behind the path"),
            flag("e", "Ephemeral: goes with the session"),
            flag("c", "Container: goes after its last child"),
            valued("t", "ttl", "Goes when it has no children and was not set for so many milliseconds"),
            FILE,
        ],
        "Create a znode",
    ),
    spec(
        "delete",
        "[-v version] path",
        &[valued("v", "version", "Only with this version")],
        "Delete a znode without children",
    ),
    spec(
        "deleteall",
        "path [-b batch size]",
        &[valued("b", "batch size", "How many go at once, 1000 unless said otherwise; 0 is one by one")],
        "Delete a znode and everything below it",
    ),
    spec("delquota", "[-n|-b|-N|-B] path", &LIMITS, "Delete a quota, or one of its limits"),
    Spec {
        name: "get",
        usage: "[-s] [-w] [-b] [-x] path",
        options: &[
            STAT,
            flag("w", "Watch for changes on the znode"),
            flag("b", "Output data in base64 format"),
            flag("x", "Output data in hexdump format"),
            Opt {
                name: "raw",
                long: true,
                value: None,
                about: "Print the data as it is, and no newline behind it",
            },
        ],
        about: "Print the data of a znode",
        tabled: true,
        hidden: false,
    },
    spec("getAcl", "[-s] path", &[STAT], "Print the ACL of a znode"),
    spec("getAllChildrenNumber", "path", &[], "Count the znodes below a znode, at any depth"),
    spec("getEphemerals", "path", &[], "List this session's ephemerals, or those below a path"),
    spec("history", "", &[], "Print the last commands and their numbers"),
    spec("listquota", "path", &[], "Print the quota of a znode and what is used of it"),
    spec(
        "ls",
        "[-s] [-w] [-R] path",
        &[
            STAT,
            flag("w", "Watch for changes of the children"),
            flag("R", "Everything below, one path a line"),
            flag("?", "help"),
        ],
        "List the children of a znode",
    ),
    Spec { hidden: true, ..spec("ls2", "path [watch]", &[], "An old name of ls -s") },
    spec("printwatches", "on|off", &[], "Whether events are printed"),
    spec("quit", "", &[], "Close the session and leave"),
    spec(
        "reconfig",
        "[-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,...]*]] | [-add serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]",
        &[
            STAT,
            valued("v", "version", "Only if this is the current version, in hexadecimal"),
            valued("file", "path", "All members, from a file"),
            valued("members", "servers", "All members"),
            valued("add", "servers", "Servers that join"),
            valued("remove", "ids", "Servers that leave"),
        ],
        "Change the members of the ensemble",
    ),
    spec("redo", "cmdno", &[], "Repeat the command of this number"),
    spec(
        "removewatches",
        "path [-c|-d|-a] [-l]",
        &[
            flag("c", "Those of the children"),
            flag("d", "Those of the data"),
            flag("p", "Persistent ones"),
            flag("r", "Persistent recursive ones"),
            flag("a", "All, which is what happens without an option"),
            flag("l", "Also without a connection"),
        ],
        "Remove this session's watches of a znode",
    ),
    Spec { hidden: true, ..spec("rmr", "path", &[], "An old name of deleteall") },
    Spec {
        name: "set",
        usage: "path data [-s] [-v version] [-b]",
        options: &[
            STAT,
            valued("v", "version", "Set with an expected version"),
            flag("b", "Supply data in base64 format"),
            FILE,
        ],
        about: "Set the data of a znode",
        tabled: true,
        hidden: false,
    },
    spec(
        "setAcl",
        "[-s] [-v version] [-R] path acl",
        &[
            STAT,
            valued("v", "version", "Only with this version of the ACL"),
            flag("R", "Everything below, too"),
        ],
        "Set the ACL of a znode: scheme:id:perms, several with commas",
    ),
    spec("setquota", "-n|-b|-N|-B val path", &LIMIT_VALUES, "Limit what may be below a znode"),
    spec("stat", "[-w] path", &[flag("w", "Watch for changes on the znode")], "Print the stats of a znode"),
    spec("sync", "path", &[], "Let the server catch up with the leader"),
    spec("version", "", &[], "Print the version of this shell"),
    spec("whoami", "", &[], "Print who the server takes this session for"),
    Spec { hidden: true, ..spec("help", "[command]", &[], "Print all commands, or one and its options") },
];

/// The command of this name.
pub fn find(name: &str) -> Option<&'static Spec> {
    COMMANDS.iter().find(|spec| spec.name == name)
}

/// Every command with its usage, as Apache prints it.
pub fn overview() -> String {
    let mut text = "ZooKeeper -server host:port -client-configuration properties-file cmd args\n".to_string();
    for spec in COMMANDS.iter().filter(|spec| !spec.hidden) {
        text += &format!("\t{} {}\n", spec.name, spec.usage);
    }
    text
}

impl Spec {
    /// What is printed when the arguments are wrong, without the last newline.
    pub fn usage(&self) -> String {
        let mut text = format!("{} {}", self.name, self.usage);
        if self.tabled {
            let apaches: Vec<Opt> = self.options.iter().filter(|option| !option.long).copied().collect();
            text.push('\n');
            text += &table(&apaches, |_| "arg");
        }
        text
    }

    /// `help COMMAND`: all there is to say.
    pub fn help(&self) -> String {
        format!("{} {}\n{}\n{}", self.name, self.usage, self.about, table(self.options, |value| value))
    }
}

/// Options in two columns, sorted as commons-cli does: without regard to case.
fn table(options: &[Opt], value_name: impl Fn(&'static str) -> &'static str) -> String {
    let mut rows: Vec<(String, &str)> = options
        .iter()
        .map(|option| {
            let dashes = if option.long { "--" } else { "-" };
            let value = option.value.map(|value| format!(" <{}>", value_name(value))).unwrap_or_default();
            (format!(" {dashes}{}{value}", option.name), option.about)
        })
        .collect();
    rows.sort_by_key(|(left, _)| left.to_lowercase());
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    rows.iter().map(|(left, about)| format!("{left:width$}   {about}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_is_apaches() {
        let text = overview();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 29);
        assert_eq!(lines[1].split(' ').next(), Some("\taddWatch"));
        assert_eq!(lines[3], "\tclose ");
        assert_eq!(lines[10], "\tget [-s] [-w] [-b] [-x] path");
        assert_eq!(lines[28], "\twhoami ");
        let mut sorted = lines[1..].to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, lines[1..]);
    }

    /// Recorded from the 3.9.5 shell.
    #[test]
    fn usage_of_the_newest_commands_has_a_table() {
        assert_eq!(
            find("set").unwrap().usage(),
            "set path data [-s] [-v version] [-b]\n \
             -b         Supply data in base64 format\n \
             -s         Print znode stats additionally\n \
             -v <arg>   Set with an expected version\n"
        );
        assert_eq!(find("sync").unwrap().usage(), "sync path");
    }

    #[test]
    fn help_of_a_command_names_what_is_ours_too() {
        let help = find("create").unwrap().help();
        assert!(help.contains(" --file <file>   Take data from a file"), "{help}");
        assert!(help.contains(" -t <ttl> "), "{help}");
    }
}
