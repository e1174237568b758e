//! Matrix products through cuBLASLt. Its choice of a kernel costs the host more than to launch one, so choices are kept.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{LazyLock, Mutex};

use candle_core::cuda_backend::cudarc::cublas::sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
use candle_core::cuda_backend::cudarc::cublaslt::result::{self, CublasError};
use candle_core::cuda_backend::cudarc::cublaslt::sys::{
    cublasComputeType_t::{CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32},
    cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
    cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t,
    cublasLtMatmulDescAttributes_t as Attribute,
    cublasLtMatmulPreferenceAttributes_t as Preference, cublasLtMatrixLayout_t,
    cudaDataType::CUDA_R_32F,
};
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::cuda_backend::{DeviceId, gemm_reduced_precision_f32};
use candle_core::{Error, Result};

use super::{At, Gpu};

/// Bytes that a product may use beside its operands.
const WORKSPACE: usize = 32 << 20;

/// Numbers of rows that one choice serves.
const ROWS: usize = 256;

/// A matrix in GPU memory, row-major and without gaps, or its transpose.
#[derive(Clone, Copy)]
pub(crate) struct Matrix {
    at: At,
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl Matrix {
    pub(crate) fn new(at: At, rows: usize, columns: usize) -> Self {
        Self {
            at,
            rows,
            columns,
            transposed: false,
        }
    }

    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            transposed: !self.transposed,
            ..self
        }
    }
}

/// What a kernel is chosen by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Product {
    /// Rows and columns of the output, and the terms of its elements.
    sizes: [usize; 3],
    transposed: [bool; 2],
    bias: bool,
    tf32: bool,
    /// Bytes that all addresses are a multiple of.
    alignment: u32,
}

/// A GPU's library, and what it has chosen.
struct Library {
    handle: cublasLtHandle_t,
    workspace: CudaSlice<u8>,
    chosen: HashMap<Product, cublasLtMatmulAlgo_t>,
}

// SAFETY: the library may be called from any thread.
unsafe impl Send for Library {}

static LIBRARIES: LazyLock<Mutex<HashMap<DeviceId, Library>>> = LazyLock::new(Mutex::default);

/// A description that the library made, and gives back.
struct Described<T: Copy>(T, unsafe fn(T) -> std::result::Result<(), CublasError>);

impl<T: Copy> Drop for Described<T> {
    fn drop(&mut self) {
        // SAFETY: made by the function's counterpart, and used by nobody after this.
        let _ = unsafe { (self.1)(self.0) };
    }
}

/// The library takes row-major matrices for their transposes.
fn layout(rows: usize, columns: usize) -> Result<Described<cublasLtMatrixLayout_t>> {
    let ld = columns.max(1);
    let layout = result::create_matrix_layout(CUDA_R_32F, columns as u64, rows as u64, ld as i64);
    Ok(Described(
        layout.map_err(Error::wrap)?,
        result::destroy_matrix_layout,
    ))
}

fn address<T>(value: &T) -> *const c_void {
    std::ptr::from_ref(value).cast()
}

impl Product {
    fn description(&self, bias: At) -> Result<Described<cublasLtMatmulDesc_t>> {
        let compute = if self.tf32 {
            CUBLAS_COMPUTE_32F_FAST_TF32
        } else {
            CUBLAS_COMPUTE_32F
        };
        let description = result::create_matmul_desc(compute, CUDA_R_32F).map_err(Error::wrap)?;
        let description = Described(description, result::destroy_matmul_desc);
        let set = |attribute, value, size| {
            // SAFETY: `value` is of the type that the attribute has, and `size` its size.
            unsafe { result::set_matmul_desc_attribute(description.0, attribute, value, size) }
                .map_err(Error::wrap)
        };
        // cᵀ = bᵀ·aᵀ
        let [a, b] = self.transposed;
        for (attribute, transposed) in [
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSA, b),
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSB, a),
        ] {
            let operation = if transposed { CUBLAS_OP_T } else { CUBLAS_OP_N };
            set(attribute, address(&operation), size_of_val(&operation))?;
        }
        if self.bias {
            let epilogue = CUBLASLT_EPILOGUE_BIAS;
            let attribute = Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE;
            set(attribute, address(&epilogue), size_of_val(&epilogue))?;
            let attribute = Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
            set(attribute, address(&bias.0), size_of_val(&bias.0))?;
        }
        Ok(description)
    }

    /// `a`, `b` and `c` as they lie in memory.
    fn layouts(&self) -> Result<[Described<cublasLtMatrixLayout_t>; 3]> {
        let [rows, columns, terms] = self.sizes;
        let stored = |rows, columns, transposed| match transposed {
            false => layout(rows, columns),
            true => layout(columns, rows),
        };
        Ok([
            stored(rows, terms, self.transposed[0])?,
            stored(terms, columns, self.transposed[1])?,
            layout(rows, columns)?,
        ])
    }

    /// The same of as many rows as its choice serves: those of the output, or those that are summed over.
    fn rounded(mut self) -> Self {
        let rows = if self.transposed[0] { 2 } else { 0 };
        self.sizes[rows] = self.sizes[rows].next_multiple_of(ROWS);
        self
    }

    fn choose(&self, handle: cublasLtHandle_t) -> Result<cublasLtMatmulAlgo_t> {
        let preference = Described(
            result::create_matmul_pref().map_err(Error::wrap)?,
            result::destroy_matmul_pref,
        );
        let workspace = WORKSPACE as u64;
        let alignment = self.alignment;
        let mut wishes = vec![(
            Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
            address(&workspace),
            size_of_val(&workspace),
        )];
        let operands = [
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ];
        wishes.extend(operands.map(|wish| (wish, address(&alignment), size_of_val(&alignment))));
        for (wish, value, size) in wishes {
            // SAFETY: `value` is of the type that the wish has, and `size` its size.
            unsafe { result::set_matmul_pref_attribute(preference.0, wish, value, size) }
                .map_err(Error::wrap)?;
        }
        let description = self.description(At::NONE)?;
        let [a, b, c] = self.layouts()?;
        // SAFETY: everything described above lives until the end of the block.
        let found = unsafe {
            result::get_matmul_algo_heuristic(
                handle,
                description.0,
                b.0,
                a.0,
                c.0,
                c.0,
                preference.0,
            )
        };
        Ok(found.map_err(Error::wrap)?.algo)
    }
}

impl Gpu {
    /// `c = a·b`, or `c += a·b`; `c` `[a's rows, b's columns]`.
    pub(crate) fn matmul(&self, c: At, a: Matrix, b: Matrix, add: bool) -> Result<()> {
        self.product_of(c, a, b, At::NONE, add)
    }

    /// `c = a·b + bias`, or without a bias as [`Gpu::matmul`].
    pub(super) fn product_of(
        &self,
        c: At,
        a: Matrix,
        b: Matrix,
        bias: At,
        add: bool,
    ) -> Result<()> {
        debug_assert_eq!(a.columns, b.rows);
        let (rows, columns, terms) = (a.rows, b.columns, a.columns);
        if rows * columns == 0 || (terms == 0 && add) {
            return Ok(());
        }
        let alignment = [a.at, b.at, c, bias].iter().fold(256, |all, at| all | at.0);
        let product = Product {
            sizes: [rows, columns, terms],
            transposed: [a.transposed, b.transposed],
            bias: bias != At::NONE,
            tf32: gemm_reduced_precision_f32(),
            alignment: 1 << alignment.trailing_zeros(),
        };
        let Ok(mut libraries) = LIBRARIES.lock() else {
            candle_core::bail!("matrix product: an earlier one panicked")
        };
        let library = match libraries.entry(self.0.id()) {
            std::collections::hash_map::Entry::Occupied(library) => library.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => place.insert(Library {
                handle: result::create_handle().map_err(Error::wrap)?,
                workspace: self.0.alloc_zeros(WORKSPACE)?,
                chosen: HashMap::new(),
            }),
        };
        let rounded = product.rounded();
        let kernel = match library.chosen.get(&rounded) {
            Some(kernel) => *kernel,
            None => {
                let kernel = rounded.choose(library.handle)?;
                library.chosen.insert(rounded, kernel);
                kernel
            }
        };
        let description = product.description(bias)?;
        let [a_layout, b_layout, c_layout] = product.layouts()?;
        let (alpha, beta) = (1f32, if add { 1f32 } else { 0f32 });
        let stream = self.0.cuda_stream();
        let workspace = At::of(&library.workspace);
        // SAFETY: the operands are `rows·columns` elements from their addresses on, as `Matrix::new` was told, the bias as many
        // as `c` has columns; the workspace is used by one product after the other, in the order of the device's one stream.
        unsafe {
            result::matmul(
                library.handle,
                description.0,
                address(&alpha),
                address(&beta),
                b.at.0 as *const c_void,
                b_layout.0,
                a.at.0 as *const c_void,
                a_layout.0,
                c.0 as *const c_void,
                c_layout.0,
                c.0 as *mut c_void,
                c_layout.0,
                &raw const kernel,
                workspace.0 as *mut c_void,
                WORKSPACE,
                stream.cu_stream().cast(),
            )
        }
        .map_err(Error::wrap)
    }
}
