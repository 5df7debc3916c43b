"""``syncvis report``: tables, figures and the HTML report from the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# `add_typer(app, name="report")` makes one command of this group without commands; options may follow ids.
app = typer.Typer(context_settings={"allow_interspersed_args": True}, subcommand_metavar="", add_completion=False)


@app.callback(invoke_without_command=True)
def report(
    experiment: Annotated[
        list[str] | None,
        typer.Argument(metavar="EXPERIMENT", help="Ids; all in the ledger if none is given."),
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="smoke, small or paper; else each experiment's largest with results.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Output folder; holds ledger.db and gets report/.")] = Path("outputs"),
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="SYNCVIS_STORAGE",
            help="postgresql://... of a sweep on many machines; default: OUT/ledger.db.",
            show_envvar=True,
            show_default=False,
        ),
    ] = None,
    experiments: Annotated[
        Path, typer.Option(help="Folder of experiment files, which say how tables are laid out; need not exist.")
    ] = Path("experiments"),
) -> None:
    """Write tables (Markdown, LaTeX, CSV, HTML), figures and one HTML report; print the tables."""
    # Loaded here, so that `syncvis --help` does not wait for pandas and matplotlib.
    from analysis.choice import find_experiments
    from analysis.render import markdown
    from analysis.report import sections, write_report
    from analysis.trials import load_trials
    from syncvis.errors import ConfigError

    trials = load_trials(storage or out / "ledger.db")
    chosen = find_experiments(trials, experiments, experiment or (), scale)
    if not chosen:
        where = f" at scale {scale}" if scale else ""
        fix = "plan and run one with `syncvis sweep run EXPERIMENT`"
        raise ConfigError(f"holds no experiment{where}", file=trials.place, fix=fix)
    parts = sections(trials, chosen)
    for part in parts:
        typer.echo(f"{markdown(part.sheet)}\n{part.verdict}\n")
    page, *files = write_report(parts, out)
    typer.echo(f"report  {page}")
    for name, suffixes in (("tables", (".md", ".tex", ".csv", ".html")), ("figures", (".png", ".svg"))):
        written = sum(path.suffix in suffixes for path in files)
        typer.echo(f"{name:7} {page.parent / name} ({written} files: {', '.join(s[1:] for s in suffixes)})")
