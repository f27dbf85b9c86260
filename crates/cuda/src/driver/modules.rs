//! Kernels on the device: compiled, or found in the cache, at first use.

use std::collections::HashMap;
use std::ffi::{CString, c_int};
use std::ptr;
use std::sync::{Arc, Mutex};

use cudarc::driver::sys::{CUfunction, CUfunction_attribute, CUmodule};

use crate::driver::cache::{Cache, key};
use crate::driver::compile::{Architecture, Compiler};
use crate::driver::context::Context;
use crate::driver::lock;
use crate::driver::status::call;
use crate::error::Error;
use crate::kernel::{Kernel, Source};

/// Dynamic shared memory that a block may have without its kernel being told before.
const SHARED_BYTES: u32 = 48 << 10;

/// All that were used so far.
#[derive(Debug)]
pub(super) struct Modules {
    compiler: Compiler,
    cache: Cache,
    architecture: Architecture,
    loaded: Mutex<Loaded>,
    context: Arc<Context>,
}

#[derive(Debug, Default)]
struct Loaded {
    modules: Vec<Module>,
    /// By the address of their source, which is static: hashing its text at each launch would cost more
    /// than the launch.
    functions: HashMap<usize, Vec<Function>>,
    /// Why the cache cannot be written.
    note: Option<String>,
}

#[derive(Debug)]
struct Module {
    source: &'static Source,
    macros: Vec<u32>,
    handle: CUmodule,
}

#[derive(Debug)]
struct Function {
    name: &'static str,
    macros: Vec<u32>,
    handle: CUfunction,
    /// Dynamic shared memory that a block may have.
    shared_bytes: u32,
}

// SAFETY: the handles are the driver's, which may be used from any thread.
unsafe impl Send for Loaded {}

impl Modules {
    pub(super) fn new(
        context: &Arc<Context>,
        compiler: Compiler,
        cache: Cache,
        architecture: Architecture,
    ) -> Self {
        Self {
            compiler,
            cache,
            architecture,
            loaded: Mutex::default(),
            context: Arc::clone(context),
        }
    }

    /// A kernel, ready for blocks of so much dynamic shared memory.
    pub(super) fn function(&self, kernel: &Kernel, shared_bytes: u32) -> Result<CUfunction, Error> {
        self.context.enter()?;
        let mut loaded = lock(&self.loaded);
        let source = ptr::from_ref(kernel.source) as usize;
        let is_asked =
            |function: &Function| function.name == kernel.name && function.macros == kernel.macros;
        let known = loaded.functions.entry(source).or_default();
        let index = match known.iter().position(is_asked) {
            Some(index) => index,
            None => {
                let module = self.module(&mut loaded, kernel)?;
                let known = loaded.functions.entry(source).or_default();
                known.push(Function {
                    name: kernel.name,
                    macros: kernel.macros.clone(),
                    handle: function(module, kernel.name)?,
                    shared_bytes: SHARED_BYTES,
                });
                known.len() - 1
            }
        };
        let known = loaded.functions.entry(source).or_default();
        known[index].allow(shared_bytes)?;
        Ok(known[index].handle)
    }

    /// Why compiled kernels are not kept, if they are not.
    pub(super) fn note(&self) -> Option<String> {
        lock(&self.loaded).note.clone()
    }

    fn module(&self, loaded: &mut Loaded, kernel: &Kernel) -> Result<CUmodule, Error> {
        let is_asked = |module: &&Module| {
            ptr::eq(module.source, kernel.source) && module.macros == kernel.macros
        };
        if let Some(module) = loaded.modules.iter().find(is_asked) {
            return Ok(module.handle);
        }
        let cubin = self.cubin(loaded, kernel)?;
        let mut handle = ptr::null_mut();
        // SAFETY: the context is current, and the image is a whole cubin of the compiler's.
        unsafe { call!(cuModuleLoadData(&mut handle, cubin.as_ptr().cast()))? };
        loaded.modules.push(Module {
            source: kernel.source,
            macros: kernel.macros.clone(),
            handle,
        });
        Ok(handle)
    }

    fn cubin(&self, loaded: &mut Loaded, kernel: &Kernel) -> Result<Vec<u8>, Error> {
        let Kernel { source, macros, .. } = kernel;
        let key = key(source, macros, self.architecture, self.compiler.version());
        if let Some(cubin) = self.cache.get(&key) {
            return Ok(cubin);
        }
        let compiled = self.compiler.compile(source, macros, self.architecture)?;
        if let Err(error) = self.cache.put(&key, &compiled.cubin) {
            loaded.note = Some(error.to_string());
        }
        Ok(compiled.cubin)
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        // A kernel may be running.
        if self.context.synchronize().is_err() {
            return;
        }
        for module in lock(&self.loaded).modules.drain(..) {
            // SAFETY: none of its functions runs or is used again; a failure leaves nothing to do.
            let _ = unsafe { call!(cuModuleUnload(module.handle)) };
        }
    }
}

impl Function {
    /// Lets a block have so much dynamic shared memory.
    fn allow(&mut self, shared_bytes: u32) -> Result<(), Error> {
        if shared_bytes <= self.shared_bytes {
            return Ok(());
        }
        // SAFETY: the function's module is loaded.
        unsafe {
            call!(cuFuncSetAttribute(
                self.handle,
                CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                shared_bytes as c_int
            ))?;
        }
        self.shared_bytes = shared_bytes;
        Ok(())
    }
}

fn function(module: CUmodule, name: &'static str) -> Result<CUfunction, Error> {
    let text = CString::new(name).map_err(|_| Error::Call {
        call: "cuModuleGetFunction",
        reason: format!("{name:?} contains a byte 0"),
    })?;
    let mut handle = ptr::null_mut();
    // SAFETY: the module is loaded, and the name is a string.
    unsafe { call!(cuModuleGetFunction(&mut handle, module, text.as_ptr()))? };
    Ok(handle)
}
