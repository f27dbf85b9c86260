//! `cargo xtask tidy`: the rules of the tree that no other tool checks.
//!
//! Each rule looks at texts only, so that a test can hand it a bad one. The test
//! at the end applies them all to the workspace itself.

mod files;
mod text;
mod workspace;

use std::path::Path;

use anyhow::{Result, bail};

pub(crate) fn run(root: &Path) -> Result<()> {
    let findings = check(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("the tree is not tidy: {} findings", findings.len());
    }
    Ok(())
}

/// One `path: what is wrong and what to do` for each breach.
fn check(root: &Path) -> Result<Vec<String>> {
    let files = files::read(root)?;
    let mut findings = Vec::new();
    for file in &files {
        text::check(file, &mut findings);
    }
    workspace::check(&files, &mut findings);
    text::check_links(&files, |path| root.join(path).exists(), &mut findings);
    findings.sort();
    Ok(findings)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        let findings = super::check(crate::root()).unwrap();
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }
}
