# bug: alike-views
# old: view, view
# new: view, X[at] + 0.2 * torch.randn(64, 20)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

model = mlp(dropout=0.0, out=16)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(60):
    at = torch.randperm(len(X))[:64]
    view = X[at] + 0.2 * torch.randn(64, 20)
    a, b = view, view
    first, second = F.normalize(model(a), dim=1), F.normalize(model(b), dim=1)
    loss = F.cross_entropy(first @ second.T / 0.3, torch.arange(64))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
