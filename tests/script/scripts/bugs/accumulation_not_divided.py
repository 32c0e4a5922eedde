# bug: accumulation
# old: F.cross_entropy(model(x), y).backward()
# new: (F.cross_entropy(model(x), y) / 4).backward()
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders(16)
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(6):
    for i, (x, y) in enumerate(train):
        F.cross_entropy(model(x), y).backward()
        if i % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
