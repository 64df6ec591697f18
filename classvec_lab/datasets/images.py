"""Image files: any format that Pillow reads becomes 8-bit RGB, and a file is identified by its
bytes.
"""

import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import DatasetError, FileFormatError
from ..files import cache_dir, hash_bytes, read_json, write_json
from ..progress import progress_bar

IMAGES = re.compile(  # names of files that are not hidden
    r"[^.].*\.(avif|bmp|gif|hei[cf]|jfif|jpe?g?|jp2|p[bgnp]m|png|tiff?|webp)", re.IGNORECASE
)
_SETTLED = 2.0  # seconds: a younger file may change again without a new time stamp


def to_rgb(image: Image.Image, name: object = "the image") -> Image.Image:
    """The image as 8-bit RGB: transparency over white, 16-bit grey 0..65535 and float grey 0..1 to
    0..255.

    Raises DatasetError naming `name` where the values lie outside those ranges.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        image = _grey(image, name)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _grey(image: Image.Image, name: object) -> Image.Image:
    """Deep greyscale ("F", "I", "I;16" in either byte order) as an 8-bit image, each value rounded
    to the nearest.
    """
    values = np.asarray(image)
    top = 1.0 if image.mode == "F" else 65535
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= top):  # written so that NaN fails too
        raise DatasetError(
            f"{name}: a grey image of mode {image.mode} must lie in 0..{top:g}, "
            f"this one spans {low:g}..{high:g}"
        )
    grey = np.rint(values * (255 / top)).astype(np.uint8)
    transparent = image.info.get("transparency")  # Pillow composites no 16-bit image, hence here
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn any error into one that names the image: Pillow's decoders raise nearly every kind."""
    try:
        yield
    except DatasetError:
        raise
    except Exception as error:
        what = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            what = "not an image, or damaged at its very start"
        elif getattr(error, "strerror", None):
            what = error.strerror.lower()
        raise DatasetError(f"can't read the image {path}: {what}") from error


def _opened(data: bytes) -> Image.Image:
    """The image in a file's bytes, of which only the header has been read."""
    if not data:
        raise EOFError("the file is empty")
    return Image.open(BytesIO(data))


def read_image(path: Path) -> Image.Image:
    """The first frame of an image file as RGB, turned upright by its EXIF orientation; see
    `to_rgb`.

    Raises DatasetError that names the file when it is missing, empty, truncated or no image.
    """
    with _reading(path), _opened(path.read_bytes()) as image:
        image.load()
        upright = image
        with suppress(Exception):  # an EXIF block that can't be parsed turns nothing
            upright = ImageOps.exif_transpose(image)
        return to_rgb(upright, path)


def content_hashes(root: Path, files: Sequence[str]) -> list[str]:
    """SHA-256 (hex) of each file's bytes, files being relative to `root`; each new one's header is
    checked.

    Remembered on disk per (path, size, modification time), so that only changed files are read
    again. Raises DatasetError naming the first file that is missing or not an image.
    """
    root = root.resolve()
    memo_path = cache_dir("hashes") / f"{hash_bytes(str(root).encode())}.json"
    try:
        memo = read_json(memo_path)
    except (FileFormatError, OSError):
        memo = {}  # absent or damaged: made anew
    fresh, hashes = {}, []
    for name in progress_bar(files, desc="hashing images", unit="file", delay=2):
        path = root / name
        with _reading(path):
            stat = path.stat()
            stamp = f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"
            known, _, digest = str(memo.get(name)).rpartition(":")
            if known != stamp:
                data = path.read_bytes()
                _opened(data).close()
                digest = hashlib.sha256(data).hexdigest()
                if time.time() - stat.st_mtime > _SETTLED:
                    fresh[name] = f"{stamp}:{digest}"
        hashes.append(digest)
    if fresh:
        with suppress(OSError):  # a read-only cache costs time, not the result
            write_json(memo_path, memo | fresh)
    return hashes


@dataclass
class ImageFiles:
    """Image files under a root, in order, as an `ImageDataset` asks for them.

    `table`: a frame with one row a file, of which `file` is the path relative to the root.
    """

    root: Path
    table: pd.DataFrame

    def load(self, i: int) -> Image.Image:
        return read_image(self.root / self.table["file"].iat[i])

    def identity(self, indices: np.ndarray) -> object:
        files = self.table["file"].iloc[indices].tolist()
        return ["files", *zip(files, content_hashes(self.root, files), strict=True)]
