"""Image folders: every mode becomes RGB, and what cannot be read is named or counted."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from paperlib.networks.datasets import UnreadableImageError, load_dataset, read_image

PIXELS = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(PIXELS).save(tmp_path / split / name / "grey.png")
    return tmp_path


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "1", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    Image.fromarray(PIXELS).convert("RGB").convert(mode).save(path)
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", (8, 8))
    if mode in ("L", "RGB", "RGBA", "LA"):
        assert np.array_equal(np.asarray(image)[:, :, 1], PIXELS)


def test_sixteen_bit_greyscale_is_scaled_not_clipped(tmp_path):
    Image.fromarray(PIXELS.astype(np.uint16) * 256).save(tmp_path / "deep.png")
    assert np.array_equal(np.asarray(read_image(tmp_path / "deep.png"))[:, :, 0], PIXELS)


def test_sixteen_bits_in_a_pgm_are_scaled_too(tmp_path):
    """Pillow opens them as 32-bit integers."""
    pixels = (PIXELS.astype(np.uint16) * 256).astype(">u2")
    (tmp_path / "deep.pgm").write_bytes(b"P5 8 8 65535\n" + pixels.tobytes())
    assert np.array_equal(np.asarray(read_image(tmp_path / "deep.pgm"))[:, :, 0], PIXELS)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_a_known_range_are_refused(tmp_path, dtype):
    Image.fromarray(PIXELS.astype(dtype)).save(tmp_path / "deep.tiff")
    with pytest.raises(UnreadableImageError, match=r"deep\.tiff: pixels of 32 bits have no known"):
        read_image(tmp_path / "deep.tiff")


@pytest.mark.parametrize("error", [NotImplementedError, MemoryError, TypeError])
def test_whatever_a_decoder_raises_is_named(folder, monkeypatch, error):
    """As damaged DDS, JPEG 2000 and TIFF files make Pillow raise."""

    def damaged(path):
        raise error("damaged")

    monkeypatch.setattr(Image, "open", damaged)
    with pytest.raises(
        UnreadableImageError, match=r"cannot read the image file .*grey\.png: damag"
    ):
        list(load_dataset(f"imagefolder:{folder}", "train"))


def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(PIXELS).convert("P")
    image.save(tmp_path / "clear.png", transparency=bytes(range(256)))
    assert read_image(tmp_path / "clear.png").mode == "RGB"


def test_folder_has_classes_and_val_serves_as_test(folder):
    dataset = load_dataset(f"imagefolder:{folder}", "test")
    assert dataset.classes == ["cat", "dog"]
    assert [label for _, label in dataset] == [0, 1]


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n truncated"])
def test_unreadable_image_is_named_or_skipped(folder, content):
    (folder / "train" / "dog" / "broken.png").write_bytes(content)
    dataset = load_dataset(f"imagefolder:{folder}", "train")
    with pytest.raises(UnreadableImageError, match=r"cannot read the image file .*broken\.png"):
        list(dataset)
    lenient = load_dataset(f"imagefolder:{folder}", "train", skip_unreadable=True)
    assert [item is None for item in lenient] == [False, True, False]


def bomb(path, side):
    """A PNG of a few kilobytes that asks for side x side pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    whole = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + whole)


@pytest.mark.parametrize("side", [9_460, 15_000, 100_000])  # Pillow warns, warns, refuses
def test_decompression_bombs_are_refused_unopened(folder, side):
    path = folder / "train" / "cat" / "bomb.png"
    bomb(path, side)
    with pytest.raises(UnreadableImageError, match=r"cannot read the image file .*bomb\.png"):
        read_image(path)
    lenient = load_dataset(f"imagefolder:{folder}", "train", skip_unreadable=True)
    assert [item is None for item in lenient] == [True, False, False]


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    frames = [Image.fromarray(np.full((8, 8), grey, np.uint8)) for grey in (10, 200)]
    for name in ("moving.gif", "moving.png", "moving.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        pixels = np.asarray(read_image(tmp_path / name))
        assert pixels.shape == (8, 8, 3) and abs(int(pixels.mean()) - 10) < 2, name


def test_names_with_spaces_accents_and_links(folder):
    (folder / "train" / "chien à l'eau").mkdir()
    odd = folder / "train" / "chien à l'eau" / "é ñ 犬.png"
    Image.fromarray(PIXELS).save(odd)
    (folder / "train" / "cat" / "link.png").symlink_to(odd)
    (folder / "train" / "cat" / "gone.png").symlink_to(folder / "gone.png")
    dataset = load_dataset(f"imagefolder:{folder}", "train", skip_unreadable=True)
    assert dataset.classes == ["cat", "chien à l'eau", "dog"]
    assert [item is None for item in dataset] == [True, False, False, False, False]


def test_hidden_folders_and_links_that_loop_hold_no_images(folder):
    train = folder / "train"
    grey = train / "cat" / "grey.png"
    for hidden in (".cache/x.png", "cat/.ipynb_checkpoints/x.png", "cat/.x.png"):
        (train / hidden).parent.mkdir(exist_ok=True)
        (train / hidden).write_bytes(grey.read_bytes())
    (train / "dog" / "below").mkdir()
    for link, target in (("loop", train), ("cat/a", "."), ("cat/b", ".."), ("dog/below/c", "..")):
        (train / link).symlink_to(target)
    (train / "dog" / "cats").symlink_to(train / "cat")  # another folder, once
    dataset = load_dataset(f"imagefolder:{folder}", "train")
    assert dataset.classes == ["cat", "dog"]
    names = [(path.removeprefix(f"{train}/"), label) for path, label in dataset.samples]
    assert names == [("cat/grey.png", 0), ("dog/grey.png", 1), ("dog/cats/grey.png", 1)]


def test_truncated_photo_is_named(folder):
    path = folder / "train" / "cat" / "photo.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UnreadableImageError, match=r"photo\.jpg"):
        read_image(path)


def test_bad_names_and_folders_are_named(folder, tmp_path_factory):
    for name in ("mnist", "imagefolder", "imagefolder:", "cifar10:"):
        with pytest.raises(ValueError, match=r"choose cifar10\[:N\[,M\]\], imagefolder:PATH or"):
            load_dataset(name, "train")
    with pytest.raises(ValueError, match="unknown split 'dev'; choose from train, test"):
        load_dataset(f"imagefolder:{folder}", "dev")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_dataset(f"imagefolder:{folder}/nowhere", "train")
    with pytest.raises(FileNotFoundError, match=r"no train images: expected .*\['cat', 'dog'\]"):
        load_dataset(f"imagefolder:{folder / 'train'}", "train")
    empty = tmp_path_factory.mktemp("empty")
    (empty / "train" / "cat").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="cat"):
        load_dataset(f"imagefolder:{empty}", "train")


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_the_first_images_of_each_split(tmp_path, monkeypatch, kind):
    folder = tmp_path / "data" / "cifar10"
    folder.mkdir(parents=True)
    for split, number in (("train", 6), ("test", 4)):
        pixels = np.arange(number, dtype=np.uint8).repeat(3072)
        shape = (number, 1024, 3) if kind == "png" else (number * 32, 32, 3)
        Image.fromarray(pixels.reshape(shape)).save(folder / f"{split}_00.{kind}", lossless=True)
        (folder / f"{split}_labels.txt").write_text("\n".join(map(str, range(number))))
    monkeypatch.setenv("PAPERLIB_ASSETS", str(tmp_path))
    assert [len(load_dataset("cifar10", split)) for split in ("train", "test")] == [6, 4]
    some = load_dataset("cifar10:3", "train", np.asarray)
    assert [(x.shape, x.max(), y) for x, y in some] == [((32, 32, 3), y, y) for y in range(3)]
    assert len(load_dataset("cifar10:3", "test")) == 4
    assert [len(load_dataset("cifar10:3,2", split)) for split in ("train", "test")] == [3, 2]
    for bad in ("cifar10:0", "cifar10:all", "cifar10:3,", "cifar10:1,2,3"):
        with pytest.raises(ValueError, match="takes a number of train images, not"):
            load_dataset(bad, "train")


def test_folders_named_by_numbers_sort_as_numbers(tmp_path):
    """As in ImageNetV2: "10" is the eleventh class, not the third."""
    for c in range(12):
        (tmp_path / "train" / str(c)).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "train" / str(c) / "x.png")
    images = load_dataset(f"imagefolder:{tmp_path}", "train")
    assert images.classes == [str(c) for c in range(12)] and images.targets == list(range(12))
