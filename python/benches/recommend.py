"""Users a second from Python beside those of the command, on the same bundle and users.

    python python/benches/recommend.py BUNDLE --command target/release/eager

The command's figure is its own, from the first user to the last list: reading JSON lines, writing Parquet, without loading
the bundle. Python's is of one call with lists of ids, and of one with an Arrow column. The two take turns."""

import argparse
import json
import random
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import pyarrow as pa

import eager_rec


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("bundle", type=Path)
    arguments.add_argument("--command", default="eager", help="the program eager [default: eager]")
    arguments.add_argument("--users", type=int, default=20_000, help="[default: 20000]")
    arguments.add_argument("--rounds", type=int, default=5, help="[default: 5]")
    arguments = arguments.parse_args()

    bundle = eager_rec.Bundle.load(arguments.bundle)
    draw, ids = random.Random(7), bundle.item_ids
    histories = [draw.choices(ids, k=draw.randint(3, 20)) for _ in range(arguments.users)]
    column = pa.array(histories)
    rates = {"command": [], "lists": [], "arrow": []}
    with tempfile.TemporaryDirectory() as folder:
        users = Path(folder, "users.jsonl")
        users.write_text("".join(json.dumps({"user": str(u), "history": h}) + "\n" for u, h in enumerate(histories)))
        for _ in range(arguments.rounds):
            out = Path(folder, "lists.parquet")
            command = [arguments.command, "recommend", arguments.bundle, "--users", users, "--out", out, "--force"]
            log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
            rates["command"].append(float(re.findall(r"(\d+) users/s", log)[-1]))
            for form, given in (("lists", histories), ("arrow", column)):
                start = time.perf_counter()
                bundle.recommend(given).to_arrow()
                rates[form].append(len(histories) / (time.perf_counter() - start))
    print(f"{bundle!r}, {arguments.users} users, {bundle.threads} threads, median of {arguments.rounds} rounds")
    for form, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(values, rates["command"]))
        print(f"{form:8} {statistics.median(values):8.0f} users/s   {ratio:.2f} of the command")


main()
