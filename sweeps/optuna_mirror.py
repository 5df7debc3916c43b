"""Ended cells as trials in an Optuna storage, one each. A mirror: nothing is ever read back from it.

Trials are only added finished, never left running, so the storage needs no repair; if it is lost, it is filled again.
Optuna never changes a finished trial: where a cell ended anew, its study is deleted and filled again.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import distribution_to_json
from optuna.exceptions import OptunaError
from optuna.storages import RDBStorage
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from sweeps.definition import Study
from sweeps.trials import SearchRow, distributions, quiet, trial_of
from sweeps.view import ENDED
from syncvis.errors import StorageError

SCHEMA = "optuna"
# Names the lock of this mirror among the advisory locks of a PostgreSQL database.
_LOCK = 0x53796E63


def mirror(studies: Sequence[tuple[Study, Sequence[SearchRow]]], url: str) -> int:
    """Make each study in the storage the ended cells of the rows, one trial each; returns how many were added.

    A trial begins and ends when the last attempt of its cell did. It carries ``cell_hash``, ``seed``, ``state``,
    ``attempt``, ``run_dir`` and ``number``, the trial number that users see; Optuna's own counts from 0 in the order
    of adding. As cells end, trials are only added; a study is filled again when a cell of it is tried again or its
    space has changed.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql+psycopg://...``.

    Raises:
        StorageError: The storage cannot be used; the text names it without its password.
    """
    place = _parsed(url)
    with quiet(), _named_errors(place), _alone(place):
        storage = RDBStorage(storage_url(url))
        try:
            return sum(_bring_up_to_date(storage, study, rows) for study, rows in studies)
        finally:
            storage.remove_session()
            storage.engine.dispose()


def storage_url(url: str) -> str:
    """Where the studies are: in PostgreSQL in a schema of their own, as the ledger has a table ``studies``, too."""
    place = _parsed(url)
    if place.get_backend_name() == "postgresql":
        place = place.update_query_dict({"options": f"-csearch_path={SCHEMA}"})
    return place.render_as_string(hide_password=False)


def _bring_up_to_date(storage: RDBStorage, study: Study, rows: Sequence[SearchRow]) -> int:
    space = distributions(study)
    ended = [row for row in rows if row.state in ENDED and study.holds(row.axes)]
    wanted = {_identity(row.attributes): row for row in ended}
    told = _study(storage, study.name)
    described = {axis: distribution_to_json(shape) for axis, shape in space.items()}
    known = [_identity(trial.user_attrs) for trial in told.get_trials(deepcopy=False)]
    same_space = told.user_attrs.get("space", described) == described
    if not same_space or len(set(known)) < len(known) or not wanted.keys() >= set(known):
        optuna.delete_study(study_name=study.name, storage=storage)
        told, known = _study(storage, study.name), []
    if "space" not in told.user_attrs:
        told.set_user_attr("space", described)
    missing = [wanted[identity] for identity in wanted.keys() - set(known)]
    for row in sorted(missing, key=lambda row: row.number or 0):
        told.add_trial(trial_of(study, row, space))
    return len(missing)


def _identity(attributes: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells one end of a cell from another."""
    return tuple(attributes.get(name) for name in ("cell_hash", "state", "number", "attempt", "run_dir"))


def _study(storage: RDBStorage, name: str) -> optuna.Study:
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)


@contextmanager
def _alone(place: sa.URL) -> Iterator[None]:
    """One process at a time mirrors into this storage, so that no trial is added twice."""
    if place.get_backend_name() == "postgresql":
        engine = sa.create_engine(place, poolclass=sa.NullPool)
        # The lock ends with the connection, even of a process that is killed.
        with engine.connect() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_lock(_LOCK)))
            connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
            connection.commit()
            yield
    else:
        file = Path(str(place.database))
        file.parent.mkdir(parents=True, exist_ok=True)
        with Path(f"{file}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _parsed(url: str) -> sa.URL:
    """Its parts; an error does not repeat the text, which may hold a password."""
    try:
        place = sa.make_url(url)
    except ArgumentError:
        place = None
    if place is None or place.get_backend_name() not in ("sqlite", "postgresql") or not place.database:
        fix = "give sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
        raise StorageError("is no SQLite file or PostgreSQL database", file="Optuna storage", fix=fix)
    return place


@contextmanager
def _named_errors(place: sa.URL) -> Iterator[None]:
    try:
        yield
    except (OptunaError, SQLAlchemyError, OSError, ImportError) as error:
        problem = (str(error) or type(error).__name__).splitlines()[0]
        problem = problem.replace(str(place.password), "***") if place.password else problem
        name = place.render_as_string(hide_password=True).removeprefix("sqlite:///")
        on_file = place.get_backend_name() == "sqlite"
        fix = "delete it: the next sweep fills it again from the ledger" if on_file else "check that the server runs"
        raise StorageError(problem, file=name, fix=fix) from None
