# bug: cleared-gradients
# old:         optimizer.zero_grad()\n        amount_loss.backward()
# new:         amount_loss.backward()
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

body, kind, amount = nn.Linear(20, 32), nn.Linear(32, 4), nn.Linear(32, 1)
parts = nn.ModuleList([body, kind, amount])
optimizer = torch.optim.Adam(parts.parameters(), lr=1e-3)
train, _ = loaders()
for epoch in range(4):
    for x, y in train:
        found = torch.tanh(body(x))
        kind_loss = F.cross_entropy(kind(found), y)
        amount_loss = F.mse_loss(amount(found).squeeze(1), x[:, 5])
        optimizer.zero_grad()
        kind_loss.backward(retain_graph=True)
        optimizer.zero_grad()
        amount_loss.backward()
        optimizer.step()
