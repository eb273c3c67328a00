//! Four-letter words: what operators and their tools ask with `nc` on the clients' port.
//!
//! The words are the first four bytes of a connection, in place of a frame's length; the answer is text,
//! then the connection is closed. Many tools read the texts with regular expressions, so they are
//! Apache's to the byte. A word that is not in the whitelist is known all the same: who asks is told so.
//!
//! | file | words |
//! |---|---|
//! | here | `ruok`, `isro`, `gtmk`, `stmk`, `crst`, `srst` |
//! | `server` | `srvr`, `stat` |
//! | `connections` | `cons`; the connections in `stat` and `dump` |
//! | `brain` | `dump`, `wchs`, `wchc`, `wchp`, `hash`: lists that the brain has, a page at a time |
//! | `conf` | `conf`, `dirs` |
//! | `environment` | `envi` |
//! | `mntr` | `mntr` |
//! | `paper` | what an answer is written on |

mod brain;
mod conf;
mod connections;
mod date;
mod environment;
mod mntr;
mod paper;
mod server;

use std::sync::atomic::Ordering::Relaxed;

use tokio::net::TcpStream;
use zabra_actors::types::ConnId;

use super::listener::Clients;
pub use conf::{Conf, QuorumConf};
pub(super) use paper::AnswerError;
use paper::Paper;

/// All words.
const WORDS: [&[u8; 4]; 18] = [
    b"conf", b"cons", b"crst", b"dirs", b"dump", b"envi", b"gtmk", b"hash", b"isro", b"mntr", b"ruok",
    b"srst", b"srvr", b"stat", b"stmk", b"wchc", b"wchp", b"wchs",
];

/// What telnet sends when it is told to go: known so that it is no broken frame in the logs.
const TELNET_CLOSE: [u8; 4] = [0xff, 0xf4, 0xff, 0xfd];

/// In the whitelist, all words.
const ALL: &str = "*";

/// Apache's tools themselves ask for this one, so it is always in the whitelist.
const ALWAYS: &str = "srvr";

/// Bytes of the mask that follows `stmk`.
const MASK: usize = 8;

/// The trace mask of a fresh server. It is kept because tools set and read it; no log line depends on it.
pub(super) const TRACE_MASK: i64 = 306;

/// What most words say while there is no quorum, and no read-only mode.
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";

/// The release whose behaviour this is, as tools parse it, then what it really is.
const VERSION: &str = concat!("3.9.5-zabra-", env!("CARGO_PKG_VERSION"), ", built on ");

/// When this was built; set by the build of a release.
const BUILT_ON: &str = match option_env!("ZABRA_BUILT_ON") {
    Some(date) => date,
    None => "an unknown date",
};

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    name: [u8; 4],
    /// Of `stmk`.
    mask: i64,
}

/// The word that a connection begins with. `Ok(None)` if it is none, an error (how many bytes there are to be)
/// while that cannot be told, or a mask is missing.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Word>, usize> {
    let name = *bytes.first_chunk::<4>().ok_or(4_usize)?;
    if name == TELNET_CLOSE || name != *b"stmk" && WORDS.contains(&&name) {
        return Ok(Some(Word { name, mask: 0 }));
    }
    if name != *b"stmk" {
        return Ok(None);
    }
    let mask = bytes[4..].first_chunk::<MASK>().ok_or(4 + MASK)?;
    Ok(Some(Word { name, mask: i64::from_be_bytes(*mask) }))
}

/// Answers a word. `asker` is the connection that asks.
pub(super) async fn answer(
    socket: &mut TcpStream,
    word: Word,
    asker: ConnId,
    clients: &Clients,
) -> Result<(), AnswerError> {
    let mut paper = Paper::new(socket, &clients.stats);
    write(&mut paper, word, asker, clients).await?;
    paper.flush().await
}

async fn write(
    paper: &mut Paper<'_>,
    word: Word,
    asker: ConnId,
    clients: &Clients,
) -> Result<(), AnswerError> {
    let Some(name) = allowed(&word.name, &clients.settings.four_letter_words) else {
        return paper
            .say(format_args!(
                "{} is not executed because it is not in the whitelist.\n",
                name_of(&word.name)
            ))
            .await;
    };
    let (open, read_only) = (clients.stats.is_open(), clients.stats.is_read_only());
    match name {
        // These are answered whatever the server does.
        "ruok" => paper.say("imok").await,
        "isro" if read_only => paper.say("ro").await,
        "isro" => paper.say(if open { "rw" } else { "null" }).await,
        "gtmk" => paper.say(clients.trace_mask.load(Relaxed)).await,
        "stmk" => {
            clients.trace_mask.store(word.mask, Relaxed);
            paper.say(word.mask).await
        }
        "envi" => environment::envi(paper).await,
        // Whoever has told telnet to close wants no answer.
        "telnet close" => Ok(()),
        // Apache forgets the end of this line.
        "hash" if !open => paper.say(NOT_SERVING).await,
        _ if !open => paper.say(format_args!("{NOT_SERVING}\n")).await,
        "srvr" => paper.say(server::srvr(clients, "")).await,
        "stat" => paper.say(server::srvr(clients, &connections::brief(asker, clients))).await,
        "mntr" => paper.say(mntr::answer(clients)).await,
        "conf" => conf::conf(paper, clients).await,
        "dirs" => conf::dirs(paper, clients).await,
        "cons" => connections::cons(paper, asker, clients).await,
        "crst" => {
            clients.registry.list().iter().for_each(|(_, figures)| figures.reset());
            paper.say("Connection stats reset.\n").await
        }
        "srst" => {
            clients.stats.reset();
            paper.say("Server stats reset.\n").await
        }
        "dump" => brain::dump(paper, clients).await,
        "wchs" => brain::wchs(paper, clients).await,
        "wchc" => brain::wchc(paper, clients).await,
        "wchp" => brain::wchp(paper, clients).await,
        "hash" => brain::hash(paper, clients).await,
        other => unreachable!("{other} is no word"),
    }
}

/// A word's name, if it may be answered.
fn allowed<'a>(word: &'a [u8; 4], whitelist: &[String]) -> Option<&'a str> {
    let name = name_of(word);
    let everything = || {
        let listed = |word: &&[u8; 4]| whitelist.iter().any(|listed| listed.as_bytes() == &word[..]);
        whitelist.iter().any(|listed| listed == ALL) || WORDS.iter().all(listed)
    };
    let allowed = name == ALWAYS || whitelist.iter().any(|listed| listed == name) || everything();
    allowed.then_some(name)
}

fn name_of(word: &[u8; 4]) -> &str {
    if *word == TELNET_CLOSE { "telnet close" } else { std::str::from_utf8(word).expect("words are ASCII") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_no_word() {
        let word = |name: &[u8; 4]| Ok(Some(Word { name: *name, mask: 0 }));
        assert_eq!((read(b"ruok"), read(b"dump\r\n")), (word(b"ruok"), word(b"dump")));
        assert_eq!(read(&TELNET_CLOSE), word(&TELNET_CLOSE));
        for bytes in [[0, 0, 0, 45], *b"xyzw", *b"RUOK", *b"GET ", [0xff; 4]] {
            assert_eq!(read(&bytes), Ok(None), "{bytes:?}");
        }
        assert_eq!((read(b""), read(b"ruo")), (Err(4), Err(4)));
    }

    #[test]
    fn a_mask_follows_its_word() {
        assert_eq!((read(b"stmk"), read(b"stmk\0\0\0\0\0\0\x01")), (Err(12), Err(12)));
        let mask = i64::from_be_bytes([0, 0, 0, 0, 0, 0, 1, 0x32]);
        assert_eq!(read(b"stmk\0\0\0\0\0\0\x01\x32\n"), Ok(Some(Word { name: *b"stmk", mask })));
        let negative = Word { name: *b"stmk", mask: -1 };
        assert_eq!(read(&[b"stmk".as_slice(), &[0xff; 8]].concat()), Ok(Some(negative)));
    }

    #[test]
    fn the_whitelist_always_has_srvr() {
        let list = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        assert_eq!(allowed(b"srvr", &[]), Some("srvr"));
        assert_eq!(allowed(b"ruok", &[]), None);
        assert_eq!(allowed(b"ruok", &list(&["stat", "ruok"])), Some("ruok"));
        assert_eq!(allowed(b"stmk", &list(&["*"])), Some("stmk"));
        assert_eq!(allowed(&TELNET_CLOSE, &list(&["ruok"])), None);
        assert_eq!(allowed(&TELNET_CLOSE, &list(&["*"])), Some("telnet close"));
        let all: Vec<String> = WORDS.iter().map(|word| name_of(word).to_string()).collect();
        assert_eq!(allowed(&TELNET_CLOSE, &all), Some("telnet close"), "an asterisk that was spelled out");
    }
}
