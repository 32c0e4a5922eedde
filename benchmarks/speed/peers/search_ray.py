"""A random search with Ray Tune and its defaults, one core a trial.

    python search_ray.py IMAGES.npz TRIALS EPOCHS

Prints the best validation accuracy.
"""

import sys
from pathlib import Path

import ray
from common import LR, WEIGHT_DECAY
from ray import tune

HERE = str(Path(__file__).parent)


def main() -> None:
    path, trials, epochs = str(Path(sys.argv[1]).resolve()), *map(int, sys.argv[2:])

    def trainable(values: dict) -> None:
        sys.path.insert(0, HERE)
        from common import images
        from search_optuna import train

        accuracy = train(images(path), values["lr"], values["weight_decay"], epochs)
        tune.report({"val_acc": accuracy})

    ray.init(num_cpus=2, log_to_driver=False, logging_level="error", include_dashboard=False)
    space = {"lr": tune.loguniform(*LR), "weight_decay": tune.loguniform(*WEIGHT_DECAY)}
    found = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(metric="val_acc", mode="max", num_samples=trials),
        run_config=tune.RunConfig(storage_path=str(Path.cwd()), verbose=0),
    ).fit()
    print(found.get_best_result().metrics["val_acc"])


main()
