"""A picture of a batch before and after augmentation, as the network sees it."""

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from cnntune.config.recipe import Recipe
from cnntune.data.augment import Mixed, augment
from cnntune.data.parts import Data
from cnntune.seeds import derive_seed

COLUMNS = 8
DRAWS = 4  # rows of the same images, augmented anew
TILE = 96  # pixels a side, at least; smaller images are enlarged by a whole factor
MARGIN = 64  # pixels to the left, for the names of the rows
LINE = 14  # pixels for a line of text in Pillow's own font
GAP = 4  # pixels between tiles
INK, PAPER = (0, 0, 0), (255, 255, 255)


def save_picture(recipe: Recipe, data: Data, path: Path) -> None:
    """Write a PNG: 8 training images, and below each what four draws of `[augment]` make of it.

    Classes stand below the images; of a mixed one both, with their shares. Pixels are shown as
    they were before normalisation; values of the user's own range are stretched to 0..1.
    """
    generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "picture"))
    order = torch.randperm(len(data.train), generator=generator)[:COLUMNS]
    inputs, labels = next(data.train.batches(order, COLUMNS))
    rows = [("original", inputs, [data.classes[label] for label in labels.tolist()])]
    for number in range(1, DRAWS + 1):
        changed, targets = augment(inputs, labels, recipe.augment, data.normalise, generator)
        rows.append((f"draw {number}", changed, _names(targets, data.classes)))
    shown = _to_bytes(data.normalise.undo(torch.cat([images for _, images, _ in rows])))
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


def _to_bytes(pixels: Tensor) -> Tensor:
    """Uint8 `[N, H, W, 3]` of float `[N, C, H, W]`; what is not in colour is shown as its mean."""
    pixels = pixels.detach().float().cpu()
    if pixels.shape[1] != 3:
        pixels = pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    low, high = min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))
    scaled = (pixels - low) / (high - low) * 255
    return scaled.round().byte().permute(0, 2, 3, 1)


def _draw(rows: list[tuple[str, list[str]]], shown: tuple[Tensor, ...]) -> Image.Image:
    _, height, width, _ = shown[0].shape
    factor = max(1, -(-TILE // max(height, width)))  # rounded up
    wide, tall = width * factor, height * factor
    step_x, step_y = wide + GAP, tall + LINE + GAP
    size = (MARGIN + step_x * len(shown[0]), GAP + step_y * len(rows))
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, ((name, names), images) in enumerate(zip(rows, shown, strict=True)):
        top = GAP + row * step_y
        pen.text((GAP, top + tall // 2), name, fill=INK)
        for column, (pixels, label) in enumerate(zip(images, names, strict=True)):
            left = MARGIN + column * step_x
            tile = Image.fromarray(pixels.numpy()).resize((wide, tall), Image.Resampling.NEAREST)
            sheet.paste(tile, (left, top))
            pen.text((left, top + tall), _fitting(label, wide, pen), fill=INK)
    return sheet


def _fitting(text: str, width: int, pen: ImageDraw.ImageDraw) -> str:
    """As much of `text` as `width` pixels hold."""
    while text and pen.textlength(text) > width:
        text = text[:-1]
    return text
