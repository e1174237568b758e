"""The generator of `eager-model` in PyTorch, for the `paper` configuration: the same parameters, post-norm blocks, padded
batches with masks, one fused projection for queries, keys and values, and `scaled_dot_product_attention`.

A level's logits are products with the children of each prefix alone, as many as there are, padded only for the softmax
("children"): on a CPU the fastest of three natural ways. A compiled loss there takes children padded to the level's widest node
before the product ("padded"), whose shapes do not change from batch to batch. On a GPU, where the number of children would have
to be waited for, all logits of a level are computed, under a mask ("level").
"""

import re
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

STREAMS = ("behaviour", "semantic")
EPS = 1e-5


class Trie:
    """A stream's code tree: nodes numbered breadth first, so that the children of a node are neighbours."""

    def __init__(self, paths: np.ndarray, children: np.ndarray, device: str):
        self.paths = torch.from_numpy(paths.astype(np.int64))  # [items, levels]
        self.children = torch.from_numpy(children.astype(np.int64))  # [nodes + 1]: first child
        self.nodes = len(children) - 1
        self.levels = self.paths.shape[1]
        counts = self.children.diff()
        starts, end = [0], 1
        while end < self.nodes:
            starts.append(end)
            end = int(self.children[end])
        starts.append(self.nodes)
        self.starts = starts  # first node of every level, and the number of nodes
        # Most children of a node, by the node's level.
        self.widest = [int(counts[a:b].max()) for a, b in zip(starts, starts[1:])][: self.levels]
        self.items = torch.full((self.nodes,), -1, dtype=torch.int64)
        self.items[self.paths[:, -1]] = torch.arange(len(self.paths))
        self.paths, self.children, self.items = (x.to(device) for x in (self.paths, self.children, self.items))

    def flat(self, parents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All children of `parents` `[n]` end to end: row of the parent, place among siblings, node; each `[children]`."""
        first = self.children[parents]
        counts = self.children[parents + 1] - first
        rows = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        places = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
        return rows, places, first[rows] + places

    def padded(self, parents: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Children of `parents` at `level` `[n]`, padded, and which of them there are: both `[n, widest]`."""
        first, end = self.children[parents], self.children[parents + 1]
        ids = first[:, None] + torch.arange(self.widest[level], device=parents.device)
        return ids.clamp(max=self.nodes - 1), ids < end[:, None]


class Block(nn.Module):
    """`x ← LN(x + sublayer(x))` for self-attention, cross-attention where there is one, and the feed-forward."""

    def __init__(self, config: dict[str, Any], cross: bool):
        super().__init__()
        d, self.heads, self.p, self.cross = config["d_model"], config["heads"], config["dropout"], cross
        self.qkv, self.attended, self.attention_norm = nn.Linear(d, 3 * d), nn.Linear(d, d), nn.LayerNorm(d, EPS)
        if cross:
            self.q, self.kv = nn.Linear(d, d), nn.Linear(d, 2 * d)
            self.cross_attended, self.cross_norm = nn.Linear(d, d), nn.LayerNorm(d, EPS)
        self.inner, self.outer = nn.Linear(d, config["feed_forward"]), nn.Linear(config["feed_forward"], d)
        self.norm = nn.LayerNorm(d, EPS)

    def split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """`[b, n, parts·d]` to `parts` times `[b, heads, n, d / heads]`."""
        b, n, width = x.shape
        return x.view(b, n, parts, self.heads, width // parts // self.heads).permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
        p = self.p if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p, is_causal=causal)
        return x.transpose(1, 2).flatten(2)

    def after_attention(self, x: Tensor, mixed: Tensor) -> Tensor:
        return self.attention_norm(x + F.dropout(self.attended(mixed), self.p, self.training))

    def after_cross(self, x: Tensor, kv: tuple[Tensor, ...] | None, mask: Tensor | None) -> Tensor:
        if kv is not None:
            (q,) = self.split(self.q(x), 1)
            mixed = self.attend(q, *kv, mask)
            x = self.cross_norm(x + F.dropout(self.cross_attended(mixed), self.p, self.training))
        inner = F.gelu(self.inner(x), approximate="tanh")
        return self.norm(x + F.dropout(self.outer(inner), self.p, self.training))

    def forward(
        self, x: Tensor, mask: Tensor | None, causal: bool, memory: Tensor | None, memory_mask: Tensor | None
    ) -> Tensor:
        x = self.after_attention(x, self.attend(*self.split(self.qkv(x), 3), mask, causal))
        kv = None if memory is None else self.split(self.kv(memory), 2)
        return self.after_cross(x, kv, memory_mask)


class Stack(nn.Module):
    """Embedded rows, then blocks."""

    def __init__(self, config: dict[str, Any], positions: int, layers: int, cross: bool):
        super().__init__()
        self.p = config["dropout"]
        self.positions = nn.Parameter(torch.empty(positions, config["d_model"]))
        self.norm = nn.LayerNorm(config["d_model"], EPS)
        self.blocks = nn.ModuleList(Block(config, cross) for _ in range(layers))

    def embed(self, table: Tensor, ids: Tensor, positions: Tensor) -> Tensor:
        return F.dropout(self.norm(F.embedding(ids, table) + positions), self.p, self.training)


class Eager(nn.Module):
    """The generator with its losses."""

    def __init__(self, config: dict[str, Any], tries: dict[str, Trie], dims: dict[str, int]):
        super().__init__()
        expected = {
            "items": "shared", "normalise_summary": False, "guide": "summary", "detach_guide": False,
        }
        found = {key: config[key] for key in expected}
        assert found == expected, f"this peer is the paper configuration, {expected}, not {found}"
        d, self.tries, self.logits = config["d_model"], tries, "children"
        items, levels = tries["behaviour"].paths.shape
        self.encoder = Stack(config, config["window"] - 1, config["encoder_layers"], False)
        self.encoder.items = nn.Parameter(torch.empty(items, d))
        for stream, specials in zip(STREAMS, (3, 1)):
            decoder = Stack(config, tries[stream].levels + 2, config["decoder_layers"], True)
            decoder.tokens = nn.Parameter(torch.empty(tries[stream].nodes + specials, d))
            decoder.projection = nn.Linear(d, dims[stream])
            self.add_module(stream, decoder)
        self.transfer = Stack(config, levels + 1, config["transfer_layers"], True)
        self.transfer.guide, self.transfer.recognise = nn.Linear(d, d), nn.Linear(d, 1)

    def load(self, tensors: dict[str, np.ndarray]) -> None:
        """Takes the weights of a workload."""
        renamed = {}
        for name, value in tensors.items():
            if name.startswith("weights/"):
                name = re.sub(r"^(\w+)\.(\d+)\.", r"\1.blocks.\2.", name.removeprefix("weights/"))
                for ours, here in (
                    (".self.norm", ".attention_norm"), (".self.", "."),
                    (".cross.attended", ".cross_attended"), (".cross.norm", ".cross_norm"), (".cross.", "."),
                ):
                    name = name.replace(ours, here)
                renamed[name] = torch.from_numpy(value)
        self.load_state_dict(renamed)

    def encode(self, history: Tensor, mask: Tensor | None) -> Tensor:
        """`history` `[b, n]`, padded on the left; positions count from the newest item."""
        stack = self.encoder
        x = stack.embed(stack.items, history, stack.positions[: history.shape[1]].flip(0))
        for block in stack.blocks:
            x = block(x, mask, False, None, None)
        return x

    def decode(self, stream: str, memory: Tensor, mask: Tensor | None, codes: Tensor) -> tuple[Tensor, Tensor]:
        """States that predict the tokens `[b, levels, d]`, and the summary's `[b, d]`."""
        stack, trie = getattr(self, stream), self.tries[stream]
        start, summary = codes.new_zeros(len(codes), 1), codes.new_full((len(codes), 1), trie.nodes)
        x = stack.embed(stack.tokens, torch.cat([start, codes, summary], 1), stack.positions)
        for block in stack.blocks:
            x = block(x, None, True, memory, mask)
        return x[:, : trie.levels], x[:, -1]

    def level_logits(self, stream: str, hidden: Tensor, parents: Tensor, level: int) -> tuple[Tensor, Tensor | int]:
        """Logits of the children of `parents` `[n]` from `hidden` `[n, d]`: `[n, nodes]`, -∞ where there is none or it is
        another's child; and the first column's node, of each row or of all."""
        tokens, trie = getattr(self, stream).tokens, self.tries[stream]
        begin, end = trie.starts[level + 1], trie.starts[level + 2]
        if level == 0:
            return hidden @ tokens[begin:end].T, begin
        first = trie.children[parents]
        if self.logits == "level":
            nodes = torch.arange(begin, end, device=parents.device)
            there = (nodes >= first[:, None]) & (nodes < trie.children[parents + 1][:, None])
            return (hidden @ tokens[begin:end].T).masked_fill(~there, float("-inf")), begin
        if self.logits == "padded":
            ids, there = trie.padded(parents, level)
            logits = torch.bmm(F.embedding(ids, tokens), hidden[:, :, None]).squeeze(2)
            return logits.masked_fill(~there, float("-inf")), first
        rows, places, nodes = trie.flat(parents)
        logits = (F.embedding(rows, hidden) * F.embedding(nodes, tokens)).sum(1)
        out = hidden.new_full((len(hidden), trie.widest[level]), float("-inf"))
        return out.index_put((rows, places), logits), first

    def code_loss(self, stream: str, hidden: Tensor, codes: Tensor, rows: list[Tensor] | None = None) -> Tensor:
        """Summed cross-entropy of codes `[b, levels]`, of all rows or of given ones at each level."""
        parents = torch.cat([codes.new_zeros(len(codes), 1), codes[:, :-1]], 1)
        total = hidden.new_zeros(())
        for level in range(codes.shape[1]):
            of = slice(None) if rows is None else rows[level]
            logits, first = self.level_logits(stream, hidden[:, level][of], parents[:, level][of], level)
            total = total + F.cross_entropy(logits, codes[:, level][of] - first, reduction="sum")
        return total

    def loss(
        self,
        history: Tensor,
        mask: Tensor | None,
        codes: dict[str, Tensor],
        vectors: dict[str, Tensor],
        masked: Tensor,
        masked_rows: list[Tensor],
        replaced: Tensor,
    ) -> Tensor:
        """`L_gen + L_con + L_recon + L_recog`. `masked` `[b, levels]` says which behaviour tokens are hidden, `masked_rows`
        the same by level, `replaced` `[b, levels]` are the negatives of the recognition."""
        memory = self.encode(history, mask)
        total, summary = memory.new_zeros(()), memory
        for stream in STREAMS:
            hidden, summary = self.decode(stream, memory, mask, codes[stream])
            total = total + self.code_loss(stream, hidden, codes[stream]) / len(history)
            total = total + F.smooth_l1_loss(getattr(self, stream).projection(summary), vectors[stream])
        # The last summary is the semantic stream's.
        return total + self.transfer_loss(summary, codes["behaviour"], masked, masked_rows, replaced)

    def transfer_loss(
        self, summary: Tensor, codes: Tensor, masked: Tensor, masked_rows: list[Tensor], replaced: Tensor
    ) -> Tensor:
        stack, tokens = self.transfer, self.behaviour.tokens
        n, nodes = len(codes), self.tries["behaviour"].nodes
        cls, mask_token = nodes + 1, nodes + 2
        all_codes = torch.cat([codes.masked_fill(masked, mask_token), codes, replaced])
        ids = torch.cat([codes.new_full((3 * n, 1), cls), all_codes], 1)
        guide = stack.guide(summary).repeat(3, 1)[:, None]  # [3·b, 1, d]
        x = stack.embed(tokens, ids, stack.positions)
        for block in stack.blocks:
            x = block(x, None, False, guide, None)
        rebuilt = self.code_loss("behaviour", x[:n, 1:], codes, masked_rows) / sum(map(len, masked_rows))
        logits = stack.recognise(x[n:, 0]).squeeze(1)
        labels = torch.cat([logits.new_ones(n), logits.new_zeros(n)])
        return rebuilt + F.binary_cross_entropy_with_logits(logits, labels)


def build(
    settings: dict[str, Any], tensors: dict[str, np.ndarray], dropout: float | None = None, device: str = "cpu"
) -> Eager:
    """The model of a workload, with its weights."""
    config = settings["model"] if dropout is None else {**settings["model"], "dropout": dropout}
    tries = {s: Trie(tensors[f"paths/{s}"], tensors[f"children/{s}"], device) for s in STREAMS}
    dims = {s: tensors[f"vectors/{s}"].shape[1] for s in STREAMS}
    model = Eager(config, tries, dims)
    model.load(tensors)
    return model.to(device)


def padded(items: np.ndarray, offsets: np.ndarray) -> tuple[Tensor, Tensor | None]:
    """Histories `[b, longest]`, padded on the left, and a mask over keys `[b, 1, 1, longest]` unless all are of a length."""
    lengths = np.diff(offsets)
    longest = int(lengths.max())
    there = np.arange(longest)[None] >= (longest - lengths)[:, None]
    history = np.zeros(there.shape, np.int64)
    history[there] = items[offsets[0] : offsets[-1]]
    mask = None if there.all() else torch.from_numpy(there)[:, None, None]
    return torch.from_numpy(history), mask
