"""Photos in and out, through OpenCV: decoded upright, written whole or not at all.

Transparent pixels of a photo are laid over white for the network, and the photo's own alpha multiplies the
estimated one.

In: JPEG, PNG, WebP, TIFF, BMP and PNM, and AVIF, JPEG 2000 and GIF where OpenCV was built with them; 8 or 16 bits a
channel, whatever the file's suffix says. Grey, palette, CMYK and Lab become RGB, and HDR (PQ, HLG) becomes SDR. Out:
JPEG, PNG, WebP, TIFF, BMP and AVIF. ICC profiles and EXIF are kept, but for BMP, which has no place for them
(`dropped`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from mattecli.errors import InputError, UsageError, reason
from mattecli.media import containers, metadata, profiles, spaces

Pixels: TypeAlias = npt.NDArray[Any]
"""uint8 or uint16."""


def _built(suffixes: tuple[str, ...]) -> frozenset[str]:
    """Those of formats that OpenCV was built with."""
    return frozenset(suffix for suffix in suffixes if cv2.haveImageWriter(f"x{suffix}"))


WRITABLE: frozenset[str] = _built((".avif",)) | {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
"""Suffixes that `encode` writes, in lower case."""
READABLE: frozenset[str] = WRITABLE | {".jpe", ".jfif", ".mpo", ".apng", ".dib", ".ppm", ".pgm", ".pbm", ".pnm"}
READABLE |= _built((".ras", ".sr")) | ({".jp2", ".j2k", ".jpx"} if _built((".jp2",)) else set())
"""Suffixes of still pictures, in lower case."""
PHOTOS: frozenset[str] = READABLE | _built((".gif",))
"""What a folder is searched for: of an animation the first picture, as of any file that is named."""
UNREADABLE: frozenset[str] = frozenset(
    {".heic", ".heif", ".hif", ".jxl", ".psd", ".xcf", ".tga", ".pam", ".exr", ".hdr", ".pic", ".pfm"}
    | {".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw", ".x3f"}
)
"""Suffixes of photos that other programs read, in lower case."""

_ALPHA = {".png", ".webp", ".tif", ".tiff", ".avif"}
_DEEP = {".png", ".tif", ".tiff"}
_TIFF, _JPEG = (".tif", ".tiff"), (".jpg", ".jpeg")
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"BM", b"RIFF", b"GIF8", b"\0\0\0\x0cjP  ")
_LONGEST_SIDE = {".webp": 16383, ".jpg": 65500, ".jpeg": 65500, ".avif": 65536}
_JPEG_SEGMENT = 65533 - len(b"Exif\0\0")

# what OpenCV would print of a damaged file reaches the user as an error's one sentence
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True)
class Photo:
    """A decoded photo, upright.

    rgb: [H, W, 3] uint8 or uint16, full range, RGB, display-referred; transparent pixels laid over white.
    alpha: [H, W] of the same type, the file's own alpha; None where there is none or all is opaque.
    icc: the profile of `rgb`, None where that counts as sRGB. It is the file's own, or made of what the file says
        otherwise: of a profile for grey, of H.273 codes in PNG and AVIF, of PNG's gamma, of EXIF's Adobe RGB.
    exif: the EXIF block without its `Exif\\0\\0` prefix, with orientation 1 and without thumbnail.
    source: what messages call the photo.
    note: what became of colours that no profile for RGB can tell, in words.
    """

    rgb: Pixels
    alpha: Pixels | None
    icc: bytes | None
    exif: bytes | None
    source: str
    note: str | None = None


def read_photo(source: Path | bytes, name: str = "") -> Photo:
    """Reads a photo from a file, or from its bytes (as from stdin), turned upright by its EXIF orientation.

    `name` is what messages call it (default: the path, or "stdin"). Raises InputError where the file is
    missing, isn't a photo of a known format, is damaged or cut short, holds floats or only a preview (raw
    files), or has more than 2^30 pixels.
    """
    name = name or ("stdin" if isinstance(source, bytes) else str(source))
    data = source if isinstance(source, bytes) else _load(source, name)
    if not data:
        raise InputError(f"{name} is empty.")
    pixels, icc, exif = _decode(data, name)
    extra = containers.read(data, pixels.dtype.itemsize * 8)
    if extra.preview:
        raise InputError(f"{name} is a raw photo, of which only the preview can be read; develop it to TIFF or JPEG.")
    exif = exif or extra.exif
    orientation, exif = metadata.upright(exif) if exif else (1, None)
    icc = icc or extra.icc
    if not icc and not extra.hdr and exif and metadata.is_adobe_rgb(exif):
        icc = spaces.profile(spaces.ADOBE_RGB)
    pixels, icc, note = _settle(_full_range(pixels, extra), icc, extra, data)
    rgb, alpha = _split(_turn(pixels, extra.orientation or orientation), associated=extra.associated)
    return Photo(rgb, alpha, icc, exif, name, note)


def check_suffix(suffix: str, *, alpha: bool, bit_depth: int) -> None:
    """Raises UsageError where files of `suffix` (".png") can't hold an alpha channel, or `bit_depth` (8 or
    16) bits.
    """
    suffix = suffix.lower()
    if suffix not in WRITABLE:
        known = ", ".join(sorted(WRITABLE))
        raise UsageError(f"{suffix or 'A name without suffix'} is no format that can be written; use one of {known}.")
    if alpha and suffix not in _ALPHA:
        raise UsageError(f"{suffix} can't hold transparency; use .png, .webp or .tiff.")
    if bit_depth == 16 and suffix not in _DEEP:
        raise UsageError(f"{suffix} can't hold 16 bits a channel; use .png or .tiff, or 8 bits.")


def dropped(suffix: str, icc: bytes | None, exif: bytes | None) -> str:
    """What `encode` leaves out of a file of `suffix` for want of a place, in words; "" where it keeps all."""
    if suffix.lower() == ".bmp":
        return " and ".join(name for name, block in {"colour profile": icc, "EXIF": exif}.items() if block)
    return "EXIF" if exif and suffix.lower() in _JPEG and len(exif) > _JPEG_SEGMENT else ""


def encode(array: Pixels, suffix: str, *, icc: bytes | None = None, exif: bytes | None = None) -> bytes:
    """The file of a picture: `array` [H, W] grey, [H, W, 3] RGB or [H, W, 4] RGBA (straight), uint8 or
    uint16.

    JPEG is written at quality 95 with full chroma, WebP and AVIF at 95, and grey (an alpha) losslessly in
    both. A profile goes into colour pictures only. Raises UsageError where `suffix` can't hold the picture.
    """
    suffix = suffix.lower()
    colour = array.ndim == 3
    alpha = colour and array.shape[2] == 4
    check_suffix(suffix, alpha=alpha, bit_depth=array.dtype.itemsize * 8)
    if max(array.shape[:2]) > (limit := _LONGEST_SIDE.get(suffix, 2**20)):
        size = f"{array.shape[1]} x {array.shape[0]}"
        raise UsageError(f"{suffix} holds at most {limit} pixels a side, not {size}; use .png or .tiff.")
    if colour:
        array = cv2.cvtColor(array, cv2.COLOR_RGBA2BGRA if alpha else cv2.COLOR_RGB2BGR)
    kinds: list[int] = []
    blocks: list[npt.NDArray[np.uint8]] = []
    if exif and suffix not in _TIFF and not dropped(suffix, None, exif):
        kinds.append(cv2.IMAGE_METADATA_EXIF)
        blocks.append(np.frombuffer(exif, np.uint8))
    if icc and colour and suffix not in _TIFF + _JPEG and not dropped(suffix, icc, None):
        kinds.append(cv2.IMAGE_METADATA_ICCP)
        blocks.append(np.frombuffer(icc, np.uint8))
    data = _compress(suffix, array, kinds, blocks, _parameters(suffix, colour))
    icc = icc if colour else None
    if suffix in _TIFF:
        return metadata.write_tiff(data, icc, exif, alpha=alpha)
    return metadata.write_jpeg_profile(data, icc) if icc and suffix in _JPEG else data


def _compress(
    suffix: str, array: Pixels, kinds: list[int], blocks: list[npt.NDArray[np.uint8]], parameters: list[int]
) -> bytes:
    problem = ""
    # libpng refuses a picture for a profile that breaks the rules; the picture matters more
    for k, b in ((kinds, blocks), ([], []))[: 2 if kinds else 1]:
        try:
            done, buffer = cv2.imencodeWithMetadata(suffix, array, k, b, parameters)
        except cv2.error as error:
            done, problem = False, f" ({error.err})"
        if done:
            return bytes(buffer.data)
    raise InputError(f"The picture can't be written as {suffix}{problem}.")


def _load(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{name} does not exist.") from error
    except IsADirectoryError as error:
        raise InputError(f"{name} is a folder, not a photo.") from error
    except OSError as error:
        raise InputError(f"{name} can't be read: {reason(error)}.") from error


def _decode(data: bytes, name: str) -> tuple[Pixels, bytes | None, bytes | None]:
    """Pixels as stored (grey, BGR or BGRA), profile and EXIF."""
    try:
        decoded, kinds, blocks = cv2.imdecodeWithMetadata(np.frombuffer(data, np.uint8), flags=cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise InputError(f"{name} has more than 2^30 pixels, or a side longer than 2^20.") from error
        decoded = None
    except MemoryError as error:
        raise InputError(f"{name} is too large for the memory of this machine.") from error
    if decoded is None or decoded.size == 0 or data.startswith(b"P7"):  # of PAM OpenCV exchanges red and blue
        raise InputError(_why_not(data, name))
    if decoded.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{name} holds {decoded.dtype} values; convert it to 8 or 16 bits a channel.")
    found = {kind: block.tobytes() for kind, block in zip(kinds, blocks, strict=True)}
    pixels: Pixels = decoded
    return pixels, found.get(cv2.IMAGE_METADATA_ICCP), found.get(cv2.IMAGE_METADATA_EXIF)


def _why_not(data: bytes, name: str) -> str:
    boxed, kind = data[4:8] == b"ftyp", data[8:12]
    if boxed and kind in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return f"{name} is a HEIC photo, which can't be read; convert it to JPEG or PNG."
    if boxed and kind == b"crx ":
        return f"{name} is a raw photo, which can't be read; develop it to TIFF or JPEG."
    clip = boxed and kind not in (b"avif", b"avis")
    if clip or data[:4] == b"\x1aE\xdf\xa3" or (data[:4] == b"RIFF" and kind == b"AVI "):
        return f"{name} is a clip, not a photo; `mattecli video` takes it."
    if boxed or data.startswith(_BEGINNINGS):
        return f"{name} is damaged or cut short, or of a kind that can't be read."
    optional = {".avif": "AVIF", ".jp2": "JPEG 2000", ".gif": "GIF"}
    known = ", ".join(["JPEG", "PNG", "WebP", "TIFF", "BMP", "PNM", *(optional[s] for s in optional if s in PHOTOS)])
    return f"{name} is not a photo in a known format ({known})."


def _full_range(pixels: Pixels, extra: metadata.Container) -> Pixels:
    """Pixels of which all ones are white."""
    white = int(np.iinfo(pixels.dtype).max)
    if extra.inverted:
        pixels = white - pixels
    if not 0 < extra.top < white:
        return pixels
    levels = np.rint(np.linspace(0, white, extra.top + 1)).astype(pixels.dtype)
    return np.take(levels, pixels, mode="clip")


def _settle(
    pixels: Pixels, icc: bytes | None, extra: metadata.Container, data: bytes
) -> tuple[Pixels, bytes | None, str | None]:
    """Pixels in a space that a profile for RGB tells, that profile, and what couldn't be kept."""
    if extra.hdr:
        pixels = pixels if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
        pixels[..., 2::-1] = profiles.to_sdr(pixels[..., 2::-1], extra.hdr)
        return pixels, None, "its HDR colours were tone-mapped to SDR."
    kind = icc[16:20] if icc else b""
    if (extra.lab or kind == b"CMYK") and pixels.ndim == 3:
        try:
            found = profiles.of_lab_or_cmyk(data, icc)
        except InputError as error:
            return pixels, None, f"its {'Lab' if extra.lab else 'CMYK'} colours are only roughly right: {error}"
        if found is not None and found.shape[:2] == pixels.shape[:2]:
            pixels[..., 2::-1] = found
        return pixels, None, None
    if icc and kind == b"GRAY" and (pixels.ndim == 2 or np.ptp(pixels[..., :3], axis=2).max() == 0):
        icc = spaces.of_grey(icc)
        return pixels, icc, None if icc else "its grey levels are taken for sRGB's, since its profile has no curve."
    return pixels, icc if kind == b"RGB " else None, None


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """Upright pixels, from those stored with the EXIF orientation (1..8)."""
    if orientation >= 5:
        pixels = cv2.transpose(pixels)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return pixels if flip is None else cv2.flip(pixels, flip)


def _split(pixels: Pixels, *, associated: bool) -> tuple[Pixels, Pixels | None]:
    """RGB over white, and alpha, of grey, BGR or BGRA; `associated`: the colours are multiplied by alpha
    already.
    """
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), None
    if pixels.shape[2] == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), None
    rgb = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
    alpha = np.ascontiguousarray(pixels[..., 3])
    white = int(np.iinfo(alpha.dtype).max)
    if int(alpha.min()) == white:
        return rgb, None
    rows = max(1, 2**22 // alpha.shape[1])
    for top in range(0, alpha.shape[0], rows):
        strip, a = rgb[top : top + rows], alpha[top : top + rows, :, None].astype(np.float32) / white
        colour = strip.astype(np.float32) * (1 if associated else a) + (1 - a) * white
        strip[...] = np.minimum(np.rint(colour), white)
    return rgb, alpha


def _parameters(suffix: str, colour: bool) -> list[int]:
    if suffix in _JPEG:
        sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        return [cv2.IMWRITE_JPEG_QUALITY, 95, *sampling]
    if suffix == ".webp":
        return [cv2.IMWRITE_WEBP_QUALITY, 95 if colour else 101]
    if suffix == ".avif":
        return [cv2.IMWRITE_AVIF_QUALITY, 95 if colour else 100]
    return []
