"""Texts to vectors by sentence-transformers on the CPU; it sorts them by length and pads within a batch of its default size."""

import sys

import torch
from sentence_transformers import SentenceTransformer

from protocol import load, serve


def main() -> None:
    settings, _ = load(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    model = SentenceTransformer(settings["encoder"], device="cpu")
    texts = settings["texts"]

    def encode(texts: list[str]):
        return model.encode(texts, normalize_embeddings=True, show_progress_bar=False)

    def round_() -> int:
        encode(texts)
        return len(texts)

    serve({"vectors": encode(texts[: settings["checked"]]).tolist()}, round_)


if __name__ == "__main__":
    main()
