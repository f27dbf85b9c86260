//! `--device`: where a model is computed.

use std::str::FromStr;

use anyhow::Result;
use cwm_cuda::Gpu;

/// Where a model is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Device {
    /// Here.
    #[default]
    Cpu,
    /// On the NVIDIA GPU of this number, as the driver counts.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => match number.parse() {
                Ok(number) => Ok(Self::Cuda(number)),
                Err(_) => Err(format!("`{number}` is no number of a GPU")),
            },
            _ => Err("wanted cpu, cuda or cuda:NUMBER".to_owned()),
        }
    }
}

impl Device {
    /// The GPU, if it is one.
    ///
    /// # Errors
    /// When there is none, or this program was built without CUDA.
    pub(crate) fn open(self) -> Result<Option<Gpu>> {
        match self {
            Self::Cpu => Ok(None),
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => Ok(Some(cwm_cuda::driver::Cuda::open(number)?)),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => anyhow::bail!(
                "this program was built without CUDA: build it with `--features cuda`, or use \
                 --device cpu"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        assert_eq!("cpu".parse(), Ok(Device::Cpu));
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(Device::Cuda(3)));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cpu:0", "cuda:-1"] {
            assert!(wrong.parse::<Device>().is_err(), "{wrong}");
        }
    }
}
