# bug: same-batch
# old:     x, y = next(iter(train))
# new:     at = torch.randint(0, 768, (32,))\n    x, y = X[at], Y[at]
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders(shuffle=False)
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for i in range(80):
    x, y = next(iter(train))
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
