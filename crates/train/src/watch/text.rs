//! Figures in words, one wording for the terminal, the page and the summary.
//!
//! Promises: a figure that is not known has no line; units are written out; a number has the digits
//! that mean something.

use super::figures::{Figures, Status};

impl Figures {
    /// The figures that are known, each with its label, most wanted first.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let known = |label, value: Option<String>| value.map(|value| (label, value));
        let decimals = |value: Option<f64>| value.map(|value| format!("{value:.4}"));
        let lines = [
            known("status", Some(self.status_text())),
            known("step", (self.step > 0).then(|| self.step_text())),
            known("epoch", self.epoch.map(|epoch| format!("{epoch:.2}"))),
            known("loss", decimals(self.loss)),
            known("accuracy", decimals(self.accuracy)),
            known("held-out loss", decimals(self.held_out_loss)),
            known("held-out accuracy", decimals(self.held_out_accuracy)),
            known("frames exact", decimals(self.frame_exact)),
            known("best held-out", self.best_text()),
            known("learning rate", self.lr.map(short)),
            known("Muon rate", self.muon_lr.map(short)),
            known("gradient norm", self.grad_norm.map(short)),
            known(
                "speed",
                self.tok_per_s
                    .map(|speed| format!("{} tok/s", grouped(speed.round() as u64))),
            ),
            known(
                "compute",
                self.gflops
                    .map(|gflops| format!("{} GFLOP/s", short(gflops))),
            ),
            known(
                "of the peak",
                self.mfu.map(|mfu| format!("{:.1}%", 100.0 * mfu)),
            ),
            known(
                "memory",
                self.rss_mb
                    .map(|mb| format!("{} MB", grouped(mb.round() as u64))),
            ),
            known("remaining", self.eta_seconds.map(duration)),
            known("tokens", (self.tokens > 0).then(|| grouped(self.tokens))),
            known(
                "trained for",
                (self.seconds > 0.0).then(|| duration(self.seconds)),
            ),
            known("skipped", self.skipped_text()),
            known(
                "resumptions",
                (self.resumptions > 0).then(|| grouped(self.resumptions)),
            ),
            known("checkpoints", self.checkpoint_text()),
        ];
        lines.into_iter().flatten().collect()
    }

    fn status_text(&self) -> String {
        let status = self.status.text();
        match (self.status, self.age_seconds) {
            (Status::Running, Some(age)) => format!("{status}, {} ago", duration(age)),
            (Status::Silent, Some(age)) => {
                format!("{status} for {}", duration(age))
            }
            _ => status.to_owned(),
        }
    }

    fn step_text(&self) -> String {
        let step = grouped(self.step);
        match self.steps {
            Some(steps) => format!("{step} of {}", grouped(steps)),
            None => step,
        }
    }

    fn best_text(&self) -> Option<String> {
        let best = self.best?;
        Some(format!("{:.4} at step {}", best.loss, grouped(best.step)))
    }

    fn skipped_text(&self) -> Option<String> {
        let total: u64 = self.skipped.values().sum();
        let reasons: Vec<String> = (self.skipped.iter())
            .map(|(why, count)| format!("{} {}", grouped(*count), why.replace('_', " ")))
            .collect();
        (total > 0).then(|| reasons.join(", "))
    }

    fn checkpoint_text(&self) -> Option<String> {
        let step = self.checkpoint_step?;
        let count = grouped(self.checkpoints);
        Some(format!("{count}, newest at step {}", grouped(step)))
    }
}

/// A number with its digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with three digits that mean something, and powers of ten where it is far from 1.
pub fn short(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e6).contains(&size) {
        return format!("{number:.2e}");
    }
    let decimals = (2.0 - size.log10().floor()).max(0.0) as usize;
    let text = format!("{number:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Seconds in the two units that matter.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86_400);
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{minutes} min {} s", whole % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        let numbers = [0.0, 0.003, 1.0, 12.345, -1234.5, 1e-7, 2.5e9];
        let texts = ["0", "0.003", "1", "12.3", "-1234", "1.00e-7", "2.50e9"];
        assert_eq!(numbers.map(short), texts);
        let seconds = [-1.0, 0.4, 59.6, 3599.0, 3600.0, 86_399.0, 200_000.0];
        let texts = [
            "0 s",
            "0 s",
            "1 min 0 s",
            "59 min 59 s",
            "1 h 0 min",
            "23 h 59 min",
            "2 d 7 h",
        ];
        assert_eq!(seconds.map(duration), texts);
    }
}
