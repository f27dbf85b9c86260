//! The special tokens that the dialect has besides those of `cwm`.

use crate::markup::special::Specials;

/// Makes a constant for the text of each token, and the list of them all.
macro_rules! tokens {
    ($($(#[doc = $doc:literal])* $constant:ident = $name:literal;)*) => {
        $($(#[doc = $doc])* pub const $constant: &str = concat!("<|", $name, "|>");)*

        /// The special tokens that the dialect has besides those of [`cwm`](crate::cwm).
        pub const TOKENS: &[&str] = &[$($constant),*];

        const NAMES: &[&str] = &[$($name),*];
    };
}

tokens! {
    /// Comes before a source line.
    SRC_SEP = "src_sep";
    /// Ends a run, behind its exit.
    TRACE_END = "trace_end";
    /// Goes to the next state.
    STEP_INTO = "step_into";
    /// Goes to the next state that is not in a call made here.
    STEP_OVER = "step_over";
    /// Goes to where the scope is left.
    STEP_RETURN = "step_return";
    /// Goes to where the line that follows is next about to run.
    BREAKPOINT = "breakpoint";
    /// Goes to the end of the run.
    CONTINUE = "continue";
    /// The run ended by itself.
    EXIT_NORMAL = "exit_normal";
    /// The run ended because something went wrong.
    EXIT_ERROR = "exit_error";
    /// The run did not end.
    EXIT_NEVER = "exit_never";
    /// Opens the state in which a scope has been left.
    INV_RETURN_SEP = "inv_return_sep";
    /// Opens the state before a line.
    INV_LINE_SEP = "inv_line_sep";
    /// Opens the state in which a line has made its calls.
    INV_LINE_CALL_SEP = "inv_line_call_sep";
    /// Opens the state in which a scope has been entered.
    INV_CALL_SEP = "inv_call_sep";
    /// Opens the state in which an exception has been raised.
    INV_EXCEPTION_SEP = "inv_exception_sep";
    /// Goes to the state before.
    INV_STEP_INTO = "inv_step_into";
    /// Goes to the state before that is not in a call made here.
    INV_STEP_OVER = "inv_step_over";
    /// Goes to where the scope was entered.
    INV_STEP_CALL = "inv_step_call";
    /// The run begins here.
    INV_EXIT_ENTRY = "inv_exit_entry";
}

/// What a program may not contain as it is.
pub(super) const SPECIALS: Specials = Specials::and(NAMES);

/// Whether a text is that of a special token of this dialect or of
/// [`cwm`](crate::cwm::is_special).
pub fn is_special(text: &str) -> bool {
    SPECIALS.is_one(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_special_here_and_plain_text_in_cwm() {
        for token in TOKENS {
            assert!(is_special(token), "{token}");
            assert!(!crate::cwm::is_special(token), "{token}");
        }
        assert!(is_special(crate::cwm::FRAME_SEP));
        assert!(!is_special("<|step|>"));
    }
}
