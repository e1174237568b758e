//! The fused operations on an NVIDIA GPU: memory, launches and matrix products.
//!
//! Kernels (`cuda/kernels.cu`) take addresses; which lengths they read and write is said beside each of them, and whoever
//! launches one passes addresses of that many elements. Everything of a device runs on its one stream, in the order in which
//! it was launched, so memory may be given back as soon as its last use is launched.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem::size_of;
use std::sync::{LazyLock, Mutex};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg, sys,
};
use candle_core::cuda_backend::{CudaDevice, DeviceId, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Device, Layout, Result, Shape, Storage, Tensor};

use crate::dropout::Mask;

pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod layer;
pub(crate) mod losses;
mod matmul;

pub(crate) use matmul::Matrix;

include!(concat!(env!("OUT_DIR"), "/ptx.rs"));

/// Kernels by GPU and name, so that nobody asks the driver for one at every launch.
static FUNCTIONS: LazyLock<Mutex<HashMap<(DeviceId, &'static str), CudaFunction>>> =
    LazyLock::new(Mutex::default);

/// Threads of a block that has an element or a row a warp.
const THREADS: u32 = 256;
const WARP: usize = 32;
/// Columns and threads of a block that sums columns, as in the kernels.
const SUM_COLUMNS: usize = 8;
const SUM_THREADS: u32 = 1024;

/// GPU `ordinal`, with one stream that all threads share and memory that is kept for the next use.
///
/// [`Device::new_cuda`] has a stream for every thread of the host, between which nothing orders a tensor's uses, and gives
/// freed memory back to the driver at every synchronisation.
///
/// # Errors
/// When there is no such GPU or no driver.
pub fn gpu(ordinal: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(ordinal)?;
    let cuda = device.as_cuda_device()?;
    // SAFETY: events order the uses of memory by several streams; of this device there is one.
    unsafe { cuda.disable_event_tracking() };
    let mut keep = u64::MAX;
    let mut pool = std::ptr::null_mut();
    // SAFETY: both calls get pointers to locals of the types they document, and the attribute is a 64-bit number.
    unsafe {
        let device = cuda.cuda_stream().context().cu_device();
        sys::cuDeviceGetDefaultMemPool(&raw mut pool, device)
            .result()
            .w()?;
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, threshold, (&raw mut keep).cast())
            .result()
            .w()?;
    }
    Ok(device)
}

/// Whether the kernels can run on this tensor: f32 on a GPU.
pub(crate) fn is_cuda_f32(tensor: &Tensor) -> bool {
    tensor.device().is_cuda() && tensor.dtype() == candle_core::DType::F32
}

/// An address in GPU memory, of 4-byte elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At(u64);

impl At {
    pub(crate) const NONE: Self = Self(0);

    fn of<T>(slice: &CudaSlice<T>) -> Self {
        Self(slice.device_ptr(slice.stream()).0)
    }

    pub(crate) fn address(self) -> u64 {
        self.0
    }

    /// `elements` further on.
    pub(crate) fn plus(self, elements: usize) -> Self {
        Self(self.0 + (elements * size_of::<f32>()) as u64)
    }
}

/// Memory of its own.
#[derive(Debug)]
pub(crate) struct Buffer<T = f32> {
    slice: CudaSlice<T>,
    at: At,
}

impl<T> Buffer<T> {
    fn new(slice: CudaSlice<T>) -> Self {
        let at = At::of(&slice);
        Self { slice, at }
    }

    pub(crate) fn at(&self) -> At {
        self.at
    }

    pub(crate) fn is_on(&self, gpu: &Gpu) -> bool {
        self.slice.context().ordinal() == gpu.0.cuda_stream().context().ordinal()
    }
}

/// What a kernel takes, as it lies in memory.
pub(crate) enum Argument {
    At(u64),
    Int(i32),
    Size(usize),
    Float(f32),
    Mask([u32; 4]),
    /// Sequences of an attention or of a filter.
    Rows([u64; 6]),
    Ranges([u64; 4]),
    Update([f32; 7]),
}

macro_rules! argument {
    ($($from:ty => |$x:ident| $to:expr),* $(,)?) => {$(
        impl From<$from> for Argument {
            fn from($x: $from) -> Self {
                $to
            }
        }
    )*};
}

argument! {
    At => |at| Self::At(at.0),
    i32 => |n| Self::Int(n),
    f32 => |x| Self::Float(x),
    Option<Mask> => |mask| Self::Mask(mask.map_or([0, 0, 0, 1f32.to_bits()], Mask::words)),
    [u64; 6] => |rows| Self::Rows(rows),
    [At; 4] => |ranges| Self::Ranges(ranges.map(|at| at.0)),
    [f32; 7] => |update| Self::Update(update),
}

/// A number that a kernel takes as `size_t`.
pub(crate) struct Size(pub(crate) usize);

argument! { Size => |n| Self::Size(n.0) }

/// `kernel`'s arguments.
macro_rules! args {
    ($($arg:expr),* $(,)?) => { &[$($crate::cuda::Argument::from($arg)),*] };
}
pub(crate) use args;

/// How many threads there are of a launch.
#[derive(Clone, Copy)]
pub(crate) enum Grid {
    /// A thread for each of so many elements.
    Elements(usize),
    /// A warp for each of so many rows.
    Rows(usize),
    /// So many blocks.
    Blocks(usize),
    /// Column sums of so many columns, so many times.
    Columns(usize, u32),
    /// So many blocks for each of so many things.
    Table(u32, u32),
}

impl Grid {
    fn config(self) -> Option<LaunchConfig> {
        let (blocks, threads, times) = match self {
            Self::Elements(n) => (n.div_ceil(THREADS as usize), THREADS, 1),
            Self::Rows(n) => (n.div_ceil(THREADS as usize / WARP), THREADS, 1),
            Self::Blocks(n) => (n, THREADS, 1),
            Self::Columns(d, times) => (d.div_ceil(SUM_COLUMNS), SUM_THREADS, times),
            Self::Table(blocks, things) => (blocks as usize, THREADS, things),
        };
        (blocks > 0).then_some(LaunchConfig {
            grid_dim: (blocks as u32, times, 1),
            block_dim: (threads, 1, 1),
            shared_mem_bytes: 0,
        })
    }
}

/// A GPU's stream, kernels and matrix products.
#[derive(Clone)]
pub(crate) struct Gpu(CudaDevice);

impl Gpu {
    pub(crate) fn of(storage: &CudaStorage) -> Self {
        Self(storage.device().clone())
    }

    fn function(&self, kernel: &'static str) -> Result<CudaFunction> {
        let Ok(mut functions) = FUNCTIONS.lock() else {
            candle_core::bail!("fused operation: an earlier launch panicked")
        };
        Ok(match functions.entry((self.0.id(), kernel)) {
            Entry::Occupied(function) => function.get().clone(),
            Entry::Vacant(place) => {
                let function = self
                    .0
                    .get_or_load_custom_func(kernel, "eager-ops", KERNELS)?;
                place.insert(function.into_cuda_function()).clone()
            }
        })
    }

    /// Launches `kernel`. Nothing is launched where the grid has no thread.
    pub(crate) fn launch(
        &self,
        kernel: &'static str,
        grid: Grid,
        arguments: &[Argument],
    ) -> Result<()> {
        let Some(config) = grid.config() else {
            return Ok(());
        };
        let function = self.function(kernel)?;
        let stream = self.0.cuda_stream();
        let mut launch = stream.launch_builder(&function);
        for argument in arguments {
            match argument {
                Argument::At(x) => launch.arg(x),
                Argument::Int(x) => launch.arg(x),
                Argument::Size(x) => launch.arg(x),
                Argument::Float(x) => launch.arg(x),
                Argument::Mask(x) => launch.arg(x),
                Argument::Rows(x) => launch.arg(x),
                Argument::Ranges(x) => launch.arg(x),
                Argument::Update(x) => launch.arg(x),
            };
        }
        // SAFETY: the arguments are as many and as wide as the kernel's parameters, and its pointers are of memory that holds
        // what the kernel reads and writes: see the module. Every kernel is run on every shape of `against_plain`.
        unsafe { launch.launch(config) }.w()?;
        Ok(())
    }

    /// Memory with unspecified content.
    pub(crate) fn uninit(&self, n: usize) -> Result<Buffer> {
        // SAFETY: every bit pattern is an f32, and kernels write it whole before others read it.
        Ok(Buffer::new(unsafe { self.0.alloc::<f32>(n.max(1)) }?))
    }

    pub(crate) fn zeros(&self, n: usize) -> Result<Buffer> {
        Ok(Buffer::new(self.0.alloc_zeros::<f32>(n.max(1))?))
    }

    /// Several pieces of memory in one, each at a multiple of 256 bytes.
    pub(crate) fn slab<const N: usize>(&self, sizes: [usize; N]) -> Result<(Buffer, [At; N])> {
        let mut end = 0;
        let starts = sizes.map(|n| {
            let start = end;
            end += n.next_multiple_of(64);
            start
        });
        let slab = self.uninit(end)?;
        let places = starts.map(|start| slab.at().plus(start));
        Ok((slab, places))
    }

    /// A copy of what is on the host.
    pub(crate) fn upload<T: DeviceRepr + Copy + Default + 'static>(
        &self,
        host: &[T],
    ) -> Result<Buffer<T>> {
        let none = [T::default()];
        let host = if host.is_empty() { &none } else { host };
        Ok(Buffer::new(self.0.clone_htod(host)?))
    }

    /// A buffer's numbers, on the host: waits until they are there.
    pub(crate) fn read(&self, buffer: &Buffer) -> Result<Vec<f32>> {
        self.0.clone_dtoh(&buffer.slice)
    }

    /// `y = x·wᵀ + b` for `n` rows.
    pub(crate) fn linear(
        &self,
        y: At,
        x: At,
        n: usize,
        (w, b): (At, At),
        inner: usize,
        outer: usize,
    ) -> Result<()> {
        let w = Matrix::new(w, outer, inner);
        self.product_of(y, Matrix::new(x, n, inner), w.t(), b, false)
    }

    /// `y = x·wᵀ` for `n` rows.
    pub(crate) fn product(
        &self,
        y: At,
        x: At,
        n: usize,
        w: At,
        inner: usize,
        outer: usize,
    ) -> Result<()> {
        let w = Matrix::new(w, outer, inner);
        self.matmul(y, Matrix::new(x, n, inner), w.t(), false)
    }

    /// `base + mask∘x` of `n` elements; `base` may be [`At::NONE`].
    pub(crate) fn dropout(&self, mask: Mask, x: At, base: At, n: usize) -> Result<Buffer> {
        let y = self.uninit(n)?;
        let arguments = args![y.at(), x, base, Some(mask), Size(n)];
        self.launch("dropout", Grid::Elements(n), arguments)?;
        Ok(y)
    }

    /// `LN(residual + dropout(out + bias))` of `n` rows in `y`, and the normalised rows and reciprocal standard deviations.
    /// Bias and residual may be [`At::NONE`]; the normalised rows may take the place of `out`.
    pub(crate) fn add_norm(
        &self,
        (y, normal, rstd): (At, At, At),
        (out, bias, residual, mask): (At, At, At, Option<Mask>),
        (w, b): (At, At),
        eps: f32,
        (n, d): (usize, usize),
    ) -> Result<()> {
        let (rows, width) = (n as i32, d as i32);
        self.launch(
            "add_norm",
            Grid::Rows(n),
            args![
                y, normal, rstd, out, bias, residual, mask, w, b, eps, rows, width
            ],
        )
    }

    /// Of the gradient `g` of a norm's output: that of what was normalised, in `dx`, and that of the dropped part of it, in
    /// `dropped`, which may be [`At::NONE`].
    pub(crate) fn add_norm_backward(
        &self,
        (dx, dropped): (At, At),
        g: At,
        (normal, rstd, w, mask): (At, At, At, Option<Mask>),
        (n, d): (usize, usize),
    ) -> Result<()> {
        self.launch(
            "add_norm_backward",
            Grid::Rows(n),
            args![dx, dropped, g, normal, rstd, w, mask, n as i32, d as i32],
        )
    }

    /// `dw = Σ g∘normal`, `db = Σ g`, `dbias = Σ dropped` where there is one.
    pub(crate) fn norm_column_sums(
        &self,
        (dw, db, dbias): (At, At, At),
        (g, normal, dropped): (At, At, At),
        (n, d): (usize, usize),
    ) -> Result<()> {
        let times = if dbias == At::NONE { 2 } else { 3 };
        self.launch(
            "norm_column_sums",
            Grid::Columns(d, times),
            args![dw, db, dbias, g, normal, dropped, n as i32, d as i32],
        )
    }

    /// `sums` = the sums of the columns of `x` `[n, d]`.
    pub(crate) fn column_sums(&self, sums: At, x: At, n: usize, d: usize) -> Result<()> {
        self.launch(
            "column_sums",
            Grid::Columns(d, 1),
            args![sums, x, n as i32, d as i32],
        )
    }

    /// A table `[rows, d]` of whose rows each is the sum of those of `g` `[ids, d]` with its id.
    pub(crate) fn sum_at(&self, g: At, ids: &[u32], rows: usize, d: usize) -> Result<Buffer> {
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_by_key(|&i| ids[i as usize]); // stable: a row's terms in the order of `ids`
        let (mut own, mut starts) = (vec![], vec![]);
        for (at, &i) in order.iter().enumerate() {
            let id = ids[i as usize];
            if own.last() != Some(&id) {
                own.push(id);
                starts.push(at as u32);
            }
        }
        starts.push(order.len() as u32);
        let table = self.zeros(rows * d)?;
        let n = own.len();
        let lists = self.upload(&[own, starts, order].concat())?;
        let (own, starts) = (lists.at(), lists.at().plus(n));
        let order = starts.plus(n + 1);
        let arguments = args![table.at(), g, own, starts, order, d as i32];
        self.launch("sum_at", Grid::Blocks(n), arguments)?;
        Ok(table)
    }

    /// Adds the rows of `x` `[ids, d]` to those of `table` that `ids` names, each once.
    pub(crate) fn add_at(
        &self,
        table: At,
        x: At,
        ids: &Buffer<u32>,
        n: usize,
        d: usize,
    ) -> Result<()> {
        self.launch(
            "add_at",
            Grid::Elements(n * d),
            args![table, x, ids.at(), n as i32, d as i32],
        )
    }

    /// The sum of `n` numbers, divided by `count`.
    pub(crate) fn mean(&self, x: At, n: usize, count: usize) -> Result<Buffer> {
        let mean = self.uninit(1)?;
        self.launch(
            "mean",
            Grid::Blocks(1),
            args![mean.at(), x, n as i32, count as f32],
        )?;
        Ok(mean)
    }

    /// `x *= factor·by`, a factor in GPU memory.
    pub(crate) fn scale(&self, x: At, factor: At, by: f32, n: usize) -> Result<()> {
        self.launch("scale", Grid::Elements(n), args![x, factor, by, Size(n)])
    }

    /// `y = gelu(x + bias)` of `n` elements, a bias of `d`; it may be [`At::NONE`].
    pub(crate) fn gelu(&self, y: At, x: At, bias: At, n: usize, d: usize) -> Result<()> {
        self.launch(
            "gelu_forward",
            Grid::Elements(n),
            args![y, x, bias, Size(n), d as i32],
        )
    }

    /// The gradient `g` of GELU to that of its argument, in `dx`, which may be `g`.
    pub(crate) fn gelu_backward(
        &self,
        dx: At,
        g: At,
        x: At,
        bias: At,
        n: usize,
        d: usize,
    ) -> Result<()> {
        self.launch(
            "gelu_backward",
            Grid::Elements(n),
            args![dx, g, x, bias, Size(n), d as i32],
        )
    }

    /// Rows `ids` of `table`, `[ids, d]`.
    pub(crate) fn gather(
        &self,
        y: At,
        table: At,
        ids: &Buffer<u32>,
        n: usize,
        d: usize,
    ) -> Result<()> {
        self.launch(
            "gather",
            Grid::Elements(n * d),
            args![y, table, ids.at(), n as i32, d as i32],
        )
    }
}

/// The elements of a contiguous f32 operand.
pub(crate) fn at(storage: &CudaStorage, layout: &Layout) -> Result<At> {
    let Some((start, _)) = layout.contiguous_offsets() else {
        candle_core::bail!(
            "fused operation: the operand of shape {:?} is not contiguous",
            layout.shape()
        )
    };
    let slice = storage.as_cuda_slice::<f32>()?;
    Ok(At::of(slice).plus(start))
}

/// Where the elements of a contiguous f32 tensor of a GPU are, as long as it lives.
pub(crate) fn place(tensor: &Tensor) -> Result<At> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => at(storage, layout),
        _ => candle_core::bail!("fused operation: all operands are wanted on one GPU"),
    }
}

/// Calls `f` with the elements of contiguous f32 tensors of a GPU.
pub(crate) fn with<const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce(&Gpu, [At; N]) -> Result<R>,
) -> Result<R> {
    let tensors = tensors.map(Tensor::contiguous);
    let mut guards = Vec::with_capacity(N);
    for tensor in &tensors {
        match tensor {
            Ok(tensor) => guards.push(tensor.storage_and_layout()),
            Err(error) => candle_core::bail!("fused operation: {error}"),
        }
    }
    let mut places = [At::NONE; N];
    let mut gpu = None;
    for ((storage, layout), place) in guards.iter().zip(&mut places) {
        let Storage::Cuda(storage) = &**storage else {
            candle_core::bail!("fused operation: all operands are wanted on one GPU")
        };
        *place = at(storage, layout)?;
        gpu.get_or_insert_with(|| Gpu::of(storage));
    }
    match gpu {
        Some(gpu) => f(&gpu, places),
        None => candle_core::bail!("fused operation: no operand"),
    }
}

impl Gpu {
    /// A tensor that owns `data`.
    pub(crate) fn tensor(&self, data: Buffer, shape: &[usize]) -> Tensor {
        let storage = Storage::Cuda(self.storage(data));
        Tensor::from_storage(storage, shape, BackpropOp::none(), false)
    }

    fn storage(&self, data: Buffer) -> CudaStorage {
        CudaStorage::wrap_cuda_slice(data.slice, self.0.clone())
    }

    /// What `cuda_fwd` gives back.
    pub(crate) fn output(
        &self,
        data: Buffer,
        shape: impl Into<Shape>,
    ) -> Result<(CudaStorage, Shape)> {
        Ok((self.storage(data), shape.into()))
    }
}
