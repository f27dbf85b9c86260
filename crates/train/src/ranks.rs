//! What ranks tell each other apart from gradients: where a run stands, and that they agree.

use serde::{Deserialize, Serialize};

use cwm_model::{Config, Model};

use crate::Error;
use crate::checkpoint::{Snapshot, State};
use crate::collective::{Collective, all_gather, gather, push_f32, scatter, take_f32};
use crate::optimizer::Moments;
use crate::plan::Plan;

/// What precedes the numbers that rank 0 sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: String,
    state: State,
    /// Whether the state's fingerprint is of data that was trained on.
    has_data: bool,
    model: Config,
}

/// Rank 0 sends every other rank where the run stands, and the moments of its shard.
pub(crate) fn hand_out(
    ranks: &mut dyn Collective,
    snapshot: &Snapshot,
    has_data: bool,
) -> Result<(), Error> {
    let header = Header {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: snapshot.state.clone(),
        has_data,
        model: snapshot.model.config.clone(),
    };
    // A value of our own types that always has a JSON form.
    let header = serde_json::to_vec(&header).unwrap_or_default();
    let plan = Plan::new(&snapshot.model.layout, &snapshot.state.config.optimizer);
    let message = |(rank, shard)| {
        if rank == 0 {
            return Vec::new();
        }
        let mut message = (header.len() as u64).to_le_bytes().to_vec();
        message.extend(&header);
        push_f32(&mut message, &snapshot.model.params);
        message.extend(snapshot.moments.part(shard).to_bytes());
        message
    };
    let messages = plan
        .shards(ranks.size())
        .iter()
        .enumerate()
        .map(message)
        .collect();
    scatter(ranks, Some(messages))?;
    Ok(())
}

/// What rank 0 has handed out to this rank, and whether data was trained on.
pub(crate) fn take_over(ranks: &mut dyn Collective) -> Result<(Snapshot, bool), Error> {
    let message = scatter(ranks, None)?;
    understood(ranks, &message).ok_or(Error::OutOfStep { rank: 0 })
}

fn understood(ranks: &dyn Collective, message: &[u8]) -> Option<(Snapshot, bool)> {
    let (length, rest) = message.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (header, mut numbers) = rest.split_at_checked(length)?;
    let header: Header = serde_json::from_slice(header).ok()?;
    if header.version != env!("CARGO_PKG_VERSION") {
        return None;
    }
    let mut model = Model::init(header.model, 0);
    take_f32(&mut numbers, &mut model.params)?;
    let plan = Plan::new(&model.layout, &header.state.config.optimizer);
    let shard = plan.shards(ranks.size()).swap_remove(ranks.rank());
    let moments = Moments::from_bytes(&shard, numbers)?;
    let snapshot = Snapshot {
        state: header.state,
        model,
        moments,
    };
    Some((snapshot, header.has_data))
}

/// The moments of all parameters, on rank 0; `own` are those of this rank's shard.
pub(crate) fn gather_moments(
    ranks: &mut dyn Collective,
    plan: &Plan,
    own: &Moments,
) -> Result<Option<Moments>, Error> {
    if ranks.size() == 1 {
        return Ok(Some(own.clone()));
    }
    let is_first = ranks.rank() == 0;
    let given = if is_first { Vec::new() } else { own.to_bytes() };
    let gathered = gather(ranks, given)?;
    if !is_first {
        return Ok(None);
    }
    let mut whole = own.clone();
    for (rank, shard) in plan.shards(ranks.size()).iter().enumerate().skip(1) {
        let moments = Moments::from_bytes(shard, &gathered[rank]);
        whole.append(moments.ok_or(Error::OutOfStep { rank })?);
    }
    Ok(Some(whole))
}

/// Makes sure that all ranks have data of the same fingerprint.
pub(crate) fn agree(
    ranks: &mut dyn Collective,
    which: &'static str,
    fingerprint: &str,
) -> Result<(), Error> {
    let all = all_gather(ranks, fingerprint.as_bytes().to_vec())?;
    match all.iter().position(|other| *other != all[0]) {
        None => Ok(()),
        Some(rank) => Err(Error::RanksDiffer {
            rank,
            which,
            expected: String::from_utf8_lossy(&all[0]).into_owned(),
            found: String::from_utf8_lossy(&all[rank]).into_owned(),
        }),
    }
}
