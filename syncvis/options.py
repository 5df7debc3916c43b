"""Options that every command has which carries out runs: the words for the fields of an :class:`Execution`."""

from __future__ import annotations

from typing import Annotated

import typer

from syncvis.execution import (
    CHECKPOINT_ACTIVATIONS,
    DETERMINISTIC,
    DEVICE,
    FEATURE_CACHE,
    FEATURE_CACHE_GIB,
    LOADER_WORKERS,
    MAX_LOADER_WORKERS,
    THREADS,
)

Device = Annotated[str, typer.Option(DEVICE, help="cpu or cuda")]
Threads = Annotated[int, typer.Option(THREADS, help="CPU threads of each training process", min=1)]
LoaderWorkers = Annotated[
    int | None,
    typer.Option(
        LOADER_WORKERS,
        help="processes that prepare batches, of each training process; "
        f"default: 0 on the CPU, on a GPU its share of the cores less one, at most {MAX_LOADER_WORKERS}",
        min=0,
        show_default=False,
    ),
]
CheckpointActivations = Annotated[
    bool, typer.Option(CHECKPOINT_ACTIVATIONS, help="less memory, more time, same result")
]
Deterministic = Annotated[bool, typer.Option(DETERMINISTIC, help="the same bits every time, also on a GPU")]
FeatureCacheFolder = Annotated[
    str | None,
    typer.Option(
        FEATURE_CACHE,
        metavar="FOLDER",
        help="keep here what a frozen encoder computes of each frame, for all runs that name this folder; same result",
        show_default=False,
    ),
]
FeatureCacheGib = Annotated[
    float, typer.Option(FEATURE_CACHE_GIB, help="what the feature cache may take, in GiB; then it takes no more")
]
