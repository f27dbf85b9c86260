//! How ranks find out whether their GPUs can work together.
//!
//! Promises: all ranks come to the same result, or fail. Sums go through the host when any device cannot do
//! them, and it is said why.

use cwm_cuda::Gpu;
use cwm_cuda::ranks::{DeviceRanks, Rendezvous};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::collective::{Collective, all_gather, scatter};

/// What each rank tells the others of its device.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Greeting {
    is_gpu: bool,
    /// How the device works together with others, or why it does not.
    neighbours: Result<Neighbours, String>,
}

/// How a device works together with others.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Neighbours {
    protocol: String,
    place: String,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Meeting {
    /// There are no GPUs, or only this one.
    Apart,
    /// The GPUs work together.
    Together(Box<dyn DeviceRanks>),
    /// They cannot, for this reason.
    ThroughHost(String),
}

/// Makes sure that all ranks train on devices of one kind, and brings GPUs together.
pub(crate) fn meet(ranks: &mut dyn Collective, gpu: Option<&Gpu>) -> Result<Meeting, Error> {
    if ranks.size() == 1 {
        return Ok(Meeting::Apart);
    }
    let (neighbours, rendezvous) = match gpu.map(neighbours) {
        Some(Ok((neighbours, rendezvous))) => (Ok(neighbours), Some(rendezvous)),
        Some(Err(reason)) => (Err(reason.to_string()), None),
        None => (Err("there is no GPU".to_owned()), None),
    };
    let greeting = Greeting {
        is_gpu: gpu.is_some(),
        neighbours,
    };
    let greetings = greet(ranks, &greeting)?;
    let first = greetings.first().is_some_and(|first| first.is_gpu);
    if let Some(rank) = greetings.iter().position(|other| other.is_gpu != first) {
        let device = |is_gpu: bool| if is_gpu { "a GPU" } else { "the CPU" };
        return Err(Error::DevicesDiffer {
            rank,
            found: device(!first),
            expected: device(first),
        });
    }
    match (gpu, rendezvous, obstacle(&greetings)) {
        (Some(_), Some(rendezvous), None) => join(ranks, &*rendezvous),
        (Some(_), _, Some(reason)) => Ok(Meeting::ThroughHost(reason)),
        _ => Ok(Meeting::Apart),
    }
}

/// What this rank tells of its GPU, and how it would meet others.
fn neighbours(gpu: &Gpu) -> Result<(Neighbours, Box<dyn Rendezvous>), cwm_cuda::Error> {
    let rendezvous = gpu.device().ranks()?;
    let neighbours = Neighbours {
        protocol: rendezvous.protocol(),
        place: rendezvous.place()?,
    };
    Ok((neighbours, rendezvous))
}

/// What all ranks tell, by rank.
fn greet(ranks: &mut dyn Collective, own: &Greeting) -> Result<Vec<Greeting>, Error> {
    // A value of our own types that always has a JSON form.
    let own = serde_json::to_vec(own).unwrap_or_default();
    let all = all_gather(ranks, own)?;
    let understood = |(rank, bytes): (usize, &Vec<u8>)| {
        serde_json::from_slice(bytes).map_err(|_| Error::OutOfStep { rank })
    };
    all.iter().enumerate().map(understood).collect()
}

/// Why these devices cannot work together, if they cannot.
fn obstacle(greetings: &[Greeting]) -> Option<String> {
    let mut seen: Vec<&Neighbours> = Vec::new();
    for (rank, greeting) in greetings.iter().enumerate() {
        let own = match &greeting.neighbours {
            Ok(own) => own,
            Err(reason) => return Some(format!("rank {rank}: {reason}")),
        };
        if let Some(first) = seen.first()
            && first.protocol != own.protocol
        {
            let (found, expected) = (&own.protocol, &first.protocol);
            return Some(format!("rank {rank} has {found}, and rank 0 {expected}"));
        }
        if let Some(other) = seen.iter().position(|other| other.place == own.place) {
            return Some(format!("ranks {other} and {rank} share one GPU"));
        }
        seen.push(own);
    }
    None
}

fn join(ranks: &mut dyn Collective, rendezvous: &dyn Rendezvous) -> Result<Meeting, Error> {
    let (rank, size) = (ranks.rank(), ranks.size());
    let ids = match rank {
        0 => Some(vec![rendezvous.id()?; size]),
        _ => None,
    };
    let id = scatter(ranks, ids)?;
    let joined = rendezvous.join(&id, rank, size);
    let failure = joined.as_ref().err().map(ToString::to_string);
    let failures = all_gather(ranks, failure.unwrap_or_default().into_bytes())?;
    let failed = failures.iter().position(|failure| !failure.is_empty());
    Ok(match (joined, failed) {
        (Ok(devices), None) => Meeting::Together(devices),
        (_, failed) => {
            let rank = failed.unwrap_or(rank);
            let reason = String::from_utf8_lossy(&failures[rank]);
            Meeting::ThroughHost(format!("rank {rank}: {reason}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(protocol: &str, place: &str) -> Greeting {
        Greeting {
            is_gpu: true,
            neighbours: Ok(Neighbours {
                protocol: protocol.to_owned(),
                place: place.to_owned(),
            }),
        }
    }

    #[test]
    fn what_keeps_gpus_apart_is_named() {
        let good = || greeting("NCCL 2.27.3", "a");
        assert_eq!(obstacle(&[good(), greeting("NCCL 2.27.3", "b")]), None);
        let old = obstacle(&[good(), greeting("NCCL 2.21.5", "b")]);
        assert_eq!(
            old.as_deref(),
            Some("rank 1 has NCCL 2.21.5, and rank 0 NCCL 2.27.3")
        );
        let shared = obstacle(&[good(), greeting("NCCL 2.27.3", "b"), good()]);
        assert_eq!(shared.as_deref(), Some("ranks 0 and 2 share one GPU"));
        let none = Greeting {
            is_gpu: true,
            neighbours: Err("libnccl was not found".to_owned()),
        };
        let none = obstacle(&[good(), none]);
        assert_eq!(none.as_deref(), Some("rank 1: libnccl was not found"));
    }
}
