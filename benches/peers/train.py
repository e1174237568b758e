"""Updates of the generator in PyTorch: forward, backward, clipping and fused AdamW. `--compile` compiles the loss,
`--bf16` computes it under autocast, on a GPU.

On a GPU nothing in an update waits for the device: what is drawn, and the row numbers that follow from it, are made on
the host and copied from pinned memory while the device computes.
"""

import contextlib
import sys
import time

import numpy as np
import torch
from torch import Tensor

from model import STREAMS, Eager, Trie, build, padded
from protocol import load, serve

WARM_UP = 8


def corrupted(trie: Trie, codes: Tensor, mask_ratio: float, replace_ratio: float) -> tuple[Tensor, Tensor]:
    """Which tokens are masked, and codes with tokens replaced by others of their level; at least one of each code."""

    def some(ratio: float) -> Tensor:
        taken = torch.rand(codes.shape) < ratio
        taken[torch.arange(len(codes)), torch.randint(codes.shape[1], (len(codes),))] |= ~taken.any(1)
        return taken

    masked, replaced = some(mask_ratio), some(replace_ratio)
    first = torch.tensor(trie.starts[1:-1])
    size = torch.tensor(trie.starts[2:]) - first
    draw = first + (torch.rand(codes.shape) * (size - 1)).long()
    draw += draw >= codes  # never the true one
    return masked, torch.where(replaced, draw, codes)


def by_level(masked: Tensor) -> list[Tensor]:
    return [masked[:, level].nonzero().squeeze(1) for level in range(masked.shape[1])]


def optimiser_of(model: Eager, config: dict) -> torch.optim.AdamW:
    """Weight decay on matrices alone, as ours."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config["weight_decay"]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    betas = (config["beta1"], config["beta2"])
    return torch.optim.AdamW(groups, betas=betas, eps=config["eps"], amsgrad=config["amsgrad"], fused=True)


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def gemm_gflops(device: str) -> float:
    """Rate of single-precision products of 2,048³, on a GPU of 4,096³, the best of a few."""
    n, best = 4096 if device == "cuda" else 2048, 0.0
    a = torch.ones(n, n, device=device)
    for _ in range(6):
        wait(device)
        begin = time.perf_counter()
        a @ a
        wait(device)
        best = max(best, 2 * n**3 / (time.perf_counter() - begin) / 1e9)
    return best


def main() -> None:
    settings, tensors = load(sys.argv[1])
    device = settings["device"]
    on_gpu = device == "cuda"
    torch.backends.cuda.matmul.allow_tf32 = False  # f32 is f32, as ours; PyTorch's default too
    autocast = torch.autocast("cuda", torch.bfloat16) if "--bf16" in sys.argv else contextlib.nullcontext()
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    training, transfer = settings["training"], settings["losses"]["transfer"]
    model = build(settings, tensors, device=device)
    model.logits = "level" if on_gpu else "padded" if "--compile" in sys.argv else "children"
    tries = model.tries
    vectors = {s: torch.from_numpy(tensors[f"vectors/{s}"]).to(device) for s in STREAMS}
    items, offsets = tensors["batches/items"], tensors["batches/offsets"].astype(np.int64)
    targets = torch.from_numpy(tensors["batches/targets"].astype(np.int64)).to(device)  # [batches, b]
    batches, size = targets.shape

    def batch(i: int, rows: slice = slice(None)) -> dict:
        span = range(size)[rows]
        history, mask = padded(items, offsets[i * size + span.start : i * size + span.stop + 1])
        wanted = targets[i, rows]
        return {
            "history": history.to(device),
            "mask": None if mask is None else mask.to(device),
            "codes": {s: tries[s].paths[wanted] for s in STREAMS},
            "vectors": {s: vectors[s][wanted] for s in STREAMS},
        }

    def corruption(masked: Tensor, replaced: Tensor) -> dict:
        """The loss's arguments of what was drawn on the host."""
        rows = by_level(masked)
        move = (lambda x: x.pin_memory().to(device, non_blocking=True)) if on_gpu else (lambda x: x)
        return {"masked": move(masked), "masked_rows": [move(x) for x in rows], "replaced": move(replaced)}

    # The first batch as ours takes it, in two halves and on a GPU whole, without dropout and with the same masks.
    check = build(settings, tensors, dropout=0.0, device=device)
    check.logits = model.logits
    masked = torch.from_numpy(tensors["check/masked"].astype(bool))
    replaced = torch.from_numpy(tensors["check/replaced"].astype(np.int64))
    loss = 0.0
    for rows in [slice(0, size)] if on_gpu else [slice(0, size // 2), slice(size // 2, size)]:
        with autocast:
            part = check.loss(**batch(0, rows), **corruption(masked[rows], replaced[rows]))
        part = part * ((rows.stop - rows.start) / size)
        part.backward()
        loss += part.item()
    # In f64: PyTorch's own sum of squares over tables of this size is off in the fourth digit.
    norm = sum(p.grad.double().square().sum() for p in check.parameters()).sqrt().item()
    del check, tensors

    prepared = [batch(i) for i in range(batches)]
    codes = [now["codes"]["behaviour"].cpu() for now in prepared]
    optimiser = optimiser_of(model, training["optimiser"])
    parameters = list(model.parameters())
    loss_of = torch.compile(model.loss) if "--compile" in sys.argv else model.loss
    schedule, clip = training["schedule"], training["optimiser"]["clip_norm"]
    update = 0

    def updates(n: int) -> int:
        nonlocal update
        for _ in range(n):
            now, true = prepared[update % batches], codes[update % batches]
            update += 1
            u, warm_up = max(update, 1), max(schedule["warmup"], 1)
            rise = schedule["start"] + (schedule["rate"] - schedule["start"]) * u / warm_up
            rate = rise if u <= warm_up else schedule["rate"] * (warm_up / u) ** 0.5
            for group in optimiser.param_groups:
                group["lr"] = rate
            drawn = corruption(*corrupted(tries["behaviour"], true, transfer["mask_ratio"], transfer["replace_ratio"]))
            optimiser.zero_grad(set_to_none=True)
            with autocast:
                value = loss_of(**now, **drawn)
            value.backward()
            if clip > 0:
                torch.nn.utils.clip_grad_norm_(parameters, clip)
            optimiser.step()
        wait(device)
        return n

    updates(WARM_UP)
    ready = {"loss": loss, "gradient_norm": norm, "gemm_gflops": gemm_gflops(device), "torch": torch.__version__}
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    serve(ready, lambda: updates(settings["steps"]), torch.cuda.max_memory_allocated if on_gpu else None)


if __name__ == "__main__":
    main()
