"""`mattecli video`: a clip in; a composite, a cutout or an alpha matte of the same length, timing and sound out."""

from __future__ import annotations

import contextlib
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mattecli.cli.clip_display import Display
from mattecli.cli.clip_ending import ended_by_signals
from mattecli.cli.clip_goal import (
    STDOUT,
    Kind,
    check_behind,
    checked_goal,
    default_kind,
    identity,
    segments_of,
    sink_for,
    what_is_left,
)
from mattecli.cli.console import INTERRUPTED, complain, patiently
from mattecli.cli.options import Align, Device, Precision, Size, Weights, not_empty, tell_licence
from mattecli.errors import InputError, UsageError

if TYPE_CHECKING:
    from mattecli.inference.frames import Steady


def video(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A clip, numbered pictures (shot_%04d.png), a URL, webcam:N (or webcam:N@1280x720), or - for stdin.",
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE|PATTERN|camera|-",
            help="Where to write; the suffix names the format. Without it, NAME_composite.mp4 and the like.",
        ),
    ] = None,
    output: Annotated[
        Kind | None,
        typer.Option(
            help="What to write.",
            show_default="composite with --bg, else cutout where --out holds transparency, else alpha",
        ),
    ] = None,
    bg: Annotated[
        str | None,
        typer.Option(
            metavar="COLOUR|IMAGE|VIDEO|blur[:R]|transparent",
            help="What goes behind: white, '#1e90ff', a picture, a clip (looped), or the clip itself blurred.",
        ),
    ] = None,
    codec: Annotated[
        str, typer.Option(metavar="NAME", help="h264, hevc, av1, vp9, prores or ffv1; auto goes by the suffix.")
    ] = "auto",
    quality: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="On the codec's own scale (crf); lower is better.", show_default="looks lossless"
        ),
    ] = None,
    audio: Annotated[Literal["copy", "none"], typer.Option(help="Keep the sound, or leave it out.")] = "copy",
    start: Annotated[str | None, typer.Option(metavar="T", help="Begin there: seconds, or [HH:]MM:SS[.f].")] = None,
    end: Annotated[str | None, typer.Option(metavar="T", help="End there, in the clip's own time.")] = None,
    fps: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Frames a second: of numbered pictures, or another rate for a clip.",
            show_default="the clip's; pictures 25",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="A network of `mattecli models`.")] = "realtime",
    weights: Weights = None,
    size: Size = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE|VIDEO",
            callback=not_empty,
            help="The scene without the subject, for networks that need it.",
        ),
    ] = None,
    align: Align = False,
    trimap: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE|VIDEO|auto",
            callback=not_empty,
            help="Black background, white foreground, grey unknown, for networks that need it; auto makes it.",
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE|VIDEO",
            callback=not_empty,
            help="A rough mask, white on the subject: nothing far from it is kept.",
        ),
    ] = None,
    pick: Annotated[
        str | None,
        typer.Option(
            metavar="N|X,Y",
            help="Keep one person of the first frame that shows somebody: the Nth by size, or who is at that point.",
        ),
    ] = None,
    instances: Annotated[bool, typer.Option("--instances", hidden=True)] = False,
    stateless: Annotated[
        bool, typer.Option("--stateless", help="No memory of earlier frames; smoothed, with a frame's delay.")
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    engine: Annotated[str, typer.Option(help="auto, torch or openvino (CPU; extra 'cpu').")] = "auto",
    hwaccel: Annotated[
        str, typer.Option(metavar="NAME", help="Decode and encode in hardware: auto, none, or cuda, cuda:1, qsv…")
    ] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Work in segments, and go on with those of an earlier run with --resume.")
    ] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Ctrl-C leaves no file.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object an event, a line each.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """A clip in; a composite, a cutout or its alpha matte out, frame for frame, with its sound.

    Reads what FFmpeg reads, turned upright. Length, every frame's time,
    sound, subtitles, chapters, metadata and colour stay what they are; what
    the new file can't hold is said (.mkv and .webm keep times to the
    millisecond, .mp4 and .mov exactly). The name after --out tells the format:
    .mp4, .mkv, .mov, .webm, or pictures such as out_%05d.png. Without
    --bg a .mov (ProRes 4444), .webm (VP9) or .png gets the cutout with its
    transparency, the others get the alpha matte in grey, which editors take
    as a track matte.

    --pick keeps one person (points are pixels, or shares as 0.3,0.5); for
    several, run it once for each: --instances is for photos. Who was out of
    sight is found again by place and colours, behind a cut by colours alone.
    People who touch are parted by motion and colours, with rough edges, where
    the network takes them for one, as all but e2ehim-swint do. It can't part
    those who touch in the first frame until they let go, nor tell who is who
    of two in the same clothes after one hid the other: begin anew from there
    with --start.

    Ctrl-C (or SIGTERM) ends the file with the last frame done, and it plays.
    `-o camera` is a virtual camera for calls (extra 'live'); for a preview,
    `-o -` sends Matroska to a player.

    --json prints events: start, progress (once a second: frames of total,
    fps, seconds left, the bottleneck, and the share of time that each stage
    was busy), note (a sentence), and at last done or error.

    Exit status: 0 all done, 1 the clip failed, or was cut short (what was
    there is written), 2 wrong use, 130 interrupted (143 by SIGTERM).

    Examples:

    mattecli video clip.mp4 --bg beach.jpg

    mattecli video clip.mp4 -o cutout.mov

    mattecli video clip.mp4 -o new.mp4 --bg waves.mp4 --start 1:10 --end 1:25.5

    mattecli video clip.mp4 -o matte.mkv --model closed-form --trimap trimap_%04d.png

    mattecli video clip.mp4 --bg beach.jpg --mask garbage.png

    mattecli video clip.mp4 -o her.mov --pick 830,412

    mattecli video clip.mp4 -o new.mp4 --bg white --model bgmv2-mobilenetv2 --background plate.png --align

    mattecli video shot_%04d.png --fps 24 -o cutout_%04d.png

    mattecli video webcam:0 --bg blur:20 -o camera

    mattecli video webcam:0 --bg blur -o - | mpv --profile=low-latency -
    """
    if instances:
        raise UsageError("--instances is for photos; of a clip, --pick N keeps one person, with a run for each.")
    to_stdout = STDOUT in (out, source if out is None else None)
    with (
        ended_by_signals(),
        Display(json=json, quiet=quiet, data_on_stdout=to_stdout) as display,
        display.errors(),
        contextlib.ExitStack() as unused,
    ):
        kind = output or default_kind(out, bg, codec)
        check_behind(kind, bg)
        given = [text for text in (source, bg, background, trimap, mask) if text]
        goal = checked_goal(source, out, kind, codec, given, overwrite)
        since, until, rate = _seconds("--start", start), _seconds("--end", end), _rate(fps)
        segments = segments_of(goal) if resume else None

        from mattecli.inference.behind import parse
        from mattecli.inference.clips import process, warm_up
        from mattecli.inference.devices import describe
        from mattecli.inference.guidance.clips import for_frames
        from mattecli.inference.instances import parse_pick
        from mattecli.inference.network import Matter
        from mattecli.inference.rendering import Renderer
        from mattecli.inference.tracking import Tracker
        from mattecli.media.clips.reading.camera import Camera
        from mattecli.media.clips.reading.clip import open_clip
        from mattecli.media.clips.reading.resampling import at_rate

        choice = None if pick is None else parse_pick(pick)
        clip = patiently(lambda: open_clip(source, start=since, end=until, hwaccel=hwaccel, rate=rate))
        unused.callback(clip.close)
        if rate and (clip.container or clip.live):  # numbered pictures have it already
            clip = at_rate(clip, rate)
        renderer = Renderer(kind, clip.format, parse(bg) if bg else None)
        files = " ".join(identity(str(one)) for one in (source, bg, weights, background, trimap, mask))
        key = f"{files} {kind} {start} {end} {model} {size} {stateless} {align} {pick}"
        sink = sink_for(goal, kind, renderer.format, clip, codec, quality, audio, hwaccel, segments, key)
        unused.callback(sink.abort)
        apart = choice is not None
        matter = Matter(model, device, precision, size=size, weights=weights, engine=engine, clip=True, instances=apart)
        if isinstance(clip, Camera):  # whose frames nobody keeps meanwhile
            patiently(lambda: warm_up(matter, clip.format))
        hint = for_frames(
            model, matter, source, clip, trimap=trimap, mask=mask, background=background, align=align, start=since
        )
        tracker = None
        if choice:
            shape = clip.format.height, clip.format.width
            tracker = Tracker(choice, clip.name, shape, segments / "picked.npz" if segments else None)
        if not quiet:
            tell_licence(model, weights)
        display.start(clip, f"{model} on {describe(matter)}", goal, sink)
        steady: Steady = "delay" if stateless else "state"
        leaves_nothing = discard or resume
        unused.pop_all()
        summary = process(
            clip,
            matter,
            renderer,
            sink,
            steady=steady,
            hint=hint,
            tracker=tracker,
            report=display,
            discard=leaves_nothing,
        )
        display.done(goal, summary, sink)
        if summary.interrupted:
            complain(what_is_left(goal, summary, discard, segments))
            raise typer.Exit(INTERRUPTED)
        if clip.cut_short:
            raise typer.Exit(InputError.exit_code)


def _seconds(option: str, text: str | None) -> float | None:
    """Of `83.5`, `1:23.5` or `0:01:23.5`."""
    if text is None:
        return None
    found = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)", text)
    if not found:
        raise UsageError(f"{option} {text} is no time; give seconds, as 83.5, or [HH:]MM:SS, as 1:23.5.")
    hours, minutes, rest = found.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest)


def _rate(text: str | None) -> Fraction | None:
    """Of `24`, `29.97` (which is 30000/1001) or `30000/1001`."""
    if text is None:
        return None
    found = re.fullmatch(r"\d+(?:\.\d+)?(?:/\d+)?", text)
    rate = Fraction(0)
    with contextlib.suppress(ValueError, ZeroDivisionError):
        rate = Fraction(text) if found else rate
    if not 0 < rate <= 1000:
        raise UsageError(f"--fps {text} is no rate; give pictures a second, as 24 or 30000/1001.")
    ntsc = Fraction(round(rate) * 1000, 1001)
    return ntsc if abs(rate - ntsc) < Fraction(1, 200) else rate
