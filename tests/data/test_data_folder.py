"""Images in folders: the right pixels from every kind of file, and a message for every problem."""

import pickle
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import torch
from PIL import Image

from cnntune.config.recipe import parse
from cnntune.data.folder import FolderImages, folder
from cnntune.data.source import Source
from cnntune.errors import DataError
from cnntune.training.build import load_data

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def save(path: Path, colour: tuple[int, ...] = RED, mode: str = "RGB", side: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (side, side), colour).save(path)
    return path


def pixels_of(path: Path, image_size: int = 8, color: str = "rgb") -> torch.Tensor:
    images = FolderImages([path], torch.tensor([0]), image_size, color)  # type: ignore[arg-type]
    return images[0][0]


def two_classes(root: Path, each: int = 10) -> Path:
    for name in ("cat", "dog"):
        for number in range(each):
            save(root / name / f"{number}.png", (number, 0, 0))
    return root


def problems_of(path: Path) -> list[str]:
    with pytest.raises(DataError) as caught:
        folder(path=str(path), seed=0)
    return caught.value.lines


def trouble_with(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        pixels_of(path)
    (line,) = caught.value.lines
    assert line.startswith(f"{path}: ")
    return line


def png_header(width: int, height: int) -> bytes:
    """The beginning of a grey 8-bit PNG that claims this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9))


# Pixels


def test_images_are_bytes_with_channels_first(tmp_path: Path) -> None:
    pixels = pixels_of(save(tmp_path / "a.png", (10, 20, 30)), image_size=4)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 4, 4)
    assert pixels[:, 0, 0].tolist() == [10, 20, 30]


def test_grey_has_one_channel_by_the_weights_of_television(tmp_path: Path) -> None:
    pixels = pixels_of(save(tmp_path / "a.png", RED), color="grey")
    assert pixels.shape == (1, 8, 8)
    assert torch.unique(pixels).tolist() == [76]  # ITU-R BT.601: 0.299 * 255 = 76.2


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    deep = np.full((8, 8), 128 * 257, dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert torch.unique(pixels_of(tmp_path / "a.png")).tolist() == [128]


def test_sixteen_bit_pgm_is_scaled(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 8 8 65535\n" + struct.pack(">H", 64 * 257) * 64)
    assert torch.unique(pixels_of(tmp_path / "a.pgm")).tolist() == [64]


def test_float_pixels_are_rejected(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 0.5, dtype=np.float32)).save(tmp_path / "a.tif")
    assert "float pixels of unknown range" in trouble_with(tmp_path / "a.tif")


def test_thirty_two_bit_integers_are_rejected(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 70_000, dtype=np.int32)).save(tmp_path / "a.tif")
    assert "32-bit integer pixels" in trouble_with(tmp_path / "a.tif")


def test_transparent_pixels_are_put_on_white(tmp_path: Path) -> None:
    save(tmp_path / "clear.png", (0, 0, 0, 0), "RGBA")
    save(tmp_path / "half.png", (0, 128), "LA")
    assert torch.unique(pixels_of(tmp_path / "clear.png")).tolist() == [255]
    assert torch.unique(pixels_of(tmp_path / "half.png")).tolist() == [127]  # 255 * (1 - 128 / 255)


def test_a_palette_gives_its_colours_and_its_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.paste(1, (4, 0, 8, 8))
    image.save(tmp_path / "a.png", transparency=1)
    pixels = pixels_of(tmp_path / "a.png")
    assert pixels[:, 0, 0].tolist() == [10, 20, 30]
    assert pixels[:, 0, 7].tolist() == [255, 255, 255]


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(path, quality=100)
    distance = pixels_of(path).float() - torch.tensor(RED).float()[:, None, None]
    assert distance.abs().max() <= 3


def test_black_and_white_spans_the_full_range(tmp_path: Path) -> None:
    image = Image.new("1", (8, 8), 0)
    image.paste(1, (4, 0, 8, 8))
    image.save(tmp_path / "a.png")
    assert torch.unique(pixels_of(tmp_path / "a.png")).tolist() == [0, 255]


def test_a_rotated_photograph_is_made_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), RED)
    image.paste(BLUE, (4, 0, 8, 8))  # red on the left, blue on the right
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF 2.3, orientation 6: the stored left side is the top
    image.save(tmp_path / "a.png", exif=exif)
    pixels = pixels_of(tmp_path / "a.png")
    assert pixels[:, 0, 0].tolist() == pixels[:, 0, 7].tolist() == list(RED)
    assert pixels[:, 7, 0].tolist() == pixels[:, 7, 7].tolist() == list(BLUE)


def test_a_photograph_with_broken_exif_data_is_read_without_a_warning(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    Image.new("RGB", (8, 8), RED).save(tmp_path / "a.png", exif=exif.tobytes()[:-8])
    with (
        Image.open(tmp_path / "a.png") as image,
        pytest.warns(UserWarning, match="Truncated File Read"),  # Pillow does warn
    ):
        image.getexif()
    assert pixels_of(tmp_path / "a.png")[:, 0, 0].tolist() == list(RED)


def test_the_middle_of_a_wide_image_is_kept(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 20), GREEN)
    image.paste(RED, (0, 0, 20, 20))
    image.paste(BLUE, (40, 0, 60, 20))
    image.save(tmp_path / "a.png")
    pixels = pixels_of(tmp_path / "a.png", image_size=20)
    assert (pixels == torch.tensor(GREEN)[:, None, None]).all()


def test_making_an_image_smaller_averages_its_pixels(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    inner = pixels_of(tmp_path / "a.png", image_size=8)[:, 1:-1].float()
    assert (inner - 127.5).abs().max() < 2  # picking single rows would give 0 or 255


def test_a_gif_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pixels_of(tmp_path / "a.gif")[:, 0, 0].tolist() == list(RED)


# Files that cannot be used


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert "it is empty" in trouble_with(tmp_path / "a.jpg")


def test_a_web_page_saved_as_an_image_is_shown_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<!DOCTYPE html><html></html>")
    assert "is not an image (it starts with b'<!DOCTYPE html>" in trouble_with(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_truncated_file_is_rejected(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in trouble_with(tmp_path / name)


def test_a_png_with_a_bad_checksum_is_rejected(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    broken = bytearray(path.read_bytes())
    at = broken.index(b"IDAT")
    broken[at + 6] ^= 0xFF
    path.write_bytes(broken)
    assert "cannot be read" in trouble_with(path)


@pytest.mark.parametrize("side", [7072, 10_000, 20_000])  # 50.01 million, and Pillow's two limits
def test_a_huge_image_is_rejected_before_it_is_unpacked(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(png_header(side, side))
    assert "pixels" in trouble_with(tmp_path / "a.png")


def test_an_image_at_the_limit_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_header(10_000, 5000))
    assert "truncated" in trouble_with(tmp_path / "a.png")  # it was decoded


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "No such file" in trouble_with(tmp_path / "a.png")


# Folders


def test_a_folder_is_split_into_three_sets_class_by_class(tmp_path: Path) -> None:
    source = folder(path=str(two_classes(tmp_path)), seed=0)
    assert source.classes == ("cat", "dog")
    for part, each in ((source.train, 6), (source.val, 2), (source.test, 2)):
        assert isinstance(part, FolderImages)
        assert part.labels.bincount().tolist() == [each, each]
        assert part.labels.dtype == torch.int64


def test_no_image_is_in_two_sets(tmp_path: Path) -> None:
    source = folder(path=str(two_classes(tmp_path)), seed=0)
    parts = [source.train, source.val, source.test]
    names = [name for part in parts if isinstance(part, FolderImages) for name in part.files]
    assert len(names) == len(set(names)) == 20


def test_images_come_with_the_label_of_their_folder(tmp_path: Path) -> None:
    source = folder(path=str(two_classes(tmp_path)), seed=0, image_size=4, color="grey")
    assert isinstance(source.train, FolderImages)
    for index in range(len(source.train)):
        pixels, label = source.train[index]
        assert pixels.shape == (1, 4, 4)
        assert source.train.names[index].partition("/")[0] == ("cat", "dog")[label]
        assert label == source.train.labels[index]


def test_no_test_set_when_its_fraction_is_zero(tmp_path: Path) -> None:
    assert folder(path=str(two_classes(tmp_path)), seed=0, test_fraction=0).test is None


def test_another_seed_splits_differently(tmp_path: Path) -> None:
    two_classes(tmp_path)
    first, same, other = (folder(path=str(tmp_path), seed=seed).train for seed in (0, 0, 1))
    assert isinstance(first, FolderImages)
    assert isinstance(same, FolderImages)
    assert isinstance(other, FolderImages)
    assert first.files == same.files != other.files


@pytest.mark.parametrize("val_name", ["val", "valid", "Validation"])
def test_folders_for_train_and_val_are_the_sets(tmp_path: Path, val_name: str) -> None:
    two_classes(tmp_path / "train", each=3)
    two_classes(tmp_path / val_name, each=2)
    source = folder(path=str(tmp_path), seed=0)
    assert len(source.train) == 6  # type: ignore[arg-type]
    assert len(source.val) == 4  # type: ignore[arg-type]
    assert source.test is None


def test_a_test_folder_beside_them_is_the_test_set(tmp_path: Path) -> None:
    for part, each in (("train", 3), ("val", 2), ("test", 1)):
        two_classes(tmp_path / part, each)
    test = folder(path=str(tmp_path), seed=0).test
    assert isinstance(test, FolderImages)
    assert {Path(name).parts[-3] for name in test.files} == {"test"}


def test_sets_with_other_classes_are_rejected(tmp_path: Path) -> None:
    two_classes(tmp_path / "train")
    save(tmp_path / "val" / "cat" / "1.png")
    save(tmp_path / "val" / "cow" / "1.png")
    assert problems_of(tmp_path) == [
        f"{tmp_path / 'val'}: has class folders that train lacks (cow)"
        " and lacks class folders that train has (dog)"
    ]


def test_two_validation_folders_are_rejected(tmp_path: Path) -> None:
    for part in ("train", "val", "valid"):
        two_classes(tmp_path / part, each=1)
    assert problems_of(tmp_path) == [
        f"{tmp_path}: holds val and valid, but only one can be the validation set"
    ]


def test_classes_with_numbers_for_names_are_in_order_of_value(tmp_path: Path) -> None:
    for name in ("10", "2", "1"):
        save(tmp_path / name / "a.png")
    assert folder(path=str(tmp_path), seed=0).classes == ("1", "2", "10")


def test_one_name_that_is_not_a_number_makes_the_order_alphabetical(tmp_path: Path) -> None:
    for name in ("10", "2", "b"):
        save(tmp_path / name / "a.png")
    assert folder(path=str(tmp_path), seed=0).classes == ("10", "2", "b")


def test_hidden_files_is_skipped(tmp_path: Path) -> None:
    two_classes(tmp_path, each=2)
    for litter in (
        ".ipynb_checkpoints/0.png",
        "__MACOSX/cat/._0.png",
        "cat/._0.png",
        "cat/.ipynb_checkpoints/0.png",
        "cat/__MACOSX/0.png",
        "readme.png",
    ):
        save(tmp_path / litter)
    (tmp_path / "cat" / "Thumbs.db").touch()
    source = folder(path=str(tmp_path), seed=0, val_fraction=0, test_fraction=0)
    assert source.classes == ("cat", "dog")
    assert isinstance(source.train, FolderImages)
    assert [name.name for name in source.train.files] == ["0.png", "1.png"] * 2


def test_endings_are_read_in_capitals_and_as_jfif(tmp_path: Path) -> None:
    two_classes(tmp_path, each=1)
    save(tmp_path / "cat" / "A.PNG")
    save(tmp_path / "cat" / "b.jpg").rename(tmp_path / "cat" / "b.jfif")
    source = folder(path=str(tmp_path), seed=0, val_fraction=0, test_fraction=0)
    assert isinstance(source.train, FolderImages)
    assert source.train.labels.tolist() == [0, 0, 0, 1]


def test_folders_inside_a_class_belong_to_it(tmp_path: Path) -> None:
    two_classes(tmp_path, each=1)
    save(tmp_path / "cat" / "more" / "a.png")
    source = folder(path=str(tmp_path), seed=0, val_fraction=0, test_fraction=0)
    assert isinstance(source.train, FolderImages)
    assert source.train.labels.tolist() == [0, 0, 1]


def test_all_folders_with_problems_are_reported_at_once(tmp_path: Path) -> None:
    two_classes(tmp_path, each=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "a.HEIC").touch()
    empty, phone = problems_of(tmp_path)
    assert empty.startswith(f"{tmp_path / 'empty'}: holds no images (allowed: .jpg")
    assert phone.startswith(f"{tmp_path / 'phone'}: holds 1 .HEIC file(s)")


def parts_of(source: Source) -> list[FolderImages]:
    parts = (source.train, source.val, source.test)
    return [part for part in parts if isinstance(part, FolderImages)]


def test_problems_in_train_and_in_val_is_reported_at_once(tmp_path: Path) -> None:
    for part in ("train", "val"):
        two_classes(tmp_path / part, each=1)
        (tmp_path / part / "empty").mkdir()
    assert [line.partition(":")[0] for line in problems_of(tmp_path)] == [
        str(tmp_path / "train" / "empty"),
        str(tmp_path / "val" / "empty"),
    ]


def test_sets_without_a_validation_set_draw_it_from_the_training_set(tmp_path: Path) -> None:
    two_classes(tmp_path / "Training", each=10)
    two_classes(tmp_path / "testing", each=3)
    source = folder(path=str(tmp_path), seed=0, val_fraction=0.2)
    counts = [len(part.files) for part in parts_of(source)]
    assert counts == [16, 4, 6]
    drawn = {file.parent.parent.name for part in parts_of(source)[:2] for file in part.files}
    assert drawn == {"Training"}


def test_a_training_set_alone_is_not_taken_for_a_class(tmp_path: Path) -> None:
    two_classes(tmp_path / "train")
    (line,) = problems_of(tmp_path)
    assert "which are splits and not classes" in line
    assert f"give {tmp_path / 'train'}," in line


def test_two_folders_for_one_set_are_refused(tmp_path: Path) -> None:
    for name in ("train", "dev", "valid"):
        two_classes(tmp_path / name)
    (line,) = problems_of(tmp_path)
    assert line.endswith("holds valid and dev, but only one can be the validation set")


def test_one_level_too_high_names_the_folder_to_use(tmp_path: Path) -> None:
    two_classes(tmp_path / "images")
    assert problems_of(tmp_path) == [
        f"{tmp_path / 'images'}: holds only folders; if these are the classes, give"
        f" {tmp_path / 'images'} as the path"
    ]


def test_a_single_class_is_rejected(tmp_path: Path) -> None:
    save(tmp_path / "cat" / "1.png")
    assert problems_of(tmp_path) == [
        f"{tmp_path}: needs at least two class folders (got cat alone)"
    ]


def test_images_without_class_folders_are_rejected(tmp_path: Path) -> None:
    save(tmp_path / "1.png")
    assert problems_of(tmp_path) == [
        f"{tmp_path}: holds no folders; put the images of each class in a folder"
    ]


def test_a_path_that_is_not_a_folder_is_named(tmp_path: Path) -> None:
    file = save(tmp_path / "a.png")
    assert problems_of(tmp_path / "nowhere") == [
        f"data.path: {tmp_path / 'nowhere'}: no such folder"
    ]
    assert problems_of(file) == [f"{file}: must be a folder with one folder per class (got a file)"]


def test_an_archive_of_arrays_in_place_of_a_folder_is_reported_with_the_right_builder(
    tmp_path: Path,
) -> None:
    file = tmp_path / "x.npz"
    file.write_bytes(b"")
    (line,) = problems_of(file)
    assert line.endswith(
        f'; for NumPy arrays write a cnntune.toml with [data], name = "npz" and path = "{file}"'
    )


def test_a_set_can_be_sent_to_another_process(tmp_path: Path) -> None:
    train = folder(path=str(two_classes(tmp_path)), seed=0).train
    assert isinstance(train, FolderImages)
    copy = pickle.loads(pickle.dumps(train))
    assert torch.equal(copy[0][0], train[0][0])


def test_threads_read_the_same_images(tmp_path: Path) -> None:
    train = folder(path=str(two_classes(tmp_path)), seed=0).train
    assert isinstance(train, FolderImages)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(train.__getitem__, range(len(train))))
    for index, (pixels, label) in enumerate(together):
        assert torch.equal(pixels, train[index][0])
        assert label == train[index][1]


def test_broken_files_of_all_sets_are_named_five_each_and_counted(tmp_path: Path) -> None:
    two_classes(tmp_path / "train", each=8)
    two_classes(tmp_path / "val", each=2)
    for number in range(7):
        (tmp_path / "train" / "cat" / f"{number}.png").write_text("text")
    (tmp_path / "val" / "cat" / "0.png").write_text("text")
    recipe = parse({"data": {"name": "folder", "path": str(tmp_path)}}, file="r.toml")
    with pytest.raises(DataError) as caught:
        load_data(recipe, torch.device("cpu"))
    *five, counted, last = caught.value.lines
    assert [line.split(": ")[0] for line in (*five, last)] == [
        *(str(tmp_path / f"train/cat/{number}.png") for number in range(5)),
        str(tmp_path / "val/cat/0.png"),
    ]
    assert counted == "7 of the 16 train images cannot be used; listed are the first 5"


def test_a_name_is_the_same_composed_and_decomposed(tmp_path: Path) -> None:
    # macOS writes "ä" as two characters where Linux and Windows write one.
    save(tmp_path / "train" / normalize("NFC", "Käfer im Gras") / "0.png")
    save(tmp_path / "val" / normalize("NFD", "Käfer im Gras") / "0.png")
    for part in ("train", "val"):
        save(tmp_path / part / "dog" / "0.png")
    assert folder(path=str(tmp_path), seed=0).classes == ("Käfer im Gras", "dog")
