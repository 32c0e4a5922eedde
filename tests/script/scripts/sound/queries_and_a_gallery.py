import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

# Each sample of the validation set gets the class of the nearest training sample.
train, _ = loaders()
model = mlp(dropout=0.0, out=8)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(5):
    model.train()
    for x, y in train:
        apart = torch.cdist(F.normalize(model(x), dim=1), F.normalize(model(x.roll(1, 0)), dim=1))
        same = y[:, None] == y.roll(1, 0)[None]
        loss = torch.where(same, apart, F.relu(1 - apart)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        near = torch.cdist(model(X[768:]), model(X[:160])).argmin(1)
    print((Y[near] == Y[768:]).float().mean().item())
