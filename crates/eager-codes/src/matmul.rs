//! The one matrix product this crate needs, through the `gemm` crate: rows against rows, on the calling thread, so that
//! its result depends on the operands alone.

/// `out[i, j] = scale · a[i]·b[j]` for row-major `a` `[m, dim]` and `b` `[n, dim]`; `out` is `[m, n]`.
pub(crate) fn rows_by_rows(scale: f32, a: &[f32], b: &[f32], dim: usize, out: &mut [f32]) {
    let (m, n) = (a.len() / dim, b.len() / dim);
    assert!(
        a.len() == m * dim && b.len() == n * dim && out.len() == m * n,
        "rows of {dim} in {} and {}, products in {}",
        a.len(),
        b.len(),
        out.len()
    );
    // SAFETY: element (i, l) of `a` lies at `i·dim + l < m·dim = a.len()`, element (l, j) of `b`'s transpose at
    // `j·dim + l < n·dim = b.len()`, element (i, j) of `out` at `i·n + j < m·n = out.len()`: the assertion above says
    // so. `out` is borrowed mutably and so overlaps neither operand; with `read_dst` false it is only written.
    unsafe {
        gemm::gemm(
            m,
            n,
            dim,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            1,
            dim as isize,
            b.as_ptr(),
            dim as isize,
            1,
            0.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_equal_the_triple_loop() {
        for (m, n, dim) in [(1, 1, 1), (3, 5, 2), (70, 33, 19), (256, 1, 64), (1, 90, 7)] {
            let a: Vec<f32> = (0..m * dim).map(|i| (i as f32).sin()).collect();
            let b: Vec<f32> = (0..n * dim).map(|i| (i as f32 * 0.7).cos()).collect();
            let mut out = vec![f32::NAN; m * n];
            rows_by_rows(-2.0, &a, &b, dim, &mut out);
            for i in 0..m {
                for j in 0..n {
                    let want: f64 = (0..dim)
                        .map(|l| -2.0 * f64::from(a[i * dim + l]) * f64::from(b[j * dim + l]))
                        .sum();
                    assert!((f64::from(out[i * n + j]) - want).abs() < 1e-4);
                }
            }
        }
    }
}
