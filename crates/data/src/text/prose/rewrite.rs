//! Telling the same in other words, by somebody else's model.
//!
//! No client of a model is here: a [`Rewriter`] is whatever can turn one text into another, such as
//! a client of an OpenAI-compatible server. Its texts are kept only if they end with the true output.

use super::super::Skip;
use super::super::layout::{block, heading};
use super::TraceProse;

/// Something that rewrites texts.
pub trait Rewriter {
    /// The name of the model, for the record.
    fn name(&self) -> &str;

    /// The answer to a request.
    ///
    /// # Errors
    /// When there is none.
    fn rewrite(&self, request: &str) -> Result<String, RewriteError>;
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("the model `{model}` did not rewrite a text: {reason}")]
pub struct RewriteError {
    /// Its name.
    pub model: String,
    /// What went wrong.
    pub reason: String,
}

const TASK: &str = "\
Below is a Python program, a step-by-step account of one run of it, and the run's final output. Write the account \
again in your own words, as an experienced programmer would explain the run to a colleague: keep every \
value as it is, keep the order of events, leave nothing important out and add nothing. End with a line that \
consists of `Final output:`, followed by the final output in a fenced block, exactly as given.";

/// What a rewriter is asked to end with.
const STATED: &str = "Final output:";

/// The same run in the words of a rewriter.
///
/// # Errors
/// What the rewriter says. An answer that states no output, or another one than the true one, is
/// `Ok(Err(_))`: a model that gets the end wrong cannot be trusted with the rest.
pub fn rewritten(
    prose: &TraceProse,
    rewriter: &dyn Rewriter,
) -> Result<Result<TraceProse, Skip>, RewriteError> {
    let answer = rewriter.rewrite(&request(prose))?;
    let Some((text, output)) = split_answer(&answer) else {
        return Ok(Err(Skip::Malformed));
    };
    if output.trim_end_matches('\n') != prose.output.trim_end_matches('\n') {
        return Ok(Err(Skip::NotFaithful));
    }
    Ok(Ok(TraceProse {
        text: text.to_owned(),
        rewritten_by: rewriter.name().to_owned(),
        ..prose.clone()
    }))
}

fn request(prose: &TraceProse) -> String {
    let mut out = format!("{TASK}\n\n");
    heading(&mut out, 1, "Program");
    block(&mut out, "python", &prose.source);
    heading(&mut out, 1, &format!("Account of {}", prose.entry));
    out.push_str(&prose.text);
    out.push_str("\n\n");
    heading(&mut out, 1, "Final output");
    block(&mut out, "", &prose.output);
    out
}

/// The account, and the output stated at its end.
fn split_answer(answer: &str) -> Option<(&str, String)> {
    let (text, rest) = answer.rsplit_once(STATED)?;
    let is_line = text.is_empty() || text.ends_with('\n');
    let mut lines = rest.trim().split('\n');
    let open = lines.next()?;
    let fence = &open[..open.len() - open.trim_start_matches('`').len()];
    let inside: Vec<&str> = lines.collect();
    let (last, inside) = inside.split_last()?;
    let text = text.trim();
    // A heading of ours inside the text would end it when it is read back.
    let is_plain = !text.is_empty() && !text.lines().any(|line| line.starts_with("## "));
    let is_fenced = fence.len() >= 3 && *last == fence && !inside.contains(&fence);
    (is_line && is_plain && is_fenced).then(|| (text, inside.join("\n")))
}
