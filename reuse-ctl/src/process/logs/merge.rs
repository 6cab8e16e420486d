//! Merges several logs by time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Several ordered sources as one ordered source. Of items with the same time, that of the earlier source comes first.
#[derive(Debug)]
pub struct Merged<S, T> {
    sources: Vec<S>,
    waiting: Vec<VecDeque<(u64, T)>>,
    /// The time of each source's next item.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
    begun: bool,
}

/// A source of items to merge.
pub trait MergeSource<T> {
    /// The error if the source can't be read.
    type Error;

    /// The next items, each with its time, in order. Empty if the source has ended.
    ///
    /// # Errors
    /// Fails if the source can't be read.
    fn batch(&mut self) -> Result<Vec<(u64, T)>, Self::Error>;
}

impl<T, S: MergeSource<T>> Merged<S, T> {
    /// Merges these sources. Nothing is read yet.
    pub fn new(sources: Vec<S>) -> Self {
        Self {
            waiting: sources.iter().map(|_| VecDeque::new()).collect(),
            sources,
            heads: BinaryHeap::new(),
            begun: false,
        }
    }

    /// The next item: its time, the number of its source, and the item itself.
    ///
    /// # Errors
    /// As the source's.
    pub fn next_item(&mut self) -> Result<Option<(u64, usize, T)>, S::Error> {
        if !self.begun {
            self.begun = true;
            for source in 0..self.sources.len() {
                self.refill(source)?;
            }
        }
        let Some(Reverse((_, source))) = self.heads.pop() else {
            return Ok(None);
        };
        let (at, item) = self.waiting[source].pop_front().expect("its time was known");
        self.refill(source)?;
        Ok(Some((at, source, item)))
    }

    fn refill(&mut self, source: usize) -> Result<(), S::Error> {
        if self.waiting[source].is_empty() {
            self.waiting[source].extend(self.sources[source].batch()?);
        }
        if let Some((at, _)) = self.waiting[source].front() {
            self.heads.push(Reverse((*at, source)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Batches(Vec<Vec<(u64, usize)>>);

    impl MergeSource<usize> for Batches {
        type Error = std::convert::Infallible;

        fn batch(&mut self) -> Result<Vec<(u64, usize)>, Self::Error> {
            Ok(if self.0.is_empty() {
                Vec::new()
            } else {
                self.0.remove(0)
            })
        }
    }

    proptest! {
        #[test]
        fn it_is_the_same_as_a_stable_sort(sources in prop::collection::vec(prop::collection::vec((0..20_u64, any::<bool>()), 0..40), 0..6)) {
            let mut expected = Vec::new();
            let mut batches = Vec::new();
            for (number, mut items) in sources.into_iter().enumerate() {
                items.sort_by_key(|(at, _)| *at);
                let mut parts: Vec<Vec<(u64, usize)>> = Vec::new();
                for (order, (at, begins_batch)) in items.into_iter().enumerate() {
                    expected.push((at, number, order));
                    match parts.last_mut() {
                        Some(part) if !begins_batch => part.push((at, order)),
                        _ => parts.push(vec![(at, order)]),
                    }
                }
                batches.push(Batches(parts));
            }
            expected.sort_by_key(|(at, _, _)| *at);
            let mut merged = Merged::new(batches);
            let mut found = Vec::new();
            while let Ok(Some(item)) = merged.next_item() {
                found.push(item);
            }
            prop_assert_eq!(found, expected);
        }
    }
}
