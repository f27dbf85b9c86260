//! What a GPU is, told without using it: no context is made and no memory taken.

use std::ffi::{CStr, c_int};

use cudarc::driver::sys::{self, CUdevice, CUdevice_attribute, CUresult};

use crate::driver::compile::Architecture;
use crate::driver::status::{call, text};
use crate::error::Error;

/// CUDA 12.0, as the driver writes it. All functions of the driver that this crate calls are older.
const WANTED: c_int = 12_000;

/// Of the oldest GPUs with matrix instructions for bf16.
const OLDEST: Architecture = Architecture { major: 8, minor: 0 };

/// A GPU that this crate can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its place among those that the driver sees, from 0.
    pub ordinal: usize,
    /// Such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Its compute capability.
    pub architecture: Architecture,
    /// Bytes of its memory.
    pub memory: usize,
    /// Its multiprocessors.
    pub multiprocessors: usize,
    /// The version of CUDA that the driver supports, such as 13 and 0.
    pub driver: (u32, u32),
}

impl Card {
    /// Asks the driver for it.
    ///
    /// # Errors
    /// [`Error::NoDriver`], [`Error::OldDriver`], [`Error::NoGpu`] or [`Error::Unsupported`].
    pub fn find(ordinal: usize) -> Result<Self, Error> {
        let driver = driver()?;
        let device = device(ordinal)?;
        let mut name = [0_u8; 256];
        let mut memory = 0;
        // SAFETY: the driver is initialised and the device its own; the name's length is passed, and its
        // last byte stays 0.
        unsafe {
            call!(cuDeviceGetName(
                name.as_mut_ptr().cast(),
                name.len() as c_int - 1,
                device
            ))?;
            call!(cuDeviceTotalMem_v2(&mut memory, device))?;
        }
        let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        use CUdevice_attribute as A;
        let major = attribute(device, A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(device, A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let architecture = Architecture { major, minor };
        if architecture < OLDEST {
            return Err(Error::Unsupported { name, major, minor });
        }
        let multiprocessors = attribute(device, A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        Ok(Self {
            ordinal,
            name,
            architecture,
            memory,
            multiprocessors: multiprocessors as usize,
            driver,
        })
    }
}

/// A number that the driver knows of a device.
pub(super) fn attribute(device: CUdevice, attribute: CUdevice_attribute) -> Result<u32, Error> {
    let mut value: c_int = 0;
    // SAFETY: the driver is initialised and the device its own.
    unsafe { call!(cuDeviceGetAttribute(&mut value, attribute, device))? };
    Ok(value.unsigned_abs())
}

/// The version of CUDA that the driver supports.
fn driver() -> Result<(u32, u32), Error> {
    // SAFETY: looks for the library and runs nothing of it but its initialisation, which has no
    // preconditions.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::NoDriver {
            reason: "there is no libcuda.so.1".to_owned(),
        });
    }
    let mut version: c_int = 0;
    // SAFETY: the library is there, and its version may be asked at any time.
    unsafe { call!(cuDriverGetVersion(&mut version))? };
    let shown = |version: c_int| {
        let version = version.unsigned_abs();
        (version / 1_000, version % 1_000 / 10)
    };
    let (major, minor) = shown(version);
    if version < WANTED {
        return Err(Error::OldDriver {
            found: format!("{major}.{minor}"),
            wanted: "12.0",
        });
    }
    Ok((major, minor))
}

/// The driver's own number of a device, once the driver is initialised.
pub(super) fn device(ordinal: usize) -> Result<CUdevice, Error> {
    // SAFETY: may be called at any time and more than once.
    match unsafe { sys::cuInit(0) } {
        CUresult::CUDA_SUCCESS => {}
        CUresult::CUDA_ERROR_NO_DEVICE => return Err(Error::NoGpu { ordinal, count: 0 }),
        other => {
            return Err(Error::NoDriver {
                reason: format!("cuInit: {}", text(other)),
            });
        }
    }
    let mut count: c_int = 0;
    // SAFETY: the driver is initialised.
    unsafe { call!(cuDeviceGetCount(&mut count))? };
    let count = usize::try_from(count).unwrap_or(0);
    if ordinal >= count {
        return Err(Error::NoGpu { ordinal, count });
    }
    let mut device = 0;
    // SAFETY: as above, and there are more devices than `ordinal`.
    unsafe { call!(cuDeviceGet(&mut device, ordinal as c_int))? };
    Ok(device)
}
