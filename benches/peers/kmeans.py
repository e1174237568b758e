"""One k-means from a given start, by scikit-learn (Lloyd, until nothing changes) or faiss (as many iterations)."""

import sys
import warnings
from typing import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from protocol import load, serve


def sklearn(points: np.ndarray, start: np.ndarray, iterations: int) -> Callable[[], float]:
    from sklearn.cluster import KMeans

    def run() -> float:
        means = KMeans(len(start), init=start, n_init=1, max_iter=1000, tol=0.0, algorithm="lloyd", copy_x=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(means.fit(points).inertia_)

    return run


def faiss(points: np.ndarray, start: np.ndarray, iterations: int) -> Callable[[], float]:
    import faiss

    def run() -> float:
        # The search is the last of the assignments, of which there are `iterations`.
        means = faiss.Kmeans(points.shape[1], len(start), niter=iterations - 1, nredo=1, max_points_per_centroid=10**9)
        means.train(points, init_centroids=start)
        return float(means.index.search(points, 1)[0].sum())

    return run


def main() -> None:
    settings, tensors = load(sys.argv[1])
    make = {"sklearn": sklearn, "faiss": faiss}[sys.argv[2]]
    with threadpool_limits(settings["threads"]):
        run = make(tensors["points"], tensors["start"], settings["iterations"])

        def round_() -> int:
            run()
            return 1

        serve({"inertia": run()}, round_)


if __name__ == "__main__":
    main()
