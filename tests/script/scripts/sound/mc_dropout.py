import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
model = mlp(dropout=0.3, norm=False)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(4):
    model.train()
    for x, y in train:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.train()  # dropout is meant
    with torch.no_grad():
        for x, y in val:
            p = torch.stack([model(x).softmax(1) for _ in range(8)]).mean(0)
    print((p.argmax(1) == y).float().mean().item())
