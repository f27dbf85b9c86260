//! A store against a plain model of it: contents, errors, order of eviction, accounts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cwm_model::{Config, LayerType, Model, Rope};
use proptest::prelude::*;

use super::budget::Victim;
use super::*;
use crate::{Options, Want};

/// Bytes of one page of the global layer and one of the two local layers.
const GLOBAL: usize = 2 * 64 * 4 * 4;
const LOCAL: usize = 2 * GLOBAL;
const BOTH: usize = GLOBAL + LOCAL;

fn engine(window: usize, local_slack: Option<usize>) -> Engine {
    let config = Config {
        vocab_size: 11,
        hidden_size: 8,
        intermediate_size: 12,
        n_layers: 3,
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 4,
        layer_types: vec![LayerType::Sliding, LayerType::Full, LayerType::Sliding],
        sliding_window: window,
        rms_norm_eps: 1e-5,
        rope: Rope {
            theta: 10_000.0,
            scaling: None,
        },
        max_position_embeddings: 1000,
        n_previous_embeddings: 0,
        run_embedding: None,
        tie_word_embeddings: false,
        bos_token_id: None,
        eos_token_id: Vec::new(),
    };
    let options = Options {
        local_slack,
        ..Options::default()
    };
    Engine::new(Model::init(config, 3), options).expect("the options fit")
}

fn store(engine: &Engine, budget: usize) -> SessionStore {
    SessionStore::new(engine, StoreOptions { budget, ttl: None })
}

const NOW: Duration = Duration::ZERO;

/// Appends `ids` to a named session, making it first where there is none.
fn append(store: &mut SessionStore, engine: &Engine, name: &str, ids: &[u32]) -> Result<()> {
    if !store.names().any(|other| other == name) {
        store.create(name, NOW)?;
    }
    let mut lent = store.lend(name, ids.len(), NOW)?;
    lent.session.extend(engine, ids, Want::None)?;
    store.give_back(lent, NOW)
}

fn names(store: &SessionStore) -> Vec<&str> {
    store.names().collect()
}

#[test]
fn the_least_recently_used_go_first_and_pinned_ones_stay() {
    let engine = engine(5, None);
    // A lent session of up to 64 tokens is promised two pages of each group.
    let mut store = store(&engine, 4 * BOTH);
    for name in ["a", "b", "c"] {
        append(&mut store, &engine, name, &[1; 60]).expect("fits");
    }
    assert_eq!(store.held_bytes(), 3 * BOTH);
    store.get("a", NOW).expect("it is there");
    store.pin("b").expect("it is there");
    append(&mut store, &engine, "d", &[2; 60]).expect("fits without c");
    assert_eq!(names(&store), ["a", "b", "d"]);
    append(&mut store, &engine, "e", &[2; 60]).expect("fits without a");
    assert_eq!(names(&store), ["b", "d", "e"]);
    store.unpin("b").expect("it is there");
    append(&mut store, &engine, "f", &[2; 60]).expect("fits without b");
    assert_eq!(names(&store), ["d", "e", "f"]);
    assert!(store.get("b", NOW).is_err());
}

#[test]
fn what_cannot_fit_is_refused_and_evicts_nobody() {
    let engine = engine(5, None);
    let mut store = store(&engine, 5 * BOTH);
    for name in ["a", "b", "c"] {
        append(&mut store, &engine, name, &[1; 60]).expect("fits");
    }
    store.pin("a").expect("it is there");
    let lent = store.lend("b", 0, NOW).expect("nothing is needed");
    store.create("d", NOW).expect("nothing is needed");
    let refused = store
        .lend("d", 190, NOW)
        .expect_err("needs 4 pages of each");
    assert_eq!(
        refused,
        Error::OutOfBudget {
            needed: 4 * BOTH,
            budget: 5 * BOTH,
            kept: 2 * BOTH
        }
    );
    assert_eq!(
        refused.to_string(),
        "24576 bytes of keys and values do not fit: of a budget of 30720, 12288 are pinned, in use \
         or promised; give back, unpin or delete sessions, ask for less room, or raise \
         `StoreOptions::budget`"
    );
    assert_eq!(store.open(&[3; 190], 0, NOW).err(), Some(refused));
    assert_eq!(names(&store), ["a", "b", "c", "d"]);
    assert_eq!(store.held_bytes(), 3 * BOTH);
    store.give_back(lent, NOW).expect("it was lent");
    store.lend("d", 190, NOW).expect("b and c can go");
    assert_eq!(names(&store), ["a", "d"]);
}

#[test]
fn a_promise_is_kept_while_others_ask() {
    let engine = engine(5, None);
    let mut store = store(&engine, 5 * BOTH);
    store.create("a", NOW).expect("a new name");
    store.create("b", NOW).expect("a new name");
    let mut lent = store.lend("a", 100, NOW).expect("fits");
    assert_eq!((store.held_bytes(), store.promised_bytes()), (0, 3 * BOTH));
    assert!(store.lend("b", 100, NOW).is_err(), "2 are left, 3 needed");
    let extend = |session: &mut Session, ids: &[u32]| {
        let done = session.extend(&engine, ids, Want::None);
        done.expect("the ids fit");
    };
    extend(&mut lent.session, &[1; 70]);
    let (held, promised) = (store.held_bytes(), store.promised_bytes());
    assert_eq!((held, promised), (2 * BOTH, BOTH));
    lent.session.rollback(10).expect("not forward");
    let (held, promised) = (store.held_bytes(), store.promised_bytes());
    assert_eq!((held, promised), (BOTH, 2 * BOTH));
    let fork = lent.session.fork();
    extend(&mut lent.session, &[1]);
    let (held, promised) = (store.held_bytes(), store.promised_bytes());
    assert_eq!((held, promised), (2 * BOTH, BOTH));
    drop(fork);
    assert_eq!(store.held_bytes(), BOTH);
    store.give_back(lent, NOW).expect("it was lent");
    assert_eq!((store.held_bytes(), store.promised_bytes()), (BOTH, 0));
    drop(store.lend("b", 100, NOW).expect("fits"));
    assert_eq!(store.promised_bytes(), 0, "what is dropped needs no room");
}

#[test]
fn who_takes_more_than_promised_makes_others_go() {
    let engine = engine(5, None);
    let mut store = store(&engine, 3 * BOTH);
    append(&mut store, &engine, "a", &[1; 60]).expect("fits");
    append(&mut store, &engine, "b", &[1; 60]).expect("fits");
    let mut lent = store.lend("b", 0, NOW).expect("nothing is needed");
    let done = lent.session.extend(&engine, &[2; 120], Want::None);
    done.expect("the engine does not mind");
    assert_eq!(store.held_bytes(), 4 * BOTH);
    store.give_back(lent, NOW).expect("it was lent");
    assert_eq!((names(&store), store.held_bytes()), (vec!["b"], 3 * BOTH));
}

#[test]
fn local_layers_that_forget_are_promised_less() {
    let (short, long) = (engine(5, Some(0)), engine(5, None));
    let growth = |engine: &Engine| Session::new(engine).growth(900).bytes();
    assert_eq!(growth(&long), 16 * BOTH);
    assert_eq!(growth(&short), 16 * GLOBAL + 6 * LOCAL, "5 + 256 positions");
    let mut store = store(&short, growth(&short));
    append(&mut store, &short, "a", &[1; 900]).expect("fits");
    assert_eq!(store.held_bytes(), 15 * GLOBAL + LOCAL);
}

#[test]
fn sessions_expire_to_the_nanosecond() {
    let engine = engine(5, None);
    let hour = Duration::from_secs(3600);
    let options = StoreOptions {
        budget: 100 * BOTH,
        ttl: Some(hour),
    };
    let mut store = SessionStore::new(&engine, options);
    assert_eq!(store.options(), options);
    for name in ["a", "pinned", "lent", "long", "finished"] {
        append(&mut store, &engine, name, &[1]).expect("fits");
    }
    store.pin("pinned").expect("it is there");
    store.set_ttl("long", None).expect("it is there");
    store.finish("finished", NOW).expect("it is there");
    let lent = store.lend("lent", 0, NOW).expect("it is there");
    let tick = Duration::from_nanos(1);
    assert_eq!(store.expire(hour - tick), 0);
    assert_eq!(store.expire(hour), 2, "a and the finished one");
    assert_eq!(
        (names(&store), store.n_finished()),
        (vec!["lent", "long", "pinned"], 0)
    );
    store.give_back(lent, hour).expect("it was lent");
    store.unpin("pinned").expect("it is there");
    assert!(store.get("lent", 2 * hour - tick).is_ok(), "used at 1 h");
    assert!(store.get("pinned", 2 * hour).is_err(), "used at 0 h");
    assert!(store.get("lent", 3 * hour - tick).is_err());
    assert!(store.get("long", 1000 * hour).is_ok());
}

#[test]
fn errors_name_the_session_and_change_nothing() {
    let engine = engine(5, None);
    let mut store = store(&engine, 10 * BOTH);
    let mut other = SessionStore::new(&engine, store.options());
    let unknown = |name: &str| Error::UnknownSession {
        name: name.to_owned(),
    };
    let in_use = || Error::SessionInUse {
        name: "a".to_owned(),
    };
    store.create("a", NOW).expect("a new name");
    let exists = Error::SessionExists {
        name: "a".to_owned(),
    };
    assert_eq!(store.create("a", NOW), Err(exists.clone()));
    assert_eq!(store.fork("a", "a", NOW), Err(exists));
    assert_eq!(store.fork("b", "c", NOW), Err(unknown("b")));
    assert_eq!(store.get("b", NOW).err(), Some(unknown("b")));
    assert_eq!(store.lend("b", 1, NOW).err(), Some(unknown("b")));
    assert_eq!(store.finish("b", NOW), Err(unknown("b")));
    assert_eq!(store.pin("b"), Err(unknown("b")));
    assert_eq!(store.unpin("b"), Err(unknown("b")));
    assert_eq!(store.set_ttl("b", None), Err(unknown("b")));
    assert_eq!(store.delete("b"), Err(unknown("b")));

    let lent = store.lend("a", 1, NOW).expect("at rest");
    assert_eq!(lent.name(), "a");
    assert_eq!(store.lend("a", 1, NOW).err(), Some(in_use()));
    assert_eq!(store.get("a", NOW).err(), Some(in_use()));
    assert_eq!(store.fork("a", "b", NOW), Err(in_use()));
    assert_eq!(store.finish("a", NOW), Err(in_use()));
    assert_eq!(names(&store), ["a"]);

    let foreign = || Session::new(&engine);
    assert_eq!(store.adopt("b", foreign(), NOW), Err(Error::ForeignSession));
    assert_eq!(store.keep(foreign(), NOW), Err(Error::ForeignSession));
    assert_eq!(other.give_back(lent, NOW), Err(Error::ForeignSession));

    store.delete("a").expect("lent sessions can be deleted");
    store.create("a", NOW).expect("the name is free");
    let old = store.lend("a", 1, NOW).expect("at rest");
    store.delete("a").expect("it is there");
    store.create("a", NOW).expect("the name is free");
    let new = store.lend("a", 1, NOW).expect("at rest");
    assert_eq!(store.give_back(old, NOW), Err(unknown("a")), "another a");
    store.give_back(new, NOW).expect("it was lent");
    assert_eq!(store.promised_bytes(), 0);
}

#[test]
fn opening_finds_the_longest_beginning_that_is_exact() {
    let engine = engine(5, Some(0));
    let mut store = store(&engine, 100 * BOTH);
    let ids: Vec<u32> = (0..200).map(|i| i * i % 11).collect();
    append(&mut store, &engine, "a", &ids).expect("fits");
    append(&mut store, &engine, "b", &ids[..100]).expect("fits");
    let saved = |store: &mut SessionStore, ids: &[u32]| {
        let opened = store.open(ids, 0, NOW).expect("fits");
        assert!(
            opened
                .session
                .tokens()
                .eq(ids[..opened.saved].iter().copied())
        );
        opened.saved
    };
    assert_eq!(saved(&mut store, &ids), 0, "nothing has finished");
    store.finish("a", NOW).expect("at rest");
    // 200 tokens with a window of 5 leave local pages from position 192 on.
    assert_eq!(saved(&mut store, &ids), 199);
    assert_eq!(saved(&mut store, &ids[..196]), 0, "195 are too few");
    assert_eq!(saved(&mut store, &ids[..197]), 196);
    store.finish("b", NOW).expect("at rest");
    assert_eq!(store.n_finished(), 2, "b can go back to 68 to 100");
    assert_eq!(saved(&mut store, &ids[..196]), 100);
    assert_eq!(saved(&mut store, &ids[..90]), 89);
    assert_eq!(saved(&mut store, &[]), 0);

    let longer = store.open(&ids[..120], 0, NOW).expect("fits");
    let mut session = longer.session;
    session
        .extend(&engine, &ids[100..120], Want::None)
        .expect("the ids fit");
    store.keep(session.fork(), NOW).expect("of this store");
    assert_eq!(store.n_finished(), 2, "it serves whatever b served");
    session.rollback(110).expect("remembered");
    store.keep(session, NOW).expect("of this store");
    assert_eq!(store.n_finished(), 2, "there is a longer one");

    append(&mut store, &engine, "c", &[7; 80]).expect("fits");
    append(&mut store, &engine, "d", &[7; 180]).expect("fits");
    store.finish("c", NOW).expect("at rest");
    store.finish("d", NOW).expect("at rest");
    assert_eq!(store.n_finished(), 4, "d can go back to 132, c to 68");
    assert_eq!(saved(&mut store, &[7; 75]), 74);
}

/// One act on a store; numbers are taken modulo what is possible.
#[derive(Clone, Debug)]
enum Act {
    Create(u8),
    /// Lends a session with room, and leaves it lent.
    Lend(u8, usize),
    /// Opens a session of some tokens that are mostly like those of others.
    Open(Vec<u32>, usize),
    /// Goes back by a share of its tokens and puts in others, within the room it has.
    Work(usize, usize, Vec<u32>),
    GiveBack(usize),
    Abandon(usize),
    Fork(u8, u8),
    Finish(u8),
    KeepFork(usize),
    Pin(u8, bool),
    Delete(u8),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let name = || 0..6u8;
    let ids = || {
        // Few different beginnings, so that they meet.
        (0..3u32, 0..200usize, 0..11u32).prop_map(|(kind, len, last)| {
            let mut ids: Vec<u32> = (0..len as u32)
                .map(|i| (i * i + kind / 2 * i) % 11)
                .collect();
            ids.push(last);
            ids
        })
    };
    let n = any::<usize>;
    prop_oneof![
        2 => name().prop_map(Act::Create),
        4 => (name(), 0..150usize).prop_map(|(name, room)| Act::Lend(name, room)),
        3 => (ids(), 0..100usize).prop_map(|(ids, room)| Act::Open(ids, room)),
        6 => (n(), n(), ids()).prop_map(|(lent, to, ids)| Act::Work(lent, to, ids)),
        3 => n().prop_map(Act::GiveBack),
        1 => n().prop_map(Act::Abandon),
        1 => (name(), name()).prop_map(|(from, to)| Act::Fork(from, to)),
        2 => name().prop_map(Act::Finish),
        1 => n().prop_map(Act::KeepFork),
        1 => (name(), any::<bool>()).prop_map(|(name, is_pin)| Act::Pin(name, is_pin)),
        1 => name().prop_map(Act::Delete),
        1 => (0..40u64).prop_map(Act::Wait),
    ]
}

/// A session that is out of the store, and how many tokens it may have beyond the shortest it was.
struct Out {
    lent: Option<Lent>,
    opened: Option<Session>,
    shortest: usize,
    room: usize,
}

impl Out {
    fn session(&mut self) -> &mut Session {
        let lent = self.lent.as_mut().map(|lent| &mut lent.session);
        lent.or(self.opened.as_mut()).expect("one of the two")
    }

    fn look(&self) -> &Session {
        let lent = self.lent.as_ref().map(|lent| &lent.session);
        lent.or(self.opened.as_ref()).expect("one of the two")
    }
}

struct World {
    engine: Engine,
    store: SessionStore,
    out: Vec<Out>,
    /// Tokens of the named sessions at rest.
    contents: BTreeMap<String, Vec<u32>>,
    now: Duration,
}

/// What can go, oldest first, by name or key, with its tokens.
type Order = Vec<(String, Vec<u32>)>;

impl World {
    fn order(&self) -> Order {
        let mut order = self.store.evictable(None);
        order.sort_by_key(|(tick, ..)| *tick);
        order
            .into_iter()
            .map(|(_, session, victim)| (format!("{victim:?}"), session.tokens().collect()))
            .collect()
    }

    /// Distinct pages of every session there is, by walking them all.
    fn recount(&self) -> usize {
        let named = self.store.named.values();
        let at_rest = named.filter_map(|named| named.session.as_ref());
        let finished = self.store.finished.iter().map(|(_, session, _)| session);
        let out = self.out.iter().map(Out::look);
        let pages: HashMap<usize, usize> = at_rest
            .chain(finished)
            .chain(out)
            .flat_map(|session| session.cache().holdings())
            .map(|holding| (holding.page, holding.bytes))
            .collect();
        pages.values().sum()
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let (held, promised) = (self.store.held_bytes(), self.store.promised_bytes());
        prop_assert_eq!(held, self.recount());
        prop_assert!(held + promised <= self.store.options().budget);
        prop_assert!(promised == 0 || !self.out.is_empty());
        for (name, named) in &self.store.named {
            let Some(session) = &named.session else {
                continue;
            };
            prop_assert!(session.tokens().eq(self.contents[name].iter().copied()));
        }
        Ok(())
    }

    /// That a refusal evicted nobody, and that otherwise those that went were the oldest that
    /// could go. `spared` is in use by the call itself.
    fn check_evictions<T>(
        &self,
        before: &Order,
        result: &Result<T>,
        spared: &str,
    ) -> Result<(), TestCaseError> {
        let after: BTreeSet<String> = self.order().into_iter().map(|(name, _)| name).collect();
        let before: Vec<&String> = (before.iter().map(|(name, _)| name))
            .filter(|name| *name != spared)
            .collect();
        let n_gone = before.iter().filter(|name| !after.contains(**name)).count();
        if result.is_err() {
            prop_assert_eq!(n_gone, 0);
        }
        let oldest = before.iter().take(n_gone);
        prop_assert!(oldest.into_iter().all(|name| !after.contains(*name)));
        Ok(())
    }

    fn extend(&mut self, index: usize, to: usize, mut ids: Vec<u32>) -> Result<(), TestCaseError> {
        let out = &mut self.out[index];
        let engine = &self.engine;
        let (len, least) = (out.session().len(), out.session().exact_from());
        let to = least + to % (len - least + 1);
        out.session().rollback(to).expect("remembered");
        out.shortest = out.shortest.min(to);
        ids.truncate((out.shortest + out.room).saturating_sub(to));
        let logits = out.session().extend(engine, &ids, Want::Last);
        let logits = logits.expect("the ids fit");
        if !ids.is_empty() {
            let all: Vec<u32> = out.session().tokens().collect();
            let mut scratch = Session::new(engine);
            let expected = scratch.extend(engine, &all, Want::Last);
            let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(
                bits(logits.row(0)),
                bits(expected.expect("the ids fit").row(0))
            );
        }
        Ok(())
    }

    /// How many tokens of `ids` should be found.
    fn best_beginning(&self, ids: &[u32]) -> usize {
        let useful = &ids[..ids.len() - 1];
        let finished = self.store.finished.iter();
        let usable = finished.filter_map(|(_, session, _)| {
            let common = session.common_prefix(useful);
            (common >= session.exact_from()).then_some(common)
        });
        usable.max().unwrap_or(0)
    }

    fn act(&mut self, act: Act) -> Result<(), TestCaseError> {
        let name = |n: u8| format!("s{n}");
        let n_out = self.out.len().max(1);
        let now = self.now;
        self.store.expire(now);
        let before = self.order();
        match act {
            Act::Create(n) => {
                if self.store.create(&name(n), now).is_ok() {
                    self.contents.insert(name(n), Vec::new());
                }
            }
            Act::Lend(n, room) => {
                let result = self.store.lend(&name(n), room, now);
                self.check_evictions(&before, &result, &format!("{:?}", Victim::Named(name(n))))?;
                if let Ok(lent) = result {
                    self.out.push(Out {
                        shortest: lent.session.len(),
                        lent: Some(lent),
                        opened: None,
                        room,
                    });
                }
            }
            Act::Open(ids, room) => {
                let best = self.best_beginning(&ids);
                let result = self.store.open(&ids, room, now);
                if result.is_err() {
                    self.check_evictions(&before, &result, "")?;
                }
                if let Ok(Opened { session, saved }) = result {
                    prop_assert_eq!(saved, best);
                    prop_assert!(session.tokens().eq(ids[..saved].iter().copied()));
                    self.out.push(Out {
                        lent: None,
                        opened: Some(session),
                        shortest: saved,
                        room: room + ids.len() - saved,
                    });
                    let last = self.out.len() - 1;
                    self.extend(last, saved, ids[saved..].to_vec())?;
                }
            }
            Act::Work(index, to, ids) if !self.out.is_empty() => {
                self.extend(index % n_out, to, ids)?;
            }
            Act::GiveBack(index) if !self.out.is_empty() => {
                let Out { lent, opened, .. } = self.out.swap_remove(index % n_out);
                if let Some(lent) = lent {
                    let (name, ids) = (lent.name().to_owned(), lent.session.tokens().collect());
                    if self.store.give_back(lent, now).is_ok() {
                        self.contents.insert(name, ids);
                    }
                }
                if let Some(session) = opened {
                    self.store.keep(session, now).expect("of this store");
                }
            }
            Act::Abandon(index) if !self.out.is_empty() => {
                let out = self.out.swap_remove(index % n_out);
                if let Some(lent) = &out.lent {
                    // Fails when the name was deleted, and perhaps made again.
                    let _ = self.store.delete(lent.name());
                }
            }
            Act::Fork(from, to) => {
                if self.store.fork(&name(from), &name(to), now).is_ok() {
                    let ids = self.contents[&name(from)].clone();
                    self.contents.insert(name(to), ids);
                }
            }
            Act::Finish(n) => {
                let was_there = self.store.get(&name(n), now).is_ok();
                prop_assert_eq!(self.store.finish(&name(n), now).is_ok(), was_there);
            }
            Act::KeepFork(index) if !self.out.is_empty() => {
                let fork = self.out[index % n_out].look().fork();
                // A fork that goes on may copy a page that nobody was promised.
                (
                    self.out[index % n_out].room,
                    self.out[index % n_out].shortest,
                ) = (0, 0);
                self.store.keep(fork, now).expect("of this store");
            }
            Act::Pin(n, true) => {
                let _ = self.store.pin(&name(n));
            }
            Act::Pin(n, false) => {
                let _ = self.store.unpin(&name(n));
            }
            Act::Delete(n) => {
                let _ = self.store.delete(&name(n));
            }
            Act::Wait(seconds) => {
                self.now += Duration::from_secs(seconds);
            }
            Act::Work(..) | Act::GiveBack(_) | Act::Abandon(_) | Act::KeepFork(_) => {}
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_history_keeps_contents_budget_and_books(
        window in prop_oneof![Just(1usize), Just(5), Just(64), Just(90)],
        slack in prop_oneof![Just(None), Just(Some(0)), (1..100usize).prop_map(Some)],
        n_pages in 4..20usize,
        ttl in prop_oneof![Just(None), (1..100u64).prop_map(Some)],
        acts in proptest::collection::vec(act(), 1..60),
    ) {
        let engine = engine(window, slack);
        let options = StoreOptions { budget: n_pages * BOTH, ttl: ttl.map(Duration::from_secs) };
        let mut world = World {
            store: SessionStore::new(&engine, options),
            engine,
            out: Vec::new(),
            contents: BTreeMap::new(),
            now: NOW,
        };
        for act in acts {
            world.act(act)?;
            world.check()?;
        }
        world.out.clear();
        prop_assert_eq!(world.store.promised_bytes(), 0);
        world.check()?;
    }
}
