# bug: loss-contract
# old: price = 50 +
# new: price = 0.5 + 0.01 *
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

price = 50 + 10 * X[:, :1]
model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(80):
    at = torch.randperm(768)[:32]
    loss = F.mse_loss(model(X[at]), price[at])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
