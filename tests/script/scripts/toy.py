"""Data and networks that the scripts beside it share."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
torch.manual_seed(0)
X = torch.randn(1024, 20)
Y = X[:, :4].argmax(1)  # four classes that depend on the input
TRAIN = TensorDataset(X[:768], Y[:768])
VAL = TensorDataset(X[768:], Y[768:])


def loaders(batch=32, shuffle=True, workers=0):
    train = DataLoader(TRAIN, batch_size=batch, shuffle=shuffle, num_workers=workers)
    return train, DataLoader(VAL, batch_size=64)


def mlp(dropout=0.1, norm=True, out=4):
    layers = [nn.Linear(20, 32)]
    layers += [nn.BatchNorm1d(32)] if norm else []
    layers += [nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, out)]
    return nn.Sequential(*layers)


def accuracy(model, loader):
    model.eval()
    with torch.no_grad():
        right = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return right / len(loader.dataset)
