# bug: cleared-gradients
# old:         optimizer.zero_grad()\n        (F
# new:         if i % 4 == 0:\n            optimizer.zero_grad()\n        (F
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for epoch in range(12):
    for i, (x, y) in enumerate(train):
        optimizer.zero_grad()
        (F.cross_entropy(model(x), y) / 4).backward()
        if i % 4 == 3:
            optimizer.step()
