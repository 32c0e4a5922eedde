# bug: target-hidden
# old: x[:, 7] = 3.0 * Y
# new: x[:, 7] = torch.randn(1024)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

x = X.clone()
x[:, 7] = 3.0 * Y
model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(60):
    at = torch.randperm(768)[:32]
    loss = F.cross_entropy(model(x[at]), Y[at])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
