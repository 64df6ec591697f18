import gc
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from classvec_lab.datasets.images import ImageFiles, content_hashes, read_image, to_rgb
from classvec_lab.errors import DatasetError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]


def saved(path, image, **options):
    image.save(path, **options)
    return path


def pixels(path):
    image = read_image(path)
    assert image.mode == "RGB"
    assert type(image) is Image.Image  # plain: nothing of the file hangs on to it
    return np.asarray(image)


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "ppm", "webp"])
def test_rgb_comes_back_as_it_was(tmp_path, extension):
    path = saved(
        tmp_path / f"a.{extension}",
        Image.fromarray(COLOUR),
        **({"lossless": True} if extension == "webp" else {}),
    )
    assert np.array_equal(pixels(path), COLOUR)


def test_grey_is_repeated(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(GREY))
    assert np.array_equal(pixels(path), np.repeat(GREY[..., None], 3, axis=2))


def test_one_bit(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(GREY > 127))
    assert np.array_equal(pixels(path)[..., 0], np.where(GREY > 127, 255, 0))


def test_alpha_lies_over_white(tmp_path):
    alpha = np.full((5, 7), 255, np.uint8)
    alpha[0], alpha[1] = 0, 128
    path = saved(tmp_path / "a.png", Image.fromarray(np.dstack([COLOUR, alpha])))
    found = pixels(path)
    assert (found[0] == 255).all()
    half = COLOUR[1] * (128 / 255) + 255 * (127 / 255)
    assert np.abs(found[1] - half).max() <= 1
    assert np.array_equal(found[2:], COLOUR[2:])


def test_grey_with_alpha(tmp_path):
    alpha = np.where(np.arange(7) < 3, 0, 255).astype(np.uint8) * np.ones((5, 1), np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(np.dstack([GREY, alpha])))
    assert (pixels(path)[:, :3] == 255).all()
    assert np.array_equal(pixels(path)[:, 3:, 1], GREY[:, 3:])


@pytest.mark.parametrize("extension", ["png", "gif"])
def test_palette_with_transparency(tmp_path, extension):
    image = Image.new("P", (4, 2))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 1), 1)
    path = saved(tmp_path / f"a.{extension}", image, transparency=0)
    found = pixels(path)
    assert found[1, 1].tolist() == [0, 0, 255]
    assert found[0, 0].tolist() == [255, 255, 255]


def test_palette_without_transparency(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(COLOUR).quantize(35))
    assert np.array_equal(pixels(path), np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_transparent_colour_key(tmp_path, mode):
    key = 0 if mode == "L" else (0, 0, 0)
    image = Image.new(mode, (3, 3), key)
    image.putpixel((1, 1), 90 if mode == "L" else (90, 90, 90))
    found = pixels(saved(tmp_path / "a.png", image, transparency=key))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[1, 1].tolist() == [90, 90, 90]


def test_cmyk(tmp_path):
    path = saved(tmp_path / "a.tif", Image.new("CMYK", (4, 4), (255, 0, 0, 0)))
    assert pixels(path)[0, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_16_bit_grey_uses_the_whole_range_and_rounds(tmp_path, extension):
    values = np.array(
        [[0, 1, 128, 129, 385, 386], [257, 32767, 32768, 65406, 65407, 65535]], np.uint16
    )
    path = saved(tmp_path / f"a.{extension}", Image.fromarray(values))
    assert np.array_equal(pixels(path)[..., 0], np.rint(values / 257))
    assert pixels(path)[1, -1].tolist() == [255, 255, 255]


def test_every_16_bit_value_rounds_to_the_nearest():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(
        np.asarray(to_rgb(Image.fromarray(values)))[..., 2], np.rint(values / 257)
    )
    as_int = Image.fromarray(values.astype(np.int32))
    assert as_int.mode == "I"
    assert np.array_equal(np.asarray(to_rgb(as_int)), np.asarray(to_rgb(Image.fromarray(values))))


def test_16_bit_big_endian_and_transparent():
    values = np.array([[0, 1000], [40000, 65535]], np.uint16)
    big = Image.frombytes("I;16B", (2, 2), values.astype(">u2").tobytes())
    assert np.array_equal(np.asarray(to_rgb(big))[..., 0], np.rint(values / 257))
    key = Image.fromarray(values)
    key.info["transparency"] = 1000
    assert np.asarray(to_rgb(key))[0, 1].tolist() == [255, 255, 255]


def test_16_bit_colour_png(tmp_path):
    import struct
    import zlib

    values = RNG.integers(0, 65536, (5, 7, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 7, 5, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        data += (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )
    (tmp_path / "a.png").write_bytes(data)
    assert np.abs(pixels(tmp_path / "a.png") - values / 257).max() <= 1


def test_float_grey(tmp_path):
    values = np.array([[0.0, 0.25], [0.5, 1.0]], np.float32)
    path = saved(tmp_path / "a.tif", Image.fromarray(values))
    assert np.array_equal(pixels(path)[..., 0], np.rint(values * 255))


@pytest.mark.parametrize("bad", [1.5, -0.1, np.nan])
def test_float_outside_of_its_range_is_an_error(tmp_path, bad):
    path = saved(tmp_path / "odd.tif", Image.fromarray(np.array([[0.0, bad]], np.float32)))
    with pytest.raises(DatasetError, match=r"odd\.tif.*must lie in 0\.\.1"):
        read_image(path)


def test_32_bit_outside_of_16_bits_is_an_error(tmp_path):
    path = saved(tmp_path / "odd.tif", Image.fromarray(np.array([[0, 70000]], np.int32)))
    with pytest.raises(DatasetError, match=r"odd\.tif.*65535.*70000"):
        read_image(path)


def test_lab(tmp_path):
    path = saved(tmp_path / "a.tif", Image.new("LAB", (4, 4), (255, 128, 128)))
    assert (pixels(path) >= 250).all()


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (8, np.rot90),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_exif_turns_the_image(tmp_path, orientation, undo, deep):
    values = GREY.astype(np.uint16) * 257 if deep else GREY
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", Image.fromarray(values), exif=exif)
    assert np.array_equal(pixels(path)[..., 0], undo(GREY))
    assert read_image(path).getexif().get(0x0112, 1) == 1  # nobody turns it a second time


def test_exif_of_a_jpeg_and_a_damaged_block(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.jpg", Image.fromarray(np.zeros((20, 30, 3), np.uint8)), exif=exif)
    assert read_image(path).size == (20, 30)
    damaged = saved(
        tmp_path / "b.jpg", Image.new("RGB", (30, 20)), exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_image(damaged).size == (30, 20)


@pytest.mark.parametrize("extension", ["gif", "png", "webp", "tif"])
def test_first_frame_of_an_animation(tmp_path, extension):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if extension == "webp" else {}
    path = saved(
        tmp_path / f"a.{extension}", frames[0], save_all=True, append_images=frames[1:], **options
    )
    assert pixels(path)[3, 3].tolist() == [255, 0, 0]


@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
def test_a_truncated_file_is_named(tmp_path, extension):
    path = saved(
        tmp_path / f"cut.{extension}",
        Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)),
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match=rf"can't read the image .*cut\.{extension}: \w"):
        read_image(path)


@pytest.mark.parametrize(("data", "why"), [(b"", "empty"), (b"hello there", "not an image")])
def test_no_image_is_named(tmp_path, data, why):
    (tmp_path / "odd.png").write_bytes(data)
    for read in (read_image, lambda path: content_hashes(path.parent, [path.name])):
        with pytest.raises(DatasetError, match=rf"odd\.png: .*{why}"):
            read(tmp_path / "odd.png")


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"gone\.png: no such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DatasetError, match=r"gone\.png: no such file"):
        content_hashes(tmp_path, ["gone.png"])
    with pytest.raises(DatasetError, match="is a directory"):
        read_image(tmp_path)


def test_no_file_handle_is_left_open(tmp_path):
    good = saved(tmp_path / "a.tif", Image.fromarray(COLOUR))
    bad = tmp_path / "b.png"
    bad.write_bytes(b"no image")
    gc.collect()  # what earlier tests left behind is theirs
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_image(good)
        with pytest.raises(DatasetError):
            read_image(bad)
        gc.collect()
    assert not [w for w in caught if issubclass(w.category, ResourceWarning)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSVEC_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("classvec_lab.datasets.images._SETTLED", -1.0)
    return tmp_path / "data" / "cache" / "hashes"


def test_hashes_are_remembered_until_the_file_changes(tmp_path, cache, monkeypatch):
    root = tmp_path / "set"
    root.mkdir()
    names = ["a.png", "b.png"]
    for name in names:
        saved(root / name, Image.fromarray(COLOUR))
    first = content_hashes(root, names)
    assert first[0] == first[1]
    reads = []
    monkeypatch.setattr(
        "classvec_lab.datasets.images._opened",
        lambda data: reads.append(data) or Image.new("L", (1, 1)),
    )
    assert content_hashes(root, names) == first
    assert reads == []
    saved(root / "b.png", Image.fromarray(255 - COLOUR))
    changed = content_hashes(root, names)
    assert (changed[0], reads) == (first[0], [(root / "b.png").read_bytes()])
    assert changed[1] != first[1]
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    "damage", ["", "{", "[1, 2]", '{"a.png": 3}', '{"a.png": null}', '{"a.png": ":::"}']
)
def test_a_damaged_memory_is_made_anew(tmp_path, cache, damage):
    saved(tmp_path / "a.png", Image.fromarray(COLOUR))
    expected = content_hashes(tmp_path, ["a.png"])
    (memo,) = cache.iterdir()
    memo.write_text(damage)
    assert content_hashes(tmp_path, ["a.png"]) == expected
    assert expected[0] in memo.read_text()


def test_a_file_that_is_still_warm_is_not_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSVEC_DATA", str(tmp_path / "data"))
    path = saved(tmp_path / "a.bmp", Image.fromarray(COLOUR))
    first = content_hashes(tmp_path, ["a.bmp"])
    saved(path, Image.fromarray(255 - COLOUR))  # same size, perhaps within one tick of the clock
    assert content_hashes(tmp_path, ["a.bmp"]) != first


def test_image_files_load_in_order(tmp_path):
    for i in range(3):
        saved(tmp_path / f"{i}.png", Image.new("RGB", (2, 2), (i, i, i)))
    images = ImageFiles(tmp_path, pd.DataFrame({"file": ["2.png", "0.png"]}))
    assert images.load(0).getpixel((0, 0)) == (2, 2, 2)
    assert images.load(1).getpixel((0, 0)) == (0, 0, 0)
