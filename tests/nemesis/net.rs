//! A network of the test's own: a bridge, on whose side the clients are, and a network namespace for each server.
//!
//! Between two servers packets are lost by a neighbour entry with an address that nobody has: they go out and arrive
//! nowhere, as in a real network that is cut; in one direction if so wanted. Nobody is told of it, unlike with a route
//! that refuses. A link that is down cuts a server off from clients, too.
//!
//! A lossy link throws away a part of the packets from one server to another: a filter of a few instructions draws a
//! number for each. The kernel draws it, so the seed says which links lose how much, but not which packets. It is at
//! the bridge's end of the cable, since a sender that itself throws packets away knows of it and sends them again at
//! once, which is no loss at all. A slow link is a token bucket at each end of a server's cable, with a queue in front:
//! what comes in quicker than the link takes it waits there, and is thrown away when the queue is full. Both are parts of
//! the kernel that it can be built without; whether they are there is tried, not guessed.

use std::net::Ipv4Addr;

use super::sandbox::run;

/// The last part of the bridge's address.
const BRIDGE: u8 = 254;

/// A hardware address that no interface has.
const NOWHERE: &str = "02:00:00:00:00:ff";

/// What a slow link takes at once, in bytes: more than one packet, which it would never take else.
const BURST: u32 = 4_000;

/// How long a packet may wait before a slow link, in milliseconds. A queue with more in it is full.
const QUEUE_MS: u32 = 500;

/// Where the destination of an IPv4 packet is in its frame.
const DESTINATION: u32 = 14 + 16;

/// Where a BPF program reads a random number from, and not from the packet (`SKF_AD_OFF + SKF_AD_RANDOM`).
const RANDOM: u32 = 0xffff_f000 + 56;

/// The address of a server.
pub fn address(sid: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, sid)
}

/// The namespace of a server, as a file.
pub fn namespace(sid: u8) -> String {
    format!("/run/netns/s{sid}")
}

fn ip(words: &str) -> Result<(), String> {
    let words: Vec<&str> = ["ip"].into_iter().chain(words.split_whitespace()).collect();
    run(&words)
}

fn tc(words: &str) -> Result<(), String> {
    let words: Vec<&str> = ["tc"].into_iter().chain(words.split_whitespace()).collect();
    run(&words)
}

/// Makes the network. Only inside of the sandbox.
///
/// # Errors
///
/// The command that did not work.
pub fn make(servers: u8) -> Result<(), String> {
    run(&["mount", "-t", "tmpfs", "none", "/run"])?;
    ip("link set lo up")?;
    ip("link add bridge type bridge")?;
    ip(&format!("addr add {}/24 dev bridge", address(BRIDGE)))?;
    ip("link set bridge up")?;
    for sid in 1..=servers {
        ip(&format!("netns add s{sid}"))?;
        ip(&format!("link add port{sid} type veth peer name eth0 netns s{sid}"))?;
        ip(&format!("link set port{sid} master bridge up"))?;
        ip(&format!("-n s{sid} addr add {}/24 dev eth0", address(sid)))?;
        ip(&format!("-n s{sid} link set eth0 up"))?;
        ip(&format!("-n s{sid} link set lo up"))?;
    }
    Ok(())
}

/// From now on what `from` sends to `to` is lost.
///
/// # Errors
///
/// The command that did not work.
pub fn lose(from: u8, to: u8) -> Result<(), String> {
    ip(&format!("-n s{from} neigh replace {} lladdr {NOWHERE} dev eth0 nud permanent", address(to)))
}

/// What `from` sends to `to` arrives again.
///
/// # Errors
///
/// The command that did not work.
pub fn deliver(from: u8, to: u8) -> Result<(), String> {
    ip(&format!("-n s{from} neigh del {} dev eth0", address(to)))
}

/// Takes a server off the network, or brings it back.
///
/// # Errors
///
/// The command that did not work.
pub fn plug(sid: u8, is_in: bool) -> Result<(), String> {
    ip(&format!("link set port{sid} {}", if is_in { "up" } else { "down" }))
}

/// From now on so many percent of what `from` sends to `to` are lost.
///
/// # Errors
///
/// The command that did not work.
pub fn lose_some(from: u8, to: u8, percent: u32) -> Result<(), String> {
    // The program is one word.
    let (port, place, program) = (format!("port{from}"), to.to_string(), losing(to, percent));
    let filter = ["tc", "filter", "add", "dev", &port, "ingress", "protocol", "ip", "pref"];
    let does: [&str; 5] = [&place, "bpf", "bytecode", &program, "direct-action"];
    run(&[&filter[..], &does[..]].concat())
}

/// What `from` sends to `to` arrives again, all of it.
///
/// # Errors
///
/// The command that did not work.
pub fn lose_none(from: u8, to: u8) -> Result<(), String> {
    tc(&format!("filter del dev port{from} ingress pref {to}"))
}

/// The filter, as `tc` wants it: how many instructions, then each as its code, the jumps if true and if false, and its
/// constant.
fn losing(to: u8, percent: u32) -> String {
    let address = u32::from(address(to));
    let below = u32::MAX / 100 * percent;
    let (drop, go_on) = (2, u32::MAX);
    [
        "6".to_string(),
        format!("32 0 0 {DESTINATION}"), // load it
        format!("21 0 3 {address}"),     // another: go on
        format!("32 0 0 {RANDOM}"),      // load one
        format!("53 1 0 {below}"),       // at least that: go on
        format!("6 0 0 {drop}"),
        format!("6 0 0 {go_on}"),
    ]
    .join(",")
}

/// From now on a server's link takes so many kilobits a second, in each direction.
///
/// # Errors
///
/// The command that did not work.
pub fn slow(sid: u8, kbits: u32) -> Result<(), String> {
    let bucket = format!("root tbf rate {kbits}kbit burst {BURST} latency {QUEUE_MS}ms");
    tc(&format!("-n s{sid} qdisc replace dev eth0 {bucket}"))?;
    tc(&format!("qdisc replace dev port{sid} {bucket}"))
}

/// A server's link is as fast as before.
///
/// # Errors
///
/// The command that did not work.
pub fn hasten(sid: u8) -> Result<(), String> {
    tc(&format!("-n s{sid} qdisc del dev eth0 root"))?;
    tc(&format!("qdisc del dev port{sid} root"))
}

/// Makes links ready to be lossy, and tries it.
///
/// # Errors
///
/// Why this kernel cannot do that.
pub fn can_lose_some(servers: u8) -> Result<(), String> {
    (1..=servers).try_for_each(|sid| tc(&format!("qdisc add dev port{sid} clsact")))?;
    lose_some(1, 1, 1)?;
    lose_none(1, 1)
}

/// Tries a slow link.
///
/// # Errors
///
/// Why this kernel cannot do that.
pub fn can_slow() -> Result<(), String> {
    slow(1, 1_000)?;
    hasten(1)
}
