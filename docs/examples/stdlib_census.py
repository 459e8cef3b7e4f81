"""Parse the whole Python standard library in parallel; a table of what is in it.

Run it with no argument on an embedded local cluster, or with the address of a scheduler::

    python docs/examples/stdlib_census.py
    python docs/examples/stdlib_census.py 192.168.0.1:8786
"""

from __future__ import annotations

import ast
import sys
import sysconfig
import time
from pathlib import Path

from twisted_dist import Client, as_completed

BRANCHES = (ast.If, ast.For, ast.While, ast.Try, ast.With, ast.BoolOp, ast.comprehension)


def census(name: str, source: bytes) -> tuple[str, int, int, int, int]:
    """Module name, its lines, functions, imports, and highest complexity of a function."""
    tree = ast.parse(source)
    functions = imports = worst = 0
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            functions += 1
            worst = max(worst, 1 + sum(isinstance(n, BRANCHES) for n in ast.walk(node)))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            imports += len(node.names)
    return name, source.count(b"\n"), functions, imports, worst


def main() -> None:
    """Read here, parse there, print a table."""
    root = Path(sysconfig.get_paths()["stdlib"])
    skipped = {"site-packages", "test", "tests", "lib2to3", "idlelib"}
    files = [p for p in root.rglob("*.py") if not skipped & set(p.relative_to(root).parts)]
    started = time.perf_counter()
    with Client(sys.argv[1] if len(sys.argv) > 1 else None) as client:
        client.wait_for_workers(1, timeout=30)
        names = [str(p.relative_to(root)) for p in files]
        futures = client.map(census, names, [p.read_bytes() for p in files])
        rows = []
        try:
            from tqdm import tqdm

            progress = tqdm(as_completed(futures), total=len(futures), unit="file")
        except ImportError:
            progress = as_completed(futures)
        for future in progress:
            if future.exception() is None:
                rows.append(future.result())
        failed = len(futures) - len(rows)
        where = sum(client.nthreads().values())
    rows.sort(key=lambda row: -row[4])
    print(f"\n{'module':44}{'lines':>8}{'functions':>11}{'imports':>9}{'complexity':>12}")
    for name, lines, functions, imports, worst in rows[:15]:
        print(f"{name:44}{lines:8,}{functions:11,}{imports:9,}{worst:12,}")
    total = [sum(row[i] for row in rows) for i in (1, 2, 3)]
    print(f"{f'all {len(rows):,} modules':44}{total[0]:8,}{total[1]:11,}{total[2]:9,}")
    seconds = time.perf_counter() - started
    print(f"{failed} not parsable; {where} threads, {seconds:.1f} s in all")


if __name__ == "__main__":
    main()
