//! A scheduler with a thread of its own, for callers on other threads.
//!
//! The thread steps while there is work and sleeps while there is none. Whoever drops a [`Ticket`]
//! cancels its request: nobody listens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvError, Sender, SyncSender, TrySendError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{RequestId, Scheduler};
use crate::error::{Error, Result};
use crate::request::{Event, Request};

/// What callers tell the thread.
#[derive(Debug)]
enum Command {
    Submit(Box<Submission>),
    Stop,
}

/// A request on its way to the scheduler.
#[derive(Debug)]
struct Submission {
    request: Request,
    listener: Listener,
}

/// Who asked.
#[derive(Debug)]
struct Listener {
    events: Sender<Event>,
    is_cancelled: Arc<AtomicBool>,
}

/// The thread that serves. Dropping it cancels what is still asked for, which is reported, and ends
/// the thread.
///
/// ```no_run
/// use std::sync::Arc;
/// use cwm_engine::{Engine, Event, Options, Request, Scheduler, SchedulerOptions, Server};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = cwm_model::Model::load("models/cwm-nano".as_ref())?;
/// let engine = Arc::new(Engine::new(model, Options::default())?);
/// let server = Server::start(Scheduler::new(engine, SchedulerOptions::default())?)?;
/// let ticket = server.handle().submit(Request::new(vec![1, 2, 3], 50))?;
/// for event in ticket.events() {
///     if let Event::Token(token) = event {
///         println!("{}", token.id);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts to serve.
    ///
    /// # Errors
    /// [`Error::NotServing`] when the system gives no thread.
    pub fn start(scheduler: Scheduler) -> Result<Self> {
        let max_waiting = scheduler.options.max_waiting;
        let (commands, inbox) = mpsc::sync_channel(max_waiting);
        let epoch = Instant::now();
        let thread = std::thread::Builder::new().name("cwm-scheduler".to_owned());
        let thread = thread
            .spawn(move || serve(scheduler, &inbox, epoch))
            .map_err(|error| Error::NotServing {
                problem: error.to_string(),
            })?;
        Ok(Self {
            handle: Handle {
                commands,
                epoch,
                max_waiting,
            },
            thread: Some(thread),
        })
    }

    /// Tells it to cancel everything and to end, and does not wait for that.
    pub fn stop(&self) {
        // Fails only where the thread has ended, and then there is nothing to stop.
        let _ = self.handle.commands.send(Command::Stop);
    }

    /// A way to ask it; clones of it can go to other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed, and its callers have seen their channels end.
            let _ = thread.join();
        }
    }
}

/// A way to ask a [`Server`].
#[derive(Clone, Debug)]
pub struct Handle {
    commands: SyncSender<Command>,
    epoch: Instant,
    max_waiting: usize,
}

impl Handle {
    /// Asks for a generation, without waiting for anything. What is wrong with the request, or that
    /// the queue is full, comes back as [`Event::Rejected`].
    ///
    /// # Errors
    /// [`Error::QueueFull`] when as many requests as may wait have come since the last step,
    /// [`Error::NotServing`] when the server is gone.
    pub fn submit(&self, request: Request) -> Result<Ticket> {
        let (sender, events) = mpsc::channel();
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let submission = Submission {
            request,
            listener: Listener {
                events: sender,
                is_cancelled: Arc::clone(&is_cancelled),
            },
        };
        let command = Command::Submit(Box::new(submission));
        self.commands
            .try_send(command)
            .map_err(|error| match error {
                TrySendError::Full(_) => Error::QueueFull {
                    waiting: self.max_waiting,
                },
                TrySendError::Disconnected(_) => Error::NotServing {
                    problem: "the server has been stopped".to_owned(),
                },
            })?;
        Ok(Ticket {
            events,
            is_cancelled,
        })
    }

    /// The time on the server's clock, which deadlines count from: add to it how long an answer
    /// is of use.
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

/// A request that was handed over. Dropping it cancels the request.
#[derive(Debug)]
pub struct Ticket {
    events: Receiver<Event>,
    is_cancelled: Arc<AtomicBool>,
}

impl Ticket {
    /// Waits for the next event; none follows [`Event::Finished`] or [`Event::Rejected`], or when
    /// the server is gone.
    pub fn next_event(&self) -> Option<Event> {
        self.events.recv().ok()
    }

    /// The events until the last, waiting for each.
    pub fn events(&self) -> impl Iterator<Item = Event> + '_ {
        self.events.iter()
    }

    /// Ends the request after the step in progress.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The life of the thread.
fn serve(mut scheduler: Scheduler, inbox: &Receiver<Command>, epoch: Instant) {
    let mut listeners = BTreeMap::new();
    let mut events = Vec::new();
    let mut is_open = true;
    while is_open || !scheduler.is_idle() {
        if is_open {
            is_open = take_commands(&mut scheduler, inbox, &mut listeners).is_ok();
        }
        if !is_open {
            scheduler.cancel_all();
        }
        for (&id, listener) in &listeners {
            if listener.is_cancelled.load(Ordering::Relaxed) {
                scheduler.cancel(id);
            }
        }
        scheduler.step(epoch.elapsed(), &mut events);
        for (id, event) in events.drain(..) {
            report(&mut listeners, id, event);
        }
    }
}

/// Takes what callers have sent, waiting for it while there is nothing else to do. An error says
/// that nothing more will come.
fn take_commands(
    scheduler: &mut Scheduler,
    inbox: &Receiver<Command>,
    listeners: &mut BTreeMap<RequestId, Listener>,
) -> Result<(), RecvError> {
    let mut next = match scheduler.is_idle() {
        true => Some(inbox.recv()?),
        false => inbox.try_recv().ok(),
    };
    while let Some(command) = next {
        match command {
            Command::Stop => return Err(RecvError),
            Command::Submit(submission) => {
                let Submission { request, listener } = *submission;
                match scheduler.submit(request) {
                    Ok(id) => {
                        listeners.insert(id, listener);
                    }
                    // Who no longer listens needs no answer.
                    Err(error) => drop(listener.events.send(Event::Rejected(error))),
                }
            }
        }
        next = inbox.try_recv().ok();
    }
    Ok(())
}

/// Passes an event on. Where nobody listens, the flag of the dropped ticket ends the request.
fn report(listeners: &mut BTreeMap<RequestId, Listener>, id: RequestId, event: Event) {
    let is_last = matches!(event, Event::Finished(_));
    if let Some(listener) = listeners.get(&id) {
        drop(listener.events.send(event));
    }
    if is_last {
        listeners.remove(&id);
    }
}
