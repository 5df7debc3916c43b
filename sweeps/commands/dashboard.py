"""``syncvis sweep dashboard``: Optuna's dashboard over a copy of the ledger."""

from __future__ import annotations

from typing import Annotated

import typer

from sweeps.commands.options import OUT, Out, Storage, open_ledger
from syncvis.errors import ConfigError, MissingDependencyError

LOOPBACK = "127.0.0.1"


def dashboard(
    out: Out = OUT,
    storage: Storage = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = LOOPBACK,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    open_to_all: Annotated[bool, typer.Option("--open-to-all", help="Allow another address than loopback.")] = False,
) -> None:
    """Serve Optuna's dashboard until Ctrl-C, for this machine only unless told otherwise.

    It shows a copy of the ledger, in which nothing can be changed, and answers only its own pages. It has no login:
    with --open-to-all, whoever reaches the machine sees the results.
    """
    from sweeps.choosing import rows_by_study
    from sweeps.dashboard import REFRESH_SECONDS, Address, Dashboard, door, serve

    address = Address(host, port)
    if not address.is_loopback and not open_to_all:
        problem = "would let everybody who reaches this machine see the results: the dashboard has no login"
        fix = f"use an SSH tunnel (ssh -L {port}:127.0.0.1:{port} MACHINE), or add --open-to-all"
        raise ConfigError(problem, key=f"--host {host}", fix=fix)
    try:
        import optuna_dashboard  # noqa: F401
    except ImportError:
        fix = "in a clone: pip install -e '.[dashboard]'"
        raise MissingDependencyError("optuna-dashboard is missing", fix=fix) from None
    view = open_ledger(out, storage).view
    shown = Dashboard(lambda: rows_by_study(view, None), view.place)
    reach = "this machine only" if address.is_loopback else "EVERYBODY who reaches this machine, without a login"
    typer.echo(f"{address.url} ({reach}); Ctrl-C ends it")
    renewal = f"a request that finds it older than {REFRESH_SECONDS:g} s has a new one taken"
    typer.echo(f"a copy of {view.place}, taken {shown.taken}, read-only; {renewal}")
    serve(door(shown, address), address)
