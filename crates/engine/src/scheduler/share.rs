//! Dividing a number of tokens among those who want some.

/// Divides `budget` so that nobody gets more than wanted, nobody gets less than another who wanted
/// as much or less (but for a remainder of one token), and nothing is left while somebody wants
/// more.
pub(super) fn share(mut budget: usize, wants: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..wants.len()).collect();
    order.sort_by_key(|&index| wants[index]);
    let mut grants = vec![0; wants.len()];
    for (done, &index) in order.iter().enumerate() {
        let grant = wants[index].min(budget / (order.len() - done));
        grants[index] = grant;
        budget -= grant;
    }
    grants
}

#[cfg(test)]
mod tests {
    use super::share;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_are_even_and_complete(
            budget in 0usize..300,
            wants in proptest::collection::vec(0usize..80, 0..12),
        ) {
            let grants = share(budget, &wants);
            let total: usize = wants.iter().sum();
            prop_assert_eq!(grants.iter().sum::<usize>(), budget.min(total));
            for (grant, want) in grants.iter().zip(&wants) {
                prop_assert!(grant <= want);
                let is_short = grant < want;
                prop_assert!(!is_short || grants.iter().all(|other| *other <= grant + 1));
            }
        }
    }
}
