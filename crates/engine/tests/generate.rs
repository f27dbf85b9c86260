//! Whoever drafts, the tokens are those of plain decoding: one at a time, in order, each from its own
//! logits.

mod common;

use common::{N_CONFIGS, Random, model};
use cwm_engine::{
    Choice, Constraint, Drafter, Engine, Error, Generated, GenerationEnd, Guides, Limits, Mask,
    NgramDrafter, NgramIndex, Options, PassCosts, Sampler, SamplerOptions, Session, TokenSet, Want,
    generate,
};
use proptest::prelude::*;

const VOCABULARY: usize = 67;

/// Something like a grammar: what is legal follows from the last two tokens. Here and there one token
/// is forced, and now and then everything is over.
#[derive(Clone, Debug)]
struct Rules {
    seed: u64,
    ids: Vec<u32>,
    set: TokenSet,
}

impl Rules {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            ids: Vec::new(),
            set: TokenSet::default(),
        }
    }

    fn legal(&self) -> Vec<u32> {
        let last = self.ids.iter().rev().take(2);
        let state = last.fold(self.seed, |state, &id| state * 31 + u64::from(id));
        let mut random = Random(state % 41);
        match random.below(3) {
            0 => random.ids(1, VOCABULARY),
            1 => random.ids(4, VOCABULARY),
            _ => (0..VOCABULARY as u32).collect(),
        }
    }
}

impl Constraint for Rules {
    fn mask(&mut self) -> Mask<'_> {
        self.set = self.legal().into_iter().collect();
        self.set.mask()
    }

    fn forced(&mut self, out: &mut Vec<u32>) {
        let before = self.ids.len();
        // At most three at once, so that runs come in pieces.
        while let [id] = self.legal()[..]
            && !self.is_complete()
            && self.ids.len() < before + 3
        {
            self.ids.push(id);
            out.push(id);
        }
        self.ids.truncate(before);
    }

    fn accept(&mut self, id: u32) -> Result<(), Error> {
        if !self.legal().contains(&id) {
            let index = self.ids.len();
            return Err(Error::NotAllowed { id, index });
        }
        self.ids.push(id);
        Ok(())
    }

    fn rollback(&mut self, n: usize) {
        self.ids.truncate(self.ids.len().saturating_sub(n));
    }

    fn is_complete(&self) -> bool {
        matches!(self.ids[..], [.., a, b] if (a * 7 + b) % 61 == 5)
    }
}

/// Guesses from the true tokens, some of them wrong: of `lies` in 8.
#[derive(Debug)]
struct Liar {
    truth: Vec<u32>,
    seen: usize,
    lies: usize,
    random: Random,
}

impl Drafter for Liar {
    fn draft(&mut self, max: usize, out: &mut Vec<u32>) {
        let length = self.random.below(max + 3);
        for index in 0..length {
            let true_id = self.truth.get(self.seen + index).copied();
            let is_lie = self.random.below(8) < self.lies;
            // Ids beyond the vocabulary, too.
            let lie = self.random.below(VOCABULARY + 5) as u32;
            out.push(true_id.filter(|_| !is_lie).unwrap_or(lie));
        }
    }

    fn accept(&mut self, ids: &[u32]) {
        assert!(
            self.truth[self.seen..].starts_with(ids),
            "told of what is not so"
        );
        self.seen += ids.len();
    }

    fn rollback(&mut self, n: usize) {
        self.seen -= n;
    }
}

/// Plain decoding, written down once more: a pass for each token that is not forced.
fn plain(
    engine: &Engine,
    prompt: &[u32],
    mut rules: Option<Rules>,
    sampler: &mut Sampler,
    limits: &Limits<'_>,
) -> (Vec<(u32, Option<Choice>)>, GenerationEnd) {
    let mut session = Session::new(engine);
    let mut fed = Vec::new();
    let mut tokens = Vec::new();
    let mut text = prompt.to_vec();
    let mut forced = Vec::new();
    let is_complete = |rules: &Option<Rules>| rules.as_ref().is_some_and(Rules::is_complete);
    if is_complete(&rules) {
        return (tokens, GenerationEnd::Complete);
    }
    loop {
        if tokens.len() >= limits.max_tokens {
            return (tokens, GenerationEnd::MaxTokens);
        }
        if forced.is_empty()
            && let Some(rules) = &mut rules
        {
            rules.forced(&mut forced);
        }
        let (id, choice) = if forced.is_empty() {
            if text.len() > engine.max_positions() {
                return (tokens, GenerationEnd::ContextFull);
            }
            let mut logits = Vec::new();
            for &id in &text[fed.len()..] {
                let row = session
                    .extend(engine, &[id], Want::Last)
                    .expect("there is room");
                logits = row.last().expect("a row").to_vec();
                fed.push(id);
            }
            let mask = rules.as_mut().map_or(Mask::all(), |rules| rules.mask());
            let choice = sampler.sample(&logits, mask).expect("something is legal");
            (choice.id, Some(choice))
        } else {
            (forced.remove(0), None)
        };
        if let Some(rules) = &mut rules {
            rules.accept(id).expect("it is legal");
        }
        text.push(id);
        tokens.push((id, choice));
        if is_complete(&rules) {
            return (tokens, GenerationEnd::Complete);
        }
        if limits.stop.contains(&id) {
            return (tokens, GenerationEnd::Stop);
        }
    }
}

fn pairs(generated: &Generated) -> Vec<(u32, Option<Choice>)> {
    let pair = |token: &cwm_engine::GeneratedToken| (token.id, token.choice);
    generated.tokens.iter().map(pair).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn drafts_and_forced_runs_change_nothing(
        kind in 0..N_CONFIGS,
        seed: u64,
        is_constrained: bool,
        temperature in prop_oneof![Just(0.0f32), Just(0.8), Just(3.0)],
        lies in 0usize..9,
        max_draft in 0usize..9,
        max_tokens in 0usize..60,
        stop in 0u32..200,
    ) {
        let options = Options { max_positions: Some(50), ..Options::default() };
        let engine = Engine::new(model(kind, seed), options).expect("a sound model");
        let mut random = Random(seed ^ 5);
        let n_prompt = 1 + random.below(20);
        let prompt = random.ids(n_prompt, VOCABULARY);
        let rules = is_constrained.then(|| Rules::new(seed % 1000));
        let stop = [stop];
        let limits = Limits { max_tokens, stop: &stop, max_draft };
        let sampler = SamplerOptions { temperature, seed, ..SamplerOptions::PLAIN };
        let sampler = || Sampler::new(sampler).expect("in range");
        let (expected, end) = plain(&engine, &prompt, rules.clone(), &mut sampler(), &limits);

        let truth: Vec<u32> = prompt.iter().copied().chain(expected.iter().map(|t| t.0)).collect();
        let liar = Liar { truth: truth.clone(), seen: 0, lies, random: random.clone() };
        // A pass of any length for the price of one: drafts always pay.
        let costs = PassCosts::new(&[(1, 1.0), (2, 1.0001)]).expect("costs");
        let drafters: [Option<Box<dyn Drafter>>; 3] =
            [None, Some(Box::new(liar)), Some(Box::new(NgramDrafter::new(costs)))];
        for mut drafter in drafters {
            let mut session = Session::new(&engine);
            let mut constraint = rules.clone();
            let guides = Guides {
                constraint: constraint.as_mut().map(|rules| rules as &mut dyn Constraint),
                drafter: drafter.as_mut().map(|drafter| &mut **drafter as &mut dyn Drafter),
            };
            let generated =
                generate(&engine, &mut session, &prompt, guides, &mut sampler(), &limits);
            let generated = generated.expect("something is legal");
            prop_assert_eq!(&pairs(&generated), &expected);
            prop_assert_eq!(generated.end, end);
            let held: Vec<u32> = session.tokens().collect();
            // Where there was no room for the prompt, nothing is in the session.
            if !held.is_empty() {
                prop_assert_eq!(&held[..], &truth[..prompt.len() + generated.fed]);
            }
            prop_assert!(generated.usage.accepted <= generated.usage.drafted);
        }
    }

    #[test]
    fn an_index_forgets_what_it_learnt(seed: u64, steps in 1usize..120, letters in 1usize..4) {
        let mut random = Random(seed);
        let mut index = NgramIndex::default();
        let mut text: Vec<u32> = Vec::new();
        for _ in 0..steps {
            let back = if random.below(4) == 0 { random.below(text.len() + 1) } else { 0 };
            for _ in 0..back {
                index.pop();
                text.pop();
            }
            let id = random.below(letters) as u32;
            index.push(id);
            text.push(id);
            let found = index.find().map(|found| (found.length, found.next));
            prop_assert_eq!(found, slow_find(&text), "{:?}", text);
        }
    }
}

/// What the index promises, by looking everywhere.
fn slow_find(text: &[u32]) -> Option<(usize, usize)> {
    [16, 12, 8, 6, 4, 3, 2].into_iter().find_map(|length| {
        let run = &text[text.len().checked_sub(length)?..];
        let found = (length..text.len())
            .rev()
            .find(|&next| text[next - length..next] == *run);
        found.map(|next| (length, next))
    })
}

#[test]
fn a_generation_goes_on_where_it_stopped() {
    let engine = Engine::new(model(0, 3), Options::default()).expect("a sound model");
    let greedy = SamplerOptions::GREEDY;
    let run = |session: &mut Session, prompt: &[u32], max_tokens| {
        let limits = Limits {
            max_tokens,
            ..Limits::default()
        };
        let mut sampler = Sampler::new(greedy).expect("in range");
        generate(
            &engine,
            session,
            prompt,
            Guides::default(),
            &mut sampler,
            &limits,
        )
    };
    let ids =
        |generated: &Generated| -> Vec<u32> { generated.tokens.iter().map(|t| t.id).collect() };
    let whole = run(&mut Session::new(&engine), &[1, 2, 3], 20).expect("a prompt");
    let mut session = Session::new(&engine);
    let begun = run(&mut session, &[1, 2, 3], 8).expect("a prompt");
    let rest = run(&mut session, &ids(&begun)[begun.fed..], 12).expect("a prompt");
    assert_eq!([ids(&begun), ids(&rest)].concat(), ids(&whole));

    // Without a prompt, the last token of the session is fed again.
    let mut session = Session::new(&engine);
    session
        .extend(&engine, &[1, 2, 3], Want::None)
        .expect("there is room");
    let again = run(&mut session, &[], 20).expect("the session holds tokens");
    assert_eq!(ids(&again), ids(&whole));
    let error = run(&mut Session::new(&engine), &[], 20).expect_err("nothing is there");
    assert_eq!(error, Error::EmptyPrompt);
}

/// Forces the same token for ever, once there is a first one.
struct Endless(usize);

impl Constraint for Endless {
    fn mask(&mut self) -> Mask<'_> {
        match self.0 {
            0 => Mask::all(),
            _ => Mask::from_words(&[1 << 7]),
        }
    }

    fn forced(&mut self, out: &mut Vec<u32>) {
        if self.0 > 0 {
            out.extend([7; 3]);
        }
    }

    fn accept(&mut self, _id: u32) -> Result<(), Error> {
        self.0 += 1;
        Ok(())
    }

    fn rollback(&mut self, n: usize) {
        self.0 -= n;
    }

    fn is_complete(&self) -> bool {
        false
    }
}

#[test]
fn a_constraint_that_forces_for_ever_ends_with_the_tokens() {
    let engine = Engine::new(model(0, 3), Options::default()).expect("a sound model");
    let costs = PassCosts::new(&[(1, 1.0), (2, 1.0001)]).expect("costs");
    let mut drafter = NgramDrafter::new(costs);
    let mut constraint = Endless(0);
    let guides = Guides {
        constraint: Some(&mut constraint),
        drafter: Some(&mut drafter),
    };
    let limits = Limits {
        max_tokens: 20,
        ..Limits::default()
    };
    let mut sampler = Sampler::new(SamplerOptions::GREEDY).expect("in range");
    let mut session = Session::new(&engine);
    let generated = generate(
        &engine,
        &mut session,
        &[7, 7, 7, 7],
        guides,
        &mut sampler,
        &limits,
    );
    let generated = generated.expect("there is room");
    assert_eq!(generated.tokens.len(), 20);
    assert_eq!(generated.end, GenerationEnd::MaxTokens);
    assert_eq!(constraint.0, 20);
}

#[test]
fn drafts_are_as_long_as_pays() {
    // A pass over four tokens costs as much as two, one over eight as much as four.
    let steep = [(1, 1.0), (4, 2.0), (8, 4.0)];
    let costs = PassCosts::new(&steep).expect("costs");
    assert_eq!(costs.of(1), 1.0);
    assert_eq!(costs.of(6), 3.0);
    assert_eq!(costs.of(16), 8.0);
    for (acceptance, best) in [(0.0, 0), (0.2, 0), (0.7, 2), (1.0, 3)] {
        assert_eq!(costs.best_draft(acceptance, 32), best, "{acceptance}");
    }
    for points in [
        &[][..],
        &[(2, 1.0)],
        &[(1, 1.0), (1, 2.0)],
        &[(1, -1.0)],
        &[(1, f64::NAN)],
    ] {
        assert!(PassCosts::new(points).is_err(), "{points:?}");
    }
}

#[test]
fn a_drafter_stops_where_it_does_not_pay_and_begins_again() {
    let costs = PassCosts::new(&[(1, 1.0), (2, 1.3), (9, 3.0)]).expect("costs");
    let mut drafter = NgramDrafter::new(costs);
    let drafted = |drafter: &mut NgramDrafter| {
        let mut out = Vec::new();
        drafter.draft(8, &mut out);
        out.len()
    };
    // `1 2` is followed by something else each time.
    let mut surprises = Vec::new();
    for next in 10..40 {
        drafter.accept(&[1, 2]);
        surprises.push(drafted(&mut drafter));
        drafter.accept(&[next]);
    }
    assert!(surprises[1] > 0, "{surprises:?}");
    assert!(
        surprises[20..].iter().all(|&count| count == 0),
        "{surprises:?}"
    );
    // Now always by the same.
    let mut repeats = Vec::new();
    for _ in 0..30 {
        drafter.accept(&[1, 2]);
        repeats.push(drafted(&mut drafter));
        drafter.accept(&[50, 51, 52]);
    }
    assert!(repeats[20..].iter().all(|&count| count > 0), "{repeats:?}");
}
