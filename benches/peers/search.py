"""Beam search in both trees, cached: the encoder once a history, keys and values of histories once a layer, those of prefixes
kept from step to step. Nothing outside of the trees is scored; the log-probability of a code is its confidence, and both
streams' lists are merged by it.
"""

import sys

import numpy as np
import torch
from torch import Tensor

from model import STREAMS, Eager, build, padded
from protocol import load, serve

USERS = 16  # of a chunk; 8 to 64 took the same time within 7 %


def beam_search(
    model: Eager, stream: str, memory: Tensor, mask: Tensor | None, beams: int
) -> tuple[Tensor, Tensor]:
    """The best leaves of each history and their log-probabilities, best first: both `[b, beams]`."""
    stack, trie = getattr(model, stream), model.tries[stream]
    b = len(memory)
    batch = torch.arange(b)[:, None]
    memories = [block.split(block.kv(memory), 2) for block in stack.blocks]
    past: list[list[Tensor]] = [[] for _ in stack.blocks]  # keys and values [b, beams, steps, heads, 2·width]
    nodes = torch.zeros(b, 1, dtype=torch.int64)
    total, parents = torch.zeros(b, 1), None
    for level in range(trie.levels):
        n = nodes.shape[1]
        x = stack.norm(stack.tokens[nodes] + stack.positions[level])
        for block, kept, kv in zip(stack.blocks, past, memories):
            q, *new = block.qkv(x).view(b, n, 3, block.heads, -1).unbind(2)
            for i, now in enumerate(new):
                now = now[:, :, None]
                if parents is None:
                    kept.append(now)
                else:
                    kept[i] = torch.cat([kept[i][batch, parents], now], 2)
            # One query for each prefix, over at most as many keys as levels.
            scores = (q[:, :, None] * kept[0]).sum(-1) * q.shape[-1] ** -0.5
            mixed = (scores.softmax(2)[..., None] * kept[1]).sum(2)
            x = block.after_attention(x, mixed.flatten(2))
            x = block.after_cross(x, kv, mask)
        logits, _ = model.level_logits(stream, x.flatten(0, 1), nodes.flatten(), level)
        width = logits.shape[1]
        scores = (total[:, :, None] + logits.log_softmax(1).view(b, n, width)).flatten(1)
        total, best = scores.topk(min(beams, scores.shape[1]), dim=1)
        parents = best // width
        nodes = trie.children[nodes[batch, parents]] + best % width
        # Beams that there are none for, in small trees: any node will do, their log-probability is -∞.
        nodes = nodes.clamp(max=trie.nodes - 1)
    return nodes, total


@torch.inference_mode()
def recommend(model: Eager, history: Tensor, mask: Tensor | None, infer: dict, top: int) -> Tensor:
    """The `top` best items for each history, `[b, top]`."""
    memory = model.encode(history, mask)
    best = torch.full((len(history), len(model.tries["behaviour"].paths)), float("-inf"))
    for stream in STREAMS:
        nodes, scores = beam_search(model, stream, memory, mask, infer["beams"])
        keep = max(infer["top_k"], top)
        items = model.tries[stream].items[nodes[:, :keep]]
        best.scatter_reduce_(1, items, scores[:, :keep], "amax")
    return best.topk(top, dim=1).indices


def main() -> None:
    settings, tensors = load(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    assert settings["infer"]["ranking"] == "confidence" and not settings["infer"]["mask_history"]
    model = build(settings, tensors).eval()
    items, offsets = tensors["histories/items"], tensors["histories/offsets"].astype(np.int64)

    def lists(users: int) -> list[list[int]]:
        found = []
        for start in range(0, users, USERS):
            span = offsets[start : min(start + USERS, users) + 1]
            found += recommend(model, *padded(items, span), settings["infer"], settings["top"]).tolist()
        return found

    users = len(offsets) - 1

    def round_() -> int:
        lists(users)
        return users

    serve({"lists": lists(settings["checked"])}, round_)


if __name__ == "__main__":
    main()
