//! The scheduler: requests in a batch against the same requests alone, fairness, limits, ends.

#[path = "../common/mod.rs"]
mod common;
mod limits;
mod plain;
mod server;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::{N_CONFIGS, Random};
use cwm_engine::{
    Error, Event, Finish, Keep, Request, RequestId, Scheduler, SchedulerOptions, Session, Source,
    Stop, Usage, Want,
};
use plain::Outcome;
use proptest::prelude::*;
use world::{Letters, Spec, engine};

fn scheduler(kind: usize, options: SchedulerOptions) -> Scheduler {
    let scheduler = Scheduler::new(engine(kind), options).expect("the options are in range");
    scheduler.with_text(Arc::new(Letters))
}

/// Serves until nothing is left; the events by request.
fn drain(scheduler: &mut Scheduler) -> BTreeMap<RequestId, Vec<Event>> {
    let mut all: BTreeMap<RequestId, Vec<Event>> = BTreeMap::new();
    let mut events = Vec::new();
    while !scheduler.is_idle() {
        scheduler.step(Duration::ZERO, &mut events);
        for (id, event) in events.drain(..) {
            all.entry(id).or_default().push(event);
        }
    }
    all
}

/// Serves one request alone; its outcome, usage and session.
fn serve(
    kind: usize,
    options: SchedulerOptions,
    request: Request,
) -> (Outcome, Usage, Option<Session>) {
    let mut scheduler = scheduler(kind, options);
    let id = scheduler.submit(request).expect("a good request");
    let events = drain(&mut scheduler).remove(&id).expect("it was served");
    let mut outcome = Outcome::new();
    let mut end = None;
    for event in events {
        if let Event::Finished(finished) = &event {
            end = Some((finished.usage, finished.session.clone()));
        }
        outcome.take(event);
    }
    let (usage, session) = end.expect("it ended");
    (outcome, usage, session.map(|session| *session))
}

#[test]
fn random_requests_show_everything_that_can_happen() {
    let mut random = Random(8);
    let (mut seen, mut n_forced, mut n_characters) = (BTreeMap::new(), 0, 0);
    for _ in 0..300 {
        let spec = Spec::new(random.next());
        let outcome = plain::run(&engine(0), &Letters, spec.request());
        let kind = match outcome.finish.expect("it ended") {
            Finish::Stop(Stop::Token(_)) => "stop token",
            Finish::Stop(Stop::Text(_)) => "stop text",
            Finish::Complete => "complete",
            Finish::Length => "length",
            Finish::ContextFull => "full",
            Finish::Failed(Error::NothingAllowed { .. }) => "stuck",
            other => panic!("{other:?}"),
        };
        *seen.entry(kind).or_insert(0) += 1;
        let forced = |token: &&(u32, Source, _)| token.1 == Source::Forced;
        n_forced += outcome.tokens.iter().filter(forced).count();
        n_characters += outcome.text.matches('é').count();
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
    assert!(seen.values().all(|&n| n >= 3), "{seen:?}");
    assert!(
        n_forced > 50 && n_characters > 10,
        "{n_forced}, {n_characters}"
    );
}

/// When a request comes, and what happens to it from outside.
struct Arrival {
    step: usize,
    spec: Spec,
    cancel_at: Option<usize>,
    deadline: Option<u64>,
    expected: Outcome,
    id: Option<RequestId>,
    outcome: Outcome,
}

fn arrival(kind: usize, random: &mut Random) -> Arrival {
    let spec = Spec::new(random.next());
    let expected = plain::run(&engine(kind), &Letters, spec.request());
    let step = random.below(12);
    let sometimes = |random: &mut Random, n| (random.below(5) == 0).then(|| random.below(n));
    Arrival {
        step,
        spec,
        cancel_at: sometimes(random, 25),
        deadline: sometimes(random, 30).map(|at| at as u64),
        expected,
        id: None,
        outcome: Outcome::new(),
    }
}

/// Now and then a session that has a beginning of a prompt, and something else after it.
fn session(kind: usize, prompt: &[u32], random: &mut Random) -> Option<Session> {
    if random.below(3) > 0 {
        return None;
    }
    let mut ids = prompt[..random.below(prompt.len() + 1)].to_vec();
    let n = random.below(5);
    ids.extend(random.ids(n, world::VOCAB));
    let mut session = Session::new(&engine(kind));
    let extended = session.extend(&engine(kind), &ids, Want::None);
    extended.expect("there is room");
    Some(session)
}

/// Asserts that an outcome is what the request gives alone, or a beginning of it where it was
/// ended from outside.
fn check(arrival: &Arrival) {
    let Arrival {
        outcome, expected, ..
    } = arrival;
    match outcome.finish {
        Some(Finish::Cancelled) => assert!(arrival.cancel_at.is_some()),
        Some(Finish::TooLate) => assert!(arrival.deadline.is_some()),
        _ => return assert_eq!(outcome, expected),
    }
    assert!(expected.tokens.starts_with(&outcome.tokens));
    assert!(outcome.prompt.is_none() || outcome.prompt == expected.prompt);
    let text = outcome.text.trim_end_matches(char::REPLACEMENT_CHARACTER);
    // Held text may be the beginning of the stop string that was about to come.
    assert!(expected.text.starts_with(text) || !arrival.spec.request().stop_strings.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_request_in_a_batch_equals_its_solo_run(seed: u64) {
        let mut random = Random(seed);
        let kind = random.below(N_CONFIGS);
        let max_running = 1 + random.below(6);
        let options = SchedulerOptions {
            max_waiting: 100,
            max_running,
            step_tokens: max_running + [0, 1, 7, 100][random.below(4)],
            max_pages: 3 + random.below(8),
            max_draft: random.below(7),
            oldest_every: 1 + random.below(4),
        };
        let mut scheduler = scheduler(kind, options.clone());
        let n = 1 + random.below(8);
        let mut arrivals: Vec<Arrival> = (0..n).map(|_| arrival(kind, &mut random)).collect();
        let mut events = Vec::new();
        let mut step = 0;
        while step <= 12 || !scheduler.is_idle() {
            for arrival in &mut arrivals {
                if arrival.step == step {
                    let truth = arrival.expected.ids();
                    let mut request = match random.below(2) {
                        0 => arrival.spec.request(),
                        _ => arrival.spec.drafted(&truth, &mut random),
                    };
                    request.deadline = arrival.deadline.map(Duration::from_secs);
                    request.session = session(kind, &request.prompt, &mut random);
                    arrival.id = Some(scheduler.submit(request).expect("a good request"));
                }
                if let (Some(id), true) = (arrival.id, arrival.cancel_at == Some(step)) {
                    let is_over = arrival.outcome.finish.is_some();
                    prop_assert_eq!(scheduler.cancel(id), !is_over);
                }
            }
            scheduler.step(Duration::from_secs(step as u64), &mut events);
            prop_assert!(scheduler.n_pages() <= options.max_pages);
            prop_assert!(scheduler.n_running() <= options.max_running);
            for (id, event) in events.drain(..) {
                let arrival = arrivals.iter_mut().find(|arrival| arrival.id == Some(id));
                arrival.expect("events are of requests").outcome.take(event);
            }
            step += 1;
            prop_assert!(step < 10_000, "it never ends");
        }
        prop_assert_eq!((scheduler.n_pages(), scheduler.n_running()), (0, 0));
        for arrival in &arrivals {
            check(arrival);
        }
    }
}

/// A greedy request whose prompt is drawn from a seed.
fn greedy(seed: u64, prompt: usize, max_tokens: usize) -> Request {
    Request::new(Random(seed).ids(prompt, world::VOCAB), max_tokens)
}

/// Steps until a request has ended, its outcome, and how many of its tokens were forced.
fn steps(scheduler: &mut Scheduler, id: RequestId) -> (usize, Outcome, usize) {
    let (mut outcome, mut steps, mut events) = (Outcome::new(), 0, Vec::new());
    while outcome.finish.is_none() {
        scheduler.step(Duration::ZERO, &mut events);
        steps += 1;
        for (of, event) in events.drain(..) {
            if of == id {
                outcome.take(event);
            }
        }
    }
    let forced = |token: &&(u32, Source, _)| token.1 == Source::Forced;
    let n_forced = outcome.tokens.iter().filter(forced).count();
    (steps, outcome, n_forced)
}

#[test]
fn good_guesses_save_passes_and_change_nothing() {
    for kind in 0..N_CONFIGS {
        let expected = plain::run(&engine(kind), &Letters, greedy(1, 30, 40));
        let mut passes = Vec::new();
        for lies in [0, 50, 100] {
            let mut request = greedy(1, 30, 40);
            request.drafter = Some(Box::new(world::Oracle {
                truth: [&request.prompt[..], &expected.ids()].concat(),
                seen: 0,
                skip: 0,
                lies,
                random: Random(5),
            }));
            let mut scheduler = scheduler(kind, SchedulerOptions::default());
            let id = scheduler.submit(request).expect("a good request");
            let (n_steps, outcome, _) = steps(&mut scheduler, id);
            assert_eq!(outcome, expected);
            passes.push(n_steps);
        }
        // One for the prompt, which gives a token; 39 more by the row of one and sixteen guesses.
        assert_eq!(passes[0], 1 + 39_usize.div_ceil(17));
        assert!(passes[1] > passes[0] && passes[1] < 40, "{passes:?}");
        assert!(passes[2] > passes[1], "{passes:?}");
    }
}

/// A request under a grammar that forces some tokens.
fn ruled(max_tokens: usize) -> Request {
    let mut request = greedy(3, 10, max_tokens);
    request.constraint = Some(Box::new(world::Rule::new(1000, 1000)));
    request
}

#[test]
fn forced_tokens_take_no_pass_of_their_own() {
    let expected = plain::run(&engine(0), &Letters, ruled(60));
    let mut scheduler = scheduler(0, SchedulerOptions::default());
    let id = scheduler.submit(ruled(60)).expect("a good request");
    let (steps, outcome, n_forced) = steps(&mut scheduler, id);
    assert_eq!(outcome, expected);
    assert!(n_forced > 5, "the grammar forces some: {n_forced}");
    assert_eq!(
        steps,
        60 - n_forced,
        "a pass for each token that was sampled"
    );
}

#[test]
fn forced_tokens_go_before_the_prompts_of_others() {
    let options = SchedulerOptions {
        max_running: 2,
        // One for each, and room for a run of three that was forced.
        step_tokens: 5,
        ..SchedulerOptions::default()
    };
    let count = |n_others: usize| {
        let mut scheduler = scheduler(0, options.clone());
        let id = scheduler.submit(ruled(40)).expect("a good request");
        // It has read its own prompt before the other comes.
        let mut events = Vec::new();
        while events.is_empty() {
            scheduler.step(Duration::ZERO, &mut events);
        }
        for _ in 0..n_others {
            scheduler.submit(greedy(1, 140, 1)).expect("a good request");
        }
        let mut n_steps = 0;
        while !events
            .iter()
            .any(|(of, e)| *of == id && matches!(e, Event::Finished(_)))
        {
            scheduler.step(Duration::ZERO, &mut events);
            n_steps += 1;
        }
        n_steps
    };
    assert_eq!(count(1), count(0));
}

#[test]
fn a_guess_that_comes_true_too_late_is_no_right_guess() {
    // A drafter that is one token ahead: behind its wrong first guess stands the token that is
    // then forced, and the session has it in the wrong place.
    for kind in 0..N_CONFIGS {
        let expected = plain::run(&engine(kind), &Letters, ruled(100));
        let mut request = ruled(100);
        request.drafter = Some(Box::new(world::Oracle {
            truth: [&request.prompt[..], &expected.ids()].concat(),
            seen: 0,
            skip: 1,
            lies: 0,
            random: Random(0),
        }));
        let (outcome, _, _) = serve(kind, SchedulerOptions::default(), request);
        assert_eq!(outcome, expected);
    }
}

#[test]
fn a_kept_session_goes_on_where_it_ended() {
    let mut first = greedy(4, 70, 20);
    first.keep = Keep::Session;
    let prompt = first.prompt.clone();
    let (outcome, _, session) = serve(0, SchedulerOptions::default(), first);
    let session = session.expect("it was to be kept");
    let all = [&prompt[..], &outcome.ids()].concat();
    // The last token was chosen, and no pass needed it.
    assert_eq!(session.tokens().collect::<Vec<_>>(), all[..89]);

    let longer = [&all[..], &[5, 6, 7]].concat();
    let expected = plain::run(&engine(0), &Letters, Request::new(longer.clone(), 10));
    let mut second = Request::new(longer.clone(), 10);
    second.session = Some(session.fork());
    let (outcome, usage, _) = serve(0, SchedulerOptions::default(), second);
    assert_eq!((&outcome, usage.reused), (&expected, 89));

    // Scores of the prompt need its rows, so nothing can be left out.
    let mut scored = Request::new(longer, 10);
    scored.session = Some(session);
    scored.prompt_logprobs = Some(0);
    let (outcome, usage, _) = serve(0, SchedulerOptions::default(), scored);
    assert_eq!((outcome.tokens, usage.reused), (expected.tokens, 0));
    assert_eq!(outcome.prompt.map(|scores| scores.len()), Some(92));
}

#[test]
fn a_prompt_that_a_session_has_already_is_read_from_its_last_token() {
    let request = greedy(4, 64, 5);
    let expected = plain::run(&engine(1), &Letters, greedy(4, 64, 5));
    let mut session = Session::new(&engine(1));
    let ids = [&request.prompt[..], &[1, 2, 3]].concat();
    session
        .extend(&engine(1), &ids, Want::None)
        .expect("there is room");
    let request = Request {
        session: Some(session),
        ..request
    };
    let (outcome, usage, _) = serve(1, SchedulerOptions::default(), request);
    assert_eq!((outcome, usage.reused), (expected, 63));
}
