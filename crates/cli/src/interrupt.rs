//! Ctrl-C for work that can be stopped and gone on with.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on the first Ctrl-C only asks to stop, which [`interrupted`] tells; a second one kills.
pub(crate) fn watch_interrupts() {
    let result = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("\nfinishing this step and writing a checkpoint; press Ctrl-C again to kill");
    });
    if let Err(error) = result {
        eprintln!("warning: Ctrl-C will not write a checkpoint: {error}");
    }
}

/// From now on Ctrl-C is only noted, since a terminal sends it to the command that this process waits for as well.
pub(crate) fn leave_interrupts() {
    let result = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::SeqCst));
    if let Err(error) = result {
        eprintln!("warning: Ctrl-C will not be waited out: {error}");
    }
}

/// Whether Ctrl-C was pressed.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}
