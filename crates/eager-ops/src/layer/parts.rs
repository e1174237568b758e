//! How a layer's parameters lie in their one tensor.

/// The sizes of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerShape {
    /// Width of rows.
    pub d_model: usize,
    /// Attention heads; `d_model` is a multiple.
    pub heads: usize,
    /// Width inside the feed-forward.
    pub feed_forward: usize,
    /// Whether it cross-attends a memory.
    pub cross: bool,
    /// Added to the variance of a layer norm.
    pub eps: f64,
}

/// One parameter inside a layer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerPart {
    /// Its name: `self.qkv.weight`, …
    pub name: String,
    /// Its shape: a matrix `[out, in]`, or a vector.
    pub shape: Vec<usize>,
    /// Index of its first element.
    pub start: usize,
}

impl LayerShape {
    /// The layer's parameters, in the order in which they lie end to end.
    pub fn parts(&self) -> Vec<LayerPart> {
        let (mut parts, mut start) = (vec![], 0);
        Parts::new(self, |name, shape| {
            parts.push(LayerPart {
                name: name.to_owned(),
                shape: shape.to_vec(),
                start,
            });
            start += shape.iter().product::<usize>();
        });
        parts
    }

    /// Number of scalars.
    pub fn size(&self) -> usize {
        let sizes = self.parts();
        sizes
            .iter()
            .map(|p| p.shape.iter().product::<usize>())
            .sum()
    }
}

/// A matrix and a vector: a linear layer, or a norm's scale and shift.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affine<T> {
    pub(crate) w: T,
    pub(crate) b: T,
}

/// A `T` for each parameter.
#[derive(Clone, Debug)]
pub(crate) struct Parts<T> {
    /// Queries, keys and values, in this order.
    pub(crate) qkv: Affine<T>,
    pub(crate) attended: Affine<T>,
    pub(crate) attention_norm: Affine<T>,
    pub(crate) cross: Option<CrossParts<T>>,
    pub(crate) inner: Affine<T>,
    pub(crate) outer: Affine<T>,
    pub(crate) norm: Affine<T>,
}

#[derive(Clone, Debug)]
pub(crate) struct CrossParts<T> {
    pub(crate) q: Affine<T>,
    /// Keys and values.
    pub(crate) kv: Affine<T>,
    pub(crate) attended: Affine<T>,
    pub(crate) norm: Affine<T>,
}

impl<T> Parts<T> {
    /// Asks `take(name, shape)` for each in turn: this order is the layout.
    pub(crate) fn new(shape: &LayerShape, mut take: impl FnMut(&str, &[usize]) -> T) -> Self {
        let (d, ff) = (shape.d_model, shape.feed_forward);
        let mut linear = |name: &str, inner, outer| Affine {
            w: take(&format!("{name}.weight"), &[outer, inner]),
            b: take(&format!("{name}.bias"), &[outer]),
        };
        let qkv = linear("self.qkv", d, 3 * d);
        let attended = linear("self.attended", d, d);
        let inner = linear("inner", d, ff);
        let outer = linear("outer", ff, d);
        let crossing = shape.cross.then(|| {
            (
                linear("cross.q", d, d),
                linear("cross.kv", d, 2 * d),
                linear("cross.attended", d, d),
            )
        });
        let mut norm = |name: &str| Affine {
            w: take(&format!("{name}.weight"), &[d]),
            b: take(&format!("{name}.bias"), &[d]),
        };
        Self {
            qkv,
            attended,
            attention_norm: norm("self.norm"),
            cross: crossing.map(|(q, kv, attended)| CrossParts {
                q,
                kv,
                attended,
                norm: norm("cross.norm"),
            }),
            inner,
            outer,
            norm: norm("norm"),
        }
    }
}
