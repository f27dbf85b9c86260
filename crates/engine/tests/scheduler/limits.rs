//! Budgets, fairness, priorities, cancellation, deadlines, refusals.

use std::time::Duration;

use cwm_engine::{
    Constraint, Error, Event, Finish, Keep, Mask, PAGE, Request, RequestId, Result, Scheduler,
    SchedulerOptions, Session, Want,
};

use crate::plain::{self, Outcome};
use crate::world::{Letters, POSITIONS, VOCAB, engine};
use crate::{drain, greedy, scheduler, serve};

/// One after the other, in the order of what matters in a test.
const ONE: SchedulerOptions = SchedulerOptions {
    max_waiting: 50,
    max_running: 1,
    step_tokens: 64,
    max_pages: 100,
    max_draft: 0,
    oldest_every: 1000,
};

/// Serves to the end; the requests in the order in which they ended.
fn order(scheduler: &mut Scheduler) -> Vec<RequestId> {
    let mut events = Vec::new();
    while !scheduler.is_idle() {
        scheduler.step(Duration::ZERO, &mut events);
    }
    let ends = events.into_iter();
    ends.filter(|(_, event)| matches!(event, Event::Finished(_)))
        .map(|(id, _)| id)
        .collect()
}

fn submit(scheduler: &mut Scheduler, client: u64, priority: i32) -> RequestId {
    let request = Request {
        client,
        priority,
        ..greedy(client, 10, 3)
    };
    scheduler.submit(request).expect("a good request")
}

#[test]
fn a_step_computes_no_more_than_its_budget() {
    for (budget, prompt) in [(1, 40), (16, 64), (16, 65), (100, 100), (100, 101)] {
        let options = SchedulerOptions {
            step_tokens: budget,
            ..ONE
        };
        let mut scheduler = scheduler(0, options);
        scheduler
            .submit(greedy(0, prompt, 1))
            .expect("a good request");
        let mut events = Vec::new();
        let mut steps = 0;
        while events.is_empty() {
            scheduler.step(Duration::ZERO, &mut events);
            steps += 1;
        }
        assert_eq!(steps, prompt.div_ceil(budget), "{prompt} by {budget}");
    }
}

#[test]
fn decoding_goes_on_beside_a_long_prompt() {
    let options = SchedulerOptions {
        max_running: 2,
        step_tokens: 5,
        ..ONE
    };
    let mut scheduler = scheduler(0, options);
    let decoding = scheduler.submit(greedy(1, 5, 30)).expect("a good request");
    let mut events = Vec::new();
    scheduler.step(Duration::ZERO, &mut events);
    assert_eq!(
        events.len(),
        1,
        "five tokens of prompt and one that follows"
    );
    let reading = scheduler.submit(greedy(2, 100, 1)).expect("a good request");
    for step in 1..=25 {
        events.clear();
        scheduler.step(Duration::ZERO, &mut events);
        let of = |id| events.iter().filter(|(other, _)| *other == id).count();
        assert_eq!(of(decoding), 1, "step {step}");
        // Four tokens a step are left for the prompt; then come a token and the end.
        assert_eq!(of(reading), if step == 25 { 2 } else { 0 }, "step {step}");
    }
}

#[test]
fn whoever_runs_gets_a_token_in_every_step() {
    let options = SchedulerOptions {
        max_running: 4,
        step_tokens: 4,
        ..ONE
    };
    let mut scheduler = scheduler(0, options);
    for seed in 0..4 {
        scheduler
            .submit(greedy(seed, 60, 20))
            .expect("a good request");
    }
    let mut events = Vec::new();
    let mut steps = 0;
    while !scheduler.is_idle() {
        scheduler.step(Duration::ZERO, &mut events);
        steps += 1;
    }
    // The row of the last token of the prompt gives the first of the twenty.
    assert_eq!(steps, 60 + 20 - 1);
}

#[test]
fn the_oldest_request_has_its_turn_whatever_comes() {
    // At which admission a request of low priority runs that found two others of its kind waiting,
    // while urgent ones never cease to come.
    let admitted_as = |oldest_every| {
        let mut scheduler = scheduler(
            0,
            SchedulerOptions {
                oldest_every,
                ..ONE
            },
        );
        submit(&mut scheduler, 0, 0);
        submit(&mut scheduler, 0, 0);
        let patient = submit(&mut scheduler, 0, 0);
        let (mut events, mut ended) = (Vec::new(), 0);
        loop {
            while scheduler.n_waiting() < 10 {
                submit(&mut scheduler, 1, 9);
            }
            events.clear();
            scheduler.step(Duration::ZERO, &mut events);
            for (id, event) in &events {
                ended += usize::from(matches!(event, Event::Finished(_)));
                if *id == patient && matches!(event, Event::Finished(_)) {
                    return Some(ended);
                }
            }
            if ended > 100 {
                return None;
            }
        }
    };
    assert_eq!(admitted_as(1), Some(3));
    assert_eq!(admitted_as(4), Some(12));
    assert_eq!(admitted_as(7), Some(21));
    assert_eq!(admitted_as(1000), None, "priority alone starves it");
}

#[test]
fn priorities_go_first_and_clients_share() {
    let mut scheduler = scheduler(0, ONE);
    let many: Vec<RequestId> = (0..6).map(|_| submit(&mut scheduler, 1, 0)).collect();
    let few: Vec<RequestId> = (0..2).map(|_| submit(&mut scheduler, 2, 0)).collect();
    let urgent = submit(&mut scheduler, 1, 5);
    let expected = [&[urgent, few[0], many[0], few[1]][..], &many[1..]];
    assert_eq!(order(&mut scheduler), expected.concat());
}

#[test]
fn who_comes_late_has_no_claim_to_what_others_got() {
    let mut scheduler = scheduler(0, ONE);
    let early: Vec<RequestId> = (0..9).map(|_| submit(&mut scheduler, 1, 0)).collect();
    let mut events = Vec::new();
    let n_ended = |events: &[(RequestId, Event)]| {
        let is_end = |event: &&(RequestId, Event)| matches!(event.1, Event::Finished(_));
        events.iter().filter(is_end).count()
    };
    while n_ended(&events) < 5 {
        scheduler.step(Duration::ZERO, &mut events);
    }
    let late: Vec<RequestId> = (0..3).map(|_| submit(&mut scheduler, 2, 0)).collect();
    // They take turns from now on.
    let expected = [
        early[5], late[0], early[6], late[1], early[7], late[2], early[8],
    ];
    assert_eq!(order(&mut scheduler), expected);
}

#[test]
fn requests_wait_for_room_and_leave_it() {
    let pages = |request: &Request| (request.prompt.len() + request.max_tokens).div_ceil(PAGE);
    let options = SchedulerOptions {
        max_running: 8,
        max_pages: 2,
        oldest_every: 2,
        ..ONE
    };
    let mut scheduler = scheduler(0, options);
    let too_large = greedy(0, 120, 9);
    assert_eq!(pages(&too_large), 3);
    assert_eq!(
        scheduler.submit(too_large),
        Err(Error::OverBudget {
            pages: 3,
            max_pages: 2
        })
    );
    // One that needs everything, among many that need half.
    let small = |seed| greedy(seed, 10, 20);
    scheduler.submit(small(0)).expect("a good request");
    let large = scheduler.submit(greedy(1, 100, 5)).expect("a good request");
    let mut events = Vec::new();
    let mut steps = 0;
    let mut seed = 2;
    while !events
        .iter()
        .any(|(id, event)| *id == large && matches!(event, Event::Finished(_)))
    {
        while scheduler.n_waiting() < 5 {
            scheduler.submit(small(seed)).expect("a good request");
            seed += 1;
        }
        scheduler.step(Duration::ZERO, &mut events);
        assert!(scheduler.n_pages() <= 2);
        steps += 1;
        assert!(
            steps < 200,
            "small requests must not take the room for ever"
        );
    }
    drain(&mut scheduler);
    assert_eq!(scheduler.n_pages(), 0);
}

#[test]
fn a_cancelled_request_leaves_nothing_behind() {
    let mut base = Session::new(&engine(0));
    base.extend(&engine(0), &[7; 70], Want::None)
        .expect("there is room");
    let with_session = || Request {
        prompt: vec![7; 80],
        session: Some(base.fork()),
        ..Request::new(Vec::new(), 40)
    };
    let other = plain::run(&engine(0), &Letters, greedy(3, 20, 25));
    for steps in 0..6 {
        let options = SchedulerOptions {
            max_running: 2,
            step_tokens: 8,
            ..ONE
        };
        let mut scheduler = scheduler(0, options);
        let id = scheduler.submit(with_session()).expect("a good request");
        let neighbour = scheduler.submit(greedy(3, 20, 25)).expect("a good request");
        let mut events = Vec::new();
        for _ in 0..steps {
            scheduler.step(Duration::ZERO, &mut events);
        }
        assert!(base.n_shared_pages() > 0, "after {steps} steps");
        assert!(scheduler.cancel(id));
        assert!(!scheduler.cancel(id), "only once");
        assert_eq!(base.n_shared_pages(), 0, "after {steps} steps");
        while !scheduler.is_idle() {
            scheduler.step(Duration::ZERO, &mut events);
        }
        let (mut cancelled, mut untouched) = (Outcome::new(), Outcome::new());
        for (of, event) in events {
            let outcome = if of == id {
                &mut cancelled
            } else {
                &mut untouched
            };
            assert!(of == id || of == neighbour);
            outcome.take(event);
        }
        assert_eq!(cancelled.finish, Some(Finish::Cancelled));
        assert_eq!(untouched, other);
    }
}

/// Forces a token, and refuses it when it comes.
#[derive(Debug)]
struct Contrary(u32);

impl Constraint for Contrary {
    fn mask(&mut self) -> Mask<'_> {
        Mask::all()
    }

    fn forced(&mut self, out: &mut Vec<u32>) {
        out.push(self.0);
    }

    fn accept(&mut self, _id: u32) -> Result<()> {
        Err(Error::NothingAllowed { vocab_size: VOCAB })
    }

    fn rollback(&mut self, _n: usize) {}

    fn is_complete(&self) -> bool {
        false
    }
}

#[test]
fn a_constraint_that_contradicts_itself_fails_alone() {
    let neighbour = plain::run(&engine(0), &Letters, greedy(3, 20, 10));
    for (id, message) in [
        (5, "no token is allowed here: the mask is empty over 67 ids"),
        (
            99,
            "request field `constraint` has token 99 at index 0; ids are below 67",
        ),
    ] {
        let mut scheduler = scheduler(0, SchedulerOptions::default());
        let mut request = greedy(0, 10, 5);
        request.constraint = Some(Box::new(Contrary(id)));
        let failing = scheduler.submit(request).expect("nobody knows yet");
        let other = scheduler.submit(greedy(3, 20, 10)).expect("a good request");
        let mut events = drain(&mut scheduler);
        let mut outcome = |id| {
            let mut outcome = Outcome::new();
            let events = events.remove(&id).expect("it was served");
            events.into_iter().for_each(|event| outcome.take(event));
            outcome
        };
        let Some(Finish::Failed(error)) = outcome(failing).finish else {
            panic!("it cannot go on");
        };
        assert_eq!(error.to_string(), message);
        assert_eq!(outcome(other), neighbour);
    }
}

#[test]
fn deadlines_are_kept_by_the_clock_that_is_passed_in() {
    let mut scheduler = scheduler(0, ONE);
    let due = |seed, seconds| Request {
        deadline: Some(Duration::from_secs(seconds)),
        keep: Keep::Session,
        ..greedy(seed, 10, 30)
    };
    let running = scheduler.submit(due(0, 10)).expect("a good request");
    let waiting = scheduler.submit(due(1, 5)).expect("a good request");
    let mut ends = Vec::new();
    let mut events = Vec::new();
    for second in [1, 4, 5, 9, 10] {
        scheduler.step(Duration::from_secs(second), &mut events);
        for (id, event) in events.drain(..) {
            if let Event::Finished(finished) = event {
                let generated = finished.usage.generated;
                assert!(finished.session.is_none());
                ends.push((second, id, finished.finish, generated));
            }
        }
    }
    let expected = [
        (5, waiting, Finish::TooLate, 0),
        (10, running, Finish::TooLate, 4),
    ];
    assert_eq!(ends, expected);
    assert!(scheduler.is_idle());
}

#[test]
fn the_queue_is_bounded() {
    let options = SchedulerOptions {
        max_waiting: 3,
        ..ONE
    };
    let mut scheduler = scheduler(0, options);
    for seed in 0..3 {
        scheduler
            .submit(greedy(seed, 5, 2))
            .expect("a good request");
    }
    let error = scheduler.submit(greedy(3, 5, 2)).expect_err("it is full");
    assert_eq!(
        error.to_string(),
        "the queue is full: 3 requests wait already; try again later"
    );
    scheduler.step(Duration::ZERO, &mut Vec::new());
    assert_eq!((scheduler.n_waiting(), scheduler.n_running()), (2, 1));
    scheduler
        .submit(greedy(3, 5, 2))
        .expect("there is a place again");
}

#[test]
fn generations_end_for_the_reason_they_give() {
    let finish = |request| serve(0, SchedulerOptions::default(), request).0;
    assert_eq!(finish(greedy(0, 10, 0)).finish, Some(Finish::Length));
    let full = finish(greedy(0, 140, 1000));
    assert_eq!(full.finish, Some(Finish::ContextFull));
    assert_eq!(full.tokens.len(), POSITIONS - 140);
    let full = finish(greedy(0, POSITIONS, 1));
    assert_eq!(
        (full.finish, full.tokens.len()),
        (Some(Finish::ContextFull), 0)
    );
}

#[test]
fn what_is_wrong_with_a_request_is_said_by_field() {
    let mut textless = Scheduler::new(engine(0), ONE).expect("the options are in range");
    let mut refusal = |change: &dyn Fn(&mut Request)| {
        let mut request = greedy(0, 4, 4);
        change(&mut request);
        let error = textless.submit(request).expect_err("something is wrong");
        error.to_string()
    };
    assert_eq!(
        refusal(&|request| request.prompt.clear()),
        "request field `prompt` is empty; begin with one token at least"
    );
    assert_eq!(
        refusal(&|request| request.prompt[2] = 67),
        "request field `prompt` has token 67 at index 2; ids are below 67"
    );
    assert_eq!(
        refusal(&|request| request.stop_ids = vec![1, 500]),
        "request field `stop_ids` has token 500 at index 1; ids are below 67"
    );
    assert_eq!(
        refusal(&|request| request.stop_strings = vec!["a".to_owned(), String::new()]),
        "request field `stop_strings` has an empty string at index 1; it would end every text"
    );
    assert_eq!(
        refusal(&|request| request.stop_strings = vec!["a".to_owned()]),
        "request field `stop_strings` needs the text of tokens; use `stop_ids`, or give the \
         scheduler a `TokenText`"
    );
    assert_eq!(
        refusal(&|request| request.logprobs = Some(VOCAB + 1)),
        "request field `logprobs` is 68; it must be 0 to 67, the size of the vocabulary"
    );
    assert_eq!(
        refusal(&|request| request.sampling.min_p = 2.0),
        "sampler parameter `min_p` is 2; it must be at least 0 and at most 1"
    );
    assert_eq!(
        refusal(&|request| request.session = Some(Session::new(&engine(1)))),
        Error::WrongEngine.to_string()
    );
    let long = refusal(&|request| request.prompt = vec![1; POSITIONS + 1]);
    assert!(
        long.contains("exceed the engine's limit of 150 positions"),
        "{long}"
    );
    let small = SchedulerOptions {
        step_tokens: 3,
        max_running: 4,
        ..ONE
    };
    let error = Scheduler::new(engine(0), small).expect_err("too small");
    assert_eq!(
        error.to_string(),
        "engine option `step_tokens`: is 3; it must be at least `max_running`, which is 4"
    );
}
