"""Trimaps and masks that the user names: read as they are meant, refused in words that help."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattecli.errors import InputError, UsageError
from mattecli.inference.guidance import photos as hinting
from mattecli.inference.guidance.hints import NOTHING
from mattecli.inference.guidance.photos import (
    beside,
    check,
    for_photos,
    from_mask,
    parse,
    read_mask,
    read_trimap,
    round_subject,
)
from mattecli.inference.network import Matter
from mattecli.media.batch import Job
from mattecli.media.photos import Photo, read_photo
from tests.inference.test_tiles import Local

BLACK, GREY, WHITE = 0, 128, 255


def thirds(height=24, width=36):
    """Background, unknown, foreground, from left to right."""
    levels = np.full((height, width), GREY, np.uint8)
    levels[:, : width // 3], levels[:, -(width // 3) :] = BLACK, WHITE
    return levels


def write(path, pixels, *options):
    assert cv2.imwrite(str(path), pixels, options)
    return path


def palette_png(levels):
    """Each pixel a number of a colour: 0 white, 1 black, 2 blue."""
    height, width = levels.shape
    numbers = np.select([levels == WHITE, levels == BLACK], [0, 1], 2).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in numbers)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0),
        b"PLTE": bytes([255, 255, 255, 0, 0, 0, 90, 120, 255]),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def turned_jpeg(path, pixels, orientation):
    """A JPEG whose EXIF says that it is to be turned."""
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0\0\0\0\0\0"
    done, data = cv2.imencodeWithMetadata(".jpg", pixels, [cv2.IMAGE_METADATA_EXIF], [np.frombuffer(exif, np.uint8)])
    assert done
    path.write_bytes(data.tobytes())
    return path


def photo(height=24, width=36, source="photo.png"):
    return Photo(np.zeros((height, width, 3), np.uint8), None, None, None, source)


def jobs(*names, target="out"):
    return [Job(None if name is None else Path(name), Path(target, f"{i}.png")) for i, name in enumerate(names)]


@pytest.mark.parametrize("kind", ["grey", "16 bit", "colour", "palette", "transparent"])
def test_every_kind_of_file_is_read_by_its_grey(tmp_path, kind):
    levels, path = thirds(), tmp_path / "t.png"
    if kind == "grey":
        write(path, levels)
    elif kind == "16 bit":
        write(path, levels.astype(np.uint16) * 257)
    elif kind == "colour":
        red = cv2.cvtColor(levels, cv2.COLOR_GRAY2BGR)
        red[levels == GREY] = (0, 0, 255)
        write(path, red)
    elif kind == "palette":
        path.write_bytes(palette_png(levels))
    else:
        write(path, np.dstack((levels, levels, levels, np.random.default_rng(0).integers(0, 256, levels.shape, "u1"))))
    found = read_trimap(path, "photo.png", 24, 36)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.select([levels == BLACK, levels == WHITE], [0, 1], 0.5))


@pytest.mark.parametrize("top", [255, 65535])
def test_near_the_ends_is_known(top):
    kind = np.uint8 if top == 255 else np.uint16
    levels = np.rint(np.array([0, 5, 6, 128, 249, 250, 255]) * (top / 255)).astype(kind)
    np.testing.assert_array_equal(parse(levels), [0, 0, 0.5, 0.5, 0.5, 1, 1])


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_what_jpeg_adds_makes_nothing_known_that_is_not(tmp_path, quality):
    levels = np.full((128, 128), GREY, np.uint8)
    cv2.circle(levels, (64, 64), 50, WHITE, -1)
    levels[:, :30] = BLACK
    truth = parse(levels)
    found = read_trimap(write(tmp_path / "t.jpg", levels, cv2.IMWRITE_JPEG_QUALITY, quality), "photo.png", 128, 128)
    inner = cv2.erode((truth == 0.5).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert (found[inner] == 0.5).all()
    assert (found == truth).mean() > 0.9


def test_a_trimap_is_turned_upright_as_the_photo_is(tmp_path):
    stored = thirds(24, 36)
    path = turned_jpeg(tmp_path / "t.jpg", stored, 6)
    found = read_trimap(path, "photo.png", 36, 24)
    assert (found[:10] == 0).all() and (found[-10:] == 1).all()


def test_another_size_is_told_with_both(tmp_path):
    path = write(tmp_path / "t.png", thirds(24, 30))
    with pytest.raises(InputError, match=r"t\.png is 30 x 24 pixels, photo\.png is 36 x 24; make them equal"):
        read_trimap(path, "photo.png", 24, 36)


def test_the_size_before_the_rotation_is_told(tmp_path):
    turned = turned_jpeg(tmp_path / "photo.jpg", np.zeros((24, 36), np.uint8), 6)
    assert read_photo(turned).rgb.shape == (36, 24, 3)
    path = write(tmp_path / "t.png", thirds(24, 36))
    with pytest.raises(InputError, match="before its EXIF rotation"):
        read_trimap(path, str(turned), 36, 24)
    upright = write(tmp_path / "photo.png", np.zeros((36, 24), np.uint8))
    with pytest.raises(InputError, match="make them equal"):
        read_trimap(path, str(upright), 36, 24)


@pytest.mark.parametrize(
    ("levels", "sentence"),
    [((BLACK, WHITE), "Nothing is unknown in .*--mask"), ((GREY, 77), "All is unknown in"), ((BLACK,), "Nothing")],
)
def test_a_trimap_that_says_nothing_is_refused(tmp_path, levels, sentence):
    path = write(tmp_path / "t.png", np.resize(np.array(levels, np.uint8), (24, 36)))
    with pytest.raises(InputError, match=sentence):
        read_trimap(path, "photo.png", 24, 36)


@pytest.mark.parametrize(
    ("needs", "trimap", "mask", "sentence"),
    [
        ("trimap", None, None, "--trimap auto"),
        ("image", "auto", None, "looks at no trimap"),
        ("background", "t.png", None, "looks at no trimap"),
        ("trimap", "t.png", "m.png", "exclude each other"),
    ],
)
def test_what_does_not_go_together_is_refused(needs, trimap, mask, sentence):
    with pytest.raises(UsageError, match=sentence):
        check("gca", needs, trimap, mask)


def test_what_goes_together_is_not_refused():
    check("gca", "trimap", "t.png", None)
    check("gca", "trimap", None, "m.png")
    check("realtime", "image", None, "m.png")
    check("realtime", "image", None, None)


def test_a_folder_has_one_for_each_photo(tmp_path):
    for name in ("a.png", "b.jpg", "c.png", "c.tif", "d.txt"):
        (tmp_path / name).touch()
    find = beside("--trimap", str(tmp_path), jobs("x/a.jpg", "x/b.png", "y/c.jpg", "y/d.jpg"))
    assert find("x/a.jpg") == tmp_path / "a.png" and find("x/b.png") == tmp_path / "b.jpg"
    with pytest.raises(InputError, match=r"c\.png and c\.tif"):
        find("y/c.jpg")
    with pytest.raises(InputError, match=r"y/d\.jpg: .* holds no picture called d"):
        find("y/d.jpg")


@pytest.mark.parametrize(
    ("name", "photos", "sentence"),
    [
        ("none.png", ["a.jpg"], "does not exist"),
        ("t.png", ["a.jpg", "b.jpg"], "one file for 2 photos"),
        (".", [None], "stdin has no name"),
        (".", ["x/a.jpg", "y/a.jpg"], "two photos called a"),
    ],
)
def test_what_can_be_told_before_work_is(tmp_path, name, photos, sentence):
    write(tmp_path / "t.png", thirds())
    with pytest.raises(UsageError, match=sentence):
        beside("--mask", str(tmp_path / name), jobs(*photos))


@pytest.mark.parametrize("name", ["t.png", "."])
def test_no_trimap_is_written_over(tmp_path, name):
    write(tmp_path / "t.png", thirds())
    with pytest.raises(UsageError, match="would be written over"):
        beside("--trimap", str(tmp_path / name), [Job(Path("t.jpg"), tmp_path / "t.png")])


@settings(deadline=None, max_examples=60)
@given(st.integers(8, 90), st.integers(8, 90), st.floats(0.05, 0.6), st.integers(0, 9))
def test_round_a_subject_only_what_is_sure_is_known(height, width, radius, seed):
    y, x = np.mgrid[:height, :width]
    centre = np.random.default_rng(seed).random(2) * (height, width)
    far = radius * min(height, width) - np.hypot(y - centre[0], x - centre[1])
    alpha = np.clip(far / 4 + 0.5, 0, 1).astype(np.float32)
    trimap = round_subject(alpha, height, width)
    assert set(np.unique(trimap)) <= {0, 0.5, 1}
    assert (trimap[(alpha > 0.05) & (alpha < 0.95)] == 0.5).all()
    assert (alpha[trimap == 1] > 0.95).all() and (alpha[trimap == 0] < 0.05).all()
    assert (trimap == 1).any() or not (alpha > 0.95).any()


def test_a_band_is_as_wide_whatever_the_size():
    alpha = np.zeros((100, 120), np.float32)
    alpha[20:80, 30:90] = 1
    small, large = round_subject(alpha, 100, 120), round_subject(alpha, 400, 480)
    assert (small == 0.5).mean() == pytest.approx((large == 0.5).mean(), abs=0.03)
    assert small[50, 28] == 0.5 and small[50, 31] == 0.5 and small[50, 20] == 0 and small[50, 60] == 1


def test_a_mask_tells_a_trimap_or_a_region():
    mask = np.zeros((100, 120), np.float32)
    mask[20:80, 30:90] = 1
    told = from_mask(mask, 200, 240, guided=True)
    assert told.region is None and told.trimap.shape == (200, 240) and set(np.unique(told.trimap)) == {0, 0.5, 1}
    region = from_mask(mask, 100, 120, guided=False).region
    assert (region[mask == 1] == 1).all() and region[50, 28] == 1 and 0 < region[50, 25] < 1 and region[50, 20] == 0


@pytest.mark.parametrize("shape", [(24, 36), (12, 18), (49, 73)])
def test_a_mask_may_have_another_size(tmp_path, shape):
    levels = np.zeros(shape, np.uint8)
    levels[:, shape[1] // 2 :] = 255
    mask = read_mask(write(tmp_path / "m.png", levels), "photo.png", 24, 36)
    assert mask.shape == (24, 36) and not mask[:, :17].any() and mask[:, 19:].all()


def test_of_a_cutout_the_alpha_is_the_mask(tmp_path):
    rgba = np.zeros((24, 36, 4), np.uint8)
    rgba[5:20, 5:20] = (10, 10, 10, 255)
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.png", rgba), "p", 24, 36), rgba[..., 3] / 255)


def test_masks_that_say_nothing_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"20 x 24 .* 36 x 24.*proportions"):
        read_mask(write(tmp_path / "m.png", np.zeros((24, 20), np.uint8)), "photo.png", 24, 36)
    for level, word in ((0, "black"), (255, "white")):
        with pytest.raises(InputError, match=f"all {word}"):
            read_mask(write(tmp_path / "m.png", np.full((24, 36), level, np.uint8)), "photo.png", 24, 36)


def test_auto_asks_the_default_network(red, monkeypatch):
    """Its alpha is the red of the photo here."""
    matter = Matter(red, "cpu")
    monkeypatch.setattr(hinting, "Matter", lambda device: matter)
    hint = for_photos("gca", Matter(Local(), "cpu"), jobs("a.jpg"), "auto", None)
    with pytest.raises(InputError, match="nobody was found"):
        hint(photo(80, 120))
    seen = photo(80, 120)
    seen.rgb[20:60, 40:80, 0] = 255
    trimap = hint(seen).trimap
    assert trimap.shape == (80, 120) and trimap[40, 60] == 1 and trimap[40, 40] == 0.5 and trimap[5, 5] == 0


def test_known_regions_are_exact_in_the_matte(tmp_path):
    write(tmp_path / "t.png", thirds())
    matter = Matter(Local(), "cpu", "fp32")
    hints = for_photos("local", matter, jobs("a.jpg"), str(tmp_path / "t.png"), None)(photo(source="a.jpg"))
    alpha = matter.matte(photo().rgb, hints)
    assert (alpha[:, :12] == 0).all() and (alpha[:, -12:] == 1).all() and 0 < alpha[5, 18] < 1


def test_without_anything_nothing_is_told(red):
    assert for_photos("realtime", Matter(red, "cpu"), jobs("a.jpg", "b.jpg"), None, None)(photo()) is NOTHING
