"""`mattecli matte`: photos in, mattes, cutouts or composites out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mattecli.cli.console import check_stdout, complain, emit_json, progress, say
from mattecli.cli.options import Align, Device, Mask, Precision, Size, Trimap, Weights, not_empty, tell_licence
from mattecli.errors import UsageError

if TYPE_CHECKING:
    from mattecli.inference.output import Output
    from mattecli.inference.photos import Outcome
    from mattecli.media.batch import Job

Kind = Literal["alpha", "cutout", "foreground", "composite"]
MARGIN = 0.05


def matte(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Photos, folders or globs; - reads one photo from stdin.")
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE|FOLDER|-",
            help="Where to write; a file's suffix names the format. Without it, NAME_alpha.png beside the photo.",
        ),
    ] = None,
    output: Annotated[
        Kind | None, typer.Option(help="What to write.", show_default="alpha, with --bg composite")
    ] = None,
    bg: Annotated[
        str | None,
        typer.Option(
            metavar="COLOUR|IMAGE|blur[:R]",
            help="What goes behind: white, '#1e90ff', '30,144,255', a picture, or the photo itself blurred (R pixels).",
        ),
    ] = None,
    format: Annotated[
        str, typer.Option(metavar="SUFFIX", help="Format where --out names no file: png, jpg, webp, tiff…")
    ] = "png",
    bit_depth: Annotated[int, typer.Option(metavar="8|16", help="Bits a channel.")] = 8,
    crop: Annotated[bool, typer.Option("--crop", help="Cut to the subject's box.")] = False,
    margin: Annotated[
        float | None,
        typer.Option(
            min=0, max=100, help="Room that --crop leaves around the box, as a share of it.", show_default=str(MARGIN)
        ),
    ] = None,
    instances: Annotated[
        bool,
        typer.Option("--instances", help="One file a person, the largest first: NAME_1.png, NAME_2.png and so on."),
    ] = False,
    pick: Annotated[
        str | None,
        typer.Option(
            metavar="N|X,Y",
            help="Keep one person: the Nth by size, or who is at that point (pixels, or shares as 0.3,0.5).",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="A network of `mattecli models`.")] = "realtime",
    weights: Weights = None,
    size: Size = None,
    trimap: Trimap = None,
    mask: Mask = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|FOLDER",
            callback=not_empty,
            help="The scene without the subject, for networks that need it; a folder has one for each photo.",
        ),
    ] = None,
    align: Align = False,
    device: Device = "auto",
    precision: Precision = "auto",
    engine: Annotated[str, typer.Option(help="auto, torch or openvino (CPU; extra 'cpu').")] = "auto",
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Folders with all that is in them.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out photos whose output exists.")
    ] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="One JSON object a photo, a line each. subject, the mean of alpha, and soft, the share of the photo "
            "with an alpha between 0.05 and 0.95, tell doubtful mattes.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Photos in; their alpha mattes, cutouts or composites out, at full size.

    Reads JPEG, PNG, WebP, TIFF, BMP, AVIF, JPEG 2000, PNM and GIF, turned
    upright; of a file with several pictures (animations, pages) the first.
    Photos of one name, such as a.jpg and a.tif, become a.jpg.png and a.tif.png
    where they would write one file. Transparent pixels of a photo are laid over
    white for the network, and the photo's own alpha multiplies the estimated
    one. Colour outputs keep the ICC profile and EXIF, and show the subject's own
    colours, with no fringe of the old background; what goes behind is converted
    to the photo's profile.

    Exit status: 0 all done, 1 some photos failed, 2 wrong use, 130 interrupted.

    Examples:

    mattecli matte photo.jpg -o alpha.png

    mattecli matte photo.jpg -o cutout.webp --output cutout --crop

    mattecli matte photos/ -o mattes/ --recursive --skip-existing

    mattecli matte photo.jpg -o new.jpg --bg beach.jpg

    mattecli matte photo.jpg -o alpha.png --model closed-form --trimap trimap.png

    mattecli matte shoot/ -o cut/ --model closed-form --trimap auto

    mattecli matte group.jpg -o alpha.png --mask selection.png

    mattecli matte photo.jpg --model bgmv2-mobilenetv2 --background plate.jpg --align

    mattecli matte group.jpg -o people/ --output cutout --instances --json

    mattecli matte group.jpg -o her.png --output cutout --crop --pick 830,412

    mattecli matte - -o - --bg blur < photo.jpg > portrait.png
    """
    kind = output or ("alpha" if bg is None else "composite")
    if (kind == "composite") != (bg is not None):
        raise UsageError("--output composite needs --bg COLOUR, IMAGE or blur[:R], and only composites have a --bg.")
    if instances and pick is not None:
        raise UsageError("--instances writes everybody, --pick one; choose one of them.")
    if margin is not None and not crop:
        raise UsageError("--margin goes with --crop.")
    if crop and margin is None:
        margin = MARGIN
    if not quiet:
        _tell_left_out(inputs, recursive)
    jobs, skipped = _plan(inputs, out, kind, format, bit_depth, recursive, overwrite, skip_existing, instances)
    if bg is not None:
        _spare(bg, jobs)
    _must_be_possible(jobs, json)
    settings = _output(kind, bg, bit_depth, margin, format, instances, pick)
    if skipped and not quiet:
        say(f"{skipped} skipped: their outputs exist.")
    if not quiet:
        _tell_namesakes(jobs)
    if not jobs:
        return
    data_on_stdout = any(job.target is None for job in jobs)
    if data_on_stdout:
        check_stdout("a picture")

    from mattecli.inference.devices import describe
    from mattecli.inference.guidance import photos, plate
    from mattecli.inference.network import Matter
    from mattecli.inference.photos import process

    apart = settings.people is not None
    matter = Matter(model, device, precision, size=size, weights=weights, engine=engine, instances=apart)
    plate.check(model, matter.spec.needs, background, align)
    hint = photos.for_photos(model, matter, jobs, trimap, mask)
    if background:
        hint = plate.for_photos(background, jobs, align, hint)
    if not quiet:
        say(f"{model} on {describe(matter)}")
        tell_licence(model, weights)
        if apart and not matter.instances:
            say(f"{model} takes people who touch for one person; --model e2ehim-swint tells them apart.")
    failed = 0
    with progress("matte", len(jobs), quiet or len(jobs) == 1) as advance:

        def report(outcome: Outcome) -> None:
            nonlocal failed
            failed += outcome.error is not None
            _tell(outcome, quiet)
            if json:
                emit_json(_record(outcome), to_stderr=data_on_stdout)
            advance(1)

        process(jobs, matter, settings, report, hint)
    if len(jobs) > 1 and not quiet:
        say(f"{len(jobs) - failed} done, {failed} failed." if failed else f"{len(jobs)} done.")
    if failed:
        raise typer.Exit(1)


def _tell_left_out(inputs: Sequence[str], recursive: bool) -> None:
    from mattecli.media.batch import left_out

    if others := left_out(inputs, recursive):
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        say(f"Left out, since they can't be read: {kinds}; convert them to JPEG, TIFF or PNG.", "yellow")


def _tell_namesakes(jobs: Sequence[Job]) -> None:
    if namesakes := [job for job in jobs if job.namesake]:
        say(
            f"{len(namesakes)} photos have the name of another, so their outputs keep the suffix, such as "
            f"{namesakes[0].target}.",
            "yellow",
        )


def _must_be_possible(jobs: Sequence[Job], json: bool) -> None:
    """Ends the run where no photo can be done, which needs no network to be known."""
    from mattecli.media.batch import hopeless

    if not jobs or not all(hopeless(job) for job in jobs):
        return
    for job in jobs:
        complain(message := hopeless(job) or "")
        if json:
            emit_json(_named(job) | {"error": message}, to_stderr=job.target is None)
    raise typer.Exit(1)


def _plan(
    inputs: Sequence[str],
    out: str | None,
    kind: Kind,
    format: str,
    bit_depth: int,
    recursive: bool,
    overwrite: bool,
    skip_existing: bool,
    numbered: bool,
) -> tuple[list[Job], int]:
    """The jobs to do and how many were left out; UsageError for what can be known before work begins."""
    from mattecli.media.batch import existing, plan
    from mattecli.media.photos import check_suffix

    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing exclude each other.")
    if bit_depth not in (8, 16):
        raise UsageError(f"--bit-depth {bit_depth} is neither 8 nor 16.")
    suffix = f".{format.lower().lstrip('.')}"
    check_suffix(suffix, alpha=False, bit_depth=8)
    jobs = plan(inputs, out, suffix=suffix, recursive=recursive, tag=kind, numbered=numbered)
    for found in {(job.target.suffix.lower() if job.target else "") or suffix for job in jobs}:
        check_suffix(found, alpha=kind == "cutout", bit_depth=bit_depth)
    there = {} if overwrite else existing(jobs)
    if there and not skip_existing:
        others = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        first = next(iter(there.values()))
        raise UsageError(f"{first} exists already{others}; pass --overwrite or --skip-existing.")
    return [job for job in jobs if job not in there], len(there)


def _spare(bg: str, jobs: Sequence[Job]) -> None:
    if Path(bg).is_file() and any(job.target and job.target.exists() and job.target.samefile(bg) for job in jobs):
        raise UsageError(f"--bg {bg} would be overwritten; choose another output.")


def _output(
    kind: Kind, bg: str | None, bit_depth: int, margin: float | None, format: str, instances: bool, pick: str | None
) -> Output:
    from mattecli.inference import background
    from mattecli.inference.instances import everyone, parse_pick
    from mattecli.inference.output import Output

    behind = background.parse(bg) if bg is not None else None
    people = everyone if instances else parse_pick(pick) if pick is not None else None
    return Output(kind, behind, bit_depth, margin, f".{format.lower().lstrip('.')}", people)


def _tell(outcome: Outcome, quiet: bool) -> None:
    if outcome.error:
        complain(outcome.error)
    elif outcome.note and not quiet:
        say(outcome.note, "yellow")


def _record(outcome: Outcome) -> dict[str, object]:
    record = dataclasses.asdict(outcome)
    record |= record.pop("shares") or {}
    del record["job"]
    if outcome.error:
        record = {"error": outcome.error}
    return _named(outcome.job) | {key: value for key, value in record.items() if value is not None}


def _named(job: Job) -> dict[str, object]:
    output = {} if job.numbered else {"output": str(job.target or "-")}
    return {"input": str(job.source or "-"), **output}
