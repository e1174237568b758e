"""Recommending as the authors' code does, on our model: the history is repeated for every beam, encoded anew with it at every
step, and the whole prefix is decoded anew; all logits of a level are computed and masked. The union of both streams' lists is
then scored by both decoders and ranked by the sum of their log-probabilities.
"""

import sys

import numpy as np
import torch
from torch import Tensor

from model import STREAMS, Eager, build, padded
from protocol import load, serve

USERS = 4  # of a chunk, which is 400 histories with 100 beams


def next_scores(
    model: Eager, stream: str, history: Tensor, mask: Tensor | None, prefixes: Tensor
) -> Tensor:
    """Log-probabilities of all nodes of the level after `prefixes` `[b, n, level]`, `[b, n, nodes of the level]`."""
    stack, trie = getattr(model, stream), model.tries[stream]
    b, n, level = prefixes.shape
    memory = model.encode(history.repeat_interleave(n, 0), None if mask is None else mask.repeat_interleave(n, 0))
    mask = None if mask is None else mask.repeat_interleave(n, 0)
    ids = torch.cat([prefixes.new_zeros(b * n, 1), prefixes.flatten(0, 1)], 1)
    x = stack.embed(stack.tokens, ids, stack.positions[: level + 1])
    for block in stack.blocks:
        x = block(x, None, True, memory, mask)
    start, end = trie.starts[level + 1], trie.starts[level + 2]
    logits = x[:, -1] @ stack.tokens[start:end].T
    nodes = torch.arange(start, end)
    first, after = trie.children[ids[:, -1:]], trie.children[ids[:, -1:] + 1]
    logits = logits.masked_fill((nodes < first) | (nodes >= after), float("-inf"))
    return logits.log_softmax(-1).view(b, n, -1)


def beam_search(
    model: Eager, stream: str, history: Tensor, mask: Tensor | None, beams: int
) -> Tensor:
    """The best leaves of each history, best first."""
    trie = model.tries[stream]
    batch = torch.arange(len(history))[:, None]
    prefixes, total = torch.zeros(len(history), 1, 0, dtype=torch.int64), torch.zeros(len(history), 1)
    for level in range(trie.levels):
        scores = next_scores(model, stream, history, mask, prefixes)
        width = scores.shape[-1]
        total, best = (total[:, :, None] + scores).flatten(1).topk(min(beams, scores[0].numel()), dim=1)
        nodes = trie.starts[level + 1] + best % width
        prefixes = torch.cat([prefixes[batch, best // width], nodes[..., None]], 2)
    return prefixes[..., -1]


def score_items(model: Eager, stream: str, history: Tensor, mask: Tensor | None, items: Tensor) -> Tensor:
    """Log-probabilities of the codes of `items` `[b, n]`, by decoding every prefix as above."""
    paths = model.tries[stream].paths[items]  # [b, n, levels]
    total = torch.zeros(items.shape)
    for level in range(paths.shape[2]):
        scores = next_scores(model, stream, history, mask, paths[..., :level])
        own = paths[..., level] - model.tries[stream].starts[level + 1]
        total += scores.gather(2, own[..., None]).squeeze(2)
    return total


@torch.inference_mode()
def recommend(model: Eager, history: Tensor, mask: Tensor | None, infer: dict, top: int) -> list[list[int]]:
    """The `top` best items for each history."""
    lists = []
    for stream in STREAMS:
        nodes = beam_search(model, stream, history, mask, infer["beams"])
        lists.append(model.tries[stream].items[nodes[:, : max(infer["top_k"], top)]])
    items = torch.cat(lists, 1)
    total = sum(score_items(model, stream, history, mask, items) for stream in STREAMS)
    order = total.argsort(1, descending=True)
    return [list(dict.fromkeys(row))[:top] for row in items.gather(1, order).tolist()]


def main() -> None:
    settings, tensors = load(sys.argv[1])
    users = int(sys.argv[2])
    torch.set_num_threads(settings["threads"])
    assert settings["infer"]["ranking"] == "sum" and not settings["infer"]["mask_history"]
    model = build(settings, tensors).eval()
    items, offsets = tensors["histories/items"], tensors["histories/offsets"].astype(np.int64)

    def lists() -> list[list[int]]:
        found = []
        for start in range(0, users, USERS):
            span = offsets[start : min(start + USERS, users) + 1]
            found += recommend(model, *padded(items, span), settings["infer"], settings["top"])
        return found

    def round_() -> int:
        lists()
        return users

    serve({"lists": lists()}, round_)


if __name__ == "__main__":
    main()
