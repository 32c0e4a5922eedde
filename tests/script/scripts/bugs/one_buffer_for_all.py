# bug: alike-samples
# old: kept.append(buffer)
# new: kept.append(buffer.clone())
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

buffer, kept = torch.zeros(20), []
for row in X[:768]:
    buffer.copy_(row)
    kept.append(buffer)
x = torch.stack(kept)
model = mlp(norm=False)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(60):
    at = torch.randperm(768)[:32]
    loss = F.cross_entropy(model(x[at]), Y[at])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
