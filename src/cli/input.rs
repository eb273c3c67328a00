//! Where lines come from: a script on standard input, or somebody at a terminal.
//!
//! Reading blocks, so it has a thread of its own. The shell asks for a line, and goes on to print events until there
//! is one.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The longest line of a script, in bytes: far above what any request can hold.
const MAX_LINE: u64 = 16 << 20;

/// What came of asking for a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A line, without its end.
    Line(String),
    /// Ctrl-C: no line.
    Interrupted,
    /// Ctrl-D, or the end of a script.
    End,
    /// No more can be read, because of this.
    Failed(String),
}

/// The shell's end of a thread that reads.
pub struct Lines {
    ask: Sender<String>,
    answers: UnboundedReceiver<Input>,
}

impl Lines {
    /// Starts a thread that answers each question with `read`: a prompt in, a line out.
    pub fn start(mut read: impl FnMut(&str) -> Input + Send + 'static) -> Lines {
        let (ask, questions): (Sender<String>, Receiver<String>) = channel();
        // One question, one answer: it does not grow.
        let (answer, answers): (UnboundedSender<Input>, _) = unbounded_channel();
        std::thread::spawn(move || {
            for prompt in questions {
                if answer.send(read(&prompt)).is_err() {
                    break;
                }
            }
        });
        Lines { ask, answers }
    }

    /// A script on standard input. Nobody sees a prompt.
    pub fn script() -> Lines {
        let mut input = BufReader::new(io::stdin());
        Lines::start(move |_| line_of(&mut input))
    }

    /// Asks for a line; [`Lines::next`] has it some time later.
    pub fn ask(&self, prompt: String) {
        // A thread that is gone says so by not answering.
        let _ = self.ask.send(prompt);
    }

    /// The answer. Nothing is lost when this is dropped and called again.
    pub async fn next(&mut self) -> Input {
        self.answers.recv().await.unwrap_or(Input::End)
    }
}

/// One line of a script. A last line may lack its end; what is no UTF-8 is replaced, as Java does it.
fn line_of(input: &mut impl BufRead) -> Input {
    let mut line = Vec::new();
    match input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
        Err(error) => Input::Failed(format!("standard input: {error}")),
        Ok(0) => Input::End,
        Ok(size) if size as u64 == MAX_LINE && !line.ends_with(b"\n") => {
            Input::Failed(format!("standard input: a line longer than {MAX_LINE} bytes"))
        }
        Ok(_) => {
            let end = line.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
            Input::Line(String::from_utf8_lossy(&line[..end]).into_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_script() {
        let mut script = &b"ls /\r\n\nset /a \xff\nlast"[..];
        let lines: Vec<Input> = std::iter::repeat_with(|| line_of(&mut script)).take(5).collect();
        let line = |text: &str| Input::Line(text.into());
        assert_eq!(lines, [line("ls /"), line(""), line("set /a \u{fffd}"), line("last"), Input::End]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut endless = BufReader::new(io::repeat(b'x'));
        assert!(matches!(line_of(&mut endless), Input::Failed(why) if why.contains("longer than")));
    }
}
