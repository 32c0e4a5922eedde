"""Classes of image files by a trained network."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cnntune.cli.command import Command
from cnntune.cli.options import AsJson, Device, Quiet
from cnntune.errors import DataError, RecipeError
from cnntune.texts import counted


def predict(
    weights: Annotated[
        Path,
        typer.Argument(metavar="BEST.PT", help="The weights that `train` keeps in a run's folder."),
    ],
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGES...", help="Image files, or folders of them."),
    ] = None,
    onnx: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write the network with its preprocessing as ONNX: uint8 pixels to"
            " probabilities.",
        ),
    ] = None,
    device: Device = "auto",
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Classes and probabilities of image files, preprocessed as in training."""
    command = Command.begin("predict", json=json, quiet=quiet)
    if not images and onnx is None:
        raise RecipeError("predict: needs IMAGES..., or --onnx FILE")

    from cnntune.config import files
    from cnntune.steps import onnx_export
    from cnntune.steps import predict as step
    from cnntune.training import device as devices
    from cnntune.user_code import imports

    if onnx is not None:
        onnx_export.check_packages()
    found_files = step.image_files(images or [])
    config = weights.parent / "config.json"
    imports.add_code_folders(files.find(str(config)).code if config.is_file() else Path.cwd())
    predictor = step.load(weights, devices.resolve(device))
    findings = []
    if found_files:
        findings = step.preprocessing_findings(predictor.recipe, predictor.in_shape)
        command.screen.say(f"classifying {counted(len(found_files), 'image')}")
    read = list(step.predict_files(predictor, found_files))
    predicted = [one for one in read if isinstance(one, step.Predicted)]
    skipped = [one for one in read if isinstance(one, step.Skipped)]
    if skipped and not predicted:
        raise DataError(f"{one.path}: {one.reason}" for one in skipped)
    exported = None
    if onnx is not None:
        exported = onnx_export.export(
            predictor.model, predictor.normalise, predictor.in_shape, predictor.classes, onnx
        )
    added: dict[str, Any] = {
        "classes": list(predictor.classes),
        "predictions": [one.as_json() for one in predicted],
        "skipped": [asdict(one) for one in skipped],
        "onnx": asdict(exported) if exported else None,
    }
    document = command.document(findings, None, **added)
    if not json:
        if predicted:
            command.screen.predictions(predicted)
        command.screen.findings(findings)
    for one in skipped:
        command.screen.say(f"skipped {one.path}: {one.reason}")
    if exported:
        command.screen.say(
            f"{exported.path}: pixels uint8 [N, {', '.join(map(str, predictor.in_shape))}] to"
            f" probabilities; differs from PyTorch's by at most {exported.difference:.1e}"
        )
    command.end(document)
