import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

# Cross-validation of one model, which begins anew in each fold with a new optimizer.
import copy

from torch.utils.data import DataLoader, Subset, TensorDataset

data = TensorDataset(X, Y)
folds = torch.randperm(len(data)).chunk(8)
model = mlp()
first = copy.deepcopy(model.state_dict())
for k in range(8):
    rest = torch.cat([f for i, f in enumerate(folds) if i != k])
    train = DataLoader(Subset(data, rest.tolist()), batch_size=64, shuffle=True)
    val = DataLoader(Subset(data, folds[k].tolist()), batch_size=64)
    model.load_state_dict(first)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(2):
        model.train()
        for x, y in train:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    print(k, accuracy(model, val))
