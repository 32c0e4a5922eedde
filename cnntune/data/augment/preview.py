"""A picture of a batch before and after augmentation, as the network gets it."""

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from cnntune.config.recipe import Recipe
from cnntune.data.augment import Mixed, augment
from cnntune.data.parts import Data
from cnntune.data.thumbnails import to_bytes
from cnntune.seeds import derive_seed

COLUMNS = 8
DRAWS = 4  # rows of the same images, augmented again
MIN_TILE = 96  # pixels per side; smaller images are enlarged by an integer factor
MARGIN = 64  # pixels to the left, for the names of the rows
LINE = 14  # pixels for a line of text in Pillow's default font
GAP = 4  # pixels between tiles
INK, PAPER = (0, 0, 0), (255, 255, 255)


def save_picture(recipe: Recipe, data: Data, path: Path) -> None:
    """Write a PNG: 8 training images, and below each the results of four draws of `[augment]`.

    Classes are written below the images; both, with their shares, below a mixed one. Pixels are
    shown as before normalisation; floats outside 0..1 are rescaled to it.
    """
    generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "picture"))
    order = torch.randperm(len(data.train), generator=generator)[:COLUMNS]
    inputs, labels = next(data.train.batches(order, COLUMNS))
    rows = [("original", inputs, [data.classes[label] for label in labels.tolist()])]
    for number in range(1, DRAWS + 1):
        changed, targets = augment(inputs, labels, recipe.augment, data.normalise, generator)
        rows.append((f"draw {number}", changed, _names(targets, data.classes)))
    shown = to_bytes(data.normalise.undo(torch.cat([images for _, images, _ in rows])))
    _draw([(name, names) for name, _, names in rows], shown.split(len(order))).save(path, "PNG")


def _names(targets: Tensor | Mixed, classes: tuple[str, ...]) -> list[str]:
    if isinstance(targets, Tensor):
        return [classes[label] for label in targets.tolist()]
    return [
        f"{share:.0%} {classes[first]}, {1 - share:.0%} {classes[second]}"
        for first, second, share in zip(
            targets.first.tolist(), targets.second.tolist(), targets.share.tolist(), strict=True
        )
    ]


def _draw(rows: list[tuple[str, list[str]]], shown: tuple[Tensor, ...]) -> Image.Image:
    _, height, width, _ = shown[0].shape
    factor = max(1, -(-MIN_TILE // max(height, width)))  # rounded up
    tile_width, tile_height = width * factor, height * factor
    step_x, step_y = tile_width + GAP, tile_height + LINE + GAP
    size = (MARGIN + step_x * len(shown[0]), GAP + step_y * len(rows))
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, ((name, names), images) in enumerate(zip(rows, shown, strict=True)):
        top = GAP + row * step_y
        pen.text((GAP, top + tile_height // 2), name, fill=INK)
        for column, (pixels, label) in enumerate(zip(images, names, strict=True)):
            left = MARGIN + column * step_x
            tile = Image.fromarray(pixels.numpy())
            tile = tile.resize((tile_width, tile_height), Image.Resampling.NEAREST)
            sheet.paste(tile, (left, top))
            pen.text((left, top + tile_height), _fitting(label, tile_width, pen), fill=INK)
    return sheet


def _fitting(text: str, width: int, pen: ImageDraw.ImageDraw) -> str:
    """The start of `text` that fits in `width` pixels."""
    while text and pen.textlength(text) > width:
        text = text[:-1]
    return text
