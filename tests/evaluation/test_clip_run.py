import av
import cv2
import numpy as np
import pytest

from mattecli.errors import InputError, UsageError
from mattecli.evaluation import clip_metrics
from mattecli.evaluation.clip_dataset import Footage, open_data, pair, read_mattes, read_pictures
from mattecli.evaluation.clip_run import evaluate
from mattecli.evaluation.workers import MOST

SIZE = (48, 64)


def disc(radius=10, left=0):
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    distance = np.hypot(rows - 24, columns - 20 - left)
    return np.round(np.clip((radius - distance) / 2 + 0.5, 0, 1) * 255).astype(np.uint8)


def clip(radius=10, frames=4):
    return [disc(radius, 3 * number) for number in range(frames)]


def write(folder, mattes, name="{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, matte in enumerate(mattes):
        assert cv2.imwrite(str(folder / name.format(number)), matte)


def write_video(path, frames, pix_fmt):
    """`frames` as FFV1, whose planes are kept bit by bit: `[H, W]` luma, or `[planes, H, W]` in full size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, pix_fmt
        for planes in frames:
            frame = av.VideoFrame(SIZE[1], SIZE[0], pix_fmt)
            for target, plane in zip(frame.planes, planes, strict=True):
                rows = np.frombuffer(target, plane.dtype).reshape(SIZE[0], -1)
                rows[:, : SIZE[1]] = plane
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def grey(mattes):
    """4:4:4 in limited range with neutral chroma."""
    neutral = np.full(SIZE, 128, np.uint8)
    return [(np.rint(16 + matte / 255 * 219).astype(np.uint8), neutral, neutral) for matte in mattes]


def expected(radius, true_radius=10):
    return clip_metrics.measure(zip(clip(radius), clip(true_radius), strict=True))


def test_folders_of_clips_are_scored_and_the_missing_is_counted(tmp_path):
    for name, radius in (("a", 11), ("sub/b", 12), ("z", 9)):
        write(tmp_path / "pred" / name, clip(radius))
    for name in ("a", "sub/b", "c"):
        write(tmp_path / "gt" / name, clip())
    steps = []
    dataset = pair(tmp_path / "pred", tmp_path / "gt")
    report = evaluate(dataset, progress=steps.append)
    assert [(row.name, row.frames, row.mask) for row in report.rows] == [("a", 4, False), ("sub/b", 4, False)]
    assert (report.missing, report.surplus, report.failed, report.complete) == (("c",), ("z",), {}, False)
    assert dataset.steps == sum(steps) == 8
    assert report.rows[0].scores == {"whole": pytest.approx(expected(11))}
    mean = report.mean()["whole"]
    assert tuple(mean) == clip_metrics.CLIP_METRICS
    assert mean["dtssd"] == pytest.approx((expected(11)["dtssd"] + expected(12)["dtssd"]) / 2) and mean["dtssd"] > 0
    record = report.record()
    assert (record["clips"], record["frames"], record["expected"]) == (2, 8, 3)
    assert record["per_clip"][1] == {"name": "sub/b", "frames": 4, "whole": pytest.approx(expected(12))}


def test_one_clip_in_two_folders_and_in_order_of_its_numbers(tmp_path):
    frames = clip(9, 12)
    write(tmp_path / "pred", frames, "frame{}.png")
    write(tmp_path / "gt", frames, "{:04d}.png")
    row = evaluate(pair(tmp_path / "pred", tmp_path / "gt")).rows[0]
    assert row.name == "gt" and row.scores["whole"]["mad"] == 0 and row.scores["whole"]["dtssd"] == 0


def test_rvm_folders_are_found(tmp_path):
    for name in ("motion/0000", "motion/0001"):
        for part in ("pha", "com", "fgr"):
            write(tmp_path / "gt" / name / part, clip())
        write(tmp_path / "out" / name / "pha", clip(11))
    report = evaluate(pair(tmp_path / "out", tmp_path / "gt"))
    assert [row.name for row in report.rows] == ["motion/0000", "motion/0001"] and report.complete
    items = open_data(tmp_path / "gt").items
    assert [(item.name, item.truth.path.name, item.source.path.name) for item in items] == [
        (name, "pha", "com") for name in ("motion/0000", "motion/0001")
    ]


@pytest.mark.parametrize("layout", ["{clip}/{part}", "{part}/{clip}"])
def test_data_sets_of_clips(tmp_path, layout):
    for name in ("one", "two", "three"):
        write(tmp_path / layout.format(clip=name, part="images"), clip())
        write(tmp_path / layout.format(clip=name, part="alphas"), clip())
    dataset = open_data(tmp_path, match="t*", limit=1)
    assert [item.name for item in dataset.items] == ["three"]
    assert dataset.items[0].source.path == tmp_path / layout.format(clip="three", part="images")
    assert dataset.steps == 4


def test_a_data_set_of_one_clip_in_video_files(tmp_path):
    write_video(tmp_path / "shot" / "com.mkv", grey(clip()), "yuv444p")
    write(tmp_path / "shot" / "pha", clip())
    (item,) = open_data(tmp_path).items
    assert (item.name, item.source) == ("shot", Footage(tmp_path / "shot" / "com.mkv"))
    (item,) = open_data(tmp_path / "shot").items
    assert item.name == "shot" and len(item.truth.frames) == 4


def test_a_video_is_measured_against_a_folder(tmp_path):
    write_video(tmp_path / "pred" / "a.mkv", grey(clip(11)), "yuv444p")
    write(tmp_path / "gt" / "a", clip())
    found = evaluate(pair(tmp_path / "pred", tmp_path / "gt")).rows[0].scores["whole"]
    assert found["sad"] == pytest.approx(expected(11)["sad"], rel=0.02)
    assert found["dtssd"] == pytest.approx(expected(11)["dtssd"], rel=0.02)


def test_grey_of_a_video_is_its_matte_and_colour_is_refused(tmp_path):
    write_video(tmp_path / "grey.mkv", grey(clip()), "yuv444p")
    mattes = list(read_mattes(Footage(tmp_path / "grey.mkv")))
    assert len(mattes) == 4 and mattes[0].dtype == np.uint16
    for matte, truth in zip(mattes, clip(), strict=True):
        np.testing.assert_allclose(matte / 65535, truth / 255, atol=0.51 / 219)
    assert mattes[0].max() == 65535 and mattes[0].min() == 0
    red = np.full(SIZE, 160, np.uint8)
    write_video(tmp_path / "colour.mkv", [(luma, chroma, red) for luma, chroma, _ in grey(clip())], "yuv444p")
    with pytest.raises(InputError, match="in colour"):
        list(read_mattes(Footage(tmp_path / "colour.mkv")))


def test_alpha_of_a_video_is_its_matte(tmp_path):
    frames = [(*planes, matte) for planes, matte in zip(grey(clip(5)), clip(), strict=True)]
    write_video(tmp_path / "alpha.mkv", frames, "yuva444p")
    np.testing.assert_array_equal(list(read_mattes(Footage(tmp_path / "alpha.mkv"))), clip())


def test_pictures_of_a_video_are_rgb(tmp_path):
    write_video(tmp_path / "com.mkv", grey(clip()), "yuv444p")
    pictures = list(read_pictures(Footage(tmp_path / "com.mkv")))
    assert len(pictures) == 4 and pictures[0].shape == (*SIZE, 3)
    np.testing.assert_allclose(pictures[2].astype(int), np.repeat(clip()[2][..., None], 3, 2).astype(int), atol=2)


@pytest.mark.parametrize(
    ("source", "truth", "reason"),
    [
        (clip(frames=3), clip(), "3 frames, not the 4"),
        ([matte[:40] for matte in clip()], clip(), "a, frame 1, is 64 x 40 pixels"),
        (clip(), [matte // 255 for matte in clip()], "0 and 1"),
        (clip(frames=1), clip(frames=1), "two frames"),
        ([disc(), disc()[:40]], [disc(), disc()[:40]], "different sizes"),
    ],
)
def test_what_cannot_be_scored_is_told_and_the_rest_is_done(tmp_path, source, truth, reason):
    write(tmp_path / "pred/a", source)
    write(tmp_path / "gt/a", truth)
    for folder in ("pred", "gt"):
        write(tmp_path / folder / "b", clip())
    report = evaluate(pair(tmp_path / "pred", tmp_path / "gt"))
    assert [row.name for row in report.rows] == ["b"] and reason in report.failed["a"]


def test_a_video_that_ends_early_is_told(tmp_path):
    write_video(tmp_path / "pred/a.mkv", grey(clip(frames=3)), "yuv444p")
    write_video(tmp_path / "pred/b.mkv", grey(clip(frames=5)), "yuv444p")
    (tmp_path / "pred/c.mkv").write_bytes(b"no video")
    for name in "abc":
        write(tmp_path / "gt" / name, clip())
    failed = evaluate(pair(tmp_path / "pred", tmp_path / "gt")).failed
    assert "a.mkv has fewer frames than" in failed["a"] and "b.mkv has more frames than" in failed["b"]
    assert "c.mkv" in failed["c"]


def test_progress_ends_with_all_steps_whatever_fails(tmp_path):
    write(tmp_path / "pred/a", clip(frames=3))
    write(tmp_path / "gt/a", clip())
    write(tmp_path / "pred/b", [*clip(frames=2), disc()[:40], disc()])
    write(tmp_path / "gt/b", clip())
    write_video(tmp_path / "pred/c.mkv", grey(clip()), "yuv444p")
    write_video(tmp_path / "gt/c.mkv", grey(clip()), "yuv444p")
    write(tmp_path / "gt/missing", clip())
    steps = []
    dataset = pair(tmp_path / "pred", tmp_path / "gt")
    report = evaluate(dataset, progress=steps.append)
    assert [row.name for row in report.rows] == ["c"] and set(report.failed) == {"a", "b"}
    assert sum(steps) == dataset.steps == 12


def test_few_frames_are_held_and_ctrl_c_ends_the_rest(tmp_path):
    write(tmp_path / "gt", clip(frames=60))
    read = []

    def predict(footage, apply):
        for matte in clip(frames=60):
            read.append(matte)
            yield matte

    def press(frames):
        steps.append(frames)
        raise KeyboardInterrupt

    steps = []
    with pytest.raises(KeyboardInterrupt):
        evaluate(pair(tmp_path / "gt", tmp_path / "gt"), predict, press)
    assert len(read) <= MOST + 1 and steps == [1]


def test_a_faint_frame_is_no_mask_of_zeros_and_ones(tmp_path):
    faint = [np.minimum(disc(), 1), *clip(frames=2)]
    write(tmp_path / "pred", faint)
    write(tmp_path / "gt", faint)
    assert evaluate(pair(tmp_path / "pred", tmp_path / "gt")).complete


def test_folders_that_do_not_fit(tmp_path):
    write(tmp_path / "gt" / "a", clip())
    write(tmp_path / "pred", clip())
    for sources, reason in (("nowhere", "neither a folder nor"), ("pred", "is one clip and")):
        with pytest.raises(UsageError, match=reason):
            pair(tmp_path / sources, tmp_path / "gt")
    with pytest.raises(UsageError, match="called x"):
        pair(tmp_path / "gt", tmp_path / "gt", match="x")
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="needs clips"):
            open_data(root)
    (tmp_path / "gt" / "a.mkv").write_bytes(b"")
    with pytest.raises(UsageError, match="same name"):
        pair(tmp_path / "gt", tmp_path / "gt")


def test_an_empty_folder_misses_every_clip(tmp_path):
    write(tmp_path / "gt", clip())
    (tmp_path / "pred").mkdir()
    report = evaluate(pair(tmp_path / "pred", tmp_path / "gt"))
    assert report.missing == ("gt",) and report.mean() == {}


def test_out_of_memory_is_one_clips_failure(tmp_path):
    write(tmp_path / "pred", clip())
    write(tmp_path / "gt", clip())

    def full(footage, apply):
        yield disc()
        raise MemoryError

    report = evaluate(pair(tmp_path / "pred", tmp_path / "gt"), full)
    assert "not enough memory" in report.failed["gt"]
