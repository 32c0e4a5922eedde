"""The learning rate that another library suggests.

    python find_lr.py lightning|fastai IMAGES.npz SEED

Prints a JSON object: the name of each rule and its rate.
"""

import json
import logging
import sys
import warnings

import torch
from common import BATCH, MOMENTUM, images, network, tensors
from torch.utils.data import DataLoader, TensorDataset


def main() -> None:
    warnings.filterwarnings("ignore")
    library, path, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.manual_seed(seed)
    x, y, x_val, y_val = images(path)
    parts = [
        TensorDataset((tensors(pixels) - 0.5) / 0.25, torch.from_numpy(labels).long())
        for pixels, labels in ((x, y), (x_val, y_val))
    ]
    find = {"lightning": with_lightning, "fastai": with_fastai}[library]
    print(json.dumps(find(parts, x.shape, int(y.max()) + 1)))


def with_lightning(parts: list, shape: tuple, classes: int) -> dict[str, float]:
    import lightning
    from lightning.pytorch.tuner import Tuner
    from lightning_module import Classifier

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    model = Classifier(shape[-1], shape[1], classes, 1e-3, 1e-4)
    trainer = lightning.Trainer(
        max_epochs=100,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(parts[0], BATCH, shuffle=True)
    found = Tuner(trainer).lr_find(model, loader, min_lr=1e-7, max_lr=10.0)
    return {"Lightning lr_find": float(found.suggestion())}


def with_fastai(parts: list, shape: tuple, classes: int) -> dict[str, float]:
    from functools import partial

    from fastai.basics import DataLoaders, Learner, OptimWrapper
    from fastai.callback.schedule import minimum, steep, valley

    loaders = DataLoaders(DataLoader(parts[0], BATCH, shuffle=True), DataLoader(parts[1], 512))
    learner = Learner(
        loaders,
        network(shape[-1], shape[1], classes),
        loss_func=torch.nn.functional.cross_entropy,
        opt_func=partial(OptimWrapper, opt=partial(torch.optim.SGD, momentum=MOMENTUM)),
    )
    with learner.no_bar():
        found = learner.lr_find(suggest_funcs=(valley, steep, minimum), show_plot=False)
    return {
        "fastai valley": float(found.valley),
        "fastai steep": float(found.steep),
        "fastai minimum / 10": float(found.minimum),
    }


main()
