"""Updates of the generator in PyTorch: forward, backward, clipping and fused AdamW. `--compile` compiles the loss."""

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


def gemm_gflops() -> float:
    """Rate of single-precision products of 2,048³, the best of a few."""
    n, best = 2048, 0.0
    a = torch.ones(n, n)
    for _ in range(6):
        begin = time.perf_counter()
        a @ a
        best = max(best, 2 * n**3 / (time.perf_counter() - begin) / 1e9)
    return best


def main() -> None:
    settings, tensors = load(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    training, transfer = settings["training"], settings["losses"]["transfer"]
    model = build(settings, tensors)
    tries = model.tries
    vectors = {s: torch.from_numpy(tensors[f"vectors/{s}"]) for s in STREAMS}
    items, offsets = tensors["batches/items"], tensors["batches/offsets"].astype(np.int64)
    targets = torch.from_numpy(tensors["batches/targets"].astype(np.int64))  # [batches, b]
    batches, size = targets.shape

    def batch(i: int, rows: slice = slice(None)) -> dict:
        span = range(size)[rows]
        history, mask = padded(items, offsets[i * size + span.start : i * size + span.stop + 1])
        wanted = targets[i, rows]
        return {
            "history": history,
            "mask": mask,
            "codes": {s: tries[s].paths[wanted] for s in STREAMS},
            "vectors": {s: vectors[s][wanted] for s in STREAMS},
        }

    # The first batch in two halves, as ours, without dropout and with the same masks.
    check = build(settings, tensors, dropout=0.0)
    masked = torch.from_numpy(tensors["check/masked"].astype(bool))
    replaced = torch.from_numpy(tensors["check/replaced"].astype(np.int64))
    loss = 0.0
    for rows in (slice(0, size // 2), slice(size // 2, size)):
        half = check.loss(
            **batch(0, rows), masked=masked[rows], masked_rows=by_level(masked[rows]), replaced=replaced[rows]
        ) * 0.5
        half.backward()
        loss += half.item()
    # In f64: PyTorch's own sum of squares over tables of this size is off in the fourth digit.
    norm = sum(p.grad.double().square().sum() for p in check.parameters()).sqrt().item()
    del check, tensors

    prepared = [batch(i) for i in range(batches)]
    optimiser = optimiser_of(model, training["optimiser"])
    parameters = list(model.parameters())
    loss_of = model.loss
    if "--compile" in sys.argv:
        model.static = True
        loss_of = torch.compile(model.loss)
    schedule, clip = training["schedule"], training["optimiser"]["clip_norm"]
    update = 0

    def updates(n: int) -> int:
        nonlocal update
        for _ in range(n):
            now = prepared[update % batches]
            update += 1
            u, warm_up = max(update, 1), max(schedule["warmup"], 1)
            rise = schedule["start"] + (schedule["rate"] - schedule["start"]) * u / warm_up
            rate = rise if u <= warm_up else schedule["rate"] * (warm_up / u) ** 0.5
            for group in optimiser.param_groups:
                group["lr"] = rate
            masked, replaced = corrupted(
                tries["behaviour"], now["codes"]["behaviour"], transfer["mask_ratio"], transfer["replace_ratio"]
            )
            optimiser.zero_grad(set_to_none=True)
            loss_of(**now, masked=masked, masked_rows=by_level(masked), replaced=replaced).backward()
            if clip > 0:
                torch.nn.utils.clip_grad_norm_(parameters, clip)
            optimiser.step()
        return n

    updates(WARM_UP)
    ready = {"loss": loss, "gradient_norm": norm, "gemm_gflops": gemm_gflops(), "torch": torch.__version__}
    serve(ready, lambda: updates(settings["steps"]))


if __name__ == "__main__":
    main()
