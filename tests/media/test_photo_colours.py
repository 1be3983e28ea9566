"""Photos of one known colour, in all the ways that files tell their colours."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from av import CodecContext, VideoFrame
from PIL import Image, ImageCms

from mattecli.errors import InputError
from mattecli.inference.behind import in_colour
from mattecli.media import containers, metadata, profiles
from mattecli.media.clips.planes.frame import Colour
from mattecli.media.photos import PHOTOS, UNREADABLE, WRITABLE, encode, read_photo
from tests.icc import ADOBE_RGB, BT2020, DISPLAY_P3, SRGB, Space, assemble, table

SAND, GREY = np.array([200, 100, 50]) / 255, np.array([100, 100, 100]) / 255
SHAPE = 64, 64
LINEAR, GAMMA18 = Space(SRGB.primaries, gamma=1.0), Space(SRGB.primaries, gamma=1.8)
INKS = np.array([[0.1, 0.4, 0.7], [0.7, 0.1, 0.3], [0.9, 0.8, 0.1], [0, 0, 0]])
"""Linear light that cyan, magenta, yellow and black leave."""
EXIF = sorted(WRITABLE - {".bmp"})
needs_avif = pytest.mark.skipif(".avif" not in WRITABLE, reason="OpenCV without AVIF")
needs_jp2 = pytest.mark.skipif(".jp2" not in PHOTOS, reason="OpenCV without JPEG 2000")


def flat(signal, top=255):
    """A picture of one colour in [0, 1]; `top` is white."""
    return np.rint(np.broadcast_to(signal, (*SHAPE, 3)) * top).astype(np.uint8 if top < 256 else np.uint16)


def sand(space, top=255):
    return flat(SRGB.to(space, SAND), top)


def png(rgb, **chunks):
    file = encode(rgb, ".png")
    parts = ((name.encode(), data) for name, data in chunks.items())
    told = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return file[:33] + told + file[33:]


def gama(number, *chromaticities):
    told = {"gAMA": struct.pack(">I", number)}
    return told | {"cHRM": struct.pack(">8I", *chromaticities)} if chromaticities else told


OF_ADOBE = gama(45470, 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)


def avif(rgb, depth, codes=(2, 2)):
    parameters = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 100]
    file = cv2.imencode(".avif", rgb[..., ::-1], parameters)[1].tobytes()
    untold = b"nclx" + struct.pack(">HH", 2, 2)
    assert untold in file
    return file.replace(untold, b"nclx" + struct.pack(">HH", *codes))


def jp2(rgb, icc):
    """With a profile in place of the number that says sRGB."""
    file = cv2.imencode(".jp2", rgb[..., ::-1])[1].tobytes()
    header, colour = file.index(b"jp2h") - 4, file.index(b"colr") - 4
    length, old = (struct.unpack_from(">I", file, place)[0] for place in (header, colour))
    box = struct.pack(">I", 11 + len(icc)) + b"colr\2\0\0" + icc
    longer = struct.pack(">I", length - old + len(box))
    return file[:header] + longer + file[header + 4 : colour] + box + file[colour + old :]


def exif(space, index=b"R03\0"):
    """Only the colour space and the index of interoperability."""
    head = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 34665, 4, 1, 26, 0)
    camera = struct.pack("<HHHIHHHHIII", 2, 0xA001, 3, 1, space, 0, 40965, 4, 1, 56, 0)
    return head + camera + struct.pack("<HHHI4sI", 1, 1, 2, 4, index, 0)


def saved(picture, mode, kind, icc=None, **options):
    file = io.BytesIO()
    Image.frombytes(mode, picture.shape[1::-1], picture.tobytes()).save(file, kind, icc_profile=icc, **options)
    return file.getvalue()


def grey_profile():
    return GAMMA18.profile.replace(b"RGB ", b"GRAY").replace(b"rTRC", b"kTRC")


def cmyk_profile():
    cover = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4, 1)
    light = np.prod(1 - cover * (1 - INKS), 1)
    nodes = light @ SRGB.matrix.T / (65535 / 32768)
    return assemble(b"prtrCMYK", {b"A2B0": table(np.eye(3), [0, 1], nodes)})


def in_srgb(photo):
    pixels = profiles.convert(photo.rgb, photo.icc, None)
    return pixels / np.iinfo(pixels.dtype).max


TOLD = {
    "P3 by cICP": lambda: png(sand(DISPLAY_P3), cICP=b"\x0c\x0d\0\1"),
    "BT.2020 by cICP": lambda: png(sand(BT2020, 65535), cICP=b"\x09\x0e\0\1"),
    "linear by gAMA": lambda: png(sand(LINEAR, 65535), **gama(100000)),
    "gAMA and cHRM": lambda: png(sand(ADOBE_RGB), **OF_ADOBE),
    "EXIF of 2": lambda: encode(sand(ADOBE_RGB), ".jpg", exif=exif(2, b"R98\0")),
    **{f"EXIF in {s}": lambda s=s: encode(sand(ADOBE_RGB), s, exif=exif(0xFFFF)) for s in EXIF},
}


@pytest.mark.parametrize("make", TOLD.values(), ids=TOLD)
def test_colours_told_without_a_profile(make):
    photo = read_photo(make())
    assert np.abs(in_srgb(photo) - SAND).max() < 3.5 / 255
    again = read_photo(encode(photo.rgb, ".png", icc=photo.icc, exif=photo.exif))
    assert again.icc == photo.icc is not None and photo.note is None


@needs_avif
@pytest.mark.parametrize("depth", [8, 10, 12])
def test_codes_and_depths_of_avif(depth):
    photo = read_photo(avif(sand(DISPLAY_P3, 2**depth - 1), depth, (12, 13)))
    assert photo.rgb.dtype == (np.uint8 if depth == 8 else np.uint16)
    assert np.abs(in_srgb(photo) - SAND).max() < 3.5 / 255
    untold = read_photo(avif(flat(SAND, 2**depth - 1), depth))
    assert untold.icc is None and np.abs(in_srgb(untold) - SAND).max() < 1.5 / 255


@needs_jp2
def test_profile_of_jpeg_2000():
    photo = read_photo(jp2(sand(DISPLAY_P3), DISPLAY_P3.profile))
    assert photo.icc == DISPLAY_P3.profile and np.abs(in_srgb(photo) - SAND).max() < 2 / 255


@needs_jp2
@pytest.mark.parametrize(("kind", "top"), [("gray10le", 1023), ("gray12le", 4095), ("gray16le", 65535)])
def test_depths_of_jpeg_2000(kind, top):
    coder = CodecContext.create("jpeg2000", "w")
    coder.height, coder.width, coder.pix_fmt, coder.time_base, coder.options = *SHAPE, kind, 1, {"format": "jp2"}
    frame = VideoFrame(*SHAPE, kind)
    frame.planes[0].update(flat(GREY, top)[..., 0].astype("<u2").tobytes())
    (packet,) = coder.encode(frame) + coder.encode(None)
    file = bytes(packet)
    for data in (file, file[file.index(b"\xff\x4f\xff\x51") :]):
        assert np.abs(in_srgb(read_photo(data)) - GREY).max() < 1 / 255


@pytest.mark.parametrize(("kind", "top"), [("P6", 100), ("P6", 1023), ("P5", 4095), ("P3", 100), ("P3", 1023)])
def test_white_of_pnm(kind, top):
    levels = flat(GREY, top)[..., 0] if kind == "P5" else flat(SAND, top)
    ascii = " ".join(map(str, levels.ravel())).encode() + b"\n\n"
    pixels = ascii if kind == "P3" else levels.astype(">u2" if top > 255 else np.uint8).tobytes()
    photo = read_photo(f"{kind} # of the sea\n64\n64 {top}\n".encode() + pixels)
    assert np.abs(in_srgb(photo) - (GREY if kind == "P5" else SAND)).max() < 2 / 255


def with_tag(tiff, tag, value):
    tags = metadata._read(tiff, "<", struct.unpack_from("<I", tiff, 4)[0]) | {tag: (3, struct.pack("<H", value))}
    tiff += bytes(len(tiff) % 2)
    return tiff[:4] + struct.pack("<I", len(tiff)) + tiff[8:] + metadata._dump(tags, len(tiff))


@pytest.mark.parametrize("top", [255, 65535])
def test_tiff_whose_black_is_large(top):
    photo = read_photo(with_tag(encode(top - flat(GREY, top)[..., 0], ".tiff"), 262, 0))
    assert np.abs(in_srgb(photo) - GREY).max() < 0.5 / 255


@pytest.mark.parametrize(
    "file",
    [
        png(flat(SAND), **OF_ADOBE, sRGB=b"\0"),
        png(flat(SAND), **gama(45455)),
        png(flat(SAND), **gama(0)),
        png(flat(SAND), **gama(45470, *[0] * 8)),
        png(flat(SAND), cICP=b"\1\x0d\0\1"),
        png(flat(SAND), cICP=b"\1"),
        encode(flat(SAND), ".png", exif=exif(0xFFFF, b"R98\0")),
        encode(flat(SAND), ".png", exif=exif(1)),
    ],
    ids=["sRGB", "gamma 2.2", "gamma 0", "no colours", "codes of sRGB", "half a code", "uncalibrated", "EXIF of sRGB"],
)
def test_what_counts_as_srgb(file):
    photo = read_photo(file)
    assert photo.icc is None and (photo.rgb == flat(SAND)).all()


def test_a_profile_tells_more_than_the_rest():
    plain = encode(flat(SAND), ".png", icc=DISPLAY_P3.profile, exif=exif(0xFFFF))
    assert read_photo(plain).icc == DISPLAY_P3.profile


@pytest.mark.parametrize(("mode", "kind"), [("L", "JPEG"), ("L", "PNG"), ("L", "TIFF"), ("LA", "PNG")])
def test_grey_with_a_profile(mode, kind):
    levels = np.rint(255 * SRGB.to(GAMMA18, GREY)).astype(np.uint8)[0]
    picture = np.broadcast_to(np.array([levels, 128], np.uint8)[: len(mode)], (*SHAPE, len(mode)))
    photo = read_photo(saved(picture, mode, kind, grey_profile()))
    white = np.ones(3) if mode == "LA" else SRGB.to(GAMMA18, GREY)
    share = 128 / 255
    seen = GAMMA18.to(SRGB, SRGB.to(GAMMA18, GREY) * share + white * (1 - share))
    assert np.abs(in_srgb(photo) - seen).max() < 2 / 255 and photo.note is None
    damaged = read_photo(saved(picture, mode, kind, grey_profile().replace(b"kTRC", b"????")))
    assert damaged.icc is None and "grey" in damaged.note


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize("inks", [(1, 0, 0, 0), (0, 1, 1, 0), (0, 0, 0, 0), (1, 1, 0, 1)])
def test_cmyk_with_a_profile(kind, inks):
    picture = np.broadcast_to(255 * np.array(inks, np.uint8), (*SHAPE, 4))
    photo = read_photo(saved(picture, "CMYK", kind, cmyk_profile()))
    light = np.prod([INKS[i] for i in range(4) if inks[i]], 0) * np.ones(3)
    assert photo.icc is None and photo.note is None
    assert np.abs(in_srgb(photo) - SRGB.signal(light)).max() < 3 / 255


def test_cmyk_as_well_as_can_be():
    picture = np.broadcast_to(np.array([255, 0, 0, 0], np.uint8), (*SHAPE, 4))
    damaged = read_photo(saved(picture, "CMYK", "JPEG", cmyk_profile().replace(b"A2B0", b"????")))
    assert damaged.note.startswith("its CMYK colours are only roughly right: LittleCMS")
    assert np.abs(in_srgb(damaged) - [0, 1, 1]).max() < 3 / 255
    assert read_photo(saved(picture, "CMYK", "JPEG")).note is None


@pytest.mark.parametrize("orientation", [1, 6])
def test_lab(orientation):
    picture = flat(SAND)
    picture[:, 40:] = 255
    to_lab = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    file = io.BytesIO()
    lab = ImageCms.profileToProfile(Image.fromarray(picture), *to_lab, outputMode="LAB")
    lab.save(file, "TIFF", tiffinfo={274: orientation})
    upright = picture if orientation == 1 else picture[::-1].transpose(1, 0, 2)
    assert np.abs(read_photo(file.getvalue()).rgb.astype(int) - upright).max() <= 3


def test_hdr_becomes_sdr():
    dark = flat(np.array([90, 60, 40]) / 255)
    signal = in_colour(dark, Colour(9, 9, 16))
    cut = np.dstack((signal, np.full(SHAPE, 65535, np.uint16)))
    cut[:, 32:, 3] = 0
    code, profile = bytes((9, 16, 0, 1)), b"x\0\0" + zlib.compress(ADOBE_RGB.profile)
    for photo in (read_photo(png(signal, cICP=code)), read_photo(png(cut, cICP=code, iCCP=profile))):
        assert photo.icc is None and "HDR" in photo.note and photo.rgb.dtype == np.uint16
        np.testing.assert_allclose(photo.rgb[:, :32] / 65535, dark[:, :32] / 255, atol=2 / 255)
    assert (photo.rgb[:, 32:] == 65535).all()
    grey = read_photo(png(np.rint(signal / 257).astype(np.uint8)[..., 0], cICP=code))
    assert "HDR" in grey.note and grey.rgb.dtype == np.uint8
    assert containers.read(png(signal, cICP=bytes((9, 18, 0, 1))), 16).hdr == Colour(primaries=9, transfer=18)


@needs_avif
def test_hdr_of_avif():
    dark = flat(np.array([90, 60, 40]) / 255)
    photo = read_photo(avif(in_colour(dark, Colour(9, 9, 16)) >> 6, 10, (9, 16)))
    np.testing.assert_allclose(photo.rgb / 65535, dark / 255, atol=3 / 255)


@needs_avif
def test_depth_of_avif_without_items():
    file = avif(flat(SAND, 1023), 10)
    assert containers.read(file.replace(b"meta", b"????"), 16) == containers.Container(top=1023)


def test_pam_is_refused():
    with pytest.raises(InputError, match="known format"):
        read_photo(cv2.imencode(".pam", flat(SAND))[1].tobytes())


@pytest.mark.parametrize("suffix", [".pam", ".pfm", ".hdr", ".pic", ".exr", ".ras", ".sr", ".apng", ".jp2", ".gif"])
def test_no_format_of_opencv_is_passed_over(suffix):
    assert (suffix in PHOTOS) != (suffix in UNREADABLE) or not cv2.haveImageWriter(f"x{suffix}")
