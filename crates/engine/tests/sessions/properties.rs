//! Any history of a pile of sessions: logits are those of a run from scratch, and pages are held,
//! shared and counted as a plain model of them says.

use std::collections::HashMap;

use cwm_engine::{Engine, Error, Options, PAGE, Session, Want};
use cwm_model::{Config, LayerType};
use proptest::prelude::*;

use crate::common::{N_CONFIGS, bits, config, model, one_pass};

/// One act on a pile of sessions; numbers are taken modulo what is possible.
#[derive(Clone, Debug)]
enum Act {
    /// In calls of at most `chunk` tokens.
    Extend {
        session: usize,
        ids: Vec<u32>,
        chunk: usize,
        want: Want,
    },
    Rollback {
        session: usize,
        to: usize,
    },
    Rewind {
        session: usize,
        to: usize,
    },
    /// Changes the tokens from `at` on by `ids`, of which the first `same` stay what they were.
    Edit {
        session: usize,
        at: usize,
        same: usize,
        ids: Vec<u32>,
        want: Want,
    },
    Fork {
        session: usize,
    },
    TruncateFork {
        session: usize,
        to: usize,
    },
    Drop {
        session: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let ids = || {
        prop_oneof![
            3 => proptest::collection::vec(0..67u32, 0..4),
            1 => proptest::collection::vec(0..67u32, 1..150),
        ]
    };
    let want = || prop_oneof![Just(Want::None), Just(Want::Last), Just(Want::All)];
    let n = any::<usize>;
    prop_oneof![
        6 => (n(), ids(), 1..200usize, want())
            .prop_map(|(session, ids, chunk, want)| Act::Extend { session, ids, chunk, want }),
        2 => (n(), n()).prop_map(|(session, to)| Act::Rollback { session, to }),
        1 => (n(), n()).prop_map(|(session, to)| Act::Rewind { session, to }),
        1 => (n(), n(), 0..40usize, ids(), want())
            .prop_map(|(session, at, same, ids, want)| Act::Edit { session, at, same, ids, want }),
        1 => n().prop_map(|session| Act::Fork { session }),
        1 => (n(), n()).prop_map(|(session, to)| Act::TruncateFork { session, to }),
        1 => n().prop_map(|session| Act::Drop { session }),
    ]
}

/// What the pages of one group should be: names of their contents, from page `first` on.
#[derive(Clone, Debug, Default)]
struct Pages {
    first: usize,
    names: Vec<u64>,
}

impl Pages {
    fn cut(&mut self, len: usize) {
        let end = len.div_ceil(PAGE);
        self.names.truncate(end.saturating_sub(self.first));
        self.first = self.first.min(end);
    }
}

/// What a session should be.
#[derive(Clone, Debug, Default)]
struct Twin {
    tokens: Vec<u32>,
    global: Pages,
    local: Pages,
}

/// A pile of sessions beside what they should be.
struct Pile {
    engine: Engine,
    config: Config,
    slack: Option<usize>,
    sessions: Vec<Session>,
    twins: Vec<Twin>,
    next_name: u64,
}

impl Pile {
    fn new(kind: usize, slack: Option<usize>) -> Self {
        let options = Options {
            local_slack: slack,
            ..Options::default()
        };
        let engine = Engine::new(model(kind, 7), options).expect("the options fit");
        Self {
            sessions: vec![Session::new(&engine)],
            twins: vec![Twin::default()],
            engine,
            config: config(kind),
            slack,
            next_name: 0,
        }
    }

    fn n_layers(&self, kind: LayerType) -> usize {
        self.config
            .layer_types
            .iter()
            .filter(|k| **k == kind)
            .count()
    }

    fn page_bytes(&self, kind: LayerType) -> usize {
        let row = self.config.n_kv_heads * self.config.head_dim;
        self.n_layers(kind) * 2 * PAGE * row * size_of::<f32>()
    }

    /// How many sessions hold each page.
    fn holders(&self) -> HashMap<u64, usize> {
        let mut holders = HashMap::new();
        for twin in &self.twins {
            for name in twin.global.names.iter().chain(&twin.local.names) {
                *holders.entry(*name).or_default() += 1;
            }
        }
        holders
    }

    /// Writes rows `start..end` of a group: pages that others hold get new names.
    fn write(&mut self, pages: &mut Pages, start: usize, end: usize) {
        let holders = self.holders();
        if pages.names.is_empty() {
            pages.first = start / PAGE;
        }
        for index in start / PAGE..end.div_ceil(PAGE) {
            let at = index - pages.first;
            if pages.names.get(at).is_none_or(|name| holders[name] > 1) {
                self.next_name += 1;
                pages.names.truncate(at);
                pages.names.push(self.next_name);
            }
        }
    }

    /// What appending `ids` should do.
    fn twin_extend(&mut self, index: usize, ids: &[u32]) {
        if ids.is_empty() {
            return;
        }
        let mut twin = self.twins[index].clone();
        let start = twin.tokens.len();
        twin.tokens.extend(ids);
        let end = twin.tokens.len();
        if self.n_layers(LayerType::Full) > 0 {
            self.write(&mut twin.global, start, end);
        }
        if self.n_layers(LayerType::Sliding) > 0 {
            self.write(&mut twin.local, start, end);
            if let Some(slack) = self.slack {
                let needed = (end + 1).saturating_sub(self.config.sliding_window + slack);
                while twin.local.first < needed / PAGE {
                    twin.local.names.remove(0);
                    twin.local.first += 1;
                }
            }
        }
        self.twins[index] = twin;
    }

    fn twin_cut(&mut self, index: usize, to: usize) {
        let twin = &mut self.twins[index];
        twin.tokens.truncate(to);
        twin.global.cut(to);
        twin.local.cut(to);
    }

    /// The error of going back to `to`, if it should be one.
    fn forgotten(&self, index: usize, to: usize) -> Option<Error> {
        let (begin, window) = (
            self.twins[index].local.first * PAGE,
            self.config.sliding_window,
        );
        let sees = (to + 1).saturating_sub(window)..to;
        (!sees.is_empty() && sees.start < begin).then(|| Error::RollbackForgotten {
            to,
            exact_from: begin + window - 1,
            recompute: to,
        })
    }

    fn twin_rewind(&mut self, index: usize, to: usize) -> usize {
        if self.forgotten(index, to).is_none() {
            self.twin_cut(index, to);
            return 0;
        }
        let ids = self.twins[index].tokens[..to].to_vec();
        self.twin_cut(index, 0);
        self.twin_extend(index, &ids);
        to
    }

    fn act(&mut self, act: Act) -> Result<(), TestCaseError> {
        let n = self.sessions.len();
        let limit = self.engine.max_positions();
        match act {
            Act::Extend {
                session,
                mut ids,
                chunk,
                want,
            } => {
                let index = session % n;
                ids.truncate(limit - self.twins[index].tokens.len());
                for ids in ids.chunks(chunk) {
                    let logits = self.sessions[index].extend(&self.engine, ids, want);
                    self.twin_extend(index, ids);
                    self.check_logits(index, ids.len(), logits.expect("the ids fit"), want)?;
                }
            }
            Act::Rollback { session, to } => {
                let index = session % n;
                let to = to % (self.twins[index].tokens.len() + 1);
                match self.forgotten(index, to) {
                    None => {
                        prop_assert_eq!(self.sessions[index].rollback(to), Ok(()));
                        self.twin_cut(index, to);
                    }
                    Some(error) => {
                        prop_assert_eq!(self.sessions[index].rollback(to), Err(error));
                    }
                }
            }
            Act::Rewind { session, to } => {
                let index = session % n;
                let to = to % (self.twins[index].tokens.len() + 1);
                let recomputed = self.sessions[index].rewind(&self.engine, to);
                prop_assert_eq!(recomputed, Ok(self.twin_rewind(index, to)));
            }
            Act::Edit {
                session,
                at,
                same,
                ids,
                want,
            } => {
                let index = session % n;
                let old = &self.twins[index].tokens;
                let at = at % (old.len() + 1);
                let mut new: Vec<u32> = old[at..].iter().copied().take(same).collect();
                new.extend(ids);
                new.truncate(limit - at);
                let common = old[at..].iter().zip(&new).take_while(|(a, b)| a == b);
                let kept = match want {
                    Want::None => common.count(),
                    Want::Last => common.count().min(new.len().saturating_sub(1)),
                    Want::All => 0,
                };
                let logits = self.sessions[index].edit(&self.engine, at, &new, want);
                self.twin_rewind(index, at + kept);
                self.twin_extend(index, &new[kept..]);
                self.check_logits(index, new.len(), logits.expect("the ids fit"), want)?;
            }
            Act::Fork { session } => {
                self.sessions.push(self.sessions[session % n].fork());
                self.twins.push(self.twins[session % n].clone());
            }
            Act::TruncateFork { session, to } => {
                let index = session % n;
                let to = to % (self.twins[index].tokens.len() + 1);
                match (
                    self.sessions[index].truncate_fork(to),
                    self.forgotten(index, to),
                ) {
                    (Ok(fork), None) => {
                        self.sessions.push(fork);
                        self.twins.push(self.twins[index].clone());
                        self.twin_cut(n, to);
                    }
                    (fork, error) => prop_assert_eq!(fork.err(), error),
                }
            }
            Act::Drop { session } => {
                if n > 1 {
                    self.sessions.swap_remove(session % n);
                    self.twins.swap_remove(session % n);
                }
            }
        }
        Ok(())
    }

    /// Compares with a run of all tokens from scratch; `n_new` tokens were asked about.
    fn check_logits(
        &self,
        index: usize,
        n_new: usize,
        logits: cwm_engine::Logits,
        want: Want,
    ) -> Result<(), TestCaseError> {
        let n_rows = match want {
            Want::None => 0,
            Want::Last => n_new.min(1),
            Want::All => n_new,
        };
        prop_assert_eq!(logits.n_rows(), n_rows);
        if n_rows > 0 {
            let scratch = one_pass(&self.engine, &self.twins[index].tokens);
            let rows = &scratch[scratch.len() - logits.as_slice().len()..];
            prop_assert!(bits(logits.as_slice()) == bits(rows));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let holders = self.holders();
        for (index, (session, twin)) in self.sessions.iter().zip(&self.twins).enumerate() {
            prop_assert_eq!(session.len(), twin.tokens.len());
            prop_assert!(session.tokens().eq(twin.tokens.iter().copied()));
            let names = || twin.global.names.iter().chain(&twin.local.names);
            prop_assert_eq!(session.n_pages(), names().count());
            let n_shared = names().filter(|name| holders[name] > 1).count();
            prop_assert_eq!(session.n_shared_pages(), n_shared);
            let bytes = twin.global.names.len() * self.page_bytes(LayerType::Full)
                + twin.local.names.len() * self.page_bytes(LayerType::Sliding);
            prop_assert_eq!(session.bytes(), bytes);
            let exact_from = session.exact_from();
            prop_assert!(
                (exact_from..=session.len()).all(|to| self.forgotten(index, to).is_none())
            );
            prop_assert!(exact_from == 0 || self.forgotten(index, exact_from - 1).is_some());
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happened to a session and its relatives, its logits are those of its tokens run
    /// from scratch; windows are shorter than a page, as long and longer.
    #[test]
    fn sessions_equal_runs_from_scratch(
        kind in 0..N_CONFIGS,
        slack in prop_oneof![Just(None), Just(Some(0)), (1..100usize).prop_map(Some)],
        acts in proptest::collection::vec(act(), 1..24),
    ) {
        let mut pile = Pile::new(kind, slack);
        for act in acts {
            pile.act(act)?;
            pile.check()?;
        }
    }
}
