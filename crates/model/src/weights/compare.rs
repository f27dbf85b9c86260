//! What became of a model's weights when they were written in another form.

use super::Checkpoint;
use crate::Error;

/// Loss of the tensors of one kind, such as all `q_proj`.
#[derive(Clone, Debug, PartialEq)]
pub struct KindLoss {
    /// The kind: [`TensorSpec::kind`](crate::TensorSpec::kind).
    pub kind: String,
    /// How many there are.
    pub tensors: usize,
    /// Bytes before, scales included.
    pub bytes_before: u64,
    /// Bytes after.
    pub bytes_after: u64,
    /// Mean over the tensors of `|W - W'| / |W|` in the Frobenius norm; a tensor of zeros counts
    /// as 0 where it is still zeros.
    pub mean_error: f64,
    /// The largest of these.
    pub worst_error: f64,
}

impl Checkpoint {
    /// Compares the weights with those of another form of the same model, kind by kind in the
    /// order of the layout. `progress` is told how many values each step has compared.
    ///
    /// # Errors
    /// [`Error::Config`] when the models have different shapes.
    pub fn compare(
        &self,
        other: &Self,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<KindLoss>, Error> {
        if self.layout() != other.layout() {
            return Err(Error::Config {
                path: None,
                reason: "the two models to be compared have different shapes".to_owned(),
            });
        }
        let mut kinds: Vec<KindLoss> = Vec::new();
        for spec in self.layout().tensors() {
            let (before, after) = (self.tensor(&spec.name)?, other.tensor(&spec.name)?);
            let error = relative_error(&before, &after)?;
            let at = kinds.iter().position(|found| found.kind == spec.kind());
            let at = at.unwrap_or_else(|| {
                kinds.push(KindLoss::new(spec.kind()));
                kinds.len() - 1
            });
            kinds[at].add(before.bytes(), after.bytes(), error);
            progress(spec.len as u64);
        }
        for kind in &mut kinds {
            kind.mean_error /= kind.tensors as f64;
        }
        Ok(kinds)
    }
}

impl KindLoss {
    fn new(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            tensors: 0,
            bytes_before: 0,
            bytes_after: 0,
            mean_error: 0.0,
            worst_error: 0.0,
        }
    }

    /// Counts one tensor; the mean is a sum until all are counted.
    fn add(&mut self, before: u64, after: u64, error: f64) {
        self.tensors += 1;
        self.bytes_before += before;
        self.bytes_after += after;
        self.mean_error += error;
        self.worst_error = self.worst_error.max(error);
    }
}

fn relative_error(before: &super::Tensor<'_>, after: &super::Tensor<'_>) -> Result<f64, Error> {
    let (mut exact, mut found) = (vec![0.0; before.n_cols()], vec![0.0; before.n_cols()]);
    let (mut lost, mut whole) = (0.0, 0.0);
    for row in 0..before.n_rows() {
        before.rows(row..row + 1, &mut exact)?;
        after.rows(row..row + 1, &mut found)?;
        for (exact, found) in exact.iter().zip(&found) {
            let [exact, found] = [*exact, *found].map(f64::from);
            lost += (exact - found).powi(2);
            whole += exact.powi(2);
        }
    }
    Ok(if lost == 0.0 {
        0.0
    } else {
        (lost / whole).sqrt()
    })
}
