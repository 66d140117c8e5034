"""Try every fault on every domain and write the table: `python -m faults --write PATH`."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import click
from faults.domains import installed
from faults.table import HEAD, line_of, machine, try_domain, with_others
from faults.trials import TRIALS


@click.command()
@click.option("--count", type=click.IntRange(1), default=20, show_default=True, metavar="N",
              help="Random trials of each fault.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--domain", "names", multiple=True, help="Only this domain; may be repeated.")
@click.option("--fault", "only", multiple=True, type=click.Choice([*TRIALS]),
              help="Only this fault; may be repeated.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True,
              help="Domains at once.")  # fmt: skip
@click.option("--write", "target", type=click.Path(path_type=Path), help="Where the table goes.")
def main(
    count: int,
    seed: int,
    names: tuple[str, ...],
    only: tuple[str, ...],
    jobs: int,
    target: Path | None,
) -> None:
    """Try every fault on every installed domain; exits with 1 if anything was lost or left untried.

    With --domain or --fault the other rows of a table that is there stay.
    """
    chosen = [domain.name for domain in installed() if not names or domain.name in names]
    work = partial(try_domain, count=count, seed=seed, only=only)
    rows, broken = [], False
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for name, made in [(name, pool.submit(work, name)) for name in chosen]:
            if error := made.exception():
                click.echo(f"{name} could not be tried: {error}", err=True)
                broken = True
            else:
                rows += made.result()
    if target is not None:
        head = HEAD.format(count=count, seed=seed, machine=machine())
        lines = [line_of(row) for row in rows]
        if names or only:
            lines = with_others(lines, target)
        target.write_text(head + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    sys.exit(1 if broken or any(row.lost for row in rows) else 0)


if __name__ == "__main__":
    main()
