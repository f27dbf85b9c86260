//! [`Mix`]: how much of each level of difficulty.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Level;

/// Relative weights of the levels of programs. Written as four or five numbers, the levels that are left out have
/// none: so it was written when there were fewer, and it means the same programs still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u32>", into = "Vec<u32>")]
pub struct Mix([u32; Level::ALL.len()]);

/// Text or a list that gives no weights.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not six whole numbers such as 20,25,20,15,20,10, nor five or four, which leave out the last levels"
)]
pub struct NoMix(String);

impl Mix {
    /// Each level with its weight, easiest first.
    pub fn weights(self) -> impl Iterator<Item = (Level, u32)> {
        Level::ALL.into_iter().zip(self.0)
    }

    /// Whether no level has any weight.
    pub fn is_zero(self) -> bool {
        self.0.iter().all(|&weight| weight == 0)
    }
}

impl From<[u32; 4]> for Mix {
    fn from([one, two, three, four]: [u32; 4]) -> Self {
        Self([one, two, three, four, 0, 0])
    }
}

impl From<[u32; 5]> for Mix {
    fn from([one, two, three, four, five]: [u32; 5]) -> Self {
        Self([one, two, three, four, five, 0])
    }
}

impl From<[u32; 6]> for Mix {
    fn from(weights: [u32; 6]) -> Self {
        Self(weights)
    }
}

impl TryFrom<Vec<u32>> for Mix {
    type Error = NoMix;

    fn try_from(weights: Vec<u32>) -> Result<Self, NoMix> {
        match weights[..] {
            [a, b, c, d] => Ok([a, b, c, d].into()),
            [a, b, c, d, e] => Ok([a, b, c, d, e].into()),
            [a, b, c, d, e, f] => Ok([a, b, c, d, e, f].into()),
            _ => {
                let written: Vec<_> = weights.iter().map(u32::to_string).collect();
                Err(NoMix(written.join(",")))
            }
        }
    }
}

impl From<Mix> for Vec<u32> {
    fn from(mix: Mix) -> Self {
        mix.0.to_vec()
    }
}

impl FromStr for Mix {
    type Err = NoMix;

    fn from_str(text: &str) -> Result<Self, NoMix> {
        let weights = text.split(',').map(|weight| weight.trim().parse());
        let weights: Vec<u32> = weights
            .collect::<Result<_, _>>()
            .map_err(|_| NoMix(text.to_owned()))?;
        Self::try_from(weights).map_err(|_| NoMix(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_weights_leave_the_last_levels_out() {
        assert_eq!("25,35, 25,15".parse(), Ok(Mix([25, 35, 25, 15, 0, 0])));
        assert_eq!(Mix::from([1, 2, 3, 4]), Mix([1, 2, 3, 4, 0, 0]));
        assert_eq!("1,2,3,4,5".parse(), Ok(Mix([1, 2, 3, 4, 5, 0])));
        assert_eq!("1,2,3,4,5,6".parse(), Ok(Mix([1, 2, 3, 4, 5, 6])));
        let read: Mix = serde_json::from_str("[0, 0, 0, 1]").expect("weights");
        assert_eq!(read.weights().nth(3), Some((Level::Four, 1)));
        assert!(!read.is_zero() && Mix([0; 6]).is_zero());
    }

    #[test]
    fn other_counts_are_refused() {
        for bad in ["", "1,2,3", "1,2,3,4,5,6,7", "1,2,3,x", "1,2,3,-4"] {
            let error = bad.parse::<Mix>().expect_err(bad).to_string();
            assert!(error.starts_with(&format!("`{bad}` is not six")), "{error}");
        }
        let error = serde_json::from_str::<Mix>("[1, 2, 3]")
            .expect_err("three")
            .to_string();
        assert!(error.contains("`1,2,3` is not six"), "{error}");
    }
}
