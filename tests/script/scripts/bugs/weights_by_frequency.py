# bug: class-weights
# old: counts / counts.sum()
# new: counts.sum() / counts
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

kept = torch.cat([torch.nonzero(Y[:768] == kind)[: 200 if kind else 20, 0] for kind in range(4)])
counts = torch.bincount(Y[kept]).float()
weight = counts / counts.sum()
model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(60):
    at = kept[torch.randperm(len(kept))[:32]]
    loss = F.cross_entropy(model(X[at]), Y[at], weight=weight)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
