"""The commands ``syncvis data``: make, count, divide and look at data sets."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from syncvis.data.panels import Predictions
    from syncvis.data.ytvis import VideoDataset

app = typer.Typer(help="Make, count, divide and look at data sets.", no_args_is_help=True)

Root = Annotated[Path, typer.Argument(metavar="ROOT", help="folder with JPEGImages/ and the JSON files")]
Split = Annotated[str, typer.Option(help="JSON file below the root, e.g. ../train.json")]
Seed = Annotated[int, typer.Option(min=0)]


@app.command("synth")
def synth(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="where the data set goes")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="e.g. occlusion=0.8 frames=16")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Write the synthetic benchmark in YouTube-VIS format: train, valid, test and stills."""
    from pydantic import ValidationError

    from syncvis.config import parse_overrides, validation_error
    from syncvis.data.synthetic import SyntheticConfig, write_synthetic

    try:
        config = SyntheticConfig.model_validate(parse_overrides(settings or []))
    except ValidationError as error:
        raise validation_error(error, SyntheticConfig, "command line") from None
    write_synthetic(out, config, seed)
    typer.echo(f"synthetic videos: {out} (train.json, valid.json, test.json, stills.json)")


@app.command("stats")
def stats(
    root: Root,
    split: Annotated[list[str] | None, typer.Option(help="JSON file below the root; may be repeated")] = None,
    published: Annotated[
        str | None, typer.Option(help='"YouTube-VIS 2019", "OVIS" ..., or none; default: by name or counts')
    ] = None,
    areas: Annotated[bool, typer.Option("--areas", hidden=True, help="areas are always told")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown")] = False,
) -> None:
    """Count videos, instances, masks and more, beside the published values."""
    from syncvis.data.published import choose
    from syncvis.data.stats import count
    from syncvis.data.stats_text import report, to_json
    from syncvis.data.ytvis import VideoDataset
    from syncvis.errors import ConfigError

    if as_json and as_markdown:
        raise ConfigError("--json and --markdown exclude each other", file="command line", fix="give one of them")
    parts = [count(VideoDataset.load(root, name)) for name in split or ["train.json"]]
    beside = choose(published, root, parts)
    typer.echo(json.dumps(to_json(parts, beside), indent=1) if as_json else report(parts, beside, as_markdown))


@app.command("split")
def split_videos(
    root: Root,
    split: Split = "train.json",
    valid: Annotated[float, typer.Option(help="share of the videos for validation")] = 0.2,
    seed: Seed = 0,
    out_train: Annotated[str, typer.Option(help="JSON file below the root")] = "train_split.json",
    out_valid: Annotated[str, typer.Option(help="JSON file below the root")] = "valid_split.json",
    force: Annotated[bool, typer.Option("--force", help="replace existing files")] = False,
) -> None:
    """Divide the videos of a labelled split in two, with every category on both sides where it can be."""
    from syncvis.data.split import write_split
    from syncvis.data.ytvis import VideoDataset

    done = write_split(VideoDataset.load(root, split), valid, seed, root / out_train, root / out_valid, force)
    typer.echo(str(done))
    typer.echo(f"written: {done.train}, {done.valid}")
    if remark := done.remark():
        typer.echo(f"note: {remark}", err=True)
    for name, path in done.one_sided():
        typer.echo(f"warning: category {name!r} is only in {path.name}", err=True)


@app.command("text")
def text(
    root: Root,
    out: Annotated[Path, typer.Option(help="safetensors file to write")],
    split: Split = "train.json",
    encoder: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="names -> (K, D) array; its code is run")
    ] = None,
    width: Annotated[int | None, typer.Option(min=8, help="D without --encoder, default 1024")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an existing file")] = False,
) -> None:
    """Write embeddings of the class names, for TMT-VIS. Without --encoder they know only how the names are spelt."""
    from syncvis.data.class_text import write_class_text
    from syncvis.data.entries import read_categories
    from syncvis.data.jsonfile import JsonFile
    from syncvis.data.text_encoders import encode_with, spelling
    from syncvis.errors import ConfigError, StorageError

    if encoder is not None and width is not None:
        fix = "leave --width out: an encoder decides it"
        raise ConfigError("--encoder and --width exclude each other", file="command line", fix=fix)
    if out.exists() and not force:
        raise StorageError("exists already", file=out, fix="add --force to replace it, or choose another --out")
    names = list(dict.fromkeys(category.name for category in read_categories(JsonFile(root / split))))
    matrix = encode_with(encoder, names) if encoder else spelling(names, width or 1024)
    done = write_class_text(out, names, matrix, encoder or "spelling")
    typer.echo(f"class text: {out} ({len(names)} classes, width {done.matrix.shape[1]}, by {encoder or 'spelling'})")


@app.command("view")
def view(
    root: Root,
    split: Split = "train.json",
    out: Annotated[Path, typer.Option(help="PNG file of the contact sheet")] = Path("outputs/contact_sheet.png"),
    videos: Annotated[int, typer.Option(help="rows of the contact sheet", min=1)] = 8,
    frames: Annotated[
        int | None, typer.Option(help="most frames of a video, evenly spread; default 8, with --video 300", min=1)
    ] = None,
    ids: Annotated[str | None, typer.Option(help="ids of the videos to draw, e.g. 3,7")] = None,
    predictions: Annotated[Path | None, typer.Option(help="results.json to draw below the annotation")] = None,
    min_score: Annotated[float, typer.Option(help="hide predictions below this score")] = 0.3,
    video: Annotated[Path | None, typer.Option(help="draw one video as .mp4, .mkv or .gif instead")] = None,
    fps: Annotated[int, typer.Option(help="frames per second of --video", min=1)] = 6,
) -> None:
    """Draw a contact sheet, one row per video, or one video: the instances on top of the frames."""
    from syncvis.data.contact_sheet import write_contact_sheet, write_overlay_video
    from syncvis.data.ytvis import VideoDataset
    from syncvis.errors import ConfigError

    chosen = None if ids is None else _parse_ids(ids)
    if video is not None and chosen is not None and len(chosen) > 1:
        raise ConfigError("--video draws one video", file="command line", key="--ids", fix="give one id")
    dataset = VideoDataset.load(root, split)
    found = None if predictions is None else _read_predictions(dataset, predictions, min_score)
    dataset = dataset if chosen is None else dataset.only(chosen)
    if video is None:
        typer.echo(str(write_contact_sheet(dataset, out, len(chosen or ()) or videos, frames or 8, found)))
    else:
        typer.echo(str(write_overlay_video(dataset, video, frames or 300, fps, found)))


def _read_predictions(dataset: VideoDataset, results: Path, min_score: float) -> Predictions:
    from syncvis.data.panels import Predictions
    from syncvis.evaluation.files import read_predictions

    ids = [category.id for category in dataset.categories]
    found, remarks = read_predictions(results, dataset.source, dataset.videos, ids)
    say(remarks)
    return Predictions(results, found, min_score)


def _parse_ids(text: str) -> set[int]:
    from syncvis.errors import ConfigError

    try:
        return {int(word) for word in text.split(",")}
    except ValueError:
        fix = "give whole numbers such as 3,7"
        raise ConfigError(f"{text!r} is not a list of ids", file="command line", key="--ids", fix=fix) from None


@app.command("check")
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="JSON file, or the folder with it and JPEGImages/")],
    frames: Annotated[Path | None, typer.Option(help="folder of the frames, if not where training finds it")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="decode every image or video frame, not only headers")] = False,
    fix: Annotated[Path | None, typer.Option(help="write a new JSON file with everything mended that can be")] = None,
    drop: Annotated[bool, typer.Option("--drop", help="with --fix: drop entries that cannot be mended")] = False,
    show_all: Annotated[bool, typer.Option("--all", help="list every finding, not the first few of a kind")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="every finding as JSON")] = False,
) -> None:
    """Look for damage in a data set. Exit code: 0 nothing wrong, 1 warnings, 3 errors."""
    from syncvis.data.check.command import run_check

    text, code = run_check(path, frames, deep, fix, drop, show_all, as_json)
    typer.echo(text)
    raise typer.Exit(code)


def say(remarks: Iterable[str]) -> None:
    """Print what is good to know beside the results."""
    from syncvis.errors import one_line

    for remark in remarks:
        typer.echo(one_line(f"note: {remark}"), err=True)
