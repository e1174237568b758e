"""Executes a notebook from top to bottom and writes it with its outputs: `python execute.py IN.ipynb OUT.ipynb`.

What differs from one machine or hour to the next is left out, so that the file can be kept: times, the interpreter's version,
what libraries say on standard error."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    notebook = nbformat.read(source, as_version=4)
    client = NotebookClient(notebook, timeout=600, record_timing=False, resources={"metadata": {"path": target.parent}})
    try:
        client.execute()
    except CellExecutionError as error:
        sys.exit(f"{source}: a cell failed\n{error}")
    notebook.metadata["language_info"] = {"name": "python"}
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.write(notebook, target)
    print(f"{len(cells)} cells executed: {target}")


main()
