//! A scheduler behind its thread.

use std::sync::mpsc::{self, Receiver, Sender};

use cwm_engine::{
    Constraint, Error, Event, Finish, Mask, Request, Result, SchedulerOptions, Server, Ticket,
};

use crate::common::Random;
use crate::plain::{self, Outcome};
use crate::world::{Letters, Spec, engine};
use crate::{greedy, scheduler};

fn server(options: SchedulerOptions) -> Server {
    Server::start(scheduler(0, options)).expect("there are threads")
}

fn outcome(ticket: &Ticket) -> Outcome {
    let mut outcome = Outcome::new();
    for event in ticket.events() {
        outcome.take(event);
    }
    outcome
}

/// Stops the thread at the first token of a request until it is let on.
#[derive(Debug)]
struct Gate {
    arrived: Sender<()>,
    open: Receiver<()>,
}

impl Constraint for Gate {
    fn mask(&mut self) -> Mask<'_> {
        // Who has let go of the other ends waits for nothing.
        let _ = self.arrived.send(());
        let _ = self.open.recv();
        Mask::all()
    }

    fn forced(&mut self, _out: &mut Vec<u32>) {}

    fn accept(&mut self, _id: u32) -> Result<()> {
        Ok(())
    }

    fn rollback(&mut self, _n: usize) {}

    fn is_complete(&self) -> bool {
        false
    }
}

/// A request of one token that stops the thread: when it has arrived there, and how to let it on.
fn gate() -> (Request, Receiver<()>, Sender<()>) {
    let (arrived, has_arrived) = mpsc::channel();
    let (opener, open) = mpsc::channel();
    let mut request = greedy(0, 3, 1);
    request.constraint = Some(Box::new(Gate { arrived, open }));
    (request, has_arrived, opener)
}

#[test]
fn many_threads_are_served_what_each_would_get_alone() {
    let server = server(SchedulerOptions::default());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let handle = server.handle();
            scope.spawn(move || {
                let mut random = Random(thread);
                for _ in 0..5 {
                    let spec = Spec::new(random.next());
                    let expected = plain::run(&engine(0), &Letters, spec.request());
                    let request = spec.drafted(&expected.ids(), &mut random);
                    let ticket = handle.submit(request).expect("there is room");
                    assert_eq!(outcome(&ticket), expected);
                }
            });
        }
    });
}

#[test]
fn refusals_and_cancellations_come_back_as_events() {
    let options = SchedulerOptions {
        max_waiting: 2,
        ..SchedulerOptions::default()
    };
    let server = server(options);
    let handle = server.handle();
    let refused = handle
        .submit(Request::new(Vec::new(), 1))
        .expect("it is sent");
    assert!(matches!(
        refused.next_event(),
        Some(Event::Rejected(Error::Request {
            field: "prompt",
            ..
        }))
    ));
    assert!(refused.next_event().is_none());

    let (request, has_arrived, opener) = gate();
    let gated = handle.submit(request).expect("there is room");
    has_arrived.recv().expect("the thread comes by");
    let cancelled = handle.submit(greedy(1, 10, 100)).expect("there is room");
    cancelled.cancel();
    drop(handle.submit(greedy(2, 10, 100)).expect("there is room"));
    let overload = handle.submit(greedy(3, 10, 100));
    assert_eq!(overload.err(), Some(Error::QueueFull { waiting: 2 }));
    drop(opener);
    assert_eq!(outcome(&gated).finish, Some(Finish::Length));
    let cancelled = outcome(&cancelled);
    assert_eq!(
        (cancelled.finish, cancelled.tokens.len()),
        (Some(Finish::Cancelled), 0)
    );
}

#[test]
fn a_deadline_counts_from_the_clock_of_the_server() {
    let server = server(SchedulerOptions::default());
    let handle = server.handle();
    let mut request = greedy(0, 10, 100);
    request.deadline = Some(handle.now());
    let late = handle.submit(request).expect("there is room");
    assert_eq!(outcome(&late).finish, Some(Finish::TooLate));
}

#[test]
fn a_server_that_ends_tells_everyone() {
    let server = server(SchedulerOptions::default());
    let handle = server.handle();
    let (request, has_arrived, opener) = gate();
    let gated = handle.submit(request).expect("there is room");
    has_arrived.recv().expect("the thread comes by");
    let waiting = handle.submit(greedy(1, 10, 100)).expect("there is room");
    server.stop();
    drop(opener);
    assert_eq!(outcome(&gated).finish, Some(Finish::Length));
    assert_eq!(outcome(&waiting).finish, Some(Finish::Cancelled));
    drop(server);
    assert!(matches!(
        handle.submit(greedy(1, 10, 1)),
        Err(Error::NotServing { .. })
    ));
}
