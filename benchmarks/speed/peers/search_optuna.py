"""A random search with Optuna and plain PyTorch.

    python search_optuna.py IMAGES.npz TRIALS EPOCHS SEED PROCESSES

Prints the best validation accuracy.
"""

import os
import sys
from multiprocessing import get_context

import optuna
import torch
from common import LR, MOMENTUM, WEIGHT_DECAY, images, network
from loaders import loaders
from torch.nn import functional as F

STORAGE = "sqlite:///search.db"


def main() -> None:
    path, trials, epochs, seed, processes = sys.argv[1], *map(int, sys.argv[2:])
    threads = max(1, torch.get_num_threads() // processes)  # or processes fight over the cores
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for those that are spawned
    torch.set_num_threads(threads)
    optuna.create_study(storage=STORAGE, study_name="search", direction="maximize")
    share = trials // processes
    workers = [
        get_context("spawn").Process(
            target=search, args=(path, share, epochs, processes * seed + number)
        )
        for number in range(1, processes)
    ]
    for worker in workers:
        worker.start()
    search(path, trials - share * len(workers), epochs, processes * seed)
    for worker in workers:
        worker.join()
    print(optuna.load_study(storage=STORAGE, study_name="search").best_value)


def search(path: str, trials: int, epochs: int, seed: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.manual_seed(seed)
    arrays = images(path)

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", *LR, log=True)
        weight_decay = trial.suggest_float("weight_decay", *WEIGHT_DECAY, log=True)
        return train(arrays, lr, weight_decay, epochs)

    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.load_study(storage=STORAGE, study_name="search", sampler=sampler)
    study.optimize(objective, n_trials=trials)


def train(arrays: tuple, lr: float, weight_decay: float, epochs: int) -> float:
    x, y, _, _ = arrays
    batches, held_out = loaders(arrays, workers=2)
    model = network(x.shape[-1], x.shape[1], int(y.max()) + 1)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=weight_decay
    )
    best = 0.0
    for _ in range(epochs):
        model.train()
        for inputs, labels in batches:
            loss = F.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for inputs, labels in held_out:
                right += (model(inputs).argmax(1) == labels).sum().item()
        best = max(best, right / len(held_out.dataset))
    return best


if __name__ == "__main__":
    main()
