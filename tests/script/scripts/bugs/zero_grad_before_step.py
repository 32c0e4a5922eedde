# bug: cleared-gradients
# old:         optimizer.zero_grad()\n        optimizer.step()
# new:         optimizer.step()\n        optimizer.zero_grad()
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for epoch in range(6):
    model.train()
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
    print(epoch, loss.item(), accuracy(model, val))
