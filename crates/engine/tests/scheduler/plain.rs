//! What a request should give: a loop over `Session::extend`, one token at a time, with nothing
//! clever in it.

use cwm_engine::{
    Engine, Event, Finish, Finished, Mask, Request, Result, Sampler, Scored, Session, Source, Stop,
    TokenLogprob, TokenText, Want, logprob, top_logprobs,
};

/// What came of a request. Usage is left out, because it tells of work and not of results.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) prompt: Option<Vec<Scored>>,
    pub(crate) tokens: Vec<(u32, Source, Option<Scored>)>,
    pub(crate) text: String,
    pub(crate) finish: Option<Finish>,
}

impl Outcome {
    pub(crate) fn new() -> Self {
        Self {
            prompt: None,
            tokens: Vec::new(),
            text: String::new(),
            finish: None,
        }
    }

    /// Collects the events of one request, and asserts that they come in order.
    pub(crate) fn take(&mut self, event: Event) {
        assert_eq!(self.finish, None, "nothing follows the end: {event:?}");
        match event {
            Event::Rejected(error) => panic!("rejected: {error}"),
            Event::Prompt(scores) => {
                assert!(self.prompt.is_none() && self.tokens.is_empty());
                self.prompt = Some(scores);
            }
            Event::Token(token) => {
                assert_eq!(token.index, self.tokens.len());
                self.tokens.push((token.id, token.source, token.score));
                self.text.push_str(&token.text);
            }
            Event::Finished(Finished {
                finish,
                text,
                usage,
                ..
            }) => {
                assert_eq!(usage.generated, self.tokens.len());
                assert!(usage.accepted <= usage.drafted);
                self.text.push_str(&text);
                self.finish = Some(finish);
            }
        }
    }

    pub(crate) fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.0).collect()
    }
}

/// Runs a request by itself.
pub(crate) fn run(engine: &Engine, text: &dyn TokenText, mut request: Request) -> Outcome {
    let mut outcome = Outcome::new();
    let mut session = Session::new(engine);
    let rows = session
        .extend(engine, &request.prompt, Want::All)
        .expect("the prompt fits");
    outcome.prompt = request.prompt_logprobs.map(|n| {
        let ids = request.prompt[1..].iter();
        ids.zip(rows.rows())
            .map(|(&id, row)| score(row, id, n))
            .collect()
    });
    let mut row = rows.last().expect("prompts are not empty").to_vec();
    let mut sampler = request.check(engine).expect("a good request");
    let mut bytes = Vec::new();
    let finish = loop {
        if let Some(finish) = end(&request, engine, outcome.tokens.len()) {
            break finish;
        }
        let next = choose(&mut request, &mut sampler, &row, outcome.tokens.len());
        let (id, source) = match next {
            Ok(next) => next,
            Err(error) => break Finish::Failed(error),
        };
        let scores = request.logprobs.map(|n| score(&row, id, n));
        outcome.tokens.push((id, source, scores));
        if let Some(constraint) = &mut request.constraint {
            constraint.accept(id).expect("chosen under its mask");
        }
        if request.stop_ids.contains(&id) {
            break Finish::Stop(Stop::Token(id));
        }
        text.append_bytes(id, &mut bytes);
        if let Some(stop) = cut(&mut bytes, &request.stop_strings) {
            break Finish::Stop(Stop::Text(stop));
        }
        if end(&request, engine, outcome.tokens.len()).is_none() {
            let rows = session
                .extend(engine, &[id], Want::Last)
                .expect("there is room");
            row = rows.last().expect("one was asked for").to_vec();
        }
    };
    outcome.text = String::from_utf8_lossy(&bytes).into_owned();
    outcome.finish = Some(finish);
    outcome
}

fn end(request: &Request, engine: &Engine, generated: usize) -> Option<Finish> {
    if request.constraint.as_ref().is_some_and(|c| c.is_complete()) {
        Some(Finish::Complete)
    } else if generated == request.max_tokens {
        Some(Finish::Length)
    } else if request.prompt.len() + generated == engine.max_positions() {
        Some(Finish::ContextFull)
    } else {
        None
    }
}

fn choose(
    request: &mut Request,
    sampler: &mut Sampler,
    row: &[f32],
    generated: usize,
) -> Result<(u32, Source)> {
    let mut forced = Vec::new();
    if let Some(constraint) = &mut request.constraint {
        constraint.forced(&mut forced);
    }
    if let Some(&id) = forced.first() {
        return Ok((id, Source::Forced));
    }
    let constraint = request.constraint.as_mut();
    let mask = constraint.map_or(Mask::all(), |constraint| constraint.mask());
    sampler.seek(generated as u64);
    Ok((sampler.sample(row, mask)?.id, Source::Sampled))
}

fn score(row: &[f32], id: u32, n: usize) -> Scored {
    let logprob = logprob(row, id).expect("no damage");
    Scored {
        token: TokenLogprob { id, logprob },
        top: top_logprobs(row, n).expect("no damage"),
    }
}

/// Cuts the text before the longest stop string that ends it.
fn cut(bytes: &mut Vec<u8>, stops: &[String]) -> Option<String> {
    // A token has two bytes at most here, so a stop string may end before its last one.
    for end in bytes.len().saturating_sub(1).max(1)..=bytes.len() {
        let ends = |stop: &&String| bytes[..end].ends_with(stop.as_bytes());
        if let Some(stop) = stops.iter().filter(ends).max_by_key(|stop| stop.len()) {
            bytes.truncate(end - stop.len());
            return Some(stop.clone());
        }
    }
    None
}
