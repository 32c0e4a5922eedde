# bug: loss-shapes
# old: (model(x) - x.sum(1))
# new: (model(x).squeeze(1) - x.sum(1))
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
model = mlp(out=1)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(5):
    for x, y in train:
        loss = (model(x) - x.sum(1)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
