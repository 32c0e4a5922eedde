import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

body, one, two = nn.Linear(20, 32), nn.Linear(32, 4), nn.Linear(32, 1)
parts = nn.ModuleList([body, one, two])
optimizer = torch.optim.AdamW(parts.parameters(), lr=1e-2)
train, _ = loaders()
for epoch in range(5):
    for x, y in train:
        hidden = F.relu(body(x))
        loss = F.cross_entropy(one(hidden), y)
        loss = loss + 0.1 * F.mse_loss(two(hidden).squeeze(1), x.sum(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(loss.item())
