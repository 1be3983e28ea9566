"""Photos through files and back: pixels, alpha, orientation, metadata, refusals."""

import io
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattecli.errors import InputError, UsageError
from mattecli.media import containers, metadata
from mattecli.media.photos import PHOTOS, READABLE, WRITABLE, check_suffix, dropped, encode, read_photo

CONTAINERS = (
    b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0",
    b"\0\0\0\x1cftypavif",
    b"\x89PNG\r\n\x1a\n",
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"P6 # of\n1 1 ",
)
LOSSLESS = (".png", ".tiff", ".tif", ".bmp")
KEEPS_PROFILE = sorted(WRITABLE - {".bmp"})


def picture(height=24, width=36, channels=3, dtype=np.uint8):
    """Smooth colours, different in every corner and on every axis."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = [x / (width - 1), y / (height - 1), (x + 2 * y) / (width + 2 * height), x * y / (width * height)]
    array = np.rint(np.dstack(planes[:channels]) * np.iinfo(dtype).max).astype(dtype)
    return array[..., 0] if channels == 1 else array


def exif_block(orientation, order="<", thumbnail=b""):
    """IFD0 with orientation and make, an Exif directory with the ISO speed, and IFD1 with a thumbnail."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    ifd1 = 8 + 2 + 36 + 4 + 2 + 12 + 4 + 6
    ifd0 = struct.pack(order + "HHHIHH", 3, 274, 3, 1, orientation, 0)
    ifd0 += struct.pack(order + "HHII", 271, 2, 6, ifd1 - 6) + struct.pack(order + "HHII", 34665, 4, 1, 50)
    ifd0 += struct.pack(order + "I", ifd1 if thumbnail else 0)
    sub = struct.pack(order + "HHHIHHI", 1, 0x8827, 3, 1, 200, 0, 0)
    first = struct.pack(order + "HHHIIHHII", 2, 513, 4, 1, ifd1 + 30, 514, 4, 1, len(thumbnail))
    return head + ifd0 + sub + b"Acme!\0" + (first + bytes(4) + thumbnail if thumbnail else b"")


def profile(size=600, space=b"RGB "):
    """A profile with a rightful header and tag table, which is what libpng looks at."""
    icc = bytearray(132) + np.random.default_rng(0).bytes(size - 132)
    struct.pack_into(">I", icc, 0, len(icc))
    icc[8:12] = bytes((4, 0x40, 0, 0))
    icc[12:24] = b"mntr" + space + b"XYZ "
    icc[36:40] = b"acsp"
    icc[68:80] = struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    return bytes(icc)


def stored(upright, orientation):
    """The pixels a camera stores, which `orientation` turns into `upright`; from the meaning of each value."""
    row0, column0 = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "lt", 6: "rt", 7: "rb", 8: "lb"}[orientation]
    swapped = row0 in "lr"
    vertical, horizontal = (column0, row0) if swapped else (row0, column0)
    array = upright[::-1] if vertical == "b" else upright
    array = array[:, ::-1] if horizontal == "r" else array
    return np.ascontiguousarray(array.transpose(1, 0, 2) if swapped else array)


def over_white(rgba):
    white = np.iinfo(rgba.dtype).max
    alpha = rgba[..., 3:].astype(np.float64) / white
    return rgba[..., :3] * alpha + white * (1 - alpha)


@settings(deadline=None, max_examples=60)
@given(
    suffix=st.sampled_from(LOSSLESS),
    channels=st.sampled_from([1, 3, 4]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_lossless_round_trip(suffix, channels, dtype, height, width, seed):
    shape = (height, width) if channels == 1 else (height, width, channels)
    array = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    if suffix == ".bmp" and (channels == 4 or dtype == np.uint16):
        with pytest.raises(UsageError):
            encode(array, suffix)
        return
    photo = read_photo(encode(array, suffix))
    assert photo.rgb.dtype == dtype
    if channels == 4:
        alpha = np.full((height, width), np.iinfo(dtype).max) if photo.alpha is None else photo.alpha
        np.testing.assert_array_equal(alpha, array[..., 3])
        assert np.abs(photo.rgb - over_white(array)).max() <= 1.01  # TIFF comes multiplied: rounded twice
    else:
        assert photo.alpha is None
        np.testing.assert_array_equal(photo.rgb, array[..., None].repeat(3, 2) if channels == 1 else array)


@pytest.mark.parametrize("suffix", sorted(WRITABLE))
def test_every_format_keeps_the_colours(suffix):
    photo = read_photo(encode(picture(64, 96), suffix.upper()))
    assert np.abs(photo.rgb.astype(int) - picture(64, 96)).max() <= 12
    assert np.abs(photo.rgb.astype(int) - picture(64, 96)).mean() < 2


def test_jpeg_has_full_chroma():
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (200, 40, 40), (40, 40, 200)
    assert np.abs(read_photo(encode(stripes, ".jpg")).rgb.astype(int) - stripes).mean() < 6


@pytest.mark.parametrize("suffix", sorted({".webp", ".avif"} & WRITABLE))
def test_grey_is_lossless_and_alpha_survives(suffix):
    grey = picture(40, 50, 1)
    assert np.abs(read_photo(encode(grey, suffix)).rgb[..., 1].astype(int) - grey).max() <= (suffix == ".avif")
    rgba = picture(40, 50, 4)
    assert np.abs(read_photo(encode(rgba, suffix)).alpha.astype(int) - rgba[..., 3]).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_orientation_is_applied_and_reset(suffix, orientation):
    order = "<>"[orientation % 2]
    data = encode(stored(picture(48, 72), orientation), suffix, exif=exif_block(orientation, order))
    photo = read_photo(data)
    assert photo.rgb.shape == (48, 72, 3)
    assert np.abs(photo.rgb.astype(int) - picture(48, 72)).mean() < 3
    assert metadata.upright(photo.exif)[0] == 1
    again = read_photo(encode(photo.rgb, suffix, exif=photo.exif))
    assert again.rgb.shape == (48, 72, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_tiff_and_alpha(orientation):
    upright = picture(20, 30, 4)
    data = encode(stored(upright, orientation), ".png", exif=exif_block(orientation))
    np.testing.assert_array_equal(read_photo(data).alpha, upright[..., 3])
    tags = {274: (3, struct.pack("<H", orientation))}
    tiff = encode(stored(upright[..., :3], orientation), ".tiff")
    (offset,) = struct.unpack_from("<I", tiff, 4)
    tags |= metadata._read(tiff, "<", offset)
    tiff += bytes(len(tiff) % 2)
    tiff = tiff[:4] + struct.pack("<I", len(tiff)) + tiff[8:] + metadata._dump(tags, len(tiff))
    np.testing.assert_array_equal(read_photo(tiff).rgb, upright[..., :3])


@pytest.mark.skipif(".avif" not in WRITABLE, reason="OpenCV without AVIF")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_avif(orientation):
    data = encode(stored(picture(64, 96), orientation), ".avif", exif=exif_block(orientation))
    photo = read_photo(data)
    assert photo.rgb.shape == (64, 96, 3)
    assert np.abs(photo.rgb.astype(int) - picture(64, 96)).mean() < 3


@pytest.mark.parametrize("suffix", KEEPS_PROFILE)
@pytest.mark.parametrize("size", [600, 200_000])
def test_profile_and_exif_travel(suffix, size):
    photo = read_photo(encode(picture(), suffix, icc=profile(size), exif=exif_block(6, ">")[:-6] + b"Acme!\0"))
    data = encode(photo.rgb, suffix, icc=photo.icc, exif=photo.exif)
    again = read_photo(data)
    assert again.icc == profile(size)
    assert b"Acme!" in again.exif and again.exif == photo.exif
    assert read_photo(encode(picture(channels=1), suffix, icc=profile())).icc is None


@pytest.mark.parametrize("order", "<>")
def test_exif_moves_between_jpeg_and_tiff(order):
    photo = read_photo(encode(picture(), ".jpg", exif=exif_block(1, order)))
    tiff = read_photo(encode(photo.rgb, ".tiff", icc=profile(), exif=photo.exif))
    back = read_photo(encode(tiff.rgb, ".jpg", icc=tiff.icc, exif=tiff.exif))
    tags = metadata._read(back.exif, "<", 8)
    assert tags[271] == (2, b"Acme!\0")
    assert tags[34665][1] == {0x8827: (3, struct.pack("<H", 200))}
    assert back.icc == profile()


def test_exif_with_the_prefix_that_many_avif_have():
    orientation, exif = metadata.upright(b"Exif\0\0" + exif_block(6))
    assert orientation == 6 and exif == metadata.upright(exif_block(6))[1]


@pytest.mark.parametrize(("subfile", "refused"), [(1, True), (0, False), (2, False)])
def test_a_preview_is_not_taken_for_the_photo(subfile, refused):
    data = encode(picture(), ".tiff")
    tags = metadata._read(data, "<", struct.unpack_from("<I", data, 4)[0])
    tags[254] = (4, struct.pack("<I", subfile))
    data += bytes(len(data) % 2)
    data = data[:4] + struct.pack("<I", len(data)) + data[8:] + metadata._dump(tags, len(data))
    if refused:
        with pytest.raises(InputError, match="raw photo"):
            read_photo(data, "x.nef")
    else:
        assert read_photo(data).rgb.shape == (24, 36, 3)


def test_thumbnail_is_removed():
    orientation, exif = metadata.upright(exif_block(8, thumbnail=b"secret background"))
    assert orientation == 8
    assert b"secret" not in exif
    assert len(exif) == len(exif_block(8, thumbnail=b"secret background"))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=80), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", *CONTAINERS]))
def test_damaged_metadata_never_raises(noise, head):
    metadata.upright(head + noise)
    containers.read(head + noise, 8)
    if head:
        read_photo(encode(picture(4, 4), ".png", exif=head + noise))


def test_profiles_that_do_not_fit_are_dropped():
    grey = metadata.write_jpeg_profile(encode(picture(), ".jpg"), profile(space=b"GRAY"))
    assert read_photo(grey).icc is None
    assert read_photo(encode(picture(), ".png", icc=b"no profile at all" * 9)).icc is None


def png(width, height, depth, kind, rows, extra=b""):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_one_bit_and_grey_with_alpha():
    black_white = read_photo(png(8, 1, 1, 0, b"\0\xa0"))
    assert black_white.rgb[0, :4, 0].tolist() == [255, 0, 255, 0]
    grey = read_photo(png(2, 1, 8, 4, b"\0\x64\xff\x64\x00"))
    assert grey.rgb[0, :, 0].tolist() == [100, 255]
    assert grey.alpha.tolist() == [[255, 0]]


def test_opaque_alpha_counts_as_none():
    rgba = picture(channels=4)
    rgba[..., 3] = 255
    assert read_photo(encode(rgba, ".png")).alpha is None


@pytest.mark.parametrize("suffix", sorted(WRITABLE))
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_cut_short(suffix, share):
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    data = encode(noise, suffix)
    with pytest.raises(InputError, match=r"^x\.pic "):
        read_photo(data[: int(len(data) * share)], "x.pic")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"just a letter to a friend", "not a photo"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp41", "`mattecli video`"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7", "`mattecli video`"),
        (b"RIFF\x24\0\0\0AVI LIST", "`mattecli video`"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "damaged"),
        (png(60000, 60000, 8, 2, b"\0"), "2\\^30"),
        (cv2.imencode(".tiff", np.zeros((4, 4, 3), np.float32))[1].tobytes(), "float32"),
    ],
)
def test_what_is_no_photo(data, words):
    with pytest.raises(InputError, match=words):
        read_photo(data, "x")


def test_paths_that_are_no_photo(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_photo(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="folder"):
        read_photo(tmp_path)


@pytest.mark.parametrize(
    ("suffix", "alpha", "depth"),
    [
        (".jpg", True, 8),
        (".bmp", True, 8),
        (".webp", False, 16),
        (".JPEG", False, 16),
        (".gif", False, 8),
        ("", False, 8),
    ],
)
def test_refused_suffixes(suffix, alpha, depth):
    with pytest.raises(UsageError):
        check_suffix(suffix, alpha=alpha, bit_depth=depth)


@pytest.mark.parametrize("suffix", sorted({".gif", ".jp2", ".pgm", ".pnm", ".ppm"} & PHOTOS))
def test_formats_that_are_only_read(suffix):
    stored = np.zeros((64, 96, 3), np.uint8)
    stored[:, :48] = 255
    photo = read_photo(cv2.imencode(suffix, stored[..., 0] if suffix == ".pgm" else stored)[1].tobytes())
    assert photo.rgb.shape == stored.shape and photo.alpha is None
    assert np.abs(photo.rgb.astype(int) - stored).mean() < 4, "OpenCV's GIF has 256 colours and no white"


def test_what_a_format_has_no_place_for_is_named():
    icc, exif, long = profile(), exif_block(1), bytes(70000)
    assert dropped(".bmp", icc, exif) == "colour profile and EXIF"
    assert dropped(".BMP", None, exif) == "EXIF" == dropped(".jpeg", icc, long)
    assert dropped(".bmp", None, None) == dropped(".jpg", icc, exif) == dropped(".png", icc, long) == ""


def test_too_long_for_webp():
    with pytest.raises(UsageError, match="16383"):
        encode(np.zeros((2, 16384, 3), np.uint8), ".webp")


def test_suffix_sets_are_lower_case():
    assert {suffix.lower() for suffix in PHOTOS} == PHOTOS >= READABLE > WRITABLE


def test_media_needs_no_torch():
    rooms = ", ".join(f"mattecli.media.{name}" for name in ("photos", "batch", "foreground"))
    code = f"import sys, {rooms}; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_reads_what_pillow_writes():
    image = pytest.importorskip("PIL.Image")
    for mode, kind in [
        ("CMYK", "JPEG"),
        ("P", "PNG"),
        ("LA", "PNG"),
        ("RGBA", "TIFF"),
        ("CMYK", "TIFF"),
        ("1", "TIFF"),
    ]:
        file = io.BytesIO()
        image.fromarray(picture()).convert(mode).save(file, kind)
        rgb = read_photo(file.getvalue()).rgb
        assert np.abs(rgb.astype(int) - np.asarray(image.open(file).convert("RGB"))).mean() < 12


def test_transparent_big_tiff():
    image = pytest.importorskip("PIL.Image")
    rgba, file = picture(channels=4), io.BytesIO()
    image.fromarray(rgba).save(file, "TIFF", big_tiff=True, icc_profile=profile(), exif=b"Exif\0\0" + exif_block(1))
    assert file.getvalue()[:4] == b"II+\0"
    photo = read_photo(file.getvalue())
    assert np.abs(photo.rgb - over_white(rgba)).max() <= 1
    assert photo.icc == profile()
    tags = metadata._read(photo.exif, "<", 8)
    assert tags[271] == (2, b"Acme!\0") and tags[34665][1] == {0x8827: (3, struct.pack("<H", 200))}
