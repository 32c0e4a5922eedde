"""A random search with Optuna and Lightning.

    python search_lightning.py IMAGES.npz TRIALS EPOCHS SEED

Prints the best validation accuracy.
"""

import logging
import sys
import warnings

import lightning
import optuna
from common import LR, WEIGHT_DECAY, images
from lightning_module import Classifier
from loaders import loaders


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path, trials, epochs, seed = sys.argv[1], *map(int, sys.argv[2:])
    lightning.seed_everything(seed, verbose=False)
    arrays = images(path)
    x, y, _, _ = arrays

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", *LR, log=True)
        weight_decay = trial.suggest_float("weight_decay", *WEIGHT_DECAY, log=True)
        model = Classifier(x.shape[-1], x.shape[1], int(y.max()) + 1, lr, weight_decay)
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, *loaders(arrays, workers=2))
        return float(trainer.callback_metrics["val_acc"])

    study = optuna.create_study(
        storage="sqlite:///search.db",
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=seed),
    )
    study.optimize(objective, n_trials=trials)
    print(study.best_value)


main()
