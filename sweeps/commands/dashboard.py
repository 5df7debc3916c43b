"""``syncvis sweep dashboard``: Optuna's dashboard over the mirror of the ledger."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import typer

from sweeps.commands.options import OUT, Out, Storage, open_ledger
from sweeps.runner import SweepOptions
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

    It has no login. Whoever reaches it can delete studies from the mirror, never cells from the ledger; the next sweep
    fills the mirror again.
    """
    if not _is_loopback(host) and not open_to_all:
        problem = "would let everybody who reaches this machine see and delete studies: the dashboard has no login"
        raise ConfigError(problem, key=f"--host {host}", fix="use an SSH tunnel, or add --open-to-all")
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise MissingDependencyError("optuna-dashboard is missing", fix="pip install 'syncvis[dashboard]'") from None
    from optuna.storages import RDBStorage

    from sweeps.choosing import mirror_to_optuna

    options = SweepOptions(out, storage)
    view = open_ledger(out, storage).view
    mirror_to_optuna(view, None, options.optuna)
    reach = "this machine only" if _is_loopback(host) else "EVERYBODY who reaches this machine, without a login"
    typer.echo(f"http://{host}:{port}/ ({reach}); Ctrl-C ends it")
    run_server(RDBStorage(options.optuna), host=host, port=port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
