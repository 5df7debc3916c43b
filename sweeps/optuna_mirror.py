"""Finished cells as trials in an Optuna storage, for its dashboard. A mirror: nothing is ever read back from it.

Trials are only added finished, never left running, so the storage needs no repair; if it is lost, it is filled again.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import OptunaError
from optuna.storages import RDBStorage
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from sweeps.definition import Study
from sweeps.trials import SearchRow, distributions, quiet, trial_of
from sweeps.view import ENDED
from syncvis.errors import StorageError

# Names the lock of this mirror among the advisory locks of a PostgreSQL database.
_LOCK = 0x53796E63


def mirror(studies: Sequence[tuple[Study, Sequence[SearchRow]]], url: str) -> int:
    """Add each finished cell to its study in the storage as one trial; returns how many were new.

    A trial carries ``cell_hash``, ``seed``, ``number`` (the trial number that users see), ``state`` and ``run_dir``. A
    cell that was given up or stopped, and finished later, is two trials, as a finished trial cannot be changed. A
    study whose space has changed is built anew.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql+psycopg://...``.

    Raises:
        StorageError: The storage cannot be used; the text names it without its password.
    """
    place = _parsed(url)
    with quiet(), _named_errors(place), _alone(place):
        storage = RDBStorage(url)
        try:
            return sum(_add(storage, study, rows) for study, rows in studies)
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _add(storage: RDBStorage, study: Study, rows: Sequence[SearchRow]) -> int:
    space = distributions(study)
    told = _study(storage, study.name, space)
    known = {_identity(trial.user_attrs) for trial in told.get_trials(deepcopy=False)}
    added = 0
    for row in sorted(rows, key=lambda row: row.position):
        place = {"number": row.number, "run_dir": row.run_dir}
        attrs = {"cell_hash": row.hash, "seed": row.seed, "state": row.state, **place}
        if row.state in ENDED and study.holds(row.axes) and _identity(attrs) not in known:
            told.add_trial(trial_of(study, row, space, attrs))
            added += 1
    return added


def _identity(attrs: Mapping[str, object]) -> tuple[object, object]:
    return attrs.get("cell_hash"), attrs.get("state")


def _study(storage: RDBStorage, name: str, space: Mapping[str, BaseDistribution]) -> optuna.Study:
    """The study of this name; dropped and begun anew when it was made for another space."""
    described = {axis: distribution_to_json(shape) for axis, shape in space.items()}
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    if study.user_attrs.get("space", described) != described:
        optuna.delete_study(study_name=name, storage=storage)
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    if "space" not in study.user_attrs:
        study.set_user_attr("space", described)
    return study


@contextmanager
def _alone(place: sa.URL) -> Iterator[None]:
    """One process at a time mirrors into this storage, so that no trial is added twice."""
    if place.get_backend_name() == "postgresql":
        engine = sa.create_engine(place, poolclass=sa.NullPool)
        # The lock ends with the connection, even of a process that is killed.
        with engine.connect() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_lock(_LOCK)))
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
