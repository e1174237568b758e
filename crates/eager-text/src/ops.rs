//! A transformer's forward operations on candle tensors: the [`kernels`](crate::kernels) on the CPU,
//! candle's own operations elsewhere. No gradients: nothing here is trained.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};

use crate::kernels::{self, Heads, Pair};

/// `f(x, y)`; `y` has `x`'s shape, or that of its last dimensions and repeats.
pub(crate) fn pair(f: Pair, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.apply_op2_no_bwd(y, &f);
    }
    match f {
        Pair::Add => x.broadcast_add(y),
        Pair::AddRelu => x.broadcast_add(y)?.relu(),
        Pair::AddGelu => x.broadcast_add(y)?.gelu_erf(),
        Pair::AddGeluTanh => x.broadcast_add(y)?.gelu(),
        Pair::GeluTanhMul => x.gelu()?.broadcast_mul(y),
    }
}

/// Layer norm over the last dimension of `x` [.., width]; `weight` and `bias` [width].
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.apply_op3_no_bwd(weight, bias, &Norm { eps: eps as f32 });
    }
    candle_nn::ops::layer_norm(x, weight, bias, eps as f32)
}

/// RMS norm (no mean, no bias) over the last dimension of `x` [.., width]; `weight` [width].
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.apply_op2_no_bwd(weight, &Norm { eps: eps as f32 });
    }
    candle_nn::ops::rms_norm(x, weight, eps as f32)
}

/// Self-attention. `qkv` [batch, length, 3 · count · width], `bias` [count, length, length];
/// out: [batch, length, count · width].
pub(crate) fn attention(heads: Heads, qkv: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if qkv.device().is_cpu() {
        return match bias {
            Some(bias) => qkv.apply_op2_no_bwd(bias, &heads),
            None => qkv.apply_op1_no_bwd(&heads),
        };
    }
    let (batch, length, _) = qkv.dims3()?;
    let qkv = qkv
        .reshape((batch, length, 3, heads.count, heads.width))?
        .permute((2, 0, 3, 1, 4))?;
    let part = |i: usize| qkv.get(i)?.contiguous(); // [batch, count, length, width]
    let scores = (part(0)?.matmul(&part(1)?.t()?)? * heads.scale as f64)?;
    let scores = match bias {
        Some(bias) => scores.broadcast_add(bias)?,
        None => scores,
    };
    let mixed = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&part(2)?)?;
    mixed.transpose(1, 2)?.flatten_from(2)?.contiguous()
}

struct Norm {
    eps: f32,
}

/// The values of a contiguous f32 tensor.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("expected a contiguous tensor, got {layout:?}"),
    }
}

fn tensor(values: Vec<f32>, shape: &Shape) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), shape.clone())
}

impl CustomOp2 for Pair {
    fn name(&self) -> &'static str {
        "text-pair"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        y: &CpuStorage,
        ly: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = kernels::pair(*self, values(x, lx)?, values(y, ly)?);
        Ok(tensor(out, lx.shape()))
    }
}

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        "text-layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = kernels::norm(
            values(x, lx)?,
            values(w, lw)?,
            Some(values(b, lb)?),
            self.eps,
        );
        Ok(tensor(out, lx.shape()))
    }
}

impl CustomOp2 for Norm {
    fn name(&self) -> &'static str {
        "text-rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = kernels::norm(values(x, lx)?, values(w, lw)?, None, self.eps);
        Ok(tensor(out, lx.shape()))
    }
}

impl CustomOp1 for Heads {
    fn name(&self) -> &'static str {
        "text-attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = kernels::attention(*self, values(qkv, layout)?, None);
        let (batch, length, _) = layout.shape().dims3()?;
        Ok(tensor(
            out,
            &(batch, length, self.count * self.width).into(),
        ))
    }
}

impl CustomOp2 for Heads {
    fn name(&self) -> &'static str {
        "text-biased-attention"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        layout: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = kernels::attention(*self, values(qkv, layout)?, Some(values(bias, lb)?));
        let (batch, length, _) = layout.shape().dims3()?;
        Ok(tensor(
            out,
            &(batch, length, self.count * self.width).into(),
        ))
    }
}
