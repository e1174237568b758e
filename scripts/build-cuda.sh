#!/usr/bin/env bash
# Builds the command `eager` with the `cuda` feature on a machine without GPU, driver or CUDA toolkit.
#
#   scripts/build-cuda.sh [cargo arguments]     e.g. --package eager-infer, or nothing for the command `eager`
#
# Compiler, headers and libraries of CUDA 13.0 come as wheels from PyPI (about 1.5 GB, kept under target/cuda). Needs
# python3 with pip, a C compiler and Rust. CUDA_COMPUTE_CAP chooses the GPU: 90 for H100 and H200 (the default), 80 for A100.
# The binary starts only where a driver (libcuda) is, and wants CUDA 13's libcudart, libcublas and libcurand on
# LD_LIBRARY_PATH; a program for machines without GPU is built without this script.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cuda=$root/target/cuda
wheels=$cuda/wheels
toolkit=$cuda/nvidia/cu13
mkdir -p "$wheels"

for package in \
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-cccl==13.0.85 \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-nvrtc==13.0.88 nvidia-curand==10.4.0.35 nvidia-cublas==13.1.0.3; do
    done_mark=$wheels/$package.unpacked
    [ -e "$done_mark" ] && continue
    echo "fetching $package" >&2
    rm -rf "$wheels/one" && mkdir "$wheels/one"
    python3 -m pip download --quiet --no-deps --dest "$wheels/one" "$package"
    python3 -m zipfile -e "$wheels"/one/*.whl "$cuda"
    rm -rf "$wheels/one"
    touch "$done_mark"
done
chmod +x "$toolkit"/bin/* "$toolkit"/nvvm/bin/* # zipfile drops the execute bits

# Wheels carry libfoo.so.N alone; the linker asks for libfoo.so.
for library in cudart:13 nvrtc:13 curand:10 cublas:13 cublasLt:13; do
    ln -sf "lib${library%:*}.so.${library#*:}" "$toolkit/lib/lib${library%:*}.so"
done

# No wheel carries the driver's library to link against: one whose every entry says CUDA_ERROR_NO_DEVICE stands in.
stubs=$toolkit/lib/stubs
mkdir -p "$stubs"
python3 - "$toolkit/include/cuda.h" > "$cuda/stub.c" <<'PY'
import re
import sys

header = open(sys.argv[1]).read()
names = set(re.findall(r"\bCUDAAPI\s+(cu\w+)\s*\(", header))
names |= set(re.findall(r"#define\s+cu\w+\s+(?:__CUDA_API_PT(?:DS|SZ)\()?(cu\w+_v\d+)\b", header))
print("\n".join(f"int {name}(void) {{ return 100; }}" for name in sorted(names)))
PY
cc -shared -fPIC -O1 -Wl,-soname,libcuda.so.1 -o "$stubs/libcuda.so.1" "$cuda/stub.c"
ln -sf libcuda.so.1 "$stubs/libcuda.so"

export CUDA_HOME=$toolkit CUDA_PATH=$toolkit PATH=$toolkit/bin:$PATH
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
export LIBRARY_PATH=$toolkit/lib:$stubs${LIBRARY_PATH:+:$LIBRARY_PATH}
cd "$root"
exec cargo build --release --locked --features cuda "${@:---package=eager}"
