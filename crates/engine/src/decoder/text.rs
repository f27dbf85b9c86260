//! Embeddings: of a token, of those before it and of its place in a run.

use cwm_kernels::add;

use super::Segment;
use crate::weights::Decoder;

/// New tokens behind as many earlier ones as their embeddings depend on.
pub(super) struct Text {
    ids: Vec<u32>,
    n_before: usize,
    /// Of each token in its run; empty where the model does not look at it.
    places: Vec<Option<u32>>,
}

impl Text {
    pub(super) fn new(decoder: &Decoder, segment: &Segment<'_>) -> Self {
        let start = segment.cache.len();
        let runs = decoder.run.as_ref().map(|(runs, _)| runs);
        let in_run = runs.map_or(0, |runs| runs.n_places);
        let first = start.saturating_sub(decoder.previous.len().max(in_run));
        let earlier = (first..start).filter_map(|at| segment.cache.id(at));
        let ids: Vec<u32> = earlier.chain(segment.ids.iter().copied()).collect();
        let places = runs.map(|runs| runs.places(ids.iter().copied()));
        let places = places.unwrap_or_default();
        Self {
            n_before: ids.len() - segment.ids.len(),
            ids,
            places,
        }
    }

    /// Writes the embedding of new token `at`.
    pub(super) fn embed(&self, decoder: &Decoder, at: usize, out: &mut [f32]) {
        let at = self.n_before + at;
        let hidden = out.len();
        let entry = |id: u32| id as usize * hidden..(id as usize + 1) * hidden;
        decoder.embed(self.ids[at], out);
        let earlier = self.ids[..at].iter().rev();
        for (table, &id) in decoder.previous.iter().zip(earlier) {
            add(out, &table[entry(id)]);
        }
        let place = self.places.get(at).copied().flatten();
        if let (Some((_, table)), Some(place)) = (&decoder.run, place) {
            add(out, &table[entry(place)]);
        }
    }
}
