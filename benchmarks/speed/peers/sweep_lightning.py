"""The learning rates of lecture step 3 with Lightning: one `fit` for each.

python sweep_lightning.py IMAGES.npz '[[0.1, 0], [0.01, 0]]'
"""

import json
import logging
import sys
import warnings

import lightning
import torch
from common import BATCH, images, tensors
from lightning_module import Classifier
from torch.utils.data import DataLoader, TensorDataset

ITERATIONS = 100


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    x, y, _, _ = images(sys.argv[1])
    inputs, labels = tensors(x), torch.from_numpy(y).long()
    for lr, seed in json.loads(sys.argv[2]):
        lightning.seed_everything(seed, verbose=False)
        model = Classifier(inputs.shape[1], inputs.shape[2], int(labels.max()) + 1, lr, 1e-4)
        trainer = lightning.Trainer(
            max_steps=ITERATIONS,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        loader = DataLoader(TensorDataset(inputs, labels), BATCH, shuffle=True)
        trainer.fit(model, loader)
        print(lr, seed, float(trainer.callback_metrics["loss"]))


main()
