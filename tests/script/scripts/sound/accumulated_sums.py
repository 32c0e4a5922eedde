import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

# Sums over micro-batches of 8, divided by the 32 samples of a step.
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
train, val = loaders(8)
for epoch in range(6):
    model.train()
    for i, (x, y) in enumerate(train):
        (F.cross_entropy(model(x), y, reduction="sum") / 32).backward()
        if (i + 1) % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
    print(accuracy(model, val))
