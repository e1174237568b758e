//! Access to the f32 memory behind CPU tensors, and fresh buffers for results.

use std::sync::Mutex;

use candle_core::{CpuStorage, DType, Device, Layout, Result, Storage, Tensor};

/// Leaves what an operation's forward pass made for its backward pass.
pub(crate) fn keep<T>(slot: &Mutex<Option<T>>, kept: T) -> Result<()> {
    match slot.lock() {
        Ok(mut slot) => *slot = Some(kept),
        Err(_) => candle_core::bail!("fused operation: an earlier pass panicked"),
    }
    Ok(())
}

/// What [`keep`] left; `None` the second time, when the operation has to make it again.
pub(crate) fn take<T>(slot: &Mutex<Option<T>>) -> Result<Option<T>> {
    match slot.lock() {
        Ok(mut kept) => Ok(kept.take()),
        Err(_) => candle_core::bail!("fused operation: an earlier pass panicked"),
    }
}

/// The elements of a contiguous f32 operand of a custom operation.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!(
            "fused operation: the operand of shape {:?} is not contiguous",
            layout.shape()
        )
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Calls `f` with the elements of a CPU f32 tensor, copied first if it is not contiguous.
pub(crate) fn with_slice<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => f(slice(cpu, layout)?),
        _ => candle_core::bail!("fused operation: a CPU tensor is wanted"),
    }
}

/// The same for several tensors, which must be contiguous.
pub(crate) fn with_slices<R>(
    tensors: &[Tensor],
    f: impl FnOnce(&[&[f32]]) -> Result<R>,
) -> Result<R> {
    let guards: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let slices = guards
        .iter()
        .map(|(storage, layout)| match &**storage {
            Storage::Cpu(cpu) => slice(cpu, layout),
            _ => candle_core::bail!("fused operation: a CPU tensor is wanted"),
        })
        .collect::<Result<Vec<_>>>()?;
    f(&slices)
}

/// Whether the fused kernels can run on this tensor: f32 on the CPU.
pub(crate) fn is_cpu_f32(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32
}

/// Whether the fused operations of layers and losses have kernels for this tensor.
pub(crate) fn has_kernels(tensor: &Tensor) -> bool {
    #[cfg(feature = "cuda")]
    if crate::cuda::is_cuda_f32(tensor) {
        return true;
    }
    is_cpu_f32(tensor)
}

/// A CPU tensor that owns `data`.
pub(crate) fn tensor(data: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(data, shape, &Device::Cpu)
}

/// A buffer of `n` elements with unspecified content, for results that are written whole.
///
/// Zeroing costs a pass over memory, a tenth of a matmul's time at this model's sizes. Under `cfg(test)`
/// the buffer is filled with NaN, so that an element read before it is written shows in every test of
/// this crate.
pub(crate) fn uninit(n: usize) -> Vec<f32> {
    if cfg!(test) {
        return vec![f32::NAN; n];
    }
    let mut data = Vec::with_capacity(n);
    // SAFETY: capacity is `n`; every bit pattern is a valid f32; every caller writes each element
    // before reading it (checked by the NaN fill above).
    #[allow(clippy::uninit_vec)]
    unsafe {
        data.set_len(n)
    };
    data
}
