//! The shell itself: what it remembers between commands, and how events come between them.
//!
//! A command and the events of its session are printed by one task: what the client was told before a reply is
//! printed before it. At a terminal's prompt events are printed above what is being typed.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::signal::ctrl_c;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::args::Args;
use super::command::{self, Command, Data};
use super::editor::{AbovePrompt, Current};
use super::exec;
use super::failure::Failure;
use super::input::{Input, Lines};
use super::output::Output;
use super::printer::Printer;
use super::table;
use super::words;
use crate::client::{Client, Error, Event, Options, State};

/// Lines that `history` and `redo` know.
const REMEMBERED: usize = 1000;

/// Lines that `history` shows.
const SHOWN: usize = 11;

/// How long the end of a session may take: the server finds out by itself.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// How long the first prompt waits for a connection, to be able to tell of it.
const GREETING_LIMIT: Duration = Duration::from_millis(500);

/// The exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// What the shell is doing commands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One command, from the command line.
    OneShot,
    /// A script on standard input.
    Script,
    /// Somebody at a terminal.
    Terminal,
}

/// Is there more to do?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    Leave,
}

/// A shell.
pub struct Shell {
    args: Args,
    mode: Mode,
    printer: Printer,
    /// Shared with the editor, which completes paths by it.
    client: Current,
    events: Option<Receiver<Event>>,
    above: Option<AbovePrompt>,
    /// The connection string as it was given last.
    host: String,
    print_watches: bool,
    history: VecDeque<String>,
    /// The number of the command to come.
    count: usize,
    code: u8,
}

impl Shell {
    /// A shell that is not yet connected.
    pub fn new(args: Args, mode: Mode, printer: Printer) -> Shell {
        Shell {
            host: args.server.clone(),
            args,
            mode,
            printer,
            client: Arc::new(Mutex::new(None)),
            events: None,
            above: None,
            print_watches: true,
            history: VecDeque::new(),
            count: 0,
            code: 0,
        }
    }

    /// The client, for the editor.
    pub fn current(&self) -> Current {
        self.client.clone()
    }

    /// Begins: says so, and opens a session.
    pub async fn open(&mut self) -> Result<(), Failure> {
        if self.greets() {
            let text = format!("Connecting to {}", self.host);
            self.printer.put(&Output::Line { text, json: json!({}) })?;
            self.printer.flush()?;
        }
        self.connect(self.host.clone()).await?;
        if self.greets() && self.mode != Mode::OneShot {
            let text = match self.mode {
                Mode::Terminal => {
                    "Welcome to ZooKeeper!\nTab completes, help lists the commands, quit or Ctrl-D leaves"
                }
                // Scripts of scripts skip what stands before this line.
                _ => "Welcome to ZooKeeper!\nJLine support is disabled",
            };
            self.printer.put(&Output::Line { text: text.into(), json: json!({}) })?;
        }
        Ok(())
    }

    fn greets(&self) -> bool {
        !self.args.quiet && !self.printer.is_json()
    }

    /// Leaves the old session, and begins a new one.
    async fn connect(&mut self, host: String) -> Result<(), Failure> {
        let options = Options::new(&host)
            .map_err(|error| Failure::of(&error, ""))?
            .session_timeout(self.args.timeout)
            .read_only(self.args.read_only)
            .shuffled();
        self.close(true).await?;
        self.host = host;
        let client = Client::start(options);
        self.events = Some(client.events());
        self.set_client(Some(client.clone()));
        if self.args.wait {
            let connected = timeout(self.args.timeout, client.connected()).await;
            let error = match connected {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => Error::Unreachable(match client.state() {
                    State::Connecting(last) => last,
                    other => other.to_string(),
                }),
            };
            return Err(Failure::of(&error, ""));
        }
        Ok(())
    }

    fn set_client(&self, client: Option<Client>) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// The client, if its session may still be alive.
    fn living(&self) -> Option<Client> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        matches!(client.state(), State::Connecting(_) | State::Connected(_)).then_some(client)
    }

    /// Ends the session, and says so if that was asked for.
    async fn close(&mut self, aloud: bool) -> Result<(), Failure> {
        let Some(client) = self.living() else { return Ok(()) };
        if !aloud {
            self.events = None;
        }
        if !matches!(client.state(), State::Connected(_)) {
            // There is nobody to tell: the servers find out by themselves.
            self.events = None;
            self.set_client(None);
            return if aloud { self.show(Event::State(State::Closed)) } else { Ok(()) };
        }
        // One that does not answer finds out, too.
        let _ = timeout(CLOSE_LIMIT, client.close()).await;
        if aloud && timeout(CLOSE_LIMIT, self.until_closed()).await.is_err() {
            self.set_client(None);
        }
        self.events = None;
        Ok(())
    }

    /// Prints the events up to the last.
    async fn until_closed(&mut self) {
        while let Some(event) = next(&mut self.events).await {
            let last = matches!(event, Event::State(State::Closed | State::Expired | State::AuthFailed));
            if self.show(event).is_err() || last {
                return;
            }
        }
    }

    /// One command from the command line. Gives the exit code.
    pub async fn one_shot(&mut self) -> u8 {
        let command = self.args.command.clone();
        let done = self.execute(&command).await;
        self.finish(done.map(|_| ()));
        self.end().await
    }

    /// Lines, until there are no more. Gives the exit code.
    pub async fn run(&mut self, mut lines: Lines, above: Option<AbovePrompt>) -> u8 {
        self.above = above;
        if let Some(client) = self.living().filter(|_| self.mode == Mode::Terminal) {
            // A prompt that says CONNECTING needs no reason.
            let _ = timeout(GREETING_LIMIT, client.reachable()).await;
        }
        loop {
            match self.line(&mut lines).await {
                Input::Line(line) => {
                    if self.on_line(&line).await == Flow::Leave {
                        break;
                    }
                }
                Input::Interrupted if self.mode == Mode::Terminal => {}
                Input::Interrupted => {
                    self.code = INTERRUPTED;
                    break;
                }
                Input::End => break,
                Input::Failed(why) => {
                    self.finish(Err(Failure::new(why)));
                    break;
                }
            }
        }
        self.end().await
    }

    async fn end(&mut self) -> u8 {
        // If nobody reads any more, nobody misses it.
        let _ = self.close(false).await;
        let _ = self.printer.flush();
        self.code
    }

    /// The next line; events go on meanwhile.
    async fn line(&mut self, lines: &mut Lines) -> Input {
        if self.drain().and_then(|()| self.printer.flush()).is_err() {
            return Input::End;
        }
        lines.ask(self.prompt());
        loop {
            tokio::select! {
                input = lines.next() => return input,
                event = next(&mut self.events) => {
                    let shown = event.map_or(Ok(()), |event| self.show(event));
                    if shown.and_then(|()| self.printer.flush()).is_err() {
                        return Input::End;
                    }
                }
                // At a terminal the editor has it.
                _ = ctrl_c(), if self.mode != Mode::Terminal => return Input::Interrupted,
            }
        }
    }

    fn prompt(&self) -> String {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match client.as_ref().map(Client::state) {
            Some(State::Connecting(_)) => "CONNECTING",
            Some(State::Connected(session)) if session.read_only => "CONNECTEDREADONLY",
            Some(State::Connected(_)) => "CONNECTED",
            Some(State::AuthFailed) => "AUTH_FAILED",
            Some(State::Expired | State::Closed) | None => "CLOSED",
        };
        format!("[zk: {}({state}) {}] ", self.host, self.count)
    }

    async fn on_line(&mut self, line: &str) -> Flow {
        if line.is_empty() {
            return Flow::On;
        }
        self.remember(line.to_string());
        let done = self.execute(&words::split(line)).await;
        self.count += 1;
        let flow = *done.as_ref().unwrap_or(&Flow::On);
        if done.as_ref().is_err_and(|failure| failure.unread) {
            return Flow::Leave;
        }
        // Who leaves does so with the code of the command before.
        if flow == Flow::On {
            self.finish(done.map(|_| ()));
        }
        match self.mode {
            Mode::Script if self.code == INTERRUPTED => Flow::Leave,
            _ => flow,
        }
    }

    fn remember(&mut self, line: String) {
        if self.history.len() == REMEMBERED {
            self.history.pop_front();
        }
        self.history.push_back(line);
    }

    /// The line of this number, if it is still known.
    fn recall(&self, number: usize) -> Option<&String> {
        let first = (self.count + 1).checked_sub(self.history.len())?;
        self.history.get(number.checked_sub(first)?)
    }

    fn finish(&mut self, done: Result<(), Failure>) {
        let done = done.and_then(|()| self.drain());
        self.code = match &done {
            Ok(()) => 0,
            Err(failure) => failure.code,
        };
        match done {
            Err(failure) if !failure.unread => self.printer.fail(&failure),
            _ => {}
        }
    }

    async fn execute(&mut self, words: &[String]) -> Result<Flow, Failure> {
        let understood = command::parse(words)?;
        for notice in understood.notices {
            self.printer.put(&Output::Notice(notice))?;
        }
        match understood.command {
            Command::Redo { number } => self.redo(number).await,
            command => self.perform(command).await,
        }
    }

    /// Does an earlier command again; it stands in the history instead of the redo.
    async fn redo(&mut self, number: usize) -> Result<Flow, Failure> {
        let line = self.recall(number).filter(|_| number < self.count).cloned();
        let line = line.ok_or_else(|| Failure::new("Command index out of range".into()))?;
        let understood = command::parse(&words::split(&line))?;
        if matches!(understood.command, Command::Redo { .. }) {
            return Err(Failure::new("No redoing redos".into()));
        }
        for notice in understood.notices {
            self.printer.put(&Output::Notice(notice))?;
        }
        if let Some(last) = self.history.back_mut() {
            *last = line;
        }
        self.perform(understood.command).await
    }

    async fn perform(&mut self, command: Command) -> Result<Flow, Failure> {
        match command {
            Command::Close => self.close(true).await?,
            Command::Connect { to } => self.connect(to.unwrap_or_else(|| self.host.clone())).await?,
            Command::Help { command: None } => self.say(table::overview().trim_end().into())?,
            Command::Help { command: Some(spec) } => self.say(spec.help().trim_end().into())?,
            Command::History => {
                for number in (self.count + 1).saturating_sub(SHOWN)..=self.count {
                    if let Some(line) = self.recall(number) {
                        self.printer.put(&Output::Line {
                            text: format!("{number} - {line}"),
                            json: json!({ "number": number, "command": line }),
                        })?;
                    }
                }
            }
            Command::PrintWatches { on: None } => {
                let text = format!("printwatches is {}", if self.print_watches { "on" } else { "off" });
                self.printer
                    .put(&Output::Line { text, json: json!({ "printwatches": self.print_watches }) })?;
            }
            Command::PrintWatches { on: Some(on) } => self.print_watches = on,
            Command::Quit => {
                self.close(true).await?;
                return Ok(Flow::Leave);
            }
            Command::Version => {
                self.say(format!("ZooKeeper CLI version: zabra {}, as 3.9", env!("CARGO_PKG_VERSION")))?;
            }
            command => self.ask(command).await?,
        }
        Ok(Flow::On)
    }

    fn say(&self, text: String) -> Result<(), Failure> {
        self.printer.put(&Output::Line { json: json!({ "text": text }), text })
    }

    /// A command that needs a session.
    async fn ask(&mut self, command: Command) -> Result<(), Failure> {
        if self.mode != Mode::OneShot && command.data() == Some(&Data::Stdin) {
            return Err(Failure::new("--file -: standard input is where the commands come from".into()));
        }
        let Some(client) = self.living() else {
            let text = "Not connected".to_string();
            return self.printer.put(&Output::Line { json: json!({ "error": text }), text });
        };
        let wanted = self.wanted();
        let Shell { printer, events, .. } = self;
        let work = async {
            match client.reachable().await {
                Ok(_) => exec::run(command, &client, printer).await,
                Err(error) => exec::without_server(&command, &client, printer)
                    .unwrap_or_else(|| Err(Failure::of(&error, command.path()))),
            }
        };
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                event = next(events) => {
                    if let Some(event) = event.filter(|event| wanted.includes(event)) {
                        printer.put(&Output::Event(event))?;
                    }
                }
                done = &mut work => return done,
                _ = ctrl_c() => {
                    return Err(Failure { code: INTERRUPTED, ..Failure::new("interrupted; what was sent may have taken effect".into()) });
                }
            }
        }
    }

    /// Prints the events that are already here.
    fn drain(&mut self) -> Result<(), Failure> {
        while let Some(Ok(event)) = self.events.as_mut().map(Receiver::try_recv) {
            self.show(event)?;
        }
        Ok(())
    }

    /// Events are shown unless that was turned off; the connection's fate only to those who want to hear of it, and not
    /// to a program that has asked for one thing.
    fn wanted(&self) -> Wanted {
        let alone = self.mode == Mode::OneShot && self.printer.is_json();
        Wanted { watches: self.print_watches, connection: self.print_watches && !self.args.quiet && !alone }
    }

    fn show(&mut self, event: Event) -> Result<(), Failure> {
        if !self.wanted().includes(&event) {
            return Ok(());
        }
        let output = Output::Event(event);
        match &mut self.above {
            Some(above) => {
                self.printer.flush()?;
                above(self.printer.render(&output));
                Ok(())
            }
            None => self.printer.put(&output),
        }
    }
}

/// Which events are printed.
#[derive(Clone, Copy)]
struct Wanted {
    watches: bool,
    connection: bool,
}

impl Wanted {
    fn includes(self, event: &Event) -> bool {
        match event {
            Event::State(_) => self.connection,
            Event::Watch(_) | Event::WatchRemoved { .. } => self.watches,
        }
    }
}

/// The next event; none at the end of a session, and never one without a session.
async fn next(events: &mut Option<Receiver<Event>>) -> Option<Event> {
    loop {
        let Some(receiver) = events else { return pending().await };
        match receiver.recv().await {
            Ok(event) => return Some(event),
            // More came than could be printed: the newest go on.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => *events = None,
        }
    }
}
