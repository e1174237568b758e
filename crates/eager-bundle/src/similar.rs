//! Items like an item: the nearest by the cosine of a view's vectors.

use eager_codes::cosine;
use eager_model::Stream;

use crate::{Bundle, BundleError, Result};

/// An item near another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Similar {
    /// The item.
    pub item: u32,
    /// Cosine of the two vectors, −1 to 1; 0 where one has no length.
    pub cosine: f32,
}

impl Bundle {
    /// The `k` items whose vectors of that view have the greatest cosine to those of `item`, without itself; best first,
    /// equal ones by number. The behaviour view says what is used by the same people, the semantic view what reads alike.
    ///
    /// # Errors
    /// When there is no such item.
    pub fn similar(&self, item: u32, view: Stream, k: usize) -> Result<Vec<Similar>> {
        let n = self.items().len();
        if item as usize >= n {
            return Err(BundleError::Query {
                query: 0,
                fault: format!("there is no item {item}, only 0 to {}", n - 1),
            });
        }
        let vectors = self.vectors(view);
        let of = vectors.row(item);
        let mut list: Vec<Similar> = (0..n as u32)
            .filter(|&other| other != item)
            .map(|other| Similar {
                item: other,
                cosine: cosine(of, vectors.row(other)),
            })
            .collect();
        let best_first =
            |a: &Similar, b: &Similar| b.cosine.total_cmp(&a.cosine).then(a.item.cmp(&b.item));
        if k < list.len() && k > 0 {
            list.select_nth_unstable_by(k - 1, best_first);
        }
        list.truncate(k);
        list.sort_unstable_by(best_first);
        Ok(list)
    }
}
