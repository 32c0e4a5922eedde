"""A trained network with its preprocessing as an ONNX file: `cnntune predict best.pt --onnx`."""

import json
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnntune.data.parts import Normalise
from cnntune.errors import DeviceError, StudyError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
BATCH = 4  # images that both networks are compared on
MAX_DIFFERENCE = 1e-3  # of probabilities; float32 kernels of other order differ by about 1e-6


class Classifier(nn.Module):
    """Probabilities float32 `[N, classes]` of pixels uint8 `[N, C, H, W]`."""

    def __init__(self, model: nn.Module, normalise: Normalise) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", normalise.mean)
        self.register_buffer("std", normalise.std)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise as in training, then classify."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        probabilities: Tensor = self.model((pixels.float() / 255 - mean) / std).softmax(1)
        return probabilities


@dataclass(frozen=True)
class Exported:
    """The file; `difference` is the largest one between the probabilities of both networks."""

    path: str
    difference: float


def check_packages() -> None:
    """Check that ONNX files can be written.

    Raises:
        DeviceError: where a package is missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise DeviceError(f"--onnx: needs {', '.join(missing)}: pip install 'cnntune[onnx]'")


def export(
    model: nn.Module,
    normalise: Normalise,
    in_shape: tuple[int, int, int],
    classes: tuple[str, ...],
    path: Path,
) -> Exported:
    """Write the network, and compare it with ONNX Runtime's on random images.

    The input `pixels` is uint8 `[N, C, H, W]` of any N, the output `probabilities` is float32
    `[N, classes]`; the file's metadata has the names of the classes, as a JSON list. The file
    appears by rename, after the comparison.

    Raises:
        StudyError: where the network cannot be exported, the results differ, or the file cannot
            be written.
    """
    on_cpu = Normalise(normalise.mean.cpu(), normalise.std.cpu())
    network = Classifier(model.cpu(), on_cpu).eval()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (BATCH, *in_shape), dtype=torch.uint8, generator=generator)
    try:
        program = _program(network, pixels)
    except Exception as error:  # the exporter raises what it meets in the user's forward
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StudyError(f"--onnx: the network cannot be exported ({reason})") from error
    program.model.metadata_props["classes"] = json.dumps(classes)
    draft = path.with_name(f".{path.name}.draft")
    try:
        program.save(str(draft))
        difference = _difference(network, draft, pixels)
        if not difference <= MAX_DIFFERENCE:
            raise StudyError(
                f"--onnx: ONNX Runtime's probabilities differ from PyTorch's by {difference:.3g}"
                f" (allowed: {MAX_DIFFERENCE:g}); {path} was not written"
            )
        draft.replace(path)
    except OSError as error:
        raise StudyError(f"--onnx: {path}: cannot be written: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)
    return Exported(str(path), difference)


def _program(network: nn.Module, pixels: Tensor) -> Any:
    with warnings.catch_warnings():  # of torch and its exporter, about themselves
        warnings.simplefilter("ignore")
        return torch.onnx.export(
            network,
            (pixels,),
            input_names=["pixels"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("images")},),
            dynamo=True,
            verbose=False,
            external_data=False,
        )


@torch.no_grad()
def _difference(network: nn.Module, path: Path, pixels: Tensor) -> float:
    import onnxruntime  # an extra, and only this needs it

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = 0.0
    for images in (pixels, pixels[:1]):  # the number of images has to be free
        (theirs,) = session.run(None, {"pixels": images.numpy()})
        found = max(found, float((torch.from_numpy(theirs) - network(images)).abs().max()))
    return found
