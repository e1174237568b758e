//! AdamW over all parameters of a GPU in one launch.

use candle_core::{Result, Tensor};

use super::{At, Buffer, Gpu, Grid, args, place, with};

/// Blocks that a parameter's elements are spread over.
const BLOCKS: u32 = 256;

/// Parts that a gradient's sum of squares is left in.
const SQUARES: u32 = 64;

/// A parameter with its gradient, all contiguous f32 of one shape.
pub(crate) struct Slot<'a> {
    pub(crate) var: &'a Tensor,
    pub(crate) grad: &'a Tensor,
    /// First and second moment, and the highest second moment where it is kept.
    pub(crate) moments: &'a [Tensor],
    /// Which elements are decayed; without, `all` says.
    pub(crate) decayed: Option<&'a Buffer<u8>>,
    pub(crate) all: bool,
}

/// The parameters of one step in GPU memory.
pub(crate) struct Step {
    gpu: Gpu,
    slots: Buffer<u64>,
    count: u32,
}

impl Step {
    /// `None` without a parameter.
    pub(crate) fn new(slots: &[Slot<'_>]) -> Result<Option<Self>> {
        let Some(first) = slots.first() else {
            return Ok(None);
        };
        let mut words = Vec::with_capacity(8 * slots.len());
        for slot in slots {
            let highest = slot.moments.get(2).map_or(Ok(At::NONE), place)?;
            let places = [
                place(slot.var)?,
                place(&slot.moments[0])?,
                place(&slot.moments[1])?,
                highest,
                place(slot.grad)?,
                slot.decayed.map_or(At::NONE, Buffer::at),
            ];
            words.extend(places.map(At::address));
            words.extend([slot.var.elem_count() as u64, u64::from(slot.all)]);
        }
        with([first.var], |gpu, _| {
            Ok(Some(Self {
                slots: gpu.upload(&words)?,
                gpu: gpu.clone(),
                count: slots.len() as u32,
            }))
        })
    }

    /// The sum of squares of all gradients, which is waited for.
    pub(crate) fn squares(&self) -> Result<f64> {
        let n = (SQUARES * self.count) as usize;
        let (parts, total) = (self.gpu.uninit(n)?, self.gpu.uninit(1)?);
        let grid = Grid::Table(SQUARES, self.count);
        let slots = self.slots.at();
        self.gpu.launch("squares", grid, args![parts.at(), slots])?;
        let arguments = args![total.at(), parts.at(), n as i32];
        self.gpu.launch("total", Grid::Blocks(1), arguments)?;
        Ok(f64::from(self.gpu.read(&total)?[0]))
    }

    /// Updates the parameters and their moments where they are: `numbers` as in the kernel.
    pub(crate) fn apply(&self, numbers: [f32; 7]) -> Result<()> {
        let grid = Grid::Table(BLOCKS, self.count);
        let arguments = args![self.slots.at(), numbers];
        self.gpu.launch("adamw", grid, arguments)
    }
}
