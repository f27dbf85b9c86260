//! Where the actions of a debugger lead in a sequence of states that open and
//! close levels. It serves both directions: backwards, a return opens a level
//! and a call closes it.

use crate::Event;

/// What a state does to the level it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Opens,
    Inside,
    Closes,
}

/// Where one can go from a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// The next state on this level or a lower one.
    pub(super) over: Option<usize>,
    /// The state that closes this level; a state that does so itself has none.
    pub(super) close: Option<usize>,
}

/// The depth of the stack at each event: that of its own activation, 0 for the
/// outermost.
///
/// Any events have one. What happens in an activation ends those above it; one
/// that was never entered is taken for a call of the innermost.
pub(super) fn depths(events: &[Event]) -> Vec<u32> {
    let mut stack: Vec<u32> = Vec::new();
    let depth = |event: &Event| {
        if event.kind.enters() {
            stack.push(event.activation);
            return stack.len() as u32 - 1;
        }
        let Some(place) = stack.iter().rposition(|&open| open == event.activation) else {
            return stack.len() as u32;
        };
        stack.truncate(place + usize::from(!event.kind.leaves()));
        place as u32
    };
    events.iter().map(depth).collect()
}

/// The ways from each state of a sequence, given by depth and place.
pub(super) fn ways(states: &[(u32, Place)]) -> Vec<Ways> {
    let mut ways = vec![Ways::default(); states.len()];
    // Going back from the last state: the nearest one so far of each depth that is not hidden by a
    // shallower one, with what closes its level; deepest last.
    let mut later: Vec<(u32, usize, Option<usize>)> = Vec::new();
    for (state, &(depth, place)) in states.iter().enumerate().rev() {
        while later.last().is_some_and(|&(other, ..)| other > depth) {
            later.pop();
        }
        ways[state].over = later.last().map(|&(_, other, _)| other);
        let same = later.pop_if(|&mut (other, ..)| other == depth);
        let close = match place {
            Place::Closes => Some(state),
            Place::Opens | Place::Inside => same.and_then(|(_, _, close)| close),
        };
        ways[state].close = close.filter(|_| place != Place::Closes);
        // What lies before the opening of a level is on another one of the same depth.
        later.push((depth, state, close.filter(|_| place != Place::Opens)));
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each state as its depth and `(`, `.` or `)`, and the ways as `over/close`.
    fn shown(states: &str) -> String {
        let place = |mark: &str| match mark {
            "(" => Place::Opens,
            ")" => Place::Closes,
            _ => Place::Inside,
        };
        let parsed: Vec<_> = states
            .split(' ')
            .map(|state| (state[..1].parse().expect("a digit"), place(&state[1..])))
            .collect();
        let text = |way: Option<usize>| way.map_or("-".to_owned(), |way| way.to_string());
        let one = |ways: Ways| format!("{}/{}", text(ways.over), text(ways.close));
        ways(&parsed)
            .into_iter()
            .map(one)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn levels_are_passed_over_and_closed() {
        assert_eq!(shown("0( 0. 1( 1. 1) 0. 0)"), "1/6 5/6 3/4 4/4 5/- 6/6 -/-");
    }

    #[test]
    fn a_second_call_of_a_line_is_on_the_level_of_the_first() {
        assert_eq!(shown("0. 1( 1) 1( 1) 0)"), "5/5 2/2 3/- 4/4 5/- -/-");
    }

    #[test]
    fn a_level_that_is_not_closed_has_no_end() {
        assert_eq!(shown("0( 0. 1( 1. 2( 2)"), "1/- -/- 3/- -/- 5/5 -/-");
        assert_eq!(shown("1( 1. 1( 1)"), "1/- 2/- 3/3 -/-");
    }
}
