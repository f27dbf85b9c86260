//! Several processes that train one model: how a process says which of them it is.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cwm_train::collective::{Collective, TcpRank, TcpSettings};

/// Which of several processes this is.
#[derive(clap::Args)]
pub(super) struct RankArgs {
    /// Train together with other processes that are given the same command, this many in all; `env` takes RANK,
    /// WORLD_SIZE, MASTER_ADDR and MASTER_PORT from the environment, as launchers such as torchrun set them
    #[arg(long, value_name = "N|env")]
    ranks: Option<Ranks>,
    /// With --ranks N: number of this process, from 0; rank 0 keeps the folder of the run
    #[arg(long, value_name = "R", requires = "ranks")]
    rank: Option<usize>,
    /// With --ranks N: where rank 0 listens, as the others reach it
    #[arg(long, value_name = "HOST:PORT", requires = "ranks")]
    leader: Option<String>,
    /// Seconds for which processes wait for each other at the start
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 300,
        requires = "ranks"
    )]
    join_timeout: u64,
    /// Seconds after which a process that is silent counts as lost
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 1800,
        requires = "ranks"
    )]
    silence_timeout: u64,
}

#[derive(Clone, Copy)]
enum Ranks {
    Count(usize),
    Environment,
}

impl FromStr for Ranks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("env", _) => Ok(Self::Environment),
            (_, Ok(count)) if count > 0 => Ok(Self::Count(count)),
            _ => Err(format!(
                "`{text}` is neither a number of processes nor `env`"
            )),
        }
    }
}

impl RankArgs {
    /// How this process finds the others; `None` if it is alone.
    pub(super) fn settings(&self) -> Result<Option<TcpSettings>> {
        let (rank, size, leader) = match self.ranks {
            None => return Ok(None),
            Some(Ranks::Environment) => {
                if self.rank.is_some() || self.leader.is_some() {
                    bail!("--ranks env takes --rank and --leader from the environment");
                }
                let address = variable("MASTER_ADDR")?;
                let leader = format!("{address}:{}", variable("MASTER_PORT")?);
                (number("RANK")?, number("WORLD_SIZE")?, leader)
            }
            Some(Ranks::Count(size)) => {
                let rank = self
                    .rank
                    .context("--ranks needs --rank: which one this is")?;
                let leader = self.leader.clone();
                let leader = leader.context("--ranks needs --leader: where rank 0 listens")?;
                let port = leader.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
                if !matches!(port, Some(Ok(_))) {
                    bail!("--leader `{leader}` is not of the form HOST:PORT");
                }
                (rank, size, leader)
            }
        };
        Ok(Some(TcpSettings {
            rank,
            size,
            leader,
            join_timeout: Duration::from_secs(self.join_timeout),
            silence_timeout: Duration::from_secs(self.silence_timeout.max(1)),
        }))
    }
}

/// Waits for the other processes.
pub(super) fn join(settings: &TcpSettings) -> Result<Box<dyn Collective>> {
    let TcpSettings { rank, size, .. } = settings;
    eprintln!(
        "rank {rank} of {size}: waiting for the others at {}",
        settings.leader
    );
    Ok(Box::new(TcpRank::join(settings)?))
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| {
        format!(
            "--ranks env needs RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; {name} is not set"
        )
    })
}

fn number(name: &str) -> Result<usize> {
    let text = variable(name)?;
    let parsed = text.trim().parse();
    parsed.with_context(|| format!("{name} is `{text}`, which is no number"))
}
