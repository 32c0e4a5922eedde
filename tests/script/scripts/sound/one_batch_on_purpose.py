import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, _ = loaders()
x, y = next(iter(train))
model = mlp(dropout=0.0)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for i in range(150):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
print(loss.item())
