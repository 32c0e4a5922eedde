import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

import copy

train, val = loaders()
model = mlp(out=16)
key = copy.deepcopy(model).requires_grad_(False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.03)
for epoch in range(5):
    for x, _ in train:
        one = F.normalize(model(x + 0.1 * torch.randn_like(x)))
        with torch.no_grad():
            for slow, fast in zip(key.parameters(), model.parameters()):
                slow.lerp_(fast, 0.05)
            other = F.normalize(key(x + 0.1 * torch.randn_like(x)))
        loss = F.cross_entropy(one @ other.T / 0.1, torch.arange(len(x)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
